"""How values, tables and sentences are drawn: JSON for programs, a terminal for people. The same rows feed both.

Belongs here: formatting. Does not belong here: which columns a table has (show_lists, show_register, show_syncs), figures that are not in
the rows.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from position_pipeline.accounting.exact import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console, JustifyMethod
    from rich.table import Table

Row = dict[str, Any]
Column = tuple[str, str, "Callable[[Row], str]"]
"""Heading, what the column is, and what a row shows in it. It is `word`, `number` or `time`; `spare number` goes where room is short."""

MOST_NAMES = 12
"""Symbols that a sentence lists before it says how many more there are."""


# -- for programs


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
    age = None if at is None else max(round((now - at).total_seconds(), 1), 0)
    return {**row, "age_seconds": age, "stale": age is None or age > stale_after}


# -- values for people


def age(seconds: float | None) -> str:
    """`3 s`, `12 min`, `5 h`, `2 d`: how long ago, in one unit."""
    if seconds is None:
        return "never"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def money(value: Decimal | None) -> str:
    """Two decimals with thousands marks; `--` where it is not known."""
    return "--" if value is None else f"{value:z,.2f}"


def quantity(value: Decimal | None) -> str:
    """All the digits: of what we hold nothing is rounded."""
    return "--" if value is None else plain(value)


def number(value: Decimal | None) -> str:
    """A price or a fee: at most eight decimals, or eight digits where it is smaller than that."""
    if value is None:
        return "--"
    decimals = 8 if not value or abs(value) >= Decimal("0.0001") else 7 - value.adjusted()
    return plain(Decimal(f"{value:.{decimals}f}"))


def moment(value: datetime | None) -> str:
    """A time in UTC, to the second."""
    return "--" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def some(names: Sequence[str]) -> str:
    """Names in a sentence, as many as can be read."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, one: str, many: str = "") -> str:
    """`1 fill`, `2 fills`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


# -- terminals


def console(*, stderr: bool = False) -> Console:
    """Where people read. In a pipe there is no colour, and lines are as long as they need to be."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def say(where: Console, lines: Sequence[str], style: str = "") -> None:
    """Whole lines, as they are: the terminal breaks them, so that they can be copied whole."""
    for line in lines:
        where.print(line, style=style, markup=False, emoji=False, soft_wrap=True)


def table(where: Console, title: str, columns: Sequence[Column], rows: Sequence[Row], nothing: str) -> None:
    """The rows as a table; without any, the sentence `nothing`.

    On a narrow terminal spare columns go, last first, and long words are folded; a number is never cut. A pipe gets everything.
    """
    if not rows:
        say(where, [nothing])
        return
    kept = list(columns)
    while where.is_terminal and _width(where, _table(title, kept, rows)) > where.width and any(_spare(each) for each in kept):
        kept.remove(next(each for each in reversed(kept) if _spare(each)))
    drawn = _table(title, kept, rows)
    where.width = _width(where, drawn) if not where.is_terminal else max(where.width, _width(where, drawn, "minimum"))
    where.print(drawn)


def _spare(column: Column) -> bool:
    return column[1].startswith("spare")


def _table(title: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for heading, kind, _ in columns:
        word = kind.endswith("word")
        justify: JustifyMethod = "right" if kind.endswith("number") else "left"
        drawn.add_column(heading, justify=justify, no_wrap=not word, overflow="fold", min_width=6 if word and heading else None)
    for row in rows:
        drawn.add_row(*(Text(cell(row)) for _, _, cell in columns))
    return drawn


def _width(where: Console, drawn: Table, which: str = "maximum") -> int:
    from rich.measure import Measurement

    measured: int = getattr(Measurement.get(where, where.options.update(width=10_000), drawn), which)
    return measured
