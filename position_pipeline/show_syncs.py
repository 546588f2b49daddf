"""How the results of a sync are shown: the fields of `sync --json`, a table, and what went wrong in sentences.

Belongs here: words about `SyncResult`. Does not belong here: what it says (sync_results), how values and tables are drawn (show).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.show import say, some, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from position_pipeline.show import Column, Row
    from position_pipeline.sync_results import SyncResult


def syncs(where: Console, results: Sequence[SyncResult]) -> None:
    """What a sync did: how much in a table, and which symbols below it."""
    columns: list[Column] = [
        ("Account", "word", lambda row: row["account"]),
        ("Outcome", "word", lambda row: row["outcome"]),
        ("Created", "number", lambda row: str(len(row["created"]))),
        ("Updated", "number", lambda row: str(len(row["updated"]))),
        ("Closed", "number", lambda row: str(len(row["closed"]))),
        ("Unchanged", "number", lambda row: str(row["unchanged"])),
        ("Fills", "number", lambda row: str(row["fills"])),
        ("Breaks", "number", lambda row: str(row["open_breaks"])),
        ("Took", "spare number", lambda row: f"{row['duration_ms']} ms"),
    ]
    rows = [sync_row(result) for result in results]
    table(where, "Sync", columns, rows, "No account to sync.")
    for row in rows:
        changes = [f"{what} {some(row[what])}" for what in ("created", "updated", "closed") if row[what]]
        say(where, [f"{row['account']}: {'; '.join(changes)}"] if changes else [])
    if any(result.open_breaks for result in results):
        say(where, ["Book and broker differ: position-pipeline breaks"], "yellow")


def sync_errors(results: Sequence[SyncResult]) -> list[str]:
    """What went wrong, each thing once, with whom it concerns in front of it."""
    concerned: dict[str, list[str]] = {}
    for result in results:
        for symbol, error in result.errors:
            concerned.setdefault(error.removeprefix(f"{result.account}: "), []).append(" ".join(filter(None, (result.account, symbol))))
    return [f"{some(names)}: {error}" for error, names in concerned.items()]


def sync_row(result: SyncResult) -> Row:
    """The fields of `sync --json`."""
    names = ("account", "outcome", "created", "updated", "closed", "unchanged", "fills", "snapshot_status", "open_breaks")
    row = {name: getattr(result, name) for name in (*names, "duration_ms", "own_ms")}
    return {**row, "errors": [{"symbol": symbol, "error": error} for symbol, error in result.errors]}
