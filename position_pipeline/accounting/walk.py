"""The walk through a history: what fills do to a position, and the steps that every entry is made of - open, close, take out, take up.

Belongs here: the mutable middle of a fold, and fills. Does not belong here: what each kind of adjustment does (actions.py), arithmetic on
a lot (lots.py), the order of entries (booking.py). Everything that leaves the walk is immutable.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from position_pipeline.accounting.actions import ACTIONS
from position_pipeline.accounting.exact import ZERO, known_total, plain
from position_pipeline.accounting.faults import faults
from position_pipeline.accounting.flows import flow_of_fill, lot_of, split_flow
from position_pipeline.accounting.lots import minus, new_tuple, plus, pooled, split_lot
from position_pipeline.accounting.methods import METHODS
from position_pipeline.accounting.model import Basis, Close, EventType, Fill, PositionEvent
from position_pipeline.accounting.results import Booked, Carried, Move, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.flows import Flow
    from position_pipeline.accounting.model import Adjustment, Entry, Lot, OrderKey, Position
    from position_pipeline.accounting.results import Carries

    Named = list[tuple[str, Decimal]]
    Result = tuple[Decimal | None, Decimal | None, Decimal | None]

# Every fill is one of these, and looking a member up on its enum takes as long as a multiplication (see flows.py).
_OPENED, _INCREASED, _REDUCED, _CLOSED = EventType.OPENED, EventType.INCREASED, EventType.REDUCED, EventType.CLOSED


class Walk:
    """One position on its way through its history. The caller is in an `exact()` block."""

    def __init__(self, position: Position, carries: Carries) -> None:
        self.start = position
        self.account, self.instrument = position.account, position.instrument
        self.currency, self.method = position.currency, position.method
        self.next_of, self.pools = METHODS[position.method]
        self.lots = list(position.lots)
        self.quantity = position.quantity
        self.multiplier = position.multiplier
        self.cycle, self.opened_at, self.closed_at = position.cycle, position.opened_at, position.closed_at
        self.gross, self.opening_commission = position.realized_gross, position.opening_commission
        self.closing_commission, self.unknown_closes = position.closing_commission, position.unknown_closes
        self.last: Entry | None = None
        self.closes: list[Close] = []
        self.events: list[PositionEvent] = []
        self.moves: list[Move] = []
        self.refused: list[Refusal] = []
        self.carries = carries
        self.partial = False

    def step(self, entry: Entry) -> None:
        """Book one entry, or refuse it."""
        self.last = entry
        if isinstance(entry, Fill):
            quantity = entry.quantity
            if not (quantity.is_finite() and entry.price.is_finite()) or quantity < 0:
                self.refuse(entry, *faults(entry))
            elif quantity:
                self.multiplier = entry.multiplier
                self.move(flow_of_fill(entry, self.carries), self._named(entry) if entry.closes_lots else None)
        elif reasons := faults(entry):
            self.refuse(entry, *reasons)
        else:
            self.multiplier = entry.multiplier
            ACTIONS[entry.kind](self, entry)

    def result(self, last_key: OrderKey | None) -> Booked:
        """What the walk has done; `last_key` orders the last entry."""
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
            last_key=last_key,
        )
        return Booked(position, tuple(self.closes), tuple(self.events), self.carries, tuple(self.moves), tuple(self.refused))

    # Changes of quantity

    def move(self, flow: Flow, named: Named | None = None) -> None:
        """Against the position an entry closes; what is left of it opens."""
        held = self.quantity
        if not held or (held > 0) == (flow.quantity > 0):
            self.open(flow, _INCREASED if held else _OPENED)
            return
        rest = self.close(flow, named)
        if rest is not None:
            self.open(rest, EventType.FLIPPED)

    def open(self, flow: Flow, event: EventType, *, oldest: bool = False) -> None:
        """A new lot; `oldest` puts it before all others."""
        self.begin(flow.time)
        lot = lot_of(flow)
        if self.pools and self.lots:
            self.lots = [pooled(self.lots[0], lot, flow.multiplier)]
        elif oldest:
            self.lots.insert(0, lot)
        else:
            self.lots.append(lot)
        self.tell(event, flow.time, flow.id, self.quantity + flow.quantity)

    def close(self, flow: Flow, named: Named | None = None) -> Flow | None:
        """Close what the entry can close, lot by lot; returns what is left of it."""
        left = self.quantity + flow.quantity
        if left and (left > 0) != (self.quantity > 0):
            left = ZERO
        self.partial = bool(left)
        first = len(self.closes)
        rest: Flow | None = flow
        if named:
            rest = self._consume_named(flow, named)
        while rest is not None and self.lots:
            rest = self._consume(rest, self.next_of(self.lots))
        if named:
            self._join(first)
        if flow.moves_premium:
            premium = known_total(None if close.cost is None else close.premium for close in self.closes[first:])
            self.carries[flow.id] = Carried(premium=premium)
        if not left:
            self.closed_at = flow.time
        self.tell(flow.event or (_REDUCED if left else _CLOSED), flow.time, flow.id, left)
        return rest

    def take(self, quantity: Decimal) -> list[Lot]:
        """Take lots of `quantity` (unsigned, not more than there is) out by the method, in their order, without closing them."""
        place = {lot.opening_id: number for number, lot in enumerate(self.lots)}
        taken: list[Lot] = []
        while quantity:
            index = self.next_of(self.lots)
            lot = self.lots[index]
            have = abs(lot.quantity)
            if have > quantity:
                lot, self.lots[index] = split_lot(lot, quantity, have)
            else:
                del self.lots[index]
            taken.append(lot)
            quantity -= abs(lot.quantity)
        return sorted(taken, key=lambda lot: place[lot.opening_id])

    def take_up(self, lots: Iterable[Lot]) -> None:
        """Put lots that come from elsewhere in their place by age; what comes of one purchase is one lot."""
        for lot in lots:
            same = next((i for i, other in enumerate(self.lots) if self.pools or other.opening_id == lot.opening_id), None)
            if same is None:
                older = (i for i, other in enumerate(self.lots, 1) if other.opened_at <= lot.opened_at)
                self.lots.insert(max(older, default=0), lot)
            else:
                self.lots[same] = pooled(self.lots[same], lot, self.multiplier)

    # Words about it

    def begin(self, at: datetime) -> None:
        """A flat position that is about to be opened begins a new cycle."""
        if not self.quantity:
            self.cycle += 1
            self.opened_at, self.closed_at = at, None

    def tell(self, event: EventType, at: datetime, cause: str, after: Decimal) -> None:
        """The quantity changes to `after`."""
        fields = (self.account, self.instrument, event, at, self.quantity, after, self.cycle, cause)
        self.events.append(new_tuple(PositionEvent, fields))
        self.quantity = after

    def note(self, entry: Adjustment, before: Lot | None, after: Lot | None) -> None:
        """A lot changed without a close; None for the side on which there is none."""
        lot = after or before
        assert lot is not None
        was, now = before or _nothing_of(lot), after or _nothing_of(lot)
        cost = None if was.cost is None or now.cost is None else now.cost - was.cost
        commission = None if was.commission is None or now.commission is None else now.commission - was.commission
        fees = minus(now.fees or tuple((currency, ZERO) for currency, _ in was.fees), was.fees)
        change = (now.quantity - was.quantity, cost, commission, fees)
        self.moves.append(Move(self.account, self.instrument, entry.id, lot.opening_id, entry.time, *change))

    def refuse(self, entry: Entry, *reasons: str, quantity: Decimal | None = None, amount: Decimal = ZERO) -> None:
        """Leave an entry, or a part of it, out of the book (see `Refusal`)."""
        entry_id = entry.execution_id if isinstance(entry, Fill) else entry.id
        self.refused.append(Refusal(entry_id, "; ".join(reasons), quantity, amount))

    # Closing

    def _consume(self, flow: Flow, index: int) -> Flow | None:
        """Close what one lot has of what the entry needs; returns what is left of the entry."""
        lot = self.lots[index]
        have, need = abs(lot.quantity), abs(flow.quantity)
        if have > need:
            lot, self.lots[index] = split_lot(lot, need, have)
            rest = None
        else:
            del self.lots[index]
            flow, rest = (flow, None) if have == need else split_flow(flow, have, need)
        self.closes.append(self._hand_over(lot, flow) if flow.moves_premium else self._realise(lot, flow))
        return rest

    def _realise(self, lot: Lot, piece: Flow) -> Close:
        """The close of all of a lot by all of a piece of an entry, which have the same size."""
        amount, cost, gross = piece.amount, lot.cost, None
        if amount is None or cost is None:
            self.unknown_closes += 1
        else:
            gross = -amount - cost
            self.gross += gross
            if lot.commission:
                self.opening_commission += lot.commission
            if piece.commission:
                self.closing_commission += piece.commission
        return self._close_of(lot, piece, (gross, lot.commission, piece.commission), piece.premium or ZERO)

    def _hand_over(self, lot: Lot, piece: Flow) -> Close:
        """An assigned or exercised option realises nothing: its cost and all commissions move to the share leg as `premium`."""
        premium = (lot.cost or ZERO) + (lot.commission or ZERO) + (piece.commission or ZERO)
        return self._close_of(lot, piece, (ZERO, ZERO, ZERO), premium)

    def _close_of(self, lot: Lot, piece: Flow, result: Result, premium: Decimal) -> Close:
        """`result` is the gross P&L, the opening and the closing commission."""
        basis = Basis.UNKNOWN if result[0] is None else lot.basis
        fees = plus(lot.fees, piece.fees)
        gross, opening, closing = result
        fields = (
            self.account, self.instrument, piece.id, lot.opening_id, self.cycle, piece.time, lot.opened_at, lot.quantity, lot.price,
            piece.price, lot.cost, gross, opening, closing, self.currency, self.method, basis, self.partial, premium, fees,
        )  # fmt: skip
        return new_tuple(Close, fields)

    # Named lots

    def _named(self, fill: Fill) -> Named:
        """The namings of a fill that can be followed; the others are refused, and what they named goes by the method."""
        left = {} if self.pools else {lot.opening_id: abs(lot.quantity) for lot in self.lots}
        closing = self.quantity and (self.quantity > 0) != (fill.signed_quantity > 0)
        need, good = fill.quantity if closing else ZERO, []
        for name, quantity in fill.closes_lots:
            if quantity.is_finite() and 0 < quantity <= min(need, left.get(name, ZERO)):
                good.append((name, quantity))
                need, left[name] = need - quantity, left[name] - quantity
            else:
                self.refuse(fill, f"it names {plain(quantity)} of lot {name}, which cannot be closed by it", quantity=ZERO)
        return good

    def _consume_named(self, flow: Flow, named: Named) -> Flow | None:
        rest: Flow | None = flow
        for name, quantity in named:
            assert rest is not None
            index = next(i for i, lot in enumerate(self.lots) if lot.opening_id == name)
            need = abs(rest.quantity)
            piece, rest = (rest, None) if quantity == need else split_flow(rest, quantity, need)
            self._consume(piece, index)
        return rest

    def _join(self, first: int) -> None:
        """One close a lot, where an entry closed some of a lot by name and more of it by the method."""
        by_lot: dict[str, Close] = {}
        for close in self.closes[first:]:
            known = by_lot.get(close.opening_id)
            if known is not None and close.gross_pnl is None:
                self.unknown_closes -= 1
            by_lot[close.opening_id] = close if known is None else _sum(known, close)
        self.closes[first:] = by_lot.values()


def _nothing_of(lot: Lot) -> Lot:
    """The lot with nothing in it; what is not known of it stays so."""
    cost = None if lot.cost is None else ZERO
    return lot._replace(quantity=ZERO, cost=cost, commission=None if lot.commission is None else ZERO, fees=())


def _sum(one: Close, other: Close) -> Close:
    gross = known_total((one.gross_pnl, other.gross_pnl))
    cost = known_total((one.cost, other.cost))
    opening = known_total((one.opening_commission, other.opening_commission))
    closing = known_total((one.closing_commission, other.closing_commission))
    quantity, premium = one.quantity + other.quantity, one.premium + other.premium
    joined = one._replace(quantity=quantity, cost=cost, gross_pnl=gross, premium=premium, fees=plus(one.fees, other.fees))
    return joined._replace(opening_commission=opening, closing_commission=closing)
