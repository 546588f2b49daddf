"""The account's money totals as IBKR names them: per currency, in BASE, and for the account as a whole.

Here: how the totals follow from cash, holdings and prices. Not here: sending them (`requests.py`).

    NetLiquidation     = TotalCashValue + market value of what is paid in full + unrealised P&L of futures
    GrossPositionValue = sum of |market value| of all positions but futures (so IBKR defines it), in base currency
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from position_pipeline.simulator.book import Book
from position_pipeline.simulator.ledger import ZERO, Holding
from position_pipeline.simulator.market import Market
from position_pipeline.simulator.scenario import FUTURES, OPTIONS, Instrument

CENT = Decimal("0.01")
BASE = "BASE"


class Value(NamedTuple):
    tag: str
    value: str
    currency: str


class Figures(NamedTuple):
    """One position at the market: unrealised P&L is against the average cost that is shown."""

    price: Decimal
    value: Decimal
    unrealized: Decimal


@dataclass
class Sums:
    """What adds up in one currency."""

    cash: Decimal = ZERO
    stock: Decimal = ZERO
    option: Decimal = ZERO
    crypto: Decimal = ZERO
    futures: Decimal = ZERO
    gross: Decimal = ZERO
    unrealized: Decimal = ZERO
    realized: Decimal = ZERO

    @property
    def net_liquidation(self) -> Decimal:
        return self.cash + self.stock + self.option + self.crypto + self.futures

    def add(self, other: "Sums", rate: Decimal) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name) * rate)


def money(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_EVEN)


def market_value(one: Instrument, quantity: Decimal, price: Decimal) -> Decimal:
    return quantity * price * one.factor


class Valuer:
    """Totals of one book at the market's prices."""

    def __init__(self, book: Book, market: Market, rates: dict[str, Decimal]) -> None:
        self._book, self._market, self._rates = book, market, rates

    def rate(self, currency: str, base: str) -> Decimal:
        """Units of base for one unit of a currency, with the digits that the ExchangeRate row shows."""
        if currency == base:
            return Decimal(1)
        return (self._rates[currency] / self._rates[base]).quantize(Decimal("0.0000001"), ROUND_HALF_EVEN)

    def figures(self, one: Instrument, holding: Holding) -> Figures:
        price = self._market.prices[one.con_id]
        value = market_value(one, holding.quantity, price)
        return Figures(price, value, value - holding.quantity * holding.average_cost)

    def sums(self, account: str, today: date) -> dict[str, Sums]:
        """Per currency; every currency that the account has cash or a position in."""
        owner = self._book.accounts[account]
        found: dict[str, Sums] = defaultdict(Sums)
        for currency, amount in owner.cash.items():
            found[currency].cash += amount
        for con_id, ledger in self._book.ledgers(account).items():
            one = self._book.instruments[con_id]
            sums = found[one.currency]
            sums.cash += ledger.cash
            sums.realized += ledger.realized_on.get(today, ZERO)
            self._add_position(sums, one, ledger.holding)
        found.setdefault(owner.currency, Sums())
        return dict(sorted(found.items()))

    def _add_position(self, sums: Sums, one: Instrument, holding: Holding) -> None:
        _, value, unrealized = self.figures(one, holding)
        sums.unrealized += unrealized
        if one.sec_type in FUTURES:
            sums.futures += unrealized
            return
        sums.gross += abs(value)
        if one.sec_type in OPTIONS:
            sums.option += value
        elif one.sec_type == "CRYPTO":
            sums.crypto += value
        else:
            sums.stock += value

    def total(self, account: str, today: date) -> Sums:
        """Everything in the account's base currency."""
        base = self._book.accounts[account].currency
        total = Sums()
        for currency, sums in self.sums(account, today).items():
            total.add(sums, self.rate(currency, base))
        return total

    def values(self, account: str, today: date) -> list[Value]:
        """All rows of an account, in the order in which they are sent."""
        base = self._book.accounts[account].currency
        total = self.total(account, today)
        rows = list(_account_rows(account, base, total))
        for currency, sums in self.sums(account, today).items():
            rows += _ledger_rows(currency, sums, self.rate(currency, base))
        return rows + list(_ledger_rows(BASE, total, Decimal(1)))


def _account_rows(account: str, base: str, total: Sums) -> Iterable[Value]:
    """The rows that describe the account as a whole."""
    margin = money(total.gross / 4)
    yield Value("AccountCode", account, "")
    yield Value("AccountReady", "true", "")
    yield Value("AccountType", "INDIVIDUAL", "")
    yield Value("Cushion", str(_cushion(total, margin)), "")
    for tag, amount in (
        ("NetLiquidation", total.net_liquidation),
        ("TotalCashValue", total.cash + total.futures),  # a gateway counts what futures have gained today as cash
        ("SettledCash", total.cash),
        ("AccruedCash", ZERO),
        ("EquityWithLoanValue", total.net_liquidation),
        ("GrossPositionValue", total.gross),
        ("InitMarginReq", margin),
        ("MaintMarginReq", margin),
        ("AvailableFunds", total.net_liquidation - margin),
        ("ExcessLiquidity", total.net_liquidation - margin),
        ("BuyingPower", max(total.net_liquidation - margin, ZERO) * 4),
    ):
        yield Value(tag, str(money(amount)), base)


def _cushion(total: Sums, margin: Decimal) -> Decimal:
    if total.net_liquidation <= 0:
        return ZERO
    return ((total.net_liquidation - margin) / total.net_liquidation).quantize(Decimal("0.000001"))


def _ledger_rows(currency: str, sums: Sums, rate: Decimal) -> Iterable[Value]:
    """The rows that stand once per currency, and once more for the sum of all in BASE."""
    for tag, amount in (
        ("CashBalance", sums.cash),
        ("TotalCashBalance", sums.cash + sums.futures),
        ("AccruedCash", ZERO),
        ("StockMarketValue", sums.stock),
        ("OptionMarketValue", sums.option),
        ("Cryptocurrency", sums.crypto),
        ("FuturesPNL", sums.futures),
        ("NetLiquidationByCurrency", sums.net_liquidation),
        ("UnrealizedPnL", sums.unrealized),
        ("RealizedPnL", sums.realized),
    ):
        yield Value(tag, str(money(amount)), currency)
    yield Value("ExchangeRate", f"{rate:f}", currency)
    yield Value("RealCurrency", currency, currency)
