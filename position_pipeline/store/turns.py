"""Whose turn it is to write to the book of an account: one writer at a time.

Belongs here: the book's lock, which a transaction holds to its end. Does not belong here: the lock of a whole sync (Store.syncing), what is
written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg2.errors import LockNotAvailable, QueryCanceled

from position_pipeline.store import queries

if TYPE_CHECKING:
    from datetime import datetime

    from position_pipeline.store.connection import Connection

SQL = queries.load("book")


class BookBusy(LockNotAvailable):
    """Somebody else writes to an account's book, and is not done in time; the text says whose it is and what to do."""


def lock_account(connection: Connection, account: str) -> datetime:
    """Wait until nobody else writes to the account's book, and keep others out until the transaction ends; when the turn came.

    Raises `BookBusy` after a minute.
    """
    try:
        row = connection.one(SQL["lock_account"], {"account": account})
    except (LockNotAvailable, QueryCanceled):
        raise BookBusy(
            f"the book of account {account} is being written to by another process, most likely an import of a large file; "
            "it was waited for, and nothing was changed. Do it again when the import has ended"
        ) from None
    assert row is not None
    at: datetime = row["at"]
    return at
