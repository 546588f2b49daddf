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

import json
import os
import shutil
import signal
import subprocess
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

from position_pipeline import listener_hearing, settings, supervision
from position_pipeline.brokers.ibkr_conversation import Pace
from position_pipeline.brokers.ibkr_fills import identity
from position_pipeline.listener import Listener
from position_pipeline.listener_errands import Backoff
from position_pipeline.simulator import Simulator, load_scenario
from position_pipeline.store import embedded, upgrade
from position_pipeline_tests.crash import checking
from position_pipeline_tests.crash.trading import Trading
from position_pipeline_tests.crash.world import SCENARIO
from position_pipeline_tests.test_listener import Database, Process, Quick, _soon, eventually, listening

if TYPE_CHECKING:
    from collections.abc import Iterator

linux = pytest.mark.skipif(sys.platform != "linux", reason="finds and limits processes by /proc and prlimit")
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

    def whole(self) -> bool:
        """Whether the stream hears and no gap is open; of a PostgreSQL that is away nothing is known."""
        try:
            return self.book.whole()
        except psycopg2.OperationalError:
            return False

    def assert_right(self) -> None:
        """All of it, once everything that was missed has been made up for."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not (self.agrees() and self.whole()):
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


@pytest.fixture(autouse=True)
def _again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is refused tries again within half a second, however often."""
    monkeypatch.setattr(listener_hearing, "Backoff", lambda least, most: Backoff(least / 5, min(most, 0.5)))


def trading(place: Place, seed: str) -> Trading:
    return Trading(place.broker, Random(seed))


@contextmanager
def hearing(place: Place, client_id: int = 0) -> Iterator[None]:
    """A listener in a thread of this process, which has heard everything until now."""
    with listening(place.url, place.broker, client_id, pace=OFTEN):
        eventually(place.whole)
        yield


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
def test_a_broker_that(what, place):
    """Every other one of a gateway that does not push fills to us."""
    client_id = 17 * (list(FAULTS).index(what) % 2)
    with hearing(place, client_id), trading(place, what) as traded:
        for fault in FAULTS[what]:
            place.broker.inject(fault)
            traded.wait_for(3)
            place.broker.disconnect_clients("reset")
            met = len(place.broker.requests) + 4
            eventually(lambda met=met: len(place.broker.requests) > met, "it connects again and meets the fault")
            traded.wait_for(10)
            place.broker.heal()
        traded.stop()
        place.assert_right()


def test_a_nightly_reset_takes_the_link_then_the_socket_then_the_port_and_gives_all_back(place):
    with hearing(place), trading(place, "night") as traded:
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
    with hearing(place), listening_as("the same again", place), trading(place, "two") as traded:
        eventually(lambda: [row["state"] for row in place.book.rows("SELECT state FROM streams")] == ["connected"] * 2)
        traded.wait_for(30)
        traded.stop()
        eventually(place.agrees, "the book is the broker's", PATIENCE)
        assert not checking.book(place)
    assert not checking.locks(place)


# -- PostgreSQL is killed


@linux
def test_up_starts_postgresql_again_and_is_told_where_another_one_took_its_port(tmp_path):
    """Nobody else opens the store here. What holds Dagster's processes up meanwhile is a process that sleeps."""
    given = settings.load({"POSITION_SYNC_HOME": str(tmp_path)})
    with embedded.running(tmp_path) as url, subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as supervisord:
        found: list[str | None] = []
        watching = threading.Thread(target=lambda: found.append(supervision._watch(given, supervisord, url)))
        watching.start()
        try:
            os.kill(min(_server(tmp_path)), signal.SIGKILL)
            eventually(lambda: embedded.url(tmp_path) is None)
            assert eventually(lambda: embedded.url(tmp_path)) == url
            with embedded.running(tmp_path):
                assert found == []  # whoever started it is through with that

            (tmp_path / "postgres" / "port").write_text("0")
            os.kill(min(_server(tmp_path)), signal.SIGKILL)
            assert eventually(lambda: found) == [embedded.url(tmp_path)] != [url]
        finally:
            supervisord.kill()
            watching.join(PATIENCE)


# -- the disk


@contextmanager
def full_disk(pids: set[int], size: int) -> Iterator[None]:
    """No file of these processes grows beyond `size` bytes: what the kernel answers is nearly what it answers where the disk is full."""
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit (util-linux) is not installed, which limits another user's process")
    refused = [_limit(pid, str(size)) for pid in pids]
    try:
        if any(refused):
            pytest.skip(f"this user may not limit PostgreSQL's processes: {refused}")
        yield
    finally:
        for pid in pids:
            _limit(pid, "unlimited")


def _limit(pid: int, size: str) -> str:
    """Set the soft limit, by the user whose process it is: even root may not do it for others everywhere. Why it was refused, if it was."""
    try:
        owner = Path(f"/proc/{pid}").stat()
    except FileNotFoundError:
        return ""  # it has ended meanwhile
    as_owner: dict[str, Any] = {} if owner.st_uid == os.geteuid() else {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    done = subprocess.run(["prlimit", f"--pid={pid}", f"--fsize={size}:"], capture_output=True, text=True, cwd="/", **as_owner)
    return done.stderr if done.returncode and Path(f"/proc/{pid}").exists() else ""


def _server(home: Path, but: tuple[str, ...] = ()) -> set[int]:
    """The postmaster and all of its processes, `but` those of some titles."""
    postmaster = int((home / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    titles = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in map(int, children)}
    return {postmaster, *(pid for pid, title in titles.items() if not any(part in title for part in but))}


SEGMENT = 16 << 20
"""Bytes of a file of PostgreSQL's log, which is written from its beginning to its end."""


def larger_than_the_log(place: Place) -> int:
    """The size of `executions`, made larger than what of the log's newest file is written: what limits the one leaves the other room.

    Rows that were there and are gone leave their pages behind, as long as nobody vacuums.
    """
    ours = place.book
    with psycopg2.connect(place.url) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE executions SET (autovacuum_enabled = false)")
    while True:
        with psycopg2.connect(place.url) as connection, connection.cursor() as cursor:
            cursor.execute(PADDING)
            cursor.execute("DELETE FROM executions WHERE execution_id LIKE 'padding-%'")
        (found,) = ours.rows("SELECT pg_relation_size('executions') AS size, pg_current_wal_lsn() - '0/0' AS log")
        if found["size"] > found["log"] % SEGMENT + (2 << 20):
            return found["size"]


PADDING = """
INSERT INTO executions (account, execution_id, revision, instrument, side, quantity, price, multiplier, currency, time, source)
SELECT account, 'padding-' || n, 1, instrument, side, quantity, price, multiplier, currency, time, source
FROM (SELECT * FROM executions ORDER BY id LIMIT 1) AS one, generate_series(1, 3000) AS n
"""


@linux
def test_a_table_that_cannot_grow_keeps_fills_waiting_and_loses_none(broker, tmp_path):
    with embedded.running(tmp_path) as url:
        upgrade(url)
        place = Place(broker, url)
        with Process(url, broker, tmp_path) as listener:
            eventually(place.whole)
            with trading(place, "table") as traded:
                eventually(lambda: len(place.book.executions()) > 10)
                size = larger_than_the_log(place)
                with full_disk(_server(tmp_path, but=("checkpointer", "walwriter", "background writer")), size):
                    eventually(lambda: "File too large" in (tmp_path / "postgres" / "server.log").read_text(), "the table is full")
                    traded.wait_for(20)
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
        eventually(place.whole)
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

STEPPED = """
import datetime, os, time

real, real_time, file = datetime.datetime, time.time, os.environ["STEPPED_CLOCK"]

def step():
    with open(file) as said:
        return float(said.read() or 0)

class Anything(type(real)):
    def __instancecheck__(cls, value):
        return isinstance(value, real)

class Stepped(real, metaclass=Anything):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) + datetime.timedelta(seconds=step())

datetime.datetime = Stepped
time.time = lambda: real_time() + step()
"""
"""Read by Python as `sitecustomize` before anything else: a clock that steps when a number is written to a file. `monotonic` goes on as it
does when somebody sets a clock."""

HOUR = 3600
AHEAD = "SELECT extract(epoch FROM last_heard_at - clock_timestamp()) / 3600 AS hours FROM streams"


def test_our_clock_that_steps_forth_and_back_loses_no_fill(place, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(STEPPED)
    step = tmp_path / "step"
    step.write_text("0")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("STEPPED_CLOCK", str(step))
    with Process(place.url, place.broker, tmp_path) as listener:
        eventually(place.whole)
        with trading(place, "clock") as traded:
            for hours in (3, -2, 1):
                step.write_text(str(hours * HOUR))
                eventually(lambda hours=hours: round(place.book.one(AHEAD)["hours"]) == hours, "the listener's clock has stepped")
                place.broker.disconnect_clients("reset")
                traded.wait_for(20)
            synced = subprocess.run(
                [sys.executable, "-m", "position_pipeline.cli", "sync", "--json"], env=listener.environ, capture_output=True, timeout=60
            )
        assert {each["outcome"] for each in json.loads(synced.stdout)} <= {"synced", "unchanged", "rejected", "already_running"}
        place.assert_right()
        assert listener.stop() == 0


SHIFT = """
CREATE SCHEMA shifted;
CREATE TABLE shifted.step AS SELECT interval '0' AS by;
CREATE FUNCTION shifted.now() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT pg_catalog.now() + by FROM shifted.step';
CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.clock_timestamp() + by FROM shifted.step';
DO $$
DECLARE c record;
BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = shifted, public, pg_catalog', current_database());
    FOR c IN SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' AND column_default = 'now()' LOOP
        EXECUTE format('ALTER TABLE public.%I ALTER %I SET DEFAULT shifted.now()', c.table_name, c.column_name);
    END LOOP;
END $$;
"""
"""PostgreSQL's clock cannot be set for one database; what its sessions and defaults find under the names of it can."""


def test_a_clock_of_postgresql_that_steps_forth_and_back_loses_no_fill(place):
    with psycopg2.connect(place.url) as connection, connection.cursor() as cursor:
        cursor.execute(SHIFT)
    with hearing(place), trading(place, "database clock") as traded:
        closing = ""
        for hours in (3, -2):
            with psycopg2.connect(place.url) as connection, connection.cursor() as cursor:
                cursor.execute("UPDATE shifted.step SET by = make_interval(hours => %s)", [hours])
            place.broker.disconnect_clients("reset")
            traded.wait_for(30)
            if closing:
                place.broker.correct(closing, quantity=20)  # what was believed three hours ahead is believed no more
            place.broker.execute("U1", "KO", "BUY", 500)
            closing = place.broker.execute("U1", "KO", "SELL", 30)
            eventually(lambda ours=closing: place.book.rows("SELECT 1 FROM closes WHERE execution_id = %(id)s", id=identity(ours)[0]))
        traded.stop()
        place.assert_right()
    recorded = "SELECT min(recorded_at - pg_catalog.now()) < '-1 h' AND max(recorded_at - pg_catalog.now()) > '1 h' AS both FROM executions"
    assert place.book.one(recorded)["both"], "the clock has stepped for what was recorded"
