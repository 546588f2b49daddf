"""Time and memory: events at their moments, and a simulator that goes on where it was, however it ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from position_pipeline.simulator import (
    Account,
    BookError,
    Event,
    Opening,
    Rounds,
    Scenario,
    Simulator,
    StateError,
    default_scenario,
)

from .conftest import AAPL, NOON
from .raw_client import RawClient

Start = Callable[..., Simulator]
D = Decimal

SERVE = """
import sys
from position_pipeline.simulator import default_scenario, serve
serve(default_scenario(), port=0, state_file=sys.argv[1], speed=float(sys.argv[2]), executions_since="week",
      on_ready=lambda port: print(port, flush=True))
"""


def everything(broker: Simulator) -> dict[str, Any]:
    """All that a client could read."""
    accounts = ("U1000001", "U1000002")
    return {
        "holdings": [broker.holdings(account) for account in accounts],
        "executions": broker.executions(),
        "values": [broker.account_values(account) for account in accounts],
        "prices": [broker.price(one.con_id) for one in default_scenario().instruments],
    }


def rounds_of(*events: Event, every: int = 60) -> Scenario:
    account = Account("U1", positions=(Opening(AAPL.con_id, D(100), D(180)),))
    return Scenario((AAPL,), (account,), rounds=Rounds(D(10), D(every), events))


def fill_at(at: int, side: str, quantity: int, **details: Any) -> Event:
    return Event(D(at), account="U1", con_id=AAPL.con_id, side=side, quantity=D(quantity), **details)


def test_an_event_is_stamped_with_its_own_moment(start: Start) -> None:
    broker = start(default_scenario())
    broker.advance(100)
    moments = [fill.time - NOON for fill in broker.executions()]
    assert moments == [timedelta(seconds=20), timedelta(seconds=45), timedelta(seconds=75)]


def test_rounds_come_again_for_ever_with_ids_that_carry_the_round(start: Start) -> None:
    broker = start(rounds_of(fill_at(0, "BUY", 5), fill_at(30, "SELL", 5)))
    broker.advance(3 * 60 + 9)  # three whole rounds: 10, 40, 70, 100, 130, 160
    ids = [fill.exec_id for fill in broker.executions()]
    assert ids == [f"00010001.{n:08x}.{k:02d}.01" for n in (1, 2, 3) for k in (1, 2)]
    assert broker.holdings("U1")[AAPL.con_id][0] == 100


def test_the_same_scenario_plays_the_same_way(start: Start) -> None:
    told = []
    for step in (400, 7):
        broker = start(default_scenario())
        for _ in range(0, 1400, step):
            broker.advance(min(step, 1400))
        broker.advance(0)
        told.append([fill.exec_id for fill in broker.executions()][:20])
    assert told[0] == told[1]


def test_a_corrected_and_a_busted_fill_can_be_played(start: Start) -> None:
    broker = start(
        rounds_of(
            fill_at(0, "BUY", 5, name="first", late_commission=True),
            Event(D(5), type="correction", of="first", quantity=D(6)),
            fill_at(10, "BUY", 1, name="second"),
            Event(D(15), type="bust", of="second"),
        )
    )
    broker.advance(30)
    versions = [(fill.exec_id[-5:], fill.quantity) for fill in broker.executions()]
    assert versions == [("01.01", 5), ("01.02", 6), ("03.01", 1), ("03.02", 0)]
    assert broker.holdings("U1")[AAPL.con_id][0] == 106


def test_the_demo_stays_bounded_for_a_working_day(start: Start) -> None:
    broker = start(default_scenario())
    broker.advance(3000)
    after_the_split = {con_id: quantity for con_id, (quantity, _) in broker.holdings("U1000001").items()}
    broker.advance(32 * 900)  # 32 rounds of 15 minutes
    assert {con_id: quantity for con_id, (quantity, _) in broker.holdings("U1000001").items()} == after_the_split
    for one in default_scenario().instruments:
        before = one.price / 10 if one.symbol == "NVDA" else one.price
        assert D("0.5") < broker.price(one.con_id) / before < 2


def test_a_restart_goes_on_where_it_was(start: Start, tmp_path: Path) -> None:
    whole = start(default_scenario())
    whole.advance(900)
    first = start(default_scenario(), state_file=tmp_path / "state.json")
    first.advance(333)
    before = everything(first)
    first.stop()
    second = start(default_scenario(), state_file=tmp_path / "state.json", starts_at=NOON + timedelta(hours=9))
    assert everything(second) == before
    second.advance(567)
    assert second.holdings("U1000001") == whole.holdings("U1000001")
    assert [fill.exec_id for fill in second.executions()] == [fill.exec_id for fill in whole.executions()]
    assert [fill.price for fill in second.executions()] == [fill.price for fill in whole.executions()]


def test_what_was_done_by_hand_survives_too(start: Start, tmp_path: Path) -> None:
    options = {"state_file": tmp_path / "state.json"}
    first = start(default_scenario(), **options)
    kept = first.execute("U1000001", "AAPL", "BUY", 10, "230.10", commission=None)
    first.split("AAPL", 2)
    first.correct(first.execute("U1000002", "KO", "SELL", 5, "60"), price="61")
    before = everything(first)
    first.stop()
    second = start(default_scenario(), **options)
    assert everything(second) == before
    second.send_commission(kept)
    assert second.execute("U1000001", "AAPL", "BUY", 1, "100") not in {fill.exec_id for fill in before["executions"]}


def test_a_state_file_of_something_else_is_refused(start: Start, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    start(default_scenario(), state_file=state).stop()
    with pytest.raises(StateError, match="belongs to the scenario 'demo'"):
        start(rounds_of(fill_at(0, "BUY", 1)), state_file=state)
    state.write_text('{"version": 1, "elap')
    with pytest.raises(StateError, match="cannot read the simulator's state file"):
        start(default_scenario(), state_file=state)
    state.write_text(json.dumps({"version": 99}))
    with pytest.raises(StateError, match="not a state file of this version"):
        start(default_scenario(), state_file=state)


def test_a_position_is_listed_with_zero_the_day_it_was_closed_only_when_asked(start: Start) -> None:
    broker = start(rounds_of(fill_at(0, "SELL", 100)))
    broker.advance(20)
    with RawClient(broker.port) as client:
        assert len(client.ready().ask(61, 1, end=62)) == 1
        broker.inject("zero-row")
        row, _ = client.ask(61, 1, end=62)
        assert row[-2:] == ["0", "0"]


class Process:
    """`serve` in a process of its own."""

    def __init__(self, state: Path, speed: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(state), str(speed)],
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def executions(self) -> list[list[str]]:
        with RawClient(self.port) as client:
            rows = client.ready().ask(7, 3, 5, 0, "", "", "", "", "", "", end=55)
        return [fields for fields in rows if fields[0] == "11"]

    def positions(self) -> list[list[str]]:
        with RawClient(self.port) as client:
            return client.ready().ask(61, 1, end=62)

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        code = self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def test_a_program_ends_cleanly_on_sigterm_and_goes_on_after_kill_9(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    ends = []
    seen: list[list[list[str]]] = []
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        one = Process(state, speed=400)
        with RawClient(one.port, client_id=0) as client:
            client.ready().until(11)  # at 400 times the speed a trade is never far
        seen.append(one.executions())
        ends.append(one.end(how))
    assert ends == [-signal.SIGKILL, 0, 0]
    for earlier, later in pairwise(seen):
        assert later[: len(earlier)] == earlier  # the same ids, the same times
        assert len(later) > len(earlier)
    assert not list(tmp_path.glob(".*.new"))


def test_time_does_not_pass_while_it_is_stopped(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    one = Process(state, speed=0)
    held = one.positions()
    assert one.end(signal.SIGTERM) == 0
    assert D(json.loads(state.read_text())["elapsed"]) == 0
    again = Process(state, speed=0)
    assert again.positions() == held
    again.end(signal.SIGTERM)


def test_a_kill_in_the_middle_of_saving_leaves_the_old_file(start: Start, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    first = start(default_scenario(), state_file=state)
    first.advance(60)
    before = everything(first)
    first.stop()
    (tmp_path / ".state.json.new").write_text('{"version": 1, "scen')  # what a kill while writing leaves
    assert everything(start(default_scenario(), state_file=state)) == before


def test_fills_that_no_request_can_list_any_more_become_part_of_what_is_held(start: Start) -> None:
    broker = start(rounds_of(fill_at(0, "BUY", 5), fill_at(30, "SELL", 4), every=3600 * 6))
    for _ in range(10):
        broker.advance(24 * 3600)
    listed = broker.executions()
    assert 8 * 8 <= len(listed) <= 8 * 8 + 8  # eight fills a day, and eight days of them
    assert broker.holdings("U1")[AAPL.con_id][0] == 100 + 4 * 10


def test_what_the_book_does_not_allow_is_said(start: Start) -> None:
    broker = start(rounds_of(fill_at(0, "BUY", 5)))
    for wrong, message in (
        (lambda: broker.execute("U9", "AAPL", "BUY", 1, "230"), "no account 'U9'; there are U1"),
        (lambda: broker.execute("U1", "AAPL", "BUY", 0, "230"), "quantity must be above zero"),
        (lambda: broker.execute("U1", "AAPL", "HOLD", 1, "230"), "side must be BUY or SELL"),
        (lambda: broker.correct("a.b.01.01", quantity=1), "no execution 'a.b.01.01'"),
        (lambda: broker.holdings("U9"), "no account 'U9'"),
    ):
        with pytest.raises(BookError, match=message):
            wrong()
    with pytest.raises(KeyError, match="no instrument 'XYZ'"):
        broker.execute("U1", "XYZ", "BUY", 1, "230")
    with pytest.raises(TypeError, match="not as float"):
        broker.execute("U1", "AAPL", "BUY", 1, 230.1)  # type: ignore[arg-type]


def test_a_fill_is_saved_before_anybody_is_told_of_it(start: Start, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    soon = Scenario((AAPL,), (Account("U1"),), (fill_at(1, "BUY", 5),), price_every=D(0))
    broker = start(soon, state_file=state, speed=2)
    with RawClient(broker.port, client_id=0) as client:
        told = client.until(11)[-1]
        assert told[14] in state.read_text()
