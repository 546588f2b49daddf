"""What a broker is to the rest of the house: something that gives one capture of its accounts, or says why it cannot.

Belongs here: the `Broker` protocol, the values that cross it, and its errors. Each adapter beside this file turns one broker's answers
into `accounting.model` and does nothing else: no database, no decisions about the book, no orders. Adapters are imported where they are
needed, because their libraries are heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from position_pipeline.accounting.model import Adjustment, Fill, Instrument, Snapshot

__all__ = ["Broker", "BrokerUnavailable", "Capture", "RefusedRow", "Statement"]


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
