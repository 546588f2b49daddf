"""The use case `verify`: every position is made anew from its first entry, and compared with what is stored, value by value.

A long history is made and compared a stretch at a time, each on what the one before it has left, and never on what is stored.

Belongs here: what is compared, and the words for a difference. Does not belong here: how a book is made (store.rebuilding, accounting).

A difference means that a row was changed by something else than the product, or that the product has a fault. Nothing is repaired.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from position_pipeline import show
from position_pipeline.accounting.exact import ZERO, exact, plain
from position_pipeline.accounting.invariants import violations
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, EventType, PositionEvent
from position_pipeline.collection import without_collection
from position_pipeline.store import checkpoints, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Entry, Lot, Position
    from position_pipeline.store import Store
    from position_pipeline.store.rebuilding import Group, Rebuilt, Stored

    Row = dict[str, Any]
    Key = tuple[str, ...]
    Values = tuple[Any, ...]
    Tell = Callable[[str, int, int], None]
    """Called with the account, how many of its instruments are done, and of how many."""

MOST_DIFFERENCES = 1000
"""So many are kept to be shown; the others are counted."""

KEYS: dict[str, Key] = {"positions": (), "lots": ("opening_id",), "closes": ("execution_id", "opening_id"), "events": ("cause", "type")}
"""What names a row among those of its position."""

AT_THE_END = ("positions", "lots")
"""Tables that show what is held now."""

COLUMNS: dict[str, Key] = {"positions": rows.POSITION, "lots": rows.LOT, "closes": rows.CLOSE, "events": rows.EVENT}


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not what the entries make of it. Without a `column` the whole row is meant."""

    account: str
    symbol: str
    instrument: str
    table: str
    row: str
    column: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and what is not as it should be; `found` counts all differences, of which the first are kept."""

    accounts: int
    positions: int
    entries: int
    closes: int
    found: int
    differences: tuple[Difference, ...]


@without_collection()
def verify(store: Store, accounts: Sequence[str] | None = None, tell: Tell = lambda *_: None) -> Verified:
    """Make every position of some accounts, or of all, anew and compare."""
    named = [row["account"] for row in store.read.accounts() if not accounts or row["account"] in accounts]
    kept: list[Difference] = []
    positions = entries = closes = found = 0
    for account in named:
        for group in store.rebuilding(account):
            for difference in differences(account, group):
                found += 1
                if len(kept) < MOST_DIFFERENCES:
                    kept.append(difference)
            positions += len(group.made) if group.is_last else 0
            entries += sum(len(one.history) for one in group.made)
            closes += sum(len(one.booked.closes) for one in group.made)
            if group.is_last:
                tell(account, group.number, group.of)
    return Verified(len(named), positions, entries, closes, found, tuple(kept))


def differences(account: str, group: Group) -> Iterator[Difference]:
    """All that is not as it should be in one group."""
    made = {one.instrument.id: one for one in group.made}
    for instrument, stored in group.stored.items():
        one = made.get(instrument)
        expected = _expected(one, stored) if one is not None else {}
        tables = _found(stored) if group.is_last else {name: rows for name, rows in _found(stored).items() if name not in AT_THE_END}
        for table, found in tables.items():
            for row, column, should, does in _compared(table, expected.get(table, []), found):
                yield Difference(account, group.symbols[instrument], instrument, table, row, column, should, does)
        for row, column, should, does in _compared_checkpoints(None if group.is_last else one, stored.checkpoints):
            yield Difference(account, group.symbols[instrument], instrument, "checkpoints", row, column, should, does)
        for claim in violations(*_from_flat(one.start, one.history, one.booked)) if one is not None else ():
            yield Difference(account, group.symbols[instrument], instrument, "entries", "", "", "no contradiction", claim)


def _from_flat(start: Position, entries: Iterable[Entry], booked: Booked) -> tuple[tuple[Entry, ...], Booked]:
    """A part of a history that begins at `start` as one from flat: what is held then is as if it had come in there, lot by lot."""
    held = tuple(_as_entry(start, lot) for lot in start.lots)
    events: list[PositionEvent] = []
    quantity = ZERO
    with exact():
        for lot in start.lots:
            after = quantity + lot.quantity
            fields = (start.account, start.instrument, EventType.ADJUSTED, lot.opened_at, quantity, after, start.cycle, lot.opening_id)
            events.append(PositionEvent(*fields))
            quantity = after
    return (*held, *entries), replace(booked, events=(*events, *booked.events))


def _as_entry(position: Position, lot: Lot) -> Adjustment:
    return Adjustment(
        id=lot.opening_id,
        account=position.account,
        instrument=position.instrument,
        kind=AdjustmentKind.OPENING_LOT,
        time=lot.opened_at,
        quantity=lot.quantity,
        currency=position.currency,
        multiplier=position.multiplier,
        cost=lot.cost,
        commission=lot.commission,
        basis=lot.basis,
    )


def _expected(one: Rebuilt, stored: Stored) -> dict[str, Iterable[Values]]:
    """The rows that the tables should have. Without any entry there may be a flat position, which shows the broker's side, or none."""
    position, symbol, revisions = one.booked.position, one.instrument.symbol, one.revisions
    return {
        "positions": [rows.position_row(position, symbol)] if one.history or stored.position else [],
        "lots": (rows.lot_row(position, lot, seq, revisions) for seq, lot in enumerate(position.lots)),
        "closes": (rows.close_row(close, revisions) for close in one.booked.closes),
        "events": map(rows.event_row, one.booked.events),
    }


def _found(stored: Stored) -> dict[str, Sequence[Row]]:
    position = [] if stored.position is None else [stored.position]
    # What counts is the order of the lots; the numbers that keep it may have gaps.
    lots = [{**row, "seq": place} for place, row in enumerate(stored.lots)]
    return {"positions": position, "lots": lots, "closes": stored.closes, "events": stored.events}


def _compared(table: str, expected: Iterable[Values], found: Iterable[Row]) -> Iterator[tuple[str, str, str, str]]:
    """(row, column, expected, found) wherever two lists of rows differ."""
    columns = COLUMNS[table]
    places = [columns.index(name) for name in KEYS[table]]
    wanted = {tuple(row[place] for place in places): row for row in expected}
    for row in found:
        key = tuple(row[name] for name in KEYS[table])
        should = wanted.pop(key, None)
        if should is None:
            yield " ".join(key), "", "no such row", "a row"
            continue
        for name, value in rows.named(columns, should).items():
            if value != row[name]:
                yield " ".join(key), name, _text(value), _text(row[name])
    for key in wanted:
        yield " ".join(key), "", "a row", "no such row"


def _compared_checkpoints(one: Rebuilt | None, found: Iterable[Row]) -> Iterator[tuple[str, str, str, str]]:
    """As `_compared`, of the checkpoints of a stretch: only at its end there may be one, and where there is no `one` there is none."""
    position = None if one is None else one.booked.position
    end = position.last_key[0] if position and position.last_key else None
    for row in found:
        name = row["until_at"].isoformat()
        if one is None or position is None or row["until_at"] != end:
            yield name, "", "no such row", "a row"
            continue
        should, does = (_flattened(state) for state in (checkpoints.state(position, one.revisions), row["state"]))
        for column in sorted(should | does):
            if should.get(column) != does.get(column):
                yield name, column, _text(should.get(column)), _text(does.get(column))


def _flattened(state: Row) -> Row:
    """The figures of a checkpoint by name, with a name for each lot."""
    lots = state.get("lots", ())
    return {name: value for name, value in state.items() if name != "lots"} | {f"lot {lot[0]}": [n, *lot[1:]] for n, lot in enumerate(lots)}


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    return "nothing" if value is None else str(value)


def lines(verified: Verified) -> list[str]:
    """The result in sentences, one for each difference."""
    what = f"{show.counted(verified.positions, 'position')} from {show.counted(verified.entries, 'entry', 'entries')}"
    scope = f"{what} in {show.counted(verified.accounts, 'account')}"
    if not verified.found:
        return [f"The book is what its entries make: {scope}, to the last digit."]
    more = verified.found - len(verified.differences)
    return [
        f"The book is not what its entries make: {show.counted(verified.found, 'difference')} in {scope}.",
        *(f"  {sentence(each)}" for each in verified.differences),
        *([f"  and {more} more"] if more else []),
    ]


def sentence(each: Difference) -> str:
    """One difference, for a person who looks for the row."""
    where = " ".join(filter(None, (each.account, each.symbol, each.table, each.row, each.column)))
    return f"{where}: expected {each.expected}, found {each.found}"


def as_json(verified: Verified, at: datetime) -> Row:
    """The fields of `verify --json`."""
    return {"verified_at": at, "good": not verified.found, **asdict(verified)}
