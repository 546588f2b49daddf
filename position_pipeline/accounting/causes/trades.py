"""Differences that come of trades: a fill that is missing, in the book twice, corrected, or paid for in units.

Belongs here: one function a cause. Does not belong here: waiting for a fill that is only late (verdicts.py).
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.arrivals import STATEMENT_SOURCES
from position_pipeline.accounting.causes.figures import CASH_LEAST, CASH_SHARE, about, alike, cash_of_fill, implied_price, money, signed
from position_pipeline.accounting.causes.scene import FUTURES, OPTIONS, TICK, Verdict
from position_pipeline.accounting.exact import ZERO, plain, ratio
from position_pipeline.accounting.model import AdjustmentKind, BreakClass, Fill, Side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from position_pipeline.accounting.causes.scene import Difference, Scene

IMPORT = "Import a statement that covers the time since the last agreement: position-pipeline import FILE"
TWINS = timedelta(seconds=2)
"""Two sources round the time of one fill differently, by no more than this."""

_NEAR, _NEAR_OF_OPTIONS = Decimal("0.1"), Decimal("0.5")
_FEES = tuple(map(Decimal, ("0.01", "0.006", "0.005", "0.004", "0.0026", "0.0025", "0.0022", "0.002", "0.0018", "0.0016", "0.0015")))
_LOW_FEES = tuple(map(Decimal, ("0.0013", "0.0012", "0.001", "0.0008", "0.00075", "0.0005", "0.0004", "0.0002", "0.0001")))
_ROUNDED = Decimal("0.01")


def missing_fill(scene: Scene, it: Difference) -> Iterator[Verdict]:
    """Units came or went as a trade moves them: at a price of the market, and for cash."""
    signs = [*_price_of_a_trade(scene, it), *_cash_of_a_trade(scene, it)]
    if not signs or scene.stood_still(it):
        return
    side = "purchase" if it.change > 0 else "sale"
    says = f"A {side} of {plain(abs(it.change))} that no fill tells"
    yield Verdict(BreakClass.MISSING_FILL, (it.id,), says, tuple(signs), proposal=IMPORT, late=True)


def _price_of_a_trade(scene: Scene, it: Difference) -> Iterator[str]:
    price, market = implied_price(it), scene.price(it.id)
    near = _NEAR_OF_OPTIONS if it.instrument.sec_type in OPTIONS else _NEAR
    if price is not None and market is not None and alike(price, market, near):
        yield f"by the broker's averages the {signed(it.change)} came at {money(price)} a unit, and the market is at {money(market)}"


def _cash_of_a_trade(scene: Scene, it: Difference) -> Iterator[str]:
    """Where several instruments differ, the cash may be that of all of them together."""
    cash, own = scene.cash(it), scene.worth(it)
    if cash is None or own is None or it.instrument.sec_type in FUTURES or abs(own) <= CASH_LEAST:
        return
    share = CASH_SHARE if implied_price(it) is not None else _NEAR
    together = scene.together[it.instrument.currency]
    if about(cash, own, share):
        yield f"cash in {it.instrument.currency} moved by {money(cash)} beyond the known fills, and such a trade moves it by {money(own)}"
    elif about(cash, together, share):
        yield f"cash in {it.instrument.currency} moved by {money(cash)} beyond the known fills, as all unknown trades do: {money(together)}"


def duplicate_fill(scene: Scene, it: Difference) -> Iterator[Verdict]:
    """The book is beyond the broker by one fill that has a twin: the same figures under another id."""
    twins = [fill for fill in it.fills if fill.signed_quantity == -it.change]
    for number, one in enumerate(twins):
        for other in twins[number + 1 :]:
            if _are_twins(one, other):
                yield _duplicate(scene, it, *sorted((one, other), key=_stays_first))
                return


def _are_twins(one: Fill, other: Fill) -> bool:
    same_order = not one.order_id or not other.order_id or one.order_id == other.order_id
    return one.price == other.price and abs(one.time - other.time) <= TWINS and same_order


def _stays_first(fill: Fill) -> tuple[bool, object, str]:
    return (fill.source not in STATEMENT_SOURCES, fill.time, fill.execution_id)


def _duplicate(scene: Scene, it: Difference, stays: Fill, goes: Fill) -> Verdict:
    words = f"{goes.side.value} {plain(goes.quantity)} @ {plain(goes.price)}"
    signs = [f"fills {stays.execution_id} and {goes.execution_id} are both {words} within 2 s, and without one of them the sides agree"]
    if stays.source != goes.source:
        signs.append(f"one was told by {stays.source}, the other by {goes.source}")
    cash = scene.cash(it) if min(stays.time, goes.time) > it.since else None
    if cash is not None and about(cash, -cash_of_fill(goes)):
        signs.append(f"cash moved as one of them moves it: {money(cash)} less than both")
    still = cash is not None and len(signs) > 1 and about(cash, ZERO)
    void = scene.adjustment(
        AdjustmentKind.VOID, it.instrument, goes.execution_id, goes.time, takes_from=goes.execution_id, evidence=signs[0]
    )
    return Verdict(
        BreakClass.DUPLICATE_FILL,
        (it.id,),
        f"Fill {goes.execution_id} is in the book twice, under another id",
        tuple(signs),
        ("cash moved as both of them move it",) if still else (),
        (void,),
        f"Take out {goes.execution_id}: it is {stays.execution_id} under another id",
    )


def correction(scene: Scene, it: Difference) -> Iterator[Verdict]:
    """The broker corrected a fill, and its holdings do not show it as its executions do."""
    for earlier, latest in scene.recent.corrected:
        if earlier.instrument != it.id:
            continue
        moved = latest.signed_quantity - earlier.signed_quantity
        words = f"fill {latest.execution_id} was corrected from {signed(earlier.signed_quantity)} to {signed(latest.signed_quantity)}"
        if moved and it.change == -moved:
            yield Verdict(
                BreakClass.CORRECTION, (it.id,), "The holdings are from before a correction", (f"{words}, and they differ by just that",),
                proposal="Wait until the broker's holdings show the correction, or ask the broker which of both is right",
            )  # fmt: skip
        elif it.change == earlier.signed_quantity and latest.quantity:
            yield Verdict(
                BreakClass.CORRECTION, (it.id,), "The broker holds a fill and its correction", (f"{words}, and the broker holds both",),
                proposal="Ask the broker whether these are two fills; a statement settles it: position-pipeline import FILE",
            )  # fmt: skip


def fee_in_kind(scene: Scene, it: Difference) -> Iterator[Verdict]:
    """Coins that the broker kept of what was bought."""
    bought = [fill for fill in it.fills if fill.side is Side.BUY and fill.time > it.since]
    total = sum((fill.quantity for fill in bought), ZERO)
    if it.instrument.sec_type != "CRYPTO" or not total or it.change >= 0 or it.broker <= 0:
        return
    for several in ([bought[-1]], bought):
        quantity = sum((fill.quantity for fill in several), ZERO)
        rate = ratio(-it.change, quantity)
        usual = next((fee for fee in (*_FEES, *_LOW_FEES) if alike(fee, rate, _ROUNDED)), None)
        if usual is None:
            continue
        signs = [f"{plain(-it.change)} is {plain(usual * 100)} % of the {plain(quantity)} just bought, a usual fee"]
        signs += [f"no commission was told for {fill.execution_id}" for fill in several[-1:] if not fill.commission]
        if scene.stood_still(it):
            signs.append("cash paid for the purchase and nothing else")
        last = several[-1]
        fee = scene.adjustment(
            AdjustmentKind.FEE_IN_KIND, it.instrument, last.execution_id, last.time + TICK,
            quantity=it.change, held=it.broker - it.after(last.time), evidence=signs[0],
        )  # fmt: skip
        words = f"A fee of {plain(-it.change)} taken from what was bought"
        yield Verdict(BreakClass.FEE_IN_KIND, (it.id,), words, tuple(signs), (), (fee,), f"{words}: the total cost stays", shown=True)
        return
