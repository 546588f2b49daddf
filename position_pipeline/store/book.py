"""Recording fills and adjustments: they are stored, and the positions that they touch are booked, in the caller's transaction.

Belongs here: which instruments need booking, from where, and writing what booking says. Does not belong here: the booking itself
(accounting.booking), and transactions (Store opens them).

A position is extended where all its new entries come after the last one booked. Anything else - a late fill, a correction, a commission
that came later, an option premium that moves between instruments - folds the whole history of the instruments concerned again and
compares: what the book no longer says is marked superseded, what it says newly is added, the rest stays untouched.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from position_pipeline.accounting.arrivals import sift
from position_pipeline.accounting.booking import Booked, fold, in_order, order_key
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Fill, Method, Position
from position_pipeline.accounting.reconciliation import NOT_BOOKED
from position_pipeline.store import queries, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from decimal import Decimal

    from position_pipeline.accounting.model import Entry, Instrument
    from position_pipeline.store.connection import Connection, Row

SQL = queries.load("book")
PREMIUM_KINDS = (AdjustmentKind.ASSIGNMENT, AdjustmentKind.EXERCISE)


@dataclass(frozen=True, slots=True)
class Change:
    """What recording did to one position."""

    symbol: str
    before: Decimal
    after: Decimal
    is_new: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """What recording did: rows that were new, positions that changed (by instrument), and what was refused and why."""

    fills: int = 0
    completed: int = 0
    adjustments: int = 0
    changes: Mapping[str, Change] = field(default_factory=dict)
    refused: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Touched:
    """Which instruments need booking: `extended` by later entries only, `replayed` from their first one."""

    extended: Mapping[str, Sequence[Entry]]
    replayed: frozenset[str]


def record(
    connection: Connection,
    account: str,
    fills: Sequence[Fill],
    adjustments: Sequence[Adjustment],
    instruments: Sequence[Instrument],
) -> Recorded:
    """Store what is new and book it. The caller holds a transaction; the account's lock is taken here."""
    connection.execute(SQL["lock_account"], {"account": account})
    add_instruments(connection, instruments)
    new_fills, completed, refused = _store_fills(connection, account, fills)
    new_adjustments = _store_adjustments(connection, adjustments)
    entries: list[Entry] = [*new_fills, *new_adjustments]
    if not entries and not completed:
        return Recorded(refused=refused)
    changes = _book(connection, account, entries, completed)
    return Recorded(len(new_fills), len(completed), len(new_adjustments), changes, refused)


def add_instruments(connection: Connection, instruments: Sequence[Instrument]) -> None:
    by_id = {instrument.id: instrument for instrument in instruments}
    known = {
        row["instrument"]: row["symbol"]
        for row in connection.rows(SQL["known_instruments"], {"instruments": list(by_id)})
    }
    changed = [instrument for id, instrument in by_id.items() if known.get(id) != instrument.symbol]
    if not changed:
        return
    connection.many(SQL["add_instruments"], (rows.instrument_row(instrument) for instrument in changed))
    connection.execute(SQL["rename_positions"], {"instruments": [instrument.id for instrument in changed]})


def _store_fills(
    connection: Connection, account: str, fills: Sequence[Fill]
) -> tuple[tuple[Fill, ...], tuple[Fill, ...], tuple[tuple[str, str], ...]]:
    if not fills:
        return (), (), ()
    values = {"account": account, "ids": [fill.execution_id for fill in fills]}
    known = {
        (row["execution_id"], row["revision"]): rows.fill(row)
        for row in connection.rows(SQL["known_executions"], values)
    }
    arrivals = sift(known, fills)
    connection.many(SQL["add_executions"], (rows.execution_row(fill) for fill in arrivals.new))
    for fill in arrivals.completed:
        connection.execute(SQL["complete_execution"], _completion(fill))
    return (
        arrivals.new,
        arrivals.completed,
        tuple((conflict.fill.instrument, conflict.reason) for conflict in arrivals.conflicts),
    )


def _completion(fill: Fill) -> Row:
    names = ("account", "execution_id", "revision", "commission", "commission_currency", "sequence", "premium_from")
    return {name: getattr(fill, name) for name in (*names, "broker_pnl", "order_id", "source")}


def _store_adjustments(connection: Connection, adjustments: Sequence[Adjustment]) -> tuple[Adjustment, ...]:
    added = connection.many(SQL["add_adjustments"], (rows.adjustment_row(entry) for entry in adjustments), fetch=True)
    ids = {row[0] for row in added}
    return tuple({entry.id: entry for entry in adjustments if entry.id in ids}.values())


def _book(
    connection: Connection, account: str, entries: Sequence[Entry], completed: Sequence[Fill]
) -> Mapping[str, Change]:
    """Book new entries and the changed commissions of known ones; which positions changed."""
    described = _described(connection, {entry.instrument for entry in (*entries, *completed)})
    entries = [entry for entry in entries if described[entry.instrument].sec_type not in NOT_BOOKED]
    completed = [entry for entry in completed if described[entry.instrument].sec_type not in NOT_BOOKED]
    touched = _touched(connection, account, entries, completed)
    described = _described(connection, touched.replayed | set(touched.extended))
    stored, revisions = _stored_positions(connection, account, described)
    method = _method(connection, account)

    def flat(instrument: str) -> Position:
        return Position(account, instrument, described[instrument].currency, described[instrument].multiplier, method)

    booked: dict[str, Booked] = {}
    for instrument, more in touched.extended.items():
        booked[instrument] = fold(stored.get(instrument) or flat(instrument), more)
        revisions.update(_revisions(more))
    if touched.replayed:
        histories = _histories(connection, account, touched.replayed)
        for history in histories.values():
            revisions.update(_revisions(history))
        replayed = _fold_together(histories, flat)
        _supersede(connection, account, replayed, revisions)
        booked |= replayed
    _write(connection, booked, described, revisions)
    return {
        instrument: Change(
            described[instrument].symbol,
            stored[instrument].quantity if instrument in stored else flat(instrument).quantity,
            result.position.quantity,
            instrument not in stored,
        )
        for instrument, result in booked.items()
        if instrument not in stored or _differs(stored[instrument], result.position)
    }


def _differs(before: Position, after: Position) -> bool:
    return (before.lots, before.realized_gross, before.closing_commission) != (
        after.lots,
        after.realized_gross,
        after.closing_commission,
    )


def _described(connection: Connection, instruments: Iterable[str]) -> dict[str, Instrument]:
    found = connection.rows(SQL["instruments"], {"instruments": sorted(instruments)})
    return {row["instrument"]: rows.instrument(row) for row in found}


def _touched(connection: Connection, account: str, entries: Sequence[Entry], completed: Sequence[Fill]) -> _Touched:
    by_instrument: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=order_key):
        by_instrument.setdefault(entry.instrument, []).append(entry)
    instruments = sorted(by_instrument)
    last_keys = {
        row["instrument"]: rows.position(row, ()).last_key
        for row in connection.rows(SQL["positions_of"], {"account": account, "instruments": instruments})
    }
    giving_way = connection.rows(SQL["with_opening_lots"], {"account": account, "instruments": instruments})
    replayed = {fill.instrument for fill in completed} | {row["instrument"] for row in giving_way}
    for instrument, more in by_instrument.items():
        last = last_keys.get(instrument)
        if (last is not None and order_key(more[0]) <= last) or any(_needs_history(entry) for entry in more):
            replayed.add(instrument)
    linked = _linked(connection, account, replayed)
    extended = {instrument: more for instrument, more in by_instrument.items() if instrument not in linked}
    return _Touched(extended, frozenset(linked))


def _needs_history(entry: Entry) -> bool:
    """A later revision takes back what an earlier one did; a premium is known only with the option's history."""
    if isinstance(entry, Fill):
        return entry.premium_from is not None or entry.revision > 1 or not entry.quantity
    return entry.kind in PREMIUM_KINDS


def _linked(connection: Connection, account: str, instruments: set[str]) -> set[str]:
    """The instruments and all that exchange premiums with them, directly or not."""
    if not instruments:
        return set()
    found = connection.rows(SQL["linked_instruments"], {"account": account, "instruments": sorted(instruments)})
    linked = instruments | {row["instrument"] for row in found}
    return linked if linked == instruments else _linked(connection, account, linked)


def _stored_positions(
    connection: Connection, account: str, instruments: Iterable[str]
) -> tuple[dict[str, Position], dict[str, int | None]]:
    values = {"account": account, "instruments": sorted(instruments)}
    lots: dict[str, list[Row]] = {}
    for row in connection.rows(SQL["lots_of"], values):
        lots.setdefault(row["instrument"], []).append(row)
    positions = {
        row["instrument"]: rows.position(row, tuple(rows.lot(lot) for lot in lots.get(row["instrument"], ())))
        for row in connection.rows(SQL["positions_of"], values)
    }
    revisions = {lot["opening_id"]: lot["opening_revision"] for several in lots.values() for lot in several}
    return positions, revisions


def _histories(connection: Connection, account: str, instruments: Iterable[str]) -> dict[str, tuple[Entry, ...]]:
    values = {"account": account, "instruments": sorted(instruments)}
    histories: dict[str, list[Entry]] = {instrument: [] for instrument in values["instruments"]}
    for row in connection.rows(SQL["believed_executions"], values):
        histories[row["instrument"]].append(rows.fill(row))
    for row in connection.rows(SQL["adjustments_of"], values):
        histories[row["instrument"]].append(rows.adjustment(row))
    return {instrument: in_order(history) for instrument, history in histories.items()}


def _revisions(entries: Iterable[Entry]) -> dict[str, int | None]:
    return {
        entry.execution_id if isinstance(entry, Fill) else entry.id: entry.revision if isinstance(entry, Fill) else None
        for entry in entries
    }


def _fold_together(histories: Mapping[str, Sequence[Entry]], flat: Callable[[str], Position]) -> dict[str, Booked]:
    """Fold whole histories; an instrument that hands a premium over is folded before the one that takes it."""
    carries: dict[str, Decimal | None] = {}
    booked: dict[str, Booked] = {}
    for instrument in _givers_first(histories):
        booked[instrument] = fold(flat(instrument), histories[instrument], carries)
        carries |= booked[instrument].carries
    return booked


def _givers_first(histories: Mapping[str, Sequence[Entry]]) -> list[str]:
    giver = {
        entry.id: instrument
        for instrument, history in histories.items()
        for entry in history
        if isinstance(entry, Adjustment) and entry.kind in PREMIUM_KINDS
    }
    needs = {
        instrument: {
            giver[entry.premium_from] for entry in history if isinstance(entry, Fill) and entry.premium_from in giver
        }
        for instrument, history in histories.items()
    }
    order: list[str] = []

    def visit(instrument: str) -> None:
        for other in sorted(needs.pop(instrument, ())):
            visit(other)
        if instrument not in order:
            order.append(instrument)

    for instrument in sorted(histories):
        visit(instrument)
    return order


def _supersede(
    connection: Connection, account: str, replayed: dict[str, Booked], revisions: Mapping[str, int | None]
) -> None:
    """Mark what the book no longer says, and leave in `replayed` only the closes and events that it newly says."""
    values = {"account": account, "instruments": sorted(replayed)}
    gone_closes: list[int] = []
    gone_events: list[int] = []
    closes: dict[str, list[Row]] = {}
    for row in connection.rows(SQL["believed_closes"], values):
        closes.setdefault(row["instrument"], []).append(row)
    events: dict[str, list[Row]] = {}
    for row in connection.rows(SQL["believed_events"], values):
        events.setdefault(row["instrument"], []).append(row)
    for instrument, booked in replayed.items():
        wanted = {_close_identity(rows.close_row(close, revisions)): close for close in booked.closes}
        for row in closes.get(instrument, ()):
            identity = _close_identity(rows.close_row(rows.close(row), {**revisions, **_revisions_of_close(row)}))
            if wanted.pop(identity, None) is None:
                gone_closes.append(row["id"])
        told = {rows.event_row(event): event for event in booked.events}
        gone_events += [row["id"] for row in events.get(instrument, ()) if told.pop(_event_identity(row), None) is None]
        replayed[instrument] = Booked(booked.position, tuple(wanted.values()), tuple(told.values()), booked.carries)
    if gone_closes:
        connection.execute(SQL["supersede_closes"], {"ids": gone_closes})
    if gone_events:
        connection.execute(SQL["supersede_events"], {"ids": gone_events})


def _revisions_of_close(row: Row) -> dict[str, int | None]:
    return {row["execution_id"]: row["execution_revision"], row["opening_id"]: row["opening_revision"]}


def _close_identity(row: tuple[object, ...]) -> tuple[object, ...]:
    """Everything in a row of closes, comparable (JSON by its text)."""
    return tuple(str(value.adapted) if hasattr(value, "adapted") else value for value in row)


def _event_identity(row: Row) -> tuple[object, ...]:
    names = ("account", "instrument", "type", "at", "quantity_before", "quantity_after", "cycle", "cause")
    return tuple(row[name] for name in names)


def _write(
    connection: Connection,
    booked: Mapping[str, Booked],
    described: Mapping[str, Instrument],
    revisions: Mapping[str, int | None],
) -> None:
    if not booked:
        return
    results = list(booked.values())
    account = results[0].position.account
    connection.many(
        SQL["write_positions"],
        (rows.position_row(r.position, described[r.position.instrument].symbol) for r in results),
    )
    connection.execute(SQL["drop_lots"], {"account": account, "instruments": sorted(booked)})
    connection.many(
        SQL["add_lots"],
        (rows.lot_row(r.position, lot, seq, revisions) for r in results for seq, lot in enumerate(r.position.lots)),
    )
    connection.many(SQL["add_closes"], (rows.close_row(close, revisions) for r in results for close in r.closes))
    connection.many(SQL["add_events"], (rows.event_row(event) for r in results for event in r.events))


def make_room(connection: Connection, account: str, instruments: Sequence[Instrument]) -> None:
    """A flat position for a holding that the book knows nothing of, so that the broker's quantity is shown beside our zero."""
    method = _method(connection, account)
    flat = [Position(account, i.id, i.currency, i.multiplier, method) for i in instruments]
    symbols = {i.id: i.symbol for i in instruments}
    connection.many(SQL["write_positions"], (rows.position_row(p, symbols[p.instrument]) for p in flat))


def _method(connection: Connection, account: str) -> Method:
    row = connection.one(SQL["account"], {"account": account})
    if row is None:
        raise LookupError(f"account {account} is not known: it is added before its fills are recorded")
    return Method(row["cost_method"])


def reject_id(account: str, symbol: str, reason: str) -> str:
    """The same refused row gives the same id, so that it is kept once."""
    return hashlib.sha256("\x1f".join((account, symbol, reason)).encode()).hexdigest()[:24]
