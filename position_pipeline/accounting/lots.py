"""Arithmetic on lots: take a part off, merge, scale, raise and lower what they cost. Nothing is lost: what one side gets, the other gives.

Belongs here: functions from lots to lots, and from fees to fees. Does not belong here: which lot, when and why (walk.py, actions.py).

Quantities and costs are signed alike. An amount that is not known is None and stays None. The caller is in an `exact()` block.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO, plain, ratio, relieve
from position_pipeline.accounting.model import Lot, weaker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from position_pipeline.accounting.model import Fees

QUANTITY_PLACES = 18
"""Units are rounded only where a ratio has no end, at eighteen decimals."""

ONE_UNIT = ZERO + 1

new_tuple = tuple.__new__
"""Makes a NamedTuple of a tuple in the order of its fields (which a test holds fast) in half the time that its own constructor takes,
and a third of what that takes by keyword: a fold makes two to four of them a fill."""


def split_lot(lot: Lot, part: Decimal, whole: Decimal) -> tuple[Lot, Lot]:
    """(what goes, what stays) when `part` of the `whole` (both unsigned) of a lot is consumed."""
    opening_id, opened_at, quantity, price, cost, commission, basis, fees = lot
    gone = part.copy_sign(quantity)
    left = quantity - gone
    gone_cost = cost and relieve(cost, part, whole)
    gone_commission = commission and relieve(commission, part, whole)
    if fees:
        gone_fees = share_of(fees, part, whole)
        fees = minus(fees, gone_fees)
    else:
        gone_fees = fees
    return (
        new_tuple(Lot, (opening_id, opened_at, gone, price, gone_cost, gone_commission, basis, gone_fees)),
        new_tuple(Lot, (opening_id, opened_at, left, price, less(cost, gone_cost), less(commission, gone_commission), basis, fees)),
    )


def pooled(pool: Lot, lot: Lot, multiplier: Decimal) -> Lot:
    """One lot of both, at their average; it keeps the id and time of the first."""
    quantity = pool.quantity + lot.quantity
    cost = None if pool.cost is None or lot.cost is None else pool.cost + lot.cost
    return Lot(
        pool.opening_id,
        pool.opened_at,
        quantity,
        None if cost is None else ratio(cost, quantity * multiplier),
        cost,
        None if pool.commission is None or lot.commission is None else pool.commission + lot.commission,
        weaker(pool.basis, lot.basis),
        plus(pool.fees, lot.fees),
    )


def scaled(lots: Sequence[Lot], numerator: Decimal, denominator: Decimal, multiplier: Decimal, places: int = QUANTITY_PLACES) -> list[Lot]:
    """The lots with `numerator` units for `denominator`, at their total cost.

    The running total is multiplied, divided and rounded once, half to even, and each lot takes what is new of it. So the lots add up to
    the rounded total: 1 for 3 makes exactly 134 of lots of 100, 101 and 201, none of which can be divided by 3.
    """
    after: list[Lot] = []
    seen = done = ZERO
    for lot in lots:
        seen += lot.quantity
        upto = Decimal(plain(ratio(seen * numerator, denominator, places)))  # 20, and not 20 with 18 zeros
        after.append(priced(lot._replace(quantity=upto - done), multiplier))
        done = upto
    return after


def lowered(lots: Sequence[Lot], amount: Decimal, multiplier: Decimal) -> list[Lot]:
    """The lots at `amount` less of cost, shared by quantity; below 0 where it exceeds the cost, so that nothing is realised.

    The share of a lot of unknown cost goes with it.
    """
    whole = sum((abs(lot.quantity) for lot in lots), ZERO)
    after: list[Lot] = []
    seen = done = ZERO
    for lot in lots:
        seen += abs(lot.quantity)
        upto = relieve(amount, seen, whole)
        after.append(lot if lot.cost is None else priced(lot._replace(cost=lot.cost - (upto - done)), multiplier))
        done = upto
    return after


def shared_out(lots: Sequence[Lot], share: Decimal, multiplier: Decimal) -> tuple[list[Lot], list[Lot]]:
    """(what stays, what goes): `share` (0 to 1) of the cost and the commissions of each lot goes, its quantity stays.

    Those that go have the quantity of those that they come from, for whoever takes them to scale.
    """
    stays, goes = [], []
    for lot in lots:
        cost = lot.cost and _part(lot.cost, share)
        commission = lot.commission and _part(lot.commission, share)
        fees = tuple((currency, _part(amount, share)) for currency, amount in lot.fees)
        goes.append(priced(lot._replace(cost=cost, commission=commission, fees=fees), multiplier))
        kept = lot._replace(cost=less(lot.cost, cost), commission=less(lot.commission, commission), fees=minus(lot.fees, fees))
        stays.append(priced(kept, multiplier))
    return stays, goes


def _part(amount: Decimal, share: Decimal) -> Decimal:
    return relieve(amount, share, ONE_UNIT)


def priced(lot: Lot, multiplier: Decimal) -> Lot:
    """The lot at the price that its cost makes now."""
    if lot.cost is None or not lot.quantity:
        return lot
    return lot._replace(price=ratio(lot.cost, lot.quantity * multiplier))


def less(total: Decimal | None, part: Decimal | None) -> Decimal | None:
    """`total - part`, where either may not be known."""
    return total - part if total and part else total


def share_of(fees: Fees, part: Decimal, whole: Decimal) -> Fees:
    """What of the fees goes with `part` of `whole`, each currency rounded once."""
    return fees and tuple((currency, relieve(amount, part, whole)) for currency, amount in fees)


def plus(fees: Fees, more: Fees) -> Fees:
    """The sum, by currency."""
    if not more or not fees:
        return fees or more
    both = dict(fees)
    for currency, amount in more:
        both[currency] = both.get(currency, ZERO) + amount
    return tuple(sorted(both.items()))


def minus(fees: Fees, other: Fees) -> Fees:
    """The difference, by currency; `other` has no currency that `fees` has not."""
    if not other:
        return fees
    gone = dict(other)
    return tuple((currency, amount - gone[currency]) for currency, amount in fees)
