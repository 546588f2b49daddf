"""What a materialization shows: counts, what changed, ages, one small table, and a number or two to plot.

Belongs here: turning rows and results into Dagster's metadata, under labels that stay the same from run to run. Does not belong here:
figures that are not in the rows, the words of numbers (show).

Exact money is text, because Dagster's numbers are floats; a float stands beside it only where a plot is wanted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import dagster as dg

from position_pipeline import show
from position_pipeline.accounting.exact import plain
from position_pipeline.defs.session import SyncSession
from position_pipeline.defs.verdicts import Verdict, named, reason_of, status_of
from position_pipeline.store.schema import metadata as tables
from position_pipeline.sync_results import AccountPass, SyncResult

Row = Mapping[str, Any]
Metadata = dict[str, Any]
Cells = Sequence[tuple[str, Callable[[Row], str]]]

MOST_ROWS = 20
"""Rows of a table in the UI, which draws every row and neither sorts nor pages, and cuts off what is wider than the page:
so few columns too."""

LONGEST_TEXT = 800
"""Characters of one cell or reason: huge metadata freezes the UI."""


def about_table(name: str) -> Metadata:
    """What is known of an asset's table before any run: its name, and its columns with their comments."""
    columns = [
        dg.TableColumn(
            column.name,
            str(column.type).lower(),
            description=column.comment,
            constraints=dg.TableColumnConstraints(nullable=bool(column.nullable)),
        )
        for column in tables.tables[name].columns
    ]
    return {"dagster/table_name": f"public.{name}", "dagster/column_schema": dg.TableSchema(columns=columns)}


def of_snapshots(sync: SyncSession, parts: Sequence[AccountPass]) -> Metadata:
    """What the brokers answered, account by account."""
    proven = [part for part in parts if part.alive]
    holdings = {part.account: len(part.snapshot.holdings) for part in proven if part.snapshot}
    words = ", ".join(f"{part.account} {status_of(part)} ({holdings.get(part.account, 0)} holdings)" for part in parts)
    proof = f"**{len(proven)} of {len(parts)} accounts answered with proof of completeness:** {words}."
    reasons = "".join(f"\n- {cut(named(part.account, reason_of(part)))}" for part in parts if reason_of(part))
    return {
        "dagster/row_count": sync.store.read.row_counts()["snapshots"],
        "summary": dg.MetadataValue.md(f"{proof}\n{reasons}"),
        "trigger": sync.trigger,
        "accounts": len(parts),
        "accounts_proven": len(proven),
        "holdings": sum(holdings.values()),
        "snapshots": table([_snapshot_row(part) for part in parts], SNAPSHOT_CELLS),
    }


def _snapshot_row(part: AccountPass) -> Row:
    snapshot = part.snapshot
    return {
        "account": part.account,
        "status": status_of(part),
        "holdings": len(snapshot.holdings) if snapshot and snapshot.proven else None,
        "taken_at": snapshot.taken_at if snapshot else None,
    }


def _position(row: Row) -> str:
    return f"{row['symbol']}, {row['account']}"


SNAPSHOT_CELLS: Cells = (
    ("Account", lambda row: row["account"]),
    ("Status", lambda row: row["status"]),
    ("Holdings", lambda row: "--" if row["holdings"] is None else str(row["holdings"])),
    ("Taken at (UTC)", lambda row: show.moment(row["taken_at"])),
)


def oldest_answer(sync: SyncSession) -> str:
    """How long ago the account that is furthest behind was last seen whole, with its name."""
    now, rows = datetime.now(UTC), sync.store.read.accounts()
    never = [row["account"] for row in rows if row["last_synced_at"] is None]
    if never or not rows:
        return f"never: {', '.join(never)}" if never else "never"
    oldest = min(rows, key=lambda row: row["last_synced_at"])
    aged = show.with_age(oldest, sync.stale_after, now)
    return f"{show.age(aged['age_seconds'])} ago: {oldest['account']}{' (stale)' if aged['stale'] else ''}"


def of_executions(sync: SyncSession, parts: Sequence[AccountPass]) -> Metadata:
    """Which fills are new, and the newest ones of all."""
    recorded = {part.account: part.recorded for part in parts if part.recorded}
    new = sum(done.fills for done in recorded.values())
    words = ", ".join(f"{account} {done.fills}" for account, done in recorded.items()) or "no account could be read"
    moved = sorted({f"{change.symbol} ({account})" for account, done in recorded.items() for change in done.changes.values()})
    return {
        "dagster/row_count": sync.store.read.row_counts()["executions"],
        "summary": dg.MetadataValue.md(f"**{counted(new, 'new fill')}** ({words}). Positions that they moved: {listed(moved)}."),
        "new_fills": new,
        "completed_fills": sum(done.completed for done in recorded.values()),
        "refused_fills": sum(len(done.refused) for done in recorded.values()),
        "positions_moved": listed(moved),
        "newest_fills": table(sync.store.read.newest("executions", MOST_ROWS), EXECUTION_CELLS),
    }


EXECUTION_CELLS: Cells = (
    ("Time (UTC)", lambda row: show.moment(row["time"])),
    ("Fill", lambda row: f"{row['side']} {show.number(row['quantity'])} {_position(row)}"),
    ("Price", lambda row: f"{show.number(row['price'])} {row['currency']}"),
)


def of_positions(sync: SyncSession, results: Sequence[SyncResult]) -> Metadata:
    """What reconciling changed, what book and broker hold, and how long it took."""
    read = sync.store.read
    positions, sums = read.positions(), read.position_sums()
    breaks = len(read.breaks())
    return {
        "dagster/row_count": read.row_counts()["positions"],
        "summary": dg.MetadataValue.md(positions_in_words(results, breaks)),
        **changes(results),
        "open_positions": sum(row["positions"] for row in sums),
        "open_breaks": breaks,
        "duration_ms": max((result.duration_ms for result in results), default=0),
        "own_ms": max((float(result.own_ms) for result in results if result.own_ms is not None), default=0.0),
        "market_value": amounts(sums, "market_value"),
        "unrealized_pnl": amounts(sums, "unrealized_pnl"),
        **plots(sums, "market_value"),
        "unpriced_positions": sum(row["unpriced"] for row in sums),
        "oldest_proven_answer": oldest_answer(sync),
        "largest_positions": table(sorted(positions, key=_size, reverse=True), POSITION_CELLS),
    }


def _size(row: Row) -> Any:
    return abs(row["market_value"] or row["cost"] or 0)


def positions_in_words(results: Sequence[SyncResult], breaks: int) -> str:
    """One line for the run, one an account, and what to do about open breaks."""
    lines = [f"- **{result.account}** {result.outcome}: {_result_in_words(result)}" for result in results]
    if breaks:
        lines.append(f"\n**{counted(breaks, 'open break')}**: `position-pipeline breaks` shows each with its evidence.")
    return "\n".join(lines)


def _result_in_words(result: SyncResult) -> str:
    if result.outcome in ("failed", "rejected"):
        return f"positions stay as they were. {cut('; '.join(error for _, error in result.errors))}"
    done = [("created", result.created), ("updated", result.updated), ("closed", result.closed)]
    words = [f"{name} {listed(symbols)}" for name, symbols in done if symbols]
    return ", ".join([*words, f"{result.unchanged} unchanged", counted(result.fills, "new fill")])


def changes(results: Sequence[SyncResult]) -> Metadata:
    """The symbols by what became of them; the account is named where there are several."""
    several = len(results) > 1
    kinds = ("created", "updated", "closed")
    named = {
        kind: [f"{symbol} ({result.account})" if several else symbol for result in results for symbol in getattr(result, kind)]
        for kind in kinds
    }
    outcome = ", ".join(f"{result.account} {result.outcome}" for result in results)
    return {"outcome": outcome, **{kind: listed(named[kind]) for kind in kinds}, "unchanged": sum(r.unchanged for r in results)}


def _quantity(row: Row) -> str:
    """Ours, and the broker's where it is another."""
    ours, theirs = row["quantity"], row["broker_quantity"]
    return show.number(ours) if theirs in (None, ours) else f"{show.number(ours)} (broker {show.number(theirs)})"


POSITION_CELLS: Cells = (
    ("Position", _position),
    ("Quantity", _quantity),
    ("Market value", lambda row: _money(row, "market_value")),
    ("Unrealized", lambda row: show.money(row["unrealized_pnl"])),
)


def of_closes(sync: SyncSession) -> Metadata:
    """What was realised altogether, and the newest parts of it."""
    sums = sync.store.read.close_sums()
    unknown = sum(row["unknown"] for row in sums)
    note = f" {counted(unknown, 'close')} with an unknown basis or commission in no total." if unknown else ""
    rounded = ", ".join(_money(row, "net_pnl") for row in sums if row["net_pnl"] is not None) or "nothing yet"
    return {
        "dagster/row_count": sync.store.read.row_counts()["closes"],
        "summary": dg.MetadataValue.md(f"**Realised, net of commissions: {rounded}.**{note}"),
        "closes": sum(row["closes"] for row in sums),
        "closes_with_unknown_pnl": unknown,
        "net_pnl": amounts(sums, "net_pnl"),
        **plots(sums, "net_pnl"),
        "newest_closes": table(sync.store.read.newest("closes", MOST_ROWS), CLOSE_CELLS),
    }


CLOSE_CELLS: Cells = (
    ("Closed at (UTC)", lambda row: show.moment(row["closed_at"])),
    ("Position", _position),
    ("Quantity", lambda row: show.number(row["quantity"])),
    ("Net P&L", lambda row: _money(row, "net_pnl")),
)


def of_events(sync: SyncSession) -> Metadata:
    """How many steps of each kind there are, and the newest."""
    counts = {row["type"]: row["events"] for row in sync.store.read.event_counts()}
    words = ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "none yet"
    return {
        "dagster/row_count": sync.store.read.row_counts()["position_events"],
        "summary": dg.MetadataValue.md(f"**Steps in the life of positions:** {words}."),
        "events": sum(counts.values()),
        "newest_events": table(sync.store.read.newest("events", MOST_ROWS), EVENT_CELLS),
    }


EVENT_CELLS: Cells = (
    ("At (UTC)", lambda row: show.moment(row["at"])),
    ("Position", _position),
    ("Event", lambda row: row["type"]),
    ("Quantity", lambda row: f"{show.number(row['quantity_before'])} to {show.number(row['quantity_after'])}"),
)


def of_verdict(verdict: Verdict) -> Metadata:
    """A check's expected and actual, and the rows that break it with their evidence."""
    found = {"expected": verdict.expected, "actual": verdict.actual, "offending": len(verdict.offending), "looked_at": verdict.looked_at}
    if not verdict.offending:
        return found
    cells = [(name, itemgetter(name)) for name in verdict.offending[0]]
    # Text, because the page of a check hides markdown behind a link; it runs lines together, so they are numbered as the rows are.
    numbered = len(verdict.evidence) > 1
    lines = [f"({number}) {cut(text)}" if numbered else cut(text) for number, text in enumerate(verdict.evidence[:MOST_ROWS], start=1)]
    return {**found, "offending_rows": table(verdict.offending, cells), "evidence": "\n".join(lines)}


def table(rows: Iterable[Row], cells: Cells) -> dg.TableMetadataValue:
    """At most `MOST_ROWS` rows of text."""
    records = [dg.TableRecord({name: cut(cell(row)) for name, cell in cells}) for row in list(rows)[:MOST_ROWS]]
    return dg.MetadataValue.table(records, schema=dg.TableSchema([dg.TableColumn(name, "string") for name, _ in cells]))


def amounts(sums: Sequence[Row], name: str) -> str:
    """Exact totals, one a currency, never added up across currencies."""
    return ", ".join(f"{plain(row[name])} {row['currency']}" for row in sums if row[name] is not None) or "0"


def plots(sums: Sequence[Row], name: str) -> Metadata:
    """The same totals as floats, under a label for each currency, because only numbers are plotted."""
    return {f"{name}_{row['currency']}": float(row[name]) for row in sums if row[name] is not None}


def _money(row: Row, name: str) -> str:
    return "--" if row[name] is None else f"{show.money(row[name])} {row['currency']}"


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def listed(words: Sequence[str]) -> str:
    """The words, or `none`; a long list says how many more there are."""
    shown = ", ".join(words[:MOST_ROWS])
    return f"{shown} and {len(words) - MOST_ROWS} more" if len(words) > MOST_ROWS else shown or "none"


def cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ..."
