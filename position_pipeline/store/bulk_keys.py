"""Foreign keys of empty tables, checked once at the end of a large delivery instead of row by row.

Belongs here: when that is allowed, and doing it. Does not belong here: what is delivered (bulk.py).

A foreign key asks for each row by itself, two thirds of the time that PostgreSQL takes for a fill with its results. Where the tables are
empty the keys can be dropped and made again in the same transaction: they are checked over all rows together then, and if one fails
nothing of the delivery is kept. Tables that have rows keep their keys, because dropping one shuts out everybody who reads.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg2.errors import InsufficientPrivilege, LockNotAvailable

from position_pipeline.store import queries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from position_pipeline.store.connection import Connection, Row

BULK = queries.load("bulk")


@contextmanager
def checked_at_the_end(connection: Connection) -> Iterator[bool]:
    """Within it rows of empty tables are not checked for what they refer to, after it they are; whether it is so. In a transaction."""
    keys = _dropped(connection)
    yield bool(keys)
    if keys:
        # Of tables that were empty a moment ago the planner knows nothing, and would sort what it can hash; so would who reads them next.
        connection.execute(BULK["analyze"])
    for key in keys:
        connection.execute(f"ALTER TABLE {key['table']} ADD CONSTRAINT {key['name']} {key['definition']}")


def _dropped(connection: Connection) -> list[Row]:
    """The foreign keys, which are gone; none of them where others are at work or have been."""
    connection.execute("SAVEPOINT keys")
    try:
        connection.execute(BULK["lock_for_keys"])
    except (InsufficientPrivilege, LockNotAvailable):
        connection.execute("ROLLBACK TO SAVEPOINT keys")
        return []
    if connection.one(BULK["anything"]):
        connection.execute("ROLLBACK TO SAVEPOINT keys")
        return []
    keys = connection.rows(BULK["foreign_keys"])
    for key in keys:
        connection.execute(f"ALTER TABLE {key['table']} DROP CONSTRAINT {key['name']}")
    return keys
