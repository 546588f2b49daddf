"""The sums behind the cash identity, for every position of the book.

Belongs here: which positions SQL adds up by itself, and which are added up entry by entry. Does not belong here: what the sums mean
(accounting.cash).

One statement adds up all positions that plain fills, openings and expiries have made, which is nearly all, in one go. Where lots were
changed, moved or named, or something is not known, it takes the history: those positions are folded, and the sums are taken of the
stored rows.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from position_pipeline.accounting.invariants import cash_flow_of
from position_pipeline.accounting.results import Booked
from position_pipeline.store import queries, rows
from position_pipeline.store.histories import id_of
from position_pipeline.store.rebuilding import groups, rebuilt, stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from position_pipeline.accounting.model import Position
    from position_pipeline.store.connection import Connection, Row
    from position_pipeline.store.rebuilding import Rebuilt, Stored

SQL = queries.load("read")
AT_A_TIME = 200
"""Instruments that are folded together."""


def cash_flows(connection: Connection) -> list[Row]:
    """One row a position: what it is, and the fields of `accounting.cash.CashFlow`."""
    summed = {(row["account"], row["instrument"]): row for row in connection.rows(SQL["cash_flows"])}
    to_fold: dict[str, set[str]] = {}
    for row in connection.rows(SQL["to_fold"]):
        to_fold.setdefault(row["account"], set()).add(row["instrument"])
    for account, instruments in to_fold.items():
        for batch in _batches(group for group in groups(connection, account) if not instruments.isdisjoint(group)):
            for one, of in _folded(connection, account, batch):
                summed[account, one.instrument.id] |= _sums(one, of)
    return list(summed.values())


def _batches(groups: Iterable[Sequence[str]]) -> Iterator[list[str]]:
    """Some groups at a time, because most are small and each costs a few round trips."""
    batch: list[str] = []
    for group in groups:
        batch += group
        if len(batch) >= AT_A_TIME:
            yield batch
            batch = []
    if batch:
        yield batch


def _folded(connection: Connection, account: str, batch: Sequence[str]) -> Iterator[tuple[Rebuilt, Stored]]:
    """The positions that there are, as their entries make them and as they are stored."""
    found = stored(connection, account, batch)
    return ((one, found[one.instrument.id]) for one in rebuilt(connection, account, batch) if found[one.instrument.id].position)


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
