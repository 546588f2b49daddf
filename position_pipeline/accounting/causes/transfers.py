"""Units that came or went without a trade: another account has them, or nothing was paid for them.

Belongs here: transfers, and sales of units that had been transferred in. Does not belong here: exchanges of one instrument for another.

What comes in has the broker's cost where the broker's averages tell one, else an unknown cost. A sale of units that the book does not
know never becomes a short where the broker shows none. That cash stood still besides says only that they were not bought: they may have
come of a split, or from an instrument that is gone, and the purchase that covers a short may be in no list yet. So a second answer has to
say the same, and nothing else may stand for them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.expiries import closing_of
from position_pipeline.accounting.causes.figures import CASH_LEAST, alike, cash_of_fill, implied_price, money, signed
from position_pipeline.accounting.causes.ratios import simple
from position_pipeline.accounting.causes.scene import TICK, Verdict
from position_pipeline.accounting.causes.splits import is_clear, moved_inversely, price_rise
from position_pipeline.accounting.exact import ZERO, plain, ratio
from position_pipeline.accounting.model import AdjustmentKind, BreakClass, Side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from position_pipeline.accounting.causes.scene import Difference, Scene

ONE = Decimal(1)
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
            *_price_of_an_exchange(it),
            *_new_names(scene, it),
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
    gone = [each.id for each in scene.differences.values() if each.gone]
    for other, words in [*((each, "is short") for each in came), *((each, "is gone") for each in gone)]:
        one = scene.instruments[other]
        if other != it.id and (one.sec_type, one.currency) == (it.instrument.sec_type, it.instrument.currency):
            yield f"{one.symbol} {words}, and nothing tells why"
    held, then = it.book_at(it.since), it.broker - it.after(it.since)
    found = simple(held, then) if sold else None
    if found is not None:
        rise = price_rise(it, it.since)
        if rise is None or moved_inversely(rise, found):
            yield f"{plain(then)} is {found} of {plain(held)}, to the last unit, as after a split"


def _new_names(scene: Scene, it: Difference) -> Iterator[str]:
    """What is gone, and something of its kind that came the same way up: with a new name in two accounts it looks like a transfer."""
    came = {each.id: units for each, units in scene.fresh}
    for other in scene.differences.values():
        gone, new = (it, other) if it.gone else (other, it)
        if other.id != it.id and gone.gone and new.id in came and (came[new.id] > 0) == (gone.book > 0) and _alike(it, other):
            yield f"{other.instrument.symbol} {'came' if it.gone else 'went'} at the same time, which may be the same under another name"


def _alike(one: Difference, other: Difference) -> bool:
    return (one.instrument.sec_type, one.instrument.currency) == (other.instrument.sec_type, other.instrument.currency)


def _price_of_an_exchange(it: Difference) -> Iterator[str]:
    """A price that has moved further than a day moves it says that units were exchanged too: a split hides in the figures."""
    rise = price_rise(it, it.since)
    if rise is not None and it.book_at(it.since) and is_clear(rise):
        yield f"the price is {plain(ratio(rise, ONE, 2))} times that of before, and a transfer does not move it"


def _sold_unknown_units(it: Difference) -> bool:
    """Whether the book is short only because more was sold since the last agreement than it had."""
    sells = any(fill.side is Side.SELL and fill.time > it.since for fill in it.fills)
    return sells and it.book < 0 <= it.broker and it.book - it.after(it.since) >= 0


def _cash_is_known(scene: Scene, it: Difference) -> bool:
    """For a sale of unknown units the fill itself is the witness of the price: cash that came is the fill's, and no more.

    Where the sale is of so little that cash shows nothing of it, it is no witness. Nor is one answer: account values may be minutes
    older than holdings, and a purchase after the sale may be in the one and not in the other.
    """
    cash = scene.cash(it)
    paid = max((abs(cash_of_fill(fill)) for fill in it.fills if fill.side is Side.SELL and fill.time > it.since), default=ZERO)
    return it.seen > 1 and paid > 10 * CASH_LEAST and cash is not None and abs(cash) <= CASH_LEAST


def _came_at_another_cost(scene: Scene, it: Difference) -> list[str]:
    price, market = implied_price(it), scene.price(it.id)
    if price is None or market is None or alike(price, market, _NEAR):
        return []
    return [f"by the broker's averages they cost {money(price)} a unit, and the market is at {money(market)}"]
