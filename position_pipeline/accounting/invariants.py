"""What must always hold, as functions of values: the same ones run in the tests and behind the asset checks.

Belongs here: claims about the book that can be computed. Does not belong here: reading the rows, telling anyone. The sums behind the cash
identity are in cash.py.

Each claim returns what contradicts it, in words; nothing means that it holds. `entries` are the whole history of one instrument, from
flat, and `booked` is what `fold` made of it.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from position_pipeline.accounting.cash import CashFlow, cash_flow_of, cash_identity, identity_of
from position_pipeline.accounting.exact import ZERO, exact
from position_pipeline.accounting.methods import METHODS
from position_pipeline.accounting.model import Basis, Fill

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from position_pipeline.accounting.model import Entry
    from position_pipeline.accounting.results import Booked

__all__ = [
    "CashFlow",
    "cash_flow_of",
    "cash_identity",
    "closes_conserve_quantity",
    "every_close_has_its_opening",
    "identity_of",
    "lots_sum_to_position",
    "one_sign",
    "violations",
]


def violations(entries: Iterable[Entry], booked: Booked) -> tuple[str, ...]:
    """All that contradicts any of the claims of this module."""
    history = tuple(entries)
    gap = identity_of(history, booked)
    return (
        *((f"the cash identity is {gap}",) if gap else ()),
        *lots_sum_to_position(history, booked),
        *every_close_has_its_opening(history, booked),
        *closes_conserve_quantity(booked),
        *one_sign(booked),
    )


def lots_sum_to_position(entries: Iterable[Entry], booked: Booked) -> tuple[str, ...]:
    """The lots add up to what the events say, the events follow each other without a gap, and each fill moved what it says."""
    found = []
    changes: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    with exact():
        for event in booked.events:
            changes[event.cause] += event.quantity_after - event.quantity_before
        held = booked.events[-1].quantity_after if booked.events else ZERO
        if held != booked.position.quantity:
            found.append(f"the lots add up to {booked.position.quantity}, and the last event says {held}")
        for before, after in pairwise(booked.events):
            if before.quantity_after != after.quantity_before:
                found.append(f"{after.cause} finds {after.quantity_before}, and {before.cause} left {before.quantity_after}")
        refused = {refusal.entry_id for refusal in booked.refused if refusal.quantity is None}
        fills = [entry for entry in entries if isinstance(entry, Fill) and entry.execution_id not in refused]
        for fill in fills:
            said, moved = fill.signed_quantity, changes[fill.execution_id]
            found += [f"{fill.execution_id} is a fill of {said} and moved {moved}"] if moved != said else []
    return tuple(found)


def one_sign(booked: Booked) -> tuple[str, ...]:
    """No lot is empty, none stands against another, and each has an id of its own."""
    lots = booked.position.lots
    found = [f"lot {lot.opening_id} is empty" for lot in lots if not lot.quantity]
    if len({lot.quantity > 0 for lot in lots}) > 1:
        found.append("there are long and short lots side by side")
    if len({lot.opening_id for lot in lots}) < len(lots):
        found.append("two lots have one id")
    return tuple(found)


def every_close_has_its_opening(entries: Iterable[Entry], booked: Booked) -> tuple[str, ...]:
    """Both ends of a close are entries of this history, or lots that came in from another, and it closed something."""
    ids = {_id(entry) for entry in entries}
    known = ids | {move.opening_id for move in booked.moves}
    found = []
    for close in booked.closes:
        if close.execution_id not in ids or close.opening_id not in known:
            found.append(f"the close of {close.opening_id} by {close.execution_id} has an end that is not known")
        if not close.quantity:
            found.append(f"{close.execution_id} closes nothing of {close.opening_id}")
        if close.closed_at < close.opened_at and close.basis is Basis.FILLS:
            found.append(f"{close.execution_id} closes {close.opening_id} before it was opened")
    return tuple(found)


def closes_conserve_quantity(booked: Booked) -> tuple[str, ...]:
    """What was opened, with what was moved, less what was closed is what is open: of every lot, or of the pool as a whole."""
    pools = METHODS[booked.position.method].pools
    left: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    with exact():
        for opening_id, quantity in _quantities(booked):
            left["the pool" if pools else opening_id] += quantity
        return tuple(f"{quantity} units of {name} are unaccounted for" for name, quantity in left.items() if quantity)


def _quantities(booked: Booked) -> Iterable[tuple[str, Decimal]]:
    """(lot, units): positive where they came, negative where they went or are; 0 in all for each lot.

    What an entry opened is what it changed in all, less what it closed and what it moved.
    """
    for event in booked.events:
        yield event.cause, event.quantity_after - event.quantity_before
    for close in booked.closes:
        yield close.execution_id, close.quantity
        yield close.opening_id, -close.quantity
    for move in booked.moves:
        yield move.cause, -move.quantity
        yield move.opening_id, move.quantity
    for lot in booked.position.lots:
        yield lot.opening_id, -lot.quantity


def _id(entry: Entry) -> str:
    return entry.execution_id if isinstance(entry, Fill) else entry.id
