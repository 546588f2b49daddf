"""Keeping snapshots, and carrying out what reconciliation says, in the caller's transaction; and the lock of a pass.

Belongs here: SQL around `accounting.reconciliation`, the break rows, the sync log. Does not belong here: the verdicts themselves.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from psycopg2.errors import DeadlockDetected, LockNotAvailable
from psycopg2.extras import Json

from position_pipeline.accounting.arrivals import STATEMENT_SOURCES
from position_pipeline.accounting.exact import ZERO, plain
from position_pipeline.accounting.model import Holding
from position_pipeline.accounting.reconciliation import NOT_BOOKED, BookSide, reconcile
from position_pipeline.store import queries
from position_pipeline.store.book import described, lock_account, make_room, record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Break, Instrument, Snapshot
    from position_pipeline.accounting.reconciliation import Reconciliation
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


PATIENCE = "300s"
"""How long one pass waits for another of the same account."""

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


def reconcile_account(connection: Connection, snapshot: Snapshot, instruments: Sequence[Instrument]) -> Reconciled:
    """Compare a proven snapshot with the book, and mark, adjust and open or resolve breaks. The caller holds a transaction."""
    lock_account(connection, snapshot.account)
    account = connection.one(BOOK["account"], {"account": snapshot.account})
    assert account is not None, "an account is added before it is reconciled"
    kinds = {instrument.id: instrument for instrument in instruments}
    snapshot = _positions_only(snapshot, kinds)
    sides = _sides(connection, snapshot.account)
    first = account["first_proven_at"] is None
    if first:
        kinds |= described(connection, sides)
    unmet = frozenset() if first else _unmet(connection, snapshot, sides, kinds)
    book = _book(connection, snapshot.account, sides, to_the_ground=first or bool(unmet))
    verdict = reconcile(book, snapshot, kinds, first_contact=first, unmet=unmet)
    changes: Mapping[str, Change] = {}
    if verdict.adjustments:
        changes = record(connection, snapshot.account, (), verdict.adjustments, instruments).changes
    strangers = [kinds[found.instrument] for found in verdict.breaks if found.instrument not in sides]
    make_room(connection, snapshot.account, strangers)
    if verdict.adjustments or strangers:
        sides = _sides(connection, snapshot.account)
    marked = _mark(connection, snapshot, sides)
    opened, still_open, resolved = _keep_breaks(connection, snapshot, verdict)
    connection.execute(SQL["mark_account"], {"account": snapshot.account, "at": snapshot.taken_at})
    held = {instrument for instrument, row in sides.items() if row["quantity"]} | {h.instrument for h in snapshot.holdings if h.quantity}
    return Reconciled(changes, marked, frozenset(held - snapshot.unread), opened, still_open, resolved)


def _sides(connection: Connection, account: str) -> dict[str, Row]:
    values = {"account": account, "not_booked": sorted(NOT_BOOKED)}
    return {row["instrument"]: row for row in connection.rows(SQL["book_side"], values)}


def _positions_only(snapshot: Snapshot, kinds: Mapping[str, Instrument]) -> Snapshot:
    kept = tuple(h for h in snapshot.holdings if kinds[h.instrument].sec_type not in NOT_BOOKED)
    return snapshot if len(kept) == len(snapshot.holdings) else replace(snapshot, holdings=kept)


def _unmet(connection: Connection, snapshot: Snapshot, sides: Mapping[str, Row], kinds: Mapping[str, Instrument]) -> frozenset[str]:
    """Holdings that first contact could not read, and that no sync has read since: this is first contact for them."""
    row = connection.one(SQL["unread_at_first"], {"account": snapshot.account})
    if row is None or not row["symbols"]:
        return frozenset()
    met = {instrument for instrument, side in sides.items() if side["broker_quantity"] is not None}
    unread, known = set(row["symbols"]), set(row["unread"])
    held = {h.instrument for h in snapshot.holdings} | set(sides)
    kinds = {**described(connection, held - met), **kinds}
    return frozenset(i for i in held - met if i in known or not unread.isdisjoint(_names(i, kinds[i].symbol)))


def _names(instrument: str, symbol: str) -> tuple[str, ...]:
    """How a snapshot may name an instrument that it could not read: the label may be longer than what was read of it."""
    return (symbol, symbol.partition(" ")[0], f"{symbol} ({instrument})", f"{symbol.partition(' ')[0]} ({instrument})", instrument)


def _book(connection: Connection, account: str, sides: Mapping[str, Row], *, to_the_ground: bool) -> dict[str, BookSide]:
    """The book's side; what it rests on matters only at first contact."""
    values = {"account": account, "statements": sorted(STATEMENT_SOURCES)}
    found = connection.rows(SQL["what_it_rests_on"], values) if to_the_ground else ()
    ground = {row.pop("instrument"): row for row in found}
    return {instrument: BookSide(row["quantity"], **ground.get(instrument, {})) for instrument, row in sides.items()}


def _mark(connection: Connection, snapshot: Snapshot, sides: Mapping[str, Row]) -> frozenset[str]:
    """Write the broker's side where it differs from what is stored; the instruments whose quantity or average changed."""
    held = {holding.instrument: holding for holding in snapshot.holdings}
    changed, marked = [], set()
    for instrument, row in sides.items():
        if instrument in snapshot.unread:
            continue
        theirs = held.get(instrument, Holding(instrument, ZERO))
        if (row["broker_quantity"], row["broker_average_price"]) != (theirs.quantity, theirs.average_price):
            marked.add(instrument)
        priced = theirs.market_price is not None and theirs.market_price != row["market_price"]
        if instrument in marked or priced or row["sync_error"]:
            changed.append((snapshot.account, instrument, *_marks(theirs), snapshot.taken_at))
    connection.many(SQL["mark_positions"], changed, template="(%s, %s, %s::numeric, %s::numeric, %s::numeric, %s::timestamptz)")
    unread = [(snapshot.account, i, _error_of(snapshot, i, sides[i]["symbol"])) for i in sorted(snapshot.unread & set(sides))]
    connection.many(SQL["mark_unread"], unread)
    return frozenset(marked)


def _error_of(snapshot: Snapshot, instrument: str, symbol: str) -> str:
    found = (snapshot.errors[name] for name in _names(instrument, symbol) if name in snapshot.errors)
    return next(found, "what the broker said of it could not be read")


def _marks(holding: Holding) -> tuple[Decimal | None, ...]:
    return (holding.quantity, holding.average_price, holding.market_price)


def _keep_breaks(connection: Connection, snapshot: Snapshot, verdict: Reconciliation) -> tuple[tuple[str, ...], int, tuple[str, ...]]:
    """Open new breaks, see old ones again, resolve those whose cause is gone: (opened, open altogether, resolved) by instrument.

    Those of instruments that could not be read stay as they are.
    """
    stored = {(row["instrument"], row["class"]): row for row in connection.rows(SQL["open_breaks"], {"account": snapshot.account})}
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
    still_open = len(verdict.breaks) + len(stored) - len(gone)
    return tuple(opened), still_open, tuple(row["instrument"] for row in gone)


def _break_values(found: Break, at: datetime) -> Row:
    cause = f"{found.account}\x1f{found.instrument}\x1f{found.cls.value}\x1f{at.isoformat()}"
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
