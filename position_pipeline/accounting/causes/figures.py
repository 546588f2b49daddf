"""Figures that causes compare: cash, costs and implied prices, when two of them are the same, and how they are put into words.

Belongs here: sums over a difference, a holding, a fill. Does not belong here: the account around them (scene.py), what they speak for (the
other modules of this package). The caller is in an `exact()` block.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO, number, plain, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from position_pipeline.accounting.causes.scene import Difference
    from position_pipeline.accounting.model import AccountValue, Fill, Holding

COST_SHARE = Decimal("0.005")
"""Two costs are the same within this share: brokers round averages, and put commissions in or leave them out."""
CASH_SHARE, CASH_LEAST = Decimal("0.01"), Decimal(5)
"""Cash moved by an amount within this share of it and so many units of currency: commissions and taxes come on top."""
_CASH = ("CashBalance", "TotalCashBalance", "TotalCashValue")


def cash_of(values: Iterable[AccountValue], currency: str) -> Decimal | None:
    """The cash of one currency among the account's values."""
    found = {value.tag: value.value for value in values if value.currency == currency and value.tag in _CASH}
    for tag in _CASH:
        if tag in found:
            try:
                return number(found[tag])
            except ValueError:
                return None
    return None


def cash_of_fill(fill: Fill) -> Decimal:
    """What a fill paid in or out, with its commission as far as that has come in the trade's currency."""
    own = fill.commission is not None and fill.commission_currency in (None, "", fill.currency)
    fee = fill.commission if own and fill.commission is not None else ZERO
    return -fill.signed_quantity * fill.price * fill.multiplier - fee


def about(one: Decimal, other: Decimal, share: Decimal = CASH_SHARE, least: Decimal = CASH_LEAST) -> bool:
    """Whether two amounts are the same within a share of the larger one, or within the least amount that counts."""
    return abs(one - other) <= max(share * max(abs(one), abs(other)), least)


def alike(one: Decimal, other: Decimal, share: Decimal = COST_SHARE) -> bool:
    """Whether two figures of one sign are the same within a share of the larger one."""
    return abs(one - other) <= share * max(abs(one), abs(other))


def cost_of(holding: Holding | None) -> Decimal | None:
    """What the broker says that a holding cost, without multiplier."""
    if holding is None or holding.average_price is None:
        return None
    return holding.average_price * holding.quantity


def cost_before(difference: Difference) -> Decimal | None:
    """What the broker's side had cost with the fills since, had there been nothing else; None where one of them closed something."""
    holding = difference.before
    if holding is None:
        quantity, cost = ZERO, ZERO
    else:
        quantity, known = holding.quantity, cost_of(holding)
        if known is None:
            return None
        cost = known
    for fill in difference.fills:
        if fill.time <= difference.since:
            continue
        if quantity and (quantity > 0) != (fill.signed_quantity > 0):
            return None
        quantity, cost = quantity + fill.signed_quantity, cost + fill.signed_quantity * fill.price
    return cost if quantity == difference.book else None


def implied_price(difference: Difference) -> Decimal | None:
    """The price of a unit that came in, by the broker's average and quantity before and now; None where they do not tell."""
    book, broker, now = difference.book, difference.broker, cost_of(difference.holding)
    if now is None or not broker:
        return None
    if not book or (book > 0) != (broker > 0):
        return difference.holding.average_price or None
    then = cost_before(difference)
    if then is None or abs(broker) < abs(book):
        return None
    price = ratio(now - then, broker - book)
    return price if price > 0 else None


def signed(value: Decimal) -> str:
    return f"{'+' if value > 0 else ''}{plain(value)}"


def money(value: Decimal) -> str:
    """An amount for people: at most two decimals, unless it is a fraction of one."""
    return plain(ratio(value, Decimal(1), 2 if abs(value) >= 1 else 6))
