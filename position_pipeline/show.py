"""How results are shown: JSON for programs, tables and sentences for people. The same rows feed both.

Belongs here: formatting, and which columns a table has. Does not belong here: figures that are not in the rows.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from position_pipeline.accounting.exact import plain, total

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console, JustifyMethod
    from rich.table import Table

    from position_pipeline.sync import SyncResult

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


# -- the tables


def accounts(where: Console, rows: Sequence[Row]) -> None:
    columns: list[Column] = [
        ("Account", "word", lambda row: row["account"]),
        ("Broker", "word", lambda row: row["broker"]),
        ("Base", "word", lambda row: row["base_currency"] or "--"),
        ("Method", "spare word", _methods),
        ("Positions", "number", lambda row: str(row["positions"])),
        ("Breaks", "number", lambda row: str(row["open_breaks"])),
        ("Synced", "number", _age),
        ("Last try", "word", lambda row: row["last_outcome"] or "--"),
    ]
    table(where, "Accounts", columns, rows, "No account is known yet. Run: position-pipeline sync")


def positions(where: Console, rows: Sequence[Row]) -> None:
    agree = all(row["broker_quantity"] in (None, row["quantity"]) for row in rows)
    columns: list[Column] = [
        ("Account", "word", lambda row: row["account"]),
        ("Symbol", "word", lambda row: row["symbol"]),
        ("Quantity", "number", lambda row: quantity(row["quantity"])),
        ("Broker", "spare number" if agree else "number", _broker),
        ("Average", "spare number", lambda row: number(row["average_price"])),
        ("Price", "spare number", lambda row: number(row["market_price"])),
        ("Value", "number", lambda row: money(row["market_value"])),
        ("Unrealized", "number", lambda row: money(row["unrealized_pnl"])),
        ("Realized", "spare number", lambda row: money(row["realized_pnl"])),
        ("", "word", lambda row: row["currency"]),
        ("Basis", "spare word", lambda row: row["basis_quality"]),
    ]
    table(where, "Positions", columns, rows, "No open positions.")
    fresh = {row["account"]: _age(row) for row in rows if not row["sync_error"]}
    say(where, [f"Synced: {'; '.join(f'{account} {text}' for account, text in fresh.items())}"] if fresh else [])
    unread = [row for row in rows if row["sync_error"]]
    say(where, [f"{row['account']} {row['symbol']}: last read {_age(row)}; {row['sync_error']}" for row in unread], "yellow")


def past_positions(where: Console, rows: Sequence[Row]) -> None:
    """Positions of another time, without what only the broker and the market know."""
    columns: list[Column] = [
        ("Account", "word", lambda row: row["account"]),
        ("Symbol", "word", lambda row: row["symbol"]),
        ("Quantity", "number", lambda row: quantity(row["quantity"])),
        ("Average", "number", lambda row: number(row["average_price"])),
        ("Cost", "number", lambda row: money(row["cost"])),
        ("Realized", "number", lambda row: money(row["realized_pnl"])),
        ("", "word", lambda row: row["currency"]),
        ("Basis", "spare word", lambda row: row["basis_quality"]),
    ]
    table(where, "Positions then", columns, rows, "No open positions then.")


def closes(where: Console, rows: Sequence[Row]) -> None:
    columns: list[Column] = [
        ("Closed (UTC)", "time", lambda row: moment(row["closed_at"])),
        ("Account", "spare word", lambda row: row["account"]),
        ("Symbol", "word", lambda row: row["symbol"]),
        ("Quantity", "number", lambda row: quantity(row["quantity"])),
        ("Entry", "spare number", lambda row: number(row["entry_price"])),
        ("Exit", "number", lambda row: number(row["exit_price"])),
        ("Gross", "spare number", lambda row: money(row["gross_pnl"])),
        ("Fees", "spare number", _fees),
        ("Net", "number", lambda row: money(row["net_pnl"])),
        ("", "word", lambda row: row["currency"]),
        ("Method", "spare word", lambda row: row["method"]),
    ]
    table(where, "Closes", columns, rows, "Nothing has been closed yet.")
    unknown = sum(row["gross_pnl"] is None for row in rows)
    if unknown:
        what = f"The cost of {counted(unknown, 'close')} is not known (--), so it is in no total."
        say(where, [f"{what} Give the opening lots: position-pipeline import --help"], "yellow")


def executions(where: Console, rows: Sequence[Row]) -> None:
    columns: list[Column] = [
        ("Time (UTC)", "time", lambda row: moment(row["time"])),
        ("Account", "spare word", lambda row: row["account"]),
        ("Symbol", "word", lambda row: row["symbol"]),
        ("Side", "word", lambda row: row["side"]),
        ("Quantity", "number", lambda row: quantity(row["quantity"])),
        ("Price", "number", lambda row: number(row["price"])),
        ("", "word", lambda row: row["currency"]),
        ("Commission", "spare number", lambda row: number(row["commission"])),
        ("", "spare word", lambda row: row["commission_currency"] or ""),
        ("Source", "spare word", lambda row: row["source"]),
        ("Id", "spare word", _execution),
    ]
    table(where, "Executions", columns, rows, "No executions yet. Run: position-pipeline sync")


def breaks(where: Console, rows: Sequence[Row]) -> None:
    columns: list[Column] = [
        ("Id", "word", lambda row: row["id"]),
        ("Account", "word", lambda row: row["account"]),
        ("Symbol", "word", lambda row: row["symbol"] or "--"),
        ("Class", "word", lambda row: row["class"]),
        *([("Status", "word", _standing)] if any(_standing(row) != "open" for row in rows) else []),
        ("Book", "number", lambda row: quantity(row["book_quantity"])),
        ("Broker", "number", lambda row: quantity(row["broker_quantity"])),
        ("Worth", "spare number", worth),
        ("Since (UTC)", "time", lambda row: moment(row["first_seen_at"])),
    ]
    table(where, "Breaks", columns, rows, "No open breaks. When each account was last read: position-pipeline status")
    for row in rows:
        named = f"{row['id']} {row['symbol'] or row['account']}"
        say(where, [f"{named}: {' '.join(filter(None, (row['evidence'], row['proposal'])))}"])
    if any(row["can_be_accepted"] for row in rows):
        say(where, ["position-pipeline breaks show ID tells all of one; breaks accept ID carries its proposal out."])


def _standing(row: Row) -> str:
    """What has become of a break; an adopted one is open while both sides hold the same."""
    return f"{row['status']}, adopted" if row["status"] == "open" and row["adopted"] else str(row["status"])


def worth(row: Row) -> str:
    """What a difference is worth, with its currency."""
    return "--" if row["impact"] is None else f"{money(row['impact'])} {row['impact_currency']}"


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


def _methods(row: Row) -> str:
    return ", ".join([row["cost_method"], *(f"{kind} {method}" for kind, method in sorted(row["cost_methods"].items()))])


def _age(row: Row) -> str:
    if row["age_seconds"] is None:
        return "never"
    return f"{age(row['age_seconds'])} ago{' (stale)' if row['stale'] else ''}"


def _broker(row: Row) -> str:
    """The broker's quantity, marked where it is not ours."""
    differs = row["broker_quantity"] is not None and row["broker_quantity"] != row["quantity"]
    return f"≠ {quantity(row['broker_quantity'])}" if differs else quantity(row["broker_quantity"])


def _fees(row: Row) -> str:
    if row["opening_commission"] is None or row["closing_commission"] is None:
        return "--"
    return money(total((row["opening_commission"], row["closing_commission"])))


def _execution(row: Row) -> str:
    return row["execution_id"] if row["revision"] == 1 else f"{row['execution_id']} (revision {row['revision']})"
