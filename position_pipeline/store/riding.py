"""A connection for who is in a hurry: inside a transaction, what nobody reads the result of does not travel alone.

Belongs here: putting statements together. Does not belong here: what they say.

Recording one fill is some twenty statements, and on a busy machine the way there and back costs more than most of them. Half of them
write, or begin and end the transaction: they wait, in their order, and ride with the next statement that is read, or with the COMMIT. What
one of them has to complain about is raised there, still inside the transaction, which is rolled back as a whole. So it is not for code that
goes on in a transaction after an error of one statement, as bulk imports do.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extras import execute_values

from position_pipeline.store.connection import Connection, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from psycopg2.extensions import cursor as Cursor  # noqa: N812  it is a class

    from position_pipeline.store.connection import Row

BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"


class RidingConnection(Connection):
    """As `Connection`; see above."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._waiting: list[bytes] = []
        self._inside = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self._inside or self._raw.info.transaction_status != TRANSACTION_STATUS_IDLE:
            yield
            return
        self._inside, self._waiting = True, [BEGIN]
        try:
            yield
            self._send(b"COMMIT")
        except BaseException:
            self._waiting.clear()
            if not self._raw.closed and self._raw.info.transaction_status != TRANSACTION_STATUS_IDLE:
                with suppress(DatabaseUnavailable):
                    super().execute("ROLLBACK")
            raise
        finally:
            self._inside = False

    def execute(self, sql: str, values: Row | None = None) -> None:
        if not self._inside:
            super().execute(sql, values)
            return
        with self._cursor() as cursor:
            self._waiting.append(cursor.mogrify(sql, values))

    def rows(self, sql: str, values: Row | None = None) -> list[Row]:
        if not self._waiting:
            return super().rows(sql, values)
        with self._cursor() as cursor:
            cursor.execute(self._joined(cursor.mogrify(sql, values)))
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def tuples(self, sql: str, values: Row) -> list[tuple[Any, ...]]:
        if not self._waiting:
            return super().tuples(sql, values)
        with self._cursor() as cursor:
            cursor.execute(self._joined(cursor.mogrify(sql, values)))
            return cursor.fetchall()

    def many(self, sql: str, rows: Iterable[Sequence[Any]], *, template: str | None = None, fetch: bool = False) -> list[Any]:
        if fetch or not self._inside:
            self._flush()
            return super().many(sql, rows, template=template, fetch=fetch)
        rows = list(rows)
        if rows:
            with self._cursor() as cursor:
                execute_values(_Gathering(cursor, self._waiting), sql, rows, template=template, page_size=1000)
        return []

    def copy(self, sql: str, content: IO[bytes]) -> None:
        self._flush()
        super().copy(sql, content)

    def _flush(self) -> None:
        if self._waiting:
            self._send()

    def _send(self, *last: bytes) -> None:
        with self._cursor() as cursor:
            cursor.execute(self._joined(*last))

    def _joined(self, *last: bytes) -> bytes:
        """All that wait, and what they waited for. A line between them, because a statement may end in a comment."""
        together, self._waiting = [*self._waiting, *last], []
        return b"\n;\n".join(together)


class _Gathering:
    """To `execute_values` a cursor: what it would execute waits with the others."""

    def __init__(self, cursor: Cursor, waiting: list[bytes]) -> None:
        self.connection, self.mogrify, self.execute = cursor.connection, cursor.mogrify, waiting.append
