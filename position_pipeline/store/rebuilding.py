"""The book made anew from its entries: as it should be now, as it was at a time, as it was believed at a time.

Belongs here: reading histories, and folding them an instrument group at a time. Does not belong here: comparing what comes out with what
is stored (verify), writing anything.

A group is an instrument, with all that exchange premiums or lots with it. Only one is in memory at a time, and of one that may have
checkpoints only a stretch of its history, with its open lots.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from position_pipeline.accounting.booking import fold, in_order, order_key
from position_pipeline.accounting.reconciliation import NOT_BOOKED
from position_pipeline.store import queries, rows
from position_pipeline.store.checkpoints import ALWAYS, allowed
from position_pipeline.store.histories import flat_positions, fold_histories, id_of
from position_pipeline.store.instruments import described
from position_pipeline.store.pages import Pages, revisions_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Entry, Instrument, Position
    from position_pipeline.store.connection import Connection, Row
    from position_pipeline.store.rows import Revisions

    Stretch = tuple[Sequence["Rebuilt"], Mapping[str, "Stored"], Mapping[str, str], bool]

SQL = queries.load("past")
BOOK = queries.load("book")
STRETCH = 2000
"""Entries of one instrument that are looked at together, at least."""

_time = attrgetter("time")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """One position from `start` on, which is flat where `history` is all of it: what happened, and what booking makes of it."""

    instrument: Instrument
    start: Position
    history: tuple[Entry, ...]
    booked: Booked
    revisions: Revisions


@dataclass(frozen=True, slots=True)
class Stored:
    """The rows of one position as the tables have them; `closes` and `events` are those that are believed."""

    position: Row | None = None
    lots: Sequence[Row] = ()
    closes: Sequence[Row] = ()
    events: Sequence[Row] = ()
    checkpoints: Sequence[Row] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """One group of linked instruments, the `number`th `of` all: what its entries make, and what is stored.

    Or a stretch of the history of an instrument that is linked to none. Where it is not the last one, nothing is stored of the position
    as it is then, but perhaps a checkpoint.
    """

    number: int
    of: int
    made: Sequence[Rebuilt]
    stored: Mapping[str, Stored]
    symbols: Mapping[str, str]
    is_last: bool = True


def side_by_side(connection: Connection, account: str) -> Iterator[Group]:
    """All groups of an account, one after the other, and large ones stretch by stretch."""
    found = groups(connection, account)
    known = described(connection, {instrument for group in found for instrument in group})
    booked = [id_ for id_, instrument in known.items() if instrument.sec_type not in NOT_BOOKED]
    alone = allowed(connection, account, booked)
    for number, group in enumerate(found, 1):
        symbols = {id_: known[id_].symbol for id_ in group}
        if group[0] in alone:
            yield from (Group(number, len(found), *stretch) for stretch in _stretches(connection, account, known[group[0]]))
        else:
            made = tuple(rebuilt(connection, account, group))
            yield Group(number, len(found), made, stored(connection, account, group), symbols)


def _stretches(connection: Connection, account: str, instrument: Instrument) -> Iterator[Stretch]:
    """The fields of a group for each stretch of the history of one instrument, read as it goes along."""
    values = {"account": account, "instruments": [instrument.id], "since": ALWAYS}
    closes, events, marks = (
        _Upto(connection.stream(BOOK[statement], values, statement), column)
        for statement, column in (("believed_closes", "closed_at"), ("believed_events", "at"), ("checkpoints_of", "until_at"))
    )
    position, carries = flat_positions(connection, account, [instrument])[instrument.id], None
    revisions: dict[str, int | None] = {}
    symbols = {instrument.id: instrument.symbol}
    for entries, until in _cut(_entries(connection, values), _ends(connection, values)):
        revisions = {lot.opening_id: revisions[lot.opening_id] for lot in position.lots} | revisions_of(entries)
        booked = fold(position, entries, carries)
        made = Rebuilt(instrument, position, entries, booked, revisions)
        position, carries = booked.position, booked.carries
        now = _now(connection, values) if until is None else (None, ())
        stored_ = Stored(*now, closes.until(until), events.until(until), marks.until(until))
        yield (made,), {instrument.id: stored_}, symbols, until is None


def _entries(connection: Connection, values: Row) -> Iterator[Entry]:
    """All that happened to one instrument, by time."""
    adjustments = sorted(map(rows.adjustment, connection.rows(BOOK["adjustments_of"], values)), key=_time)
    return merge(map(rows.fill, connection.stream(BOOK["believed_executions"], values, "entries")), adjustments, key=_time)


def _ends(connection: Connection, values: Row) -> list[datetime]:
    return [row["until_at"] for row in connection.rows(BOOK["ends_of_checkpoints"], values)]


def _now(connection: Connection, values: Row) -> tuple[Row | None, Sequence[Row]]:
    return connection.one(BOOK["positions_of"], values), connection.rows(BOOK["lots_of"], values)


def _cut(entries: Iterable[Entry], ends: Sequence[datetime]) -> Iterator[tuple[tuple[Entry, ...], datetime | None]]:
    """Stretches of entries that come by time, in order, each with the time of its last entry (None: it is the last stretch).

    They are cut where a checkpoint ends, and where they are long enough; never within a moment.
    """
    stretch: list[Entry] = []
    place = 0
    for at, moment in groupby(entries, key=_time):
        passed = place
        while place < len(ends) and ends[place] < at:
            place += 1
        if stretch and (place > passed or len(stretch) >= STRETCH):
            yield tuple(stretch), stretch[-1].time
            stretch = []
        stretch += sorted(moment, key=order_key)
    yield tuple(stretch), None


class _Upto:
    """Rows that come by time, taken bit by bit."""

    def __init__(self, found: Iterator[Row], column: str) -> None:
        self._found, self._column = found, column
        self._next = next(found, None)

    def until(self, at: datetime | None) -> list[Row]:
        """Those that are not later, or all that are left."""
        taken: list[Row] = []
        while self._next is not None and (at is None or self._next[self._column] <= at):
            taken.append(self._next)
            self._next = next(self._found, None)
        return taken


def groups(connection: Connection, account: str) -> list[tuple[str, ...]]:
    """The instruments of an account that have entries or rows of results, those that are linked together."""
    found = {row["instrument"]: {row["instrument"]} for row in connection.rows(SQL["instruments_of"], {"account": account})}
    for row in connection.rows(SQL["links"], {"account": account}):
        one, other = found[row["taker"]], found[row["giver"]]
        if one is not other:
            one |= other
            for instrument in other:
                found[instrument] = one
    distinct = {id(group): tuple(sorted(group)) for group in found.values()}
    return sorted(distinct.values())


def rebuilt(
    connection: Connection,
    account: str,
    group: Sequence[str],
    *,
    as_of: datetime | None = None,
    known_at: datetime | None = None,
) -> Iterator[Rebuilt]:
    """The positions of one group, from the entries until `as_of`, as they were known at `known_at`; None means all and now."""
    instruments = {id_: i for id_, i in described(connection, group).items() if i.sec_type not in NOT_BOOKED}
    histories = _histories(connection, account, instruments, known_at)
    if as_of is not None:
        histories = {id_: tuple(entry for entry in history if entry.time <= as_of) for id_, history in histories.items()}
    flat = flat_positions(connection, account, instruments.values(), known_at)
    for booked in fold_histories(histories, flat):
        instrument = booked.position.instrument
        history = histories[instrument]
        yield Rebuilt(instruments[instrument], flat[instrument], history, booked, revisions_of(*histories.values()))


def before(connection: Connection, account: str, instrument: str, entry_id: str, *, known_at: datetime | None) -> Position:
    """The position as the entry of an id found it, from what was known at a time."""
    group = next(group for group in groups(connection, account) if instrument in group)
    instruments = {i.id: i for i in described(connection, group).values() if i.sec_type not in NOT_BOOKED}
    histories = _histories(connection, account, instruments, known_at)
    (key,) = (order_key(entry) for entry in histories[instrument] if id_of(entry) == entry_id)
    until = {id_: tuple(entry for entry in history if order_key(entry) < key) for id_, history in histories.items()}
    booked = fold_histories(until, flat_positions(connection, account, instruments.values(), known_at))
    return next(each.position for each in booked if each.position.instrument == instrument)


def _histories(
    connection: Connection, account: str, instruments: Mapping[str, Instrument], known_at: datetime | None
) -> dict[str, tuple[Entry, ...]]:
    if known_at is None:
        return Pages(connection, account, instruments).histories(dict.fromkeys(instruments))
    return _known(connection, account, instruments, known_at)


def _known(connection: Connection, account: str, instruments: Mapping[str, Instrument], at: datetime) -> dict[str, tuple[Entry, ...]]:
    """The histories as they were known at a time: revisions, completions and adjustments that came later are not in them."""
    values = {"account": account, "instruments": sorted(instruments), "at": at}
    histories: dict[str, list[Entry]] = {instrument: [] for instrument in sorted(instruments)}
    if histories:
        for row in connection.stream(SQL["executions_known"], values):
            histories[row["instrument"]].append(rows.fill_as_known(row, at))
        for row in connection.rows(SQL["adjustments_known"], values):
            histories[row["instrument"]].append(rows.adjustment(row))
    return {instrument: in_order(history) for instrument, history in histories.items()}


def stored(connection: Connection, account: str, group: Sequence[str]) -> dict[str, Stored]:
    """What the tables have of the positions of one group."""
    values = {"account": account, "instruments": list(group), "since": ALWAYS}
    of: dict[str, dict[str, list[Row]]] = {name: {id_: [] for id_ in group} for name in _ROWS}
    for name, by_instrument in of.items():
        for row in connection.stream(BOOK[name], values):
            by_instrument[row["instrument"]].append(row)
    positions, *others = (of[name] for name in _ROWS)
    return {id_: Stored(next(iter(positions[id_]), None), *(each[id_] for each in others)) for id_ in group}


_ROWS = ("positions_of", "lots_of", "believed_closes", "believed_events", "checkpoints_of")
