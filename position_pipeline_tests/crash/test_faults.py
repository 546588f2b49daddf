"""Faults around the listener, one at a time, with real sockets, real processes and a real PostgreSQL, while fills stream in.

After each: every fill of the broker is in `executions` exactly once, positions equal the broker's, the identity is 0, the book is what its
entries make, and no account's lock is held. Kills are in test_rounds.py. Where a line below names no test of this file, it was shown already.

    fault                      shown by
    the broker hangs           [hang] here; a capture: brokers/test_ibkr_faults (positions, values, executions, handshake that never come),
                               test_sync (a gateway that hangs is told within the deadline)
    drops mid-list             [drops] here; each list of a capture: brokers/test_ibkr_faults (dropped midway)
    half-open                  test_listener (open at our end only); a capture: brokers/test_ibkr_faults (ends with the deadline)
    refuses                    test_listener (down at the start), the nightly reset here; brokers/test_ibkr_faults (nothing listens)
    garbage                    [garbage] here; brokers/test_ibkr_stream (bytes that are no protocol), test_ibkr_faults (garbled rows)
    resets at night            here; a lost link alone: test_listener (1100, 1101, 2110)
    answers late               [late] here
    repeats                    [repeats] here
    reorders                   [reorders] here; a commission before its execution: brokers/test_ibkr_stream
    PostgreSQL's disk is full  here, twice: a table that cannot grow, and a log that cannot be written; an attempt that fails:
                               test_listener_recording
    the clock steps            here, twice: ours and PostgreSQL's
    two listeners at once      here, where no lock keeps them apart; test_listener (the second exits with 75, or stands by)
    PostgreSQL is killed       test_rounds; test_listener; store/test_embedded
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from position_pipeline import settings
from position_pipeline.brokers.ibkr_conversation import Pace
from position_pipeline.listener import Listener
from position_pipeline.simulator import Simulator, load_scenario
from position_pipeline.store import embedded, upgrade
from position_pipeline_tests.crash import checking
from position_pipeline_tests.crash.trading import Trading
from position_pipeline_tests.crash.world import SCENARIO
from position_pipeline_tests.test_listener import Database, Process, Quick, _soon, eventually, listening

if TYPE_CHECKING:
    from collections.abc import Iterator

OFTEN = Pace(heartbeat=0.3, deadline=0.5, poll=0.5)
PATIENCE = 40

__all__ = ["_soon"]


@dataclass
class Place:
    """A broker and a database that should agree, for `checking`."""

    broker: Simulator
    url: str

    @property
    def book(self) -> Database:
        return Database(self.url)

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.book.rows(sql, **values)]

    def agrees(self) -> bool:
        """Whether every fill is in the book, and positions are right; a PostgreSQL that is away has neither."""
        try:
            return not (checking.fills(self) or checking.positions(self))
        except psycopg2.OperationalError:
            return False

    def assert_right(self) -> None:
        """All of it, once everything that was missed has been made up for."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not (self.agrees() and self.book.whole()):
            time.sleep(0.05)
        assert self.book.whole(), (self.book.stream(), self.book.gaps())
        assert not (checking.fills(self) + checking.positions(self) + checking.book(self))
        eventually(lambda: not checking.locks(self), "nobody holds an account")


@pytest.fixture
def broker() -> Iterator[Simulator]:
    with Simulator(load_scenario(SCENARIO), speed=1, executions_since="week") as running:
        yield running


@pytest.fixture
def place(broker, database) -> Place:
    return Place(broker, database)


def trading(place: Place, seed: str) -> Trading:
    return Trading(place.broker, Random(seed))


# -- the broker


FAULTS = {
    "hangs": ("hang:positions", "hang:executions"),
    "drops": ("drop:positions:after=1", "drop:executions:after=3", "reset:account-updates:after=1"),
    "garbage": ("garbage-length:executions:row=2", "garble:positions:row=1"),
    "late": ("delay:executions:seconds=0.3", "delay:positions:seconds=0.2", "late-commission:seconds=1"),
    "repeats": ("duplicate-row:executions:row=1", "duplicate-row:positions:row=1:stale=1"),
    "reorders": ("wrong-order", "early-commission"),
}


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("client_id", [0, 17], ids=["pushed", "asked-for"])
def test_a_broker_that(what, client_id, place):
    with listening(place.url, place.broker, client_id, pace=OFTEN), trading(place, what) as traded:
        eventually(place.book.whole)
        for fault in FAULTS[what]:
            place.broker.inject(fault)
            place.broker.disconnect_clients("reset")
            met = len(place.broker.requests) + 4
            eventually(lambda met=met: len(place.broker.requests) > met, "it connects again and meets the fault")
            traded.wait_for(10)
            place.broker.heal()
        eventually(lambda: len(place.book.executions()) > 10)
        traded.stop()
        place.assert_right()


def test_a_nightly_reset_takes_the_link_then_the_socket_then_the_port_and_gives_all_back(place):
    with listening(place.url, place.broker, pace=OFTEN), trading(place, "night") as traded:
        eventually(place.book.whole)
        place.broker.inject("1100")
        eventually(lambda: place.book.stream()["state"] == "link_lost")
        place.broker.inject("refuse")
        place.broker.disconnect_clients("close")
        eventually(lambda: place.book.stream()["state"] == "waiting")
        eventually(lambda: "refused" in place.book.stream()["detail"])
        place.broker.heal()
        traded.stop()
        place.assert_right()
        assert len(place.book.gaps()) == 2, "the night is one gap"


# -- two at once


@contextmanager
def listening_as(name: str, place: Place) -> Iterator[None]:
    """A second listener, for which the same gateway is another connection."""
    given = settings.load({"DATABASE_URL": place.url, "POSITION_SYNC_BROKER_TIMEOUT": "3"})
    made = Quick(name=name, host=place.broker.host, port=place.broker.port, client_id=30)
    made.pace = OFTEN
    listener = Listener(given, stand_by=False, report_to="", finds={name: lambda: made})
    thread = threading.Thread(target=listener.run)
    thread.start()
    try:
        yield
    finally:
        listener.house.stop.set()
        thread.join(PATIENCE)


def test_two_listeners_that_no_lock_keeps_apart_book_each_fill_once(place):
    """Two names for one gateway: the mistake is in the settings, and the book bears it."""
    with (
        listening(place.url, place.broker, 0, pace=OFTEN),
        listening_as("the same again", place),
        trading(place, "two") as traded,
    ):
        eventually(lambda: {row["state"] for row in place.book.rows("SELECT state FROM streams")} == {"connected"})
        eventually(lambda: traded.fills > 30)
        traded.stop()
        eventually(place.agrees, "the book is the broker's", PATIENCE)
        assert not checking.book(place)
    assert not checking.locks(place)


# -- the disk


@contextmanager
def full_disk(pids: set[int], size: int) -> Iterator[None]:
    """No file of these processes grows beyond `size` bytes: what the kernel answers is what it answers where the disk is full."""
    before = {}
    try:
        for pid in pids:
            before[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[pid][1]))
    except PermissionError:
        _unlimited(before)
        pytest.skip("this user may not set limits of PostgreSQL's processes (prlimit)")
    try:
        yield
    finally:
        _unlimited(before)


def _unlimited(before: dict[int, tuple[int, int]]) -> None:
    for pid, limits in before.items():
        try:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        except ProcessLookupError:
            continue  # it has ended meanwhile


def _server(home: Path) -> set[int]:
    """The postmaster and all of its processes."""
    postmaster = int((home / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return {postmaster, *map(int, children)}


linux = pytest.mark.skipif(sys.platform != "linux", reason="limits the processes of PostgreSQL by prlimit")


@linux
def test_a_table_that_cannot_grow_keeps_fills_waiting_and_loses_none(broker, tmp_path):
    with embedded.running(tmp_path) as url:
        upgrade(url)
        place = Place(broker, url)
        with Process(url, broker, tmp_path) as listener:
            eventually(place.book.whole)
            with trading(place, "table") as traded:
                eventually(lambda: len(place.book.executions()) > 10)
                grown = place.book.one("SELECT pg_relation_size('executions') AS size")["size"]
                place.book.rows("SELECT 1 FROM pg_switch_wal()")
                backends = {row["pid"] for row in place.book.rows("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")}
                with full_disk(backends, grown):
                    traded.wait_for(200)
                    log = (tmp_path / "postgres" / "server.log").read_text()
                    assert "File too large" in log
                traded.stop()
            place.assert_right()
            assert listener.stop() == 0


@linux
def test_a_log_that_cannot_be_written_ends_the_server_again_and_again_and_loses_no_fill(broker, tmp_path):
    """PostgreSQL ends itself where it cannot write its log, and cannot start while the disk is full. Nobody helps but by making room."""
    home = tmp_path / "home"
    with embedded.running(home) as url:
        upgrade(url)
    place = Place(broker, "")
    with Process("", broker, home) as listener:
        place.url = eventually(lambda: embedded.url(home))
        eventually(place.book.whole)
        with trading(place, "log") as traded:
            eventually(lambda: len(place.book.executions()) > 10)
            with full_disk({listener.process.pid, *_server(home)}, 0):
                eventually(lambda: embedded.url(home) is None, "PostgreSQL ends itself")
                traded.wait_for(40)
                assert listener.process.poll() is None
            traded.stop()
        place.url = eventually(lambda: embedded.url(home), "PostgreSQL is started again", PATIENCE)
        place.assert_right()
        assert listener.stop() == 0


# -- the clock
