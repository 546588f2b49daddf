"""Recording fills and adjustments: they are stored, and the positions that they touch are booked, in the caller's transaction.

Belongs here: which instruments need booking, and from where. Does not belong here: the booking itself (accounting.booking), reading and
writing positions (pages.py), and transactions (Store opens them).

A position is extended where all its new entries come after the last one booked. Anything else - a late fill, a correction, a commission
that came later, an option premium that moves between instruments - folds the whole history of the instruments concerned again and
compares: what the book no longer says is marked superseded, what it says newly is added, the rest stays untouched.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from position_pipeline.accounting.arrivals import contradictions, sift
from position_pipeline.accounting.booking import fold, order_key
from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Fill, Method, Position
from position_pipeline.accounting.reconciliation import NOT_BOOKED
from position_pipeline.store import queries, rows
from position_pipeline.store.pages import Pages, Written, revisions_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.arrivals import Arrivals, Conflict
    from position_pipeline.accounting.booking import Booked, Carries
    from position_pipeline.accounting.model import Entry, Instrument, OrderKey
    from position_pipeline.store.connection import Connection
    from position_pipeline.store.rows import Revisions

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
    """What recording did: rows that were new, positions that changed (by instrument), and what was refused, as (symbol, reason)."""

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
    at = lock_account(connection, account)
    add_instruments(connection, instruments)
    arrivals = _store_fills(connection, account, fills)
    new, differing = _store_adjustments(connection, account, adjustments)
    changes = _book(connection, account, (*arrivals.new, *new), arrivals.rebook, at)
    refused = _named(connection, (*arrivals.conflicts, *differing))
    return Recorded(len(arrivals.new), len(arrivals.completed), len(new), changes, refused)


def _named(connection: Connection, conflicts: Sequence[Conflict]) -> tuple[tuple[str, str], ...]:
    symbols = described(connection, {conflict.entry.instrument for conflict in conflicts}) if conflicts else {}
    return tuple((symbols[conflict.entry.instrument].symbol, conflict.reason) for conflict in conflicts)


def lock_account(connection: Connection, account: str) -> datetime:
    """Wait until nobody else writes to the account's book, and keep others out until the transaction ends; when the turn came."""
    row = connection.one(SQL["lock_account"], {"account": account})
    assert row is not None
    at: datetime = row["at"]
    return at


def add_instruments(connection: Connection, instruments: Sequence[Instrument]) -> None:
    """Keep what is new of them. In one order, because two accounts may bring the same at the same time."""
    by_id = {instrument.id: instrument for instrument in sorted(instruments, key=lambda each: each.id)}
    if not by_id:
        return
    known = {row["instrument"]: row["symbol"] for row in connection.rows(SQL["known_instruments"], {"instruments": list(by_id)})}
    changed = [each for each in by_id.values() if known.get(each.id) != each.symbol]
    if changed:
        connection.many(SQL["add_instruments"], map(rows.instrument_row, changed))
        connection.execute(SQL["rename_positions"], {"instruments": [each.id for each in changed]})


def described(connection: Connection, instruments: Iterable[str]) -> dict[str, Instrument]:
    """Instruments as they are kept."""
    found = connection.rows(SQL["instruments"], {"instruments": sorted(instruments)})
    return {row["instrument"]: rows.instrument(row) for row in found}


def _store_fills(connection: Connection, account: str, fills: Sequence[Fill]) -> Arrivals:
    values = {"account": account, "ids": [fill.execution_id for fill in fills]}
    found = map(rows.fill, connection.rows(SQL["known_executions"], values)) if fills else ()
    arrivals = sift({(fill.execution_id, fill.revision): fill for fill in found}, fills)
    connection.many(SQL["add_executions"], map(rows.execution_row, arrivals.new))
    connection.many(SQL["complete_executions"], map(rows.completion_row, arrivals.completed), template=rows.COMPLETION)
    return arrivals


def _store_adjustments(
    connection: Connection, account: str, adjustments: Sequence[Adjustment]
) -> tuple[tuple[Adjustment, ...], tuple[Conflict, ...]]:
    """(those that are new, those that contradict a known one)."""
    if not adjustments:
        return (), ()
    found = connection.rows(SQL["known_adjustments"], {"account": account, "ids": [entry.id for entry in adjustments]})
    known = {row["id"]: rows.adjustment(row) for row in found}
    new: dict[str, Adjustment] = {}
    for entry in adjustments:
        if entry.id not in known:
            new.setdefault(entry.id, entry)
    connection.many(SQL["add_adjustments"], map(rows.adjustment_row, new.values()))
    return tuple(new.values()), contradictions({**known, **new}, adjustments)


def _book(connection: Connection, account: str, entries: Sequence[Entry], rebook: frozenset[str], at: datetime) -> Mapping[str, Change]:
    """Book new entries, and anew the instruments in which something else has changed; which positions changed."""
    if not entries and not rebook:
        return {}
    kinds = described(connection, {entry.instrument for entry in entries} | rebook)
    kept = frozenset(id_ for id_, instrument in kinds.items() if instrument.sec_type not in NOT_BOOKED)
    touched = _touched(connection, account, [entry for entry in entries if entry.instrument in kept], rebook & kept)
    pages = Pages(connection, account, described(connection, {*touched.extended, *touched.replayed}))
    pages.load()
    method = _method(connection, account)
    flat = {i.id: Position(account, i.id, i.currency, i.multiplier, method) for i in pages.instruments.values()}

    extended = [fold(pages.positions.get(id_, flat[id_]), more) for id_, more in touched.extended.items()]
    pages.write(_written(extended, {**pages.revisions, **revisions_of(*touched.extended.values())}), at)
    histories = pages.histories(touched.replayed)
    replayed = _fold_together(histories, flat)
    pages.write(pages.supersede(histories, _written(replayed, revisions_of(*histories.values())), at), at)
    booked = [each.position for each in (*extended, *replayed)]
    return {p.instrument: _change(pages, p) for p in booked if _has_changed(pages.positions.get(p.instrument), p)}


def _written(booked: Sequence[Booked], revisions: Revisions) -> Written:
    closes = [close for each in booked for close in each.closes]
    return Written([each.position for each in booked], closes, [event for each in booked for event in each.events], revisions)


def _has_changed(before: Position | None, after: Position) -> bool:
    return before is None or replace(before, last_key=None) != replace(after, last_key=None)


def _change(pages: Pages, after: Position) -> Change:
    before = pages.positions.get(after.instrument)
    symbol = pages.instruments[after.instrument].symbol
    return Change(symbol, ZERO if before is None else before.quantity, after.quantity, before is None)


def _touched(connection: Connection, account: str, entries: Sequence[Entry], rebook: frozenset[str]) -> _Touched:
    by_instrument: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=order_key):
        by_instrument.setdefault(entry.instrument, []).append(entry)
    values = {"account": account, "instruments": sorted(by_instrument)}
    giving_way = {row["instrument"] for row in connection.rows(SQL["with_opening_lots"], values)}
    last = {row["instrument"]: rows.position(row, ()).last_key for row in connection.rows(SQL["positions_of"], values)}
    late = {id_ for id_, more in by_instrument.items() if _is_late(more, last.get(id_))}
    replayed = _linked(connection, account, rebook | giving_way | late)
    return _Touched({id_: more for id_, more in by_instrument.items() if id_ not in replayed}, replayed)


def _is_late(entries: Sequence[Entry], last: OrderKey | None) -> bool:
    """Whether some of the entries do not simply come after the last one that is booked."""
    return (last is not None and order_key(entries[0]) <= last) or any(map(_needs_history, entries))


def _needs_history(entry: Entry) -> bool:
    """A premium is known only with the option's history."""
    if isinstance(entry, Fill):
        return entry.premium_from is not None
    return entry.kind in PREMIUM_KINDS


def _linked(connection: Connection, account: str, instruments: frozenset[str]) -> frozenset[str]:
    """The instruments and all that exchange premiums with them, directly or not."""
    if not instruments:
        return instruments
    found = connection.rows(SQL["linked_instruments"], {"account": account, "instruments": sorted(instruments)})
    linked = instruments.union(row["instrument"] for row in found)
    return linked if linked == instruments else _linked(connection, account, linked)


def _fold_together(histories: Mapping[str, Sequence[Entry]], flat: Mapping[str, Position]) -> list[Booked]:
    """Fold whole histories; an instrument that hands a premium over is folded before the one that takes it."""
    carries: Carries = {}
    booked: list[Booked] = []
    for instrument in _givers_first(histories):
        booked.append(fold(flat[instrument], histories[instrument], carries))
        carries |= booked[-1].carries
    return booked


def _givers_first(histories: Mapping[str, Sequence[Entry]]) -> list[str]:
    giver = {
        entry.id: instrument
        for instrument, history in histories.items()
        for entry in history
        if isinstance(entry, Adjustment) and entry.kind in PREMIUM_KINDS
    }
    needs = {
        instrument: {giver[entry.premium_from] for entry in history if isinstance(entry, Fill) and entry.premium_from in giver}
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
    return hashlib.sha256(f"{account}\x1f{symbol}\x1f{reason}".encode()).hexdigest()[:24]
