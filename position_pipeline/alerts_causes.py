"""What counts as wrong with connections, runs and checks: from rows and verdicts to troubles, each under the key of its cause.

Belongs here: one function a source, and in how many words a trouble is put. Pure. Does not belong here: differences between book and broker
(alerts_differences), reading the rows (store.alerting, defs.alerting), what of it is told (alerts). A new source is one more function here,
and its call in `alerts_delivery.tell`.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from position_pipeline import show
from position_pipeline.alerts import Kind, Trouble, cut
from position_pipeline.market_hours import LONGEST_SILENCE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from position_pipeline.market_hours import Silence

Row = dict[str, Any]

MATES = timedelta(minutes=1)
"""Accounts of one connection are synced one after the other: what is stale within this time is told together."""

ELSEWHERE = {
    "quantities_match_broker": "quantity",
    "positions_are_explained": "adopted",
    "portfolio_value_adds_up": "quantity",
    "broker_cost_is_explained": "cost",
    "positions_are_fresh": "stale",
}
"""Checks whose finding has rows of its own, or follows from them: where there are such rows of the same accounts, they are what is told."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the last run of a job ended: `steps` are those that failed, `says` is what they said."""

    job: str
    run_id: str
    failed: bool
    at: datetime
    steps: tuple[str, ...] = ()
    says: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the last evaluation of a check found; `passed` None: it is not known, because the check did not get its turn.

    `error`: it is one by the check's severity, and no warning. `run_succeeded`: while a run goes on it may fail yet, and then the run is
    what is told.
    """

    asset: str
    name: str
    passed: bool | None
    says: str
    at: datetime
    error: bool
    run_succeeded: bool
    accounts: tuple[str, ...] = ()


def digest(*parts: object) -> str:
    """A short name for what was told, to see whether it is the same."""
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=12).hexdigest()


# -- connections


def of_accounts(rows: Iterable[Row], connections: Collection[str], stale_after: float, silence: Silence, now: datetime) -> list[Trouble]:
    """One trouble for each connection of which an account has had no proven answer for too long; what no connection reads is left out.

    `silence` says how much of a time counts: while nothing that an account holds can be traded, and in the broker's reset, it is excused.
    """
    limit = timedelta(seconds=stale_after)
    silences: dict[str, list[tuple[timedelta, Row]]] = defaultdict(list)
    for row in rows:
        if row["connection"] in connections:
            silences[row["connection"]].append((_counted(row, limit, silence, now), row))
    return [_stale(name, found, limit) for name, found in silences.items() if any(counted > limit for counted, _ in found)]


def _counted(row: Row, limit: timedelta, silence: Silence, now: datetime) -> timedelta:
    """How long an account has been silent, as far as it counts."""
    last = row["last_synced_at"] or row["first_seen_at"]
    age: timedelta = now - last
    if age <= limit - MATES or age > LONGEST_SILENCE:
        return age
    return silence([(sec_type, currency) for sec_type, currency in row["kinds"]], last, now)


def _stale(connection: str, silences: Sequence[tuple[timedelta, Row]], limit: timedelta) -> Trouble:
    stale = [row for counted, row in silences if counted > limit - MATES]
    names = tuple(row["account"] for row in stale)
    return Trouble(
        cause=f"stale:{connection}",
        kind=Kind.STALE,
        accounts=names,
        headline=f"{show.some(names)}: no proven answer of {connection} for too long; the figures are as they were",
        says=" ".join(_attempt(row) for row in stale[:3]),
        helps="position-pipeline doctor",
        since_at=min(row["last_synced_at"] or row["first_seen_at"] for row in stale),
        digest=digest(*names),
    )


def _attempt(row: Row) -> str:
    last = f"last proven answer {show.moment(row['last_synced_at'])} UTC" if row["last_synced_at"] else "never a proven answer"
    errors = "; ".join(filter(None, (error.get("error") for error in row["last_errors"] or ())))
    tried = f", last attempt {row['last_outcome']}{f': {errors}' if errors else ''}" if row["last_outcome"] else ""
    return f"{row['account']}: {cut(last + tried).rstrip('.')}."


def of_gaps(rows: Iterable[Row], patience: float, now: datetime) -> list[Trouble]:
    """Gaps of streams that no sync has made good in the time in which a sync should have come."""
    return [
        Trouble(
            cause=f"gap:{row['connection']}",
            kind=Kind.GAP,
            accounts=(),
            headline=f"{row['connection']}: the stream of fills has a gap that no sync has made good",
            says=row["cause"],
            helps="position-pipeline sync",
            since_at=row["opened_at"],
            quiet=now - row["opened_at"] < timedelta(seconds=patience),
        )
        for row in rows
    ]


# -- runs and checks


def of_runs(ended: Iterable[Ended]) -> list[Trouble]:
    """One trouble for each job whose last run failed, whether it ended itself, was killed or never started."""
    return [
        Trouble(
            cause=f"run:{run.job}",
            kind=Kind.RUN,
            accounts=(),
            headline=f"the run {run.job} failed" + (f" at {', '.join(run.steps)}" if run.steps else ""),
            says=run.says,
            helps=f"position-pipeline status; the Dagster UI shows run {run.run_id[:8]}",
            since_at=run.at,
            digest=digest(*run.steps),
            grave=True,
        )
        for run in ended
        if run.failed
    ]


def of_checks(judged: Iterable[Judged]) -> list[Trouble]:
    """One trouble for each failed check of a run that succeeded."""
    return [
        Trouble(
            cause=f"check:{check.asset}:{check.name}",
            kind=Kind.CHECK,
            accounts=check.accounts,
            headline=f"{check.name} failed ({check.asset})",
            says=check.says,
            helps="position-pipeline status; the Dagster UI shows the check with the rows that break it",
            since_at=check.at,
            digest=digest(words(check.says)),
            grave=check.error,
            quiet=check.passed is None or not check.run_succeeded,
        )
        for check in judged
        if not check.passed
    ]


def told_elsewhere(troubles: Iterable[Trouble], breaks: Iterable[Row], stale: Iterable[Trouble]) -> list[Trouble]:
    """The troubles, with those checks quiet whose finding is told by its own rows."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in breaks:
        if row["subject"] != "quantity" or row["book_quantity"] != row["broker_quantity"]:
            found[row["subject"]].add(row["account"])
        if row["adopted"]:
            found["adopted"].add(row["account"])
    found["stale"] = {account for each in stale for account in each.accounts}
    return [replace(each, quiet=True) if _told_by(each, found) else each for each in troubles]


def _told_by(trouble: Trouble, found: Mapping[str, set[str]]) -> bool:
    accounts = found.get(ELSEWHERE.get(trouble.cause.rpartition(":")[2], ""), set())
    return trouble.kind is Kind.CHECK and bool(trouble.accounts) and accounts.issuperset(trouble.accounts)


def words(text: str) -> str:
    """The text without its bare numbers: which rows break a check matters, and prices and ages move with every run."""
    return re.sub(r"(?<!\S)[-+(≠]?\d[\d.,:%/-]*[).,;:]?(?!\S)", "#", text)
