"""How results are shown on a terminal: JSON for programs, rich tables for people. The same rows feed both.

Belongs here: formatting. Does not belong here: figures that are not in the rows.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from position_pipeline.accounting.exact import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

Row = dict[str, Any]

PIPE_WIDTH = 240


def jsonable(value: Any) -> Any:
    """Money, prices and quantities as strings with all their digits, times as ISO 8601 in UTC."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, dict):
        return {key: jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    return value


def print_json(value: Any) -> None:
    print(json.dumps(jsonable(value), indent=2, ensure_ascii=False))  # noqa: T201  this is what --json is for


def with_age(row: Mapping[str, Any], stale_after: float, now: datetime) -> Row:
    """The row with `age_seconds` and `stale`, from its `last_synced_at`; what was never synced is stale and has no age."""
    at = row["last_synced_at"]
    age = None if at is None else round((now - at).total_seconds(), 1)
    return {**row, "age_seconds": age, "stale": age is None or age > stale_after}


def age(seconds: float | None) -> str:
    """`3 s`, `12 min`, `5 h`, `2 d`: how long ago, in one unit."""
    if seconds is None:
        return "never"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{int(seconds // size)} {unit}"
    return f"{int(max(seconds, 0))} s"


def money(value: Decimal | None) -> str:
    """Two decimals with thousands marks, for reading; `--` where it is not known."""
    return "--" if value is None else f"{value:,.2f}"


def number(value: Decimal | None) -> str:
    """All the digits of a quantity; prices are cut at eight decimals."""
    if value is None:
        return "--"
    return plain(value if value == value.to_integral_value() else round(value, 8))


def moment(value: datetime | None) -> str:
    """A time in UTC, to the second."""
    return "--" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def console(*, stderr: bool = False) -> Console:
    """Where people read. In a pipe lines are as long as they need to be, and there is no colour."""
    from rich.console import Console

    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)


def say(where: Console, lines: Sequence[str], style: str = "") -> None:
    """Whole lines, as they are: the terminal breaks them, so that they can be copied whole."""
    for line in lines:
        where.print(line, style=style, markup=False, soft_wrap=True)


def table(where: Console, title: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], note: str = "") -> None:
    """A table of strings; a column is (heading, `left`, `right` or `spare`). On a narrow terminal spare columns go, last first.

    Without rows only the note is printed.
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    if rows:
        kept = _fitting(columns, rows, where.width)
        shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for index in kept:
            heading, side = columns[index]
            shown.add_column(heading, justify="right" if side.startswith("right") else "left", no_wrap=len(kept) < len(columns))
        for row in rows:
            shown.add_row(*(escape(row[index]) for index in kept))
        where.print(shown)
    if note:
        say(where, [note])


def _fitting(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """The columns that are shown: all, or fewer spare ones where the terminal is too narrow for their longest cells."""
    widths = [max([len(heading), *(len(row[i]) for row in rows)]) + 2 for i, (heading, _) in enumerate(columns)]
    kept = list(range(len(columns)))
    for index in reversed(range(len(columns))):
        if sum(widths[i] for i in kept) <= width:
            break
        if columns[index][1].endswith("spare"):
            kept.remove(index)
    return kept
