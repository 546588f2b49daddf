"""Files that are refused: which file, where, what is wrong, what to do. Nothing of them counts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from position_pipeline.accounting.booking import fold, in_order
from position_pipeline.accounting.model import Method, Position
from position_pipeline.brokers.flex import StatementError, read_statements
from position_pipeline_tests.brokers.flex_file import CALL, STOCK, book_entry, cash, document, flex_file, lot, position, read, row, trade

if TYPE_CHECKING:
    from position_pipeline.brokers import Statement

GOOD = flex_file(trade(1), trade(2, "-4"), book_entry(3, "1", "0", "Ep", **CALL), position("6"), cash(4, "1.5"))


def refusal(data: bytes) -> str:
    with pytest.raises(StatementError) as error:
        read_statements(data, name="may.xml")
    text = str(error.value)
    assert text.startswith("may.xml")
    assert len(text) < 600
    assert text.isprintable()
    return text


@pytest.mark.parametrize("data", [b"", b"   \n ", b"\xef\xbb\xbf"])
def test_an_empty_file(data):
    assert "is empty" in refusal(data)


def test_a_file_that_is_not_xml_is_refused_with_its_line():
    text = refusal(b"Statement,Header,Field Name\nTrades,Data,1")
    assert "line 1, column 0: is not XML" in text
    assert "XML format" in text


def test_a_broken_row_is_refused_with_its_line():
    assert re.search(r"line 6, column \d+: is not XML", refusal(GOOD.replace(b'quantity="-4"', b"quantity=-4")))


def test_a_file_that_is_cut_off_says_where():
    text = refusal(GOOD[: GOOD.index(b"</Trades>")])
    assert "is cut off inside <Trades>" in text
    assert "Nothing was taken" in text


def test_no_prefix_of_a_file_is_a_file():
    for end in range(1, len(GOOD), 7):
        refusal(GOOD[:end])


def test_another_document_is_refused_by_name():
    assert "<html> is not a Flex statement" in refusal(b"<html><body>Log in</body></html>")


@pytest.mark.parametrize(("code", "advice"), [("1019", "Wait a few seconds"), ("1012", "Asking again does not help")])
def test_an_error_of_the_service_is_never_an_empty_account(code, advice):
    text = refusal(
        f"<FlexStatementResponse timestamp='1 May, 2025'><Status>Warn</Status><ErrorCode>{code}</ErrorCode>"
        "<ErrorMessage>Token has &lt;expired&gt;.</ErrorMessage></FlexStatementResponse>".encode()
    )
    assert f"{code} Token has <expired>." in text
    assert advice in text


def test_the_receipt_of_a_request_is_not_the_statement():
    receipt = b"<FlexStatementResponse><Status>Success</Status><ReferenceCode>123</ReferenceCode></FlexStatementResponse>"
    assert "receipt" in refusal(receipt)


@pytest.mark.parametrize(
    "data", [document(), b"<FlexQueryResponse/>", b'<FlexQueryResponse><FlexStatements count="0"/></FlexQueryResponse>']
)
def test_a_file_without_an_account(data):
    assert "holds no account" in refusal(data)


def test_a_statement_that_names_no_account():
    assert "names no account" in refusal(flex_file(account=""))
    assert "names no account" in refusal(flex_file(trade(1, accountId="-"), account="-"))


def test_a_statement_without_a_period():
    assert "line 3: <FlexStatement> has no usable fromDate" in refusal(flex_file(trade(1), start="soon"))


def test_trade_confirmations_are_another_query():
    assert "Activity Flex" in refusal(document(head='<FlexQueryResponse queryName="q" type="TCF">'))


BOMB = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;&x;&x;">]><FlexQueryResponse>&y;</FlexQueryResponse>'
FILE = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><FlexQueryResponse>&x;</FlexQueryResponse>'


@pytest.mark.parametrize("data", [BOMB, FILE, b"<!DOCTYPE FlexQueryResponse SYSTEM 'http://example.com/x.dtd'>" + GOOD])
def test_entities_and_document_types_are_never_read(data):
    text = refusal(data)
    assert "document type or entities" in text
    assert "root:" not in text


@pytest.mark.parametrize("column", ["conid", "quantity", "tradePrice", "currency", "assetCategory"])
def test_a_column_that_is_not_ticked_is_named(column):
    rows = [(tag, {name: value for name, value in values.items() if name != column}) for tag, values in (trade(1), trade(2))]
    text = refusal(flex_file(*rows))
    assert f"line 5: <Trade> has no column {column} in any row. Tick it in the Flex query" in text


def test_trades_without_any_date_and_options_without_a_multiplier():
    assert "no column dateTime" in refusal(flex_file(trade(1, dateTime=None, tradeDate=None)))
    assert "no column multiplier" in refusal(flex_file(trade(1, **CALL | {"multiplier": None})))


def test_positions_and_cash_need_their_columns_too():
    assert "<OpenPosition> has no column position" in refusal(flex_file(position(None)))
    assert "<CashTransaction> has no column amount" in refusal(flex_file(cash(1, None)))


def test_a_path_gives_the_file_its_name(tmp_path):
    path = tmp_path / "june.xml"
    path.write_bytes(b"<html/>")
    with pytest.raises(StatementError, match=r"june\.xml"):
        read_statements(path)
    path.write_bytes(GOOD)
    assert len(read_statements(path)) == 1


# Rows that are refused while the others are taken


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"quantity": ""}, "quantity is missing"),
        ({"quantity": "--"}, "quantity is missing"),
        ({"quantity": "0"}, "quantity is 0"),
        ({"quantity": "1e999"}, "quantity '1e999' has more than 40 digits"),
        ({"quantity": "NaN"}, "is not a number"),
        ({"quantity": "1,000"}, "is not a number"),
        ({"quantity": "1_000"}, "is not a number"),
        ({"quantity": "٣"}, "is not a number"),
        ({"quantity": "9" * 5000}, "is not a number"),
        ({"tradePrice": "Infinity"}, "is not a number"),
        ({"conid": "abc"}, "is not a contract id"),
        ({"conid": ""}, "conid is missing"),
        ({"currency": ""}, "currency is missing"),
        ({"currency": "U$"}, "is not a currency"),
        ({"dateTime": "20250230;100000"}, "is not a date"),
        ({"dateTime": "20250602;250000"}, "is not a date"),
        ({"dateTime": "yesterday"}, "is not a date"),
        ({"dateTime": "20250602;100000 CET"}, "time zone"),
        ({"ibExecID": "a b\n<c>"}, "is not an id"),
        ({"ibCommission": "free"}, "ibCommission 'free' is not a number"),
        ({"buySell": "SELL"}, "buySell says SELL but quantity is 10"),
        ({"assetCategory": ""}, "assetCategory is missing"),
        ({"assetCategory": "FUT", "multiplier": ""}, "multiplier is missing"),
        ({"multiplier": "-5"}, "is negative"),
    ],
)
def test_a_bad_row_is_refused_with_its_line_and_the_others_are_taken(wrong, reason):
    statement = read(trade(1, **wrong), trade(2), row("Trade", {}, conid="1"))
    assert [fill.sequence for fill in statement.fills] == [2]
    assert statement.refused[0].reason.startswith("line 5: trade not taken: ")
    assert reason in statement.refused[0].reason
    assert all(refused.reason.isprintable() and len(refused.reason) < 400 for refused in statement.refused)


# Whatever the bytes


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_are_refused_or_read(data):
    try_to_read(data)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=0, max_size=12), st.integers(0, 12))
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_is_refused_or_read(place, inserted, removed):
    try_to_read(GOOD[:place] + inserted + GOOD[place + removed :])


EVERY_KIND = (
    trade(1),
    trade(2, "-4"),
    trade(3, "4", notes="Ca", origTransactionID="2"),
    book_entry(4, "-2", "0", "Ex", **CALL),
    book_entry(5, "200", "200", "Ex"),
    book_entry(6, "1", "0", "A", cost="5", closePrice="3", fifoPnlRealized="5", **CALL),
    row("OptionEAE", CALL, transactionType="Cash Settlement", quantity="0", date="20250620", proceeds="7"),
    position("6"),
    lot("6", 1, "20240101;100000", "600"),
    cash(4, "1.5", conid="265598", multiplier="1"),
    row("CorporateAction", STOCK, type="FS", quantity="6", dateTime="20250603", levelOfDetail="DETAIL"),
    row("Transfer", STOCK, direction="IN", quantity="7", dateTime="20250301;100000"),
    row("AccountInformation", {"accountId": "U1", "currency": "CHF"}),
)
CELLS = [(number, column) for number, (_, values) in enumerate(EVERY_KIND) for column in values]
printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn"]), max_size=40)
hostile = st.sampled_from(
    ["", "-", "0", "-0", "1e39", "-1e39", "1E-40", "9" * 40, "NaN", "99991231", "00010101;000000", "20250620;162000", "Ca", "A;Ex;Ep"]
)


@given(st.dictionaries(st.sampled_from(CELLS), printable | hostile | st.none(), min_size=1, max_size=4))
@settings(max_examples=500, deadline=None)
def test_any_text_in_any_column_is_refused_or_read(changes):
    rows = [(tag, dict(values)) for tag, values in EVERY_KIND]
    for (number, column), text in changes.items():
        if text is None:
            rows[number][1].pop(column, None)
        else:
            rows[number][1][column] = text
    try_to_read(flex_file(*rows))


def try_to_read(data: bytes) -> None:
    try:
        statements = read_statements(data, name="any")
    except StatementError as error:
        message = str(error)
        statements = ()
    else:
        message = ""
    assert message.isprintable()
    for statement in statements:
        assert all(refused.reason.isprintable() for refused in statement.refused)
        for method in (Method.FIFO, Method.AVERAGE):
            fold_all(statement, method)


def fold_all(statement: Statement, method: Method) -> None:
    """Whatever was taken can be booked."""
    named = {each.id for each in statement.instruments}
    for name in {entry.instrument for entry in (*statement.fills, *statement.adjustments)}:
        assert name in named
        entries = [entry for entry in (*statement.fills, *statement.adjustments) if entry.instrument == name]
        fold(Position(statement.account, name, "USD", method=method), in_order(entries))
