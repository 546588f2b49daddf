"""Recording fills and adjustments: they are stored, and the positions that they touch are booked, in the caller's transaction.

Belongs here: which instruments need booking, and from where. Does not belong here: the booking itself (accounting.booking), reading and
writing positions (pages.py), and transactions (Store opens them).

A position is extended where all its new entries come after the last one booked. Anything else - a late fill, a correction, a commission
that came later, premiums and lots that move between instruments - folds the whole history of the instruments concerned again and
compares: what the book no longer says is marked superseded, what it says newly is added, the rest stays untouched.

What cannot be is refused and told, and everything else is booked: an entry that is wrong by itself is not even stored; one that does not
fit what is held stays stored, for it may fit once what is missing has come.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from position_pipeline.accounting.arrivals import contradictions, sift
from position_pipeline.accounting.booking import fold, fold_together, giver_of, order_key
from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.faults import faults
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Fill, Method, Position
from position_pipeline.accounting.reconciliation import NOT_BOOKED
from position_pipeline.store import queries, rows
from position_pipeline.store.pages import Pages, Written, revisions_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from decimal import Decimal

    from position_pipeline.accounting.arrivals import Arrivals, Conflict
    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Entry, Instrument, OrderKey
    from position_pipeline.store.connection import Connection
    from position_pipeline.store.rows import Revisions

SQL = queries.load("book")
E = TypeVar("E", bound="Entry")
_K = AdjustmentKind
HAND_OVER = (_K.ASSIGNMENT, _K.EXERCISE, _K.CONVERSION_OUT, _K.SPIN_OFF, _K.TRANSFER)
"""Kinds whose premium or lots may go to another instrument."""

Refused = tuple[str, str]
"""(instrument, reason)"""


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
    good, bad = _sifted_out(fills)
    sound, unsound = _sifted_out(adjustments)
    arrivals = _store_fills(connection, account, good, at)
    new, differing = _store_adjustments(connection, account, sound, at)
    changes, left_out = _book(connection, account, (*arrivals.new, *new), arrivals.rebook, at)
    refused = (*_named(connection, (*arrivals.conflicts, *differing)), *by_symbol(connection, [*bad, *unsound]), *left_out)
    return Recorded(len(arrivals.new), len(arrivals.completed), len(new), changes, refused)


def _sifted_out(entries: Sequence[E]) -> tuple[list[E], list[Refused]]:
    """(the entries that may be stored, those that are wrong by themselves)."""
    found = [(entry, faults(entry)) for entry in entries]
    good = [entry for entry, wrong in found if not wrong]
    return good, [(entry.instrument, f"{id_of(entry)}: {'; '.join(wrong)}") for entry, wrong in found if wrong]


def id_of(entry: Entry) -> str:
    """A fill's execution id, an adjustment's own."""
    return entry.execution_id if isinstance(entry, Fill) else entry.id


def _named(connection: Connection, conflicts: Sequence[Conflict]) -> tuple[tuple[str, str], ...]:
    return by_symbol(connection, [(conflict.entry.instrument, conflict.reason) for conflict in conflicts])


def by_symbol(connection: Connection, refused: Sequence[Refused]) -> tuple[tuple[str, str], ...]:
    """What was refused as (symbol, reason)."""
    known = described(connection, {instrument for instrument, _ in refused}) if refused else {}
    return tuple((known[instrument].symbol if instrument in known else instrument, reason) for instrument, reason in refused)


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


def _store_fills(connection: Connection, account: str, fills: Sequence[Fill], at: datetime) -> Arrivals:
    values = {"account": account, "ids": [fill.execution_id for fill in fills]}
    found = map(rows.fill, connection.rows(SQL["known_executions"], values)) if fills else ()
    arrivals = sift({(fill.execution_id, fill.revision): fill for fill in found}, fills)
    connection.many(SQL["add_executions"], [(*rows.execution_row(fill), at) for fill in arrivals.new])
    completed = [(*rows.completion_row(fill), at) for fill in arrivals.completed]
    connection.many(SQL["complete_executions"], completed, template=rows.COMPLETION)
    return arrivals


def _store_adjustments(
    connection: Connection, account: str, adjustments: Sequence[Adjustment], at: datetime
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
    connection.many(SQL["add_adjustments"], [(*rows.adjustment_row(entry), at) for entry in new.values()])
    return tuple(new.values()), contradictions({**known, **new}, adjustments)


def _book(
    connection: Connection, account: str, entries: Sequence[Entry], rebook: frozenset[str], at: datetime
) -> tuple[Mapping[str, Change], tuple[tuple[str, str], ...]]:
    """Book new entries, and anew the instruments in which something else has changed; which positions changed, what was not booked."""
    if not entries and not rebook:
        return {}, ()
    kinds = described(connection, {entry.instrument for entry in entries} | rebook)
    kept = frozenset(id_ for id_, instrument in kinds.items() if instrument.sec_type not in NOT_BOOKED)
    touched = _touched(connection, account, [entry for entry in entries if entry.instrument in kept and _moves(entry)], rebook & kept)
    pages = Pages(connection, account, described(connection, {*touched.extended, *touched.replayed}))
    pages.load()
    flat = flat_positions(connection, account, pages.instruments.values())

    extended = [fold(pages.positions.get(id_, flat[id_]), more) for id_, more in touched.extended.items()]
    pages.write(_written(extended, {**pages.revisions, **revisions_of(*touched.extended.values())}), at)
    histories = pages.histories(touched.replayed)
    replayed = fold_histories(histories, flat)
    pages.write(pages.supersede(histories, _written(replayed, revisions_of(*histories.values())), at), at)
    booked = [*extended, *replayed]
    changed = [each.position for each in booked if _has_changed(pages.positions.get(each.position.instrument), each.position)]
    refused = _keep_refusals(connection, pages, booked, touched.replayed, at)
    return {p.instrument: _change(pages, p) for p in changed}, refused


def _keep_refusals(
    connection: Connection, pages: Pages, booked: Sequence[Booked], replayed: Iterable[str], at: datetime
) -> tuple[tuple[str, str], ...]:
    """Keep what booking refused, until what was missing has come; as (symbol, reason)."""
    found = tuple(
        (pages.instruments[each.position.instrument].symbol, f"{one.entry_id}: {one.reason}") for each in booked for one in each.refused
    )
    values = {reject_id(pages.account, *row): (pages.account, *row, "booking") for row in found}
    connection.many(SQL["keep_refusals"], [(digest, *row) for digest, row in values.items()])
    symbols = sorted(pages.instruments[instrument].symbol for instrument in replayed)
    if symbols:
        connection.execute(SQL["resolve_refusals"], {"account": pages.account, "symbols": symbols, "ids": list(values), "at": at})
    return found


def _moves(entry: Entry) -> bool:
    """A bust of a fill that was never told moves nothing."""
    return not isinstance(entry, Fill) or bool(entry.quantity)


def fold_histories(histories: Mapping[str, Sequence[Entry]], flat: Mapping[str, Position]) -> list[Booked]:
    """Fold whole histories together, because premiums and lots pass between them."""
    entries = sorted(chain.from_iterable(histories.values()), key=order_key)
    return list(fold_together({instrument: flat[instrument] for instrument in histories}, entries).values())


def rebook(connection: Connection, account: str, instruments: Iterable[str], at: datetime) -> Mapping[str, Change]:
    """Book some instruments anew from their first entries, because something else than an entry has changed."""
    return _book(connection, account, (), frozenset(instruments), at)[0]


def flat_positions(
    connection: Connection, account: str, instruments: Iterable[Instrument], known_at: datetime | None = None
) -> dict[str, Position]:
    """Positions of which nothing is booked yet, each with its method, now or as it was set at a time."""
    row = connection.one(SQL["account"], {"account": account})
    if row is None:
        raise LookupError(f"account {account} is not known: it is added before its fills are recorded")
    earlier = (each for each in row["earlier_methods"] if known_at and known_at < datetime.fromisoformat(each["until"]))
    set_ = next(earlier, row)
    default, methods = set_["cost_method"], set_["cost_methods"]
    return {i.id: Position(account, i.id, i.currency, i.multiplier, Method(methods.get(i.sec_type, default))) for i in instruments}


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
    """What passes between instruments is known only with the history of both."""
    return giver_of(entry) is not None or (isinstance(entry, Adjustment) and entry.kind in HAND_OVER)


def _linked(connection: Connection, account: str, instruments: frozenset[str]) -> frozenset[str]:
    """The instruments and all that exchange premiums or lots with them, directly or not."""
    if not instruments:
        return instruments
    found = connection.rows(SQL["linked_instruments"], {"account": account, "instruments": sorted(instruments)})
    linked = instruments.union(row["instrument"] for row in found)
    return linked if linked == instruments else _linked(connection, account, linked)


def make_room(connection: Connection, account: str, instruments: Sequence[Instrument]) -> None:
    """A flat position for a holding that the book knows nothing of, so that the broker's quantity is shown beside our zero."""
    flat = flat_positions(connection, account, instruments).values()
    symbols = {i.id: i.symbol for i in instruments}
    connection.many(SQL["write_positions"], (rows.position_row(p, symbols[p.instrument]) for p in flat))


def reject_id(account: str, symbol: str, reason: str) -> str:
    """The same refused row gives the same id, so that it is kept once."""
    return hashlib.sha256(f"{account}\x1f{symbol}\x1f{reason}".encode()).hexdigest()[:24]
