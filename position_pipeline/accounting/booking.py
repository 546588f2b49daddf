"""What fills and adjustments do to positions: `book` for one entry, `fold` for a history, `fold_together` for several that are linked.

Belongs here: the order of entries, and the doors to the book. Where to find the rest:

- walk.py: fills, opening, closing, named lots; actions.py, passing.py: what each kind of adjustment does; faults.py: what is refused;
- inferred.py: how what was inferred from a snapshot gives way to facts;
- methods.py: which lot goes next; lots.py: arithmetic on lots; flows.py: what an entry brings; results.py: what comes out.

Does not belong here: where entries come from, how results are kept.

A worked ledger (FIFO, fees apart)::

    BUY  10 @ 100, fee 1     lots: 10 @ 100 (cost 1000, commission 1)
    SELL  4 @ 110, fee 1     close 4: gross 440 - 400 = 40, opening commission 0.4, closing commission 1, net 38.6
                             lots: 6 @ 100 (cost 600, commission 0.6)
    SELL 10 @ 120, fee 1     close 6: gross 720 - 600 = 120, opening 0.6, closing 0.6; then a short of 4 @ 120 (cost -480,
                             commission 0.4) in a new cycle: the fee follows the quantity

Everything but the relief of a part of a lot is exact (see `exact`). Entries are folded in the order of `order_key`; those of one moment
that the broker gives no sequence for follow their ids, so that the order of arrival never matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import exact
from position_pipeline.accounting.inferred import towards
from position_pipeline.accounting.methods import METHODS
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Fill
from position_pipeline.accounting.results import NOTHING_LEFT, Booked, Carried, Carries, Move, Refusal
from position_pipeline.accounting.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from position_pipeline.accounting.model import Entry, OrderKey, Position

    Known = set[tuple[str, str, int]]

__all__ = [
    "METHODS",
    "Booked",
    "Carried",
    "Carries",
    "Move",
    "Refusal",
    "book",
    "fold",
    "fold_together",
    "giver_of",
    "in_order",
    "order_key",
]

WITHOUT_SEQUENCE = float("inf")
_HANDS_LOTS = (AdjustmentKind.CONVERSION_OUT, AdjustmentKind.SPIN_OFF)


def order_key(entry: Entry) -> OrderKey:
    """Where an entry stands in the history: by time; at one time adjustments first, then the broker's sequence, then the id.

    Whoever hands something over comes before who takes it up at the same time: what hands over lots before the other adjustments, and
    all adjustments before the fills, because the share leg of an assignment is one. A delivery, which is such a leg too, is among them.
    """
    sequence = WITHOUT_SEQUENCE if entry.sequence is None else entry.sequence
    if isinstance(entry, Fill):
        return (entry.time, 1, sequence, entry.execution_id)
    if entry.kind is AdjustmentKind.DELIVERY:
        return (entry.time, 1, sequence, entry.id)
    gives = entry.kind in _HANDS_LOTS or (entry.kind is AdjustmentKind.TRANSFER and not entry.takes_from and entry.quantity < 0)
    return (entry.time, -1 if gives else 0, sequence, entry.id)


def giver_of(entry: Entry) -> str | None:
    """The id of the entry whose premium or lots this one takes up, which may be of another instrument; None for most."""
    if isinstance(entry, Fill):
        return entry.premium_from
    return None if entry.kind is AdjustmentKind.VOID else entry.takes_from


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The history to fold: sorted, without the opening lots that have given way and the fills that are void.

    An opening lot stands for a fill that we do not have; both carry the broker's `sequence` of that fill. Once the fill is there, the
    lot is left out, so that what was bought once is never booked twice.
    """
    history = _without_void_fills(sorted(entries, key=order_key))
    known: Known = {
        (entry.account, entry.instrument, entry.sequence)
        for entry in history
        if isinstance(entry, Fill) and entry.sequence is not None and entry.quantity
    }
    return tuple(entry for entry in history if not _given_way(entry, known))


def _without_void_fills(history: list[Entry]) -> list[Entry]:
    void = {(e.account, e.instrument, e.takes_from) for e in history if isinstance(e, Adjustment) and e.kind is AdjustmentKind.VOID}
    if not void:
        return history
    return [e for e in history if not isinstance(e, Fill) or (e.account, e.instrument, e.execution_id) not in void]


def _given_way(entry: Entry, known: Known) -> bool:
    if not isinstance(entry, Adjustment) or entry.kind is not AdjustmentKind.OPENING_LOT or entry.sequence is None:
        return False
    return (entry.account, entry.instrument, entry.sequence) in known


def book(position: Position, entry: Entry, carries: Carries | None = None) -> Booked:
    """Book one entry on a position."""
    return fold(position, (entry,), carries)


def fold(position: Position, entries: Iterable[Entry], carries: Carries | None = None) -> Booked:
    """Book entries of the position's instrument, which are in `order_key` order (see `in_order`), one after the other.

    `carries` are the premiums and lots of other instruments that entries may take up. A share leg whose premium is not among them has an
    unknown amount: what it closes or opens has no known basis until the option is booked. Lots that are not among them are refused.
    """
    with exact():
        walk = Walk(position, dict(carries or {}))
        step = walk.step
        for entry in entries:
            step(entry)
        return _result(walk)


def fold_together(positions: Mapping[str, Position], entries: Iterable[Entry], carries: Carries | None = None) -> dict[str, Booked]:
    """Book entries of several instruments of one account, which are in `order_key` order together; what each position became.

    Premiums and lots pass between them as they come, in either direction. Every instrument of the entries is a key of `positions`.
    """
    shared = dict(carries or {})
    history = tuple(entries)
    takers = [e for e in history if isinstance(e, Adjustment) and e.held is not None and giver_of(e) is not None]
    with exact():
        walks = {instrument: Walk(position, shared) for instrument, position in positions.items()}
        for entry in history:
            if takers and isinstance(entry, Adjustment) and _is_left_alone(entry, takers, walks):
                shared[entry.id] = NOTHING_LEFT
            walks[entry.instrument].step(entry)
        return {instrument: _result(walk) for instrument, walk in walks.items()}


def _is_left_alone(entry: Adjustment, takers: Iterable[Adjustment], walks: Mapping[str, Walk]) -> bool:
    """Whether an inferred spin-off has takers, and none has room for any of it, because facts explain what they hold.

    The parent's own quantity, which a spin-off does not change, cannot tell.
    """
    if entry.kind is not AdjustmentKind.SPIN_OFF or entry.held is None:
        return False
    parent = walks[entry.instrument].quantity
    room = [towards(e.held, walks[e.instrument].quantity, parent) for e in takers if e.takes_from == entry.id and e.held is not None]
    return bool(room) and not any(room)


def _result(walk: Walk) -> Booked:
    return walk.result(walk.start.last_key if walk.last is None else order_key(walk.last))
