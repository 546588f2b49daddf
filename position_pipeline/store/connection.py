"""One connection to PostgreSQL: its session settings, its transactions, and how to write many rows.

Belongs here: psycopg2. Does not belong here: what is written (recording.py, syncing.py) or read (reading.py).
"""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, parse_dsn
from psycopg2.extras import execute_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from psycopg2.extensions import cursor as Cursor  # noqa: N812  it is a class

Row = dict[str, Any]
COPY_PIECE = 1 << 20

SESSION = {
    "timezone": "UTC",
    "statement_timeout": "60s",
    "lock_timeout": "60s",
    # A process that hangs in the middle of a write must not keep the account's lock for ever.
    "idle_in_transaction_session_timeout": "60s",
    # Nor one that was killed in the middle of a long statement, or whose machine is gone.
    "client_connection_check_interval": "2s",
    "tcp_keepalives_idle": "30s",
    "tcp_keepalives_interval": "10s",
    "tcp_keepalives_count": "3",
}

ROWS_A_FETCH = 5000


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached, or went away; the text says where (without the password) and what to do."""


class Connection:
    """A thin shell over one psycopg2 connection in autocommit; `transaction()` makes the transactions."""

    def __init__(self, url: str) -> None:
        ours = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
        try:
            options = f"{parse_dsn(url).get('options', '')} {ours}"
            self._raw = psycopg2.connect(url, connect_timeout=10, application_name="position_pipeline", options=options)
        except (psycopg2.OperationalError, psycopg2.ProgrammingError) as error:
            raise DatabaseUnavailable(_explain(url, error)) from None
        self._raw.autocommit = True
        self._where = _where(url)

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
        # Whatever the server's default is: with a snapshot of the whole transaction, what was committed while we waited for an
        # advisory lock would stay unseen.
        self.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        try:
            yield
        except BaseException:
            if not self._raw.closed:
                with suppress(DatabaseUnavailable):
                    self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """All reads of the block see the database as it was at the first of them."""
        self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            # Nothing is locked by it, so that it may take its time.
            self.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield
        finally:
            if not self._raw.closed:
                with suppress(DatabaseUnavailable):
                    self.execute("ROLLBACK")

    @contextmanager
    def _cursor(self) -> Iterator[Cursor]:
        try:
            with self._raw.cursor() as cursor:
                yield cursor
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            if not self._raw.closed:
                raise
            raise DatabaseUnavailable(f"PostgreSQL at {self._where} is gone: {_said(error)} Check that the server runs.") from None

    def execute(self, sql: str, values: Row | None = None) -> None:
        with self._cursor() as cursor:
            cursor.execute(sql, values)

    def rows(self, sql: str, values: Row | None = None) -> list[Row]:
        with self._cursor() as cursor:
            cursor.execute(sql, values)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def each(self, sql: str, values: Row) -> Iterator[Row]:
        """As `rows`, one after the other: for what is made into something smaller at once."""
        with self._cursor() as cursor:
            cursor.execute(sql, values)
            names = [column.name for column in cursor.description or ()]
            for row in cursor:
                yield dict(zip(names, row, strict=True))

    def tuples(self, sql: str, values: Row) -> list[tuple[Any, ...]]:
        """As `rows`, where columns are known by their order: for the many small rows that every recording reads."""
        with self._cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()

    def stream(self, sql: str, values: Row, name: str = "stream") -> Iterator[Row]:
        """The rows some thousands at a time, so that they are never all in memory; within a transaction, one by one under each name."""
        self.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {sql}", values)
        is_full = True
        while is_full:
            found = self.rows(f"FETCH {ROWS_A_FETCH} FROM {name}")
            yield from found
            is_full = len(found) == ROWS_A_FETCH
        self.execute(f"CLOSE {name}")

    def one(self, sql: str, values: Row | None = None) -> Row | None:
        found = self.rows(sql, values)
        return found[0] if found else None

    def many(self, sql: str, rows: Iterable[Sequence[Any]], *, template: str | None = None, fetch: bool = False) -> list[Any]:
        """Run a statement whose `VALUES %s` takes all the rows, a thousand at a time."""
        rows = list(rows)
        if not rows:
            return []
        with self._cursor() as cursor:
            found = execute_values(cursor, sql, rows, template=template, page_size=1000, fetch=fetch)
        return list(found or [])

    def copy(self, sql: str, content: IO[bytes]) -> None:
        """Run a `COPY .. FROM STDIN`."""
        with self._cursor() as cursor:
            cursor.copy_expert(sql, content, COPY_PIECE)


def _explain(url: str, error: Exception) -> str:
    said = _without_secrets(_said(error), url).replace(" Is the server", ". Is the server")
    return (
        f"PostgreSQL at {_where(url)} cannot be used: {said}{'' if said.endswith(('.', '?')) else '.'} "
        "Check DATABASE_URL and that the server runs; position-pipeline doctor shows both."
    )


def _where(url: str) -> str:
    return url.rpartition("@")[2].partition("?")[0] or "the given DATABASE_URL"


def _said(error: Exception) -> str:
    return " ".join(str(error).split())


def _without_secrets(said: str, url: str) -> str:
    """A URL that cannot be read is quoted by libpq in pieces, and a piece may be of the password."""
    secret = url.partition("://")[2].rpartition("@")[0].partition(":")[2] + url.partition("?")[2]
    return re.sub(r'"([^"]+)"', lambda quoted: '"..."' if quoted[1] in secret else quoted[0], said)
