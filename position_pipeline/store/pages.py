"""The pages of an account's book: one position each, with its lots, closes and events, as they are stored.

Belongs here: reading pages and histories, and writing what booking says so that only what is different is written. Does not belong here:
which pages need booking (book.py), the booking itself (accounting.booking).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from position_pipeline.accounting.booking import in_order
from position_pipeline.accounting.exact import ZERO, exact, total
from position_pipeline.accounting.model import Basis, Fill, Lot, Method
from position_pipeline.store import queries, rows
from position_pipeline.store.checkpoints import ALWAYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Close, Entry, Instrument, Position, PositionEvent
    from position_pipeline.store.connection import Connection, Row
    from position_pipeline.store.rows import Revisions

    Said = tuple[Close, int | None, int | None]
    """All that a row of closes says: the close, and the revisions of its closing and its opening fill."""

T = TypeVar("T")
SQL = queries.load("book")
FIRST_LOTS = 8
"""So many lots are read where a few will do."""
OTHERS = ""
"""The id of the lot that stands for those that are not read: no entry has it."""


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

    def load(self, reach: Mapping[str, Decimal] | None = None) -> None:
        """Read the positions with their lots.

        `reach` is how many units of a position new fills can close at most, where they do nothing else: first in, first out that is some of
        the first lots, and what lies behind them is read as one (see `_first_lots`), so that it does not matter how much is held.
        """
        found = {row["instrument"]: row for row in self._rows("positions_of", self.instruments)}
        lots = self._first_lots([row for id_, row in found.items() if id_ in (reach or ()) and _is_plain(row)], reach or {})
        lots |= {id_: tuple(held) for id_, held, _ in self._lots("held_lots", found.keys() - lots.keys())}
        for id_, row in found.items():
            self.positions[id_] = rows.position(row, lots.get(id_, ()))

    def _first_lots(self, positions: Sequence[Row], reach: Mapping[str, Decimal]) -> dict[str, tuple[Lot, ...]]:
        """By instrument the first lots, and one that stands for all others and that nothing touches; only where they are enough."""
        found: dict[str, tuple[Lot, ...]] = {}
        known = {row["instrument"]: row for row in positions}
        for id_, held, last in self._lots("first_lots", known, FIRST_LOTS):
            if self.places[id_, held[-1].opening_id] == last:
                found[id_] = tuple(held)
            elif total(abs(lot.quantity) for lot in held) >= reach[id_]:
                found[id_] = (*held, _others(known[id_], held))
                self.revisions[OTHERS], self.places[id_, OTHERS] = None, last
        return found

    def _lots(self, statement: str, instruments: Iterable[str], most: int | None = None) -> Iterator[tuple[str, list[Lot], int]]:
        """(instrument, lots, place of the last one) of those that have any."""
        values = {"account": self.account, "instruments": list(instruments), "most": most}
        if not values["instruments"]:
            return
        for instrument, several in groupby(self.connection.tuples(SQL[statement], values), key=itemgetter(0)):
            lots: list[Lot] = []
            last = 0
            for _, last, seq, revision, *held in several:  # noqa: B007  the last of them is what is told
                lots.append(rows.held_lot(held))
                self.revisions[held[0]] = revision
                self.places[instrument, held[0]] = seq
            yield instrument, lots, last

    def histories(self, since: Mapping[str, datetime | None]) -> dict[str, tuple[Entry, ...]]:
        """Everything that is believed to have happened to some instruments after a time each, or at all, in the order of booking."""
        histories: dict[str, list[Entry]] = {instrument: [] for instrument in sorted(since)}
        for values in self._reaches(since):
            for row in self.connection.stream(SQL["believed_executions"], values):
                histories[row["instrument"]].append(rows.fill(row))
            for row in self.connection.stream(SQL["adjustments_of"], values):
                start = since[row["instrument"]]
                if start is None or row["time"] > start:
                    histories[row["instrument"]].append(rows.adjustment(row))
        return {instrument: in_order(history) for instrument, history in histories.items()}

    def supersede(self, since: Mapping[str, datetime | None], now: Written, at: datetime) -> Written:
        """Of instruments that were booked anew after a time each, or from the first entry: mark what the book no longer says.

        What is left is what it says newly.
        """
        closes: list[tuple[int, Said]] = []
        events: list[tuple[int, PositionEvent]] = []
        for values in self._reaches(since):
            closes += [(row["id"], _said(row)) for row in self.connection.rows(SQL["believed_closes"], values)]
            events += [(row["id"], rows.event(row)) for row in self.connection.rows(SQL["believed_events"], values)]
        gone_closes, new_closes = _compared(closes, [_saying(close, now.revisions) for close in now.closes])
        gone_events, new_events = _compared(events, now.events)
        for statement, ids in (("supersede_closes", gone_closes), ("supersede_events", gone_events)):
            if ids:
                self.connection.execute(SQL[statement], {"ids": ids, "at": at})
        return Written(now.positions, [close for close, _, _ in new_closes], new_events, now.revisions)

    def _reaches(self, since: Mapping[str, datetime | None]) -> Iterator[Row]:
        """The values of a statement that reads from a time on, for all instruments of the same time at once."""
        names: dict[datetime | None, list[str]] = {}
        for instrument, start in sorted(since.items()):
            names.setdefault(start, []).append(instrument)
        for start, instruments in names.items():
            yield {"account": self.account, "instruments": instruments, "since": start or ALWAYS}

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


def _is_plain(position: Row) -> bool:
    """Whether the first lots go first, and all of them are known."""
    return bool(position["method"] == Method.FIFO and position["basis_quality"] == Basis.FILLS)


def _others(position: Row, first: Sequence[Lot]) -> Lot:
    """What a position holds besides its first lots, as one lot."""
    with exact():
        quantity = position["quantity"] - total(lot.quantity for lot in first)
        cost = position["cost"] - total(lot.cost or ZERO for lot in first)
        commission = position["open_commission"] - total(lot.commission or ZERO for lot in first)
    return Lot(OTHERS, position["opened_at"], quantity, None, cost, commission, Basis.FILLS)


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
