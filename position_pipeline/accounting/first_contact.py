"""The balance that an instrument is opened with at first contact: what the broker holds and the fills that it lists do not explain.

Belongs here: how much it was, when, and at what cost. Does not belong here: whether it is first contact (reconciliation.py), and how the
balance gives way to fills that come later (steps.py).
"""

from __future__ import annotations

from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.scene import CLOCKS
from position_pipeline.accounting.exact import EXACT, ZERO, plain
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from position_pipeline.accounting.circumstances import BookSide
    from position_pipeline.accounting.model import Fill, Holding, Instrument, Snapshot

_TOLD = Context(prec=12, rounding=ROUND_HALF_EVEN)
"""A broker's average has about as many digits; what follows from it has no more."""


def opening_balance(snapshot: Snapshot, ours: BookSide, theirs: Holding, instrument: Instrument, fills: Sequence[Fill] = ()) -> Adjustment:
    """What was held before the listed `fills` of the instrument (in order of time), at the broker's average of that."""
    before = EXACT.subtract(theirs.quantity, ours.quantity)
    at = snapshot.taken_at - CLOCKS if ours.first_entry_at is None else ours.first_entry_at - timedelta(microseconds=1)
    price = _price(before, ours, theirs, instrument, fills)
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
            f"the other {plain(before)} were held before, {_at_what_cost(price, theirs.average_price)}."
        ),
    )


def _at_what_cost(price: Decimal | None, average: Decimal | None) -> str:
    if price is None or average is None:
        return "at a cost that it does not tell"
    if price == average:
        return f"at the broker's average {plain(average)}"
    return f"at {plain(price)}, which with the fills makes the broker's average {plain(average)}"


def _price(before: Decimal, ours: BookSide, theirs: Holding, instrument: Instrument, fills: Sequence[Fill]) -> Decimal | None:
    if theirs.average_price is None or not _is_still_held(before, ours):
        return None
    if sum((fill.signed_quantity for fill in fills), ZERO) != ours.quantity:
        return theirs.average_price  # more or less was heard of than the answer lists: what it averages is not known
    price = average_before(before, theirs.average_price, instrument.multiplier, fills)
    return price if price is not None and price > 0 else theirs.average_price


def _is_still_held(before: Decimal, ours: BookSide) -> bool:
    """Whether something is left of what was held before the fills: only then is the broker's average one of it."""
    return ours.sold < before if before > 0 else ours.bought < -before


def average_before(before: Decimal, average: Decimal, multiplier: Decimal, fills: Sequence[Fill]) -> Decimal | None:
    """What a unit of `before` must have cost, if some fills have made its average what it is now; None where they passed through zero.

    100 at an unknown price and 100 bought at 20 that average 15 leave 10. An average takes in every purchase with its commission, as IBKR's
    does, and a sale leaves it: the cost after each fill is a part of the unknown and an amount, both of which are followed here.
    """
    held, share, amount = Fraction(before), Fraction(before), Fraction(0)
    for fill in fills:
        change = Fraction(fill.signed_quantity)
        if change * held > 0:
            own = fill.commission is not None and fill.commission_currency == fill.currency
            amount += change * Fraction(fill.price) + (Fraction(fill.commission or 0) if own else 0) / Fraction(multiplier)
        elif abs(change) < abs(held):
            share, amount = share * (held + change) / held, amount * (held + change) / held
        else:
            return None
        held += change
    price = (Fraction(average) * held - amount) / share
    return _TOLD.divide(Decimal(price.numerator), Decimal(price.denominator))
