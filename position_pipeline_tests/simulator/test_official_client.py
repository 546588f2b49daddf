"""The official client, with its own threads and decoder, at its own server version 157."""

from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from position_pipeline.simulator import Simulator

from .conftest import AAPL, NOON, OPTION

pytest.importorskip("ibapi")

from ibapi.contract import Contract
from ibapi.execution import ExecutionFilter

from .official_client import OfficialClient


@pytest.fixture
def client(broker: Simulator) -> Iterator[OfficialClient]:
    app = OfficialClient(broker.port, 0)
    app.wait_for("nextValidId")
    yield app
    app.end()


def test_it_is_ready_with_accounts_and_an_id(client: OfficialClient) -> None:
    assert client.serverVersion() == 157
    assert client.of("managedAccounts") == [("U1,U2",)]
    assert [code for _, code, _ in client.wait_for("error", 3)] == [2104, 2106, 2158]


def test_it_reads_positions_to_the_last_digit(broker: Simulator, client: OfficialClient) -> None:
    client.reqPositions()
    client.wait_for("positionEnd")
    read = [(account, Decimal(repr(quantity)), Decimal(repr(cost))) for account, _, quantity, cost in client.of("position")]
    held = [(account, *holding) for account in ("U1", "U2") for holding in broker.holdings(account).values()]
    assert read == held


def test_it_sees_a_whole_fill_in_the_order_of_a_real_recording(broker: Simulator, client: OfficialClient) -> None:
    client.reqPositions()
    client.wait_for("positionEnd")
    before = len(client.calls)
    exec_id = broker.execute("U1", "AAPL", "SELL", 10, "230.10", order_known=True, commission="1.05")
    client.wait_for("position", 6)
    names = [name for name, _ in client.calls[before:]]
    told = [
        "openOrder",
        "orderStatus",
        "execDetails",
        "openOrder",
        "orderStatus",
        "openOrder",
        "commissionReport",
        "position",
    ]
    assert names == told
    assert [values[-1] for values in client.of("openOrder")] == ["PreSubmitted", "Filled", "Filled"]
    ((request_id, con_id, execution),) = client.of("execDetails")
    assert (request_id, con_id, execution.execId) == (-1, AAPL.con_id, exec_id)
    assert (execution.shares, execution.price, execution.lastLiquidity) == (10, 230.1, 2)
    assert execution.time == "20260304 12:00:00 US/Eastern"
    # 10 x 230.10 - 1.05 - 10 x 180.01 = 499.85
    assert client.of("commissionReport")[0][0].realizedPNL == 499.85


def test_it_lists_executions_by_filter(broker: Simulator, client: OfficialClient) -> None:
    broker.execute("U1", "AAPL", "BUY", 1, "230")
    wanted = ExecutionFilter()
    wanted.acctCode = "U2"
    client.reqExecutions(7, wanted)
    client.wait_for("execDetailsEnd")
    assert [values for values in client.of("execDetails") if values[0] == 7] == []


def test_it_reads_portfolio_values_and_summary(broker: Simulator, client: OfficialClient) -> None:
    client.reqAccountUpdates(True, "U1")
    client.wait_for("accountDownloadEnd")
    symbol, *figures = client.of("updatePortfolio")[0]
    assert (symbol, figures) == ("AAPL", [100, 230.1, 23010, 180.01, 5009, 0, "U1"])
    sent = {(tag, currency): value for tag, value, currency, _ in client.of("updateAccountValue")}
    assert sent == broker.account_values("U1")
    client.reqAccountSummary(9, "All", "NetLiquidation,$LEDGER:ALL")
    client.wait_for("accountSummaryEnd")
    assert {values[1] for values in client.of("accountSummary")} == {"U1", "U2"}


def test_it_reads_contract_details_and_bars(client: OfficialClient) -> None:
    wanted = Contract()
    wanted.symbol, wanted.secType = "AAPL", "OPT"
    client.reqContractDetails(3, wanted)
    client.wait_for("contractDetailsEnd")
    (details,) = client.of("contractDetails")[0]
    assert (details.contract.conId, details.realExpirationDate) == (OPTION.con_id, "20280121")
    client.reqHistoricalData(4, wanted, "", "3 D", "1 day", "TRADES", 1, 1, False, [])
    client.wait_for("historicalDataEnd")
    assert [bar.date for (bar,) in client.of("historicalData")] == ["20260302", "20260303", "20260304"]


def test_it_reads_positions_by_account_and_unset_profit(client: OfficialClient) -> None:
    client.reqPositionsMulti(5, "U2", "")
    client.wait_for("positionMultiEnd")
    assert client.of("positionMulti") == [("U2", "SAP", 10.0, 172.125)]
    client.reqPnLSingle(6, "U1", "", AAPL.con_id)
    assert client.wait_for("pnlSingle")[0] == (6, 100, 1.7976931348623157e308, 5009, 0, 23010)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_undecodable_row_ends_its_reading_loop(broker: Simulator, client: OfficialClient) -> None:
    broker.inject("garble:positions:row=2")
    client.reqPositions()
    client.has_ended()
    assert len(client.of("position")) == 1
    assert client.of("positionEnd") == []


def test_it_reads_frames_in_odd_chunks(broker: Simulator, client: OfficialClient) -> None:
    broker.inject("slow:chunk=5")
    client.reqPositions()
    client.wait_for("positionEnd")
    assert len(client.of("position")) == 5


def test_its_orders_are_refused_and_recorded(broker: Simulator, client: OfficialClient) -> None:
    client.cancelOrder(12)
    client.reqGlobalCancel()
    client.wait_for("error", 5)
    assert [request.message_id for request in broker.order_requests] == [4, 58]
    assert [values[:2] for values in client.of("error")[3:]] == [(12, 201), (-1, 201)]


def test_a_broken_connection_is_noticed(start: Callable[..., Simulator]) -> None:
    broker = start(faults=["drop:positions:after=1"])
    app = OfficialClient(broker.port, 0)
    app.wait_for("nextValidId")
    app.reqPositions()
    app.has_ended()
    assert not app.isConnected()
    assert len(app.of("position")) == 1
    assert broker.now == NOON
