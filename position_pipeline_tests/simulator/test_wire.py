"""Frames and fields, as a client reads them that knows nothing but frames."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from position_pipeline.simulator import Simulator
from position_pipeline.simulator.wire import UNSET_DOUBLE, decimal_text, frame

from .conftest import AAPL
from .raw_client import RawClient

VERSIONS = (157, 163, 164, 166, 176, 177, 178)

# openOrder up to usePriceMgmtAlgo has 128 fields; 159, 160, 162 add one each, 170 adds five, 177 takes faProfile away.
OPEN_ORDER = {157: 128, 163: 131, 164: 131, 166: 131, 176: 136, 177: 135, 178: 135}


def counts(client: RawClient) -> dict[str, set[int]]:
    """How many fields each kind of message has, its id included, over everything a reader asks for."""
    client.ready()
    frames = client.ask(61, 1, end=62)
    frames += client.ask(6, 2, 1, "U1", end=54)
    frames += client.ask(7, 3, 9, 0, "", "", "", "", "", "", end=55)
    frames += client.ask(9, 8, 10, AAPL.con_id, *[""] * 11, 0, "", "", "", end=52)
    frames += client.ask(76, 1, 11, "U1", "", 0, end=74)
    frames += client.ask(62, 1, 12, "All", "NetLiquidation", end=64)
    frames += client.ask(74, 1, 13, "U1", "", end=72)
    frames += client.ask(16, 1, end=53)
    frames += client.ask(99, 0, end=102)
    frames += client.ask(49, 1, end=49)
    frames += client.ask(94, 14, "U1", "", AAPL.con_id, end=95)
    frames += client.ask(92, 15, "U1", "", end=94)
    frames += client.ask(9, 8, 16, 999, *[""] * 11, 0, "", "", "", end=4)
    found: dict[str, set[int]] = {}
    for fields in frames:
        found.setdefault(fields[0], set()).add(len(fields))
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_message_has_the_field_count_of_its_server_version(start: Callable[..., Simulator], version: int) -> None:
    broker = start()
    broker.execute("U1", "AAPL", "BUY", 10, "230.10")
    with RawClient(broker.port, version=version, client_id=0) as client:
        assert client.greeting[0] == str(version)
        found = counts(client)
        broker.execute("U1", "AAPL", "BUY", 1, "230", order_known=True)
        for fields in client.until(59):
            found.setdefault(fields[0], set()).add(len(fields))
    details = {157: 39, 163: 40}.get(version, 40)  # 164: three sizes more, no message version, no mdSizeMultiplier
    assert found == {
        "61": {16},  # id, 3, account, 11 of the contract, quantity, average cost
        "62": {2},
        "6": {6},
        "7": {20},  # id, 8, 11 of the contract, 7 figures
        "8": {3},
        "54": {3},
        "5": {OPEN_ORDER[version]},
        "3": {12},
        "11": {32 if version >= 178 else 31},  # pendingPriceRevision since 178
        "59": {8},
        "55": {3},
        "10": {details},
        "52": {3},
        "73": {8},
        "74": {3},
        "63": {7},
        "64": {3},
        "71": {18},
        "72": {3},
        "53": {2},
        "102": {1},
        "49": {3},
        "95": {7},
        "94": {5},
        "4": {6 if version >= 166 else 5},  # advancedOrderRejectJson since 166
    }


def test_the_server_offers_at_most_178_and_never_more_than_the_client(broker: Simulator) -> None:
    for offered, agreed in ((157, "157"), (178, "178"), (193, "178")):
        with RawClient(broker.port, version=offered) as client:
            version, server_time = client.greeting
            assert (version, server_time) == (agreed, "20260304 12:00:00 EST")


def test_readiness_is_accounts_then_next_id_then_three_notices(broker: Simulator) -> None:
    with RawClient(broker.port) as client:
        told = [client.receive() for _ in range(5)]
    assert told[:2] == [["15", "1", "U1,U2"], ["9", "1", "1"]]
    assert [fields[3] for fields in told[2:]] == ["2104", "2106", "2158"]


def test_a_position_row_is_exactly_this(raw: RawClient) -> None:
    rows = raw.ask(61, 1, end=62)
    assert rows[0] == [
        "61",
        "3",
        "U1",
        "265598",
        "AAPL",
        "STK",
        "",
        "0.0",
        "",
        "",
        "NASDAQ",
        "USD",
        "AAPL",
        "NMS",
        "100",
        "180.01",
    ]
    option = "61|3|U1|712940105|AAPL|OPT|20280121|250|C|100|SMART|USD|AAPL  280121C00250000|AAPL|2|3501.05"
    assert rows[2] == option.split("|")
    assert rows[3][-2:] == ["0.12345678", "61344.79"]
    assert rows[-1] == ["62", "1"]


def test_a_portfolio_row_names_the_primary_exchange_and_right_zero(raw: RawClient) -> None:
    rows = [fields for fields in raw.ask(6, 2, 1, "U1", end=54) if fields[0] == "7"]
    # 100 x 230.10 = 23010; unrealised 23010 - 100 x 180.01 = 5009
    figures = ["100", "230.1", "23010", "180.01", "5009", "0", "U1"]
    assert rows[0] == ["7", "8", "265598", "AAPL", "STK", "", "0", "0", "", "NASDAQ", "USD", "AAPL", "NMS", *figures]


def test_an_opening_fill_has_an_unset_realized_pnl(broker: Simulator, raw: RawClient) -> None:
    exec_id = broker.execute("U1", "AAPL", "BUY", 10, "230.10")
    fill, report, end = raw.ask(7, 3, 5, 0, "", "", "", "", "", "", end=55)
    assert fill[14:21] == [exec_id, "20260304 12:00:00 US/Eastern", "U1", "NASDAQ", "BOT", "10", "230.1"]
    assert report == ["59", "1", exec_id, "1", "USD", UNSET_DOUBLE, UNSET_DOUBLE, ""]
    assert end == ["55", "1", "5"]


def test_free_text_is_ascii_with_escapes(raw: RawClient) -> None:
    (details, _) = raw.ask(9, 8, 7, 14204, *[""] * 11, 0, "", "", "", end=52)
    assert r"SAP Sp\u00f3\u0142ka" in details


def test_the_execution_filter_matches_exactly(broker: Simulator, raw: RawClient) -> None:
    buy = broker.execute("U1", "AAPL", "BUY", 10, "230.10")
    broker.advance(60)
    sell = broker.execute("U1", "KO", "SELL", 5, "60.00", client_id=7)
    other = broker.execute("U2", "SAP", "BUY", 1, "200.00")

    def listed(*wanted: object) -> list[str]:
        return [fields[14] for fields in raw.ask(7, 3, 5, *wanted, end=55) if fields[0] == "11"]

    assert listed(0, "", "", "", "", "", "") == [buy, sell, other]
    assert listed(7, "", "", "", "", "", "") == [sell]
    assert listed(0, "U2", "", "", "", "", "") == [other]
    assert listed(0, "", "20260304-17:01:00", "", "", "", "") == [sell, other]  # UTC
    assert listed(0, "", "20260304 12:01:00", "", "", "", "") == [sell, other]  # the login zone
    assert listed(0, "", "20260304 18:01:00 Europe/Berlin", "", "", "", "") == [sell, other]
    assert listed(0, "", "", "AAPL", "", "", "") == [buy]
    assert listed(0, "", "", "", "FUT", "", "") == []
    assert listed(0, "", "", "", "", "NYSE", "") == [sell]
    assert listed(0, "", "", "", "", "", "SLD") == listed(0, "", "", "", "", "", "SELL") == [sell]


def test_an_unreadable_request_is_answered_by_an_error_and_the_connection_stands(raw: RawClient) -> None:
    raw.send(7, 3, "not a number", 0)
    assert raw.receive()[:4] == ["4", "2", "-1", "320"]
    assert raw.ask(49, 1, end=49)[-1][0] == "49"


def test_something_that_is_not_the_protocol_is_hung_up_on(broker: Simulator) -> None:
    with RawClient(broker.port, start=False) as client:
        client.receive()
        client.socket.sendall(b"\xff\xff\xff\xff garbage")
        assert client.receive() == []
    with RawClient(broker.port) as client:
        assert client.ready().ask(49, 1, end=49)


def test_another_address_than_loopback_is_refused() -> None:
    from .conftest import SMALL

    with pytest.raises(ValueError, match="loopback only"), Simulator(SMALL, host="0.0.0.0"):
        pass


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("100", "100"),
        ("1E+2", "100"),
        ("0.12345678", "0.12345678"),
        ("1.500", "1.5"),
        ("-0.0", "0"),
        ("1E-8", "0.00000001"),
    ],
)
def test_decimals_are_plain_text(value: str, shown: str) -> None:
    assert decimal_text(Decimal(value)) == shown


def test_a_frame_is_a_length_and_nul_terminated_fields() -> None:
    assert frame(62, 1, None, True, "é") == b"\x00\x00\x00\x0b62\x001\x00\x001\x00\xc3\xa9\x00"


def test_a_future_names_no_exchange_in_a_position_row(broker: Simulator, raw: RawClient) -> None:
    broker.execute("U1", "ESZ7", "BUY", 1, "6000")
    (row,) = (fields for fields in raw.ask(61, 1, end=62) if fields[0] == "61" and fields[5] == "FUT")
    # average cost 50 x 6000 + 2.25
    assert row[3:] == ["649180678", "ES", "FUT", "20271217", "0.0", "", "50", "", "USD", "ESZ7", "", "1", "300002.25"]
