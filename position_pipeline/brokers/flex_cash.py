"""Cash rows of a statement, kept as they came, and the account's base currency.

Belongs here: CashTransactions and AccountInformation. Does not belong here: what cash means for a position.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from position_pipeline.brokers import CashRow
from position_pipeline.brokers.flex_document import quoted
from position_pipeline.brokers.flex_rows import RowError
from position_pipeline.brokers.flex_words import CASH_TYPES, CODES, CURRENCIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from position_pipeline.brokers.flex_log import Log
    from position_pipeline.brokers.flex_rows import Row

REQUIRED = ("amount", "currency", "type")


def detailed(rows: Iterable[Row], log: Log) -> list[Row]:
    """The single rows of a section that also sums them up."""
    found = []
    for row in rows:
        level = row.text("levelOfDetail").upper()
        log.words("levelOfDetail", (level,), ("DETAIL", "SUMMARY"))
        if level != "SUMMARY":
            found.append(row)
    return found


def read_cash(rows: Iterable[Row], log: Log) -> tuple[CashRow, ...]:
    """Cash rows in order of time. The same row in several statements of the file is one."""
    seen: Counter[tuple[int, str]] = Counter()
    read: dict[str, CashRow] = {}
    for row in rows:
        try:
            cash = _cash_row(row, seen)
        except RowError as error:
            log.refuse(row, f"cash row not taken: {error}")
            continue
        if read.setdefault(cash.id, cash) != cash:
            log.refuse(row, f"cash row not taken: its id {cash.id} is also that of another row")
        log.words("cash type", (cash.type,), CASH_TYPES)
        log.words("code", row.words("code"), CODES)
        log.words("currency", (cash.currency,), CURRENCIES)
    return tuple(sorted(read.values(), key=lambda each: (each.time, each.id)))


def _cash_row(row: Row, seen: Counter[tuple[int, str]]) -> CashRow:
    row.needed("amount")
    at, _ = row.time("dateTime", "settleDate", "reportDate")
    amount, kind, description = row.text("amount"), quoted(row.text("type"), 60), quoted(row.text("description"), 200)
    number = row.id("transactionID")
    if not number:
        content = (row.account, at.isoformat(), amount, kind, row.currency, row.text("conid"), description)
        number = "cash-" + hashlib.sha256("|".join(content).encode()).hexdigest()[:16]
        seen[row.part, number] += 1
        number = f"{number}-{seen[row.part, number]}"
    return CashRow(
        account=row.account,
        id=f"flex-{number}",
        type=kind,
        currency=row.currency,
        amount=amount,
        time=at,
        instrument=row.instrument_id if row.text("conid") else "",
        description=description,
    )


def base_currency(rows: Mapping[str, Sequence[Row]]) -> str:
    """From AccountInformation; else the one currency whose rate to the base is 1 wherever it stands; else empty."""
    for row in rows.get("AccountInformation", ()):
        if currency := quoted(row.text("currency"), 8):
            return currency
    rates = {(quoted(row.text("currency"), 8), row.text("fxRateToBase")) for each in rows.values() for row in each}
    bases = {currency for currency, rate in rates if rate == "1"} - {"", *(currency for currency, rate in rates if rate not in ("1", ""))}
    return bases.pop() if len(bases) == 1 else ""
