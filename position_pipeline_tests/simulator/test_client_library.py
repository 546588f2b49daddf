"""What ib_insync or ib_async reads from a broker that behaves: values to the last digit, and pushes."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from position_pipeline.simulator import Simulator, default_scenario, many_positions

from .conftest import AAPL, KO, NOON, SAP
from .ib_library import HIGHEST_VERSION, library, until, until_alone

Connect = Callable[..., Any]


def as_decimal(number: float) -> Decimal:
    return Decimal(repr(number))


def test_positions_are_read_back_exactly(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    assert ib.client.serverVersion() == HIGHEST_VERSION
    assert ib.managedAccounts() == ["U1", "U2"]
    for account in ("U1", "U2"):
        read = {p.contract.conId: (as_decimal(p.position), as_decimal(p.avgCost)) for p in ib.positions(account)}
        assert read == broker.holdings(account)
    assert len(ib.reqPositions()) == 5


def test_portfolio_of_the_chosen_account_is_consistent_with_itself(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker, account="U1")
    assert {item.account for item in ib.portfolio()} == {"U1"}
    for item in ib.portfolio():
        factor = Decimal(item.contract.multiplier or 1)
        quantity = as_decimal(item.position)
        assert as_decimal(item.marketValue) == quantity * as_decimal(item.marketPrice) * factor
        gain = as_decimal(item.marketValue) - quantity * as_decimal(item.averageCost)
        assert abs(as_decimal(item.unrealizedPNL) - gain) <= Decimal("0.00000001")


def test_account_values_follow_from_cash_positions_and_rates(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker, account="U1")
    values = {(v.tag, v.currency): Decimal(v.value) for v in ib.accountValues("U1") if v.tag in _NUMBERS}
    stock = 100 * Decimal("230.10") - 40 * Decimal(60)  # 23010 - 2400
    option = 2 * 40 * Decimal(100)
    assert values["StockMarketValue", "USD"] == stock
    assert values["OptionMarketValue", "USD"] == option
    assert values["Cryptocurrency", "USD"] == Decimal("7901.23")  # 0.12345678 x 64000
    assert values["GrossPositionValue", "USD"] == 23010 + 2400 + option + Decimal("7901.23")
    assert values["NetLiquidation", "USD"] == 100000 + stock + option + Decimal("7901.23")
    assert values["TotalCashValue", "USD"] == 100000


def test_a_client_can_check_gross_position_value_against_the_list_of_positions(start: Callable[..., Simulator], connect: Connect) -> None:
    broker = start(default_scenario())
    broker.advance(300)
    ib = connect(broker, account="U1000002")
    values = {(v.tag, v.currency): v.value for v in ib.accountValues("U1000002")}
    total = Decimal(0)
    for item in ib.portfolio():
        total += abs(as_decimal(item.marketValue)) * Decimal(values["ExchangeRate", item.contract.currency])
    assert abs(total - Decimal(values["GrossPositionValue", "EUR"])) <= Decimal("0.01")


_NUMBERS = {
    "StockMarketValue",
    "OptionMarketValue",
    "Cryptocurrency",
    "GrossPositionValue",
    "NetLiquidation",
    "TotalCashValue",
}


def test_currencies_add_up_in_base(broker: Simulator, connect: Connect) -> None:
    broker.execute("U2", "KO", "BUY", 10, "60", commission="1")
    ib = connect(broker, account="U2")
    values = {(v.tag, v.currency): v.value for v in ib.accountValues("U2")}
    assert values["CashBalance", "USD"] == "-601.00"  # 10 x 60 + 1
    assert values["ExchangeRate", "USD"] == "0.8000000"  # 1 / 1.25
    assert values["TotalCashBalance", "BASE"] == "4519.20"  # 5000 - 601 x 0.8
    assert values["StockMarketValue", "BASE"] == "2480.00"  # 10 x 200 + 600 x 0.8
    assert values["NetLiquidation", "EUR"] == "6999.20"


def test_a_portfolio_is_empty_with_several_accounts_and_none_chosen(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    assert ib.portfolio() == []
    assert {value.account for value in ib.accountValues()} == {"U1", "U2"}


def test_todays_executions_come_with_their_commissions(broker: Simulator, connect: Connect) -> None:
    exec_id = broker.execute("U1", "AAPL", "SELL", 30, "231.5", commission="1.05")
    (fill,) = connect(broker).fills()
    assert fill.execution.execId == exec_id
    assert fill.execution.time == NOON
    assert (fill.execution.side, fill.execution.shares, fill.execution.price) == ("SLD", 30, 231.5)
    assert (fill.contract.conId, fill.contract.exchange) == (AAPL.con_id, "NASDAQ")
    assert fill.commissionReport.commission == 1.05
    # 30 x 231.5 = 6945; less 1.05, less 30 x 180.01 = 5400.30: 1543.65
    assert fill.commissionReport.realizedPNL == 1543.65


def test_executions_are_listed_since_midnight_in_the_gateways_zone(start: Callable[..., Simulator], connect: Connect) -> None:
    for since, listed in (("midnight", 1), ("week", 2), ("always", 3)):
        broker = start(executions_since=since)
        broker.execute("U1", "AAPL", "BUY", 1, "230", time=datetime(2026, 2, 20, 17, tzinfo=UTC))
        broker.execute("U1", "AAPL", "BUY", 1, "230", time=datetime(2026, 3, 4, 4, 59, 59, tzinfo=UTC))  # 23:59:59 EST
        broker.execute("U1", "AAPL", "BUY", 1, "230", time=datetime(2026, 3, 4, 5, 0, 0, tzinfo=UTC))
        ib = connect(broker)
        assert len(ib.fills()) == listed
        ib.disconnect()


def test_midnight_empties_the_list_of_executions(broker: Simulator, connect: Connect) -> None:
    broker.execute("U1", "AAPL", "BUY", 1, "230")
    ib = connect(broker)
    assert len(ib.reqExecutions()) == 1
    broker.advance(12 * 3600)
    assert ib.reqExecutions() == []


def test_an_ordinary_client_hears_only_that_a_position_changed(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker, clientId=5)
    changed = []
    ib.positionEvent += changed.append
    broker.execute("U1", "AAPL", "BUY", 10, "230.10")
    until(ib, lambda: changed)
    assert (changed[0].position, changed[0].contract.conId) == (110, AAPL.con_id)
    assert ib.fills() == []


def test_client_zero_and_the_master_hear_the_execution_and_its_commission(start: Callable[..., Simulator], connect: Connect) -> None:
    broker = start(master_client_id=9)
    for client_id in (0, 9):
        ib = connect(broker, clientId=client_id)
        known = len(ib.fills())
        exec_id = broker.execute("U1", "AAPL", "BUY", 10, "230.10", commission="1.25")
        until(ib, lambda ib=ib, known=known: len(ib.fills()) > known and ib.fills()[-1].commissionReport.execId)
        assert ib.fills()[-1].execution.execId == exec_id
        assert ib.fills()[-1].commissionReport.commission == 1.25


@pytest.mark.parametrize("known", [False, True])
def test_execution_events_fire_only_for_an_order_the_client_knows(broker: Simulator, connect: Connect, known: bool) -> None:
    ib = connect(broker, clientId=0)
    heard: list[str] = []
    ib.execDetailsEvent += lambda trade, fill: heard.append("execution")
    ib.commissionReportEvent += lambda trade, fill, report: heard.append("commission")
    broker.execute("U1", "AAPL", "BUY", 10, "230.10", order_known=known)
    until(ib, lambda: ib.fills() and ib.fills()[-1].commissionReport.execId)
    assert heard == (["execution", "commission"] if known else [])
    assert [trade.orderStatus.status for trade in ib.trades()] == (["Filled"] if known else [])


def test_client_zero_hears_what_another_client_ordered_and_a_third_does_not(broker: Simulator, connect: Connect) -> None:
    third, zero = connect(broker, clientId=1), connect(broker, clientId=0)
    broker.execute("U1", "AAPL", "BUY", 10, "230.10", client_id=7)
    until(zero, zero.fills)
    until(third, lambda: any(row.position == 110 for row in third.positions("U1")))
    assert third.fills() == []


def test_a_future_is_worth_its_gain_which_counts_as_cash(broker: Simulator, connect: Connect) -> None:
    broker.execute("U1", "ESZ7", "BUY", 1, "5990", commission="2.25")
    ib = connect(broker, account="U1")
    values = {(v.tag, v.currency): v.value for v in ib.accountValues("U1")}
    # 1 x 50 x 6000 - (50 x 5990 + 2.25) = 497.75; the gross value leaves futures out
    assert values["FuturesPNL", "USD"] == "497.75"
    assert (values["CashBalance", "USD"], values["TotalCashValue", "USD"]) == ("100000.00", "100497.75")
    assert values["GrossPositionValue", "USD"] == "41311.23"  # 23010 + 2400 + 8000 + 7901.23


def test_the_ordering_client_hears_its_own_fill(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker, clientId=7)
    broker.execute("U1", "AAPL", "BUY", 10, "230.10", client_id=7, order_id=12, order_known=True)
    until(ib, ib.fills)
    assert (ib.fills()[0].execution.orderId, ib.fills()[0].execution.clientId) == (12, 7)


def test_a_close_is_pushed_as_zero_and_leaves_the_cache(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker, account="U1")
    rows = []
    ib.positionEvent += rows.append
    broker.execute("U1", "AAPL", "SELL", 100, "230.10")
    until(ib, lambda: rows)
    assert (rows[0].position, rows[0].avgCost) == (0, 0)
    assert AAPL.con_id not in {position.contract.conId for position in ib.positions()}
    until(ib, lambda: AAPL.con_id not in {item.contract.conId for item in ib.portfolio()})


def test_a_flip_is_pushed_with_the_new_average(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker, clientId=0)
    broker.execute("U1", "KO", "BUY", 100, "60", commission="5")
    until(ib, lambda: ib.fills() and ib.fills()[-1].commissionReport.execId)
    # short 40 at 61.5: closing 40 of 100 costs 2 of 5 commission: 40 x 61.5 - 40 x 60 - 2 = 58
    assert ib.fills()[-1].commissionReport.realizedPNL == 58
    # opening 60: (60 x 60 + 3) / 60 = 60.05
    assert broker.holdings("U1")[KO.con_id] == (Decimal(60), Decimal("60.05"))
    until(ib, lambda: [p.avgCost for p in ib.positions("U1") if p.contract.conId == KO.con_id] == [60.05])


def test_a_correction_is_another_execution_of_the_same_order(broker: Simulator, connect: Connect) -> None:
    first = broker.execute("U1", "AAPL", "BUY", 3, "230", perm_id=77, order_id=5, commission="1")
    ib = connect(broker, clientId=0)
    second = broker.correct(first, quantity=4, price="229.5")
    assert (first[-3:], second) == (".01", first[:-2] + "02")
    until(ib, lambda: len(ib.fills()) == 2)
    assert {fill.execution.permId for fill in ib.fills()} == {77}
    assert sum(fill.execution.shares for fill in ib.fills()) == 7  # the libraries add what replaces
    quantity, average = broker.holdings("U1")[AAPL.con_id]
    # 100 x 180.01 = 18001; 4 x 229.5 + 1 (the schedule's least) = 919; 18920 / 104 = 181.92307692
    assert (quantity, average) == (Decimal(104), Decimal("181.92307692"))


def test_corrections_may_be_listed_in_their_last_version_only(start: Callable[..., Simulator], connect: Connect) -> None:
    for corrections, suffixes in (("both", [".01", ".02"]), ("latest", [".02"])):
        broker = start(corrections=corrections)
        broker.correct(broker.execute("U1", "AAPL", "BUY", 3, "230"), price="231")
        assert [fill.execution.execId[-3:] for fill in connect(broker).fills()] == suffixes


def test_a_bust_is_a_correction_to_no_shares_or_leaves_nothing(broker: Simulator, connect: Connect) -> None:
    before = broker.holdings("U1")
    broker.bust(broker.execute("U1", "AAPL", "BUY", 3, "230"))
    assert broker.holdings("U1") == before
    broker.bust(broker.execute("U1", "KO", "BUY", 3, "60"), how="removed")
    assert broker.holdings("U1") == before
    fills = connect(broker).fills()
    assert [(fill.execution.shares, fill.execution.execId[-2:]) for fill in fills] == [(3, "01"), (0, "02")]


def test_a_late_commission_comes_when_it_is_sent(broker: Simulator, connect: Connect) -> None:
    exec_id = broker.execute("U1", "AAPL", "SELL", 10, "230", commission=None)
    ib = connect(broker, clientId=0)
    assert ib.fills()[0].commissionReport.execId == ""
    broker.send_commission(exec_id, "2.40")
    until(ib, lambda: ib.fills()[0].commissionReport.execId)
    # 2300 - 2.40 - 1800.10 = 497.50
    assert (ib.fills()[0].commissionReport.commission, ib.fills()[0].commissionReport.realizedPNL) == (2.4, 497.5)


def test_a_split_changes_position_and_price_and_no_execution_explains_it(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker, clientId=0, account="U1")
    broker.split("AAPL", 4)
    until(ib, lambda: any(item.marketPrice < 60 for item in ib.portfolio("U1") if item.contract.conId == AAPL.con_id))
    item = next(item for item in ib.portfolio() if item.contract.conId == AAPL.con_id)
    # 230.10 / 4 = 57.525, to the tick 57.52; 180.01 / 4 = 45.0025
    assert (item.position, item.averageCost, item.marketPrice) == (400, 45.0025, 57.52)
    assert ib.fills() == []


def test_prices_move_on_their_tick_and_are_pushed(start: Callable[..., Simulator], connect: Connect) -> None:
    broker = start(default_scenario())
    ib = connect(broker, account="U1000002")
    items: list[Any] = []
    ib.updatePortfolioEvent += items.append
    broker.advance(15)
    until(ib, lambda: len({item.contract.symbol for item in items}) == 4)
    for item in items:
        tick = broker._broker.book.instruments[item.contract.conId].tick
        assert as_decimal(item.marketPrice) % tick == 0
    assert broker.price("SAP") != default_scenario().instrument("SAP").price


def test_contract_details_are_found_by_con_id_or_by_name(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    (details,) = ib.reqContractDetails(library.Contract(conId=SAP.con_id))
    assert (details.longName, details.contract.currency, details.minTick) == ("SAP Spółka", "EUR", 0.01)
    assert (details.stockType, details.contract.primaryExchange) == ("COMMON", "IBIS")
    (option,) = ib.reqContractDetails(library.Option("AAPL", "20280121", 250, "C", "SMART"))
    assert (option.contract.multiplier, option.realExpirationDate) == ("100", "20280121")
    assert ib.reqContractDetails(library.Stock("NOPE", "SMART", "USD")) == []


def test_daily_bars_are_the_same_whenever_they_are_asked_for(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    stock = library.Stock("AAPL", "SMART", "USD")
    week = ib.reqHistoricalData(stock, "", "7 D", "1 day", "TRADES", True)
    assert [bar.date.isoformat() for bar in week] == [f"2026-{day}" for day in ("02-26", "02-27", "03-02", "03-03", "03-04")]
    again = ib.reqHistoricalData(stock, "20260304-23:00:00", "2 D", "1 day", "TRADES", True)
    assert list(again) == list(week)[-2:]
    for bar in week:
        assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high


def test_profit_and_loss_of_account_and_position(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    total, single = ib.reqPnL("U1"), ib.reqPnLSingle("U1", "", AAPL.con_id)
    until(ib, lambda: total.dailyPnL == total.dailyPnL and single.value == single.value)
    assert (total.dailyPnL, total.realizedPnL) == (0, 0)
    assert (single.position, single.unrealizedPnL, single.value) == (100, 5009, 23010)
    assert single.dailyPnL == 1.7976931348623157e308  # not yet computed
    broker.set_price("AAPL", "231.10")
    until(ib, lambda: total.dailyPnL == 100 and single.value == 23110)


def test_account_summary_current_time_and_accounts(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    summary = {(row.account, row.tag): row.value for row in ib.accountSummary() if row.tag == "NetLiquidation"}
    assert set(summary) == {("U1", "NetLiquidation"), ("U2", "NetLiquidation")}
    assert ib.reqCurrentTime() == NOON


def test_a_third_summary_subscription_is_refused(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    codes: list[int] = []
    ib.errorEvent += lambda request_id, code, *rest: codes.append(code)
    for request_id in (901, 902, 903):
        ib.client.reqAccountSummary(request_id, "All", "NetLiquidation")
    until(ib, lambda: codes)
    assert codes == [322]


def test_one_connection_gets_updates_of_one_account_at_a_time(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker, account="U1")
    ib.reqAccountUpdates("U2")
    broker.execute("U1", "AAPL", "BUY", 1, "230")
    rows: list[Any] = []
    ib.updatePortfolioEvent += rows.append
    broker.execute("U2", "SAP", "BUY", 1, "200")
    until(ib, lambda: rows)
    assert {row.account for row in rows} == {"U2"}


def test_account_updates_without_an_account_are_an_error_that_ends_nothing(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    ib.RequestTimeout = 0.3
    told: list[tuple[int, int]] = []
    ib.errorEvent += lambda request_id, code, *rest: told.append((request_id, code))
    with pytest.raises(TimeoutError):
        ib.reqAccountUpdates("")
    assert told == [(-1, 321)]


def test_orders_are_refused_and_recorded(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker, readonly=False)
    assert broker.order_requests == ()
    trade = ib.placeOrder(library.Stock("AAPL", "SMART", "USD"), library.MarketOrder("BUY", 1))
    until(ib, trade.isDone)
    ib.reqGlobalCancel()
    until(ib, lambda: len(broker.order_requests) == 2)
    assert [request.message_id for request in broker.order_requests] == [3, 58]
    assert broker.holdings("U1")[AAPL.con_id][0] == 100


def test_a_read_only_reader_leaves_no_order_request(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker, clientId=0)
    ib.reqPositions()
    ib.reqExecutions()
    assert broker.order_requests == ()
    assert {request.message_id for request in broker.requests} == {7, 15, 61, 76}


def test_a_read_only_gateway_answers_order_lists_with_321_and_no_end(start: Callable[..., Simulator], connect: Connect) -> None:
    broker = start(read_only=True)
    ib = library.IB()
    codes: list[int] = []
    ib.errorEvent += lambda request_id, code, *rest: codes.append(code) if code < 2000 else None
    ib.connect(broker.host, broker.port, clientId=3, timeout=0.3)
    assert ib.isConnected()
    assert codes == [321, 321]
    ib.disconnect()


def test_a_client_id_is_taken_until_its_client_has_gone(broker: Simulator, connect: Connect) -> None:
    first = connect(broker, clientId=4)
    codes: list[int] = []
    second = library.IB()
    second.errorEvent += lambda request_id, code, *rest: codes.append(code)
    with pytest.raises(TimeoutError):
        second.connect(broker.host, broker.port, clientId=4, timeout=0.3)
    assert codes == [326]
    first.disconnect()
    until_alone(broker)
    assert connect(broker, clientId=4).isConnected()


def test_ten_thousand_positions_are_read_in_one_go(start: Callable[..., Simulator], connect: Connect) -> None:
    broker = start(many_positions(50, 200))
    ib = connect(broker, timeout=20)
    assert len(ib.positions()) == 10_000
    assert {p.account for p in ib.positions()} == set(ib.managedAccounts())
