"""Which reader a file needs, and what an import did, in rows and in sentences, whatever kind of file it was.

Belongs here: telling statements and opening lots from files of events. Does not belong here: taking them in (statements, event_files).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from position_pipeline import event_files, show, statements
from position_pipeline.brokers.event_cells import NoEvents
from position_pipeline.statements import StatementError
from position_pipeline.store import Recorded

if TYPE_CHECKING:
    from pathlib import Path

    from position_pipeline.event_files import Taken
    from position_pipeline.statements import Tell
    from position_pipeline.store import Store

__all__ = ["Report", "StatementError", "take_in"]

FIRST_BYTES = 4096
EVENT_COLUMNS = frozenset({"side", "type", "execution_id"})
"""A file of opening lots has none of these columns, and one of events has at least one of them."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one file brought: the rows of `import --json`, and the same in sentences."""

    rows: list[dict[str, Any]]
    lines: list[str]


def take_in(store: Store, file: Path, cost_method: str, tell: Tell) -> Report:
    """Take in one file, all of it or nothing. Raises `StatementError`, which says what is wrong with it."""
    if not _has_events(file):
        imported = statements.import_file(store, file, cost_method, tell)
        return Report([statements.as_row(one) for one in imported], [line for one in imported for line in statements.lines(one)])
    try:
        taken = event_files.import_events(store, file, cost_method, tell)
    except NoEvents as error:
        raise StatementError(f"{file.name}: {error}") from None
    return Report(_event_rows(file.name, taken), _event_lines(file.name, taken))


def _has_events(file: Path) -> bool:
    """Lines of JSON, or columns of which only fills have some."""
    try:
        with file.open("rb") as opened:
            head = opened.read(FIRST_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise StatementError(f"{file}: cannot be read: {error.strerror or error}") from None
    if head.startswith(b"{"):
        return True
    first = head.partition(b"\n")[0].decode("utf-8", "replace").lower()
    columns = {name.strip(' "\r') for name in first.replace(";", ",").replace("\t", ",").split(",")}
    return not head.startswith(b"<") and not EVENT_COLUMNS.isdisjoint(columns)


def _event_rows(name: str, taken: Taken) -> list[dict[str, Any]]:
    """One row an account; lines that name none stand in a row without one."""
    refused: dict[str, list[dict[str, str]]] = {account: [] for account in taken.recorded}
    for account, symbol, reason in taken.refused:
        refused.setdefault(account, []).append({"symbol": symbol, "reason": reason})
    for account, recorded in taken.recorded.items():
        refused[account] += [{"symbol": symbol, "reason": reason} for symbol, reason in recorded.refused]
    return [
        {
            "file": name,
            "account": account,
            **_counts(taken, account),
            "refused_rows": rows,
            "waiting_rows": [{"symbol": symbol, "reason": reason} for symbol, reason in _recorded(taken, account).waiting],
        }
        for account, rows in refused.items()
    ]


def _recorded(taken: Taken, account: str) -> Recorded:
    return taken.recorded.get(account, Recorded())


def _counts(taken: Taken, account: str) -> dict[str, int]:
    recorded = _recorded(taken, account)
    return {
        "fills": recorded.fills,
        "fills_completed": recorded.completed,
        "adjustments": recorded.adjustments,
        "cash_rows": taken.cash.get(account, 0),
        "positions_changed": len(recorded.changes),
    }


def _event_lines(name: str, taken: Taken) -> list[str]:
    text = [f"{name}: {show.counted(taken.lines, 'line')}"]
    rows = _event_rows(name, taken)
    for row in rows:
        if row["account"]:
            new = [show.counted(row["fills"], "new fill")]
            new += [show.counted(row["adjustments"], "book entry", "book entries")] if row["adjustments"] else []
            new += [show.counted(row["cash_rows"], "cash row")] if row["cash_rows"] else []
            text.append(f"  Account {row['account']}: {', '.join(new)}. {show.counted(row['positions_changed'], 'position')} changed.")
    for word, field in (("Waits", "waiting_rows"), ("Refused", "refused_rows")):
        told = [f"{word}: {' '.join(filter(None, (each['symbol'], each['reason'])))}" for row in rows for each in row[field]]
        text += statements.some(told, field.partition("_")[0])
    return text
