"""The broker's side of each position, as a proven answer gives it: quantity, average, price, and what could not be read.

Belongs here: writing it where it is not what is stored. Does not belong here: what a difference means (reconciling.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.model import Holding
from position_pipeline.store import queries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from position_pipeline.accounting.model import Snapshot
    from position_pipeline.store.connection import Connection, Row

SQL = queries.load("sync")


def mark(connection: Connection, snapshot: Snapshot, sides: Mapping[str, Row]) -> frozenset[str]:
    """Write the broker's side where it differs from what is stored; the instruments whose quantity or average changed."""
    held = {holding.instrument: holding for holding in snapshot.holdings}
    changed, marked = [], set()
    for instrument, row in sides.items():
        if instrument in snapshot.unread:
            continue
        theirs = held.get(instrument, Holding(instrument, ZERO))
        if (row["broker_quantity"], row["broker_average_price"]) != (theirs.quantity, theirs.average_price):
            marked.add(instrument)
        priced = theirs.market_price is not None and theirs.market_price != row["market_price"]
        if instrument in marked or priced or row["sync_error"]:
            changed.append((snapshot.account, instrument, *_marks(theirs), snapshot.synced_at))
    connection.many(SQL["mark_positions"], changed, template="(%s, %s, %s::numeric, %s::numeric, %s::numeric, %s::timestamptz)")
    unread = [(snapshot.account, i, _error_of(snapshot, i, sides[i]["symbol"])) for i in sorted(snapshot.unread & set(sides))]
    connection.many(SQL["mark_unread"], unread)
    return frozenset(marked)


def _error_of(snapshot: Snapshot, instrument: str, symbol: str) -> str:
    found = (snapshot.errors[name] for name in names_of(instrument, symbol) if name in snapshot.errors)
    return next(found, "what the broker said of it could not be read")


def _marks(holding: Holding) -> tuple[Decimal | None, ...]:
    return (holding.quantity, holding.average_price, holding.market_price)


def names_of(instrument: str, symbol: str) -> tuple[str, ...]:
    """How a snapshot may name an instrument that it could not read: the label may be longer than what was read of it."""
    return (symbol, symbol.partition(" ")[0], f"{symbol} ({instrument})", f"{symbol.partition(' ')[0]} ({instrument})", instrument)
