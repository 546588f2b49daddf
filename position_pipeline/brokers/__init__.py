"""What a broker is to the rest of the house: something that gives one capture of its accounts, or says why it cannot.

Belongs here: the `Broker` and `Stream` protocols, the values that cross them, and their errors. Each adapter beside this file turns one
broker's answers into `accounting.model` and does nothing else: no database, no decisions about the book, no orders. Adapters are imported
where they are needed, because their libraries are heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Adjustment, Fill, Instrument, Snapshot

__all__ = ["Broker", "BrokerUnavailable", "Capture", "News", "RefusedRow", "Statement", "Stream", "StreamingBroker"]


class BrokerUnavailable(Exception):
    """The broker gave no answer that could be used for any account. The text says what happened; `remedy` says what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} {self.remedy}" if self.remedy else message


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """Something that a broker or a file gave and that could not be taken: where it stood, and why."""

    account: str
    symbol: str
    reason: str


@dataclass(frozen=True, slots=True)
class Capture:
    """One look at a broker: a snapshot per account (complete, partial or rejected) and the fills that it lists.

    `instruments` has an entry for every instrument that a holding or a fill names. `received_at` is when the broker's last byte came.
    """

    broker: str
    received_at: datetime
    snapshots: tuple[Snapshot, ...]
    fills: tuple[Fill, ...] = ()
    instruments: tuple[Instrument, ...] = ()
    refused: tuple[RefusedRow, ...] = ()


class Broker(Protocol):
    """One connection to a broker.

    `name` identifies it (the key in `accounts.connection`), `where` is for messages, `accounts` are those it is configured for (none: all).
    """

    name: str
    where: str
    accounts: tuple[str, ...]

    def capture(self, accounts: Sequence[str] | None, timeout: float) -> Capture:
        """Read the named accounts, or all, within `timeout` seconds.

        An account that could not be read is a rejected snapshot. Raises `BrokerUnavailable` when no account could be.
        """
        ...

    def beside_a_stream(self) -> Broker:
        """The same broker for captures that do not get in the way of a stream."""
        ...


@dataclass(frozen=True, slots=True)
class News:
    """What a stream has heard since it was last asked, several messages joined.

    `fills` are new, completed by their commission, or corrected, in the order in which they came; `held` is the latest quantity of each
    (account, instrument) that was told of. `whole`: everything that was asked for is there, and nothing was missed since; it is False from
    when the broker's link is lost (`lost` says so, once) until all has been asked for again. `heard_at` is when the last byte came.
    """

    heard_at: datetime
    whole: bool
    lost: str = ""
    fills: tuple[Fill, ...] = ()
    instruments: tuple[Instrument, ...] = ()
    held: Mapping[tuple[str, str], Decimal] = field(default_factory=dict)
    refused: tuple[RefusedRow, ...] = ()


class Stream(Protocol):
    """One long-lived connection that tells what happens at a broker. It hears on in a thread of its own while nobody asks.

    `heard_at` is when the last byte came, be it only a sign of life.
    """

    client_id: int
    heard_at: datetime

    def take(self, timeout: float) -> News | None:
        """What was heard since the last call, at once if there is anything; None after `timeout` seconds without any.

        Raises `BrokerUnavailable` when the connection has ended and everything before that was taken.
        """
        ...

    def close(self) -> None:
        """Unsubscribe and disconnect, so that the client id is free. Never raises."""
        ...


class StreamingBroker(Broker, Protocol):
    """A broker that can be listened to."""

    def stream(self, timeout: float) -> Stream:
        """Connect within `timeout` seconds and begin to listen. Raises `BrokerUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class Statement:
    """What one account's part of a statement file says: fills and adjustments of a period, and cash rows kept as they came.

    `notes` count what was passed over (unknown attributes, codes, sections), as (what, how many).
    """

    account: str
    base_currency: str
    broker: str
    from_at: datetime
    to_at: datetime
    fills: tuple[Fill, ...]
    adjustments: tuple[Adjustment, ...]
    instruments: tuple[Instrument, ...]
    cash: tuple[CashRow, ...]
    refused: tuple[RefusedRow, ...] = ()
    notes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class CashRow:
    """One movement of cash that is no trade: dividends, interest, fees, deposits. `amount` is signed text of the broker, exact."""

    account: str
    id: str
    type: str
    currency: str
    amount: str
    time: datetime
    instrument: str = ""
    description: str = ""
