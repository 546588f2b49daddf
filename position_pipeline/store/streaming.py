"""What a listener keeps in the database besides fills: the health of each stream, its gaps, and syncs that are asked for.

Belongs here: the rows of `streams`, `stream_gaps` and `sync_requests`, and the locks that go with them. Does not belong here: fills
(Store.record), and deciding when a stream is whole (listener).
"""

from __future__ import annotations

import json
import os
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg2 import InterfaceError, OperationalError
from psycopg2.extras import Json

from position_pipeline.accounting.reconciliation import NOT_BOOKED
from position_pipeline.store import queries
from position_pipeline.store.connection import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.store.connection import Connection, Row

SQL = queries.load("stream")

LONGEST_SILENCE = "60s"
"""A listener writes its sign of life every few seconds; one that is silent for so long hangs, and loses its lock."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A sync that was asked for: `new` by this call, else it stood already; `picked` when somebody is carrying it out."""

    id: int
    picked: bool
    new: bool


@dataclass(frozen=True, slots=True)
class Request:
    """A sync to be carried out; `account` None means all."""

    id: int
    account: str | None


class Streaming:
    """Rows and locks of streams and of sync requests, over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- a stream's lock and health

    def take(self, connection: str) -> bool:
        """Become the one listener of a connection, until the database connection ends; False where there is one already."""
        row = self._connection.one(SQL["try_stream_lock"], {"connection": connection})
        held = row is not None and bool(row["held"])
        if held:
            self._connection.execute(SQL["end_when_idle"], {"after": LONGEST_SILENCE})
        return held

    def give_back(self, connection: str) -> None:
        self._connection.execute(SQL["stream_unlock"], {"connection": connection})

    def begin(self, connection: str) -> Row | None:
        """Start a stream's row anew; what it said before, None where there was none."""
        with self._connection.transaction():
            before = self._connection.one(SQL["stream"], {"connection": connection})
            self._connection.execute(SQL["begin_stream"], {"connection": connection, "pid": os.getpid()})
        return before

    def beat(self, values: Mapping[str, Any]) -> None:
        """Write a stream's health; the names are the columns of `streams`."""
        self._connection.execute(SQL["beat"], dict(values))

    def streams(self) -> list[Row]:
        """Every stream with `alive` and its open gap."""
        return self._connection.rows(SQL["streams"])

    def is_listened_to(self, connection: str) -> bool:
        """Whether a listener lives that hears a connection, or is about to."""
        row = self._connection.one(SQL["is_listened_to"], {"connection": connection})
        return row is not None and bool(row["it_is"])

    # -- gaps

    def open_gap(self, connection: str, opened_at: datetime, cause: str) -> None:
        """The stream may have missed something since `opened_at`. A gap that is open already stays, and has to be healed again."""
        self._connection.execute(SQL["open_gap"], {"connection": connection, "opened_at": opened_at, "cause": cause})

    def heal_gap(self, connection: str, found: Mapping[str, Any]) -> None:
        """A sync has read the broker whole since the gap's end."""
        self._connection.execute(SQL["heal_gap"], {"connection": connection, "found": Json(found, dumps=json.dumps)})

    def close_gap(self, connection: str) -> bool:
        """Close a healed gap if positions and executions agree over it; whether it is closed now."""
        return self._connection.one(SQL["close_gap"], {"connection": connection}) is not None

    def gap_may_close(self, connection: str) -> bool:
        """Whether one more answer of the broker may close a healed gap; if not, only a fact from elsewhere or a person can."""
        row = self._connection.one(SQL["gap_may_close"], {"connection": connection})
        return row is not None and bool(row["may"])

    def open_gap_of(self, connection: str) -> Row | None:
        return self._connection.one(SQL["open_gap_of"], {"connection": connection})

    # -- holdings against the book

    def differing(self, held: Mapping[tuple[str, str], Decimal]) -> set[tuple[str, str]]:
        """Which holdings, by (account, instrument), are not what the book says."""
        if not held:
            return set()
        values = {
            "accounts": [account for account, _ in held],
            "instruments": [instrument for _, instrument in held],
            "quantities": list(held.values()),
            "not_booked": sorted(NOT_BOOKED),
        }
        return {(row["account"], row["instrument"]) for row in self._connection.rows(SQL["differing_holdings"], values)}

    # -- syncs that are asked for

    def ask_sync(self, account: str | None, by: str) -> Asked | None:
        """Ask for a sync of an account, or of all, and wake who waits for it. None: the one that stood was finished in this moment."""
        with self._connection.transaction():
            row = self._connection.one(SQL["ask_sync"], {"account": account, "by": by})
            if row is not None and row["new"]:
                self._connection.execute(SQL["notify_request"])
        return Asked(**row) if row else None

    def pick_sync(self, connections: Sequence[str], by: str, *, besides: Sequence[int] = ()) -> Request | None:
        """The oldest open request that these connections can carry out and nobody is carrying out; it is ours until `finish_sync`.

        It is ours by a lock of this session: if we die before it is finished, another picks it. `besides` are ours already.
        """
        with self._connection.transaction():
            for row in self._connection.rows(SQL["open_requests"], {"connections": list(connections), "besides": list(besides)}):
                lock = self._connection.one(SQL["try_request_lock"], {"id": row["id"]})
                if lock is not None and lock["held"]:
                    self._connection.execute(SQL["pick_request"], {"id": row["id"], "by": by})
                    return Request(**row)
        return None

    def left_alone(self) -> list[Row]:
        """The open requests, as id and account, for which no listener is there."""
        return self._connection.rows(SQL["left_alone"])

    def finish_sync(self, request: Request, outcome: str, result: Sequence[Mapping[str, Any]]) -> None:
        """Keep what came of a request, and be done with it."""
        values = {"id": request.id, "outcome": outcome, "result": Json(list(result), dumps=_as_json)}
        self._connection.execute(SQL["finish_request"], values)
        self._connection.execute(SQL["request_unlock"], {"id": request.id})

    def listen_for_requests(self) -> None:
        """From now on `wait` ends when a sync is asked for."""
        self._connection.execute(SQL["listen_for_requests"])

    def wait(self, seconds: float) -> bool:
        """Wait until a sync is asked for or the time is up; whether one was."""
        raw = self._connection.raw
        try:
            raw.poll()
            came = bool(raw.notifies) or bool(select.select([raw], [], [], seconds)[0])
            raw.poll()
        except (OperationalError, InterfaceError):
            raise DatabaseUnavailable("PostgreSQL is gone while a request was waited for. Check that the server runs.") from None
        raw.notifies.clear()
        return came


def _as_json(value: object) -> str:
    return json.dumps(value, default=str)
