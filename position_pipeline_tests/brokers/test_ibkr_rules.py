"""The rules of the IBKR adapter without a socket: what a field says, what an id says, when an answer is proof.

The messages are written as they stand on the wire, field by field (see the message tables of the TWS API).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from position_pipeline import brokers
from position_pipeline.accounting.model import Side, SnapshotStatus
from position_pipeline.brokers.ibkr_answer import Answer, CommissionRow
from position_pipeline.brokers.ibkr_fills import fills, identity
from position_pipeline.brokers.ibkr_proof import contradiction, judge, per_unit
from position_pipeline.brokers.ibkr_wire import Frames, NotTws, clean, instrument, moment, needed, number

NOW = datetime(2026, 11, 20, 21, tzinfo=UTC)
AAPL = ("265598", "AAPL", "STK", "", "0.0", "", "", "NASDAQ", "USD", "AAPL", "NMS")
SAP = ("14204", "SAP", "STK", "", "0.0", "", "", "IBIS", "EUR", "SAP", "XETRA")
CALL = ("712940105", "AAPL", "OPT", "20280121", "250", "C", "100", "SMART", "USD", "AAPL  280121C00250000", "AAPL")
ES = ("649180678", "ES", "FUT", "20271217", "0.0", "", "50", "", "USD", "ESZ7", "ES")
EURUSD = ("12087792", "EUR", "CASH", "", "0.0", "", "", "IDEALPRO", "USD", "EUR.USD", "EUR.USD")


def frame(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def position(block: tuple[str, ...], quantity: str, cost: str = "10", account: str = "U1") -> list[str]:
    return ["61", "3", account, *block, quantity, cost]


def portfolio(block: tuple[str, ...], quantity: str, value: str = "1000", account: str = "U1") -> list[str]:
    return ["7", "8", *block, quantity, "10", value, "9", "1", "0", account]


def execution(block: tuple[str, ...], exec_id: str = "0001.02.01.01", **changed: str) -> list[str]:
    named = {"time": "20261120 15:30:00 US/Eastern", "side": "BOT", "shares": "3", "price": "10.5", "perm": "77", "account": "U1"} | changed
    head = ["11", "5", "0", *block, exec_id, named["time"], named["account"], "NYSE", named["side"]]
    return [*head, named["shares"], named["price"], named["perm"], "0", "0", "3", "10.5", "", "", "", "", "1"]


def answered(*messages: list[str], gross: str = "", ended: bool = True, base: str = "USD") -> Answer:
    """An answer for U1 and U2 with these messages, account values and, unless told otherwise, all end markers."""
    answer = Answer()
    answer.version = 176
    answer.take(["15", "1", "U1,U2"])
    answer.asked = "U1"
    answer.take(["6", "2", "NetLiquidation", "5000", base, "U1"])
    answer.take(["6", "2", "ExchangeRate", "1.10", "EUR", "U1"])
    if gross:
        answer.take(["6", "2", "GrossPositionValue", gross, base, "U1"])
    for message in messages:
        answer.take(message)
    if ended:
        answer.take(["54", "1", "U1"])
    answer.of("U1").listed = answer.of("U1").executed = True
    return answer


# -- numbers


def test_a_number_keeps_every_digit_that_stands_on_the_wire():
    for text in ("12345678.123456789012", "0.000000000000000000000001", "-40", "1E-7", "100.00"):
        assert number(text) == Decimal(text)


def test_what_the_protocol_writes_for_unset_is_none():
    for text in ("", "1.7976931348623157E308", "1.7976931348623157e+308", "nan", "NaN", "inf", "-Infinity"):
        assert number(text) is None


def test_what_is_no_number_is_refused():
    for text in ("12x", "1_000", "1,000", "٣", "0x10", "--1", "1e9999", " ", "9" * 41, "1e-41", "1e40", "9" * 500):
        with pytest.raises(ValueError, match=r"is not a number|digits"):
            number(text)


def test_an_empty_quantity_is_not_zero():
    with pytest.raises(ValueError, match="the quantity is missing"):
        needed("", "quantity")


def test_the_average_cost_is_divided_by_the_multiplier_exactly_where_the_quotient_ends():
    assert per_unit(Decimal("3921.05"), Decimal(100)) == Decimal("39.2105")
    assert per_unit(Decimal("298752.25"), Decimal(50)) == Decimal("5975.045")
    assert per_unit(Decimal("1.000000000000000000000001"), Decimal(1)) == Decimal("1.000000000000000000000001")
    assert per_unit(Decimal(1), Decimal(3)) == Decimal("0.333333333333333333")


# -- text and frames


def test_text_of_a_broker_is_one_printable_line_of_bounded_length():
    assert clean("Order\x1b[2J held\r\nnow\x00") == "Order [2J held now"
    assert len(clean("x" * 100_000)) == 160


def test_messages_are_cut_the_same_however_the_bytes_arrive():
    stream = frame(b"61\x003\x00") + frame(b"62\x001\x00")
    for size in (1, 3, 7, len(stream)):
        frames, got = Frames(), []
        for at in range(0, len(stream), size):
            messages, wrong = frames.feed(stream[at : at + size])
            got += messages
            assert wrong is None
        assert got == [b"61\x003\x00", b"62\x001\x00"]


def test_a_length_that_no_message_has_ends_the_stream():
    messages, wrong = Frames().feed(frame(b"62\x001\x00") + b"HTTP/1.1 400 Bad Request")
    assert messages == [b"62\x001\x00"]
    assert isinstance(wrong, NotTws)
    assert "1213486160 bytes" in str(wrong)


# -- times


@pytest.mark.parametrize(
    ("text", "zone", "hour"),
    [
        ("20261120 15:30:00 US/Eastern", "UTC", 20),
        ("20261120 15:30:00 Europe/Berlin", "UTC", 14),
        ("20261120  15:30:00", "UTC", 15),
        ("20261120  15:30:00", "US/Eastern", 20),
        ("20261120-15:30:00", "US/Eastern", 15),  # this form is UTC by definition; the library reads it in the machine's zone
    ],
)
def test_an_execution_time_is_utc_whatever_form_it_comes_in(text, zone, hour):
    assert moment(text, zone) == datetime(2026, 11, 20, hour, 30, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["US/Nowhere", "../../etc/passwd", "America", "EDT?", "\x1b[2J"])
def test_an_unknown_zone_is_an_error_that_names_it(zone):
    with pytest.raises(ValueError, match="is not known on this machine"):
        moment(f"20261120 15:30:00 {zone}", "UTC")


def test_what_is_no_time_is_refused():
    for text in ("", "yesterday", "20261399 15:30:00", "20261120 25:00:00 UTC", "2026-11-20 15:30:00"):
        with pytest.raises(ValueError):
            moment(text, "UTC")


# -- contracts


def test_a_label_is_what_people_call_the_contract():
    labels = {block[9]: instrument(block).symbol for block in (AAPL, CALL, ES, EURUSD)}
    assert labels == {
        "AAPL": "AAPL",
        "AAPL  280121C00250000": "AAPL 280121C00250000",
        "ESZ7": "ESZ7",
        "EUR.USD": "EUR.USD",
    }


def test_an_option_keeps_what_defines_it_and_a_stock_has_none_of_it():
    call, stock = instrument(CALL), instrument((*AAPL[:5], "?", *AAPL[6:]))
    assert (call.id, call.multiplier, call.strike, call.right, call.expiry) == ("ibkr:712940105", 100, 250, "C", "20280121")
    assert call.underlying == "AAPL"
    assert (stock.multiplier, stock.strike, stock.right, stock.underlying) == (1, None, "", "")


def test_a_future_without_multiplier_counts_once_and_a_multiplier_of_nonsense_is_refused():
    assert instrument((*ES[:6], "", *ES[7:])).multiplier == 1
    for wrong in ("0", "-50", "fifty"):
        with pytest.raises(ValueError):
            instrument((*ES[:6], wrong, *ES[7:]))


# -- executions


@pytest.mark.parametrize(
    ("exec_id", "expected"),
    [
        ("0000e0d5.65f1a2.01.01", ("0000e0d5.65f1a2.01", 1)),
        ("0000e0d5.65f1a2.01.02", ("0000e0d5.65f1a2.01", 2)),
        ("0000e0d5.57412345", ("0000e0d5.57412345", 1)),
        ("whole-id", ("whole-id", 1)),
    ],
)
def test_an_execution_id_is_read_as_id_and_revision(exec_id, expected):
    assert identity(exec_id) == expected


def test_a_fill_has_the_brokers_time_and_its_commission_when_it_has_come():
    answer = answered(execution(AAPL), execution(AAPL, "0001.02.01.02", shares="0", side="SLD"))
    answer.take(["59", "1", "0001.02.01.01", "1.25", "USD", "1.7976931348623157E308", "1.7976931348623157E308", ""])
    first, second = fills(answer.of("U1").executions, answer.commissions, {"ibkr:265598": instrument(AAPL)})
    assert (first.execution_id, first.revision, second.execution_id, second.revision) == ("0001.02.01", 1, "0001.02.01", 2)
    assert first.time == datetime(2026, 11, 20, 20, 30, tzinfo=UTC)
    assert (first.side, first.quantity, first.price, first.order_id, first.source) == (Side.BUY, 3, Decimal("10.5"), "77", "ibkr-api")
    assert (first.commission, first.commission_currency, first.broker_pnl) == (Decimal("1.25"), "USD", None)
    assert (second.side, second.quantity, second.commission, second.commission_currency) == (Side.SELL, 0, None, None)


def test_a_commission_report_that_comes_before_its_execution_is_kept():
    answer = answered()
    answer.take(["59", "1", "0001.02.01.01", "1.25", "USD", "", "", ""])
    answer.take(execution(AAPL))
    assert answer.commissions["0001.02.01.01"] == CommissionRow(Decimal("1.25"), "USD", None)
    assert len(answer.of("U1").executions) == 1


def test_a_combo_is_passed_over_because_its_legs_are_listed_too():
    combo = ("28812380", "AAPL", "BAG", "", "0.0", "", "", "SMART", "USD", "28812380", "COMB")
    answer = answered(execution(combo, "0001.02.01.01"), execution(CALL, "0001.02.02.01"))
    assert list(answer.of("U1").executions) == ["0001.02.02.01"]
    assert answer.unreadable == []


# -- proof


def judged(answer: Answer):
    return judge("U1", answer, "ibkr", NOW)


@pytest.mark.parametrize(
    ("behind", "taken"),
    [(timedelta(seconds=30), timedelta(0)), (timedelta(seconds=31), timedelta(seconds=-31)), (timedelta(hours=-2), timedelta(hours=2))],
)
def test_an_answer_is_of_the_brokers_moment_where_the_clocks_differ_by_more_than_half_a_minute(behind, taken):
    answer = answered(position(AAPL, "100"), portfolio(AAPL, "100"), gross="1000")
    answer.take(["49", "1", str(int((NOW - behind).timestamp()))])
    assert judged(answer).taken_at == NOW + taken
    assert judged(answer).source_at == NOW - behind


def test_two_lists_that_agree_prove_the_account():
    snapshot = judged(answered(position(AAPL, "100"), portfolio(AAPL, "100"), gross="1000"))
    assert snapshot.status is SnapshotStatus.COMPLETE
    assert [(held.instrument, held.quantity, held.market_value) for held in snapshot.holdings] == [("ibkr:265598", 100, 1000)]


def test_a_last_digit_of_difference_between_the_lists_is_a_contradiction():
    snapshot = judged(answered(position(AAPL, "100.00000001"), portfolio(AAPL, "100"), gross="1000"))
    assert snapshot.status is SnapshotStatus.REJECTED
    assert snapshot.reason.startswith("U1: its two lists contradict each other")
    assert "AAPL 100.00000001 and 100." in snapshot.reason
    assert "Sync again" in snapshot.reason


def test_an_instrument_in_one_list_only_is_a_contradiction_and_a_currency_is_not():
    assert "SAP none and 5" in contradiction("U1", answered(position(AAPL, "1"), portfolio(AAPL, "1"), portfolio(SAP, "5")))
    assert contradiction("U1", answered(position(AAPL, "1"), position(EURUSD, "500"), portfolio(AAPL, "1"))) == ""


def test_zero_rows_are_no_holdings_and_the_last_row_of_a_contract_wins():
    rows = [position(AAPL, "41"), position(SAP, "0", "0"), position(AAPL, "40"), portfolio(AAPL, "40"), portfolio(SAP, "0", "0")]
    snapshot = judged(answered(*rows))
    assert snapshot.status is SnapshotStatus.COMPLETE
    assert [(held.instrument, held.quantity) for held in snapshot.holdings] == [("ibkr:265598", 40)]


def test_a_row_that_was_garbled_first_and_came_again_stays_in_doubt():
    snapshot = judged(answered(position(AAPL, "4x"), position(AAPL, "40"), portfolio(AAPL, "40")))
    assert snapshot.status is SnapshotStatus.PARTIAL


def test_a_linked_account_without_portfolio_rows_is_proven_without_prices():
    for ended in (True, False):
        snapshot = judged(answered(position(AAPL, "100"), gross="25000", ended=ended))
        assert snapshot.status is SnapshotStatus.COMPLETE
        assert snapshot.holdings[0].market_price is None


def test_an_empty_list_is_contradicted_by_positions_worth_something():
    snapshot = judged(answered(gross="25000"))
    assert snapshot.status is SnapshotStatus.REJECTED
    assert "the positions list is empty, but the account reports positions worth 25000 USD (GrossPositionValue)" in snapshot.reason


def test_an_empty_list_needs_a_witness():
    assert judged(answered(gross="0.00", ended=False)).status is SnapshotStatus.COMPLETE
    assert judged(answered(ended=True)).status is SnapshotStatus.COMPLETE
    snapshot = judged(answered(ended=False))
    assert snapshot.status is SnapshotStatus.REJECTED
    assert "nothing else confirms that the account holds nothing" in snapshot.reason


def test_both_lists_cut_short_are_contradicted_by_the_accounts_own_total():
    """1000 USD + 2000 EUR x 1.10 = 3200 USD: less than 95 % of 3400, within 5 % and 1 of 3300."""
    rows = [position(AAPL, "1"), portfolio(AAPL, "1", "1000"), position(SAP, "-2"), portfolio(SAP, "-2", "-2000")]
    assert judged(answered(*rows, gross="3300")).status is SnapshotStatus.COMPLETE
    snapshot = judged(answered(*rows, gross="3400"))
    assert snapshot.status is SnapshotStatus.REJECTED
    assert "the 2 listed holdings are worth 3200 USD, but the account reports positions worth 3400 USD" in snapshot.reason


def test_a_total_that_is_smaller_than_the_holdings_contradicts_nothing():
    """After a purchase it may be three minutes old."""
    assert contradiction("U1", answered(position(AAPL, "1"), portfolio(AAPL, "1", "1000"), gross="10")) == ""


def test_futures_do_not_count_against_the_total_and_options_do():
    rows = [position(ES, "1"), portfolio(ES, "1", "300000"), position(CALL, "5"), portfolio(CALL, "5", "19200")]
    assert contradiction("U1", answered(*rows, gross="19200")) == ""
    assert "are worth 19200 USD" in contradiction("U1", answered(*rows, gross="40000"))


def test_without_a_rate_or_a_price_there_is_no_sum_and_no_contradiction():
    swiss = (*SAP[:8], "CHF", *SAP[9:])
    assert contradiction("U1", answered(position(swiss, "1"), portfolio(swiss, "1", "5"), gross="9000")) == ""
    assert contradiction("U1", answered(position(AAPL, "1"), portfolio(AAPL, "1", ""), gross="9000")) == ""


def test_a_garbled_row_whose_contract_can_be_read_leaves_the_rest_standing():
    snapshot = judged(answered(position(AAPL, "100"), portfolio(AAPL, "100"), position(SAP, "5")[:-1], portfolio(SAP, "5"), gross="9000"))
    assert snapshot.status is SnapshotStatus.PARTIAL
    assert snapshot.unread == {"ibkr:14204"}
    assert snapshot.errors == {"SAP": "its position could not be read: 15 fields instead of 16"}
    assert [held.instrument for held in snapshot.holdings] == ["ibkr:265598"]


def test_lost_rows_are_named_by_what_people_call_the_contract():
    """The stock AAPL and a call on it share their symbol field."""
    snapshot = judged(answered(position(AAPL, "x"), position(CALL, "x"), portfolio((*AAPL[:1], "AAPL 280121C00250000", *AAPL[2:]), "x")))
    assert set(snapshot.errors) == {"AAPL", "AAPL 280121C00250000", "AAPL 280121C00250000 (ibkr:265598)"}


@pytest.mark.parametrize(
    "message",
    [
        position(AAPL, "100")[:3],
        position(("", *AAPL[1:]), "100"),
        position(AAPL, "100", account="U?"),
        ["6", "2", "NetLiquidation"],
        execution(AAPL, account="nobody"),
        ["999", "1"],
        ["\x1b[2J"],
        [],
    ],
)
def test_a_lost_row_that_may_have_been_any_holding_rejects_the_account(message):
    snapshot = judged(answered(message))
    assert snapshot.status is SnapshotStatus.REJECTED
    assert "could not be read" in snapshot.reason
    assert snapshot.reason.isprintable()


def test_a_lost_row_of_one_account_does_not_touch_another():
    answer = answered(position(AAPL, "", account="U2"), position(AAPL, "100"), portfolio(AAPL, "100"))
    assert judged(answer).status is SnapshotStatus.COMPLETE


def test_an_execution_that_cannot_be_read_keeps_its_instrument_out_of_the_snapshot():
    """Its position would differ from the book for no better reason than a zone name."""
    snapshot = judged(answered(position(AAPL, "3"), portfolio(AAPL, "3"), execution(AAPL, time="20261120 15:30:00 US/Nowhere")))
    assert snapshot.status is SnapshotStatus.PARTIAL
    assert snapshot.unread == {"ibkr:265598"}
    assert "US/Nowhere" in snapshot.errors["AAPL"]
    assert snapshot.holdings == ()


@pytest.mark.parametrize("changed", [{"side": "HELD"}, {"shares": "-3"}, {"shares": ""}, {"price": "n/a"}])
def test_an_execution_of_nonsense_is_refused(changed):
    answer = answered(execution(AAPL, **changed))
    assert [each.what for each in answer.unreadable] == ["execution"]


def test_a_commission_report_that_cannot_be_read_costs_no_holding():
    answer = answered(position(AAPL, "3"), portfolio(AAPL, "3"), ["59", "1", "0001.02.01.01", "much", "USD", "", "", ""])
    assert judged(answer).status is SnapshotStatus.COMPLETE
    assert [each.what for each in answer.unreadable] == ["commission report"]


def test_a_message_with_more_fields_than_it_has_means_that_others_were_swallowed():
    with pytest.raises(NotTws, match="17 fields instead of 16"):
        answered([*position(AAPL, "100"), "61"])


def test_thousands_of_unreadable_messages_are_not_collected_for_ever():
    with pytest.raises(NotTws, match="more than 1000 messages"):
        answered(*[position(AAPL, "x")] * 1002)


def test_account_values_are_kept_as_text():
    values = judged(answered()).values
    assert [(each.tag, each.value, each.currency) for each in values] == [
        ("NetLiquidation", "5000", "USD"),
        ("ExchangeRate", "1.10", "EUR"),
    ]


def test_an_account_that_is_not_there_is_rejected_with_those_that_are():
    snapshot = judge("U9", answered(), "ibkr", NOW)
    assert snapshot.status is SnapshotStatus.REJECTED
    assert snapshot.reason.startswith("U9: this login has no such account; it has U1, U2.")


# -- what the source says


def test_the_adapter_names_no_request_that_trades():
    sources = Path(brokers.__file__).parent.glob("ibkr*.py")
    text = "\n".join(source.read_text() for source in sources)
    assert len(text) > 10_000
    assert not re.search(r"placeOrder|cancelOrder|reqGlobalCancel|exerciseOptions|whatIfOrder", text)


def test_one_place_names_the_library():
    imports = [
        (source.name, line.strip())
        for source in Path(brokers.__file__).parent.glob("*.py")
        for line in source.read_text().splitlines()
        if re.match(r"\s*(import|from) ib_(insync|async)", line)
    ]
    assert [name for name, _ in imports] == ["ibkr.py", "ibkr.py"]
