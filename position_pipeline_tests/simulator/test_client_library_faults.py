"""Each fault as the library sees it: what raises, and what is silently wrong.

The libraries differ in a few places; where they do, the test says how.
"""

import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest

from position_pipeline.simulator import Simulator, many_positions

from .conftest import AAPL, KO
from .ib_library import IS_IB_ASYNC, library, until, until_alone

Connect = Callable[..., Any]
Start = Callable[..., Simulator]
SHORT = 0.3


def codes_of(ib: Any) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    ib.errorEvent += lambda request_id, code, *rest: told.append((request_id, code))
    return told


def test_hung_positions_connect_anyway_with_nothing(start: Start, connect: Connect) -> None:
    ib = connect(start(faults=["hang:positions"]), timeout=SHORT)
    assert ib.isConnected()
    assert ib.positions() == []


def test_hung_account_updates_connect_anyway_without_portfolio(start: Start, connect: Connect) -> None:
    broker = start(faults=["hang:account-updates", "hang:account-updates-multi"])
    ib = connect(broker, timeout=SHORT, account="U1")
    assert ib.isConnected()
    assert (ib.portfolio(), ib.accountValues()) == ([], [])


def test_a_hang_may_concern_one_account(start: Start, connect: Connect) -> None:
    ib = connect(start(faults=["hang:account-updates-multi:account=U2"]), timeout=SHORT)
    assert {value.account for value in ib.accountValues()} == {"U1"}


def test_a_missing_end_gives_the_rows_after_the_timeout(start: Start, connect: Connect) -> None:
    ib = connect(start(faults=["missing-end:positions"]), timeout=SHORT)
    assert len(ib.positions()) == 5


def test_an_early_end_looks_like_a_true_list(start: Start, connect: Connect) -> None:
    ib = connect(start(faults=["truncate:positions:after=2"]))
    assert len(ib.reqPositions()) == 2


def test_an_early_end_for_one_account_leaves_the_other_whole(start: Start, connect: Connect) -> None:
    ib = connect(start(faults=["truncate:positions:after=1:account=U1"]))
    assert [p.account for p in ib.positions()] == ["U1", "U2"]


def test_an_empty_list_looks_like_everything_was_sold(start: Start, connect: Connect) -> None:
    ib = connect(start(faults=["empty:positions"]), account="U1")
    assert ib.reqPositions() == []
    gross = next(value.value for value in ib.accountValues("U1") if value.tag == "GrossPositionValue")
    assert float(gross) > 0  # the contradiction a reader can see


def test_an_undecodable_row_vanishes_with_an_error_in_the_log(start: Start, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        ib = connect(start(faults=["garble:positions:row=3"]))
    assert len(ib.positions()) == 4
    assert any(record.name.endswith(".Decoder") for record in caplog.records)


def test_a_garbage_length_puts_the_stream_out_of_step(start: Start, connect: Connect) -> None:
    broker = start(faults=["garbage-length:positions:row=2"])
    if IS_IB_ASYNC:
        assert len(connect(broker, timeout=SHORT).positions()) == 1
    else:
        with pytest.raises(TimeoutError):
            connect(broker, timeout=SHORT)


@pytest.mark.parametrize("how", ["drop", "reset"])
def test_a_drop_in_the_middle_of_a_snapshot_raises_and_wipes_everything(broker: Simulator, connect: Connect, how: str) -> None:
    ib = connect(broker)
    assert len(ib.positions()) == 5
    broker.inject(f"{how}:positions:after=2")
    with pytest.raises(ConnectionError):
        ib.reqPositions()
    assert not ib.isConnected()
    assert ib.positions() == []


def test_clients_can_be_dropped_between_requests(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    gone: list[bool] = []
    ib.disconnectedEvent += lambda: gone.append(True)
    broker.disconnect_clients()
    with pytest.raises(ConnectionError):
        until(ib, lambda: gone)
    assert ib.positions() == []
    assert broker.clients == ()


def test_a_duplicate_row_is_returned_twice_and_kept_once(start: Start, connect: Connect) -> None:
    ib = connect(start(faults=["duplicate-row:positions:row=2:stale=1"]))
    rows = [row.position for row in ib.reqPositions() if row.contract.conId == KO.con_id]
    assert rows == [-41, -40]
    assert [p.position for p in ib.positions() if p.contract.conId == KO.con_id] == [-40]


def test_a_zero_row_is_returned_and_not_kept(start: Start, connect: Connect) -> None:
    broker = start(faults=["zero-row"])
    broker.execute("U1", "KO", "BUY", 40, "60")
    ib = connect(broker)
    assert [row.position for row in ib.reqPositions() if row.contract.conId == KO.con_id] == [0]
    assert KO.con_id not in {p.contract.conId for p in ib.positions()}


def test_a_position_that_is_no_longer_listed_stays_in_the_clients_merge(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    broker.inject("omit:positions:symbol=KO")
    assert KO.con_id not in {row.contract.conId for row in ib.reqPositions()}
    assert KO.con_id in {row.contract.conId for row in ib.positions()}


def test_a_position_closed_while_away_is_a_ghost_for_a_client_that_reconnects(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    ib.disconnect()
    broker.execute("U1", "KO", "BUY", 40, "60")
    until_alone(broker)
    ib.connect(broker.host, broker.port, clientId=1, timeout=5, readonly=True)
    ghosts = KO.con_id in {row.contract.conId for row in ib.positions()}
    assert ghosts is not IS_IB_ASYNC  # ib_async clears its state on its own disconnect


def test_hung_executions_raise_in_one_library_and_not_in_the_other(start: Start, connect: Connect) -> None:
    broker = start(faults=["hang:executions"])
    if IS_IB_ASYNC:
        assert connect(broker, timeout=SHORT).fills() == []
    else:
        with pytest.raises(TimeoutError):
            connect(broker, timeout=SHORT)


@pytest.mark.parametrize("fault", ["silent", "hang:handshake"])
def test_an_unfinished_handshake_times_out(start: Start, connect: Connect, fault: str) -> None:
    broker = start(faults=[fault])
    with pytest.raises(TimeoutError):
        connect(broker, timeout=SHORT)


def test_a_refused_port_opens_again_when_healed(start: Start, connect: Connect) -> None:
    broker = start(faults=["refuse"])
    with pytest.raises(ConnectionRefusedError):
        connect(broker)
    port = broker.port
    broker.heal()
    assert broker.port == port
    ib = connect(broker)
    broker.inject("refuse")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((broker.host, broker.port))
    assert len(ib.reqPositions()) == 5  # what stands, stays


def test_a_half_open_connection_looks_connected_and_answers_nothing(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    ib.RequestTimeout = SHORT
    broker.inject("half-open")
    with pytest.raises(TimeoutError):
        ib.reqCurrentTime()
    assert ib.isConnected()
    broker.heal()
    assert ib.reqCurrentTime()


def test_a_taken_client_id_is_told_by_326_and_then_silence(start: Start, connect: Connect) -> None:
    broker = start(faults=["client-id-taken:client=1:times=1"])
    ib = library.IB()
    told = codes_of(ib)
    with pytest.raises(TimeoutError):
        ib.connect(broker.host, broker.port, clientId=1, timeout=SHORT)
    assert told == [(-1, 326)]
    assert connect(broker, clientId=1).isConnected()


def test_the_id_of_a_client_that_has_gone_may_linger(start: Start, connect: Connect) -> None:
    broker = start(faults=["lingering-id"])
    connect(broker, clientId=8).disconnect()
    until_alone(broker)
    with pytest.raises(TimeoutError):
        connect(broker, clientId=8, timeout=SHORT)
    broker.heal()
    assert connect(broker, clientId=8).isConnected()


def test_a_linked_account_has_values_and_no_portfolio(start: Start, connect: Connect) -> None:
    ib = connect(start(faults=["linked-account:account=U1"]), account="U1")
    assert ib.accountValues("U1")
    assert ib.portfolio() == []
    assert len(ib.positions("U1")) == 4


def test_more_accounts_than_the_library_syncs_have_no_values(start: Start, connect: Connect) -> None:
    ib = connect(start(faults=["many-accounts:count=60"]))
    assert len(ib.managedAccounts()) == 60
    assert ib.accountValues() == []
    assert len({row.account for row in ib.accountSummary()}) == 60


def test_an_unknown_zone_loses_every_execution_silently(start: Start, connect: Connect) -> None:
    broker = start(faults=["unknown-zone"])
    broker.execute("U1", "AAPL", "BUY", 1, "230")
    ib = connect(broker)
    assert ib.isConnected()
    assert ib.fills() == []


@pytest.mark.parametrize(("fault", "zone", "hour"), [("no-zone", "US/Eastern", 17), ("utc-form", "UTC", 17), ("no-zone", "UTC", 12)])
def test_a_time_without_a_zone_is_read_in_the_zone_the_client_assumes(start: Start, fault: str, zone: str, hour: int) -> None:
    broker = start(faults=[fault])
    broker.execute("U1", "AAPL", "BUY", 1, "230")
    ib = library.IB()
    ib.TimezoneTWS = zone
    ib.connect(broker.host, broker.port, clientId=2, timeout=5, readonly=True)
    assert ib.fills()[0].execution.time.hour == hour
    ib.disconnect()


def test_late_commissions_come_after_their_seconds(start: Start, connect: Connect) -> None:
    broker = start(faults=["late-commission:seconds=30"])
    ib = connect(broker, clientId=0)
    broker.execute("U1", "AAPL", "BUY", 1, "230")
    until(ib, ib.fills)
    broker.advance(29)
    ib.reqPositions()
    assert ib.fills()[0].commissionReport.execId == ""
    broker.advance(1)
    until(ib, lambda: ib.fills()[0].commissionReport.execId)


def test_late_commissions_are_sent_when_healed(start: Start, connect: Connect) -> None:
    broker = start(faults=["late-commission"])
    ib = connect(broker, clientId=0)
    broker.execute("U1", "AAPL", "BUY", 1, "230")
    until(ib, ib.fills)
    assert ib.fills()[0].commissionReport.execId == ""
    broker.heal()
    until(ib, lambda: ib.fills()[0].commissionReport.execId)


def test_no_commission_ever_comes(start: Start, connect: Connect) -> None:
    broker = start(faults=["no-commission"])
    broker.execute("U1", "AAPL", "BUY", 1, "230")
    assert [fill.commissionReport.execId for fill in connect(broker).fills()] == [""]


def test_an_early_commission_is_lost_for_good_until_a_new_connection(start: Start, connect: Connect) -> None:
    broker = start(faults=["early-commission"])
    ib = connect(broker, clientId=0)
    broker.execute("U1", "AAPL", "BUY", 1, "230")
    until(ib, ib.fills)
    ib.reqPositions()
    assert ib.fills()[0].commissionReport.execId == ""
    broker.heal()
    assert connect(broker, clientId=2).fills()[0].commissionReport.execId


def test_executions_may_come_newest_first_and_their_commissions_after_the_end(start: Start, connect: Connect) -> None:
    broker = start(faults=["wrong-order"])
    made = [broker.execute("U1", "AAPL", "BUY", 1, "230") for _ in range(3)]
    ib = connect(broker)
    assert [fill.execution.execId for fill in ib.fills()] == made[::-1]
    until(ib, lambda: all(fill.commissionReport.execId for fill in ib.fills()))


def test_the_same_fill_may_be_listed_under_two_ids(start: Start, connect: Connect) -> None:
    broker = start(faults=["second-id"])
    exec_id = broker.execute("U1", "AAPL", "BUY", 1, "230")
    ids = [fill.execution.execId for fill in connect(broker).fills()]
    assert ids == [exec_id, "f" + exec_id[1:]]


def test_an_execution_row_may_be_garbled(start: Start, connect: Connect) -> None:
    broker = start(faults=["garble:executions:row=1"])
    broker.execute("U1", "AAPL", "BUY", 1, "230")
    second = broker.execute("U1", "AAPL", "BUY", 1, "230")
    assert [fill.execution.execId for fill in connect(broker).fills()] == [second]


def test_a_request_error_ends_a_request_with_nothing_or_raises(start: Start, connect: Connect) -> None:
    ib = connect(start(faults=["error:history:code=162"]))
    stock = library.Stock("AAPL", "SMART", "USD")
    assert list(ib.reqHistoricalData(stock, "", "5 D", "1 day", "TRADES", True)) == []
    ib.RaiseRequestErrors = True
    with pytest.raises(Exception, match="162"):
        ib.reqHistoricalData(stock, "", "5 D", "1 day", "TRADES", True)


def test_an_answer_may_be_delayed(start: Start, connect: Connect) -> None:
    broker = start(faults=["delay:positions:seconds=0.5:times=1"])
    ib = connect(broker, timeout=SHORT)
    assert ib.positions() == []
    until(ib, lambda: len(ib.positions()) == 5)


def test_frames_in_odd_chunks_change_nothing(start: Start, connect: Connect) -> None:
    broker = start(faults=["slow:chunk=7"])
    ib = connect(broker, account="U1")
    assert (len(ib.positions()), len(ib.portfolio())) == (5, 4)


def test_mute_tells_no_change_and_snapshots_stay_right(start: Start, connect: Connect) -> None:
    ib = connect(start(faults=["mute"]), clientId=0)
    broker_rows = {row.contract.conId: row.position for row in ib.reqPositions()}
    assert broker_rows[AAPL.con_id] == 100


def test_a_lost_link_hides_fills_that_are_not_told_later(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker, clientId=0)
    told = codes_of(ib)
    broker.inject("1100")
    exec_id = broker.execute("U1", "AAPL", "BUY", 10, "230")
    broker.heal()
    until(ib, lambda: len(told) == 2)
    assert told == [(-1, 1100), (-1, 1102)]
    assert ib.isConnected()
    assert ib.fills() == []
    assert [p.position for p in ib.positions("U1") if p.contract.conId == AAPL.con_id] == [100]
    assert [fill.execution.execId for fill in ib.reqExecutions()] == [exec_id]


def test_a_lost_link_may_come_back_with_data_lost(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker)
    told = codes_of(ib)
    broker.inject("1101")
    broker.heal()
    broker.notify(1300)
    until(ib, lambda: len(told) == 3)
    assert told == [(-1, 1100), (-1, 1101), (-1, 1300)]


def test_a_night_restart_is_a_close_a_refused_port_and_a_lingering_id(broker: Simulator, connect: Connect) -> None:
    ib = connect(broker, clientId=3)
    broker.inject("lingering-id")
    broker.inject("refuse")
    broker.disconnect_clients()
    with pytest.raises(ConnectionError):
        until(ib, lambda: not ib.isConnected())
    with pytest.raises(ConnectionRefusedError):
        connect(broker, clientId=3)
    until_alone(broker)
    broker.heal()
    assert len(connect(broker, clientId=3).positions()) == 5


def test_more_executions_than_the_timeout_allows(start: Start, connect: Connect) -> None:
    broker = start(many_positions(2, 50, executions=10_000))
    broker.advance(1)
    if IS_IB_ASYNC:
        assert len(connect(broker, timeout=SHORT).fills()) < 10_000  # connected, and silently partial
    else:
        with pytest.raises(TimeoutError):
            connect(broker, timeout=SHORT)
