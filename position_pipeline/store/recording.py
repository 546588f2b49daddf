"""Recording fills and adjustments: they are stored, and the positions that they touch are booked, in the caller's transaction.

Belongs here: the order of things, and what is told of it. Does not belong here: storing (arriving.py), booking (book.py), the same for very
many fills (bulk.py), and transactions (Store opens them).

What cannot be is refused and told, and everything else is booked: an entry that is wrong by itself is not even stored; one that does not
fit what is held stays stored, for it may fit once what is missing has come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from position_pipeline.store.arriving import sifted_out, store_adjustments, store_fills
from position_pipeline.store.book import book_entries
from position_pipeline.store.instruments import add_instruments
from position_pipeline.store.refusals import by_symbol
from position_pipeline.store.turns import lock_account

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from position_pipeline.accounting.arrivals import Conflict
    from position_pipeline.accounting.model import Adjustment, Entry, Fill, Instrument
    from position_pipeline.store.book import Change
    from position_pipeline.store.connection import Connection


@dataclass(frozen=True, slots=True)
class Recorded:
    """What recording did: rows that were new, positions that changed (by instrument), and what was refused, as (symbol, reason).

    `waiting` are facts that are kept and not booked yet, because something was inferred in their place: the next proven answer decides.
    `new` are the entries themselves, where they are not so many that they were not kept.
    """

    fills: int = 0
    completed: int = 0
    adjustments: int = 0
    changes: Mapping[str, Change] = field(default_factory=dict)
    refused: tuple[tuple[str, str], ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()
    new: tuple[Entry, ...] = ()


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
    good, bad = sifted_out(fills)
    sound, unsound = sifted_out(adjustments)
    arrivals = store_fills(connection, account, good, at)
    stored, differing = store_adjustments(connection, account, sound, at)
    new: tuple[Entry, ...] = (*arrivals.new, *stored)
    changes, left_out = book_entries(connection, account, new, arrivals.rebook.keys(), at, since=arrivals.rebook)
    refused = (*_named(connection, (*arrivals.conflicts, *differing)), *by_symbol(connection, [*bad, *unsound]), *left_out)
    return Recorded(len(arrivals.new), len(arrivals.completed), len(stored), changes, refused, new=new)


def _named(connection: Connection, conflicts: Sequence[Conflict]) -> tuple[tuple[str, str], ...]:
    return by_symbol(connection, [(conflict.entry.instrument, conflict.reason) for conflict in conflicts])
