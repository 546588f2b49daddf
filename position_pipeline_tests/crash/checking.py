"""What must hold after every fault, by the broker's own truth.

Belongs here: comparisons, as lists of what is wrong; empty is right. Does not belong here: waiting (rounds.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol

from position_pipeline import verify
from position_pipeline.accounting.cash import CashFlow, cash_identity
from position_pipeline.brokers.ibkr_fills import identity
from position_pipeline.store import Store

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from decimal import Decimal

    from position_pipeline.simulator import Simulator


class Place(Protocol):
    """A broker and a database that should agree."""

    broker: Simulator

    @property
    def url(self) -> str: ...

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]: ...


EXECUTIONS = "SELECT account, execution_id, revision, side, quantity, price, commission FROM executions"
POSITIONS = "SELECT account, instrument, quantity FROM positions WHERE quantity <> 0"
UNFINISHED = "SELECT run_id, status FROM dagster.runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"
SLOTS = "SELECT run_id, step_key FROM dagster.concurrency_slots WHERE run_id IS NOT NULL"
LOCKS = """
SELECT name FROM (
    SELECT 'position_pipeline:' || kind || ':' || account AS name FROM accounts CROSS JOIN (VALUES ('sync'), ('book')) AS kinds (kind)
) named
JOIN pg_locks ON locktype = 'advisory' AND objsubid = 1
    AND (classid::bigint << 32 | objid::bigint) = hashtextextended(name, 0)
"""
HEARD = """
SELECT connection, last_heartbeat_at > now() - interval '20 s' AND state <> 'stopped' AS alive,
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted
        AND (classid::bigint << 32 | objid::bigint) = hashtextextended('position_pipeline:stream:' || connection, 0)) AS held
FROM streams
"""
FINISHED = """
SELECT id FROM sync_requests JOIN pg_locks ON locktype = 'advisory' AND objsubid = 1
    AND (classid::bigint << 32 | objid::bigint) = hashtextextended('position_pipeline:request:' || id::text, 0)
WHERE finished_at IS NOT NULL
"""
ONE_OF = ("listener", "daemon", "webserver", "supervisord")
"""Of these two would be one too many; a code server is two processes, and has a third while it starts."""


def fills(place: Place) -> list[str]:
    """Every execution of the broker, in every version, is in the database exactly once, with its commission; and nothing else is."""
    theirs = Counter(_as_row(one) for one in place.broker.executions())
    ours = Counter((a, i, r, str(s), q, p, c) for a, i, r, s, q, p, c in place.rows(EXECUTIONS))
    missing = [f"fill missing: {row}" for row in sorted((theirs - ours).elements(), key=str)]
    return missing + [f"fill too many: {row}" for row in sorted((ours - theirs).elements(), key=str)]


def _as_row(one) -> tuple:
    return (
        one.account,
        *identity(one.exec_id),
        "BUY" if one.side == "BOT" else "SELL",
        one.quantity,
        one.price,
        one.commission if one.reported else None,
    )


def positions(place: Place) -> list[str]:
    """What the book holds is what the broker holds."""
    ours = {(account, int(instrument.partition(":")[2])): quantity for account, instrument, quantity in place.rows(POSITIONS)}
    theirs = held(place.broker)
    return [
        f"position: {key} book {ours.get(key)}, broker {theirs.get(key)}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]


def held(broker: Simulator) -> dict[tuple[str, int], Decimal]:
    accounts = {one.account for one in broker.executions()} | {"U1"}
    return {(account, con_id): quantity for account in accounts for con_id, (quantity, _) in broker.holdings(account).items() if quantity}


def book(place: Place) -> list[str]:
    """The identity is 0, and the book is what its entries make, to the last value."""
    with Store(place.url) as store:
        flows = [
            (row, cash_identity(CashFlow(**{each.name: row[each.name] for each in fields(CashFlow)}))) for row in store.read.cash_flows()
        ]
        verified = verify.verify(store)
    wrong = [f"identity: {row['account']} {row['symbol']} is off by {residue}" for row, residue in flows if residue]
    return wrong + [f"verify: {difference}" for difference in verified.differences]


def locks(place: Place) -> list[str]:
    """No account's lock is held by anybody, nor that of a request that is finished, and a stream's by its living listener alone."""
    wrong = [f"lock held: {name}" for (name,) in place.rows(LOCKS)]
    wrong += [f"lock held of finished request {request}" for (request,) in place.rows(FINISHED)]
    return wrong + [f"stream {name}: listened to {alive}, locks {held}" for name, alive, held in place.rows(HEARD) if held != alive]


def twice(census: Mapping[str, Collection[int]]) -> list[str]:
    """Who runs more than once."""
    return [f"{role} runs {len(census[role])} times" for role in ONE_OF if len(census[role]) > 1]


def slots(place: Place) -> list[str]:
    """No run and no slot of a pool is held in Dagster."""
    unfinished = [f"run not over: {run} {status}" for run, status in place.rows(UNFINISHED)]
    return unfinished + [f"slot held: {run} {step}" for run, step in place.rows(SLOTS)]


def unverified(place: Place) -> list[str]:
    """No fill is left that no answer of the broker was held against, and no difference is open."""
    waiting = place.rows(
        "SELECT account, verified_to FROM accounts a WHERE EXISTS (SELECT FROM executions e WHERE e.account = a.account AND e.id > a.verified_to)"
    )
    breaks = place.rows("SELECT account, instrument, class FROM breaks WHERE status = 'open'")
    return [f"not verified: {row}" for row in waiting] + [f"break: {row}" for row in breaks]
