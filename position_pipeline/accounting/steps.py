"""The steps that several kinds of adjustments share: how much of a change there is to make, changing lots in place, paying out a fraction.

Belongs here: those steps, over the walk. Does not belong here: what one kind does (actions.py, passing.py), arithmetic on lots (lots.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import MAX_DIGITS, ZERO, plain
from position_pipeline.accounting.flows import flow_of_cash
from position_pipeline.accounting.inferred import due
from position_pipeline.accounting.lots import QUANTITY_PLACES
from position_pipeline.accounting.model import AdjustmentKind, EventType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from position_pipeline.accounting.model import Adjustment, Lot
    from position_pipeline.accounting.walk import Walk


def of_what_is_held(walk: Walk, entry: Adjustment) -> Decimal:
    """How much of the entry's change the position has; what exceeds it is refused. 0 where nothing is left of an inferred one."""
    held, change = walk.quantity, due(entry, walk.quantity)
    if not change:
        return ZERO
    if not held or (held > 0) == (change > 0):
        walk.refuse(entry, f"the {entry.kind} of {plain(change)} meets a position of {plain(held)}: there is nothing that it could take")
        return ZERO
    if abs(change) <= abs(held):
        return change
    walk.refuse(
        entry, f"the {entry.kind} of {plain(change)} exceeds the position of {plain(held)}: the rest is not booked", quantity=change + held
    )
    return -held


def pay_out(walk: Walk, entry: Adjustment, quantity: Decimal) -> None:
    """Whole units of `quantity` stay; the fraction is closed for the entry's `amount`, if it has one."""
    if entry.amount is None:
        return
    fraction = quantity - quantity.to_integral_value("ROUND_DOWN")
    if fraction and is_paid_to(walk.quantity, fraction) and abs(fraction) <= abs(walk.quantity):
        flow = flow_of_cash(entry, -fraction, entry.amount)
        # A conversion may have closed a short just before, and an entry tells each type of event once.
        flow.event = None if entry.kind is AdjustmentKind.SPLIT else EventType.ADJUSTED
        walk.close(flow)
    elif entry.amount:
        walk.refuse(entry, f"there is no fraction that cash of {plain(entry.amount)} could pay for", quantity=ZERO, amount=entry.amount)


def is_paid_to(quantity: Decimal, amount: Decimal) -> bool:
    """Whether an amount goes with a position: a long receives, a short pays."""
    return bool(quantity) and (quantity > 0) == (amount > 0)


def restate(walk: Walk, entry: Adjustment, after: Sequence[Lot], event: EventType) -> bool:
    """Put changed lots in the place of those that they come from; refuses to leave a lot without any unit, or with too many."""
    if not can_be_held(after):
        walk.refuse(entry, f"a lot would have no unit at {QUANTITY_PLACES} decimals, or more digits than {MAX_DIGITS}")
        return False
    for before, now in zip(walk.lots, after, strict=True):
        if before != now or now.cost is None:
            walk.note(entry, before, now)
    walk.lots = list(after)
    walk.tell(event, entry.time, entry.id, sum((lot.quantity for lot in after), ZERO))
    return True


def can_be_held(lots: Sequence[Lot]) -> bool:
    """Whether every lot has units, and not so many that one ratio after another could outgrow the precision of the arithmetic."""
    return all(lot.quantity and lot.quantity.adjusted() < MAX_DIGITS for lot in lots)
