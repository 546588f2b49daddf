"""Units that came or went without a trade: another account has them, or nothing was paid for them.

Belongs here: transfers, and sales of units that had been transferred in. Does not belong here: exchanges of one instrument for another.

What comes in has the broker's cost where the broker's averages tell one, else an unknown cost. A sale of units that the book does not
know never becomes a short where the broker shows none.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.expiries import closing_of
from position_pipeline.accounting.causes.scene import CASH_LEAST, TICK, Verdict, alike, implied_price, money, signed
from position_pipeline.accounting.exact import plain
from position_pipeline.accounting.model import AdjustmentKind, BreakClass, Side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from position_pipeline.accounting.causes.scene import Difference, Scene

_NEAR = Decimal("0.2")


def transfer(scene: Scene, it: Difference) -> Iterator[Verdict]:
    """Another account has the opposite difference, cash stood still, the cost is none of today's, or more was sold than the book has."""
    ending = closing_of(it.instrument)
    if ending is not None and ending <= scene.snapshot.taken_at:
        return  # it has ended, in every account
    sold = _sold_unknown_units(it)
    others = [
        f"account {account} differs by {signed(change)}"
        for account, change in scene.recent.elsewhere.get(it.id, ())
        if change == -it.change
    ]
    signs = others[:1]
    if sold:
        signs.append(f"a sale made the book short by {plain(-it.book)}, and the broker shows no short")
    if scene.stood_still(it) or (sold and _cash_is_known(scene, it)):
        signs.append(f"cash in {it.instrument.currency} moved by nothing but the known fills, so the {signed(it.change)} were not traded")
    signs += _came_at_another_cost(scene, it)
    if not signs or (len(signs) == 1 and signs == _came_at_another_cost(scene, it)):
        return
    at = min(fill.time for fill in it.fills if fill.side is Side.SELL and fill.time > it.since) - TICK if sold else it.start
    held = it.book_at(at)
    coming = not held or (held > 0) == (it.change > 0)
    price = implied_price(it) if coming and not sold else None
    if (coming and it.change < 0 and price is None) or (not coming and abs(it.change) > abs(held)):
        return
    entry = scene.adjustment(
        AdjustmentKind.TRANSFER, it.instrument, it.began_at.isoformat(), at,
        quantity=it.change, held=it.broker - it.after(at), price=price, evidence="; ".join(signs),
    )  # fmt: skip
    way = "into" if it.change > 0 else "out of"
    yield Verdict(
        BreakClass.TRANSFER,
        (it.id,),
        f"{plain(abs(it.change))} were transferred {way} the account",
        tuple(signs),
        (
            *([f"{len(others)} other accounts differ by as much"] if len(others) > 1 else []),
            *(_may_be_another(scene, it, sold=sold) if sold or (coming and not others) else ()),
        ),
        (entry,),
        f"Book a transfer of {signed(it.change)}{'' if it.change < 0 else ' at the cost that the broker tells, or an unknown one'}",
        shown=bool(others),
        asks=coming and it.change < 0 and not others,  # a short that comes was most likely delivered
    )


def _may_be_another(scene: Scene, it: Difference, *, sold: bool) -> Iterator[str]:
    """Another instrument of its kind is gone, or is short, and nothing tells why: one of them may have got a new name."""
    came = [each.id for each, units in scene.fresh if units < 0] if sold else []
    came += [each.instrument for each in scene.recent.standing if sold and each.instrument and each.adopted and each.booked < 0]
    gone = [each.id for each in scene.differences.values() if each.gone and not each.after(each.since)]
    for other, words in [*((each, "is short") for each in came), *((each, "is gone") for each in gone)]:
        one = scene.instruments[other]
        if other != it.id and (one.sec_type, one.currency) == (it.instrument.sec_type, it.instrument.currency):
            yield f"{one.symbol} {words}, and nothing tells why"


def _sold_unknown_units(it: Difference) -> bool:
    """Whether the book is short only because more was sold since the last agreement than it had."""
    sells = any(fill.side is Side.SELL and fill.time > it.since for fill in it.fills)
    return sells and it.book < 0 <= it.broker and it.book - it.after(it.since) >= 0


def _cash_is_known(scene: Scene, it: Difference) -> bool:
    """For a sale of unknown units the fill itself is the witness of the price: cash that came is the fill's, and no more."""
    cash = scene.cash(it)
    return cash is not None and abs(cash) <= CASH_LEAST


def _came_at_another_cost(scene: Scene, it: Difference) -> list[str]:
    price, market = implied_price(it), scene.price(it.id)
    if price is None or market is None or alike(price, market, _NEAR):
        return []
    return [f"by the broker's averages they cost {money(price)} a unit, and the market is at {money(market)}"]
