"""What each kind of adjustment does to a position, dispatched by `ACTIONS`.

Belongs here: one function a kind, over the steps of the walk. Does not belong here: what is wrong with an entry by itself (faults.py),
the order of entries (booking.py).

Conventions, where the field has several:

- An end, a transfer out or a conversion of more than is held books what is held and refuses the rest: it never opens a position.
- Nothing is realised unless units go for cash. Cash beside a conversion and a return of capital lower the cost, below 0 if they exceed
  it; the gain then shows when the units are closed.
- A fee in kind takes units from all lots in proportion, at their total cost; one that takes all is a close at price 0.
- A spin-off moves the same share of commissions as of cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import MAX_DIGITS, ZERO, plain
from position_pipeline.accounting.flows import flow_of_adjustment, flow_of_cash, flow_of_lots
from position_pipeline.accounting.lots import QUANTITY_PLACES, lowered, scaled, shared_out, split_lot
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis, EventType, Lot
from position_pipeline.accounting.results import Carried

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from position_pipeline.accounting.walk import Walk

ONE = ZERO + 1


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


def _opening_lot(walk: Walk, entry: Adjustment) -> None:
    walk.move(flow_of_adjustment(entry, entry.quantity))


# Ends: units go for a price, or with their premium


def _end(walk: Walk, entry: Adjustment) -> None:
    """Close at price 0, or at what is paid per unit. An end opens nothing: what exceeds the position ended what we do not know of."""
    quantity = _of_what_is_held(walk, entry)
    if quantity:
        flow = flow_of_adjustment(entry, quantity)
        flow.event = _ENDS[entry.kind]
        flow.price, flow.premium = entry.price if entry.kind is AdjustmentKind.CASH_SETTLEMENT else ZERO, ZERO
        flow.moves_premium = entry.kind in _HANDS_PREMIUM
        walk.close(flow)
    if entry.kind in _HANDS_PREMIUM and quantity != entry.quantity:
        walk.carries[entry.id] = Carried()


_ENDS = {
    AdjustmentKind.EXPIRY: EventType.EXPIRED,
    AdjustmentKind.CASH_SETTLEMENT: EventType.EXPIRED,
    AdjustmentKind.ASSIGNMENT: EventType.ASSIGNED,
    AdjustmentKind.EXERCISE: EventType.EXERCISED,
}
_HANDS_PREMIUM = (AdjustmentKind.ASSIGNMENT, AdjustmentKind.EXERCISE)


def _of_what_is_held(walk: Walk, entry: Adjustment) -> Decimal:
    """How much of the entry's change the position has; what exceeds it is refused."""
    held, change = walk.quantity, entry.quantity
    if not held or (held > 0) == (change > 0):
        walk.refuse(entry, f"the {entry.kind} of {plain(change)} meets a position of {plain(held)}: there is nothing that it could take")
        return ZERO
    if abs(change) <= abs(held):
        return change
    walk.refuse(
        entry, f"the {entry.kind} of {plain(change)} exceeds the position of {plain(held)}: the rest is not booked", quantity=change + held
    )
    return -held


# Splits and what else changes lots where they are


def _split(walk: Walk, entry: Adjustment) -> None:
    assert entry.numerator is not None
    assert entry.denominator is not None
    if entry.amount and not _is_paid_to(walk.quantity, entry.amount):
        walk.refuse(entry, f"cash of {plain(entry.amount)} does not go with a position of {plain(walk.quantity)}")
    elif walk.quantity and _restate(walk, entry, scaled(walk.lots, entry.numerator, entry.denominator, entry.multiplier), EventType.SPLIT):
        _pay_out(walk, entry, walk.quantity)


def _pay_out(walk: Walk, entry: Adjustment, quantity: Decimal) -> None:
    """Whole units of `quantity` stay; the fraction is closed for the entry's `amount`, if it has one."""
    if entry.amount is None:
        return
    fraction = quantity - quantity.to_integral_value("ROUND_DOWN")
    if fraction and _is_paid_to(walk.quantity, fraction) and abs(fraction) <= abs(walk.quantity):
        flow = flow_of_cash(entry, -fraction, entry.amount)
        # A conversion may have closed a short just before, and an entry tells each type of event once.
        flow.event = None if entry.kind is AdjustmentKind.SPLIT else EventType.ADJUSTED
        walk.close(flow)
    elif entry.amount:
        walk.refuse(entry, f"there is no fraction that cash of {plain(entry.amount)} could pay for", quantity=ZERO, amount=entry.amount)


def _is_paid_to(quantity: Decimal, amount: Decimal) -> bool:
    """Whether an amount goes with a position: a long receives, a short pays."""
    return bool(quantity) and (quantity > 0) == (amount > 0)


def _restate(walk: Walk, entry: Adjustment, after: Sequence[Lot], event: EventType) -> bool:
    """Put changed lots in the place of those that they come from; refuses to leave a lot without any unit, or with too many."""
    if not _can_be_held(after):
        walk.refuse(entry, f"a lot would have no unit at {QUANTITY_PLACES} decimals, or more digits than {MAX_DIGITS}")
        return False
    for before, now in zip(walk.lots, after, strict=True):
        if before != now or now.cost is None:
            walk.note(entry, before, now)
    walk.lots = list(after)
    walk.tell(event, entry.time, entry.id, sum((lot.quantity for lot in after), ZERO))
    return True


def _can_be_held(lots: Sequence[Lot]) -> bool:
    """Whether every lot has units, and not so many that one ratio after another could outgrow the precision of the arithmetic."""
    return all(lot.quantity and lot.quantity.adjusted() < MAX_DIGITS for lot in lots)


def _change_cost(walk: Walk, entry: Adjustment) -> None:
    """Return of capital lowers the cost of the lots, a notional reinvestment raises it; shared by quantity."""
    assert entry.amount is not None
    if not _is_paid_to(walk.quantity, entry.amount):
        walk.refuse(entry, f"a {entry.kind} of {plain(entry.amount)} does not go with a position of {plain(walk.quantity)}")
        return
    less = entry.amount if entry.kind is AdjustmentKind.RETURN_OF_CAPITAL else -entry.amount
    _restate(walk, entry, lowered(walk.lots, less, entry.multiplier), EventType.ADJUSTED)


def _fee_in_kind(walk: Walk, entry: Adjustment) -> None:
    quantity = _of_what_is_held(walk, entry)
    left = walk.quantity + quantity
    if quantity and not left:
        walk.close(flow_of_cash(entry, quantity, ZERO))
    elif quantity:
        # Idle zeros must not count: how many there are depends on how the history was batched.
        places = max(QUANTITY_PLACES, -int(left.normalize().as_tuple().exponent))
        _restate(walk, entry, scaled(walk.lots, left, walk.quantity, entry.multiplier, places), EventType.ADJUSTED)


# What goes to another position, and what comes from one


def _transfer(walk: Walk, entry: Adjustment) -> None:
    if entry.takes_from:
        _take_up(walk, entry)
    elif walk.quantity and (walk.quantity > 0) != (entry.quantity > 0):
        walk.carries[entry.id] = Carried(lots=tuple(_leave(walk, entry, EventType.TRANSFERRED)))
        if entry.commission:
            walk.refuse(entry, f"its commission of {plain(entry.commission)} has no lot that could carry it", quantity=ZERO)
    elif entry.quantity < 0 and entry.price is None and entry.cost is None:
        walk.carries[entry.id] = Carried()
        walk.refuse(
            entry, f"{plain(-entry.quantity)} units leave a position of {plain(walk.quantity)}: what is not there is not made a short"
        )
    else:
        flow = flow_of_adjustment(entry, entry.quantity)
        walk.open(flow, EventType.TRANSFERRED)


def _leave(walk: Walk, entry: Adjustment, event: EventType) -> list[Lot]:
    """The lots that leave by the method, as far as the position has them; a close is none of it."""
    quantity = _of_what_is_held(walk, entry)
    lots = walk.take(abs(quantity))
    for lot in lots:
        walk.note(entry, lot, None)
    if quantity == -walk.quantity:
        walk.closed_at = entry.time
    walk.tell(event, entry.time, entry.id, walk.quantity + quantity)
    return lots


def _conversion_out(walk: Walk, entry: Adjustment) -> None:
    if not walk.quantity or (walk.quantity > 0) == (entry.quantity > 0):
        walk.carries[entry.id] = Carried()
        _of_what_is_held(walk, entry)
        return
    if entry.amount and not _is_paid_to(walk.quantity, entry.amount):
        walk.carries[entry.id] = Carried()
        walk.refuse(entry, f"cash of {plain(entry.amount)} does not go with a position of {plain(walk.quantity)}")
        return
    whole = not entry.amount and abs(entry.quantity) >= abs(walk.quantity)
    renames = whole and entry.numerator is not None and entry.numerator == entry.denominator
    lots = _leave(walk, entry, EventType.RENAMED if renames else EventType.TRANSFERRED)
    if entry.amount:
        lots = lowered(lots, entry.amount, entry.multiplier)
    walk.carries[entry.id] = Carried(lots=tuple(lots), whole=whole)


def _spin_off(walk: Walk, entry: Adjustment) -> None:
    assert entry.share is not None
    if not walk.quantity:
        walk.carries[entry.id] = Carried()
        walk.refuse(entry, "nothing is held that something could be spun off from")
        return
    stays, goes = shared_out(walk.lots, entry.share, entry.multiplier)
    _restate(walk, entry, stays, EventType.ADJUSTED)
    walk.carries[entry.id] = Carried(lots=tuple(goes))


def _take_up(walk: Walk, entry: Adjustment) -> None:
    """The lots that another entry handed over come in, at their cost and age."""
    carried = walk.carries.get(entry.takes_from or "")
    if carried is None or not carried.lots:
        walk.refuse(entry, f"{entry.takes_from} hands over no lots")
        return
    numerator, denominator = entry.numerator or ONE, entry.denominator or ONE
    lots = scaled(carried.lots, numerator, denominator, entry.multiplier)
    quantity = sum((lot.quantity for lot in lots), ZERO)
    if not _can_be_held(lots) or (entry.amount and not _is_paid_to(quantity, entry.amount)):
        walk.refuse(
            entry, f"the {plain(quantity)} units that {entry.takes_from} makes cannot be booked with cash of {plain(entry.amount or ZERO)}"
        )
        return
    if entry.quantity and entry.quantity != quantity:
        reason = f"it says {plain(entry.quantity)} units, and the lots of {entry.takes_from} make {plain(quantity)}: those are booked"
        walk.refuse(entry, reason, quantity=entry.quantity - quantity)
    renames = carried.whole and numerator == denominator and not entry.amount
    _come_in(walk, entry, lots, EventType.RENAMED if renames else EventType.TRANSFERRED)
    _pay_out(walk, entry, quantity)


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


ACTIONS: dict[AdjustmentKind, Callable[[Walk, Adjustment], None]] = {
    AdjustmentKind.OPENING_BALANCE: _opening_balance,
    AdjustmentKind.OPENING_LOT: _opening_lot,
    AdjustmentKind.EXPIRY: _end,
    AdjustmentKind.ASSIGNMENT: _end,
    AdjustmentKind.EXERCISE: _end,
    AdjustmentKind.CASH_SETTLEMENT: _end,
    AdjustmentKind.SPLIT: _split,
    AdjustmentKind.TRANSFER: _transfer,
    AdjustmentKind.CONVERSION_OUT: _conversion_out,
    AdjustmentKind.CONVERSION_IN: _take_up,
    AdjustmentKind.SPIN_OFF: _spin_off,
    AdjustmentKind.RETURN_OF_CAPITAL: _change_cost,
    AdjustmentKind.REINVESTMENT: _change_cost,
    AdjustmentKind.FEE_IN_KIND: _fee_in_kind,
}
