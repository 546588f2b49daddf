"""Whole histories: which instruments have to be folded together, from which flat positions, and the folding.

Belongs here: what everybody needs who folds from the first entry on - recording, verifying, other cost methods, what would be without an
entry. Does not belong here: reading the entries (pages.py), how far a history has to be folded again (book.py).
"""

from __future__ import annotations

from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING

from position_pipeline.accounting.booking import fold_together, order_key
from position_pipeline.accounting.model import Fill, Method, Position
from position_pipeline.store import queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Entry, Instrument
    from position_pipeline.store.connection import Connection

SQL = queries.load("book")


def id_of(entry: Entry) -> str:
    """A fill's execution id, an adjustment's own."""
    return entry.execution_id if isinstance(entry, Fill) else entry.id


def linked_with(connection: Connection, account: str, instruments: frozenset[str]) -> frozenset[str]:
    """The instruments and all that exchange premiums or lots with them, directly or not."""
    if not instruments:
        return instruments
    found = connection.rows(SQL["linked_instruments"], {"account": account, "instruments": sorted(instruments)})
    linked = instruments.union(row["instrument"] for row in found)
    return linked if linked == instruments else linked_with(connection, account, linked)


def flat_positions(
    connection: Connection, account: str, instruments: Iterable[Instrument], known_at: datetime | None = None
) -> dict[str, Position]:
    """Positions of which nothing is booked yet, each with its method, now or as it was set at a time."""
    row = connection.one(SQL["account"], {"account": account})
    if row is None:
        raise LookupError(f"account {account} is not known: it is added before its fills are recorded")
    earlier = (each for each in row["earlier_methods"] if known_at and known_at < datetime.fromisoformat(each["until"]))
    set_ = next(earlier, row)
    default, methods = set_["cost_method"], set_["cost_methods"]
    return {i.id: Position(account, i.id, i.currency, i.multiplier, Method(methods.get(i.sec_type, default))) for i in instruments}


def fold_histories(histories: Mapping[str, Sequence[Entry]], flat: Mapping[str, Position]) -> list[Booked]:
    """Fold whole histories together, because premiums and lots pass between them."""
    entries = sorted(chain.from_iterable(histories.values()), key=order_key)
    return list(fold_together({instrument: flat[instrument] for instrument in histories}, entries).values())
