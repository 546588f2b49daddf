"""What reconciliation is told besides a snapshot, and what it answers: both sides, the recent past, the rules, the verdicts.

Belongs here: the shape of these values. Does not belong here: how verdicts are reached (reconciliation.py, causes), where the
values come from and what is done with the answer (store).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from position_pipeline.accounting.model import AccountValue, Adjustment, Break, BreakClass, Fill, Holding, Method, Subject


@dataclass(frozen=True, slots=True)
class BookSide:
    """What the book says of one instrument, what it rests on, and what the broker said of it before.

    `cost` (signed, no fees; None: unknown) and `open_commission` are of the open lots; `costs` is what they would
    cost by other methods, where that has been worked out. `before` is the broker's side as the last proven
    snapshot before this one gave it, with its price; None where no snapshot has named the instrument. `opened_at` is when the book came to
    hold what it holds. `first_entry_at`, `bought` and `sold` are of its entries; `listed`: all of them are fills that the broker has
    listed to us, so that what they do not explain was there before them. Only first contact asks for these.
    """

    quantity: Decimal
    cost: Decimal | None = None
    open_commission: Decimal = ZERO
    method: Method | None = None
    costs: Mapping[Method, Decimal] = field(default_factory=dict)
    before: Holding | None = None
    opened_at: datetime | None = None
    first_entry_at: datetime | None = None
    bought: Decimal = ZERO
    sold: Decimal = ZERO
    listed: bool = True


@dataclass(frozen=True, slots=True)
class CorporateAction:
    """An action that is known from elsewhere: `numerator` units stand for `denominator` from `effective_at` on; `source` has told it.

    `kind` is the class of break that it explains (split, symbol_change, merger, spin_off); `into` is the other instrument, if there is one.
    """

    instrument: str
    kind: BreakClass
    effective_at: datetime
    numerator: Decimal | None = None
    denominator: Decimal | None = None
    into: str | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """A break that stands, as it was last seen, and how things were before it. There is one for each instrument and subject.

    `seen` counts the proven snapshots that showed it, `seen_whole` the complete ones among them. `adopted` names the adjustment by which
    the book follows the broker, and `booked` is what that one books today: 0 once other entries explain all of it. `changed_at` is when
    its figures last changed; only an adopted one needs it, because a new difference in its instrument has a window of its own.
    `stood_since` is when the instrument began to differ at all, whatever its figures were then; None where it is `first_seen_at`.
    `dismissed`: a person wants to hear of it again only when its figures change.

    `agreed_at`, `before` and `values` are of the last proven snapshot before `first_seen_at` (of an adopted one: before `changed_at`):
    its time, its holding of the instrument, and its account values. None and empty where there was none.
    """

    id: str
    instrument: str | None
    subject: Subject
    cls: BreakClass
    first_seen_at: datetime
    seen: int
    book_quantity: Decimal | None
    broker_quantity: Decimal | None
    adopted: str | None = None
    booked: Decimal = ZERO
    changed_at: datetime | None = None
    stood_since: datetime | None = None
    seen_whole: int = 0
    dismissed: bool = False
    agreed_at: datetime | None = None
    before: Holding | None = None
    values: tuple[AccountValue, ...] = ()


@dataclass(frozen=True, slots=True)
class Recent:
    """The recent past of one account: what a difference may be explained by.

    `fills` are those in the book of the last seven days, and all since the oldest `agreed_at` of a standing break; the latest revision of
    each. They are of ALL instruments of the account, because what cash did is read from them; longer ago, only those of the differing
    instruments and of their underlyings matter. `corrected` are pairs (earlier revision, latest revision) of those that were corrected or
    busted. `actions` are known from the statements of other accounts. `elsewhere` are differences (broker less book) of the same
    instruments in other accounts of the same broker, as (account, difference): those that are open, and those that ended as a transfer in
    the last days, because the two accounts of a transfer are looked at one after the other.
    `values` are the account's totals in the last proven snapshot before this one, which was taken at `proven_before`. `prices` are last
    known prices of instruments that neither side holds, such as the underlying of an option.
    """

    fills: tuple[Fill, ...] = ()
    corrected: tuple[tuple[Fill, Fill], ...] = ()
    actions: tuple[CorporateAction, ...] = ()
    standing: tuple[Standing, ...] = ()
    elsewhere: Mapping[str, tuple[tuple[str, Decimal], ...]] = field(default_factory=dict)
    values: tuple[AccountValue, ...] = ()
    proven_before: datetime | None = None
    prices: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done about differences that nothing explains.

    A difference is left alone for `window` and until `snapshots` proven snapshots have shown it; then it is adopted, or left open where
    `adopts` is false. A position that is gone altogether is never adopted away: only with `closes_missing` it is closed, once so many
    complete snapshots in a row have shown it gone, without waiting for the window. Where more than the share `vanishing` of the
    open positions is gone at once, and always where all are gone, nothing is closed, adopted or explained away for them.
    """

    adopts: bool = True
    closes_missing: bool = False
    window: timedelta = timedelta(minutes=15)
    snapshots: int = 2
    vanishing: Decimal = Decimal("0.5")


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """`agreed` are the instruments in which both sides hold the same; each of the others has adjustments, or a break, or both.

    `adjustments` are to be booked now. `breaks` are all that stand after that: a standing break that is not among them is resolved, unless
    its instrument could not be read. One that was adopted stays among them, with quantities that agree, while its adjustment still
    books something. `resolved` are differences that `adjustments` explain and end at once, each with its class, signs and evidence,
    for the record. `alarm` is empty, or says that so much vanished at once that nothing was closed.
    """

    agreed: frozenset[str]
    adjustments: tuple[Adjustment, ...]
    breaks: tuple[Break, ...]
    resolved: tuple[Break, ...] = ()
    alarm: str = ""
