"""Taking adjustments back: the book is as if they had never been, and they stay on record, with who took them back and why.

Belongs here: marking them, and booking anew what they are of. Does not belong here: which have to go (withdrawing.py, or a person).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.store import book, queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from position_pipeline.store.book import Change
    from position_pipeline.store.connection import Connection

SQL = queries.load("book")


def reverse(connection: Connection, account: str, ids: Iterable[str], *, by: str, why: str, at: datetime) -> Mapping[str, Change]:
    """Take some adjustments of an account back; the positions that changed by it, also those that took something from them.

    The caller holds the account's lock since `at`. LookupError names the ids that are not known, and then nothing is done; one that was
    taken back before stays as it was. An adjustment that comes again under the id of one that was taken back stays taken back.
    """
    if not why.strip():
        raise ValueError("an adjustment is not taken back without a reason")
    asked = sorted(set(ids))
    known = {row["id"] for row in connection.rows(SQL["known_adjustments"], {"account": account, "ids": asked})}
    unknown = [id_ for id_ in asked if id_ not in known]
    if unknown:
        raise LookupError(f"account {account} has no adjustment {', '.join(unknown)}")
    rows = connection.rows(SQL["reverse_adjustments"], {"account": account, "ids": asked, "by": by, "why": why, "at": at})
    return book.rebook(connection, account, {row["instrument"] for row in rows}, at)
