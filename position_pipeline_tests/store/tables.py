"""Looking at the tables from outside: what the product believes, and which rows it has written again.

Belongs here: reading rows as they are stored. Does not belong here: expectations.
"""

from __future__ import annotations

import json
import select
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.extras import RealDictCursor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from position_pipeline.store import Store

BELIEVED = {
    "executions": "SELECT * FROM executions",
    "adjustments": "SELECT * FROM adjustments",
    "rejects": "SELECT account, symbol, reason FROM rejects WHERE resolved_at IS NULL",
    "positions": "SELECT * FROM positions",
    "lots": "SELECT l.*, row_number() OVER (PARTITION BY account, instrument ORDER BY seq) AS place FROM lots l",
    "closes": "SELECT * FROM closes WHERE superseded_at IS NULL",
    "position_events": "SELECT * FROM position_events WHERE superseded_at IS NULL",
}
# Numbers that the database hands out, when it did something, and whose it is.
UNTOLD = {"seq", "id", "recorded_at", "reversed_at", "believed_at", "earlier", "account"}
TABLES = (*BELIEVED, "accounts", "instruments", "breaks", "holdings")


def query(url: str, sql: str, values: Any = None) -> list[dict[str, Any]]:
    """Rows by a connection of the test's own."""
    connection = psycopg2.connect(url, cursor_factory=RealDictCursor)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql, values)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []
    finally:
        connection.close()


def rows(store: Store, sql: str, values: Any = None) -> list[dict[str, Any]]:
    return store._connection.rows(sql, values)


def believed(store: Store, account: str | None = None) -> dict[str, list[str]]:
    """What the book says now, as text; numbers without the zeros that PostgreSQL keeps behind the point."""
    of = "(%(account)s::text IS NULL OR account = %(account)s)"
    found = {
        table: rows(store, f"SELECT to_jsonb(r) AS row FROM ({sql}) r WHERE {of}", {"account": account}) for table, sql in BELIEVED.items()
    }
    return {table: sorted(_plain(each["row"], account or "") for each in several) for table, several in found.items()}


def _plain(row: dict[str, Any], account: str) -> str:
    """The row as text, without its account, which may be in names too."""
    text = " ".join(f"{name}={_digits(value)}" for name, value in sorted(row.items()) if name not in UNTOLD)
    return text.replace(account, "") if account else text


def _digits(value: Any) -> str:
    text = str(value)
    return text.rstrip("0").rstrip(".") if "." in text and text.lstrip("-").replace(".", "", 1).isdigit() else text


@contextmanager
def listening(url: str) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Listens to the store; gives a function that tells all that was heard until now."""
    listener = psycopg2.connect(url)
    listener.autocommit = True
    listener.cursor().execute("LISTEN position_pipeline")

    def heard() -> list[dict[str, Any]]:
        query(url, "NOTIFY position_pipeline, 'so far'")
        while not listener.notifies or listener.notifies[-1].payload != "so far":
            assert select.select([listener], [], [], 10)[0], "nothing is heard"
            listener.poll()
        return [json.loads(note.payload) for note in listener.notifies if note.payload != "so far"]

    yield heard
    listener.close()


def versions(store: Store, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    """Which transaction wrote each row: the same before and after means that no row was added, dropped or written again."""
    return {table: sorted(tuple(row.values()) for row in rows(store, f"SELECT ctid::text, xmin::text FROM {table}")) for table in tables}
