"""Recording very many fills of an account in one transaction: the same rows as `recording.record` writes, several times as fast.

    with Delivery.opened(connection) as delivery:     # the caller holds the transaction
        for account, fills, instruments in batches:
            delivery.add(account, fills, instruments)
        recorded = delivery.finish()

Belongs here: the order of things. Does not belong here: which fills are new (bulk_arrivals.py), booking (bulk_kernel.py), lines
(bulk_text.py), COPY (bulk_writer.py).

Batch by batch the new fills are stored, and booked on positions that stay in memory; closes and events are written and forgotten. So the
memory holds a batch, the positions and their open lots, however long the file is.

An instrument whose fills do not simply come one after the other - one of them is late, corrected, completed, takes up a premium, or an
opening lot gives way to it - is set aside: what this transaction has written for it is taken back, and `book` books its whole history at
the end, as it does for a late fill. A file that is sorted the other way round is right too, but takes that slower way for all.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from position_pipeline.accounting.booking import order_key
from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.reconciliation import NOT_BOOKED
from position_pipeline.store import book, bulk_text, checkpoints, queries, rows, withdrawing
from position_pipeline.store.arriving import sifted_out, store_adjustments, store_fills
from position_pipeline.store.book import Change
from position_pipeline.store.bulk_arrivals import Seen, is_plainly_sound, parted
from position_pipeline.store.bulk_kernel import fold_sorted
from position_pipeline.store.bulk_text import Lines
from position_pipeline.store.bulk_writer import Writer
from position_pipeline.store.histories import flat_positions, linked_with
from position_pipeline.store.instruments import add_instruments, described
from position_pipeline.store.pages import Pages
from position_pipeline.store.recording import Recorded
from position_pipeline.store.refusals import by_symbol
from position_pipeline.store.turns import lock_account

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from position_pipeline.accounting.arrivals import Conflict
    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Adjustment, Entry, Fill, Instrument, Position
    from position_pipeline.store.connection import Connection, Row
    from position_pipeline.store.refusals import Refused

BATCH = 20_000
"""Fills that are best given at a time."""

REPLAYED_AT_A_TIME = 50_000
"""Fills of instruments that were set aside which are booked together, so that they do not fill the memory."""

SQL = queries.load("book")
BULK = queries.load("bulk")


class _Revisions(dict[str, int | None]):
    """Revisions by id. Nearly all are 1, which is not kept."""

    def __missing__(self, _: str) -> int:
        return 1


class Delivery:
    """A large delivery of any accounts, which are known by then, within the caller's transaction. Nothing else is done meanwhile."""

    def __init__(self, connection: Connection, writer: Writer) -> None:
        self._connection, self._writer = connection, writer
        self._accounts: dict[str, _Account] = {}
        self.recorded: dict[str, Recorded] = {}

    @classmethod
    @contextmanager
    def opened(cls, connection: Connection) -> Iterator[Delivery]:
        with Writer(connection) as writer:
            yield cls(connection, writer)

    def add(self, account: str, fills: Sequence[Fill], instruments: Sequence[Instrument] = ()) -> None:
        """Store and book some more fills of one account; `instruments` are those of them that were not given before."""
        self._of(account).add(fills, instruments)

    def history(self, account: str, instruments: Iterable[str]) -> dict[str, tuple[Entry, ...]]:
        """All entries that are stored of some instruments, and of what is linked with them, from now and from earlier, in their order.

        They are booked anew at the end: whoever asks for them is about to add an adjustment.
        """
        return self._of(account).history(instruments)

    def known_fills(self, account: str, ids: Sequence[str]) -> set[str]:
        """Those of the execution ids that stand for a fill of the account."""
        return self._of(account).known(ids)

    def adjust(self, account: str, adjustments: Sequence[Adjustment]) -> None:
        """Store some more adjustments of one account, of instruments whose history was asked for."""
        self._of(account).adjust(adjustments)

    def _of(self, account: str) -> _Account:
        known = self._accounts.get(account)
        if known is None:
            self.settle()
            known = self._accounts[account] = _Account(self._connection, self._writer, account)
        return known

    def settle(self) -> None:
        """Until PostgreSQL has taken everything, so that the connection can be used for something else."""
        self._writer.wait()

    def finish(self) -> dict[str, Recorded]:
        """Book what is left; what all of it did, by account."""
        self.recorded = {account: each.finish() for account, each in sorted(self._accounts.items())}
        return self.recorded


class _Account:
    """One account's part. Its lock is held from here to the end of the transaction."""

    def __init__(self, connection: Connection, writer: Writer, account: str) -> None:
        self._connection, self._account = connection, account
        self._at = lock_account(connection, account)
        self._writer = writer
        self._has_history = bool(connection.one(BULK["has_history"], {"account": account}))
        self._seen = Seen()
        self._instruments: dict[str, Instrument] = {}
        self._before: dict[str, Position | None] = {}
        self._flat: dict[str, Position] = {}
        self._positions: dict[str, Position] = {}
        self._revisions = _Revisions()
        self._aside: set[str] = set()
        self._kept: set[str] = set()
        self._held: list[Fill] = []
        self._conflicts: list[Conflict] = []
        self._refused: list[Refused] = []
        self._not_booked: list[tuple[str, str]] = []
        self._new = self._completed = 0
        self._adjusted: dict[str, str] = {}

    def add(self, fills: Sequence[Fill], instruments: Sequence[Instrument] = ()) -> None:
        good = self._sound(fills)
        self._meet(good, instruments)
        sure, stored = self._sifted(good)
        self._new += len(sure) + len(stored)
        lines = Lines(self._at, self._revisions)
        self._writer.copy("executions", bulk_text.EXECUTIONS, map(lines.execution, sure))
        kept = self._booked({fill.instrument for fill in good})
        moving = [fill for fill in (*sure, *stored) if fill.quantity and fill.instrument in kept]
        self._book(self._ripe([*self._held, *moving]), lines)

    def history(self, instruments: Iterable[str]) -> dict[str, tuple[Entry, ...]]:
        self._writer.wait()
        known = described(self._connection, linked_with(self._connection, self._account, frozenset(instruments)))
        found = Pages(self._connection, self._account, known).histories(dict.fromkeys(known))
        self._set_aside({id_ for id_, entries in found.items() if entries})
        return found

    def adjust(self, adjustments: Sequence[Adjustment]) -> None:
        self._writer.wait()
        new, differing = store_adjustments(self._connection, self._account, adjustments, self._at)
        self._adjusted |= {entry.id: entry.instrument for entry in new}
        self._conflicts += differing
        self._set_aside({entry.instrument for entry in new})

    def finish(self) -> Recorded:
        """Book what is left, write positions and lots."""
        ripe, self._held = self._held, []
        self._book(ripe, Lines(self._at, self._revisions))
        self._writer.wait()
        changes = self._replay()
        changes |= self._write_positions()
        conflicts = [(conflict.entry.instrument, conflict.reason) for conflict in self._conflicts]
        refused = (*by_symbol(self._connection, [*conflicts, *self._refused]), *self._not_booked)
        withdrawing.doubt_all(self._connection, self._account, changes.keys() | self._adjusted.values())
        recorded = Recorded(self._new, self._completed, len(self._adjusted), changes, refused)
        return withdrawing.told_apart(self._connection, self._account, recorded)

    # Arrivals

    def _sound(self, fills: Sequence[Fill]) -> Sequence[Fill]:
        """The fills that are not wrong by themselves."""
        if all(map(is_plainly_sound, fills)):
            return fills
        good, bad = sifted_out(fills)
        self._refused += bad
        return good

    def _meet(self, fills: Iterable[Fill], instruments: Sequence[Instrument]) -> None:
        """Learn what is kept of instruments that come for the first time, and what is held of them."""
        new = sorted({fill.instrument for fill in fills} - self._before.keys())
        if not new and not instruments:
            return
        self._writer.wait()
        add_instruments(self._connection, instruments)
        pages = Pages(self._connection, self._account, described(self._connection, new))
        pages.load()
        self._instruments |= pages.instruments
        self._flat |= flat_positions(self._connection, self._account, pages.instruments.values())
        self._before |= {id_: pages.positions.get(id_) for id_ in new}
        self._revisions |= {id_: revision for id_, revision in pages.revisions.items() if revision != 1}
        self._kept |= checkpoints.allowed(self._connection, self._account, new)
        values = {"account": self._account, "instruments": new}
        self._aside |= {row["instrument"] for row in self._connection.rows(SQL["with_entries_left_out"], values)}

    def _sifted(self, fills: Sequence[Fill]) -> tuple[Sequence[Fill], Sequence[Fill]]:
        """The fills that are new: (those still to be stored, those that had to be looked up and are stored already)."""
        ids = [fill.execution_id for fill in fills]
        seen = self._seen.found(ids)
        if self._has_history:
            seen = self.known(ids) | seen
        sure, doubtful = parted(fills, seen)
        if not doubtful:
            return sure, ()
        self._writer.wait()
        arrivals = store_fills(self._connection, self._account, doubtful, self._at)
        self._completed += len(arrivals.completed)
        self._conflicts += arrivals.conflicts
        self._set_aside(self._booked(arrivals.rebook))
        return sure, arrivals.new

    def known(self, ids: Sequence[str]) -> set[str]:
        self._writer.wait()
        values = {"account": self._account, "ids": list(ids)}
        return {row["execution_id"] for row in self._connection.rows(BULK["known_ids"], values)}

    def _booked(self, instruments: Iterable[str]) -> set[str]:
        """Those of the instruments that positions are kept of."""
        return {id_ for id_ in instruments if self._instruments[id_].sec_type not in NOT_BOOKED}

    # Booking

    def _ripe(self, fills: Sequence[Fill]) -> list[Fill]:
        """What can be booked now. The last moment waits for the next batch, which may have more of it."""
        last = max((fill.time for fill in fills), default=None)
        ripe = [fill for fill in fills if fill.time != last]
        self._held = [fill for fill in fills if fill.time == last] if len(fills) - len(ripe) < BATCH else []
        return ripe if self._held else list(fills)

    def _book(self, fills: Iterable[Fill], lines: Lines) -> None:
        """Book fills of any instruments on what is held, where they come after it, and have the results written."""
        closes: list[str] = []
        events: list[str] = []
        marks: list[str] = []
        for instrument, more in self._by_instrument(fills).items():
            position = self._position(instrument)
            booked, kept = (None, ()) if _is_late(position, more) else checkpoints.fold_on(position, more, _fold_part)
            if booked is None or booked.refused:
                self._set_aside({instrument})
                continue
            marks += map(lines.checkpoint, kept if instrument in self._kept else ())
            self._positions[instrument] = booked.position
            closes += map(lines.close, booked.closes)
            events += map(lines.event, booked.events)
        self._writer.copy("closes", bulk_text.CLOSES, closes)
        self._writer.copy("position_events", bulk_text.EVENTS, events)
        self._writer.copy("checkpoints", bulk_text.CHECKPOINTS, marks)

    def _by_instrument(self, fills: Iterable[Fill]) -> dict[str, list[Fill]]:
        found: dict[str, list[Fill]] = {}
        for fill in sorted(fills, key=order_key):
            if fill.instrument not in self._aside:
                found.setdefault(fill.instrument, []).append(fill)
                if fill.revision != 1:
                    self._revisions[fill.execution_id] = fill.revision
        return found

    def _position(self, instrument: str) -> Position:
        return self._positions.get(instrument) or self._before[instrument] or self._flat[instrument]

    # Instruments whose fills do not come one after the other

    def _set_aside(self, instruments: set[str]) -> None:
        self._aside |= instruments
        for instrument in instruments:
            self._positions.pop(instrument, None)

    def _replay(self) -> dict[str, Change]:
        """Book the whole histories of what was set aside, as `book` does for a late fill."""
        if not self._aside:
            return {}
        linked = linked_with(self._connection, self._account, frozenset(self._aside))
        self._set_aside(set(linked))
        values = {"account": self._account, "instruments": sorted(linked), "at": self._at}
        for statement in ("take_back_closes", "take_back_events"):
            self._connection.execute(BULK[statement], values)
        changes: dict[str, Change] = {}
        for some in _groups(self._connection.rows(BULK["sizes"], values)):
            changed, refused = book.book_entries(self._connection, self._account, (), some, self._at)
            changes |= changed
            self._not_booked += refused
        return changes

    # The end

    def _write_positions(self) -> dict[str, Change]:
        """Write the positions that have changed, with their lots; which did."""
        changed = {id_: position for id_, position in self._positions.items() if position != self._before[id_]}
        values = {"account": self._account, "instruments": sorted(changed)}
        symbols = {id_: self._instruments[id_].symbol for id_ in changed}
        self._connection.many(SQL["write_positions"], (rows.position_row(each, symbols[id_]) for id_, each in changed.items()))
        self._connection.execute(SQL["drop_lots"], values)
        for position in changed.values():
            numbered = enumerate(position.lots)
            lines = (bulk_text.lot_line(self._account, position.instrument, seq, lot, self._revisions) for seq, lot in numbered)
            self._writer.copy("lots", bulk_text.LOTS, lines)
        self._writer.wait()
        return {id_: _change(symbols[id_], self._before[id_], position) for id_, position in changed.items()}


def _fold_part(position: Position, fills: Sequence[Any], _: object) -> Booked:
    """Nothing is handed over by fills."""
    return fold_sorted(position, fills)


def _is_late(position: Position, fills: Sequence[Fill]) -> bool:
    """Whether sorted fills cannot simply extend a position."""
    last = position.last_key
    return (last is not None and order_key(fills[0]) <= last) or any(fill.premium_from or fill.closes_lots for fill in fills)


def _change(symbol: str, before: Position | None, after: Position) -> Change:
    held, cycle = (ZERO, 0) if before is None else (before.quantity, before.cycle)
    return Change(symbol, held, after.quantity, is_new=before is None, opened=after.cycle > cycle)


def _groups(sizes: Iterable[Row]) -> Iterator[frozenset[str]]:
    """Instruments in groups that fit into the memory together; one that is larger is alone."""
    group: set[str] = set()
    fills = 0
    for row in sizes:
        if group and fills + row["fills"] > REPLAYED_AT_A_TIME:
            yield frozenset(group)
            group, fills = set(), 0
        group.add(row["instrument"])
        fills += row["fills"]
    if group:
        yield frozenset(group)
