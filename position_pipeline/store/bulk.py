"""Recording very many fills of an account in one transaction: the same rows as `book.record` writes, several times as fast.

    with Bulk(connection, account) as bulk:     # the caller holds the transaction
        for fills, instruments in batches:
            bulk.add(fills, instruments)
        recorded = bulk.finish()

Belongs here: the order of things. Does not belong here: which fills are new (bulk_arrivals.py), booking (bulk_kernel.py), lines
(bulk_text.py), COPY (bulk_writer.py).

Batch by batch the new fills are stored, and booked on positions that stay in memory; closes and events are written and forgotten. So the
memory holds a batch, the positions and their open lots, however long the file is.

An instrument whose fills do not simply come one after the other - one of them is late, corrected, completed, takes up a premium, or an
opening lot gives way to it - is set aside: what this transaction has written for it is taken back, and `book` books its whole history at
the end, as it does for a late fill. A file that is sorted the other way round is right too, but takes that slower way for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from position_pipeline.accounting.arrivals import sift
from position_pipeline.accounting.booking import order_key
from position_pipeline.accounting.model import Position
from position_pipeline.accounting.reconciliation import NOT_BOOKED
from position_pipeline.store import book, bulk_text, queries, rows
from position_pipeline.store.book import Change, Recorded
from position_pipeline.store.bulk_arrivals import Seen, parted
from position_pipeline.store.bulk_kernel import fold_sorted
from position_pipeline.store.bulk_writer import Writer
from position_pipeline.store.pages import Pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from position_pipeline.accounting.arrivals import Conflict
    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Fill, Instrument
    from position_pipeline.store.connection import Connection

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


class Bulk:
    """A large delivery of one account, within the caller's transaction, which holds the account's lock from here on."""

    def __init__(self, connection: Connection, account: str) -> None:
        self._connection, self._account = connection, account
        self._at = book.lock_account(connection, account)
        self._writer = Writer(connection)
        self._method = book._method(connection, account)  # noqa: SLF001  one rule for both ways
        self._has_history = bool(connection.one(BULK["has_history"], {"account": account}))
        self._seen = Seen()
        self._instruments: dict[str, Instrument] = {}
        self._before: dict[str, Position | None] = {}
        self._positions: dict[str, Position] = {}
        self._revisions = _Revisions()
        self._aside: set[str] = set()
        self._held: list[Fill] = []
        self._conflicts: list[Conflict] = []
        self._new = self._completed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.__exit__()

    def add(self, fills: Sequence[Fill], instruments: Sequence[Instrument] = ()) -> None:
        """Store and book some more fills; `instruments` are those of them that were not given before."""
        self._meet(fills, instruments)
        new = self._sifted(fills)
        self._new += len(new)
        self._writer.copy("executions", bulk_text.EXECUTIONS, map(bulk_text.execution_line, new))
        self._book(self._ripe([*self._held, *(fill for fill in new if self._is_booked(fill))]))

    def finish(self) -> Recorded:
        """Book what is left, write positions and lots; what all of it did."""
        ripe, self._held = self._held, []
        self._book(ripe)
        self._writer.wait()
        changes = self._replay()
        changes |= self._write_positions()
        refused = book._named(self._connection, self._conflicts)  # noqa: SLF001
        return Recorded(self._new, self._completed, 0, changes, refused)

    # Arrivals

    def _meet(self, fills: Iterable[Fill], instruments: Sequence[Instrument]) -> None:
        """Learn what is kept of instruments that come for the first time, and what is held of them."""
        new = sorted({fill.instrument for fill in fills} - self._before.keys())
        if not new and not instruments:
            return
        self._writer.wait()
        book.add_instruments(self._connection, instruments)
        pages = Pages(self._connection, self._account, book.described(self._connection, new))
        pages.load()
        self._instruments |= pages.instruments
        self._before |= {id_: pages.positions.get(id_) for id_ in new}
        self._revisions |= {id_: revision for id_, revision in pages.revisions.items() if revision != 1}
        values = {"account": self._account, "instruments": new}
        self._aside |= {row["instrument"] for row in self._connection.rows(SQL["with_opening_lots"], values)}

    def _sifted(self, fills: Sequence[Fill]) -> list[Fill]:
        """Those of the fills that are new, as they are to be stored."""
        ids = [fill.execution_id for fill in fills]
        seen = self._seen.found(ids)
        if self._has_history:
            seen = self._known(ids) | seen
        sure, doubtful = parted(fills, seen)
        if not doubtful:
            return sure
        self._writer.wait()
        arrivals = book._store_fills  # noqa: SLF001
        return sure

    def _known(self, ids: Sequence[str]) -> set[str]:
        self._writer.wait()
        values = {"account": self._account, "ids": list(ids)}
        return {row["execution_id"] for row in self._connection.rows(BULK["known_ids"], values)}
