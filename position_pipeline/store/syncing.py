"""Keeping snapshots, and carrying out what reconciliation says, in the caller's transaction.

Belongs here: SQL around `accounting.reconciliation`, the break rows, the sync log. Does not belong here: the verdicts themselves.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg2.extras import Json

from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.model import Break, Holding, Snapshot
from position_pipeline.accounting.reconciliation import NOT_BOOKED, BookSide, Reconciliation, reconcile
from position_pipeline.store import queries
from position_pipeline.store.book import make_room, record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Instrument
    from position_pipeline.store.book import Change
    from position_pipeline.store.connection import Connection, Row

SQL = queries.load("sync")
BOOK = queries.load("book")

KEPT_VALUES = frozenset(
    {
        "NetLiquidation", "TotalCashValue", "CashBalance", "GrossPositionValue", "StockMarketValue", "OptionMarketValue",
        "FutureOptionValue", "FuturesPNL", "UnrealizedPnL", "RealizedPnL", "ExchangeRate", "AccruedCash", "SettledCash",
        "NetDividend", "BuyingPower", "MaintMarginReq", "Cryptocurrency", "TotalCashBalance", "NetLiquidationByCurrency",
    }
)  # fmt: skip
"""The account totals that are kept with each snapshot; a gateway sends over a hundred, most of them margin."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What reconciling did: positions that it changed, instruments whose broker side changed, all that are held by either side, and
    what became of the breaks.
    """

    changes: Mapping[str, Change] = field(default_factory=dict)
    marked: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    opened: tuple[str, ...] = ()
    open_breaks: int = 0
    resolved: tuple[str, ...] = ()


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
            "status": snapshot.status.value,
            "reason": snapshot.reason,
            "holdings": len(snapshot.holdings),
            "digest": digest,
            "holdings_of": last["holdings_of"] if last is not None and same else None,
            "values": Json(_kept_values(snapshot)),
            "errors": Json(dict(snapshot.errors)),
        },
    )
    assert row is not None
    if snapshot.proven and not same:
        connection.execute(SQL["snapshot_keeps_its_own_holdings"], {"id": row["id"]})
        connection.many(SQL["add_holdings"], (_holding_row(row["id"], holding) for holding in snapshot.holdings))
    return int(row["id"])


def _digest(holdings: Sequence[Holding]) -> str:
    lines = sorted(f"{h.instrument}|{h.quantity.normalize()}|{h.raw_average_cost}" for h in holdings)
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _kept_values(snapshot: Snapshot) -> list[list[str]]:
    return [[value.tag, value.currency, value.value] for value in snapshot.values if value.tag in KEPT_VALUES]


def _holding_row(snapshot_id: int, holding: Holding) -> tuple[Any, ...]:
    h = holding
    return (
        snapshot_id, h.instrument, h.quantity, h.average_price, h.raw_average_cost, h.market_price, h.market_value, h.unrealized_pnl,
    )  # fmt: skip


def reconcile_account(connection: Connection, snapshot: Snapshot, instruments: Sequence[Instrument]) -> Reconciled:
    """Compare a proven snapshot with the book, and mark, adjust and open or resolve breaks. The caller holds a transaction."""
    connection.execute(BOOK["lock_account"], {"account": snapshot.account})
    account = connection.one(BOOK["account"], {"account": snapshot.account})
    assert account is not None, "an account is added before it is reconciled"
    described = {instrument.id: instrument for instrument in instruments}
    snapshot = _positions_only(snapshot, described)
    sides = {row["instrument"]: row for row in connection.rows(SQL["book_side"], _book_side_values(snapshot))}
    first = account["first_proven_at"] is None
    verdict = reconcile(_book(connection, snapshot, sides, first), snapshot, described, first_contact=first)
    changes: Mapping[str, Change] = {}
    if verdict.adjustments:
        changes = record(connection, snapshot.account, (), verdict.adjustments, instruments).changes
    new = [b.instrument for b in verdict.breaks if b.instrument not in sides]
    make_room(connection, snapshot.account, [described[instrument] for instrument in new])
    if verdict.adjustments or new:
        sides = {row["instrument"]: row for row in connection.rows(SQL["book_side"], _book_side_values(snapshot))}
    marked = _mark(connection, snapshot, sides)
    opened, still_open, resolved = _keep_breaks(connection, snapshot, verdict)
    connection.execute(SQL["mark_account"], {"account": snapshot.account, "at": snapshot.taken_at})
    held = frozenset(i for i, row in sides.items() if row["quantity"]) | {h.instrument for h in snapshot.holdings}
    return Reconciled(changes, marked, held, opened, still_open, resolved)


def _book_side_values(snapshot: Snapshot) -> Row:
    return {"account": snapshot.account, "not_booked": sorted(NOT_BOOKED)}


def _positions_only(snapshot: Snapshot, described: Mapping[str, Instrument]) -> Snapshot:
    kept = tuple(h for h in snapshot.holdings if described[h.instrument].sec_type not in NOT_BOOKED)
    if len(kept) == len(snapshot.holdings):
        return snapshot
    return Snapshot(
        snapshot.account, snapshot.broker, snapshot.taken_at, snapshot.status, kept, snapshot.values, snapshot.reason,
        snapshot.errors, snapshot.unread,
    )  # fmt: skip


def _book(connection: Connection, snapshot: Snapshot, sides: Mapping[str, Row], first: bool) -> dict[str, BookSide]:
    """The book's side; where its entries begin matters only at first contact."""
    begins = {}
    if first:
        found = connection.rows(SQL["first_entries"], {"account": snapshot.account})
        begins = {row["instrument"]: row["first_entry_at"] for row in found}
    return {instrument: BookSide(row["quantity"], begins.get(instrument)) for instrument, row in sides.items()}


def _mark(connection: Connection, snapshot: Snapshot, sides: Mapping[str, Row]) -> frozenset[str]:
    """Write the broker's side where it differs from what is stored; the instruments whose quantity or average changed."""
    held = {holding.instrument: holding for holding in snapshot.holdings}
    changed, marked = [], set()
    for instrument, row in sides.items():
        if instrument in snapshot.unread:
            continue
        theirs = held.get(instrument, Holding(instrument, ZERO))
        price = row["market_price"] if theirs.market_price is None else theirs.market_price
        stored = (row["broker_quantity"], row["broker_average_price"])
        if stored != (theirs.quantity, theirs.average_price):
            marked.add(instrument)
        if instrument in marked or price != row["market_price"] or row["sync_error"]:
            changed.append((snapshot.account, instrument, *_marks(theirs), snapshot.taken_at))
    connection.many(
        SQL["mark_positions"], changed, template="(%s, %s, %s::numeric, %s::numeric, %s::numeric, %s::timestamptz)"
    )
    symbols = {row["symbol"]: instrument for instrument, row in sides.items()}
    unread = [
        (snapshot.account, symbols[symbol], error) for symbol, error in snapshot.errors.items() if symbol in symbols
    ]
    connection.many(SQL["mark_unread"], unread)
    return frozenset(marked)


def _marks(holding: Holding) -> tuple[Decimal | None, ...]:
    return (holding.quantity, holding.average_price, holding.market_price)


def _keep_breaks(
    connection: Connection, snapshot: Snapshot, verdict: Reconciliation
) -> tuple[tuple[str, ...], int, tuple[str, ...]]:
    """Open new breaks, see old ones again, resolve those whose cause is gone: (opened, open altogether, resolved) by instrument."""
    stored = {
        (row["instrument"], row["class"]): row
        for row in connection.rows(SQL["open_breaks"], {"account": snapshot.account})
    }
    opened = []
    for found in verdict.breaks:
        row = stored.pop((found.instrument, found.cls.value), None)
        values = _break_values(found, snapshot.taken_at)
        if row is None:
            connection.execute(SQL["open_break"], values)
            opened.append(found.instrument)
        else:
            connection.execute(SQL["see_break_again"], {**values, "id": row["id"]})
    gone = [row for row in stored.values() if row["instrument"] not in snapshot.unread]
    if gone:
        connection.execute(SQL["resolve_breaks"], {"ids": [row["id"] for row in gone], "at": snapshot.taken_at})
    return tuple(opened), len(verdict.breaks), tuple(row["instrument"] for row in gone)


def _break_values(found: Break, at: datetime) -> Row:
    cause = "\x1f".join((found.account, found.instrument, found.cls.value, at.isoformat()))
    return {
        "id": hashlib.sha256(cause.encode()).hexdigest()[:12],
        "account": found.account,
        "instrument": found.instrument,
        "class": found.cls.value,
        "book_quantity": found.book_quantity,
        "broker_quantity": found.broker_quantity,
        "at": at,
        "proposal": found.proposal,
        "evidence": found.evidence,
    }


def save_sync(connection: Connection, values: Mapping[str, Any]) -> None:
    """Keep one attempt, whatever came of it."""
    connection.execute(SQL["add_sync"], {**values, "errors": Json(values["errors"], dumps=json.dumps)})
