"""The book made anew from its entries: as it should be now, as it was at a time, as it was believed at a time.

Belongs here: reading histories, and folding them an instrument group at a time. Does not belong here: comparing what comes out with what
is stored (verify), writing anything.

A group is an instrument, with all that exchange premiums or lots with it. Only one is in memory at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from position_pipeline.accounting.booking import in_order, order_key
from position_pipeline.accounting.reconciliation import NOT_BOOKED
from position_pipeline.store import queries, rows
from position_pipeline.store.book import described, flat_positions, fold_histories, id_of
from position_pipeline.store.pages import Pages, revisions_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Entry, Instrument, Position
    from position_pipeline.store.connection import Connection, Row
    from position_pipeline.store.rows import Revisions

SQL = queries.load("past")
BOOK = queries.load("book")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """One position from its first entry on: what happened, and what booking makes of it."""

    instrument: Instrument
    history: tuple[Entry, ...]
    booked: Booked
    revisions: Revisions


@dataclass(frozen=True, slots=True)
class Stored:
    """The rows of one position as the tables have them; `closes` and `events` are those that are believed."""

    position: Row | None
    lots: Sequence[Row]
    closes: Sequence[Row]
    events: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Group:
    """One group of linked instruments, the `number`th `of` all: what its entries make, and what is stored."""

    number: int
    of: int
    made: Sequence[Rebuilt]
    stored: Mapping[str, Stored]
    symbols: Mapping[str, str]


def side_by_side(connection: Connection, account: str) -> Iterator[Group]:
    """All groups of an account, one after the other."""
    found = groups(connection, account)
    for number, group in enumerate(found, 1):
        symbols = {instrument.id: instrument.symbol for instrument in described(connection, group).values()}
        made = tuple(rebuilt(connection, account, group))
        yield Group(number, len(found), made, stored(connection, account, group), symbols)


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
        yield Rebuilt(instruments[instrument], history, booked, revisions_of(*histories.values()))


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
        return Pages(connection, account, instruments).histories(instruments)
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
    values = {"account": account, "instruments": list(group)}
    of: dict[str, dict[str, list[Row]]] = {name: {id_: [] for id_ in group} for name in _ROWS}
    for name, by_instrument in of.items():
        for row in connection.stream(BOOK[name], values):
            by_instrument[row["instrument"]].append(row)
    positions, lots, closes, events = (of[name] for name in _ROWS)
    return {id_: Stored(next(iter(positions[id_]), None), lots[id_], closes[id_], events[id_]) for id_ in group}


_ROWS = ("positions_of", "lots_of", "believed_closes", "believed_events")
