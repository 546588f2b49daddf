"""One connection to PostgreSQL: its session settings, its transactions, and how to write many rows.

Belongs here: psycopg2. Does not belong here: what is written (book.py, syncing.py) or read (reading.py).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extras import RealDictCursor, execute_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Row = dict[str, Any]

SESSION = {
    "timezone": "UTC",
    "statement_timeout": "60s",
    "lock_timeout": "60s",
    # A process that hangs in the middle of a write must not keep the account's lock for ever.
    "idle_in_transaction_session_timeout": "60s",
}


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached; the text says where (without the password) and what to do."""


class Connection:
    """A thin shell over one psycopg2 connection in autocommit; `transaction()` makes the transactions."""

    def __init__(self, url: str) -> None:
        options = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
        try:
            self._raw = psycopg2.connect(url, connect_timeout=10, application_name="position_pipeline", options=options)
        except (psycopg2.OperationalError, psycopg2.ProgrammingError) as error:
            raise DatabaseUnavailable(_explain(url, error)) from None
        self._raw.autocommit = True

    @property
    def raw(self) -> psycopg2.extensions.connection:
        return self._raw

    def close(self) -> None:
        self._raw.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block or nothing of it; a block within a block is part of the outer one."""
        if self._raw.info.transaction_status != TRANSACTION_STATUS_IDLE:
            yield
            return
        self.execute("BEGIN")
        try:
            yield
        except BaseException:
            if not self._raw.closed:
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def execute(self, sql: str, values: Row | None = None) -> None:
        with self._raw.cursor() as cursor:
            cursor.execute(sql, values)

    def rows(self, sql: str, values: Row | None = None) -> list[Row]:
        with self._raw.cursor(cursor_factory=RealDictCursor) as cursor:
            cursor.execute(sql, values)
            return [dict(row) for row in cursor.fetchall()]

    def one(self, sql: str, values: Row | None = None) -> Row | None:
        found = self.rows(sql, values)
        return found[0] if found else None

    def many(
        self, sql: str, rows: Iterable[Sequence[Any]], *, template: str | None = None, fetch: bool = False
    ) -> list[Any]:
        """Run a statement whose `VALUES %s` takes all the rows, a thousand at a time."""
        rows = list(rows)
        if not rows:
            return []
        with self._raw.cursor() as cursor:
            found = execute_values(cursor, sql, rows, template=template, page_size=1000, fetch=fetch)
        return list(found or [])


def _explain(url: str, error: Exception) -> str:
    where = url.rpartition("@")[2].partition("?")[0] or "the given DATABASE_URL"
    said = " ".join(str(error).split())
    return f"PostgreSQL at {where} cannot be used: {said} Check DATABASE_URL and that the server runs; position-pipeline doctor shows both."
