"""The Trades section, row by row.

Belongs here: which rows count, their ids, times and commissions. Does not belong here: what a trade means for a position
(flex_booking.py, flex_options.py).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from datetime import time
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, ZERO, plain, ratio
from position_pipeline.brokers.flex_rows import MIDNIGHT, Row, RowError
from position_pipeline.brokers.flex_words import ASSET_CATEGORIES, CODES, CURRENCIES, OPTIONS, TRANSACTION_TYPES
from position_pipeline.brokers.ibkr_fills import identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.brokers.flex_log import Log

AFTER_THE_CLOSE = time(16, 20)
"""Book entries with a date but no time: IBKR stamps expiries, assignments and deliveries with 16:20."""

READ_LATER = ("fifoPnlRealized", "cost", "closePrice", "proceeds")
"""Numbers that booking a trade may ask for: whether they can be read is settled with the row."""

REQUIRED = ("conid", "quantity", "tradePrice", "currency", "assetCategory")


@dataclass(frozen=True, slots=True)
class Trade:
    """One row of Trades, read. `quantity` is signed; `commission` is positive when paid; `id` and `revision` name it for good."""

    row: Row
    id: str
    revision: int
    instrument: str
    time: datetime
    quantity: Decimal
    price: Decimal
    multiplier: Decimal
    commission: Decimal | None
    commission_currency: str

    @property
    def codes(self) -> frozenset[str]:
        return frozenset(self.row.words("notes"))

    @property
    def is_option(self) -> bool:
        return self.row.asset in OPTIONS

    @property
    def is_book_entry(self) -> bool:
        return self.row.text("transactionType") == "BookTrade"

    @property
    def cancels(self) -> bool:
        return _cancels(self.row)

    @property
    def units(self) -> Decimal:
        """Units of the underlying, unsigned."""
        return abs(self.quantity * self.multiplier)


def executions(rows: Sequence[Row], log: Log) -> list[Row]:
    """The rows that count: executions, or whole orders where there are no executions; never both."""
    level = {id(row): row.text("levelOfDetail").upper() or ("ORDER" if row.tag == "Order" else "EXECUTION") for row in rows}
    log.words("levelOfDetail", level.values(), ("EXECUTION", "ORDER", "CLOSED_LOT", "SYMBOL_SUMMARY", "ASSET_SUMMARY", "WASH_SALE"))
    found = [row for row in rows if level[id(row)] == "EXECUTION"]
    if not found:
        found = [row for row in rows if level[id(row)] == "ORDER"]
        if found:
            log.note("whole orders taken, for want of executions: they cannot be recognised in what the API delivers", len(found))
    return found


def read_trades(rows: Iterable[Row], log: Log) -> list[Trade]:
    """Read rows, refusing those that cannot be; the same row twice (overlapping statements in one file) is one."""
    read: dict[tuple[str, int], Trade] = {}
    seen: Counter[tuple[int, str]] = Counter()
    for row in rows:
        try:
            trade = _trade(row, seen, log)
        except RowError as error:
            log.refuse(row, f"trade not taken: {error}")
            log.taint(row)
            continue
        before = read.setdefault((trade.id, trade.revision), trade)
        if before is not trade:
            _twice(before, trade, log)
    return sorted(read.values(), key=lambda each: (each.time, each.row.serial("transactionID") or 0, each.id))


def _twice(before: Trade, trade: Trade, log: Log) -> None:
    same = all(getattr(before, name) == getattr(trade, name) for name in ("instrument", "time", "quantity", "price"))
    if same:
        log.note("trades that stand in the file more than once: taken once")
        return
    log.refuse(trade.row, f"trade not taken: its id {trade.id} revision {trade.revision} is also that of line {before.row.line}")
    log.taint(trade.row)


def _trade(row: Row, seen: Counter[tuple[int, str]], log: Log) -> Trade:
    instrument, multiplier, quantity, price = row.instrument_id, row.multiplier, row.needed("quantity"), row.needed("tradePrice")
    clock = AFTER_THE_CLOSE if row.text("transactionType") == "BookTrade" else MIDNIGHT
    at, timed = _time(row, clock)
    if not timed:
        log.note("trades with a date but no time: taken at midnight New York, book entries at 16:20")
    _check(row, quantity)
    _tell_unknown_words(row, log)
    commission, currency = _commission(row, log)
    name, revision = _identity(row, seen, (instrument, at.isoformat(), plain(quantity), plain(price)), log)
    return Trade(row, name, revision, instrument, at, quantity, _price(row, quantity, price, multiplier), multiplier, commission, currency)


def _time(row: Row, clock: time) -> tuple[datetime, bool]:
    """When it was traded; older files split it into tradeDate and tradeTime."""
    if not row.text("dateTime") and row.text("tradeTime"):
        joined = {**row.values, "dateTime": f"{row.text('tradeDate')};{row.text('tradeTime')}"}
        row = replace(row, values=joined)
    return row.time("dateTime", "tradeDate", clock=clock)


def _check(row: Row, quantity: Decimal) -> None:
    side = row.text("buySell")
    if not quantity:
        raise RowError("quantity is 0")
    if side in ("BUY", "SELL") and (side == "BUY") != (quantity > 0) and not _cancels(row):
        raise RowError(f"buySell says {side} but quantity is {plain(quantity)}")
    if not row.asset:
        raise RowError("assetCategory is missing")
    row.instrument()
    for name in READ_LATER:
        row.number(name)
    for name in ("transactionID", "tradeID", "origTransactionID", "origTradeID"):
        row.id(name)
    if row.text("tradeDate"):
        row.time("tradeDate")


def _cancels(row: Row) -> bool:
    return row.text("transactionType") == "TradeCancel" or "Ca" in row.words("notes") or "(Ca" in row.text("buySell")


def _tell_unknown_words(row: Row, log: Log) -> None:
    log.words("code", row.words("notes"), CODES)
    log.words("assetCategory", (row.asset,), ASSET_CATEGORIES)
    log.words("transactionType", (row.text("transactionType"),), TRANSACTION_TYPES)
    log.words("currency", (row.currency,), CURRENCIES)


def _price(row: Row, quantity: Decimal, price: Decimal, multiplier: Decimal) -> Decimal:
    """The price as given; of a whole order, whose price is a rounded average, what its money comes to."""
    money = row.number("tradeMoney")
    is_order = row.tag == "Order" or row.text("levelOfDetail").upper() == "ORDER"
    units = EXACT.multiply(quantity, multiplier)
    return ratio(money, units) if is_order and money and money != EXACT.multiply(units, price) else price


def _commission(row: Row, log: Log) -> tuple[Decimal | None, str]:
    """Commission and taxes, positive when paid; None when the file does not give the commission."""
    commission, taxes = row.number("ibCommission"), row.number("taxes") or ZERO
    currency = row.text("ibCommissionCurrency") or row.currency
    if commission is None:
        log.note("trades without ibCommission: their commission is not known")
        return None, currency
    if taxes and currency != row.currency:
        log.note("taxes in another currency than the commission: not booked")
        taxes = ZERO
    return EXACT.minus(EXACT.add(commission, taxes)) or ZERO, currency


def _identity(row: Row, seen: Counter[tuple[int, str]], content: tuple[str, ...], log: Log) -> tuple[str, int]:
    """The execution's id and revision.

    A row without any id is named by its content and by how many rows like it stand before it in its statement, so that the same
    statement gives the same names; the API's name of that execution cannot be known.
    """
    if execution := row.id("ibExecID"):
        return identity(execution)
    if number := row.id("transactionID") or row.id("tradeID"):
        return f"flex-{number}", 1
    if row.label("ibOrderID"):
        content = (row.label("ibOrderID"), *content)
    else:
        log.note("trades without any id, named by their content: tick IB Execution ID and Transaction ID in the Flex query")
    digest = hashlib.sha256("|".join((row.account, *content)).encode()).hexdigest()[:16]
    seen[row.part, digest] += 1
    return f"flex-{digest}-{seen[row.part, digest]}", 1
