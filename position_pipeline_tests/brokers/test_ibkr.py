"""The IBKR adapter on a real socket against the simulator, when all is well: what it reads, to the last digit, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from position_pipeline.accounting.model import Side, SnapshotStatus
from position_pipeline.brokers.ibkr import IbkrBroker
from position_pipeline.simulator import Account, Instrument, Opening, Scenario, Simulator, default_scenario, many_positions

MORNING = datetime(2026, 11, 20, 15, tzinfo=UTC)
EXACT = Decimal("12345678.123456789012")

AAPL = Instrument(265598, "AAPL", primary_exchange="NASDAQ", price=Decimal(200))
SAP = Instrument(14204, "SAP", currency="EUR", primary_exchange="IBIS", price=Decimal(100))
CALL = Instrument(
    712940105, "AAPL", "OPT", multiplier=Decimal(100), expiry="20280121", strike=Decimal(250), right="C",
    local_symbol="AAPL  280121C00250000", price=Decimal(40),
)  # fmt: skip
FUTURE = Instrument(
    649180678, "ES", "FUT", exchange="CME", multiplier=Decimal(50), expiry="20271217", local_symbol="ESZ7", price=Decimal(6000)
)
COIN = Instrument(479624278, "BTC", "CRYPTO", exchange="PAXOS", local_symbol="BTC.USD", price=Decimal(1))
SMALL = Scenario(
    instruments=(AAPL, SAP, CALL, FUTURE, COIN),
    accounts=(
        Account(
            "U1",
            cash={"USD": Decimal(1000)},
            positions=(
                Opening(AAPL.con_id, Decimal(100), Decimal("150.25")),
                Opening(CALL.con_id, Decimal(5), Decimal("3921.05")),
                Opening(FUTURE.con_id, Decimal(-1), Decimal("298752.25")),
                Opening(COIN.con_id, EXACT, Decimal("0.5")),
            ),
        ),
        Account(
            "U2",
            currency="EUR",
            cash={"EUR": Decimal(500)},
            positions=(Opening(SAP.con_id, Decimal(-20), Decimal("110.5")), Opening(AAPL.con_id, Decimal(7), Decimal(190))),
        ),
    ),
    rates={"USD": Decimal(1), "EUR": Decimal("1.10")},
    price_every=Decimal(0),
)


@contextmanager
def simulated(scenario=SMALL, *faults, **options):
    """A simulator in which time stands still, and a broker on it."""
    with Simulator(scenario, faults=faults, speed=0, starts_at=MORNING, **options) as sim:
        yield sim, IbkrBroker(host=sim.host, port=sim.port)


def holdings(capture, account):
    (snapshot,) = [each for each in capture.snapshots if each.account == account]
    assert snapshot.status is SnapshotStatus.COMPLETE, snapshot.reason
    return {held.instrument: held for held in snapshot.holdings}


def eventually(condition, seconds=2.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


# -- what is read


@pytest.mark.parametrize("scenario", [SMALL, default_scenario()], ids=lambda each: each.name)
def test_every_holding_of_every_account_is_read_as_the_broker_has_it(scenario):
    with simulated(scenario) as (sim, broker):
        capture = broker.capture(None, 5)
        for account in scenario.accounts:
            read = {
                int(key.removeprefix("ibkr:")): (each.quantity, each.raw_average_cost)
                for key, each in holdings(capture, account.id).items()
            }
            assert read == sim.holdings(account.id)
        named = {held.instrument for snapshot in capture.snapshots for held in snapshot.holdings}
        assert {each.id for each in capture.instruments} == named
        assert capture.broker == "ibkr"
        assert capture.refused == ()


def test_no_digit_of_a_quantity_is_lost_on_the_way():
    """As a float it came back as 12345678.12345679."""
    with simulated() as (_, broker):
        assert holdings(broker.capture(None, 5), "U1")["ibkr:479624278"].quantity == EXACT


def test_the_average_price_has_no_multiplier_in_it_and_the_raw_cost_has():
    with simulated() as (_, broker):
        call = holdings(broker.capture(None, 5), "U1")["ibkr:712940105"]
    assert (call.average_price, call.raw_average_cost) == (Decimal("39.2105"), Decimal("3921.05"))
    assert (call.market_price, call.market_value) == (40, 5 * 40 * 100)
    assert call.unrealized_pnl == 5 * 40 * 100 - 5 * Decimal("3921.05")


def test_every_account_has_its_prices():
    """Silent fault 14 of the library: with several accounts, its portfolio() is empty."""
    with simulated() as (_, broker):
        capture = broker.capture(None, 5)
    assert holdings(capture, "U1")["ibkr:265598"].market_price == 200
    assert holdings(capture, "U2")["ibkr:14204"].market_value == -20 * 100


def test_account_values_come_as_text_with_their_currency():
    with simulated() as (sim, broker):
        for snapshot in broker.capture(None, 5).snapshots:
            read = {(value.tag, value.currency): value.value for value in snapshot.values}
            assert read == sim.account_values(snapshot.account)
            assert read["ExchangeRate", "USD"]


def test_a_future_has_its_exchange_although_position_rows_do_not_name_it():
    with simulated() as (_, broker):
        found = {each.id: each for each in broker.capture(None, 5).instruments}
    future = found["ibkr:649180678"]
    assert (future.symbol, future.exchange, future.multiplier, future.underlying, future.expiry) == ("ESZ7", "CME", 50, "ES", "20271217")
    assert found["ibkr:14204"].currency == "EUR"


def test_only_the_named_accounts_are_asked_about():
    with simulated() as (sim, broker):
        capture = broker.capture(["U2"], 5)
        assert [snapshot.account for snapshot in capture.snapshots] == ["U2"]
        asked = [request.fields for request in sim.requests if request.message_id in (6, 7)]
        assert len(asked) == 2
        assert all("U2" in fields and "U1" not in fields for fields in asked)


def test_configured_accounts_are_the_default():
    with simulated() as (sim, _):
        broker = IbkrBroker("second", sim.host, sim.port, 30, ["U1"])
        capture = broker.capture(None, 5)
    assert [(snapshot.account, snapshot.broker) for snapshot in capture.snapshots] == [("U1", "ibkr")]
    assert broker.where == f"Interactive Brokers at {sim.host}:{sim.port}, client id 30"


# -- executions


def test_a_fill_is_read_with_its_id_time_commission_and_the_brokers_own_result():
    with simulated() as (sim, broker):
        exec_id = sim.execute("U1", "AAPL", "SELL", 40, "199.123456789012", commission="1.0375")
        (fill,) = broker.capture(None, 5).fills
        assert fill.execution_id + ".01" == exec_id
        assert (fill.account, fill.instrument, fill.revision) == ("U1", "ibkr:265598", 1)
        assert (fill.side, fill.quantity, fill.price) == (Side.SELL, 40, Decimal("199.123456789012"))
        assert fill.time == MORNING
        assert (fill.commission, fill.commission_currency) == (Decimal("1.0375"), "USD")
        assert fill.broker_pnl == sim.realized(exec_id).quantize(Decimal("1e-8"))
        assert fill.order_id == str(sim.executions("U1")[0].perm_id)


def test_an_opening_fill_has_no_result_which_is_not_a_result_of_zero():
    """Silent fault 15 of the library: the unset 1.797e308 becomes 0.0."""
    with simulated() as (sim, broker):
        sim.execute("U2", "BTC", "BUY", 1)
        (fill,) = broker.capture(None, 5).fills
    assert (fill.broker_pnl, fill.commission is not None) == (None, True)


def test_a_correction_is_a_second_revision_and_a_bust_one_of_quantity_zero():
    with simulated() as (sim, broker):
        first = sim.execute("U1", "AAPL", "BUY", 10, "200")
        sim.correct(first, quantity=6)
        second = sim.execute("U1", "AAPL", "BUY", 3, "200")
        sim.bust(second)
        fills = broker.capture(["U1"], 5).fills
    stems = [each.rpartition(".")[0] for each in (first, second)]
    assert {(each.execution_id, each.revision): each.quantity for each in fills} == {
        (stems[0], 1): 10, (stems[0], 2): 6, (stems[1], 1): 3, (stems[1], 2): 0,
    }  # fmt: skip


def test_a_commission_that_has_not_come_is_none_and_comes_with_a_later_capture():
    with simulated() as (sim, broker):
        late = sim.execute("U1", "AAPL", "BUY", 10, "200", commission=None)
        began = time.monotonic()
        (fill,) = broker.capture(None, 5).fills
        assert (fill.commission, fill.commission_currency) == (None, None)
        assert time.monotonic() - began < 1.5
        sim.send_commission(late, "2.5")
        (fill,) = broker.capture(None, 5).fills
        assert fill.commission == Decimal("2.5")


@pytest.mark.parametrize("fault", ["wrong-order", "early-commission"])
def test_commissions_find_their_fill_in_whatever_order_they_come(fault):
    """The library drops a report that is early, and never fills in one of an execution that it knows already."""
    with simulated(SMALL, fault) as (sim, broker):
        for price in (200, 201, 202):
            sim.execute("U1", "AAPL", "BUY", 1, price, commission=Decimal(price) / 100)
            sim.advance(1)
        fills = broker.capture(None, 5).fills
    assert [(each.price, each.commission) for each in fills] == [(200, 2), (201, Decimal("2.01")), (202, Decimal("2.02"))]


def test_a_fill_of_something_that_is_closed_again_still_has_its_instrument():
    with simulated() as (sim, broker):
        sim.execute("U2", "AAPL  280121C00250000", "BUY", 1, 40)
        sim.execute("U2", "AAPL  280121C00250000", "SELL", 1, 41)
        capture = broker.capture(["U2"], 5)
    assert [each.multiplier for each in capture.fills] == [100, 100]
    assert "ibkr:712940105" in {each.id for each in capture.instruments}
    assert "ibkr:712940105" not in holdings(capture, "U2")


def test_five_thousand_executions_come_all():
    """Silent fault 10 of the library: at 100,000 it connects with 17,656 of them."""
    with simulated(many_positions(1, 5, executions=5000)) as (sim, broker):
        sim.advance(2)
        fills = broker.capture(None, 20).fills
    assert len({each.execution_id for each in fills}) == 5000
    assert all(each.commission is not None for each in fills)


# -- snapshots stand alone


def test_what_was_closed_between_two_captures_is_gone_from_the_second():
    """Silent fault 7 of the library: an object that reconnects keeps the ghost."""
    with simulated() as (sim, broker):
        assert "ibkr:265598" in holdings(broker.capture(None, 5), "U2")
        sim.execute("U2", "AAPL", "SELL", 7)
        assert list(holdings(broker.capture(None, 5), "U2")) == ["ibkr:14204"]


def test_trades_during_a_capture_never_make_it_wrong():
    """A push may fall between the two lists: the account is asked again, or rejected, never mixed up."""
    stop = threading.Event()
    with simulated(many_positions(1, 300)) as (sim, broker):
        account = "U2000001"
        before = sim.holdings(account)[100000][0]

        def trade():
            for _ in range(300):  # bounded: the simulator folds all of them for every answer
                if stop.wait(0.002):
                    return
                sim.execute(account, 100000, "BUY", 1)

        with ThreadPoolExecutor(1) as trader:
            trading = trader.submit(trade)
            try:
                captures = [broker.capture(None, 20) for _ in range(5)]
            finally:
                stop.set()
            trading.result()
        after = sim.holdings(account)[100000][0]
    proven = [each.snapshots[0] for each in captures if each.snapshots[0].proven]
    seen = [held.quantity for snapshot in proven for held in snapshot.holdings if held.instrument == "ibkr:100000"]
    assert len(seen) == len(proven)
    assert seen == sorted(seen)
    assert all(before <= quantity <= after for quantity in seen)
    assert all("contradict" in each.snapshots[0].reason for each in captures if not each.snapshots[0].proven)


# -- where it runs and what it leaves behind


def test_a_capture_asks_for_no_order_and_for_no_more_than_it_needs():
    with simulated() as (sim, broker):
        broker.capture(None, 5)
        assert sim.order_requests == ()
        assert [request.message_id for request in sim.requests] == [61, 6, 6, 49, 7, 7]


def test_it_works_in_a_main_thread_a_worker_thread_and_a_running_loop():
    async def inside() -> int:
        return len(broker.capture(None, 5).snapshots)

    with simulated() as (_, broker):
        assert len(broker.capture(None, 5).snapshots) == 2
        with ThreadPoolExecutor(1) as pool:
            assert len(pool.submit(broker.capture, None, 5).result().snapshots) == 2
        assert asyncio.run(inside()) == 2
        assert len(broker.capture(None, 5).snapshots) == 2


def test_several_captures_at_once_do_not_disturb_each_other():
    """The library cancels a blocking call of one connection when another one is dropped."""
    with simulated() as (sim, _):
        brokers = [IbkrBroker(f"b{n}", sim.host, sim.port, 100 + 10 * n) for n in range(4)]
        with ThreadPoolExecutor(4) as pool:
            captures = list(pool.map(lambda each: each.capture(None, 5), brokers))
    assert all(snapshot.status is SnapshotStatus.COMPLETE for capture in captures for snapshot in capture.snapshots)


def test_nothing_is_left_behind():
    with simulated() as (sim, broker):
        broker.capture(None, 5)
        sockets, threads = _open_files(), threading.active_count()
        for _ in range(5):
            broker.capture(None, 5)
        assert eventually(lambda: sim.clients == ())
        assert eventually(lambda: _open_files() <= sockets)
        assert threading.active_count() == threads


def test_a_process_that_makes_hundreds_of_captures_a_day_does_not_grow():
    """It did: by a log handler each time, and by rows that a session in a circle of references held."""
    with simulated() as (sim, broker):
        for _ in range(50):
            sim.execute("U1", "AAPL", "BUY", 1)
        seen = []
        for _ in range(4):
            broker.capture(None, 5)
            assert eventually(lambda: sim.clients == ())
            seen.append(_alive())
    grown = seen[3] - seen[1]
    del grown["Counter"], grown["Request"]  # our own, and what the simulated broker keeps of what it was asked
    assert not grown


def _alive() -> Counter[str]:
    gc.collect()
    return Counter(type(each).__qualname__ for each in gc.get_objects())


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


SPEAKING = """
import gc, logging, sys
from position_pipeline.brokers import BrokerUnavailable
from position_pipeline.brokers.ibkr import IbkrBroker
logging.basicConfig(level=logging.INFO)
def said(port, timeout):
    try:
        return [str(each.status) for each in IbkrBroker(port=int(port)).capture(None, timeout).snapshots]
    except BrokerUnavailable:
        return "unavailable"
said(sys.argv[1], 10)  # importing the library takes its time
for port in sys.argv[1:]:
    for _ in range(2):
        print(said(port, 0.8))
        gc.collect()
"""
SAID = {
    "mute": "['complete', 'complete']",  # nothing goes wrong
    "garble:positions:row=1": "['partial', 'complete']",
    "empty:positions": "['rejected', 'rejected']",
    "hang:positions": "unavailable",
    "hang:handshake": "unavailable",
    "drop:positions:after=2": "unavailable",
    "reset:account-updates:after=2": "unavailable",
    "garbage-length:positions:row=2": "unavailable",
    "client-id-taken": "unavailable",
    "refuse": "unavailable",
}


def test_it_says_nothing_on_the_terminal():
    """No log line of the library, no `Task was destroyed`, no `exception was never retrieved`; asyncio in debug mode."""
    with ExitStack() as running:
        sims = [running.enter_context(simulated(SMALL, fault))[0] for fault in SAID]
        program = [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", "-c", SPEAKING, *(str(sim.port) for sim in sims)]
        ran = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [said for said in SAID.values() for _ in range(2)]


def test_two_accounts_of_500_positions_take_well_under_half_a_second():
    with simulated(many_positions()) as (_, broker):
        broker.capture(None, 5)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            capture = broker.capture(None, 5)
            times.append(time.perf_counter() - began)
    assert [len(snapshot.holdings) for snapshot in capture.snapshots] == [500, 500]
    assert min(times) < 0.5


def test_the_time_grows_with_the_number_of_positions_and_not_with_its_square():
    def seconds(positions: int) -> float:
        with simulated(many_positions(1, positions)) as (_, broker):
            broker.capture(None, 20)
            return min(_timed(lambda: broker.capture(None, 20)) for _ in range(2))

    assert seconds(4000) < 8 * seconds(1000) + 0.2


def _timed(action) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def test_the_accounts_of_a_login_that_sees_fifty_are_all_read():
    accounts = tuple(replace(SMALL.accounts[0], id=f"U{n}") for n in range(50))
    with simulated(replace(SMALL, accounts=accounts)) as (_, broker):
        capture = broker.capture(None, 15)
    assert [snapshot.status for snapshot in capture.snapshots] == [SnapshotStatus.COMPLETE] * 50
