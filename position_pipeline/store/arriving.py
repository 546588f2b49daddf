"""Fills and adjustments as they arrive: what is wrong by itself is sifted out, what is new is stored, what is known is completed.

Belongs here: rows of `executions` and `adjustments` that are written. Does not belong here: which of two deliveries is believed
(accounting.arrivals), what becomes of the positions (book.py), the same for very many fills (bulk_arrivals.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from position_pipeline.accounting.arrivals import contradictions, sift
from position_pipeline.accounting.faults import faults
from position_pipeline.store import queries, rows
from position_pipeline.store.histories import id_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from position_pipeline.accounting.arrivals import Arrivals, Conflict
    from position_pipeline.accounting.model import Adjustment, Entry, Fill
    from position_pipeline.store.connection import Connection
    from position_pipeline.store.refusals import Refused

SQL = queries.load("book")
E = TypeVar("E", bound="Entry")


def sifted_out(entries: Sequence[E]) -> tuple[list[E], list[Refused]]:
    """(the entries that may be stored, those that are wrong by themselves)."""
    found = [(entry, faults(entry)) for entry in entries]
    good = [entry for entry, wrong in found if not wrong]
    return good, [(entry.instrument, f"{id_of(entry)}: {'; '.join(wrong)}") for entry, wrong in found if wrong]


def store_fills(connection: Connection, account: str, fills: Sequence[Fill], at: datetime) -> Arrivals:
    values = {"account": account, "ids": [fill.execution_id for fill in fills]}
    found = map(rows.fill, connection.each(SQL["known_executions"], values)) if fills else ()
    arrivals = sift({(fill.execution_id, fill.revision): fill for fill in found}, fills)
    connection.many(SQL["add_executions"], [(*rows.execution_row(fill), at) for fill in arrivals.new])
    completed = [(*rows.completion_row(fill), at) for fill in arrivals.completed]
    connection.many(SQL["complete_executions"], completed, template=rows.COMPLETION)
    return arrivals


def store_adjustments(
    connection: Connection, account: str, adjustments: Sequence[Adjustment], at: datetime
) -> tuple[tuple[Adjustment, ...], tuple[Conflict, ...]]:
    """(those that are new, those that contradict a known one)."""
    if not adjustments:
        return (), ()
    found = connection.rows(SQL["known_adjustments"], {"account": account, "ids": [entry.id for entry in adjustments]})
    known = {row["id"]: rows.adjustment(row) for row in found}
    new: dict[str, Adjustment] = {}
    for entry in adjustments:
        if entry.id not in known:
            new.setdefault(entry.id, entry)
    connection.many(SQL["add_adjustments"], [(*rows.adjustment_row(entry), at) for entry in new.values()])
    return tuple(new.values()), contradictions({**known, **new}, adjustments)
