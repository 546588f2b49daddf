"""Booking what was recorded: which instruments need it, from where, and what that changes.

Belongs here: whether positions are extended or histories are folded again. Does not belong here: the booking itself
(accounting.booking), storing the entries (arriving.py), reading and writing positions (pages.py).

A position is extended where all its new entries come after the last one booked. Anything else - a late fill, a correction, a commission
that came later, premiums and lots that move between instruments - folds the history of the instruments concerned again, from the last
checkpoint before it or from the first entry, and compares: what the book no longer says is marked superseded, what it says newly is
added, the rest stays untouched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from position_pipeline.accounting.booking import giver_of, order_key
from position_pipeline.accounting.exact import ZERO, total
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Fill, Side
from position_pipeline.accounting.reconciliation import NOT_BOOKED
from position_pipeline.store import checkpoints, queries, rows
from position_pipeline.store.histories import flat_positions, fold_histories, linked_with
from position_pipeline.store.instruments import described
from position_pipeline.store.pages import Pages, Written, revisions_of
from position_pipeline.store.refusals import keep_refusals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Entry, Instrument, OrderKey, Position
    from position_pipeline.store.connection import Connection
    from position_pipeline.store.rows import Revisions

SQL = queries.load("book")
_K = AdjustmentKind
HAND_OVER = (_K.ASSIGNMENT, _K.EXERCISE, _K.CONVERSION_OUT, _K.SPIN_OFF, _K.TRANSFER)
"""Kinds whose premium or lots may go to another instrument."""


@dataclass(frozen=True, slots=True)
class Change:
    """What recording did to one position; `opened` says that a new cycle began in it, be it over again."""

    symbol: str
    before: Decimal
    after: Decimal
    is_new: bool
    opened: bool = False


@dataclass(frozen=True, slots=True)
class _Touched:
    """Which instruments need booking: `extended` by later entries only, `replayed` since when something is different (None: always)."""

    extended: Mapping[str, Sequence[Entry]]
    replayed: Mapping[str, datetime | None]


def book_entries(
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
    refused = keep_refusals(connection, pages, booked, touched.replayed, at)
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


def _moves(entry: Entry) -> bool:
    """A bust of a fill that was never told moves nothing."""
    return not isinstance(entry, Fill) or bool(entry.quantity)


def rebook(connection: Connection, account: str, instruments: Iterable[str], at: datetime) -> Mapping[str, Change]:
    """Book some instruments anew from their first entries, because something else than an entry has changed."""
    return book_entries(connection, account, (), frozenset(instruments), at)[0]


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
    replayed = linked_with(connection, account, frozenset(changed) | giving_way | late)
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


def make_room(connection: Connection, account: str, instruments: Sequence[Instrument]) -> None:
    """A flat position for a holding that the book knows nothing of, so that the broker's quantity is shown beside our zero."""
    flat = flat_positions(connection, account, instruments).values()
    symbols = {i.id: i.symbol for i in instruments}
    connection.many(SQL["write_positions"], (rows.position_row(p, symbols[p.instrument]) for p in flat))
