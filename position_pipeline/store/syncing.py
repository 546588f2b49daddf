"""What frames a pass: its lock, the answers that it brings, and the log of the attempt, in the caller's transaction.

Belongs here: snapshots as they came, the sync log. Does not belong here: holding an answer against the book (reconciling.py).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from psycopg2.errors import DeadlockDetected, LockNotAvailable
from psycopg2.extras import Json

from position_pipeline.accounting.exact import plain
from position_pipeline.store import queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from position_pipeline.accounting.model import Holding, Snapshot
    from position_pipeline.store.connection import Connection

SQL = queries.load("sync")

KEPT_VALUES = frozenset(
    {
        "NetLiquidation", "TotalCashValue", "CashBalance", "GrossPositionValue", "StockMarketValue", "OptionMarketValue",
        "FutureOptionValue", "FuturesPNL", "UnrealizedPnL", "RealizedPnL", "ExchangeRate", "AccruedCash", "SettledCash",
        "NetDividend", "BuyingPower", "MaintMarginReq", "Cryptocurrency", "TotalCashBalance", "NetLiquidationByCurrency",
    }
)  # fmt: skip
"""The account totals that are kept with each snapshot; a gateway sends over a hundred, most of them margin."""


PATIENCE = "120s"
"""How long one pass waits for another of the same account: longer than a pass takes, and well below what a run may take, so that a run
that waited in vain says so itself and is not ended from outside."""

LONGEST_SILENCE = "900s"
"""A pass that says nothing to the database for so long hangs; no broker timeout is longer than ten minutes."""


def lock(connection: Connection, account: str, *, wait: bool, patience: str = PATIENCE) -> bool:
    """Take the account's sync lock, for the session; False where another session has it and does not give it up in time."""
    key = {"account": account}
    if wait:
        try:
            with connection.transaction():
                connection.execute(SQL["wait_for_lock"], {"patience": patience})
                connection.execute(SQL["sync_lock"], key)
        except (LockNotAvailable, DeadlockDetected):
            return False
    else:
        row = connection.one(SQL["try_sync_lock"], key)
        if row is None or not row["held"]:
            return False
    connection.execute(SQL["end_when_idle"], {"after": LONGEST_SILENCE})
    return True


def unlock(connection: Connection, account: str) -> None:
    connection.execute(SQL["sync_unlock"], {"account": account})
    connection.execute(SQL["end_when_idle"], {"after": "0"})


def save_snapshot(connection: Connection, snapshot: Snapshot, connection_name: str) -> int:
    """Store one answer; the holdings of a proven one are written only where quantities or averages differ from the last one."""
    digest = _digest(snapshot.holdings) if snapshot.proven else ""
    last = connection.one(SQL["last_proven_snapshot"], {"account": snapshot.account}) if snapshot.proven else None
    same = last is not None and last["digest"] == digest
    row = connection.one(
        SQL["add_snapshot"],
        {
            "account": snapshot.account,
            "connection": connection_name,
            "broker": snapshot.broker,
            "taken_at": snapshot.taken_at,
            "source_at": snapshot.source_at,
            "status": snapshot.status.value,
            "reason": snapshot.reason,
            "holdings": len(snapshot.holdings),
            "digest": digest,
            "holdings_of": last["holdings_of"] if last is not None and same else None,
            "values": Json(_kept_values(snapshot)),
            "errors": Json(dict(snapshot.errors)),
            "unread": sorted(snapshot.unread),
        },
    )
    assert row is not None
    if snapshot.proven and not same:
        connection.execute(SQL["snapshot_keeps_its_own_holdings"], {"id": row["id"]})
        connection.many(SQL["add_holdings"], (_holding_row(row["id"], holding) for holding in snapshot.holdings))
    return int(row["id"])


def _digest(holdings: Sequence[Holding]) -> str:
    lines = sorted(f"{h.instrument}|{_digits(h.quantity)}|{_digits(h.raw_average_cost)}" for h in holdings)
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _digits(value: Decimal | None) -> str:
    return "" if value is None else plain(value)


def _kept_values(snapshot: Snapshot) -> list[list[str]]:
    return [[value.tag, value.currency, value.value] for value in snapshot.values if value.tag in KEPT_VALUES]


def _holding_row(snapshot_id: int, holding: Holding) -> tuple[Any, ...]:
    h = holding
    return (
        snapshot_id, h.instrument, h.quantity, h.average_price, h.raw_average_cost, h.market_price, h.market_value, h.unrealized_pnl,
    )  # fmt: skip


def save_sync(connection: Connection, values: Mapping[str, Any]) -> None:
    """Keep one attempt, whatever came of it."""
    connection.execute(SQL["add_sync"], {**values, "errors": Json(values["errors"], dumps=json.dumps)})
