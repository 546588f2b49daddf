"""Splits: units were exchanged for others of the same instrument, and nothing was paid.

Belongs here: splits, with each way to treat fractions. Does not belong here: units of one instrument that become another (exchanges.py).

Signs: a simple ratio; the broker's total cost the same before and after; the market price moved by the inverse ratio; an announcement.
A ratio of which only whole units stayed is no sign by itself, because many small quantities fit one.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.ratios import Ratio, made, simple, whole_units
from position_pipeline.accounting.causes.scene import COST_SHARE, Verdict, about, alike, cost_before, cost_of, money
from position_pipeline.accounting.exact import ZERO, plain, ratio
from position_pipeline.accounting.model import AdjustmentKind, BreakClass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from position_pipeline.accounting.causes.scene import Difference, Scene
    from position_pipeline.accounting.circumstances import CorporateAction
    from position_pipeline.accounting.model import Adjustment

_PRICE_SHARE = Decimal("0.15")
"""A night may move a price by so much besides."""


def split(scene: Scene, it: Difference) -> Iterator[Verdict]:
    """The same instrument, another number of units, the same total cost."""
    known = next(iter(scene.actions(it.id, BreakClass.SPLIT)), None)
    at = it.start if known is None or known.effective_at <= it.since else known.effective_at
    before, now = it.book - it.after(at), it.broker - it.after(at)
    found = _announced(known, before, now) or simple(before, now) or whole_units(before, now, _price_rise(scene, it))
    if not before or not now or before == now or found is None:
        return
    signs = [*split_signs(scene, it, found, before, now), *_announcement(known, found)]
    against = tuple(_against(scene, it, found))
    if not signs or (against and len(signs) < 2):
        return
    amount = paid_for_fraction(scene, it, found)
    exact = found.booked_as(before, now, amount)
    entry = scene.adjustment(
        AdjustmentKind.SPLIT, it.instrument, it.began_at.isoformat(), at,
        held=now, numerator=exact.numerator, denominator=exact.denominator, amount=amount, evidence="; ".join(signs),
    )  # fmt: skip
    yield Verdict(
        BreakClass.SPLIT,
        (it.id,),
        f"A split of {found}: {plain(before)} became {plain(now)}",
        tuple(signs),
        against,
        (entry,),
        f"Book a split of {found} at its total cost{in_cash(found, amount)}",
        shown=True,
        asks=bool(found.fraction) and amount is None,
    )


def _announced(known: CorporateAction | None, before: Decimal, now: Decimal) -> Ratio | None:
    if known is None or known.numerator is None or known.denominator is None or not before or not now:
        return None
    return made(before, now, known.numerator, known.denominator)


def _announcement(known: CorporateAction | None, found: Ratio) -> Iterator[str]:
    if known is None or known.numerator is None or known.denominator is None:
        return
    if known.numerator * found.denominator == known.denominator * found.numerator:
        yield f"{known.source or 'the broker'} announced {found} for {known.effective_at:%Y-%m-%d}"


def _price_rise(scene: Scene, it: Difference) -> Decimal | None:
    """How many times the price of before a unit is worth now."""
    price, then = scene.price(it.id), it.before.market_price if it.before is not None else None
    return ratio(price, then) if price and then and it.holding.market_price else None


def split_signs(scene: Scene, it: Difference, found: Ratio, before: Decimal, now: Decimal) -> Iterator[str]:
    """Of an exchange of units within one instrument: a simple ratio, the total cost, the price."""
    if not found.fraction:
        yield f"{plain(now)} is {found} of {plain(before)}, to the last unit"
    then, cost = cost_before(it), cost_of(it.holding)
    lost = abs(ratio(found.fraction, now)) if found.fraction else ZERO
    if then and cost and (then > 0) == (cost > 0) and alike(then, cost, COST_SHARE + lost):
        yield f"the broker's total cost stayed: {money(then)} and {money(cost)}"
    rise = _price_rise(scene, it)
    if rise is not None and _moved_inversely(rise, found):
        assert it.before is not None
        assert it.before.market_price is not None
        yield f"the price went from {money(it.before.market_price)} to {money(scene.price(it.id) or ZERO)}, as {found} moves it"


def _moved_inversely(rise: Decimal, found: Ratio) -> bool:
    """Whether the price moved by the inverse ratio, and by more than a day moves a price: 9 for 10 of it may as well have been sold."""
    expected = ratio(found.denominator, found.numerator)
    return abs(expected - 1) > 2 * _PRICE_SHARE and alike(rise, expected, _PRICE_SHARE)


def _against(scene: Scene, it: Difference, found: Ratio) -> Iterator[str]:
    rise, cash, worth = _price_rise(scene, it), scene.cash(it), scene.worth(it)
    expected = ratio(found.denominator, found.numerator)
    if rise is not None and abs(expected - 1) > 2 * _PRICE_SHARE and alike(rise, Decimal(1), _PRICE_SHARE):
        yield f"the price of {money(scene.price(it.id) or ZERO)} has not moved as {found} moves it"
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
