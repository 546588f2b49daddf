"""The pages of an account's book: one position each, with its lots, closes and events, as they are stored.

Belongs here: reading pages and histories, and writing what booking says so that only what is different is written. Does not belong here:
which pages need booking (book.py), the booking itself (accounting.booking).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from position_pipeline.accounting.booking import in_order
from position_pipeline.accounting.model import Fill
from position_pipeline.store import queries, rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from position_pipeline.accounting.model import Close, Entry, Instrument, Lot, Position, PositionEvent
    from position_pipeline.store.connection import Connection, Row
    from position_pipeline.store.rows import Revisions

    Said = tuple[Close, int | None, int | None]
    """All that a row of closes says: the close, and the revisions of its closing and its opening fill."""

T = TypeVar("T")
SQL = queries.load("book")


@dataclass(frozen=True, slots=True)
class Written:
    """What a new booking comes to: positions as they are now, and the closes and events that the book did not say before."""

    positions: Sequence[Position]
    closes: Sequence[Close]
    events: Sequence[PositionEvent]
    revisions: Revisions


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of some instruments.

    `revisions` are those of the fills that opened the stored lots, `places` the numbers that the lots of each instrument are sorted by.
    """

    connection: Connection
    account: str
    instruments: Mapping[str, Instrument]
    positions: dict[str, Position] = field(default_factory=dict)
    revisions: dict[str, int | None] = field(default_factory=dict)
    places: dict[tuple[str, str], int] = field(default_factory=dict)

    def load(self) -> None:
        found = self._rows("lots_of", self.instruments)
        lots: dict[str, list[Lot]] = {}
        for row in found:
            lots.setdefault(row["instrument"], []).append(rows.lot(row))
            self.revisions[row["opening_id"]] = row["opening_revision"]
            self.places[row["instrument"], row["opening_id"]] = row["seq"]
        for row in self._rows("positions_of", self.instruments):
            self.positions[row["instrument"]] = rows.position(row, tuple(lots.get(row["instrument"], ())))

    def histories(self, instruments: Iterable[str]) -> dict[str, tuple[Entry, ...]]:
        """Everything that is believed to have happened to some instruments, in the order of booking."""
        histories: dict[str, list[Entry]] = {instrument: [] for instrument in sorted(instruments)}
        if histories:
            values = {"account": self.account, "instruments": list(histories)}
            for row in self.connection.stream(SQL["believed_executions"], values):
                histories[row["instrument"]].append(rows.fill(row))
            for row in self.connection.stream(SQL["adjustments_of"], values):
                histories[row["instrument"]].append(rows.adjustment(row))
        return {instrument: in_order(history) for instrument, history in histories.items()}

    def supersede(self, instruments: Iterable[str], now: Written, at: datetime) -> Written:
        """Of instruments that were booked anew: mark what the book no longer says; what is left is what it says newly."""
        names = sorted(instruments)
        closes = [(row["id"], _said(row)) for row in self._rows("believed_closes", names)]
        events = [(row["id"], rows.event(row)) for row in self._rows("believed_events", names)]
        gone_closes, new_closes = _compared(closes, [_saying(close, now.revisions) for close in now.closes])
        gone_events, new_events = _compared(events, now.events)
        for statement, ids in (("supersede_closes", gone_closes), ("supersede_events", gone_events)):
            if ids:
                self.connection.execute(SQL[statement], {"ids": ids, "at": at})
        return Written(now.positions, [close for close, _, _ in new_closes], new_events, now.revisions)

    def write(self, now: Written, at: datetime) -> None:
        """Positions and lots that are not as they should be, new closes and new events."""
        positions = [each for each in now.positions if not self._says(each, now.revisions)]
        symbols = {instrument.id: instrument.symbol for instrument in self.instruments.values()}
        many = self.connection.many
        many(SQL["write_positions"], [rows.position_row(each, symbols[each.instrument]) for each in positions])
        self._write_lots(positions, now.revisions)
        many(SQL["add_closes"], [(*rows.close_row(close, now.revisions), at) for close in now.closes])
        many(SQL["add_events"], [(*rows.event_row(event), at) for event in now.events])

    def _write_lots(self, positions: Iterable[Position], revisions: Revisions) -> None:
        """The lots that are not as they should be: a position may have hundreds, and a fill changes one or two of them."""
        gone: list[tuple[str, str]] = []
        moved: list[tuple[str, str, int]] = []
        new: list[tuple[Any, ...]] = []
        for each in positions:
            known = self.positions.get(each.instrument)
            stored = {lot.opening_id: lot for lot in (known.lots if known else ())}
            places = [self.places.get((each.instrument, lot.opening_id)) for lot in each.lots]
            for place, seq, lot in zip(places, numbered(places), each.lots, strict=True):
                if stored.get(lot.opening_id) == lot and self.revisions[lot.opening_id] == revisions[lot.opening_id]:
                    del stored[lot.opening_id]
                    moved += [(each.instrument, lot.opening_id, seq)] if place != seq else []
                else:
                    new.append(rows.lot_row(each, lot, seq, revisions))
            gone += [(each.instrument, opening_id) for opening_id in stored]
        self._change_lots("drop_lots_named", gone)
        self._change_lots("move_lots", moved)
        self.connection.many(SQL["add_lots"], new)

    def _change_lots(self, statement: str, changes: Sequence[tuple[Any, ...]]) -> None:
        if changes:
            columns = dict(zip(("instruments", "ids", "seqs"), map(list, zip(*changes, strict=True)), strict=False))
            self.connection.execute(SQL[statement], {"account": self.account, **columns})

    def _says(self, position: Position, revisions: Revisions) -> bool:
        """Whether the rows of a position are what they should be."""
        return self.positions.get(position.instrument) == position and all(
            self.revisions[lot.opening_id] == revisions[lot.opening_id] for lot in position.lots
        )

    def _rows(self, statement: str, instruments: Iterable[str]) -> list[Row]:
        names = list(instruments)
        return self.connection.rows(SQL[statement], {"account": self.account, "instruments": names}) if names else []


def numbered(places: Sequence[int | None]) -> Sequence[int]:
    """Rising numbers for lots in their order: those that are stored stay, so that closing the oldest of a thousand moves no other.

    Only a new lot between two stored ones, or another order, makes all be numbered anew.
    """
    known = [place for place in places if place is not None]
    if not known:
        return range(len(places))
    front = next(index for index, place in enumerate(places) if place is not None)
    middle = places[front : front + len(known)]
    if list(middle) != known or any(one >= other for one, other in pairwise(known)):
        return range(len(places))
    behind = len(places) - front - len(known)
    return [*range(known[0] - front, known[0]), *known, *range(known[-1] + 1, known[-1] + 1 + behind)]


def revisions_of(*histories: Iterable[Entry]) -> dict[str, int | None]:
    """The entries' ids with their revisions; adjustments have none."""
    return {
        entry.execution_id if isinstance(entry, Fill) else entry.id: entry.revision if isinstance(entry, Fill) else None
        for history in histories
        for entry in history
    }


def _said(row: Row) -> Said:
    return rows.close(row), row["execution_revision"], row["opening_revision"]


def _saying(close: Close, revisions: Revisions) -> Said:
    return close, revisions[close.execution_id], revisions[close.opening_id]


def _compared(stored: Iterable[tuple[int, T]], wanted: Iterable[T]) -> tuple[list[int], list[T]]:
    """(ids of stored values that are not wanted any more, wanted values that are not stored)."""
    missing = dict.fromkeys(wanted)
    gone = []
    for number, value in stored:
        if value in missing:
            del missing[value]
        else:
            gone.append(number)
    return gone, list(missing)
