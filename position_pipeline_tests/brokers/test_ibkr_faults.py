"""The IBKR adapter against a broker that misbehaves: every silent fault has a test that names it, every failure says what to do.

"Silent fault n" is a way in which the library gives wrong data without an error; they were all reproduced with it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from position_pipeline.accounting.model import SnapshotStatus
from position_pipeline.brokers import BrokerUnavailable
from position_pipeline.brokers.ibkr import IbkrBroker, _Attempt, _Wedged
from position_pipeline.simulator import Simulator
from position_pipeline_tests.brokers.test_ibkr import MORNING, SMALL, eventually

COMPLETE, PARTIAL, REJECTED = SnapshotStatus.COMPLETE, SnapshotStatus.PARTIAL, SnapshotStatus.REJECTED


@contextmanager
def simulated(*faults, scenario=SMALL, **options):
    with Simulator(scenario, faults=faults, speed=0, starts_at=MORNING, **options) as sim:
        yield sim, IbkrBroker(host=sim.host, port=sim.port)


def unavailable(broker, timeout=0.6) -> str:
    """The words of a capture that fails, which it must do within its time."""
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught:
        broker.capture(None, timeout)
    assert time.monotonic() - began < timeout + 0.7
    assert caught.value.remedy
    assert str(caught.value).startswith(broker.where + ": ")
    assert str(caught.value).isprintable()
    return str(caught.value)


def captured(*faults, timeout=2.0, accounts=None, before=None):
    """Snapshots by account, and the capture."""
    with simulated(*faults) as (sim, broker):
        if before:
            before(sim)
        began = time.monotonic()
        capture = broker.capture(accounts, timeout)
        assert time.monotonic() - began < timeout + 0.7
        assert eventually(lambda: sim.clients == ())
        return {each.account: each for each in capture.snapshots}, capture


# -- lists that do not come, or not whole


def test_positions_that_never_come_are_no_empty_list():
    """Silent fault 1: the library connects and shows no positions."""
    with simulated("hang:positions") as (sim, broker):
        said = unavailable(broker)
        assert "no complete answer within 0.6 s: the positions list was outstanding." in said
        assert "Restart TWS or Gateway" in said
        assert eventually(lambda: sim.clients == ())


def test_account_values_that_never_come_reject_the_account_and_leave_time_for_the_others():
    """Silent fault 2: the library shows 0 account values and 0 portfolio rows."""
    shots, _ = captured("hang:account-updates:account=U1")
    assert (shots["U1"].status, shots["U2"].status) == (REJECTED, COMPLETE)
    assert shots["U1"].reason.startswith("U1: no account values came in time.")


def test_a_positions_list_without_its_end_proves_nothing():
    """Silent fault 3: the library takes whatever rows came."""
    with simulated("missing-end:positions") as (_, broker):
        assert "the positions list was outstanding (6 rows had come)." in unavailable(broker)


def test_a_positions_list_that_ends_early_is_contradicted_by_the_portfolio():
    """Silent fault 4: for the library it is a true list."""
    shots, _ = captured("truncate:positions:after=2")
    assert (shots["U1"].status, shots["U2"].status) == (REJECTED, REJECTED)
    assert "U1: its two lists contradict each other, the positions list has 2 holdings, the portfolio list 4" in shots["U1"].reason
    assert "the positions list has 0 holdings, the portfolio list 2" in shots["U2"].reason
    assert "Sync again" in shots["U1"].reason


def test_lists_that_contradict_each_other_once_are_asked_for_again():
    shots, _ = captured("truncate:positions:after=2:times=1")
    assert [(shot.status, len(shot.holdings)) for shot in shots.values()] == [(COMPLETE, 4), (COMPLETE, 2)]


def test_when_asking_again_is_not_answered_the_contradiction_stands_and_the_others_are_proven():
    with (
        simulated("truncate:positions:after=1:account=U2:times=1", "delay:executions:seconds=0.2") as (sim, broker),
        during(broker, sim, 7, 0.8) as running,
    ):
        sim.inject("hang:positions")
        shots = {each.account: each for each in running.result().snapshots}
    assert (shots["U1"].status, shots["U2"].status) == (COMPLETE, REJECTED)
    assert "U2: its two lists contradict each other" in shots["U2"].reason


def test_a_trade_after_the_executions_are_in_is_for_the_next_capture():
    """Else the holdings would be ahead of the fills while a commission is waited for."""
    with simulated() as (sim, broker):
        sim.execute("U1", "AAPL", "BUY", 1, commission=None)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(broker.capture, None, 5)
            assert eventually(lambda: len([each for each in sim.requests if each.message_id == 7]) == 2)
            time.sleep(0.1)
            sim.execute("U1", "AAPL", "BUY", 5)
            capture = running.result()
    held = {each.instrument: each.quantity for each in capture.snapshots[0].holdings}
    assert held["ibkr:265598"] == 100 + sum(fill.quantity for fill in capture.fills) == 101


def test_lists_that_are_both_cut_short_are_contradicted_by_the_accounts_own_total():
    with simulated() as (sim, _):
        values = len(sim.account_values("U1"))
    cut = f"truncate:account-updates:after={values + 1 + 2}:account=U1"  # the values, the time, two portfolio rows
    shots, _ = captured("truncate:positions:after=2:account=U1", cut)
    assert shots["U1"].status is REJECTED
    assert "the 2 listed holdings are worth 40000 USD, but the account reports positions worth" in shots["U1"].reason


@pytest.mark.parametrize("faults", [["empty:positions"], ["empty:positions", "linked-account"]])
def test_an_empty_list_does_not_mean_that_everything_was_sold(faults):
    shots, capture = captured(*faults)
    assert [shot.status for shot in shots.values()] == [REJECTED, REJECTED]
    assert all("contradict each other" in shot.reason or "list is empty" in shot.reason for shot in shots.values())
    assert capture.instruments == ()


def test_a_garbled_row_leaves_its_instrument_unread_and_the_others_right():
    """Silent fault 5: the library logs it and goes on with one position less."""
    shots, capture = captured("garble:positions:row=3")
    assert (shots["U1"].status, shots["U2"].status) == (PARTIAL, COMPLETE)
    assert shots["U1"].errors == {"ESZ7": "its position could not be read: 15 fields instead of 16"}
    assert shots["U1"].unread == {"ibkr:649180678"}
    assert len(shots["U1"].holdings) == 3
    assert [(row.account, row.symbol) for row in capture.refused] == [("U1", "ESZ7")]


def test_a_garbled_portfolio_row_leaves_its_instrument_unread():
    shots, _ = captured("garble:account-updates:symbol=SAP")
    assert (shots["U1"].status, shots["U2"].status, shots["U2"].unread) == (COMPLETE, PARTIAL, {"ibkr:14204"})


def test_a_garbled_account_value_rejects_its_account():
    shots, _ = captured("garble:account-updates:row=2:account=U2")
    assert (shots["U1"].status, shots["U2"].status) == (COMPLETE, REJECTED)
    assert "one account value could not be read" in shots["U2"].reason


@pytest.mark.parametrize("how", ["drop", "reset"])
@pytest.mark.parametrize(
    ("target", "phase"),
    [("positions", "the positions list"), ("account-updates", "the account values of U1"), ("executions", "the executions of U1, U2")],
)
def test_a_connection_that_is_dropped_midway_is_no_account_without_positions(how, target, phase):
    """Silent fault 6: the library wipes its state, and positions() returns an empty list."""
    with simulated(f"{how}:{target}:after=2") as (_, broker):
        said = unavailable(broker, 5)
    assert "the connection was dropped" in said
    assert f"while {phase} was outstanding." in said


def test_a_position_that_the_list_leaves_out_without_a_zero_row_is_a_contradiction():
    """Silent fault 8: the list of the library is a merge, or lacks it."""
    shots, _ = captured("omit:positions:symbol=SAP")
    assert (shots["U1"].status, shots["U2"].status) == (COMPLETE, REJECTED)
    assert "SAP none and -20" in shots["U2"].reason


def test_zero_rows_and_repeated_rows_are_no_holdings():
    """Silent fault 9: the library returns every row that it received."""
    shots, _ = captured("zero-row", "duplicate-row:positions:row=1:stale=1")
    assert [(shot.status, len(shot.holdings)) for shot in shots.values()] == [(COMPLETE, 4), (COMPLETE, 2)]
    assert shots["U1"].holdings[0].quantity == 100


@pytest.mark.parametrize("target", ["positions", "account-updates", "executions"])
def test_a_stream_that_is_out_of_step_is_not_waited_for(target):
    """Silent fault 11: ib_async connected with 1 of 5 positions."""
    with simulated(f"garbage-length:{target}:row=1") as (sim, broker):
        sim.execute("U1", "AAPL", "BUY", 1)
        began = time.monotonic()
        assert "garbage on the wire while" in unavailable(broker, 10)
        assert time.monotonic() - began < 2


def test_a_refused_positions_list_is_no_empty_list():
    """Silent fault 12: an error ends a request of the library with an empty list."""
    with simulated("error:positions:code=321") as (_, broker):
        assert "the positions list was refused (321 refused on purpose)" in unavailable(broker, 5)


@pytest.mark.parametrize("target", ["account-updates:code=321", "executions:code=321", "executions:code=162"])
def test_a_refused_request_rejects_the_account_at_once(target):
    """Silent fault 12; ib_async takes 321 for a warning and waits for ever."""
    shots, _ = captured(f"error:{target}:account=U2", timeout=5)
    assert (shots["U1"].status, shots["U2"].status) == (COMPLETE, REJECTED)
    assert "U2: the gateway refused a request:" in shots["U2"].reason


def test_an_execution_in_an_unknown_zone_is_not_lost_without_a_word():
    """Silent fault 13: 0 of 3 fills, and connected."""
    shots, capture = captured("unknown-zone", before=lambda sim: [sim.execute("U1", "AAPL", "BUY", n) for n in (1, 2, 3)])
    assert (shots["U1"].status, shots["U2"].status) == (PARTIAL, COMPLETE)
    assert shots["U1"].unread == {"ibkr:265598"}
    assert capture.fills == ()
    assert [(row.account, row.symbol) for row in capture.refused] == [("U1", "AAPL")] * 3
    assert "the time zone 'US/Nowhere' is not known on this machine" in capture.refused[0].reason


def test_a_time_without_a_zone_is_taken_in_the_zone_that_was_set():
    """The simulator lives in New York: 15:00 UTC stands there as 10:00."""
    with simulated("no-zone") as (sim, broker):
        sim.execute("U1", "AAPL", "BUY", 1)
        assert broker.capture(None, 2).fills[0].time == MORNING.replace(hour=10)
        eastern = IbkrBroker(host=sim.host, port=sim.port, time_zone="US/Eastern")
        assert eastern.capture(None, 2).fills[0].time == MORNING


def test_the_utc_form_of_a_time_is_utc():
    shots, capture = captured("utc-form", before=lambda sim: sim.execute("U1", "AAPL", "BUY", 1))
    assert capture.fills[0].time == MORNING
    assert shots["U1"].status is COMPLETE


def test_executions_that_never_come_reject_the_account():
    """Without them its holdings would differ from the book for want of a fill."""
    shots, _ = captured("hang:executions:account=U2", timeout=0.8)
    assert (shots["U1"].status, shots["U2"].status) == (COMPLETE, REJECTED)
    assert "U2: the list of today's executions did not end in time." in shots["U2"].reason


def test_a_linked_account_is_proven_by_positions_and_values_without_prices():
    shots, _ = captured("linked-account")
    assert [shot.status for shot in shots.values()] == [COMPLETE, COMPLETE]
    assert shots["U1"].holdings[0].market_price is None
    assert shots["U1"].values


def test_account_values_without_their_end_are_waited_for_only_while_something_comes():
    began = time.monotonic()
    shots, _ = captured("missing-end:account-updates:account=U2", timeout=10)
    assert [shot.status for shot in shots.values()] == [COMPLETE, COMPLETE]
    assert time.monotonic() - began < 2.5


def test_frames_in_odd_pieces_make_no_difference():
    shots, capture = captured("slow:chunk=7", timeout=5, before=lambda sim: sim.execute("U1", "AAPL", "BUY", 1))
    assert [shot.status for shot in shots.values()] == [COMPLETE, COMPLETE]
    assert len(capture.fills) == 1


def test_a_commission_that_never_comes_delays_little():
    began = time.monotonic()
    _, capture = captured("no-commission", before=lambda sim: sim.execute("U1", "AAPL", "BUY", 1))
    assert capture.fills[0].commission is None
    assert time.monotonic() - began < 1.5


# -- accounts


def test_an_account_that_is_not_there_is_named_with_those_that_are():
    shots, _ = captured(accounts=["U1", "DU777"])
    assert (shots["U1"].status, shots["DU777"].status) == (COMPLETE, REJECTED)
    assert shots["DU777"].reason.startswith("DU777: this login has no such account; it has U1, U2. Correct the account's name")


def test_more_than_fifty_accounts_are_a_clear_stop():
    with simulated("many-accounts:count=60") as (_, broker):
        said = unavailable(broker, 5)
    assert "this login has 60 accounts; IBKR lists positions only for logins with up to 50." in said


# -- the connection


def test_a_port_where_nothing_listens_is_said_at_once():
    with simulated("refuse") as (_, broker):
        said = unavailable(broker, 5)
    assert "nothing listens there (connection refused). Start TWS or IB Gateway" in said
    assert "4001 Gateway live, 4002 Gateway paper, 7496 TWS live, 7497 TWS paper" in said


def test_a_wrong_host_name_is_said_as_such():
    said = unavailable(IbkrBroker(host="gateway.invalid", port=4002), 10)
    assert "the host name 'gateway.invalid' is not known" in said
    assert "Correct the host name." in said


def test_a_port_that_no_computer_has_is_no_stack_trace():
    assert "Interactive Brokers at 127.0.0.1:99999" in unavailable(IbkrBroker(port=99999), 5)


@pytest.mark.parametrize("fault", ["silent", "hang:handshake"])
def test_an_unanswered_handshake_points_to_the_screen_of_the_gateway(fault):
    with simulated(fault) as (_, broker):
        said = unavailable(broker)
    assert "the connection was accepted, but the handshake was not answered within 0.6 s." in said
    assert "Trusted IPs" in said


def test_a_taken_client_id_is_noticed_at_once_and_the_next_one_is_used():
    with simulated("client-id-taken:client=17") as (sim, broker):
        began = time.monotonic()
        assert [shot.status for shot in broker.capture(None, 10).snapshots] == [COMPLETE, COMPLETE]
        assert time.monotonic() - began < 2
        assert {request.client_id for request in sim.requests} == {18}


def test_when_all_client_ids_are_taken_the_ids_are_named():
    with simulated("client-id-taken") as (_, broker):
        said = unavailable(broker, 10)
    assert "the client ids 17 to 20 are all in use (error 326)." in said
    assert "POSITION_SYNC_IBKR_CLIENT_ID" in said


def test_the_old_client_id_that_lingers_after_a_restart_is_no_obstacle():
    with simulated("lingering-id") as (sim, broker):
        for _ in range(3):
            assert broker.capture(None, 5).snapshots[0].status is COMPLETE
        assert [request.client_id for request in sim.requests if request.message_id == 61] == [17, 18, 19]


@contextmanager
def during(broker, sim, message_id=61, timeout=5.0):
    """A capture that is waiting for the answer to a request."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(broker.capture, None, timeout)
        assert eventually(lambda: any(request.message_id == message_id for request in sim.requests))
        yield running


@pytest.mark.parametrize("code", [1100, 1101, 1102, 2110])
def test_a_lost_link_during_a_capture_ends_it_at_once(code):
    with simulated("hang:positions") as (sim, broker), during(broker, sim) as running:
        began = time.monotonic()
        sim.notify(code)
        with pytest.raises(BrokerUnavailable, match=f"its link to IBKR.*{code}.*wait until the link stands") as caught:
            running.result()
        assert time.monotonic() - began < 1
        assert "nothing that it lists can be relied on" in str(caught.value)


def test_news_about_market_data_farms_disturb_nothing():
    with simulated("delay:positions:seconds=0.2") as (sim, broker), during(broker, sim) as running:
        for code in (2103, 2104, 2107, 2108, 2158):
            sim.notify(code)
        assert [shot.status for shot in running.result().snapshots] == [COMPLETE, COMPLETE]


def test_a_half_open_connection_ends_with_the_deadline():
    with simulated("hang:positions") as (sim, broker), during(broker, sim, timeout=0.6) as running:
        sim.inject("half-open")
        with pytest.raises(BrokerUnavailable, match="the positions list was outstanding"):
            running.result()


def test_after_every_failure_the_next_capture_works():
    with simulated() as (sim, broker):
        for fault in ("hang:positions", "drop:positions:after=1", "garbage-length:positions:row=1", "silent", "refuse"):
            sim.inject(fault)
            unavailable(broker, 0.3)
            sim.heal()
            capture = broker.capture(None, 5)
            assert [shot.status for shot in capture.snapshots] == [COMPLETE, COMPLETE]
        assert {request.client_id for request in sim.requests} == {17}


# -- what is no gateway at all


@contextmanager
def answering(reply: bytes, *, then_close=True):
    """Something that listens, says `reply` to whoever speaks to it, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            try:
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(reply)
                        while not then_close and connection.recv(4096):
                            pass
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield IbkrBroker(port=server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join(2)


def message(*fields: object) -> bytes:
    text = "".join(f"{field}\0" for field in fields).encode()
    return len(text).to_bytes(4, "big") + text


def test_a_web_server_on_that_port_is_recognised():
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as broker:
        said = unavailable(broker, 5)
    assert "what answers there does not speak the TWS protocol" in said
    assert "Another program may be listening there" in said


@pytest.mark.parametrize(
    "reply", [b"\x00\x00\x00\x03abc", message("v", "w"), message(9), message("\xff" * 10, "x", "y"), b"\x00\x00\x00\x00"]
)
def test_bytes_that_make_no_greeting_are_garbage(reply):
    with answering(reply, then_close=False) as broker:
        assert "does not speak the TWS protocol" in unavailable(broker, 5)


def test_a_gateway_that_closes_at_once_may_not_trust_this_computer():
    with answering(b"") as broker:
        said = unavailable(broker, 5)
    assert "the connection was accepted and then closed" in said
    assert "before the API was ready" in said
    assert "Trusted IPs" in said


def test_a_gateway_of_long_ago_is_told_from_a_broken_one():
    with answering(message(100, "20261120 15:00:00 EST"), then_close=False) as broker:
        assert "TWS or Gateway is too old: it speaks protocol version 100" in unavailable(broker, 5)


def test_text_of_a_gateway_cannot_write_on_the_terminal():
    greeting = message(176, "20261120 15:00:00 EST") + message(4, 2, -1, 502, "\x1b[2J\x07cleared\r\n" + "x" * 5000, "")
    with answering(greeting, then_close=False) as broker:
        said = unavailable(broker, 0.5)
    assert "the gateway said: 502 [2J cleared xxx" in said
    assert len(said) < 700


# -- the thread


def test_a_loop_that_is_wedged_does_not_hang_its_caller():
    release = threading.Event()

    async def wedged():
        release.wait(5)

    began = time.monotonic()
    attempt = _Attempt(wedged)
    try:
        with pytest.raises(_Wedged):
            attempt.result(0.1)
        assert time.monotonic() - began < 1.5
    finally:
        release.set()


def test_a_caller_that_is_interrupted_leaves_no_thread_behind():
    class Interrupted(Exception):
        pass

    async def endless():
        await asyncio.sleep(30)

    attempt = _Attempt(endless)
    attempt._thread.join = _raise_once(Interrupted, attempt._thread.join)
    with pytest.raises(Interrupted):
        attempt.result(10)
    assert not attempt._thread.is_alive()


def _raise_once(error, then):
    calls = []

    def join(timeout=None):
        calls.append(timeout)
        if len(calls) == 1:
            time.sleep(0.05)
            raise error
        then(timeout)

    return join
