"""What must always hold, as functions of values: the same ones run in the tests and behind the asset checks.

Belongs here: claims about the book that can be computed. Does not belong here: reading the rows, telling anyone. The sums behind the cash
identity are in cash.py.

Each claim returns what contradicts it, in words; nothing means that it holds. `entries` are the whole history of one instrument, from
flat, and `booked` is what `fold` made of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from position_pipeline.accounting.cash import CashFlow, cash_flow_of, cash_identity, identity_of
from position_pipeline.accounting.exact import ZERO, exact, plain, ratio
from position_pipeline.accounting.methods import METHODS
from position_pipeline.accounting.model import AdjustmentKind, Basis, Fill

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from position_pipeline.accounting.model import Entry
    from position_pipeline.accounting.results import Booked, Carries

__all__ = [
    "CashFlow",
    "cash_flow_of",
    "cash_identity",
    "closes_conserve_quantity",
    "entries_move_what_they_say",
    "every_close_has_its_opening",
    "identity_of",
    "inferred_entries_stop_at_what_was_held",
    "lots_sum_to_position",
    "one_sign",
    "violations",
    "what_is_handed_over_has_left",
]


def violations(entries: Iterable[Entry], booked: Booked) -> tuple[str, ...]:
    """All that contradicts any of the claims of this module."""
    history = tuple(entries)
    gap = identity_of(history, booked)
    return (
        *((f"the cash identity is {plain(gap)}",) if gap else ()),
        *lots_sum_to_position(booked),
        *entries_move_what_they_say(history, booked),
        *inferred_entries_stop_at_what_was_held(history, booked),
        *what_is_handed_over_has_left(history, booked),
        *every_close_has_its_opening(history, booked),
        *closes_conserve_quantity(booked),
        *one_sign(booked),
    )


def lots_sum_to_position(booked: Booked) -> tuple[str, ...]:
    """The lots add up to what the events say, which follow each other without a gap; an entry tells each type once."""
    told = Counter((event.cause, event.type) for event in booked.events)
    found = [f"{cause} tells {number} times that the position was {type_}" for (cause, type_), number in told.items() if number > 1]
    with exact():
        held = booked.events[-1].quantity_after if booked.events else ZERO
        if held != booked.position.quantity:
            found.append(f"the lots add up to {plain(booked.position.quantity)}, and the last event says {plain(held)}")
        for before, after in pairwise(booked.events):
            if before.quantity_after != after.quantity_before:
                found.append(f"{after.cause} finds {plain(after.quantity_before)}, and {before.cause} left {plain(before.quantity_after)}")
    return tuple(found)


def entries_move_what_they_say(entries: Iterable[Entry], booked: Booked) -> tuple[str, ...]:
    """Each fill and each adjustment with a change of its own moved that, less what was refused; a split moved its ratio.

    What was inferred from a snapshot may move less (see `inferred_entries_stop_at_what_was_held`).
    """
    moved: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    left_out: defaultdict[str, Decimal | None] = defaultdict(lambda: ZERO)
    before: dict[str, Decimal] = {}
    with exact():
        for event in booked.events:
            before.setdefault(event.cause, event.quantity_before)
            moved[event.cause] += event.quantity_after - event.quantity_before
        for refusal in booked.refused:
            known = left_out[refusal.entry_id]
            left_out[refusal.entry_id] = None if known is None or refusal.quantity is None else known + refusal.quantity
        said = {
            _id(entry): _said(entry, before.get(_id(entry), ZERO), left_out[_id(entry)], booked.carries)
            for entry in entries
            if isinstance(entry, Fill) or entry.held is None
        }
        return tuple(
            f"{id_} says {plain(quantity)} and moved {plain(moved[id_])}"
            for id_, quantity in said.items()
            if quantity is not None and quantity != moved[id_]
        )


def _said(entry: Entry, before: Decimal, left_out: Decimal | None, carries: Carries) -> Decimal | None:
    """What an entry should have moved; None where that does not follow from the entry alone."""
    if left_out is None:
        return ZERO
    if isinstance(entry, Fill) or entry.kind in (AdjustmentKind.DELIVERY, AdjustmentKind.VOID):
        return entry.signed_quantity if isinstance(entry, Fill) else entry.quantity
    if entry.kind is AdjustmentKind.SPLIT and entry.numerator and entry.denominator:
        after = ratio(before * entry.numerator, entry.denominator)
        return (after if entry.amount is None else after.to_integral_value("ROUND_DOWN")) - before
    if entry.takes_from and entry.amount is None:
        handed = sum((lot.quantity for lot in carries[entry.takes_from].lots or ()), ZERO)
        return ratio(handed * (entry.numerator or 1), entry.denominator or ZERO + 1)
    if entry.kind is AdjustmentKind.OPENING_BALANCE or entry.takes_from:
        return None
    return entry.quantity - left_out


def inferred_entries_stop_at_what_was_held(entries: Iterable[Entry], booked: Booked) -> tuple[str, ...]:
    """What was inferred from a snapshot leads nearer to what was held then, or moves nothing; what was adopted ends exactly there."""
    first: dict[str, Decimal] = {}
    last: dict[str, Decimal] = {}
    for event in booked.events:
        first.setdefault(event.cause, event.quantity_before)
        last[event.cause] = event.quantity_after
    found = []
    with exact():
        for entry in entries:
            if isinstance(entry, Fill) or entry.held is None or entry.id not in last or entry.kind in _HELD_ELSEWHERE:
                continue
            before, after = abs(entry.held - first[entry.id]), abs(entry.held - last[entry.id])
            if after > before or (entry.kind is AdjustmentKind.ADOPTED and after):
                found.append(f"{entry.id} moves {plain(first[entry.id])} to {plain(last[entry.id])}, and {plain(entry.held)} were held")
    return tuple(found)


_HELD_ELSEWHERE = (AdjustmentKind.OPENING_BALANCE, AdjustmentKind.SPIN_OFF)
"""An opening balance goes by its own quantity, a spin-off by what its taker holds."""


def what_is_handed_over_has_left(entries: Iterable[Entry], booked: Booked) -> tuple[str, ...]:
    """A premium that is handed over is that of the closes, and lots that are handed over are those that are gone."""
    found = []
    with exact():
        for entry in entries:
            carried = booked.carries.get(_id(entry))
            if isinstance(entry, Fill) or carried is None:
                continue
            premium = sum((close.premium for close in booked.closes if close.execution_id == entry.id), ZERO)
            if carried.premium is not None and carried.premium != premium:
                found.append(f"{entry.id} hands over {plain(carried.premium)} of a premium of {plain(premium)}")
            units = sum((lot.quantity for lot in carried.lots or ()), ZERO)
            gone = -sum((move.quantity for move in booked.moves if move.cause == entry.id), ZERO)
            if entry.kind is not AdjustmentKind.SPIN_OFF and units != gone:
                found.append(f"{entry.id} hands over {plain(units)} units, and {plain(gone)} are gone")
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
    """Both ends of a close are entries of this history, or lots that came in from another; it closed something, and alone."""
    ids = {_id(entry) for entry in entries}
    known = ids | {move.opening_id for move in booked.moves}
    pairs = Counter((close.opening_id, close.execution_id) for close in booked.closes)
    found = [f"{execution_id} closes {opening_id} in {number} pieces" for (opening_id, execution_id), number in pairs.items() if number > 1]
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
        return tuple(f"{plain(quantity)} units of {name} are unaccounted for" for name, quantity in left.items() if quantity)


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
