"""What frames a pass: its lock, the answers that it brings, and the log of the attempt, in the caller's transaction.

Belongs here: snapshots as they came, the sync log. Does not belong here: holding an answer against the book (reconciling.py).

What is held hardly changes from answer to answer. So a holding is one row from the answer that is the first to say it until another says
otherwise, and an answer that repeats the last one in everything is that one's row, given once more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg2.errors import DeadlockDetected, LockNotAvailable
from psycopg2.extras import Json

from position_pipeline.store import queries
from position_pipeline.store.instruments import add_instruments
from position_pipeline.store.prints import prints_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from position_pipeline.accounting.model import Holding, Instrument, Snapshot
    from position_pipeline.store.connection import Connection, Row
    from position_pipeline.store.prints import Prints

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


@dataclass(frozen=True, slots=True)
class Kept:
    """One answer on record, by its `id` in snapshots.

    `since` is the proven snapshot before it, and `changed` are the instruments of which the two may not say the same; None: there is none
    that counts, or it is not known. `repeats`: it says the same in everything, and `id` is that snapshot; as long as it is not held
    against the book it is not on record.
    """

    id: int
    since: int | None = None
    changed: frozenset[str] | None = None
    repeats: bool = False


def keep_answer(
    connection: Connection, snapshot: Snapshot, instruments: Sequence[Instrument], connection_name: str, *, may_wait: bool
) -> Kept:
    """Store one answer, and of a proven one what it says otherwise than the last; with `may_wait` not one that repeats the last."""
    if not snapshot.proven:
        add_instruments(connection, instruments)
        return Kept(_add(connection, snapshot, connection_name))
    prints = prints_of(snapshot, {instrument.id: instrument for instrument in instruments})
    last = connection.one(SQL["last_answer"], {"account": snapshot.account, "at": snapshot.taken_at})
    changed = None
    if last is not None and last["named"] is not None and bytes(last["named"]) == prints.named:
        changed = prints.differing(bytes(last["prints"]))
    if may_wait and last is not None and changed == frozenset() and _repeats(snapshot, last, connection_name):
        return Kept(last["id"], last["id"], changed, repeats=True)
    add_instruments(connection, [each for each in instruments if changed is None or each.id in changed])
    id_ = _add(connection, snapshot, connection_name)
    if not _keep_prints(connection, snapshot.account, id_, prints, None if last is None else last["id"]):
        changed = None
    _keep_holdings(connection, snapshot, id_, changed)
    return Kept(id_, last["id"] if last is not None and last["is_of_today"] else None, changed)


def written_again(connection: Connection, snapshot: Snapshot, kept: Kept) -> Kept:
    """Store an answer that repeats the last one in a row of its own after all, because the book differs from it by now."""
    values = {"id": kept.id, "account": snapshot.account, "taken_at": snapshot.taken_at, "source_at": snapshot.source_at}
    row = connection.one(SQL["add_snapshot_again"], values)
    assert row is not None
    connection.execute(SQL["move_last_answer"], {**values, "new": row["id"]})
    return Kept(row["id"], kept.id, frozenset())


def _repeats(snapshot: Snapshot, last: Row, connection_name: str) -> bool:
    """Whether nothing at all is new, and nothing is waiting. Instruments have been compared.

    A day begins with a row of its own: a night between two answers is seen by their times, and the thin history has one of each day.
    """
    return (
        last["agreed_to"] == last["id"]
        and not last["touched"]
        and last["is_newest"]
        and last["is_of_today"]
        and last["taken_at"] < snapshot.taken_at
        and not (snapshot.errors or snapshot.unread)
        and (last["status"], last["connection"], last["broker"]) == (snapshot.status.value, connection_name, snapshot.broker)
        and sorted(last["values"]) == sorted(_kept_values(snapshot))
    )


def _keep_prints(connection: Connection, account: str, snapshot_id: int, prints: Prints, last: int | None) -> bool:
    """Keep what the next answer is compared with; whether what was kept until now is of the answer `last`.

    Where somebody else writes to it for long, it stays as it is, of an older answer: the next one is compared in everything.
    """
    values = {"account": account, "id": snapshot_id, "prints": prints.slices, "named": prints.named}
    known = connection.one(SQL["lock_last_answer"], {"account": account})
    if known is None or known["is_free"]:
        connection.execute(SQL["add_last_answer" if known is None else "keep_last_answer"], values)
    return known is not None and known["is_free"] and known["snapshot_id"] == last


def _add(connection: Connection, snapshot: Snapshot, connection_name: str) -> int:
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
            "values": Json(_kept_values(snapshot)),
            "errors": Json(dict(snapshot.errors)),
            "unread": sorted(snapshot.unread),
        },
    )
    assert row is not None
    return int(row["id"])


def _keep_holdings(connection: Connection, snapshot: Snapshot, snapshot_id: int, changed: frozenset[str] | None) -> None:
    """Write what the snapshot says otherwise than the last one, of the instruments `changed` or (None) of all."""
    if changed is not None and not changed:
        return
    values = {"account": snapshot.account, "id": snapshot_id, "instruments": None if changed is None else sorted(changed)}
    last = {row.pop("instrument"): tuple(row.values()) for row in connection.rows(SQL["last_holdings"], values)}
    now = {holding.instrument: holding for holding in snapshot.holdings if changed is None or holding.instrument in changed}
    new = [h for i, h in now.items() if last.get(i) != (h.quantity, h.average_price, h.raw_average_cost)]
    ended = last.keys() & ((last.keys() - now.keys()) | {holding.instrument for holding in new})
    if ended:
        connection.execute(SQL["end_holdings"], {**values, "instruments": sorted(ended)})
    connection.many(SQL["add_holdings"], (_holding_row(snapshot.account, snapshot_id, holding) for holding in new))


def _kept_values(snapshot: Snapshot) -> list[list[str]]:
    return [[value.tag, value.currency, value.value] for value in snapshot.values if value.tag in KEPT_VALUES]


def _holding_row(account: str, snapshot_id: int, holding: Holding) -> tuple[Any, ...]:
    h = holding
    figures = (h.quantity, h.average_price, h.raw_average_cost, h.market_price, h.market_value, h.unrealized_pnl)
    return (account, snapshot_id, h.instrument, *figures)


def save_sync(connection: Connection, values: Mapping[str, Any]) -> None:
    """Keep one attempt, whatever came of it."""
    connection.execute(SQL["add_sync"], {**values, "errors": Json(values["errors"], dumps=json.dumps)})
