"""How accounts, positions, closes and executions are listed for people.

Belongs here: which columns each table has, and the sentences below it. Does not belong here: how values and tables are drawn (show),
figures that are not in the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import total
from position_pipeline.show import age, counted, moment, money, number, quantity, say, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from position_pipeline.show import Column, Row


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
