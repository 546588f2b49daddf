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

from position_pipeline.brokers.flex import StatementError, read_statements
from position_pipeline.brokers.opening_lots import read_opening_lots

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from position_pipeline.brokers import Statement
    from position_pipeline.store import Store

    Tell = Callable[[str, int, int], None]
    """Called with what is done, how much of it, and of how much."""

__all__ = ["Imported", "StatementError", "as_row", "import_file", "lines"]

LARGEST_FILE = 1_000_000_000
"""Bytes. A file beyond it is no statement, and would fill the memory."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What one account's part of a file brought. Rows that were there already are counted apart and changed nothing."""

    file: str
    statement: Statement
    new_account: bool
    fills: int
    completed: int
    adjustments: int
    cash: int
    positions: int
    refused: tuple[tuple[str, str], ...]


def import_file(store: Store, path: Path, cost_method: str, tell: Tell) -> list[Imported]:
    """Take in one file, all of it or nothing. Raises `StatementError` with the line or the element that is wrong."""
    tell(f"Reading {path.name}", 0, 0)
    content = _content(path)
    found = _read(content, path.name)
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
        if path.stat().st_size > LARGEST_FILE:
            raise StatementError(f"{path}: larger than {LARGEST_FILE} bytes; ask for a shorter period")
        return path.read_bytes()
    except OSError as error:
        raise StatementError(f"{path}: {error.strerror or error}") from None


def _read(content: bytes, name: str) -> tuple[Statement, ...]:
    """XML is a Flex statement; text with commas in its first line is a file of opening lots."""
    head = content.lstrip(b"\xef\xbb\xbf \r\n\t")
    first = head.partition(b"\n")[0]
    if head.startswith(b"<") or b"," not in first:
        return read_statements(content, name=name)
    try:
        return read_opening_lots(content.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        raise StatementError(f"{name}: not UTF-8 text at byte {error.start}") from None


def _import_statement(store: Store, statement: Statement, file: str, digest: str, cost_method: str) -> Imported:
    new = store.add_account(statement.account, statement.broker, base_currency=statement.base_currency or None, cost_method=cost_method)
    recorded = store.record(statement.account, statement.fills, statement.adjustments, statement.instruments)
    cash = store.save_cash([(c.account, c.id, c.type, c.currency, c.amount, c.time, c.instrument, c.description) for c in statement.cash])
    refused = (*((row.symbol, row.reason) for row in statement.refused), *recorded.refused)
    store.save_rejects([(statement.account, symbol, reason) for symbol, reason in refused], file)
    imported = Imported(
        file, statement, new, recorded.fills, recorded.completed, recorded.adjustments, cash, len(recorded.changes), refused
    )
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
        "notes": dict(one.statement.notes),
    }


def _day(at: datetime) -> str:
    """The day of a statement, which counts them in New York."""
    return f"{at.astimezone(ZoneInfo('America/New_York')):%Y-%m-%d}"


def lines(one: Imported) -> list[str]:
    """What an import did, in sentences."""
    n = counts(one)
    text = [
        f"{one.file}: account {one.statement.account}{' (seen for the first time)' if one.new_account else ''}, "
        f"{_day(one.statement.from_at)} to {_day(one.statement.to_at - timedelta(microseconds=1))}",
        f"  {n['fills']} fills, {n['adjustments']} book entries and {n['cash_rows']} cash rows are new; "
        f"{n['fills_known'] + n['adjustments_known'] + n['cash_rows_known']} were there already.",
        f"  {one.positions} positions changed.",
    ]
    if one.completed:
        text.append(f"  {one.completed} known fills were completed (commission, order in time, the broker's own P&L).")
    text += [f"  Passed over: {what} ({how_many})" for what, how_many in one.statement.notes]
    text += [f"  Refused: {' '.join(filter(None, row))}" for row in one.refused]
    return text
