"""The use case `verify`: every position is made anew from its first entry, and compared with what is stored, value by value.

Belongs here: what is compared, and the words for a difference. Does not belong here: how a book is made (store.rebuilding, accounting).

A difference means that a row was changed by something else than the product, or that the product has a fault. Nothing is repaired.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from position_pipeline import show
from position_pipeline.accounting.exact import plain
from position_pipeline.accounting.invariants import violations
from position_pipeline.store import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

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
            positions += len(group.made)
            entries += sum(len(one.history) for one in group.made)
            closes += sum(len(one.booked.closes) for one in group.made)
            tell(account, group.number, group.of)
    return Verified(len(named), positions, entries, closes, found, tuple(kept))


def differences(account: str, group: Group) -> Iterator[Difference]:
    """All that is not as it should be in one group."""
    made = {one.instrument.id: one for one in group.made}
    for instrument, stored in group.stored.items():
        one = made.get(instrument)
        expected = _expected(one, stored) if one is not None else {}
        for table, found in _found(stored).items():
            for row, column, should, does in _compared(table, expected.get(table, []), found):
                yield Difference(account, group.symbols[instrument], instrument, table, row, column, should, does)
        for claim in violations(one.history, one.booked) if one is not None else ():
            yield Difference(account, group.symbols[instrument], instrument, "entries", "", "", "no contradiction", claim)


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
