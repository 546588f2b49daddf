"""Opening lots that a person gives: what is understood, what is refused with its line, and that giving them again adds nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from position_pipeline.accounting.model import AdjustmentKind, Basis, Instrument
from position_pipeline.brokers.flex import StatementError
from position_pipeline.brokers.opening_lots import read_opening_lots

MSTR = Instrument("ibkr:272110", "MSTR", "STK", "USD")
CALL = Instrument("ibkr:712940105", "AAPL 280121C00250000", "OPT", "USD", Decimal(100))
SAP = Instrument("ibkr:14204", "SAP", "STK", "EUR")
KNOWN = {instrument.id: instrument for instrument in (MSTR, CALL, SAP)}
HEADING = "account,instrument,quantity,price,opened_at\n"


def read(text, name="lots.csv"):
    return read_opening_lots(text, name, KNOWN)


def lots(text, name="lots.csv"):
    return [lot for statement in read(text, name) for lot in statement.adjustments]


def refused(text) -> str:
    with pytest.raises(StatementError) as caught:
        read(text)
    return str(caught.value)


def test_a_lot_has_what_its_line_says_and_what_is_known_of_its_instrument():
    (lot,) = lots(HEADING + "U1,ibkr:272110,284,389.25,2024-11-20\n")
    assert (lot.account, lot.instrument, lot.kind, lot.basis) == ("U1", MSTR.id, AdjustmentKind.OPENING_LOT, Basis.STATEMENT)
    assert (lot.quantity, lot.price, lot.cost, lot.commission) == (284, Decimal("389.25"), None, 0)
    assert (lot.currency, lot.multiplier) == ("USD", 1)
    assert lot.time == datetime(2024, 11, 20, tzinfo=UTC)
    assert lot.evidence == "Given by a person: lots.csv, line 2."


def test_what_is_known_of_an_instrument_is_not_asked_for():
    option, euro = lots(HEADING + "U1,ibkr:712940105,-2,40,2024-11-20\nU1,ibkr:14204,5,170,2024-11-20\n")
    assert (option.multiplier, option.quantity) == (100, -2)
    assert euro.currency == "EUR"


def test_what_is_not_known_has_to_be_given():
    heading = "account,instrument,quantity,price,opened_at,symbol,currency,multiplier,sec_type\n"
    (statement,) = read(heading + "U1,ibkr:1,2,5,2024-11-20,ESZ7,USD,50,FUT\nU1,ibkr:2,2,5,2024-11-20,KO,USD,,\n")
    assert statement.instruments == (
        Instrument("ibkr:1", "ESZ7", "FUT", "USD", Decimal(50)),
        Instrument("ibkr:2", "KO", "STK", "USD"),
    )


def test_the_total_cost_may_stand_instead_of_the_price_and_the_columns_in_any_order():
    heading = " opened_at , cost,quantity,instrument ,account,commission\n"
    (lot,) = lots(heading + "2024-11-20T09:30:00-05:00, -1000.50 ,-3,ibkr:272110, U1 ,1.25\n")
    assert (lot.price, lot.cost, lot.commission, lot.quantity) == (None, Decimal("-1000.50"), Decimal("1.25"), -3)
    assert lot.time == datetime(2024, 11, 20, 14, 30, tzinfo=UTC)


def test_every_account_has_its_statement():
    first, second = read(HEADING + "U1,ibkr:272110,1,5,2024-11-20\nU2,ibkr:14204,1,5,2024-11-21\nU1,ibkr:14204,1,5,2024-11-22\n")
    assert (first.account, len(first.adjustments), len(first.instruments)) == ("U1", 2, 2)
    assert (second.account, len(second.adjustments), second.instruments) == ("U2", 1, (SAP,))
    assert (first.from_at.day, first.to_at.day, first.broker) == (20, 22, "ibkr")


def test_a_lot_is_the_same_wherever_it_stands():
    """A file that was renamed, sorted or completed must not add its lots a second time."""
    one, other = "U1,ibkr:272110,1,5,2024-11-20\n", "U1,ibkr:272110,2.50,6,2024-11-21\n"
    ids = {lot.id for lot in lots(HEADING + one + other)}
    assert {lot.id for lot in lots(HEADING + "\n" + other.replace("2.50", "2.5") + one, "renamed.csv")} == ids
    as_cost = "account,instrument,quantity,opened_at,price,cost\nU1,ibkr:272110,1,2024-11-20T00:00:00Z,5.0,\n"
    assert {lot.id for lot in lots(as_cost)} < ids


def test_two_lots_that_are_alike_are_two():
    line = "U1,ibkr:272110,1,389.60,2024-11-20\n"
    first, second = (lot.id for lot in lots(HEADING + line + line))
    assert first != second
    assert {lot.id for lot in lots(HEADING + line)} == {first}


def test_no_digit_is_lost():
    (lot,) = lots(HEADING + "U1,ibkr:272110,0.000000000000000000000001,1234567890123456.123456789012345678901234,2024-11-20\n")
    assert lot.quantity == Decimal("1E-24")
    assert lot.price == Decimal("1234567890123456.123456789012345678901234")


@pytest.mark.parametrize("heading", [HEADING, HEADING.replace("\n", "\r\n")])
def test_empty_lines_are_passed_over_and_lines_are_counted_as_an_editor_counts_them(heading):
    said = refused(heading + "\n" + "U1,ibkr:272110,1,5,2024-11-20\n,,,,\nU1,ibkr:272110,one,5,2024-11-20\n")
    assert said == "lots.csv, line 5: quantity 'one' is not a number"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (",ibkr:272110,1,5,2024-11-20", "the account is missing"),
        ("U1,272110,1,5,2024-11-20", "instrument '272110' is not like ibkr:265598"),
        ("U1,MSTR stock,1,5,2024-11-20", "is not like ibkr:265598"),
        ("U1,ibkr:,1,5,2024-11-20", "is not like ibkr:265598"),
        ("U1,ibkr:5,1,5,2024-11-20", "ibkr:5 is not in the book yet, so its symbol has to be given"),
        ("U1,ibkr:272110,0,5,2024-11-20", "a lot needs a quantity that is not 0"),
        ("U1,ibkr:272110,,5,2024-11-20", "a lot needs a quantity that is not 0"),
        ("U1,ibkr:272110,NaN,5,2024-11-20", "quantity 'NaN' is not a number"),
        ("U1,ibkr:272110,Infinity,5,2024-11-20", "quantity 'Infinity' is not a number"),
        ("U1,ibkr:272110,1_000,5,2024-11-20", "quantity '1_000' is not a number"),
        ("U1,ibkr:272110,٣,5,2024-11-20", "is not a number"),
        ('U1,ibkr:272110,"1,000",5,2024-11-20', "quantity '1,000' is not a number"),
        ("U1,ibkr:272110,1e16,5,2024-11-20", "quantity '1e16' is out of range"),
        ("U1,ibkr:272110,1e-25,5,2024-11-20", "quantity '1e-25' is out of range"),
        ("U1,ibkr:272110,1e999,5,2024-11-20", "has more than 40 digits"),
        ("U1,ibkr:272110,1,,2024-11-20", "give price or cost, and only one of them"),
        ("U1,ibkr:272110,1,five,2024-11-20", "price 'five' is not a number"),
        ("U1,ibkr:272110,1,5,20.11.2024", "opened_at '20.11.2024' is no ISO 8601 date or time"),
        ("U1,ibkr:272110,1,5,", "opened_at '' is no ISO 8601 date or time"),
        ("U1,ibkr:272110,1,5,2999-01-01", "opened_at '2999-01-01' is in the future"),
        ("U1,ibkr:272110,1,5,0001-01-01T00:00+14:00", "is out of range"),
        ("U1,ibkr:272110,1,5", "has 4 fields, the heading has 5"),
        ("U1,ibkr:272110,1,5,2024-11-20,x", "has 6 fields, the heading has 5"),
        ('U1,ibkr:272110,1,5,"2024-11-20', "unexpected end of data"),
        ("U1\x00,ibkr:272110,1,x,2024-11-20", "price 'x' is not a number"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(line, said):
    found = refused(f"{HEADING}{line}\n")
    assert found.startswith("lots.csv, line ")
    assert said in found
    assert found.isprintable()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("U1,ibkr:272110,1,5,6,,,,", "give price or cost, and only one of them"),
        ("U1,ibkr:272110,-1,,5,,,,", "cost 5 has another sign than quantity -1"),
        ("U1,ibkr:272110,1,5,,,EUR,,", "currency 'EUR' is not that of ibkr:272110, which is USD"),
        ("U1,ibkr:712940105,1,5,,,,1,", "multiplier 1 is not that of ibkr:712940105, which is 100"),
        ("U1,ibkr:712940105,1,5,,,,,STK", "sec_type 'STK' is not that of ibkr:712940105, which is OPT"),
        ("U1,ibkr:5,1,5,,KO,,,", "ibkr:5 is not in the book yet, so its currency has to be given"),
        ("U1,ibkr:5,1,5,,KO,USD,0,", "multiplier 0 is not above 0"),
    ],
)
def test_what_contradicts_itself_or_the_book_is_refused(line, said):
    heading = "opened_at,account,instrument,quantity,price,cost,symbol,currency,multiplier,sec_type\n"
    assert said in refused(f"{heading}2024-11-20,{line}\n")


def test_a_known_instrument_may_be_described_once_more():
    heading = "account,instrument,quantity,price,opened_at,symbol,currency,multiplier,sec_type\n"
    (statement,) = read(heading + "U1,ibkr:712940105,1,40,2024-11-20,whatever it is called,USD,100.0,OPT\n")
    assert statement.instruments == (CALL,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lots.csv: has no lots below its heading"),
        (HEADING, "lots.csv: has no lots below its heading"),
        ("account,instrument,quantity,opened_at\n", "line 1: column 'price' is missing"),
        ("account,instrument,price,opened_at\n", "line 1: column 'quantity' is missing"),
        (HEADING.replace("price", "prize"), "column 'prize' is not known"),
        (HEADING.replace("\n", ",price\n"), "column 'price' is there twice"),
        (HEADING.replace(",", ";"), "line 1: the columns are not separated by commas"),
        (HEADING.replace(",", "\t"), "line 1: the columns are not separated by commas"),
    ],
)
def test_a_file_that_is_no_file_of_lots_is_told_what_one_looks_like(text, said):
    assert said in refused(text)
