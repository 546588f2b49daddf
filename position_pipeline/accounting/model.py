"""The words of the product as immutable values: Instrument, Fill, Lot, Position, Close, Adjustment, Holding, Snapshot, Break.

Belongs here: the shape of things and facts that follow from one value alone. Does not belong here: how values change each other
(booking.py, reconciliation.py).

Quantities are signed (a short is negative) except in `Fill`, which has a side. `cost` is signed like its quantity and carries no fees.
Commissions are positive when paid. Times are aware and UTC. A commission that has not come is None, which is not zero.

What comes by the hundred thousand (Fill, Lot, Close, PositionEvent) is a NamedTuple, which is made in a fifth of the time of a frozen
dataclass; everything else is a frozen dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from position_pipeline.accounting.exact import EXACT, ZERO, known_total, ratio, total

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Fees = tuple[tuple[str, Decimal], ...]
"""Commissions in other currencies than the trade's, as (currency, amount), sorted by currency."""


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class Method(StrEnum):
    """Which lots a closing fill consumes."""

    AVERAGE = "average"
    FIFO = "fifo"
    LIFO = "lifo"
    HIFO = "hifo"


class Basis(StrEnum):
    """How we know what a position cost, best first."""

    FILLS = "fills"
    STATEMENT = "statement"
    BROKER = "broker"
    UNKNOWN = "unknown"


_RANK = {basis: rank for rank, basis in enumerate(Basis)}


def weaker(one: Basis, other: Basis) -> Basis:
    """The one of two that says less about a cost."""
    return one if _RANK[one] >= _RANK[other] else other


class AdjustmentKind(StrEnum):
    """Book entries that are no fills."""

    OPENING_BALANCE = "opening_balance"
    OPENING_LOT = "opening_lot"
    EXPIRY = "expiry"
    ASSIGNMENT = "assignment"
    EXERCISE = "exercise"
    CASH_SETTLEMENT = "cash_settlement"
    SPLIT = "split"
    TRANSFER = "transfer"
    CONVERSION_OUT = "conversion_out"
    CONVERSION_IN = "conversion_in"
    SPIN_OFF = "spin_off"
    RETURN_OF_CAPITAL = "return_of_capital"
    REINVESTMENT = "reinvestment"
    FEE_IN_KIND = "fee_in_kind"
    ADOPTED = "adopted"
    DELIVERY = "delivery"
    VOID = "void"


class EventType(StrEnum):
    """What happened to a position."""

    OPENED = "opened"
    INCREASED = "increased"
    REDUCED = "reduced"
    CLOSED = "closed"
    FLIPPED = "flipped"
    SPLIT = "split"
    TRANSFERRED = "transferred"
    ADJUSTED = "adjusted"
    RENAMED = "renamed"
    EXPIRED = "expired"
    ASSIGNED = "assigned"
    EXERCISED = "exercised"


class SnapshotStatus(StrEnum):
    COMPLETE = "complete"
    PARTIAL = "partial"
    REJECTED = "rejected"


class BreakClass(StrEnum):
    """What a difference between book and broker is taken for."""

    TIMING = "timing"
    MISSING_FILL = "missing_fill"
    DUPLICATE_FILL = "duplicate_fill"
    CORRECTION = "correction"
    SPLIT = "split"
    SYMBOL_CHANGE = "symbol_change"
    SPIN_OFF = "spin_off"
    MERGER = "merger"
    OPTION_EVENT = "option_event"
    TRANSFER = "transfer"
    FEE_IN_KIND = "fee_in_kind"
    COST_METHOD = "cost_method"
    OPENING_BALANCE = "opening_balance"
    SNAPSHOT_INCOMPLETE = "snapshot_incomplete"
    UNKNOWN = "unknown"


class Subject(StrEnum):
    """What differs in a break."""

    QUANTITY = "quantity"
    COST = "cost"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is traded. `id` is the broker's name, a colon and the broker's own id (`ibkr:265598`); `symbol` is only a label."""

    id: str
    symbol: str
    sec_type: str
    currency: str
    multiplier: Decimal = Decimal(1)
    exchange: str = ""
    expiry: str = ""
    strike: Decimal | None = None
    right: str = ""
    underlying: str = ""
    description: str = ""

    @property
    def broker(self) -> str:
        return self.id.partition(":")[0]


class Fill(NamedTuple):
    """One execution at the broker, in one of its revisions.

    `execution_id` is the broker's id without its revision; a correction has the same id and a higher `revision`; a bust is a revision
    of quantity 0. `sequence` is the broker's own rising number where it gives one (Flex transactionID): it orders fills of one second.
    `premium_from` names the assignment or exercise whose option premium this share leg carries. `broker_pnl` is the broker's own
    realised P&L of this execution, never used in the book. `closes_lots` names lots that a closing fill consumes before any other, as
    (id of the opening entry, unsigned quantity).
    """

    account: str
    instrument: str
    execution_id: str
    side: Side
    quantity: Decimal
    price: Decimal
    currency: str
    time: datetime
    multiplier: Decimal = Decimal(1)
    commission: Decimal | None = None
    commission_currency: str | None = None
    revision: int = 1
    sequence: int | None = None
    premium_from: str | None = None
    order_id: str = ""
    source: str = ""
    broker_pnl: Decimal | None = None
    closes_lots: tuple[tuple[str, Decimal], ...] = ()

    @property
    def signed_quantity(self) -> Decimal:
        return self.quantity if self.side is Side.BUY else self.quantity.copy_negate()


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A book entry that is no fill.

    `amount` is cash as the account sees it: received is positive, so a short pays a negative one. The meaning of `quantity` depends on
    the kind:

    - `opening_balance`: what we HELD at `time`, all told. Only the part that earlier entries do not explain is booked, so it gives way
      by itself when the real fills arrive. `price` None means that the cost is unknown.
    - `opening_lot`: a lot that was opened at `time`, as its owner or a statement tells; `commission` was paid on it.
    - `expiry`: the change of the position, at `price` 0.
    - `assignment`, `exercise`: the change of the option position; its premium moves to the fill whose `premium_from`, or the `delivery`
      whose `takes_from`, is this `id`. Until that has come, the premium has left the option and is in no position.
    - `cash_settlement`: the change of the position, closed at `price`, the amount paid per unit.
    - `split`: 0; `numerator` units stand for `denominator` before. With `amount` whole units stay and the fraction is paid out for it.
    - `transfer`: the change of the position. Towards zero it is out: lots leave at their cost, nothing is realised. Else it is in: a lot
      at `price` or `cost`, the lots of the transfer that `takes_from` names, or a long of unknown basis.
    - `conversion_out`: the change (all of it for a symbol change or merger); its lots move to the `conversion_in` whose `takes_from` is
      this `id`, which has `numerator` units for `denominator` of the other instrument. `amount` is cash received besides.
    - `conversion_in`: the change as the broker states it, or 0. With `amount` whole units stay, as in a split.
    - `spin_off`: 0; the part `share` (0 to 1) of the cost of each lot moves to the `conversion_in` that takes from it.
    - `return_of_capital`: 0; `amount` lowers the cost. `reinvestment`: 0; `amount` raises it (a notional distribution).
    - `fee_in_kind`: the change of the position; units go, the total cost stays.
    - `adopted`: what the broker HELD at `time`, in `held`; `quantity` is the change that nothing explained when it was written. Only what
      earlier entries do not explain is booked, in either direction: what comes in at `price` (basis `broker`) or at an unknown cost, what
      goes out for an unknown amount. Unlike an opening balance it is as old as its `time`.
    - `delivery`: the change of the shares that an assignment or exercise, named in `takes_from`, delivers at `price`, with its premium, or
      with its part of that where it books a part.
    - `void`: 0; the fill named in `takes_from`, in all its revisions, stands for nothing: it is in the book twice, under two ids.

    `held` is set in what was inferred from a snapshot: it is what the broker held of `instrument` right after the event. Such an entry
    brings the position to `held` and no further, and (but for `adopted`) never does more than it says, so that it books nothing of what
    earlier entries explain, and gives way to them by itself, in whatever order they come: no fact has to be before the snapshot but by
    its `time`. A split, which cannot be done in part, is done where it leads nearer to `held`. A spin-off goes by the `held` of the
    `conversion_in` that takes from it. It says nothing in an opening balance and in a void. See inferred.py.
    """

    id: str
    account: str
    instrument: str
    kind: AdjustmentKind
    time: datetime
    quantity: Decimal
    currency: str
    multiplier: Decimal = Decimal(1)
    price: Decimal | None = None
    cost: Decimal | None = None
    commission: Decimal | None = ZERO
    basis: Basis = Basis.UNKNOWN
    sequence: int | None = None
    numerator: Decimal | None = None
    denominator: Decimal | None = None
    amount: Decimal | None = None
    share: Decimal | None = None
    takes_from: str | None = None
    held: Decimal | None = None
    source: str = ""
    evidence: str = ""


Entry = Fill | Adjustment


class Lot(NamedTuple):
    """An open part of a position. `price` is per unit, `cost` the total (signed, no fees); both None when the basis is unknown."""

    opening_id: str
    opened_at: datetime
    quantity: Decimal
    price: Decimal | None
    cost: Decimal | None
    commission: Decimal | None
    basis: Basis
    fees: Fees = ()


class Close(NamedTuple):
    """A realised part: one closing entry against one lot, or against the average.

    `quantity` has the sign of the position that it closed; `cost` is what the closed part had cost. `exit_price` is None where it is not
    known what was paid, `gross_pnl` when the basis of the lot is unknown or that is; a commission is None until it has come, and
    `net_pnl` is None when one of them is. `partial` says that the position stayed open.
    """

    account: str
    instrument: str
    execution_id: str
    opening_id: str
    cycle: int
    closed_at: datetime
    opened_at: datetime
    quantity: Decimal
    entry_price: Decimal | None
    exit_price: Decimal | None
    cost: Decimal | None
    gross_pnl: Decimal | None
    opening_commission: Decimal | None
    closing_commission: Decimal | None
    currency: str
    method: Method
    basis: Basis
    partial: bool
    premium: Decimal = ZERO
    fees: Fees = ()

    @property
    def net_pnl(self) -> Decimal | None:
        if self.gross_pnl is None or self.opening_commission is None or self.closing_commission is None:
            return None
        return EXACT.subtract(EXACT.subtract(self.gross_pnl, self.opening_commission), self.closing_commission)


class PositionEvent(NamedTuple):
    """One step in the life of a position; `cycle` counts the times it was opened from flat; `cause` is a fill's or adjustment's id."""

    account: str
    instrument: str
    type: EventType
    at: datetime
    quantity_before: Decimal
    quantity_after: Decimal
    cycle: int
    cause: str


OrderKey = tuple["datetime", int, float, str]


@dataclass(frozen=True, slots=True)
class Position:
    """What the book says we hold of one instrument in one account.

    `realized_gross`, `opening_commission` and `closing_commission` are sums over the closes whose figures are known; `unknown_closes`
    counts the others. `last_key` orders the last entry booked: a later one extends the position, an earlier one needs a replay.
    """

    account: str
    instrument: str
    currency: str
    multiplier: Decimal = Decimal(1)
    method: Method = Method.FIFO
    lots: tuple[Lot, ...] = ()
    realized_gross: Decimal = ZERO
    opening_commission: Decimal = ZERO
    closing_commission: Decimal = ZERO
    unknown_closes: int = 0
    cycle: int = 0
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    last_key: OrderKey | None = None

    @property
    def quantity(self) -> Decimal:
        return total(lot.quantity for lot in self.lots)

    @property
    def cost(self) -> Decimal | None:
        """Cost of the open lots without fees; None when that of one of them is unknown."""
        return known_total(lot.cost for lot in self.lots)

    @property
    def open_commission(self) -> Decimal:
        """Commissions paid on the open lots, as far as they have come, in the currency of the trades."""
        return total(lot.commission for lot in self.lots if lot.commission is not None)

    @property
    def basis(self) -> Basis:
        """The weakest basis of the open lots; `fills` when flat."""
        return max((lot.basis for lot in self.lots), key=_RANK.__getitem__, default=Basis.FILLS)

    @property
    def average_price(self) -> Decimal | None:
        """Cost per unit, without multiplier and fees; derived, never state."""
        quantity, cost = self.quantity, self.cost
        return None if cost is None or not quantity else ratio(cost, EXACT.multiply(quantity, self.multiplier))

    @property
    def realized_net(self) -> Decimal:
        return EXACT.subtract(EXACT.subtract(self.realized_gross, self.opening_commission), self.closing_commission)


@dataclass(frozen=True, slots=True)
class Holding:
    """What the broker says we hold of one instrument. `average_price` is per unit without multiplier; `raw_average_cost` is as it came."""

    instrument: str
    quantity: Decimal
    average_price: Decimal | None = None
    raw_average_cost: Decimal | None = None
    market_price: Decimal | None = None
    market_value: Decimal | None = None
    unrealized_pnl: Decimal | None = None


@dataclass(frozen=True, slots=True)
class AccountValue:
    """One figure that the broker gives of an account as a whole: `value` is its text, `currency` may be empty or `BASE`."""

    tag: str
    value: str
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One complete, partial or rejected answer of a broker for one account.

    Only a complete or partial one may touch the book. A partial one names the symbols it could not read in `errors`; `unread` are their
    instruments, which keep their positions. A rejected one has a `reason` that says what happened and what to do. `source_at` is
    the broker's clock, to the second, where it told it; `taken_at` is by ours, but by the broker's where the two differ by more than some
    seconds: fills are timed by the broker's, and have to be before or after an answer. `received_at` is by ours even then.
    """

    account: str
    broker: str
    taken_at: datetime
    status: SnapshotStatus
    holdings: tuple[Holding, ...] = ()
    values: tuple[AccountValue, ...] = ()
    reason: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()
    source_at: datetime | None = None
    received_at: datetime | None = None

    @property
    def synced_at(self) -> datetime:
        """When we had the answer, by our clock: what ages are counted from."""
        return self.received_at or self.taken_at

    @property
    def proven(self) -> bool:
        return self.status is not SnapshotStatus.REJECTED


@dataclass(frozen=True, slots=True)
class Break:
    """A difference between book and broker in one instrument of one account, or (`instrument` None) in the account as a whole.

    `signs` are the independent observations that speak for `cls`, each in words and figures. `proposed` are the adjustments that carry out
    the `proposal`, empty where a person has to bring a fact. `cause` is the same for all breaks of one cause. `expected_clear_at` is when a
    break that may clear by itself should have done so. `impact` is what the difference is worth, unsigned, in `impact_currency`; None
    where no price is known.
    """

    account: str
    instrument: str | None
    subject: Subject
    cls: BreakClass
    book_quantity: Decimal | None
    broker_quantity: Decimal | None
    evidence: str
    proposal: str = ""
    signs: tuple[str, ...] = ()
    proposed: tuple[Adjustment, ...] = ()
    cause: str = ""
    expected_clear_at: datetime | None = None
    impact: Decimal | None = None
    impact_currency: str | None = None
