"""The sums behind the cash identity, for every position of the book.

Belongs here: which positions SQL adds up by itself, and which are added up entry by entry. Does not belong here: what the sums mean
(accounting.cash).

One statement adds up all positions that fills, openings and the ends of options have made, which is nearly all, in one go. Lots that were
scaled, handed over or repriced need the history: those positions are folded, and the sums are taken of the stored rows.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from position_pipeline.accounting.invariants import cash_flow_of
from position_pipeline.accounting.results import Booked
from position_pipeline.store import queries, rows
from position_pipeline.store.book import id_of
from position_pipeline.store.rebuilding import groups, rebuilt, stored

if TYPE_CHECKING:
    from position_pipeline.accounting.model import Position
    from position_pipeline.store.connection import Connection, Row
    from position_pipeline.store.rebuilding import Rebuilt, Stored

SQL = queries.load("read")


def cash_flows(connection: Connection) -> list[Row]:
    """One row a position: what it is, and the fields of `accounting.cash.CashFlow`."""
    summed = {(row["account"], row["instrument"]): row for row in connection.rows(SQL["cash_flows"])}
    restated: dict[str, set[str]] = {}
    for row in connection.rows(SQL["restated"]):
        restated.setdefault(row["account"], set()).add(row["instrument"])
    for account, instruments in restated.items():
        for group in groups(connection, account):
            if not instruments.isdisjoint(group):
                summed |= _added_up(connection, account, group, summed)
    return list(summed.values())


def _added_up(
    connection: Connection, account: str, group: tuple[str, ...], summed: dict[tuple[str, str], Row]
) -> dict[tuple[str, str], Row]:
    found = stored(connection, account, group)
    return {
        (account, one.instrument.id): {**summed[account, one.instrument.id], **_sums(one, found[one.instrument.id])}
        for one in rebuilt(connection, account, group)
        if (account, one.instrument.id) in summed
    }


def _sums(one: Rebuilt, of: Stored) -> Row:
    """Of what is stored, with what only a fold can tell of the way to it."""
    assert of.position is not None, "a row of sums is one of a position"
    ids = {id_of(entry) for entry in one.history}
    position: Position = rows.position(of.position, tuple(map(rows.lot, of.lots)))
    closes = tuple(close for close in map(rows.close, of.closes) if close.execution_id in ids)
    events = tuple(event for event in map(rows.event, of.events) if event.cause in ids)
    made = one.booked
    flow = cash_flow_of(one.history, Booked(position, closes, events, made.carries, made.moves, made.refused))
    return asdict(replace(flow, realized=position.realized_net))
