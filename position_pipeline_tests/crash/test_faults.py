"""Faults around the listener, one at a time, with real sockets, real processes and a real PostgreSQL, while fills stream in.

After each: every fill of the broker is in `executions` exactly once, positions equal the broker's, the identity is 0, the book is what its
entries make, and no account's lock is held. Kills are in test_rounds.py. Where a line below names no test of this folder, it was shown already.

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
    PostgreSQL's disk is full  test_disk, twice: a table that cannot grow, and a log that cannot be written; an attempt that fails:
                               test_listener_recording
    the clock steps            test_clock, twice: ours and PostgreSQL's
    two listeners at once      here, where no lock keeps them apart; test_listener (the second exits with 75, or stands by)
    PostgreSQL is killed       test_rounds; test_listener; store/test_embedded
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from position_pipeline import settings, supervision
from position_pipeline.listener import Listener
from position_pipeline.store import embedded
from position_pipeline_tests.crash import checking
from position_pipeline_tests.crash.place import OFTEN, PATIENCE, Place, hearing, linux, server_processes, trading
from position_pipeline_tests.test_listener import Quick, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    eventually(lambda: not checking.locks(place), "nobody holds anything")


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
            os.kill(min(server_processes(tmp_path)), signal.SIGKILL)
            eventually(lambda: embedded.url(tmp_path) is None)
            assert eventually(lambda: embedded.url(tmp_path)) == url
            with embedded.running(tmp_path):
                assert found == []  # whoever started it is through with that

            (tmp_path / "postgres" / "port").write_text("0")
            os.kill(min(server_processes(tmp_path)), signal.SIGKILL)
            assert eventually(lambda: found) == [embedded.url(tmp_path)] != [url]
        finally:
            supervisord.kill()
            watching.join(PATIENCE)
