"""Entries that were inferred from a snapshot (`Adjustment.held`): how much is left for one to do, and which have nothing left to do.

Belongs here: how such an entry gives way to facts. Does not belong here: what its kind does to a position (actions.py, passing.py), when
something is inferred (reconciliation.py).

Such an entry says that the position was `held` right after it. Facts that come later, but happened before, are booked before it, so it
finds less to do, and in the end nothing::

    snapshot at 16:00: 100 are held, the book says 0     adopted, held 100: books 100 of unknown cost
    a fill of 14:00 arrives: BUY 40 @ 10                 40 are there by 16:00: it books 60
    a fill of 15:00 arrives: BUY 60 @ 11                 100 are there by 16:00: it books nothing, as if it had never been

It never does more than it says, never the opposite, and is silent where nothing is left to do: a fact in its place is no fault. What
one leg of an assignment or a conversion hands over, and the other leg does not need any more because a fact has come for it, is in
nobody's book until the fact of the first leg comes too: it left the one and reached no other, as with any leg that is still missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.model import Adjustment, AdjustmentKind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from position_pipeline.accounting.model import Entry, PositionEvent


def due(entry: Adjustment, running: Decimal) -> Decimal:
    """The change that an entry makes to a position of `running` units; of an inferred one what is left of it."""
    return entry.quantity if entry.held is None else towards(entry.held, running, entry.quantity)


def towards(held: Decimal, running: Decimal, change: Decimal) -> Decimal:
    """The part of a change, from `running` on, that leads to `held` and not past it."""
    missing = held - running
    if not missing or (missing > 0) != (change > 0):
        return ZERO
    return missing if abs(missing) < abs(change) else change


def is_nearer(held: Decimal | None, running: Decimal, after: Decimal) -> bool:
    """Whether what cannot be done in part, such as a split, leads nearer to `held`; always where nothing is said of it."""
    return held is None or abs(held - after) < abs(held - running)


def idle(entries: Iterable[Entry], events: Iterable[PositionEvent]) -> tuple[Adjustment, ...]:
    """The inferred entries that book nothing any more, because facts explain all that they said; such may be withdrawn.

    `events` are those that are believed, of all instruments that the entries are of: whatever an entry books has one. Of legs that belong
    together (an option and its delivery, the two sides of a conversion) all are idle or none is called so.
    """
    causes = {event.cause for event in events}
    inferred = [entry for entry in entries if isinstance(entry, Adjustment) and _stands_by_itself(entry)]
    at_work = {_together(entry) for entry in inferred if entry.id in causes}
    return tuple(entry for entry in inferred if _together(entry) not in at_work)


def _stands_by_itself(entry: Adjustment) -> bool:
    """A void books nothing, and an opening balance is what the book begins with: neither is ever idle."""
    return entry.held is not None and entry.kind not in (AdjustmentKind.VOID, AdjustmentKind.OPENING_BALANCE)


def _together(entry: Adjustment) -> str:
    return entry.takes_from or entry.id
