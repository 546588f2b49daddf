"""What a difference is worth, in the account's base currency.

Belongs here: prices and exchange rates of a snapshot put on a difference. Does not belong here: whole portfolios.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, number, plain, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from position_pipeline.accounting.causes.scene import Difference, Scene
    from position_pipeline.accounting.model import AccountValue

_OF_THE_ACCOUNT = ("NetLiquidation", "TotalCashValue")
_CENT = Decimal("0.01")


def impact_of(scene: Scene, it: Difference) -> tuple[Decimal | None, str | None]:
    """(what the missing units are worth, unsigned; currency) at the market's price, else at the broker's average, else nothing."""
    price = scene.price(it.id) or it.holding.average_price or (it.before.average_price if it.before is not None else None)
    if price is None:
        return None, None
    amount = abs(EXACT.multiply(EXACT.multiply(it.change, price), it.instrument.multiplier))
    return in_base(amount, it.instrument.currency, scene.snapshot.values)


def in_base(amount: Decimal, currency: str, values: Iterable[AccountValue]) -> tuple[Decimal, str]:
    """An amount in the account's base currency, to the cent; in its own where no rate is known."""
    rows = tuple(values)
    base = next((row.currency for row in rows if row.tag in _OF_THE_ACCOUNT and row.currency not in ("", "BASE")), "")
    rate = next((row.value for row in rows if (row.tag, row.currency) == ("ExchangeRate", currency)), "")
    if not base or base == currency:
        return _rounded(amount), currency
    try:
        return _rounded(EXACT.multiply(amount, number(rate))), base
    except ValueError:
        return _rounded(amount), currency


def _rounded(amount: Decimal) -> Decimal:
    return Decimal(plain(ratio(amount, Decimal(1), 2 if amount >= _CENT else 10)))
