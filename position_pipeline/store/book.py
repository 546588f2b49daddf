"""Recording fills and adjustments: they are stored, and the positions that they touch are booked, in the caller's transaction.

Belongs here: which instruments need booking, from where, and writing what booking says. Does not belong here: the booking itself
(accounting.booking), and transactions (Store opens them).

A position is extended where all its new entries come after the last one booked. Anything else - a late fill, a correction, a commission
that came later, an option premium that moves between instruments - folds the whole history of the instruments concerned again and
compares: what the book no longer says is marked superseded, what it says newly is added, the rest stays untouched.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from position_pipeline.accounting.arrivals import contradictions, sift
from position_pipeline.accounting.booking import fold, in_order, order_key
from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Fill, Method, Position
from position_pipeline.accounting.reconciliation import NOT_BOOKED
from position_pipeline.store import queries, rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from decimal import Decimal

    from position_pipeline.accounting.arrivals import Arrivals, Conflict
    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Close, Entry, Instrument, Lot, OrderKey
    from position_pipeline.store.connection import Connection, Row
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


@dataclass(frozen=True, slots=True)
class _Stored:
    """Positions as they are stored, and the revisions of the fills that opened their lots."""

    positions: Mapping[str, Position]
    revisions: Revisions

    def says(self, position: Position, revisions: Revisions) -> bool:
        """Whether the rows of a position are what they should be."""
        return self.positions.get(position.instrument) == position and all(
            self.revisions[lot.opening_id] == revisions[lot.opening_id] for lot in position.lots
        )


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
    arrivals = _store_fills(connection, account, fills)
    new, differing = _store_adjustments(connection, account, adjustments)
    changes = _book(connection, account, (*arrivals.new, *new), arrivals.rebook)
    refused = tuple((conflict.entry.instrument, conflict.reason) for conflict in (*arrivals.conflicts, *differing))
    return Recorded(len(arrivals.new), len(arrivals.completed), len(new), changes, refused)


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
    for fill in arrivals.completed:
        connection.execute(SQL["complete_execution"], _completion(fill))
    return arrivals


def _completion(fill: Fill) -> Row:
    names = ("account", "execution_id", "revision", "commission", "commission_currency", "sequence", "premium_from", "time")
    return {name: getattr(fill, name) for name in (*names, "broker_pnl", "order_id", "source")}


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


def _book(connection: Connection, account: str, entries: Sequence[Entry], rebook: frozenset[str]) -> Mapping[str, Change]:
    """Book new entries, and anew the instruments in which something else has changed; which positions changed."""
    if not entries and not rebook:
        return {}
    kinds = described(connection, {entry.instrument for entry in entries} | rebook)
    kept = frozenset(id_ for id_, instrument in kinds.items() if instrument.sec_type not in NOT_BOOKED)
    touched = _touched(connection, account, [entry for entry in entries if entry.instrument in kept], rebook & kept)
    instruments = described(connection, {*touched.extended, *touched.replayed})
    stored = _load(connection, account, instruments)
    method = _method(connection, account)
    flat = {i.id: Position(account, i.id, i.currency, i.multiplier, method) for i in instruments.values()}

    histories = _histories(connection, account, touched.replayed)
    revisions = {**stored.revisions, **_revisions(*touched.extended.values(), *histories.values())}
    extended = {id_: fold(stored.positions.get(id_, flat[id_]), more) for id_, more in touched.extended.items()}
    replayed = _only_new(connection, account, _fold_together(histories, flat), revisions)
    booked = {**extended, **replayed}
    _write(connection, [b for b in booked.values() if not stored.says(b.position, revisions)], instruments, revisions)
    _tell(connection, booked.values(), revisions)
    return {id_: _change(stored, b.position, instruments[id_]) for id_, b in booked.items() if _has_changed(stored, b.position)}


def _has_changed(stored: _Stored, after: Position) -> bool:
    before = stored.positions.get(after.instrument)
    return before is None or replace(before, last_key=None) != replace(after, last_key=None)


def _change(stored: _Stored, after: Position, instrument: Instrument) -> Change:
    before = stored.positions.get(after.instrument)
    return Change(instrument.symbol, ZERO if before is None else before.quantity, after.quantity, before is None)


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


def _load(connection: Connection, account: str, instruments: Iterable[str]) -> _Stored:
    values = {"account": account, "instruments": sorted(instruments)}
    found = connection.rows(SQL["lots_of"], values)
    lots: dict[str, list[Lot]] = {}
    for row in found:
        lots.setdefault(row["instrument"], []).append(rows.lot(row))
    positions = [rows.position(row, tuple(lots.get(row["instrument"], ()))) for row in connection.rows(SQL["positions_of"], values)]
    return _Stored({p.instrument: p for p in positions}, {row["opening_id"]: row["opening_revision"] for row in found})


def _histories(connection: Connection, account: str, instruments: Iterable[str]) -> dict[str, tuple[Entry, ...]]:
    values = {"account": account, "instruments": sorted(instruments)}
    if not values["instruments"]:
        return {}
    histories: dict[str, list[Entry]] = {instrument: [] for instrument in values["instruments"]}
    for row in connection.rows(SQL["believed_executions"], values):
        histories[row["instrument"]].append(rows.fill(row))
    for row in connection.rows(SQL["adjustments_of"], values):
        histories[row["instrument"]].append(rows.adjustment(row))
    return {instrument: in_order(history) for instrument, history in histories.items()}


def _revisions(*histories: Iterable[Entry]) -> dict[str, int | None]:
    """The entries' ids with their revisions; adjustments have none."""
    return {
        entry.execution_id if isinstance(entry, Fill) else entry.id: entry.revision if isinstance(entry, Fill) else None
        for history in histories
        for entry in history
    }


def _fold_together(histories: Mapping[str, Sequence[Entry]], flat: Mapping[str, Position]) -> dict[str, Booked]:
    """Fold whole histories; an instrument that hands a premium over is folded before the one that takes it."""
    carries: dict[str, Decimal | None] = {}
    booked: dict[str, Booked] = {}
    for instrument in _givers_first(histories):
        booked[instrument] = fold(flat[instrument], histories[instrument], carries)
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


def _only_new(connection: Connection, account: str, replayed: Mapping[str, Booked], revisions: Revisions) -> dict[str, Booked]:
    """Mark closes and events that the book no longer says as superseded; what was replayed, with only those that it says newly."""
    if not replayed:
        return {}
    values = {"account": account, "instruments": sorted(replayed)}
    closes = {_with_revisions(close, revisions): close for booked in replayed.values() for close in booked.closes}
    events = {event: event for booked in replayed.values() for event in booked.events}
    stored_closes = [(row["id"], _of_revisions(row)) for row in connection.rows(SQL["believed_closes"], values)]
    stored_events = [(row["id"], rows.event(row)) for row in connection.rows(SQL["believed_events"], values)]
    _supersede(connection, "supersede_closes", [id_ for id_, said in stored_closes if closes.pop(said, None) is None])
    _supersede(connection, "supersede_events", [id_ for id_, said in stored_events if events.pop(said, None) is None])
    return {
        instrument: replace(
            booked,
            closes=tuple(close for close in closes.values() if close.instrument == instrument),
            events=tuple(event for event in events.values() if event.instrument == instrument),
        )
        for instrument, booked in replayed.items()
    }


def _with_revisions(close: Close, revisions: Revisions) -> tuple[Close, int | None, int | None]:
    """All that a row of closes says."""
    return close, revisions[close.execution_id], revisions[close.opening_id]


def _of_revisions(row: Row) -> tuple[Close, int | None, int | None]:
    return rows.close(row), row["execution_revision"], row["opening_revision"]


def _supersede(connection: Connection, statement: str, ids: Sequence[int]) -> None:
    if ids:
        connection.execute(SQL[statement], {"ids": ids})


def _write(connection: Connection, booked: Sequence[Booked], instruments: Mapping[str, Instrument], revisions: Revisions) -> None:
    """Positions and their lots, as they are now."""
    if not booked:
        return
    positions = [each.position for each in booked]
    connection.many(SQL["write_positions"], (rows.position_row(p, instruments[p.instrument].symbol) for p in positions))
    connection.execute(SQL["drop_lots"], {"account": positions[0].account, "instruments": [p.instrument for p in positions]})
    connection.many(SQL["add_lots"], (rows.lot_row(p, lot, seq, revisions) for p in positions for seq, lot in enumerate(p.lots)))


def _tell(connection: Connection, booked: Collection[Booked], revisions: Revisions) -> None:
    """Closes and events, which are added and never changed."""
    connection.many(SQL["add_closes"], (rows.close_row(close, revisions) for each in booked for close in each.closes))
    connection.many(SQL["add_events"], (rows.event_row(event) for each in booked for event in each.events))


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
