"""One instrument became another: a new symbol or conId, a reverse split with a new one, a merger, a spin-off.

Belongs here: causes that pair what went with what came. Does not belong here: splits that keep their instrument (splits.py), options.

Signs: the units that came are those that went, or a simple ratio of them; the broker's cost moved along; the symbols are alike; the
price moved by no more than the ratio; cash stood still; an announcement. Who sells one share class and buys as many of the other leaves
most of these too: only a cost that was carried over, or an announcement, makes a new name certain.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.figures import CASH_LEAST, COST_SHARE, alike, cost_before, cost_of, money
from position_pipeline.accounting.causes.ratios import Ratio, made, simple, whole_units
from position_pipeline.accounting.causes.scene import Difference, Verdict
from position_pipeline.accounting.causes.splits import in_cash, paid_for_fraction
from position_pipeline.accounting.exact import ZERO, plain, ratio
from position_pipeline.accounting.model import AdjustmentKind, BreakClass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from position_pipeline.accounting.causes.scene import Scene
    from position_pipeline.accounting.circumstances import CorporateAction
    from position_pipeline.accounting.model import Adjustment, Instrument

ONE = Decimal(1)
_LITTLE, _ROUGHLY = Decimal("0.02"), Decimal("0.1")
_CANDIDATES = 5
_CARRIED = Decimal("0.0005")
"""A broker carries a cost over as it is; so little is left for the rounding of its averages."""


def renamed(scene: Scene, gone: Difference) -> Iterator[Verdict]:
    """A new symbol or conId with as many units, or with a simple ratio of them (a reverse split brings a new one)."""
    if not gone.gone or gone.after(gone.since):
        return
    found = [verdict for came, units in _successors(scene, gone) if (verdict := _rename(scene, gone, came, units)) is not None]
    best = max((len(verdict.signs) for verdict in found), default=0)
    leaders = [verdict for verdict in found if len(verdict.signs) == best]
    for verdict in leaders[:1]:
        others = tuple(f"it may as well have become {scene.instruments[each.instruments[1]].symbol}" for each in leaders[1:])
        yield Verdict(
            verdict.cls, verdict.instruments, verdict.says, verdict.signs, (*verdict.against, *others), verdict.proposed, verdict.proposal,
            shown=True, asks=verdict.asks,
        )  # fmt: skip


def _successors(scene: Scene, gone: Difference) -> list[tuple[Difference, Decimal]]:
    """What may have come for it: something of the same kind with more in common than a quantity, or else the only one of that quantity."""
    then = scene.costs_before[gone.id]
    same_kind = [(came, now) for came, now in scene.fresh if (now > 0) == (gone.book > 0) and _same_kind(gone.instrument, came.instrument)]
    near = [(came, now) for came, now in same_kind if _is_near(scene, gone, came, then)]
    alone = [(came, now) for came, now in same_kind if now == gone.book]
    near.sort(key=lambda each: (each[1] != gone.book, abs((cost_of(each[0].holding) or ZERO) - (then or ZERO)), each[0].id))
    return near[:_CANDIDATES] or (alone if len(alone) == 1 else [])


def _is_near(scene: Scene, gone: Difference, came: Difference, then: Decimal | None) -> bool:
    now = cost_of(came.holding)
    carried = bool(then and now and alike(then, now, _ROUGHLY))
    return carried or any(_labels(gone, came)) or any(each.into == came.id for each in scene.recent.actions)


def _rename(scene: Scene, gone: Difference, came: Difference, now: Decimal) -> Verdict | None:
    same = now == gone.book
    cls = BreakClass.SYMBOL_CHANGE if same else BreakClass.SPLIT
    known = _known(scene, gone, came, cls)
    found = Ratio(ONE, ONE) if same else _announced(known, gone.book, now) or simple(gone.book, now) or _whole(scene, gone, came, now)
    if found is None:
        return None
    proven = [*_carried(gone, came, found), *_announcement(known)]
    signs = [*_units(gone, now, found), *proven, *_labels(gone, came), *_prices(scene, gone, came, found)]
    amount, evidence = paid_for_fraction(scene, came, found), "; ".join(signs)
    exact = found.booked_as(gone.book, now, amount)
    against = tuple(_paid(scene, gone, amount))
    asks = not proven or (bool(found.fraction) and amount is None)
    what = f"{gone.instrument.symbol} is {came.instrument.symbol} now" + ("" if same else f", {found}")
    return Verdict(
        cls, (gone.id, came.id), what, tuple(signs), against,
        _conversion(scene, gone, came, exact, evidence=evidence, amount=amount),
        f"Move its lots to {came.instrument.symbol} at their cost and age{in_cash(found, amount)}", shown=True, asks=asks,
    )  # fmt: skip


def _same_kind(one: Instrument, other: Instrument) -> bool:
    return (one.sec_type, one.currency, one.multiplier, one.right, one.expiry) == (
        other.sec_type, other.currency, other.multiplier, other.right, other.expiry,
    )  # fmt: skip


def _whole(scene: Scene, gone: Difference, came: Difference, now: Decimal) -> Ratio | None:
    price, then = scene.price(came.id), scene.price(gone.id)
    return whole_units(gone.book, now, ratio(price, then) if price and then else None)


def _known(scene: Scene, gone: Difference, came: Difference, cls: BreakClass) -> CorporateAction | None:
    return next((each for each in scene.actions(gone.id, cls, gone.since) if each.into in (came.id, None)), None)


def _announced(known: CorporateAction | None, before: Decimal, now: Decimal) -> Ratio | None:
    if known is None or known.numerator is None or known.denominator is None:
        return None
    return made(before, now, known.numerator, known.denominator)


def _announcement(known: CorporateAction | None) -> Iterator[str]:
    if known is not None:
        yield f"{known.source} has it for {known.effective_at:%Y-%m-%d}"


def _units(gone: Difference, now: Decimal, found: Ratio) -> Iterator[str]:
    if not found.fraction:
        ratio_of = "" if found.numerator == found.denominator else f", {found}"
        yield f"{plain(gone.book)} {gone.instrument.symbol} went and {plain(now)} came{ratio_of}, with no fill on either side"


def _carried(gone: Difference, came: Difference, found: Ratio) -> Iterator[str]:
    then, now = cost_before(gone), cost_of(came.holding)
    lost = abs(ratio(found.fraction, came.broker)) if found.fraction and came.broker else ZERO
    if then and now and not came.after(came.since) and alike(then, now, _CARRIED + lost):
        yield f"the broker carried the cost over: {money(then)} and {money(now)}"


def _labels(gone: Difference, came: Difference) -> Iterator[str]:
    one, other = (each.instrument.symbol.partition(" ")[0].partition(".")[0] for each in (gone, came))
    described = gone.instrument.description and gone.instrument.description == came.instrument.description
    if described or (min(len(one), len(other)) > 1 and (one.startswith(other) or other.startswith(one))):
        yield (
            f"the symbols {gone.instrument.symbol} and {came.instrument.symbol} are alike" if not described else "both have one description"
        )


def _prices(scene: Scene, gone: Difference, came: Difference, found: Ratio) -> Iterator[str]:
    then, now = scene.price(gone.id), came.holding.market_price
    if then and now and alike(then * found.denominator, now * found.numerator, Decimal("0.1")):
        yield f"the price of {money(then)} became {money(now)}"


def _paid(scene: Scene, gone: Difference, amount: Decimal | None) -> Iterator[str]:
    """Cash speaks against an exchange, unless it is that for a fraction, or too little to be a trade."""
    cash, price = scene.cash(gone), scene.price(gone.id)
    worth = ZERO if price is None else gone.book * price * gone.instrument.multiplier
    if cash is not None and abs(cash - (amount or ZERO)) > max(CASH_LEAST, _LITTLE * abs(worth)):
        yield f"cash moved by {money(cash)} beyond the known fills, and an exchange moves none"


def _conversion(
    scene: Scene,
    gone: Difference,
    came: Difference,
    found: Ratio,
    *,
    evidence: str,
    amount: Decimal | None = None,
    cash: Decimal | None = None,
) -> tuple[Adjustment, Adjustment]:
    """What goes, and what takes its lots up; `cash` came besides for what went, `amount` for a fraction of what came."""
    key, at = gone.began_at.isoformat(), gone.start
    out = scene.adjustment(
        AdjustmentKind.CONVERSION_OUT, gone.instrument, key, at,
        quantity=-gone.book, held=ZERO, numerator=found.numerator, denominator=found.denominator, amount=cash, evidence=evidence,
    )  # fmt: skip
    held = came.broker - came.after(at)
    into = scene.adjustment(
        AdjustmentKind.CONVERSION_IN, came.instrument, key, at,
        held=held, takes_from=out.id, numerator=found.numerator, denominator=found.denominator, amount=amount, evidence=evidence,
    )  # fmt: skip
    return out, into


def merger(scene: Scene, gone: Difference) -> Iterator[Verdict]:
    """What is gone was taken over: for units of another, for cash, or for both."""
    if not gone.gone or gone.after(gone.since):
        return
    known = next(iter(scene.actions(gone.id, BreakClass.MERGER, gone.since)), None)
    moved = scene.costs_before[gone.id]
    for came in scene.differences.values():
        gained = scene.gained.get(came.id)
        if (known is None or known.into != came.id) and (not moved or gained is None or not alike(gained, moved, _ROUGHLY)):
            continue
        if came.id != gone.id and came.instrument.sec_type == gone.instrument.sec_type and (came.change > 0) == (gone.book > 0):
            yield from _taken_over(scene, gone, came, known if known is not None and known.into == came.id else None)
    if known is not None and known.into is None:
        yield from _bought_out(scene, gone, known)


def _taken_over(scene: Scene, gone: Difference, came: Difference, known: CorporateAction | None) -> Iterator[Verdict]:
    if came.book and (came.book > 0) != (came.change > 0):
        return
    announced = _announced(known, gone.book, came.change)
    signs = list(_announcement(known))
    if announced is not None:
        signs.append(f"{plain(came.change)} is {announced} of {plain(gone.book)}")
    then, now, moved = scene.costs_before[came.id], cost_of(came.holding), scene.costs_before[gone.id]
    if then is not None and now and moved and alike(then + moved, now, _CARRIED):
        signs.append(f"the broker carried the cost over: {money(moved)} beside {money(then)} is {money(now)}")
    if not signs:
        return
    cash = scene.cash(gone)
    still = scene.stood_still(gone)
    if still:
        signs.append(f"cash in {gone.instrument.currency} stood still, so nothing was sold or bought")
    besides = cash if announced is not None and cash and not still and (cash > 0) == (gone.book > 0) else None
    against = [] if announced is not None else list(_paid(scene, gone, None))
    paid = "" if besides is None else f" and cash of {money(besides)}"
    exact = Ratio(abs(came.change), abs(gone.book))
    yield Verdict(
        BreakClass.MERGER, (gone.id, came.id),
        f"{gone.instrument.symbol} was taken over: {plain(gone.book)} became {plain(came.change)} {came.instrument.symbol}{paid}",
        tuple(signs), tuple(against), _conversion(scene, gone, came, exact, evidence="; ".join(signs), cash=besides),
        f"Move its lots to {came.instrument.symbol} at their cost and age{paid and ', less the cash'}", shown=True,
    )  # fmt: skip


def _bought_out(scene: Scene, gone: Difference, known: CorporateAction) -> Iterator[Verdict]:
    cash = scene.cash(gone)
    signs = list(_announcement(known))
    entries: tuple[Adjustment, ...] = ()
    if cash and (cash > 0) == (gone.book > 0):
        price = ratio(cash, gone.book * gone.instrument.multiplier)
        signs.append(f"cash moved by {money(cash)}, {money(price)} for each of {plain(gone.book)}")
        entries = (
            scene.adjustment(
                AdjustmentKind.CASH_SETTLEMENT, gone.instrument, gone.began_at.isoformat(), gone.start,
                quantity=-gone.book, held=ZERO, price=price, evidence="; ".join(signs),
            ),
        )  # fmt: skip
    says = f"{gone.instrument.symbol} was taken over for cash"
    yield Verdict(BreakClass.MERGER, (gone.id,), says, tuple(signs), (), entries, "Close it for the cash that came")


def spin_off(scene: Scene, came: Difference) -> Iterator[Verdict]:
    """New units came of a company that is still held, and took a part of its cost along."""
    units = came.broker - came.after(came.since)
    if came.book - came.after(came.since) or not units or came.instrument.sec_type != "STK":
        return
    for parent, side in sorted(scene.book.items()):
        instrument = scene.instruments.get(parent)
        if instrument is None or parent in scene.differences or not side.quantity or (side.quantity > 0) != (units > 0):
            continue
        if (instrument.sec_type, instrument.currency) == (came.instrument.sec_type, came.instrument.currency):
            yield from _spun_off(scene, came, instrument, units)


def _spun_off(scene: Scene, came: Difference, parent: Instrument, units: Decimal) -> Iterator[Verdict]:
    side, holding = scene.book[parent.id], scene.held.get(parent.id)
    known = next((each for each in scene.actions(parent.id, BreakClass.SPIN_OFF, came.since) if each.into == came.id), None)
    found = _announced(known, side.quantity, units) or simple(side.quantity, units) or (Ratio(ONE, ONE) if units == side.quantity else None)
    then, now, child = cost_of(side.before), cost_of(holding), cost_of(came.holding)
    share = None
    signs = list(_announcement(known))
    untraded = side.before is not None and side.before.quantity == side.quantity
    if untraded and then and now and child and alike(now + child, then, _CARRIED) and COST_SHARE * abs(then) < abs(child) < abs(then):
        share = ratio(child, then, 10)
        signs.append(f"the broker split the cost of {money(then)} into {money(now)} and {money(child)}")
    alike_labels = came.instrument.symbol.startswith(parent.symbol)
    if not signs and not (alike_labels and found is not None):
        return
    if found is not None:
        signs.append(f"{plain(units)} {came.instrument.symbol} came for {plain(side.quantity)} {parent.symbol}, {found}")
    yield Verdict(
        BreakClass.SPIN_OFF, (came.id,), f"{came.instrument.symbol} was spun off from {parent.symbol}", tuple(signs), (),
        () if share is None else _parted(scene, came, parent, (share, Ratio(abs(units), abs(side.quantity))), signs),
        f"Move the part of the cost of {parent.symbol} that belongs to {came.instrument.symbol} to it", shown=True,
    )  # fmt: skip


def _parted(
    scene: Scene, came: Difference, parent: Instrument, how: tuple[Decimal, Ratio], signs: list[str]
) -> tuple[Adjustment, Adjustment]:
    share, found = how
    key, evidence = came.began_at.isoformat(), "; ".join(signs)
    out = scene.adjustment(
        AdjustmentKind.SPIN_OFF, parent, f"{came.id}:{key}", came.start, held=scene.book[parent.id].quantity, share=share, evidence=evidence
    )
    into = scene.adjustment(
        AdjustmentKind.CONVERSION_IN, came.instrument, key, came.start, held=came.broker - came.after(came.start),
        takes_from=out.id, numerator=found.numerator, denominator=found.denominator, evidence=evidence,
    )  # fmt: skip
    return out, into
