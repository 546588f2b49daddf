"""Splits: units were exchanged for others of the same instrument, and nothing was paid.

Belongs here: splits, with each way to treat fractions. Does not belong here: units of one instrument that become another (exchanges.py).

Signs: a simple ratio; the broker's total cost the same before and after; the market price moved by the inverse ratio; an announcement.
A ratio of which only whole units stayed is no sign by itself, because many small quantities fit one. Where there are fills besides, it may
have been before or after each of them, and each place has a ratio of its own: their prices tell, or a person decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.figures import COST_SHARE, about, alike, cost_before, cost_of, money
from position_pipeline.accounting.causes.ratios import Ratio, made, simple, whole_units
from position_pipeline.accounting.causes.scene import TICK, Verdict
from position_pipeline.accounting.exact import ZERO, plain, ratio
from position_pipeline.accounting.model import AdjustmentKind, BreakClass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from position_pipeline.accounting.causes.scene import Difference, Scene
    from position_pipeline.accounting.circumstances import CorporateAction
    from position_pipeline.accounting.model import Adjustment

_PRICE_SHARE = Decimal("0.15")
"""A night may move a price by so much besides."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A split of `found` that happened at a moment among the known fills, and made `now` units of `before`."""

    at: datetime
    before: Decimal
    now: Decimal
    found: Ratio


def split(scene: Scene, it: Difference) -> Iterator[Verdict]:
    """The same instrument, another number of units, the same total cost."""
    known = next((each for each in scene.actions(it.id, BreakClass.SPLIT, it.since) if each.into is None), None)
    places = list(_places(scene, it, known))
    if not places:
        return
    first, *others = places
    at, found = first.at, first.found
    signs = [*split_signs(it, first), *_announcement(known, found)]
    against = (*_against(scene, it, first), *_elsewhere(others))
    if not signs or (against and len(signs) < 2):
        return
    amount = paid_for_fraction(scene, it, found)
    exact = found.booked_as(first.before, first.now, amount)
    entry = scene.adjustment(
        AdjustmentKind.SPLIT, it.instrument, it.began_at.isoformat(), at,
        held=first.now, numerator=exact.numerator, denominator=exact.denominator, amount=amount, evidence="; ".join(signs),
    )  # fmt: skip
    yield Verdict(
        BreakClass.SPLIT,
        (it.id,),
        f"A split of {found}: {plain(first.before)} became {plain(first.now)}",
        tuple(signs),
        against,
        (entry,),
        f"Book a split of {found} at its total cost{in_cash(found, amount)}",
        shown=True,
        asks=bool(found.fraction) and amount is None,
    )


def _places(scene: Scene, it: Difference, known: CorporateAction | None) -> Iterator[_Place]:
    """Where among the fills since the sides agreed it may have happened: units bought before it were split, those bought after it not."""
    fills = sorted({fill.time for fill in it.fills if it.since < fill.time < scene.snapshot.taken_at})
    moments = [it.start, *(time + TICK for time in fills)]
    if known is not None:
        moments = [known.effective_at if known.effective_at > it.since else it.start]
    for at in moments:
        before, now = it.book - it.after(at), it.broker - it.after(at)
        if before and now and before != now:
            found = _announced(known, before, now) or simple(before, now) or whole_units(before, now, price_rise(it, at))
            if found is not None and (known is not None or _fits_the_fills(it, at, found)):
                yield _Place(at, before, now, found)


def _fits_the_fills(it: Difference, at: datetime, found: Ratio) -> bool:
    """Whether no fill before it has a price of after it, nor the other way round; true where the prices do not tell."""
    then, expected = it.before.market_price if it.before is not None else None, ratio(found.denominator, found.numerator)
    if not then or not is_clear(expected):
        return True
    since = [fill for fill in it.fills if fill.time > it.since]
    return not any(alike(fill.price, then if fill.time > at else then * expected, _PRICE_SHARE) for fill in since)


def _elsewhere(others: Iterable[_Place]) -> Iterator[str]:
    for each in others:
        yield f"{plain(each.now)} is {each.found} of {plain(each.before)} too, if it was after the fill of {each.at:%Y-%m-%d %H:%M:%S} UTC"


def _announced(known: CorporateAction | None, before: Decimal, now: Decimal) -> Ratio | None:
    if known is None or known.numerator is None or known.denominator is None or not before or not now:
        return None
    return made(before, now, known.numerator, known.denominator)


def _announcement(known: CorporateAction | None, found: Ratio) -> Iterator[str]:
    if known is None or known.numerator is None or known.denominator is None:
        return
    if known.numerator * found.denominator == known.denominator * found.numerator:
        yield f"{known.source} has {found} for {known.effective_at:%Y-%m-%d}"


def price_rise(it: Difference, at: datetime) -> Decimal | None:
    """How many times the price of before a unit is worth now, or was in the last fill after a moment where none is held any more."""
    then, now = it.before.market_price if it.before is not None else None, _price_now(it, at)
    return ratio(now, then) if now and then else None


def _price_now(it: Difference, at: datetime) -> Decimal | None:
    return it.holding.market_price or next((fill.price for fill in reversed(it.fills) if fill.time > at), None)


def split_signs(it: Difference, place: _Place) -> Iterator[str]:
    """Of an exchange of units within one instrument: a simple ratio, the total cost, the price."""
    found, now = place.found, place.now
    if not found.fraction:
        yield f"{plain(now)} is {found} of {plain(place.before)}, to the last unit"
    then, cost = cost_before(it), cost_of(it.holding)
    lost = abs(ratio(found.fraction, now)) if found.fraction else ZERO
    if then and cost and (then > 0) == (cost > 0) and alike(then, cost, COST_SHARE + lost):
        yield f"the broker's total cost stayed: {money(then)} and {money(cost)}"
    rise = price_rise(it, place.at)
    if rise is not None and moved_inversely(rise, found):
        assert it.before is not None
        assert it.before.market_price is not None
        yield f"the price went from {money(it.before.market_price)} to {money(_price_now(it, place.at) or ZERO)}, as {found} moves it"


def moved_inversely(rise: Decimal, found: Ratio) -> bool:
    """Whether the price moved by the inverse ratio, and by more than a day moves a price: 9 for 10 of it may as well have been sold."""
    expected = ratio(found.denominator, found.numerator)
    return is_clear(expected) and alike(rise, expected, _PRICE_SHARE)


def is_clear(expected: Decimal) -> bool:
    """Whether a price that is so many times another moved by more than a day moves it."""
    return abs(expected - 1) > 2 * _PRICE_SHARE


def _against(scene: Scene, it: Difference, place: _Place) -> Iterator[str]:
    rise, cash, worth = price_rise(it, place.at), scene.cash(it), scene.worth(it)
    expected = ratio(place.found.denominator, place.found.numerator)
    if rise is not None and is_clear(expected) and alike(rise, Decimal(1), _PRICE_SHARE):
        yield f"the price of {money(_price_now(it, place.at) or ZERO)} has not moved as {place.found} moves it"
    price = scene.price(it.id)
    bought = None if price is None else -it.change * price * it.instrument.multiplier
    if cash is not None and worth is not None and abs(cash) > 50 and bought is not None and about(cash, bought, Decimal("0.1")):
        yield f"cash moved by {money(cash)}, as a trade of {plain(it.change)} at the market price of {money(price or ZERO)} moves it"


def paid_for_fraction(scene: Scene, it: Difference, found: Ratio) -> Decimal | None:
    """The cash in lieu of a fraction, if cash moved by about what it is worth."""
    price, cash = scene.price(it.id), scene.cash(it)
    if not found.fraction or price is None or not cash:
        return None
    worth = found.fraction * price * it.instrument.multiplier
    return cash if (cash > 0) == (worth > 0) and alike(cash, worth, Decimal("0.25")) else None


def in_cash(found: Ratio, amount: Decimal | None) -> str:
    """What becomes of the fraction, in words."""
    if not found.fraction:
        return ""
    paid = "for cash that is not known yet" if amount is None else f"for cash of {money(amount)}"
    return f"; whole units stay, and {plain(found.fraction)} is paid out {paid}"


def fraction_paid(scene: Scene, it: Difference) -> Iterator[Verdict]:
    """After a split the fraction of a unit goes for cash: whole units are left."""
    fraction = it.book - int(it.book)
    if not fraction or it.change != -fraction or it.instrument.sec_type == "CRYPTO" or it.after(it.since):
        return
    cash, price = scene.cash(it), scene.price(it.id)
    signs = [f"of {plain(it.book)} just the fraction of {plain(fraction)} went, and whole units stayed"]
    worth = None if price is None else fraction * price * it.instrument.multiplier
    paid = cash is not None and worth is not None and (cash > 0) == (worth > 0) and alike(cash, worth, Decimal("0.25"))
    entry: tuple[Adjustment, ...] = ()
    if paid and cash is not None and price is not None:
        signs.append(f"cash rose by {money(cash)}, about what the fraction is worth at the market price of {money(price)}")
        entry = (_cash_in_lieu(scene, it, it.start, ratio(cash, fraction * it.instrument.multiplier), signs),)
    says = f"Cash in lieu of a fraction of {plain(fraction)}"
    yield Verdict(BreakClass.SPLIT, (it.id,), says, tuple(signs), (), entry, "Close the fraction for the cash that came for it", shown=True)


def _cash_in_lieu(scene: Scene, it: Difference, at: datetime, price: Decimal, signs: list[str]) -> Adjustment:
    return scene.adjustment(
        AdjustmentKind.CASH_SETTLEMENT, it.instrument, it.began_at.isoformat(), at,
        quantity=it.change, held=it.broker - it.after(at), price=price, evidence="; ".join(signs),
    )  # fmt: skip
