"""Flex files as text: `flex_file(trade(...), position(...))` is one account of one year."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from position_pipeline.brokers.flex import read_statements

if TYPE_CHECKING:
    from position_pipeline.brokers import Statement

SECTION_OF = {
    "Trade": "Trades",
    "Order": "Trades",
    "Lot": "Trades",
    "SymbolSummary": "Trades",
    "OpenPosition": "OpenPositions",
    "CashTransaction": "CashTransactions",
    "CorporateAction": "CorporateActions",
    "OptionEAE": "OptionEAE",
    "Transfer": "Transfers",
}
STOCK = {"accountId": "U1", "conid": "265598", "symbol": "AAPL", "assetCategory": "STK", "currency": "USD", "multiplier": "1"}
CALL = {
    "accountId": "U1",
    "conid": "900",
    "symbol": "AAPL  250620C00200000",
    "description": "AAPL 20JUN25 200 C",
    "assetCategory": "OPT",
    "currency": "USD",
    "multiplier": "100",
    "underlyingConid": "265598",
    "strike": "200",
    "putCall": "C",
    "expiry": "20250620",
}
Row = tuple[str, dict[str, str]]


def row(tag: str, *groups: dict[str, str], **values: str) -> Row:
    """An element; a value of None leaves its attribute out."""
    merged: dict[str, str] = {}
    for group in groups:
        merged |= group
    return tag, {name: value for name, value in (merged | values).items() if value is not None}


def trade(number: int, quantity: str = "10", price: str = "100", **values: str) -> Row:
    """A fill of AAPL; `number` is its transactionID and shapes its execution id and time (June 2025, one a minute)."""
    default = {
        **STOCK,
        "transactionID": str(number),
        "tradeID": f"7{number}",
        "ibExecID": f"0000e1.{number:08x}.01.01",
        "ibOrderID": f"5{number}",
        "dateTime": f"20250602;10{number % 60:02d}00",
        "tradeDate": "20250602",
        "buySell": "SELL" if quantity.startswith("-") else "BUY",
        "quantity": quantity,
        "tradePrice": price,
        "ibCommission": "-1",
        "ibCommissionCurrency": "USD",
        "taxes": "0",
        "fifoPnlRealized": "0",
        "transactionType": "ExchTrade",
        "levelOfDetail": "EXECUTION",
        "notes": "",
    }
    return row("Trade", default, values)


def book_entry(number: int, quantity: str, price: str, notes: str, **values: str) -> Row:
    """A row without an execution id: an option's end, or what it delivers."""
    at = {"dateTime": "20250620;162000", "tradeDate": "20250620", "transactionType": "BookTrade", "notes": notes}
    return trade(number, quantity, price, **({"ibExecID": "", "ibCommission": "0"} | at | values))


def position(quantity: str, **values: str) -> Row:
    return row("OpenPosition", STOCK, {"position": quantity, "levelOfDetail": "SUMMARY"}, values)


def lot(quantity: str, transaction: int, opened: str, cost: str, **values: str) -> Row:
    about = {"levelOfDetail": "LOT", "originatingTransactionID": str(transaction), "openDateTime": opened, "costBasisMoney": cost}
    return position(quantity, **(about | values))


def cash(number: int, amount: str, **values: str) -> Row:
    default = {"accountId": "U1", "currency": "USD", "type": "Dividends", "dateTime": "20250610;202000", "levelOfDetail": "DETAIL"}
    return row("CashTransaction", default, {"transactionID": str(number), "amount": amount}, values)


def one_statement(*rows: Row, account: str = "U1", start: str = "20250101", end: str = "20251231", sections: str = "") -> str:
    """One FlexStatement; `sections` names sections that are there even if empty."""
    by_section: defaultdict[str, list[str]] = defaultdict(list)
    for name in sections.split():
        by_section[name] = []
    for tag, values in rows:
        attributes = " ".join(f"{name}={quoteattr(value)}" for name, value in values.items())
        by_section[SECTION_OF.get(tag, tag)].append(f"<{tag} {attributes} />")
    body = "".join(f"<{name}>\n" + "\n".join(lines) + f"\n</{name}>\n" for name, lines in by_section.items())
    return f'<FlexStatement accountId="{account}" fromDate="{start}" toDate="{end}" period="" whenGenerated="20260101;000000">\n{body}</FlexStatement>'


def document(*statements: str, head: str = '<FlexQueryResponse queryName="q" type="AF">') -> bytes:
    body = "\n".join(statements)
    return f'{head}\n<FlexStatements count="{len(statements)}">\n{body}\n</FlexStatements>\n</FlexQueryResponse>'.encode()


def flex_file(*rows: Row, sections: str = "", **period: str) -> bytes:
    return document(one_statement(*rows, sections=sections, **period))


def read(*rows: Row, sections: str = "", **period: str) -> Statement:
    """The one statement of a file with these rows."""
    (statement,) = read_statements(flex_file(*rows, sections=sections, **period), name="test.xml")
    return statement
