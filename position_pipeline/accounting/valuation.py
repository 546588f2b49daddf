"""What is held, in money: positions at the broker's prices beside the broker's own totals.

Belongs here: sums over values and prices that were given, and how far two of them may lie apart. Does not belong here: what was realised
(booking), where prices come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, ZERO, exact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REALIZED_TOLERANCE = Decimal("0.02")
"""A broker re-rates the commission of an old fill by a cent without sending the fill again; two parts of a close may have been."""

VALUE_TOLERANCE = Decimal("0.02")
"""Share of the positions' value, beside one unit of currency: prices and totals of one answer are up to three minutes apart."""

IN_THE_CASH = frozenset({"FUT", "CONTFUT"})
"""Kinds whose gains the broker counts as cash."""


@dataclass(frozen=True, slots=True)
class ValuedPosition:
    """One open position: its market value (signed, in `currency`), None where no price is known."""

    sec_type: str
    currency: str
    market_value: Decimal | None


@dataclass(frozen=True, slots=True)
class AccountWorth:
    """One account in its base currency: its cash, its positions, and the broker's NetLiquidation. `gap` is ours less the broker's."""

    currency: str
    cash: Decimal
    positions: Decimal
    net_liquidation: Decimal
    gap: Decimal
    tolerance: Decimal

    @property
    def adds_up(self) -> bool:
        return abs(self.gap) <= self.tolerance


def account_worth(values: Iterable[Sequence[str]], positions: Sequence[ValuedPosition]) -> AccountWorth | None:
    """The sums of one account from the broker's totals (tag, currency, text); None where a total, a price or a rate is not known."""
    figures = {(tag, currency): number for tag, currency, text in values if (number := _number(text)) is not None}
    base = next((currency for tag, currency in figures if tag == "NetLiquidation" and currency not in ("", "BASE")), "")
    cash = figures.get(("TotalCashValue", base))
    worth = [_in_base(each, base, figures) for each in positions if each.sec_type not in IN_THE_CASH]
    known = [each for each in worth if each is not None]
    if cash is None or len(known) < len(worth):
        return None
    with exact():
        accrued, net = figures.get(("AccruedCash", base), ZERO), figures["NetLiquidation", base]
        held, gross = sum(known, ZERO), sum(map(abs, known), ZERO)
        return AccountWorth(base, cash, held, net, cash + held + accrued - net, gross * VALUE_TOLERANCE + 1)


def ties(ours: Decimal, brokers: Decimal) -> bool:
    """Whether two figures of realised P&L of one execution are the same, but for what the broker rounds."""
    return abs(EXACT.subtract(ours, brokers)) <= REALIZED_TOLERANCE


def _in_base(position: ValuedPosition, base: str, figures: Mapping[tuple[str, str], Decimal]) -> Decimal | None:
    rate = Decimal(1) if position.currency == base else figures.get(("ExchangeRate", position.currency))
    return None if rate is None or position.market_value is None else EXACT.multiply(position.market_value, rate)


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
