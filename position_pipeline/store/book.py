"""Recording fills and adjustments: they are stored, and the positions that they touch are booked, in the caller's transaction.

Belongs here: which instruments need booking, and from where. Does not belong here: the booking itself (accounting.booking), reading and
writing positions (pages.py), and transactions (Store opens them).

A position is extended where all its new entries come after the last one booked. Anything else - a late fill, a correction, a commission
that came later, premiums and lots that move between instruments - folds the history of the instruments concerned again, from the last
checkpoint before it or from the first entry, and compares: what the book no longer says is marked superseded, what it says newly is
added, the rest stays untouched.

What cannot be is refused and told, and everything else is booked: an entry that is wrong by itself is not even stored; one that does not
fit what is held stays stored, for it may fit once what is missing has come.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from psycopg2.errors import LockNotAvailable, QueryCanceled

from position_pipeline.accounting.arrivals import contradictions, sift
from position_pipeline.accounting.booking import fold_together, giver_of, order_key
from position_pipeline.accounting.exact import ZERO, total
from position_pipeline.accounting.faults import faults
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Fill, Method, Position, Side
from position_pipeline.accounting.reconciliation import NOT_BOOKED
from position_pipeline.store import checkpoints, queries, rows
from position_pipeline.store.pages import Pages, Written, revisions_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
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


class BookBusy(LockNotAvailable):
    """Somebody else writes to an account's book, and is not done in time; the text says whose it is and what to do."""


@dataclass(frozen=True, slots=True)
class Change:
    """What recording did to one position; `opened` says that a new cycle began in it, be it over again."""

    symbol: str
    before: Decimal
    after: Decimal
    is_new: bool
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """What recording did: rows that were new, positions that changed (by instrument), and what was refused, as (symbol, reason).

    `waiting` are facts that are kept and not booked yet, because something was inferred in their place: the next proven answer decides.
    """

    fills: int = 0
    completed: int = 0
    adjustments: int = 0
    changes: Mapping[str, Change] = field(default_factory=dict)
    refused: tuple[tuple[str, str], ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Touched:
    """Which instruments need booking: `extended` by later entries only, `replayed` since when something is different (None: always)."""

    extended: Mapping[str, Sequence[Entry]]
    replayed: Mapping[str, datetime | None]


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
    changes, left_out = _book(connection, account, (*arrivals.new, *new), arrivals.rebook.keys(), at, since=arrivals.rebook)
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
    """Wait until nobody else writes to the account's book, and keep others out until the transaction ends; when the turn came.

    Raises `BookBusy` after a minute.
    """
    try:
        row = connection.one(SQL["lock_account"], {"account": account})
    except (LockNotAvailable, QueryCanceled):
        raise BookBusy(
            f"the book of account {account} is being written to by another process, most likely an import of a large file; "
            "it was waited for, and nothing was changed. Do it again when the import has ended"
        ) from None
    assert row is not None
    at: datetime = row["at"]
    return at


def add_instruments(connection: Connection, instruments: Sequence[Instrument]) -> None:
    """Keep what is new of them. In one order, because two accounts may bring the same at the same time."""
    by_id = {instrument.id: instrument for instrument in sorted(instruments, key=lambda each: each.id)}
    if not by_id:
        return
    found = connection.rows(SQL["known_instruments"], {"instruments": list(by_id)})
    known = {(row["instrument"], row["symbol"]): row["exchange"] for row in found}
    new = [each for each in by_id.values() if (each.id, each.symbol) not in known]
    changed = new + [each for each in by_id.values() if each.exchange and known.get((each.id, each.symbol)) == ""]
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
    connection: Connection,
    account: str,
    entries: Sequence[Entry],
    rebook: AbstractSet[str],
    at: datetime,
    *,
    since: Mapping[str, datetime] | None = None,
) -> tuple[Mapping[str, Change], tuple[tuple[str, str], ...]]:
    """Book new entries, and anew the instruments in which something else has changed; which positions changed, what was not booked.

    `since` is until when nothing of those has changed; without it they are booked from the first entry on.
    """
    if not entries and not rebook:
        return {}, ()
    kinds = described(connection, {entry.instrument for entry in entries} | rebook)
    kept = frozenset(id_ for id_, instrument in kinds.items() if instrument.sec_type not in NOT_BOOKED)
    news = [entry for entry in entries if entry.instrument in kept and _moves(entry)]
    touched = _touched(connection, account, news, {id_: (since or {}).get(id_) for id_ in rebook & kept})
    named = {*touched.extended, *touched.replayed}
    known = kinds if named <= kinds.keys() else described(connection, named)
    pages = Pages(connection, account, {id_: known[id_] for id_ in named})
    pages.load({id_: reach for id_, more in touched.extended.items() if (reach := _reach(more)) is not None})
    flat = flat_positions(connection, account, pages.instruments.values())
    booked = [*_extended(pages, touched.extended, flat, at), *_replayed(pages, touched.replayed, flat, at)]
    changed = [each.position for each in booked if _has_changed(pages.positions.get(each.position.instrument), each.position)]
    refused = _keep_refusals(connection, pages, booked, touched.replayed, at)
    return {p.instrument: _change(pages, p) for p in changed}, refused


def _reach(entries: Sequence[Entry]) -> Decimal | None:
    """How many units of what is held the entries can close at most; None where more of it than that has to be known."""
    sides: dict[str, list[Decimal]] = {Side.BUY: [], Side.SELL: []}
    for entry in entries:
        if not isinstance(entry, Fill) or entry.closes_lots or checkpoints.calls(entry):
            return None
        sides[entry.side].append(entry.quantity)
    return max(map(total, sides.values()))


def _extended(pages: Pages, news: Mapping[str, Sequence[Entry]], flat: Mapping[str, Position], at: datetime) -> list[Booked]:
    """Book what comes after all that is booked."""
    done = [checkpoints.fold_on(pages.positions.get(id_, flat[id_]), more) for id_, more in news.items()]
    booked = [each for each, _ in done]
    revisions = {**pages.revisions, **revisions_of(*news.values())}
    pages.write(_written(booked, revisions), at)
    checkpoints.write(pages.connection, pages.account, chain.from_iterable(kept for _, kept in done), revisions)
    return booked


def _replayed(pages: Pages, since: Mapping[str, datetime | None], flat: Mapping[str, Position], at: datetime) -> list[Booked]:
    """Book anew what comes after the last checkpoints that are right, and everything where there is none."""
    if not since:
        return []
    alone = checkpoints.starts(pages.connection, pages.account, flat, since)
    reach = {id_: alone[id_].until_at if id_ in alone else None for id_ in since}
    histories = pages.histories(reach)
    done = [checkpoints.fold_on(start.position, histories[id_]) for id_, start in alone.items()]
    booked = [*(each for each, _ in done), *fold_histories({id_: histories[id_] for id_ in since if id_ not in alone}, flat)]
    revisions = {id_: revision for start in alone.values() for id_, revision in start.revisions.items()} | revisions_of(*histories.values())
    pages.write(pages.supersede(reach, _written(booked, revisions), at), at)
    checkpoints.drop_since(pages.connection, pages.account, [start.position for id_, start in alone.items() if not histories[id_]])
    checkpoints.write(pages.connection, pages.account, chain.from_iterable(kept for _, kept in done), revisions)
    return booked


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
    if before is None:
        return Change(symbol, ZERO, after.quantity, is_new=True, opened=after.cycle > 0)
    return Change(symbol, before.quantity, after.quantity, is_new=False, opened=after.cycle > before.cycle)


def _touched(connection: Connection, account: str, entries: Sequence[Entry], changed: Mapping[str, datetime | None]) -> _Touched:
    """What becomes of new entries and of instruments in which something else has changed, since when each (None: not known)."""
    by_instrument: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=order_key):
        by_instrument.setdefault(entry.instrument, []).append(entry)
    values = {"account": account, "instruments": sorted(by_instrument)}
    giving_way = {row["instrument"] for row in connection.rows(SQL["with_entries_left_out"], values)}
    last = {row["instrument"]: rows.last_key(row) for row in connection.rows(SQL["last_entries_of"], values)}
    late = {id_ for id_, more in by_instrument.items() if _is_late(more, last.get(id_))}
    replayed = _linked(connection, account, frozenset(changed) | giving_way | late)
    first = {id_: more[0].time for id_, more in by_instrument.items()}
    since = {id_: _earlier(changed[id_], first.get(id_)) if id_ in changed else first.get(id_) for id_ in replayed}
    return _Touched({id_: more for id_, more in by_instrument.items() if id_ not in replayed}, since)


def _earlier(changed: datetime | None, first: datetime | None) -> datetime | None:
    """None for `changed` is before everything, None for `first` is never."""
    return changed if changed is None or first is None else min(changed, first)


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
