"""What each kind of adjustment does to a position, dispatched by `ACTIONS`.

Belongs here: one function a kind, over the steps of the walk. Does not belong here: what passes from one position to another
(passing.py), what is wrong with an entry by itself (faults.py), the order of entries (booking.py).

Conventions, where the field has several:

- An end, a transfer out or a conversion of more than is held books what is held and refuses the rest: it never opens a position.
- Nothing is realised unless units go for cash. Cash beside a conversion and a return of capital lower the cost, below 0 if they exceed
  it; the gain then shows when the units are closed.
- A fee in kind takes units from all lots in proportion, at their total cost; one that takes all is a close at price 0.
- A spin-off moves the same share of commissions as of cost.
- What was inferred from a snapshot does what is left for it to do, and is silent where that is nothing (inferred.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO, plain
from position_pipeline.accounting.flows import flow_of_adjustment, flow_of_cash
from position_pipeline.accounting.inferred import is_nearer
from position_pipeline.accounting.lots import QUANTITY_PLACES, lowered, scaled
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis, EventType
from position_pipeline.accounting.passing import conversion_out, delivery, spin_off, take_up, transfer
from position_pipeline.accounting.results import Carried
from position_pipeline.accounting.steps import is_paid_to, of_what_is_held, pay_out, restate

if TYPE_CHECKING:
    from collections.abc import Callable

    from position_pipeline.accounting.walk import Walk


def _opening_balance(walk: Walk, entry: Adjustment) -> None:
    """Book only what earlier entries do not explain; it is older than all we know of, so FIFO consumes it first."""
    missing = entry.quantity - walk.quantity
    if not missing:
        return
    flow = flow_of_adjustment(entry, missing)
    if walk.quantity and (walk.quantity > 0) != (missing > 0):
        # Where it went, and for how much, is not known.
        flow.price, flow.premium, flow.basis, flow.event = None, ZERO, Basis.UNKNOWN, EventType.ADJUSTED
        walk.move(flow)
    else:
        walk.open(flow, EventType.ADJUSTED if walk.quantity else EventType.OPENED, oldest=True)


def _adopted(walk: Walk, entry: Adjustment) -> None:
    """Book what leads to `held`. What goes, goes for an unknown amount; what comes has the broker's price, where it gave one."""
    assert entry.held is not None
    missing = entry.held - walk.quantity
    if not missing:
        return
    flow = flow_of_adjustment(entry, missing)
    if not walk.quantity or (walk.quantity > 0) == (missing > 0):
        walk.open(flow, EventType.ADJUSTED if walk.quantity else EventType.OPENED)
        return
    flow.price, flow.premium, flow.basis, flow.event = None, ZERO, Basis.UNKNOWN, EventType.ADJUSTED
    beyond = walk.close(flow)
    if beyond is not None:
        walk.open(flow_of_adjustment(entry, beyond.quantity), EventType.FLIPPED)


def _void(_: Walk, __: Adjustment) -> None:
    """Nothing: the fill that it names is not in the history (`booking.in_order`)."""


def _opening_lot(walk: Walk, entry: Adjustment) -> None:
    walk.move(flow_of_adjustment(entry, entry.quantity))


# Ends: units go for a price, or with their premium


def _end(walk: Walk, entry: Adjustment) -> None:
    """Close at price 0, or at what is paid per unit. An end opens nothing: what exceeds the position ended what we do not know of."""
    quantity = of_what_is_held(walk, entry)
    if quantity:
        flow = flow_of_adjustment(entry, quantity)
        flow.event = _ENDS[entry.kind]
        flow.price, flow.premium = entry.price if entry.kind is AdjustmentKind.CASH_SETTLEMENT else ZERO, ZERO
        flow.moves_premium = entry.kind in _HANDS_PREMIUM
        walk.close(flow)
    if entry.kind not in _HANDS_PREMIUM or quantity == entry.quantity:
        return
    if entry.held is None:
        walk.carries[entry.id] = Carried()
    else:
        premium = walk.carries[entry.id].premium if quantity else ZERO
        walk.carries[entry.id] = Carried(premium=premium, booked=quantity, stated=entry.quantity)


_ENDS = {
    AdjustmentKind.EXPIRY: EventType.EXPIRED,
    AdjustmentKind.CASH_SETTLEMENT: EventType.EXPIRED,
    AdjustmentKind.ASSIGNMENT: EventType.ASSIGNED,
    AdjustmentKind.EXERCISE: EventType.EXERCISED,
}
_HANDS_PREMIUM = (AdjustmentKind.ASSIGNMENT, AdjustmentKind.EXERCISE)


# Splits and what else changes lots where they are


def _split(walk: Walk, entry: Adjustment) -> None:
    assert entry.numerator is not None
    assert entry.denominator is not None
    lots = scaled(walk.lots, entry.numerator, entry.denominator, entry.multiplier)
    after = sum((lot.quantity for lot in lots), ZERO)
    if not is_nearer(entry.held, walk.quantity, after if entry.amount is None else after.to_integral_value("ROUND_DOWN")):
        return
    if entry.amount and not is_paid_to(walk.quantity, entry.amount):
        walk.refuse(entry, f"cash of {plain(entry.amount)} does not go with a position of {plain(walk.quantity)}")
    elif walk.quantity and restate(walk, entry, lots, EventType.SPLIT):
        pay_out(walk, entry, walk.quantity)


def _change_cost(walk: Walk, entry: Adjustment) -> None:
    """Return of capital lowers the cost of the lots, a notional reinvestment raises it; shared by quantity."""
    assert entry.amount is not None
    if not is_paid_to(walk.quantity, entry.amount):
        walk.refuse(entry, f"a {entry.kind} of {plain(entry.amount)} does not go with a position of {plain(walk.quantity)}")
        return
    less = entry.amount if entry.kind is AdjustmentKind.RETURN_OF_CAPITAL else -entry.amount
    restate(walk, entry, lowered(walk.lots, less, entry.multiplier), EventType.ADJUSTED)


def _fee_in_kind(walk: Walk, entry: Adjustment) -> None:
    quantity = of_what_is_held(walk, entry)
    left = walk.quantity + quantity
    if quantity and not left:
        walk.close(flow_of_cash(entry, quantity, ZERO))
    elif quantity:
        # Idle zeros must not count: how many there are depends on how the history was batched.
        places = max(QUANTITY_PLACES, -int(left.normalize().as_tuple().exponent))
        restate(walk, entry, scaled(walk.lots, left, walk.quantity, entry.multiplier, places), EventType.ADJUSTED)


ACTIONS: dict[AdjustmentKind, Callable[[Walk, Adjustment], None]] = {
    AdjustmentKind.OPENING_BALANCE: _opening_balance,
    AdjustmentKind.OPENING_LOT: _opening_lot,
    AdjustmentKind.EXPIRY: _end,
    AdjustmentKind.ASSIGNMENT: _end,
    AdjustmentKind.EXERCISE: _end,
    AdjustmentKind.CASH_SETTLEMENT: _end,
    AdjustmentKind.SPLIT: _split,
    AdjustmentKind.TRANSFER: transfer,
    AdjustmentKind.CONVERSION_OUT: conversion_out,
    AdjustmentKind.CONVERSION_IN: take_up,
    AdjustmentKind.SPIN_OFF: spin_off,
    AdjustmentKind.RETURN_OF_CAPITAL: _change_cost,
    AdjustmentKind.REINVESTMENT: _change_cost,
    AdjustmentKind.FEE_IN_KIND: _fee_in_kind,
    AdjustmentKind.ADOPTED: _adopted,
    AdjustmentKind.DELIVERY: delivery,
    AdjustmentKind.VOID: _void,
}
