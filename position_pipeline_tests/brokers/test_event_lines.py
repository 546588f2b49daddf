"""Lines of a file to events: what is read keeps every digit, and what cannot be read is refused by its number with a reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from position_pipeline.accounting.model import Side
from position_pipeline.brokers.event_cells import LONGEST_LINE
from position_pipeline.brokers.event_lines import UNTIMED, Event, NoEvents, Refused, read_event_lines

FILL = {"instrument": "ACME", "side": "BUY", "quantity": "10", "price": "100"}
ASSIGN = {"type": "assign", "instrument": "C100", "quantity": "1", "underlying": "ACME", "strike": "100", "right": "C"}


def read(text: str | bytes) -> list[Event | Refused]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_event_lines(data.splitlines(keepends=True)))


def line(**fields: object) -> Event | Refused:
    """What one JSON line comes to."""
    (found,) = read(json.dumps(fields))
    return found


def event(**fields: object) -> Event:
    found = line(**fields)
    assert isinstance(found, Event), found
    return found


def reason(**fields: object) -> str:
    found = line(**fields)
    assert isinstance(found, Refused), found
    return found.reason


# -- what is read


def test_a_line_without_a_type_is_a_fill_with_the_defaults():
    found = event(**FILL)
    assert (found.type, found.side, found.quantity, found.price, found.commission) == ("fill", Side.BUY, 10, 100, 0)
    assert (found.account, found.id, found.time, found.currency, found.multiplier) == ("", "line-1", UNTIMED, None, None)
    assert not found.is_named


def test_csv_and_json_lines_say_the_same():
    csv = "type,account,instrument,side,quantity,price,time\n,U1,ACME,BUY,1.50,100.25,2025-01-02T15:00:00Z\nsplit,U1,ACME,,,,\n"
    rows = [{"account": "U1", "instrument": "ACME", "side": "BUY", "quantity": "1.50", "price": "100.25", "time": "2025-01-02T15:00:00Z"}]
    lines = "\n" + "\n".join(map(json.dumps, [*rows, {"type": "split", "account": "U1", "instrument": "ACME"}]))
    assert read(csv) == read(lines)
    assert read(csv)[1] == Refused(3, "numerator is missing")


@pytest.mark.parametrize(
    "text", ["0.123456789012345678901234", "1e-24", "9999999999999999.999999999999999999999999", "-0.1", "1E+3", ".5", "+7"]
)
def test_a_number_keeps_every_digit_in_quotes_or_not(text):
    assert event(**FILL | {"price": text}).price == Decimal(text)
    if text[0] not in ".+":
        raw = json.dumps(FILL | {"price": "@"}).replace('"@"', text)
        (found,) = read(raw)
        assert isinstance(found, Event)
        assert str(found.price) == str(Decimal(text))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2025-01-02T15:00:00Z", datetime(2025, 1, 2, 15, tzinfo=UTC)),
        ("2025-01-02T15:00:00+02:00", datetime(2025, 1, 2, 13, tzinfo=UTC)),
        ("2025-01-02 15:00", datetime(2025, 1, 2, 15, tzinfo=UTC)),
        ("2025-01-02", datetime(2025, 1, 2, tzinfo=UTC)),
        ("20250102T150000Z", datetime(2025, 1, 2, 15, tzinfo=UTC)),
    ],
)
def test_times_are_iso_8601_and_utc_where_they_name_no_zone(text, time):
    assert event(**FILL, time=text).time == time


def test_an_empty_cell_an_empty_text_and_null_say_nothing():
    assert event(**FILL, commission=None, account="", currency="  ").commission == 0


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_no_matter():
    found = read("\ufeffinstrument,side,quantity,price\r\n\r\nACME,BUY,10,100\r\n,,,\r\nACME,SELL,10,100\r\n".encode())
    assert [each.line for each in found] == [3, 5]
    assert all(isinstance(each, Event) for each in found)


def test_a_quoted_cell_may_hold_a_comma():
    (found,) = read('instrument,side,quantity,price\n"ACME, Inc.",BUY,10,100\n')
    assert found.instrument == "ACME, Inc."


def test_of_a_dividend_only_what_returns_capital_lowers_the_cost():
    assert event(type="dividend", instrument="ACME", amount="5").capital is None
    assert event(type="dividend", instrument="ACME", amount="5", return_of_capital="2").capital == 2
    assert event(type="return_of_capital", instrument="ACME", amount="5").capital == 5


def test_numbers_of_0_are_let_pass_where_they_mean_nothing():
    assert event(type="split", instrument="ACME", numerator=2, denominator=1, quantity=0, price="0.00", commission=0).numerator == 2


# -- what is refused, line by line


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"quantity": "-5"}, "quantity '-5' is not above 0; the side says the direction"),
        ({"quantity": "0"}, "quantity '0' is not above 0"),
        ({"quantity": None}, "quantity is missing"),
        ({"price": None}, "price is missing"),
        ({"side": None}, "side is missing"),
        ({"instrument": None}, "instrument is missing"),
        ({"side": "buy"}, "side 'buy' is not BUY or SELL"),
        ({"price": "NaN"}, "price 'NaN' is not a number"),
        ({"price": float("nan")}, "price 'NaN' is not a number"),
        ({"price": float("inf")}, "price 'Infinity' is not a number"),
        ({"price": "1e400"}, "price '1e400' has more than 40 digits"),
        ({"price": "0x10"}, "is not a number"),
        ({"price": "1_000"}, "is not a number"),
        ({"price": "1,000.50"}, "is not a number"),
        ({"price": "1e16"}, "price '1e16' is out of range"),
        ({"price": "1e-25"}, "has more than 24 decimals"),
        ({"price": "\uff11"}, "is not a number"),
        ({"price": True}, "price is neither a number nor a text"),
        ({"price": ["1"]}, "price is neither a number nor a text"),
        ({"commission": "free"}, "commission 'free' is not a number"),
        ({"multiplier": "0"}, "multiplier '0' is not above 0"),
        ({"currency": "usd"}, "currency 'usd' is not a code such as USD"),
        ({"currency": "GBp"}, "currency 'GBp' is not a code"),
        ({"time": "yesterday"}, "time 'yesterday' is no ISO 8601 date or time"),
        ({"time": "1735830000"}, "is no ISO 8601"),
        ({"time": "0001-01-01T00:00:00+05:00"}, "is no ISO 8601"),
        ({"account": "a\x1b[31m"}, "account 'a\\x1b[31m' is not a name"),
        ({"account": "\ud800"}, "is not a name"),
        ({"instrument": "A" * 201}, "is not a name of at most 200"),
        ({"type": "buy"}, "type 'buy' is not known; perhaps fill"),
        ({"type": "splitt"}, "type 'splitt' is not known; perhaps split"),
        ({"type": "xyz"}, "known are assign, dividend, exercise, expire, fill, return_of_capital, split"),
        ({"pricee": "1"}, "field 'pricee' is not known; perhaps price"),
        ({"symbol": "1"}, "field 'symbol' is not known; perhaps instrument"),
        ({"qty": "1"}, "field 'qty' is not known; perhaps quantity"),
        ({"strike": "100"}, "strike '100' has no meaning on a line of type fill"),
    ],
)
def test_a_fill_that_is_wrong_is_refused_with_the_reason(fields, said):
    assert said in reason(**FILL | fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": "split", "numerator": "0", "denominator": "1"}, "numerator '0' is not above 0"),
        ({"type": "split", "numerator": "1", "denominator": "-2"}, "denominator '-2' is not above 0"),
        ({"type": "split", "numerator": "2"}, "denominator is missing"),
        ({"type": "split", "numerator": "2", "denominator": "1", "price": "5"}, "price '5' has no meaning on a line of type split"),
        ({"type": "dividend"}, "amount is missing"),
        ({"type": "return_of_capital"}, "amount is missing"),
        ({"type": "expire", "quantity": "0"}, "quantity is 0"),
        ({"type": "expire", "price": "3"}, "a cash settlement is a fill"),
        ({**ASSIGN, "right": "CALL"}, "right 'CALL' is not C or P"),
        ({**ASSIGN, "right": None}, "right is missing"),
        ({**ASSIGN, "strike": "0"}, "strike '0' is not above 0"),
        ({**ASSIGN, "underlying": None}, "underlying is missing"),
        ({**ASSIGN, "quantity": None}, "quantity is missing"),
        ({**ASSIGN, "side": "BUY"}, "side 'BUY' has no meaning on a line of type assign"),
    ],
)
def test_another_event_that_is_wrong_is_refused_with_the_reason(fields, said):
    assert said in reason(**{"instrument": "ACME"} | fields)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("ACME,BUY,10,100,7", "has 5 fields, the first line has 4"),
        ("ACME,BUY,10", "has 3 fields, the first line has 4"),
        ('"ACME,BUY,10,100', "is not CSV"),
        ("ACME,BUY,10,1.000,50", "has 5 fields"),
    ],
)
def test_a_bad_line_of_csv_is_refused_alone(bad, said):
    found = read(f"instrument,side,quantity,price\nACME,BUY,10,100\n{bad}\nACME,SELL,10,110\n")
    assert [type(each) for each in found] == [Event, Refused, Event]
    assert found[1].line == 3
    assert said in found[1].reason


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('{"instrument": ', "is not a JSON object on one line"),
        ("[1, 2]", "is not a JSON object"),
        ("7", "is not a JSON object"),
        ("{}", "says nothing"),
        ('{"price": 1, "price": 2}', "has 'price' twice"),
        ('{"price": ' + "[" * 60_000, "is not a JSON object on one line"),
        ('{"account": "' + "x" * LONGEST_LINE + '"}', "is longer than 65536 bytes"),
    ],
)
def test_a_bad_line_of_json_is_refused_alone(bad, said):
    found = read("\n".join([json.dumps(FILL), bad, json.dumps(FILL)]))
    assert [type(each) for each in found] == [Event, Refused, Event]
    assert found[1].line == 2
    assert said in found[1].reason


def test_a_line_that_is_not_utf_8_is_refused_alone():
    found = read(b"instrument,side,quantity,price\nACM\xc9,BUY,10,100\nACME,BUY,10,100\n")
    assert found[0] == Refused(2, "is not UTF-8 text")
    assert isinstance(found[1], Event)


# -- files that are no events at all


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\xff\xfei\x00n\x00", "line 1 is not UTF-8 text"),
        (b"\x7fELF\x00\x01", "is not a text file"),
        (b'[{"instrument": "ACME"}]', "is a JSON array; one object a line is read"),
        (b"instrument;side;quantity;price\n", "with commas between them"),
        (b"instrument,side,qty,price\n", "field 'qty' is not known; perhaps quantity"),
        (b"instrument,side,price,price\n", "column 'price' is there twice"),
        (b"instrument,side,quantity,\n", "field '' is not known"),
    ],
)
def test_a_file_that_is_no_list_of_events_is_refused_whole(data, said):
    with pytest.raises(NoEvents) as refusal:
        read(data)
    assert said in str(refusal.value)
