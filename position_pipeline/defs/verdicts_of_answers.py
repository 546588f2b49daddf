"""What the checks claim about the brokers' answers beside the book, decided from rows: no Dagster, no database, no clock.

Belongs here: one function a claim, from rows to a `Verdict`: how old the answers are, what they cannot have told, and where the broker's
own figures are not ours. Does not belong here: claims about the book alone (verdicts), reading rows (store.claims).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from position_pipeline import show
from position_pipeline.accounting.exact import plain
from position_pipeline.accounting.reconciliation import CLOCKS
from position_pipeline.accounting.valuation import AccountWorth, ValuedPosition, account_worth, ties
from position_pipeline.defs.verdicts import Verdict, none_are
from position_pipeline.market_hours import LONGEST_SILENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from position_pipeline.market_hours import Silence

    Row = Mapping[str, Any]


def positions_are_fresh(rows: Sequence[Row], now: datetime, stale_after: float, silence: Silence) -> Verdict:
    """Every account's last proven answer is recent, by the broker's clock; closed markets and the broker's resets excuse, to a limit.

    An answer of later than now makes the clocks the fault: behind such a clock, silence would go unnoticed for as long.
    """
    aged = [(row, now - row["source_at"]) for row in rows]
    limit = timedelta(seconds=stale_after)
    late = [
        (row, age) for row, age in aged if age > limit and (age > LONGEST_SILENCE or silence(_kinds(row), row["source_at"], now) > limit)
    ]
    ahead = [(row, age) for row, age in aged if age < -CLOCKS]
    found = tuple({"account": row["account"], "last_answer": show.moment(row["source_at"]), "age": _age(age)} for row, age in late + ahead)
    excused = sum(1 for _, age in aged if age > limit) - len(late)
    return none_are(
        f"accounts whose last proven answer is older than {_hours(limit)}, or of later than now",
        found,
        looked_at=len(rows),
        good=f"Every account was read within {_hours(limit)} ({len(rows)} accounts{_excused(excused)}).",
        bad="Positions are as old as ",
        each="{account}: {age}",
        evidence=[*map(_lateness, (row for row, _ in late)), *(_earliness(row, age) for row, age in ahead)],
        mild=all(age <= LONGEST_SILENCE for _, age in late),
    )


def _lateness(row: Row) -> str:
    return (
        f"{row['account']}: the broker's last proven answer is of {show.moment(row['source_at'])} UTC. position-pipeline doctor shows "
        "whether the broker can be reached, position-pipeline sync asks it now. If that succeeds and this stays, the clock of this machine "
        "is ahead of the broker's: set it."
    )


def _earliness(row: Row, age: timedelta) -> str:
    return (
        f"{row['account']}: by the broker's clock its last answer was given {_hours(-age)} later than it is on this machine, whose clock "
        "is behind. Set it: until then positions look newer than they are. The book itself goes by the broker's clock."
    )


def _age(age: timedelta) -> str:
    return _hours(age) if age >= timedelta(0) else f"{_hours(-age)} in the future, because the clocks differ"


def _kinds(row: Row) -> list[tuple[str, str]]:
    return [(sec_type, currency) for sec_type, currency in row["kinds"]]


def _excused(number: int) -> str:
    return f", {number} of them older while what they hold could not be traded" if number else ""


def _hours(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def executions_have_no_gaps(
    unlistened: Sequence[Row],
    covered: Sequence[Row],
    accounts: Sequence[Row],
    tolerance: timedelta,
    silence: Silence,
) -> Verdict:
    """No part of a trading day is without its executions: heard, listed later on that day, or told by a statement."""
    kinds = {row["account"]: _kinds(row) for row in accounts}
    gaps = [
        (row["account"], since, upto)
        for row in unlistened
        for since, upto in _uncovered(row, [each for each in covered if each["account"] == row["account"]])
        if silence(kinds.get(row["account"], ()), since, upto) > tolerance
    ]
    found = tuple({"account": account, "from": show.moment(since), "to": show.moment(upto)} for account, since, upto in gaps)
    return none_are(
        "times in which executions were neither listed nor covered by a statement",
        found,
        looked_at=len(unlistened),
        good="Nothing was traded unheard: every trading day was listened to until its end, or a statement covers it.",
        bad="Executions may be missing: ",
        each="{account} from {from} to {to} UTC",
        evidence=(
            f"{account}: the broker lists the executions of its day only, and was not asked between {show.moment(since)} and "
            f"{show.moment(upto)} UTC. If something was traded then, import a statement: position-pipeline import FILE"
            for account, since, upto in gaps
        ),
        mild=True,
    )


def _uncovered(row: Row, covered: Iterable[Row]) -> list[tuple[datetime, datetime]]:
    """The parts of a span that no statement covers."""
    left = [(row["since"], row["upto"])]
    for each in covered:
        pieces = []
        for since, upto in left:
            pieces += [(since, min(upto, each["since"])), (max(since, each["upto"]), upto)]
        left = [(since, upto) for since, upto in pieces if since < upto]
    return left


def streams_are_whole(streams: Sequence[Row], now: datetime, stale_after: float) -> Verdict:
    """Every listener lives and hears its broker, and what it may have missed has been looked for; one that was stopped is no failure.

    A difference that was found then, and keeps the gap open, is told by the claims about positions.
    """
    limit = timedelta(seconds=stale_after)
    wrong = [(row, why) for row in streams if (why := _why_not_whole(row, now, limit))]
    found = tuple({"connection": row["connection"], "why": why} for row, why in wrong)
    return none_are(
        "streams that are not heard, or whose gap is open",
        found,
        looked_at=len(streams),
        good=f"Every stream is heard, and a sync has looked for all that may have been missed ({len(streams)} streams).",
        bad="Fills are not heard as they happen: ",
        each="{connection} {why}",
        evidence=(
            f"{row['connection']}: {row['detail'] or row['gap_cause'] or 'its listener is not running'}. Fills are found by the scheduled "
            "sync meanwhile. position-pipeline status shows every stream; up and listen start one."
            for row, _ in wrong
        ),
        mild=True,
    )


def _why_not_whole(row: Row, now: datetime, limit: timedelta) -> str:
    """Why a stream is not whole, empty where it is, or where that is news of a moment only."""
    if row["state"] == "stopped":
        return ""
    if not row["alive"]:
        return "has no listener"
    if row["state"] != "connected" and (row["disconnected_at"] is None or now - row["disconnected_at"] > limit):
        return "is not connected"
    if row["gap_opened_at"] is not None and row["gap_healed_at"] is None and now - row["gap_opened_at"] > limit:
        return f"has had a gap open since {show.moment(row['gap_opened_at'])} UTC"
    return ""


def fills_have_commissions(rows: Sequence[Row], executions: int) -> Verdict:
    """Every fill has its commission within a day."""
    found = tuple(
        {"account": row["account"], "symbol": row["symbol"], "fill": row["execution_id"], "time": show.moment(row["time"])} for row in rows
    )
    return none_are(
        "fills without a commission after a day",
        found,
        looked_at=executions,
        good="Every fill that is older than a day has its commission.",
        bad="The commission has not come for ",
        each="{symbol} in {account} of {time}",
        evidence=(
            f"{row['symbol']} in {row['account']}: fill {row['fill']}, {row['time']} UTC. A statement tells it: position-pipeline import"
            for row in found
        ),
        mild=True,
    )


def realized_pnl_ties_to_broker(rows: Sequence[Row]) -> Verdict:
    """Where the broker gives its own realised P&L of an execution, the closes that the execution made come to the same, to two cents."""
    wrong = [row for row in rows if not ties(row["net_pnl"], row["broker_pnl"])]
    found = tuple(
        {
            "account": row["account"],
            "symbol": row["symbol"],
            "fill": row["execution_id"],
            "ours": plain(row["net_pnl"]),
            "broker": plain(row["broker_pnl"]),
        }
        for row in wrong
    )
    return none_are(
        "executions whose closes are not what the broker says",
        found,
        looked_at=len(rows),
        good=f"Realised P&L is the broker's own, to two cents ({len(rows)} executions).",
        bad="Realised P&L is not the broker's: ",
        each="{symbol} in {account}: ours {ours}, broker {broker}",
        evidence=(
            f"{row['symbol']} in {row['account']}: off by {plain(row['gap'])} {row['currency']}. "
            f"position-pipeline explain {row['execution_id']} shows the lots and the arithmetic."
            for row in wrong
        ),
    )


def broker_cost_is_explained(breaks: Sequence[Row], compared: int) -> Verdict:
    """Where the broker's average is not ours, the method or the fees explain it."""
    found = tuple({"account": row["account"], "symbol": row["symbol"], "since": show.moment(row["first_seen_at"])} for row in breaks)
    return none_are(
        "positions whose cost at the broker nothing explains",
        found,
        looked_at=compared,
        good=f"The broker's average of every position is ours, or its method explains the difference ({compared} positions).",
        bad="The broker's cost is not explained for ",
        each="{symbol} in {account}",
        evidence=(f"{row['symbol']} in {row['account']}: {row['evidence']}" for row in breaks),
        mild=True,
    )


def portfolio_value_adds_up(values: Sequence[Row], positions: Sequence[Row]) -> Verdict:
    """Cash and the book's positions at the broker's prices come to the broker's own NetLiquidation, to 2 % of the positions' value."""
    worths = [(row["account"], _worth(row, positions)) for row in values]
    known = [(account, worth) for account, worth in worths if worth]
    wrong = [(account, worth) for account, worth in known if not worth.adds_up]
    found = tuple(
        {"account": account, "off_by": _money(worth.gap, worth), "broker": _money(worth.net_liquidation, worth)} for account, worth in wrong
    )
    return none_are(
        "accounts whose cash and positions are not their net liquidation value",
        found,
        looked_at=len(known),
        good=f"Cash and positions come to the broker's net liquidation value ({len(known)} of {len(values)} accounts can be added up).",
        bad="Cash and positions do not come to the account's value: ",
        each="{account} is off by {off_by} of {broker}",
        evidence=(
            f"{account}: cash {_money(worth.cash, worth)}, positions {_money(worth.positions, worth)}; tolerated are "
            f"{_money(worth.tolerance, worth)}. A missing position or a wrong price does this: position-pipeline breaks shows the first."
            for account, worth in wrong
        ),
        mild=True,
    )


def _worth(row: Row, positions: Sequence[Row]) -> AccountWorth | None:
    mine = [ValuedPosition(p["sec_type"], p["currency"], p["market_value"]) for p in positions if p["account"] == row["account"]]
    return account_worth(row["values"], mine)


def _money(amount: Any, worth: AccountWorth) -> str:
    return f"{show.money(amount)} {worth.currency}"
