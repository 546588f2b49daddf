"""Which recorded fills no broker's answer has been held against yet.

Belongs here: how far each account's fills are verified, and waiting for news of more. Does not belong here: when a sync is asked for
because of them (defs.sensors), what a sync does (syncing).

Ids of `executions` are given before a transaction commits, so that over all accounts a later id may be seen earlier. Within one account
they are not: a fill is stored under the account's book lock, which is held until the commit. So the mark is kept for each account, in
`accounts.verified_to`, and is read under that lock.
"""

from __future__ import annotations

import select
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg2 import InterfaceError, OperationalError

from position_pipeline.store import queries
from position_pipeline.store.connection import DatabaseUnavailable

if TYPE_CHECKING:
    from position_pipeline.store.connection import Connection

SQL = queries.load("verification")

STOPPING = "position_pipeline_stopping"


@dataclass(frozen=True, slots=True)
class Unverified:
    """An account with fills that are not verified: those with ids above `verified_to`, `up_to` the last of them."""

    account: str
    verified_to: int
    up_to: int


class Verification:
    """The marks, over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.stopping = False

    def known(self, account: str) -> int:
        """A number that every recorded fill of the account is below or at, and every later one above; asked before the broker is."""
        row = self._connection.one(SQL["known"], {"account": account})
        assert row is not None
        return int(row["known"])

    def advance(self, account: str, known: int, own: int) -> None:
        """A proven answer, asked for when fills up to `known` were recorded, was held against the book, with `own` fills of its own.

        Where nobody else recorded one in the meantime, the answer speaks for all that there are. The caller holds the account's book lock.
        """
        row = self._connection.one(SQL["since"], {"account": account, "known": known})
        assert row is not None
        up_to = max(known, row["last"]) if row["fills"] == own else known
        self._connection.execute(SQL["advance"], {"account": account, "up_to": up_to})

    def outstanding(self) -> list[Unverified]:
        """The accounts of brokers' connections that have fills to verify."""
        return [Unverified(**row) for row in self._connection.rows(SQL["outstanding"])]

    def listen(self) -> None:
        """From now on `wait` ends when something is recorded, a sync is asked for, or everything is about to be stopped."""
        self._connection.execute(SQL["listen"])

    def wait(self, seconds: float) -> bool:
        """Wait for news, but not longer than this; whether there is any. Raises `DatabaseUnavailable`."""
        raw = self._connection.raw
        try:
            raw.poll()
            came = bool(raw.notifies) or bool(select.select([raw], [], [], seconds)[0])
            raw.poll()
        except (OperationalError, InterfaceError):
            raise DatabaseUnavailable("PostgreSQL is gone while fills were waited for. Check that the server runs.") from None
        self.stopping = self.stopping or any(notice.channel == STOPPING for notice in raw.notifies)
        raw.notifies.clear()
        return came

    def stop_waiting(self) -> None:
        """End every `wait` of every process: nobody has to wait for it who wants to stop. It sets `stopping` there."""
        self._connection.execute(SQL["stop_waiting"])
