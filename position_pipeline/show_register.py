"""How the break register, the adjustments and the life of positions are shown to people.

Belongs here: sentences and tables of them. Does not belong here: how values and tables are drawn (show).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from position_pipeline.show import age, counted, moment, money, number, quantity, say, some, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from rich.console import Console

    from position_pipeline.show import Column, Row
    from position_pipeline.store import Accepted


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


def one_break(row: Row) -> list[str]:
    """All that is known of one break, in lines."""
    book, broker = quantity(row["book_quantity"]), quantity(row["broker_quantity"])
    figures = "" if row["subject"] == "snapshot" else f": the book holds {book}, the broker {broker}"
    if row["subject"] == "cost":
        figures = f": {book} in the book, {broker} at the broker"
    return [
        f"Break {row['id']}, {row['class']}, {row['status']}",
        f"{row['symbol'] or 'The account as a whole'} in {row['account']}{figures}.",
        f"Open for {age(row['age_seconds'])}, since {moment(row['first_seen_at'])} UTC; last seen {moment(row['last_seen_at'])} UTC.",
        f"Worth: {worth(row)}",
        *([f"It should clear by itself until {moment(row['expected_clear_at'])} UTC."] if _still_may_clear(row) else []),
        f"Evidence: {row['evidence']}",
        *[f"  Sign: {sign}" for sign in row["signs"]],
        *([f"Proposal: {row['proposal']}"] if row["proposal"] else []),
        *[f"  It would write: {_entry(entry)}" for entry in row["proposed"] if row["status"] != "resolved"],
        *([f"The book follows the broker by the adjustment {row['adopted']}."] if row["adopted"] and row["status"] != "resolved" else []),
        *([f"Of the same cause: {some(row['same_cause'])}"] if row["same_cause"] else []),
        "History:",
        *[f"  {moment(datetime.fromisoformat(at))}  {what}" for at, what in row["history"]],
        *_what_next(row),
    ]


def _still_may_clear(row: Row) -> bool:
    return row["status"] == "open" and row["expected_clear_at"] is not None


def _entry(entry: Row) -> str:
    """One adjustment as it is proposed."""
    given = [name for name in ("quantity", "price", "numerator", "denominator", "amount", "held", "takes_from") if name in entry]
    return f"{entry['kind']} of {entry['instrument']} at {entry['time']}: {', '.join(f'{name} {entry[name]}' for name in given)}"


def _what_next(row: Row) -> list[str]:
    if row["status"] == "resolved":
        return []
    accept = [f"To carry it out: position-pipeline breaks accept {row['id']}"] if row["can_be_accepted"] else []
    if row["accepted_by"]:
        accept = [f"{row['accepted_by']} accepted it; a second person has to: position-pipeline breaks accept {row['id']} --by NAME"]
    dismiss = [] if row["status"] == "dismissed" else [f"To hear no more of it: position-pipeline breaks dismiss {row['id']} --reason TEXT"]
    return accept + dismiss


def accepted(done: Accepted, by: str) -> list[str]:
    """What accepting did."""
    which = f"{counted(len(done.breaks), 'break')} ({some(done.breaks)})"
    if done.waits_for_second:
        return [f"Accepted by {by}: {which}. Nothing is booked yet: a second person has to run the same command, with --by NAME."]
    return [f"Accepted by {by}: {which}. In the book: {some(done.adjustments)}."]


def adjustments(where: Console, rows: Sequence[Row]) -> None:
    columns: list[Column] = [
        ("Time (UTC)", "time", lambda row: moment(row["time"])),
        ("Account", "spare word", lambda row: row["account"]),
        ("Symbol", "word", lambda row: row["symbol"]),
        ("Kind", "word", lambda row: row["kind"]),
        ("Quantity", "number", lambda row: quantity(row["quantity"])),
        ("Price", "spare number", lambda row: number(row["price"])),
        ("Source", "spare word", lambda row: row["source"]),
        ("State", "spare word", _state),
    ]
    table(where, "Adjustments", columns, rows, "The book has no adjustments: it is made of fills alone.")
    # Ids are long and have to be copied whole, so they are no column; nobody wants a line for each opening balance.
    say(where, [f"{row['kind']} of {row['symbol']}, {row['account']}: {row['id']}" for row in rows if row["kind"] != "opening_balance"])
    if rows:
        say(where, ["position-pipeline adjustments reverse ID --why TEXT takes one back; --json has the ids of all."])


def _state(row: Row) -> str:
    if row["reversed_at"] is not None:
        return f"taken back by {row['reversed_by']}: {row['reversed_why']}"
    return f"accepted by {row['accepted_by']}" if row["accepted_by"] else "inferred" if row["held"] is not None else ""


def events(where: Console, rows: Sequence[Row]) -> None:
    columns: list[Column] = [
        ("Time (UTC)", "time", lambda row: moment(row["at"])),
        ("Account", "spare word", lambda row: row["account"]),
        ("Symbol", "word", lambda row: row["symbol"]),
        ("Event", "word", lambda row: row["type"]),
        ("Before", "number", lambda row: quantity(row["quantity_before"])),
        ("After", "number", lambda row: quantity(row["quantity_after"])),
        ("Cycle", "spare number", lambda row: str(row["cycle"])),
        ("Held", "spare number", lambda row: age(row["held_seconds"])),
        ("Cause", "spare word", lambda row: row["cause"]),
    ]
    table(where, "Events", columns, rows, "Nothing has happened yet.")


def cycles(where: Console, rows: Sequence[Row]) -> None:
    columns: list[Column] = [
        ("Opened (UTC)", "time", lambda row: moment(row["opened_at"])),
        ("Closed (UTC)", "time", lambda row: moment(row["closed_at"])),
        ("Account", "spare word", lambda row: row["account"]),
        ("Symbol", "word", lambda row: row["symbol"]),
        ("Side", "spare word", lambda row: row["side"]),
        ("Peak", "number", lambda row: quantity(row["peak_quantity"])),
        ("Held", "number", lambda row: age(row["held_seconds"])),
        ("Entry", "number", lambda row: number(row["entry_price"])),
        ("Exit", "number", lambda row: number(row["exit_price"])),
        ("Net", "number", lambda row: money(row["net_pnl"])),
        ("", "word", lambda row: row["currency"]),
    ]
    table(where, "Cycles", columns, rows, "Nothing has been held yet.")


def in_seconds(rows: Sequence[Row]) -> list[Row]:
    """The rows with `held_seconds` in place of the interval `held_for`."""
    return [
        {**{name: value for name, value in row.items() if name != "held_for"}, "held_seconds": _seconds(row["held_for"])} for row in rows
    ]


def _seconds(span: timedelta) -> float:
    return max(round(span.total_seconds(), 3), 0.0)
