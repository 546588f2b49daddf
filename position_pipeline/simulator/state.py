"""The simulator's memory over a restart: one JSON file, replaced as a whole.

Here: writing and reading it. A kill at any moment leaves either the old file or the new one. Not here: what is in
memory (`book.py`, `play.py`).
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

from position_pipeline.simulator.book import Book
from position_pipeline.simulator.ledger import End, Entry, Execution, Holding, Move, Split

VERSION = 1
_DECIMALS = ("quantity", "price", "commission", "cumulative", "average_price", "premium")


class StateError(ValueError):
    """A state file that cannot be used."""


def save(path: Path, values: Mapping[str, Any]) -> None:
    """Write beside the file, force it to disk, then take the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        json.dump({"version": VERSION, **values}, file, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: Path) -> dict[str, Any]:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StateError(f"cannot read the simulator's state file {path}: {error}") from error
    if not isinstance(saved, dict) or saved.get("version") != VERSION:
        raise StateError(f"{path} is not a state file of this version of the simulator")
    return saved


def book_state(book: Book) -> dict[str, Any]:
    ledgers = [
        {
            "account": account,
            "con_id": con_id,
            "quantity": str(ledger.base.quantity),
            "cost": str(ledger.base.cost),
            "cash": str(ledger.base_cash),
            "entries": [_entry_state(entry) for entry in ledger.entries],
        }
        for account, con_id, ledger in book.entries()
    ]
    return {"ledgers": ledgers, "executions": [_execution_state(fill) for fill in book.listed().values()]}


def _entry_state(entry: Entry) -> list[str]:
    """An execution by its id (it is in the list of executions), everything else by its values."""
    if isinstance(entry, Split):
        return ["split", str(entry.ratio), entry.time.isoformat()]
    if isinstance(entry, Move):
        cost = "" if entry.cost is None else str(entry.cost)
        return ["move", str(entry.quantity), entry.time.isoformat(), cost, "passed" if entry.passed else ""]
    if isinstance(entry, End):
        return ["end", str(entry.quantity), entry.time.isoformat()]
    return ["execution", entry.exec_id]


def _entry(saved: list[str], book: Book, zone: tzinfo) -> Entry:
    kind, value, *more = saved
    if kind == "execution":
        return book.execution(value)
    at = datetime.fromisoformat(more[0]).astimezone(zone)
    if kind == "split":
        return Split(Decimal(value), at)
    if kind == "end":
        return End(Decimal(value), at)
    return Move(Decimal(value), Decimal(more[1]) if more[1] else None, at, passed=more[2] == "passed")


def _execution_state(fill: Execution) -> dict[str, Any]:
    shown = asdict(fill)
    shown["time"] = fill.time.isoformat()
    return {key: str(value) if isinstance(value, Decimal) else value for key, value in shown.items()}


def restore_book(book: Book, saved: Mapping[str, Any], zone: tzinfo) -> None:
    for row in saved["executions"]:
        fill = _execution(row, zone)
        book.listed()[fill.exec_id] = fill
    for row in saved["ledgers"]:
        ledger = book.ledger(row["account"], row["con_id"])
        ledger.restart(Holding(Decimal(row["quantity"]), Decimal(row["cost"])), Decimal(row["cash"]))
        for entry in row["entries"]:
            ledger.add(_entry(entry, book, zone))


def _execution(row: Mapping[str, Any], zone: tzinfo) -> Execution:
    values = dict(row)
    for key in _DECIMALS:
        values[key] = Decimal(values.get(key, 0))
    values["time"] = datetime.fromisoformat(values["time"]).astimezone(zone)
    return Execution(**values)
