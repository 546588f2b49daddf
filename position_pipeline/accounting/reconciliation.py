"""What a proven snapshot means for the book: `reconcile` says what to mark, to adjust and to call a break, and why.

Belongs here: verdicts, with their evidence in words and figures. Does not belong here: carrying them out (store), where snapshots come
from (brokers). Nothing here ever changes the quantity of a position, except by an `opening_balance` at first contact.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, ZERO, plain
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis, Break, BreakClass, Holding

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Instrument, Snapshot

NOT_BOOKED = frozenset({"CASH", "BAG"})
"""Kinds that are never positions: conversions of currency move cash, a combination is known by its legs."""

CLOCKS = timedelta(minutes=1)
"""The broker's clock and ours may differ by so much, and its times are whole seconds: a fill after the answer may seem to be before it."""


@dataclass(frozen=True, slots=True)
class BookSide:
    """What the book says of one instrument, and what it rests on.

    `first_entry_at`, `bought` and `sold` are of its entries; `listed`: all of them are fills that the broker has listed to us, so that
    what they do not explain was there before them. Only first contact asks for these.
    """

    quantity: Decimal
    first_entry_at: datetime | None = None
    bought: Decimal = ZERO
    sold: Decimal = ZERO
    listed: bool = True


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """`agreed` are the instruments in which both sides hold the same; each of the others has an adjustment or a break."""

    agreed: frozenset[str]
    adjustments: tuple[Adjustment, ...]
    breaks: tuple[Break, ...]


def reconcile(
    book: Mapping[str, BookSide],
    snapshot: Snapshot,
    instruments: Mapping[str, Instrument],
    *,
    first_contact: bool,
    unmet: frozenset[str] = frozenset(),
) -> Reconciliation:
    """Compare the union of both sides of one account, quantities exactly.

    Instruments that the snapshot could not read are left out; `unmet` are those that no snapshot could read before this one. At first
    contact, what the fills do not explain becomes an opening balance, unless a statement has told what was held before: then, and
    at any later time, a difference is a break, and the position stays as it is.
    """
    held = {holding.instrument: holding for holding in snapshot.holdings}
    agreed: set[str] = set()
    adjustments: list[Adjustment] = []
    breaks: list[Break] = []
    for instrument in sorted((set(book) | set(held)) - snapshot.unread):
        ours = book.get(instrument, BookSide(ZERO))
        theirs = held.get(instrument, Holding(instrument, ZERO))
        if ours.quantity == theirs.quantity:
            agreed.add(instrument)
        elif (first_contact or instrument in unmet) and ours.listed:
            adjustments.append(_opening_balance(snapshot, ours, theirs, instruments[instrument]))
        else:
            breaks.append(_unexplained(snapshot, ours, theirs))
    return Reconciliation(frozenset(agreed), tuple(adjustments), tuple(breaks))


def _opening_balance(snapshot: Snapshot, ours: BookSide, theirs: Holding, instrument: Instrument) -> Adjustment:
    before = EXACT.subtract(theirs.quantity, ours.quantity)
    at = snapshot.taken_at - CLOCKS if ours.first_entry_at is None else ours.first_entry_at - timedelta(microseconds=1)
    price = theirs.average_price if _is_still_held(before, ours) else None
    cost = "at a cost that it does not tell" if price is None else f"at the broker's average {plain(price)}"
    return Adjustment(
        id=f"opening:{snapshot.account}:{instrument.id}",
        account=snapshot.account,
        instrument=instrument.id,
        kind=AdjustmentKind.OPENING_BALANCE,
        time=at,
        quantity=before,
        currency=instrument.currency,
        multiplier=instrument.multiplier,
        price=price,
        basis=Basis.UNKNOWN if price is None else Basis.BROKER,
        source=f"{snapshot.broker} snapshot",
        evidence=(
            f"First contact: the broker holds {plain(theirs.quantity)}, the fills it lists explain {plain(ours.quantity)}; "
            f"the other {plain(before)} were held before, {cost}."
        ),
    )


def _is_still_held(before: Decimal, ours: BookSide) -> bool:
    """Whether something is left of what was held before the fills: only then is the broker's average one of it."""
    return ours.sold < before if before > 0 else ours.bought < -before


def _unexplained(snapshot: Snapshot, ours: BookSide, theirs: Holding) -> Break:
    difference = EXACT.subtract(theirs.quantity, ours.quantity)
    return Break(
        account=snapshot.account,
        instrument=theirs.instrument,
        cls=BreakClass.UNKNOWN,
        book_quantity=ours.quantity,
        broker_quantity=theirs.quantity,
        evidence=(
            f"The book holds {plain(ours.quantity)}, the broker {plain(theirs.quantity)} "
            f"({'+' if difference > 0 else ''}{plain(difference)}), "
            "and no fill that the broker lists explains it. The position keeps the book's quantity."
        ),
        proposal="Import a statement that covers the time since the last agreement: position-pipeline import FILE",
    )
