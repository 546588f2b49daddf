"""The use case of taking in files: a whole file is read and understood before the first row of it is stored.

Belongs here: which reader a file needs, and what an import did. Does not belong here: the formats (brokers.flex, brokers.opening_lots), the
rows (store).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from position_pipeline import show
from position_pipeline.accounting.model import Instrument
from position_pipeline.brokers.flex import StatementError, read_statements
from position_pipeline.brokers.opening_lots import SOURCE, read_opening_lots

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from position_pipeline.brokers import Statement
    from position_pipeline.store import Store

    Tell = Callable[[str, int, int], None]
    """Called with what is done, how much of it, and of how much."""

__all__ = ["Imported", "StatementError", "as_row", "import_file", "lines"]

ZONE = ZoneInfo("America/New_York")
MOST_LINES = 8
"""Refused rows, and kinds of notes, that are told to a person."""

LARGEST_FILE = 1_000_000_000
"""Bytes. A file beyond it is no statement, and would fill the memory."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What one account's part of a file brought. Rows that were there already are counted apart and changed nothing.

    `refused` and `waiting` (kept, until the broker's next answer decides about what was inferred in their place) are (symbol, reason).
    """

    file: str
    statement: Statement
    new_account: bool
    fills: int
    completed: int
    adjustments: int
    cash: int
    positions: int
    refused: tuple[tuple[str, str], ...]
    waiting: tuple[tuple[str, str], ...] = ()


def import_file(store: Store, path: Path, cost_method: str, tell: Tell) -> list[Imported]:
    """Take in one file, all of it or nothing. Raises `StatementError` with the line or the element that is wrong."""
    tell(f"Reading {path.name}", 0, 0)
    content = _content(path)
    found = _read(store, content, path.name)
    digest = hashlib.sha256(content).hexdigest()
    imported: list[Imported] = []
    with store.whole_import():
        for done, statement in enumerate(found):
            tell(f"Booking {statement.account}", done, len(found))
            imported.append(_import_statement(store, statement, path.name, digest, cost_method))
    tell(f"Booked {path.name}", len(found), len(found))
    return imported


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise StatementError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) > LARGEST_FILE:
        raise StatementError(f"{path}: is larger than {LARGEST_FILE:,} bytes; ask for a shorter period")
    return content


def _read(store: Store, content: bytes, name: str) -> tuple[Statement, ...]:
    """Text whose first line has columns is a file of opening lots; everything else has to be a Flex statement."""
    head = content.lstrip(b"\xef\xbb\xbf \r\n\t")
    first = head.partition(b"\n")[0]
    if head.startswith(b"<") or not any(mark in first for mark in (b",", b";", b"\t")):
        return read_statements(content, name=name)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StatementError(f"{name}: is neither XML nor UTF-8 text (byte {error.start})") from None
    return read_opening_lots(text, name, _known_instruments(store))


def _known_instruments(store: Store) -> dict[str, Instrument]:
    """What the book has positions in, open or closed: of these a person need only give the id."""
    rows = store.read.positions(all_=True)
    names = ("symbol", "sec_type", "currency", "multiplier")
    return {row["instrument"]: Instrument(row["instrument"], *(row[name] for name in names)) for row in rows}


def _import_statement(store: Store, statement: Statement, file: str, digest: str, cost_method: str) -> Imported:
    new = store.add_account(statement.account, statement.broker, base_currency=statement.base_currency or None, cost_method=cost_method)
    recorded = store.record(statement.account, statement.fills, statement.adjustments, statement.instruments)
    cash = store.save_cash([(c.account, c.id, c.type, c.currency, c.amount, c.time, c.instrument, c.description) for c in statement.cash])
    refused = (*((row.symbol, row.reason) for row in statement.refused), *recorded.refused)
    store.save_rejects([(statement.account, symbol, reason) for symbol, reason in refused], file)
    imported = Imported(
        file, statement, new, recorded.fills, recorded.completed, recorded.adjustments, cash, len(recorded.changes), refused,
        recorded.waiting,
    )  # fmt: skip
    store.save_import(
        {
            "account": statement.account,
            "file": file,
            "sha256": digest,
            "from_at": statement.from_at,
            "to_at": statement.to_at,
            "counts": counts(imported),
            "notes": dict(statement.notes),
        }
    )
    return imported


def counts(one: Imported) -> dict[str, int]:
    """How many rows were new, and how many were there already."""
    return {
        "fills": one.fills,
        "fills_known": len(one.statement.fills) - one.fills,
        "fills_completed": one.completed,
        "adjustments": one.adjustments,
        "adjustments_known": len(one.statement.adjustments) - one.adjustments,
        "cash_rows": one.cash,
        "cash_rows_known": len(one.statement.cash) - one.cash,
        "refused": len(one.refused),
        "waiting": len(one.waiting),
    }


def as_row(one: Imported) -> dict[str, Any]:
    """The fields of `import --json`, one row for each account of each file."""
    return {
        "file": one.file,
        "account": one.statement.account,
        "new_account": one.new_account,
        "from": one.statement.from_at,
        "to": one.statement.to_at,
        **counts(one),
        "positions_changed": one.positions,
        "refused_rows": [{"symbol": symbol, "reason": reason} for symbol, reason in one.refused],
        "waiting_rows": [{"symbol": symbol, "reason": reason} for symbol, reason in one.waiting],
        "notes": dict(one.statement.notes),
    }


def lines(one: Imported) -> list[str]:
    """What an import did, in sentences."""
    n = counts(one)
    known = n["fills_known"] + n["adjustments_known"] + n["cash_rows_known"]
    new = (
        show.counted(n["fills"], "fill"),
        show.counted(n["adjustments"], "book entry", "book entries"),
        show.counted(n["cash_rows"], "cash row"),
    )
    first = " (an account seen for the first time)" if one.new_account else ""
    text = [
        f"{one.file}: account {one.statement.account}{first}, {_period(one.statement)}",
        f"  New: {', '.join(new)}. {known} were there already. {show.counted(one.positions, 'position')} changed.",
    ]
    if one.completed:
        text.append(f"  {show.counted(one.completed, 'known fill')} completed (commission, order in time, the broker's own P&L).")
    text += some([f"Waits: {' '.join(filter(None, row))}" for row in one.waiting], "waiting")
    text += some([f"Refused: {' '.join(filter(None, row))}" for row in one.refused], "refused")
    text += some([f"Note: {what} ({times})" for what, times in sorted(one.statement.notes, key=lambda note: -note[1])], "notes")
    return text


def some(found: list[str], name: str) -> list[str]:
    """As many lines as can be read."""
    more = len(found) - MOST_LINES
    return [f"  {line}" for line in found[:MOST_LINES]] + ([f"  and {more} more {name}; --json lists all"] if more > 0 else [])


def _period(statement: Statement) -> str:
    """The days of a statement, which counts them in New York and ends with the first moment after them."""
    if any(entry.source == SOURCE for entry in statement.adjustments):
        return SOURCE
    first, last = (at.astimezone(ZONE).date() for at in (statement.from_at, statement.to_at - timedelta(microseconds=1)))
    return f"{first}" if last <= first else f"{first} to {last}"
