"""What could not be booked, and why: kept once, told by symbol, and resolved when what was missing has come.

Belongs here: the rows of `rejects` that recording writes. Does not belong here: what is refused (accounting.faults, accounting.booking).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from position_pipeline.store import queries
from position_pipeline.store.instruments import described

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from position_pipeline.accounting.booking import Booked
    from position_pipeline.store.connection import Connection
    from position_pipeline.store.pages import Pages

SQL = queries.load("book")
Refused = tuple[str, str]
"""(instrument, reason)"""


def by_symbol(connection: Connection, refused: Sequence[Refused]) -> tuple[tuple[str, str], ...]:
    """What was refused as (symbol, reason)."""
    known = described(connection, {instrument for instrument, _ in refused}) if refused else {}
    return tuple((known[instrument].symbol if instrument in known else instrument, reason) for instrument, reason in refused)


def keep_refusals(
    connection: Connection, pages: Pages, booked: Sequence[Booked], replayed: Iterable[str], at: datetime
) -> tuple[tuple[str, str], ...]:
    """Keep what booking refused, until what was missing has come; as (symbol, reason)."""
    found = tuple(
        (pages.instruments[each.position.instrument].symbol, f"{one.entry_id}: {one.reason}") for each in booked for one in each.refused
    )
    values = {reject_id(pages.account, *row): (pages.account, *row, "booking") for row in found}
    connection.many(SQL["keep_refusals"], [(digest, *row) for digest, row in values.items()])
    symbols = sorted(pages.instruments[instrument].symbol for instrument in replayed)
    if symbols:
        connection.execute(SQL["resolve_refusals"], {"account": pages.account, "symbols": symbols, "ids": list(values), "at": at})
    return found


def reject_id(account: str, symbol: str, reason: str) -> str:
    """The same refused row gives the same id, so that it is kept once."""
    return hashlib.sha256(f"{account}\x1f{symbol}\x1f{reason}".encode()).hexdigest()[:24]
