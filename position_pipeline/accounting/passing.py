"""Adjustments by which something passes from one position to another: transfers, conversions, spin-offs, deliveries.

Belongs here: what the giver hands over (`Carried`), and what the taker makes of it. Does not belong here: which instruments are booked
together for it (booking.py, store), all other kinds (actions.py).

Each leg finds by itself what is left for it to do, where it was inferred: the giver moves what is above `held`, the taker takes up
what was handed over as far as `held` has room. What was handed over and finds no room is in no position (inferred.py says when that is).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO, plain
from position_pipeline.accounting.flows import flow_of_adjustment, flow_of_delivery, flow_of_lots
from position_pipeline.accounting.inferred import due, towards
from position_pipeline.accounting.lots import lowered, scaled, shared_out, split_lot
from position_pipeline.accounting.model import Adjustment, EventType, Lot
from position_pipeline.accounting.results import NOTHING_LEFT, Carried
from position_pipeline.accounting.steps import can_be_held, is_paid_to, of_what_is_held, pay_out, restate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from position_pipeline.accounting.walk import Walk

ONE = ZERO + 1


def transfer(walk: Walk, entry: Adjustment) -> None:
    if entry.takes_from:
        take_up(walk, entry)
        return
    change = due(entry, walk.quantity)
    if not change:
        walk.carries[entry.id] = NOTHING_LEFT
    elif walk.quantity and (walk.quantity > 0) != (change > 0):
        walk.carries[entry.id] = Carried(lots=tuple(_leave(walk, entry, EventType.TRANSFERRED)))
        if entry.commission:
            walk.refuse(entry, f"its commission of {plain(entry.commission)} has no lot that could carry it", quantity=ZERO)
    elif change < 0 and entry.price is None and entry.cost is None:
        walk.carries[entry.id] = Carried()
        walk.refuse(entry, f"{plain(-change)} units leave a position of {plain(walk.quantity)}: what is not there is not made a short")
    else:
        walk.open(flow_of_adjustment(entry, change), EventType.TRANSFERRED)


def _leave(walk: Walk, entry: Adjustment, event: EventType) -> list[Lot]:
    """The lots that leave by the method, as far as the position has them; a close is none of it."""
    quantity = of_what_is_held(walk, entry)
    lots = walk.take(abs(quantity))
    for lot in lots:
        walk.note(entry, lot, None)
    if quantity == -walk.quantity:
        walk.closed_at = entry.time
    walk.tell(event, entry.time, entry.id, walk.quantity + quantity)
    return lots


def conversion_out(walk: Walk, entry: Adjustment) -> None:
    change = due(entry, walk.quantity)
    if not change:
        walk.carries[entry.id] = NOTHING_LEFT
        return
    if not walk.quantity or (walk.quantity > 0) == (change > 0):
        walk.carries[entry.id] = Carried()
        of_what_is_held(walk, entry)
        return
    if entry.amount and not is_paid_to(walk.quantity, entry.amount):
        walk.carries[entry.id] = Carried()
        walk.refuse(entry, f"cash of {plain(entry.amount)} does not go with a position of {plain(walk.quantity)}")
        return
    whole = not entry.amount and abs(change) >= abs(walk.quantity)
    renames = whole and entry.numerator is not None and entry.numerator == entry.denominator
    lots = _leave(walk, entry, EventType.RENAMED if renames else EventType.TRANSFERRED)
    if entry.amount:
        lots = lowered(lots, entry.amount, entry.multiplier)
    walk.carries[entry.id] = Carried(lots=tuple(lots), whole=whole)


def spin_off(walk: Walk, entry: Adjustment) -> None:
    """An inferred one whose taker has no need of it (`booking.fold_together` looks) leaves the cost where it is."""
    assert entry.share is not None
    if entry.held is not None and walk.carries.get(entry.id) == NOTHING_LEFT:
        return
    if not walk.quantity:
        walk.carries[entry.id] = Carried()
        walk.refuse(entry, "nothing is held that something could be spun off from")
        return
    stays, goes = shared_out(walk.lots, entry.share, entry.multiplier)
    restate(walk, entry, stays, EventType.ADJUSTED)
    walk.carries[entry.id] = Carried(lots=tuple(goes))


def take_up(walk: Walk, entry: Adjustment) -> None:
    """The lots that another entry handed over come in, at their cost and age."""
    carried = walk.carries.get(entry.takes_from or "")
    if carried is None or not carried.lots:
        if not _has_all(walk, entry):
            walk.refuse(entry, f"{entry.takes_from} hands over no lots")
        return
    numerator, denominator = entry.numerator or ONE, entry.denominator or ONE
    lots = scaled(carried.lots, numerator, denominator, entry.multiplier)
    quantity = sum((lot.quantity for lot in lots), ZERO)
    if not can_be_held(lots) or (entry.amount and not is_paid_to(quantity, entry.amount)):
        walk.refuse(
            entry, f"the {plain(quantity)} units that {entry.takes_from} makes cannot be booked with cash of {plain(entry.amount or ZERO)}"
        )
        return
    if entry.held is not None and (room := _room(walk, entry, quantity)) != quantity:
        _take_up_to(walk, entry, lots, room)
        return
    if entry.held is None and entry.quantity and entry.quantity != quantity:
        reason = f"it says {plain(entry.quantity)} units, and the lots of {entry.takes_from} make {plain(quantity)}: those are booked"
        walk.refuse(entry, reason, quantity=entry.quantity - quantity)
    renames = carried.whole and numerator == denominator and not entry.amount
    _come_in(walk, entry, lots, EventType.RENAMED if renames else EventType.TRANSFERRED)
    pay_out(walk, entry, quantity)


def _has_all(walk: Walk, entry: Adjustment) -> bool:
    """Whether an inferred entry needs no lots, because all is there that the broker held."""
    return entry.held is not None and not towards(entry.held, walk.quantity, entry.quantity or entry.held - walk.quantity)


def _room(walk: Walk, entry: Adjustment, quantity: Decimal) -> Decimal:
    """How much of `quantity` units that were handed over leads to `held`; all of it where only a fraction that is paid out does not."""
    assert entry.held is not None
    stays = quantity if entry.amount is None else quantity.to_integral_value("ROUND_DOWN")
    room = towards(entry.held, walk.quantity, stays)
    return quantity if stays and room == stays else room


def _take_up_to(walk: Walk, entry: Adjustment, lots: Sequence[Lot], room: Decimal) -> None:
    taken, _ = _divided(lots, abs(room))
    if taken:
        _come_in(walk, entry, taken, EventType.TRANSFERRED)
        if entry.amount:
            reason = f"cash of {plain(entry.amount)} does not go with the {plain(room)} units that are left to take up"
            walk.refuse(entry, reason, quantity=ZERO, amount=entry.amount)


def delivery(walk: Walk, entry: Adjustment) -> None:
    """The shares of an assignment or exercise: a fill in all but name."""
    change = due(entry, walk.quantity)
    if change:
        walk.move(flow_of_delivery(entry, change, walk.carries))


def _come_in(walk: Walk, entry: Adjustment, lots: Sequence[Lot], event: EventType) -> None:
    """Lots join the position; against one of the other sign they close it first, at what they cost."""
    if walk.quantity and (walk.quantity > 0) != (lots[0].quantity > 0):
        closing, lots = _divided(lots, abs(walk.quantity))
        walk.close(flow_of_lots(entry, closing))
    if lots:
        walk.begin(entry.time)
        for lot in lots:
            walk.note(entry, None, lot)
        walk.take_up(lots)
        walk.tell(event, entry.time, entry.id, walk.quantity + sum((lot.quantity for lot in lots), ZERO))


def _divided(lots: Sequence[Lot], part: Decimal) -> tuple[list[Lot], list[Lot]]:
    """(the first lots up to `part` units, unsigned; the rest)."""
    first: list[Lot] = []
    rest: list[Lot] = []
    for lot in lots:
        have = abs(lot.quantity)
        if have <= part:
            first.append(lot)
            part -= have
        elif part:
            goes, stays = split_lot(lot, part, have)
            first.append(goes)
            rest.append(stays)
            part = ZERO
        else:
            rest.append(lot)
    return first, rest
