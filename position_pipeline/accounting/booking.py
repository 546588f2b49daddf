"""What fills and adjustments do to a position: `book` for one entry, `fold` for a history.

Belongs here: lots, closes, cost methods, lifecycle events. Does not belong here: where entries come from, how results are kept.

A worked ledger (FIFO, fees apart)::

    BUY  10 @ 100, fee 1     lots: 10 @ 100 (cost 1000, commission 1)
    SELL  4 @ 110, fee 1     close 4: gross 440 - 400 = 40, opening commission 0.4, closing commission 1, net 38.6
                             lots: 6 @ 100 (cost 600, commission 0.6)
    SELL 10 @ 120, fee 1     close 6: gross 720 - 600 = 120, opening 0.6, closing 0.6; then a short of 4 @ 120 (cost -480,
                             commission 0.4) in a new cycle: the fee follows the quantity

Everything but the relief of a part of a lot is exact (see `exact`). Entries are folded in the order of `order_key`; those of one moment
that the broker gives no sequence for follow their ids, so that the order of arrival never matters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from position_pipeline.accounting.exact import ZERO, exact, known_total, ratio, relieve
from position_pipeline.accounting.model import (
    Adjustment,
    AdjustmentKind,
    Basis,
    Close,
    EventType,
    Fill,
    Lot,
    Method,
    Position,
    PositionEvent,
    weaker,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Entry, Fees, OrderKey

    Carries = dict[str, Decimal | None]

_NO_FEES: Fees = ()


@dataclass(frozen=True, slots=True)
class Booked:
    """What booking did: the position afterwards, and what was realised and happened on the way.

    `carries` are the premiums that options handed over, by the id of the assignment or exercise, for the share legs to take up; signed
    like a cost, None where the option's own cost is not known.
    """

    position: Position
    closes: tuple[Close, ...]
    events: tuple[PositionEvent, ...]
    carries: Carries


def order_key(entry: Entry) -> OrderKey:
    """Where an entry stands in the history: by time; at one time adjustments first, then the broker's sequence, then the id.

    Adjustments come first so that an option has handed over its premium before the share leg of the same moment is booked.
    """
    sequence = float("inf") if entry.sequence is None else entry.sequence
    if isinstance(entry, Fill):
        return (entry.time, 1, sequence, entry.execution_id)
    return (entry.time, 0, sequence, entry.id)


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The history to fold: sorted, without the opening lots that have given way.

    An opening lot stands for a fill that we do not have; both carry the broker's `sequence` of that fill. Once the fill is there, the
    lot is left out, so that what was bought once is never booked twice.
    """
    history = sorted(entries, key=order_key)
    known = {entry.sequence for entry in history if isinstance(entry, Fill) and entry.sequence is not None and entry.quantity}
    return tuple(entry for entry in history if not _given_way(entry, known))


def _given_way(entry: Entry, known: set[int]) -> bool:
    return isinstance(entry, Adjustment) and entry.kind is AdjustmentKind.OPENING_LOT and entry.sequence in known


def book(position: Position, entry: Entry, carries: Carries | None = None) -> Booked:
    """Book one entry on a position."""
    return fold(position, (entry,), carries)


def fold(position: Position, entries: Iterable[Entry], carries: Carries | None = None) -> Booked:
    """Book entries of the position's instrument, which are in `order_key` order (see `in_order`), one after the other.

    `carries` are the premiums that share legs among the entries may need. A share leg whose premium is not among them has an unknown
    amount: what it closes or opens has no known basis until the option is booked.
    """
    with exact():
        walk = _Walk(position, dict(carries or {}))
        for entry in entries:
            walk.step(entry)
        return walk.result()


class _Picking(NamedTuple):
    """A cost method: which lot goes next, and whether openings merge into one lot."""

    next: Callable[[Sequence[Lot]], int]
    pools: bool = False


def _highest_cost(lots: Sequence[Lot]) -> int:
    """The lot that realises least: the dearest of a long, the cheapest of a short. Lots of unknown cost go last."""
    sign = 1 if lots[0].quantity > 0 else -1
    known = [i for i, lot in enumerate(lots) if lot.price is not None]
    return max(known, key=lambda i: (sign * (lots[i].price or ZERO), -i), default=0)


METHODS: dict[Method, _Picking] = {
    Method.FIFO: _Picking(lambda _lots: 0),
    Method.LIFO: _Picking(lambda _lots: -1),
    Method.HIFO: _Picking(_highest_cost),
    Method.AVERAGE: _Picking(lambda _lots: 0, pools=True),
}


@dataclass(slots=True)
class _Flow:
    """What one entry, or a part of it, brings.

    `premium` came from an option and is part of the amount. `None` in `price` or `premium` means that the amount is not known.
    """

    id: str
    time: datetime
    quantity: Decimal
    price: Decimal | None
    multiplier: Decimal
    commission: Decimal | None
    fees: Fees
    premium: Decimal | None
    basis: Basis
    event: EventType | None = None
    moves_premium: bool = False

    @property
    def amount(self) -> Decimal | None:
        """Quantity x price x multiplier, and the premium: signed like a cost, None where it is not known."""
        if self.price is None or self.premium is None:
            return None
        amount = self.quantity * self.price * self.multiplier
        return amount + self.premium if self.premium else amount


class _Walk:
    """The mutable middle of a fold. Everything that leaves it is immutable."""

    def __init__(self, position: Position, carries: Carries) -> None:
        self.start = position
        self.account, self.instrument = position.account, position.instrument
        self.currency, self.method = position.currency, position.method
        self.picking = METHODS[position.method]
        self.lots = list(position.lots)
        self.quantity = position.quantity
        self.multiplier = position.multiplier
        self.cycle, self.opened_at, self.closed_at = position.cycle, position.opened_at, position.closed_at
        self.gross, self.opening_commission = position.realized_gross, position.opening_commission
        self.closing_commission, self.unknown_closes = position.closing_commission, position.unknown_closes
        self.last: Entry | None = None
        self.closes: list[Close] = []
        self.events: list[PositionEvent] = []
        self.carries = carries
        self.partial = False

    def step(self, entry: Entry) -> None:
        self.multiplier = entry.multiplier
        if isinstance(entry, Fill):
            self._move(self._flow_of_fill(entry))
        else:
            _ADJUSTMENTS[entry.kind](self, entry)
        self.last = entry

    def result(self) -> Booked:
        position = replace(
            self.start,
            multiplier=self.multiplier,
            lots=tuple(self.lots),
            realized_gross=self.gross,
            opening_commission=self.opening_commission,
            closing_commission=self.closing_commission,
            unknown_closes=self.unknown_closes,
            cycle=self.cycle,
            opened_at=self.opened_at,
            closed_at=self.closed_at,
            last_key=self.start.last_key if self.last is None else order_key(self.last),
        )
        return Booked(position, tuple(self.closes), tuple(self.events), self.carries)

    def _flow_of_fill(self, fill: Fill) -> _Flow:
        commission, fees = fill.commission, _NO_FEES
        if commission and fill.commission_currency and fill.commission_currency != fill.currency:
            commission, fees = ZERO, ((fill.commission_currency, commission),)
        return _Flow(
            fill.execution_id,
            fill.time,
            fill.signed_quantity,
            fill.price,
            fill.multiplier,
            commission,
            fees,
            self.carries.get(fill.premium_from) if fill.premium_from else ZERO,
            Basis.FILLS,
        )

    def _move(self, flow: _Flow) -> None:
        """A change of quantity: against the position it closes, then what is left opens. A busted fill (quantity 0) does nothing."""
        if not flow.quantity:
            return
        if not self.quantity or (self.quantity > 0) == (flow.quantity > 0):
            self._open(flow, EventType.INCREASED if self.quantity else EventType.OPENED)
            return
        rest = self._close(flow)
        if rest is not None:
            self._open(rest, EventType.FLIPPED)

    def _open(self, flow: _Flow, event: EventType, *, oldest: bool = False) -> None:
        if not self.quantity:
            self.cycle += 1
            self.opened_at, self.closed_at = flow.time, None
        lot = _lot_of(flow)
        if self.picking.pools and self.lots:
            self.lots = [_pooled(self.lots[0], lot, flow.multiplier)]
        elif oldest:
            self.lots.insert(0, lot)
        else:
            self.lots.append(lot)
        self._tell(event, flow, self.quantity + flow.quantity)

    def _close(self, flow: _Flow) -> _Flow | None:
        """Close what the entry can close, lot by lot; returns what is left of it."""
        left = self.quantity + flow.quantity
        if left and (left > 0) != (self.quantity > 0):
            left = ZERO
        self.partial = bool(left)
        first = len(self.closes)
        rest: _Flow | None = flow
        while rest is not None and self.lots:
            rest = self._consume(rest)
        if flow.moves_premium:
            self.carries[flow.id] = None if rest else _premium_of(self.closes[first:])
        if not left:
            self.closed_at = flow.time
        self._tell(flow.event or (EventType.REDUCED if left else EventType.CLOSED), flow, left)
        return rest

    def _consume(self, flow: _Flow) -> _Flow | None:
        """Close what the next lot has of what the entry needs; returns what is left of the entry."""
        index = self.picking.next(self.lots)
        lot = self.lots[index]
        have, need = abs(lot.quantity), abs(flow.quantity)
        if have > need:
            lot, self.lots[index] = _split_lot(lot, need, have)
            rest = None
        else:
            del self.lots[index]
            flow, rest = (flow, None) if have == need else _split_flow(flow, have, need)
        self.closes.append(self._hand_over(lot, flow) if flow.moves_premium else self._realise(lot, flow))
        return rest

    def _realise(self, lot: Lot, piece: _Flow) -> Close:
        """The close of all of a lot by all of a piece of an entry, which have the same size."""
        amount, gross = piece.amount, None
        if amount is None or lot.cost is None:
            self.unknown_closes += 1
        else:
            gross = -amount - lot.cost
            self.gross += gross
            if lot.commission:
                self.opening_commission += lot.commission
            if piece.commission:
                self.closing_commission += piece.commission
        return self._close_of(lot, piece, gross, (lot.commission, piece.commission), piece.premium or ZERO)

    def _hand_over(self, lot: Lot, piece: _Flow) -> Close:
        """An assigned or exercised option realises nothing: its cost and all commissions move to the share leg as `premium`."""
        premium = (lot.cost or ZERO) + (lot.commission or ZERO) + (piece.commission or ZERO)
        return self._close_of(lot, piece, ZERO, (ZERO, ZERO), premium)

    def _close_of(
        self,
        lot: Lot,
        piece: _Flow,
        gross: Decimal | None,
        commissions: tuple[Decimal | None, Decimal | None],
        premium: Decimal,
    ) -> Close:
        return Close(
            account=self.account,
            instrument=self.instrument,
            execution_id=piece.id,
            opening_id=lot.opening_id,
            cycle=self.cycle,
            closed_at=piece.time,
            opened_at=lot.opened_at,
            quantity=lot.quantity,
            entry_price=lot.price,
            exit_price=ZERO if piece.price is None else piece.price,
            cost=lot.cost,
            gross_pnl=gross,
            opening_commission=commissions[0],
            closing_commission=commissions[1],
            currency=self.currency,
            method=self.method,
            basis=Basis.UNKNOWN if gross is None else lot.basis,
            partial=self.partial,
            premium=premium,
            fees=_plus(lot.fees, piece.fees),
        )

    def _tell(self, event: EventType, flow: _Flow, after: Decimal) -> None:
        self.events.append(PositionEvent(self.account, self.instrument, event, flow.time, self.quantity, after, self.cycle, flow.id))
        self.quantity = after

    # Adjustments

    def opening_balance(self, entry: Adjustment) -> None:
        """Book only what earlier entries do not explain; it is older than all we know of, so FIFO consumes it first."""
        missing = entry.quantity - self.quantity
        if not missing:
            return
        flow = _flow_of_adjustment(entry, missing)
        if self.quantity and (self.quantity > 0) != (missing > 0):
            # Where it went, and for how much, is not known.
            flow.price, flow.basis, flow.event = None, Basis.UNKNOWN, EventType.ADJUSTED
            self._move(flow)
        else:
            self._open(flow, EventType.ADJUSTED if self.quantity else EventType.OPENED, oldest=True)

    def opening_lot(self, entry: Adjustment) -> None:
        self._move(_flow_of_adjustment(entry, entry.quantity))

    def option_end(self, entry: Adjustment) -> None:
        """Close at price 0. An option's end opens nothing: what exceeds the position closed contracts that we do not know of."""
        flow = _flow_of_adjustment(entry, entry.quantity)
        flow.event = _OPTION_EVENTS[entry.kind]
        flow.price = ZERO
        flow.moves_premium = entry.kind is not AdjustmentKind.EXPIRY
        if self.quantity and (self.quantity > 0) != (flow.quantity > 0):
            self._close(flow)
        elif flow.moves_premium:
            self.carries[flow.id] = None


def _premium_of(closes: Sequence[Close]) -> Decimal | None:
    """What an option hands over: None when the cost of one of its lots is not known."""
    return known_total(None if close.cost is None else close.premium for close in closes)


_OPTION_EVENTS = {
    AdjustmentKind.EXPIRY: EventType.EXPIRED,
    AdjustmentKind.ASSIGNMENT: EventType.ASSIGNED,
    AdjustmentKind.EXERCISE: EventType.EXERCISED,
}

_ADJUSTMENTS: dict[AdjustmentKind, Callable[[_Walk, Adjustment], None]] = {
    AdjustmentKind.OPENING_BALANCE: _Walk.opening_balance,
    AdjustmentKind.OPENING_LOT: _Walk.opening_lot,
    AdjustmentKind.EXPIRY: _Walk.option_end,
    AdjustmentKind.ASSIGNMENT: _Walk.option_end,
    AdjustmentKind.EXERCISE: _Walk.option_end,
}


def _flow_of_adjustment(entry: Adjustment, quantity: Decimal) -> _Flow:
    premium = ZERO
    price = entry.price
    if entry.cost is not None and entry.quantity:
        price = ratio(entry.cost, entry.quantity * entry.multiplier)
        # The stated total is kept to the last digit: what the rounded price per unit loses travels beside it.
        premium = relieve(entry.cost - entry.quantity * price * entry.multiplier, abs(quantity), abs(entry.quantity))
    return _Flow(
        id=entry.id,
        time=entry.time,
        quantity=quantity,
        price=price,
        multiplier=entry.multiplier,
        commission=entry.commission,
        fees=_NO_FEES,
        premium=premium,
        basis=entry.basis if price is not None else Basis.UNKNOWN,
    )


def _lot_of(flow: _Flow) -> Lot:
    """The lot that an entry opens. A premium is part of its cost, and so of its price."""
    amount, price, basis = flow.amount, flow.price, flow.basis
    if amount is None:
        price, basis = None, Basis.UNKNOWN
    elif flow.premium:
        price = ratio(amount, flow.quantity * flow.multiplier)
    return Lot(flow.id, flow.time, flow.quantity, price, amount, flow.commission, basis, flow.fees)


def _split_lot(lot: Lot, part: Decimal, whole: Decimal) -> tuple[Lot, Lot]:
    """(what goes, what stays) when `part` of the `whole` (both unsigned) of a lot is consumed."""
    opening_id, opened_at, quantity, price, cost, commission, basis, fees = lot
    gone = part.copy_sign(quantity)
    gone_cost = cost and relieve(cost, part, whole)
    gone_commission = commission and relieve(commission, part, whole)
    gone_fees = _share(fees, part, whole)
    stays = (_less(cost, gone_cost), _less(commission, gone_commission), basis, _minus(fees, gone_fees))
    return (
        Lot(opening_id, opened_at, gone, price, gone_cost, gone_commission, basis, gone_fees),
        Lot(opening_id, opened_at, quantity - gone, price, *stays),
    )


def _split_flow(flow: _Flow, part: Decimal, whole: Decimal) -> tuple[_Flow, _Flow]:
    """(what `part` of the `whole` (both unsigned) of an entry brings, what the rest of it does)."""
    quantity = part.copy_sign(flow.quantity)
    commission = flow.commission and relieve(flow.commission, part, whole)
    premium = flow.premium and relieve(flow.premium, part, whole)
    fees = _share(flow.fees, part, whole)
    rest = (_less(flow.commission, commission), _minus(flow.fees, fees), _less(flow.premium, premium))
    how = (flow.basis, flow.event, flow.moves_premium)
    return (
        _Flow(flow.id, flow.time, quantity, flow.price, flow.multiplier, commission, fees, premium, *how),
        _Flow(flow.id, flow.time, flow.quantity - quantity, flow.price, flow.multiplier, *rest, *how),
    )


def _less(total: Decimal | None, part: Decimal | None) -> Decimal | None:
    return total - part if total and part else total


def _pooled(pool: Lot, lot: Lot, multiplier: Decimal) -> Lot:
    """One lot of both, at their average; it keeps the id and time of its first opening."""
    quantity = pool.quantity + lot.quantity
    cost = None if pool.cost is None or lot.cost is None else pool.cost + lot.cost
    return Lot(
        pool.opening_id,
        pool.opened_at,
        quantity,
        None if cost is None else ratio(cost, quantity * multiplier),
        cost,
        None if pool.commission is None or lot.commission is None else pool.commission + lot.commission,
        weaker(pool.basis, lot.basis),
        _plus(pool.fees, lot.fees),
    )


def _share(fees: Fees, part: Decimal, whole: Decimal) -> Fees:
    return fees and tuple((currency, relieve(amount, part, whole)) for currency, amount in fees)


def _plus(fees: Fees, more: Fees) -> Fees:
    if not more or not fees:
        return fees or more
    both = dict(fees)
    for currency, amount in more:
        both[currency] = both.get(currency, ZERO) + amount
    return tuple(sorted(both.items()))


def _minus(fees: Fees, less: Fees) -> Fees:
    if not less:
        return fees
    gone = dict(less)
    return tuple((currency, amount - gone[currency]) for currency, amount in fees)
