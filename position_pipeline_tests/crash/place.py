"""A broker and a database that should agree, with a listener of this process between them.

Belongs here: what the tests of faults share. Does not belong here: what must hold (checking.py), the running product (world.py).
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from position_pipeline.brokers.ibkr_pacing import Pace
from position_pipeline.store.embedded_host import command
from position_pipeline_tests.crash import checking
from position_pipeline_tests.crash.trading import Trading
from position_pipeline_tests.test_listener import Database, eventually, listening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from position_pipeline.simulator import Simulator

linux = pytest.mark.skipif(sys.platform != "linux", reason="finds and limits processes by /proc and prlimit")
OFTEN = Pace(heartbeat=0.3, deadline=0.5, poll=0.5)
PATIENCE = 40


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

    def all_reported(self) -> bool:
        """Whether every commission has come from the broker: one that comes a moment from now would be missing a moment from now."""
        return all(one.reported for one in self.broker.executions())

    def assert_right(self) -> None:
        """All of it, once everything that was missed has been made up for."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not (self.all_reported() and self.agrees() and self.whole()):
            time.sleep(0.05)
        assert self.book.whole(), (self.book.stream(), self.book.gaps())
        wrong = checking.fills(self) + checking.positions(self) + checking.book(self)
        assert not wrong, wrong
        eventually(lambda: not checking.locks(self), "nobody holds an account")


def trading(place: Place, seed: str) -> Trading:
    return Trading(place.broker, Random(seed))


@contextmanager
def hearing(place: Place, client_id: int = 0) -> Iterator[None]:
    """A listener in a thread of this process, which has heard everything until now."""
    with listening(place.url, place.broker, client_id, pace=OFTEN):
        eventually(place.whole)
        yield


def server_processes(home: Path, but: tuple[str, ...] = ()) -> set[int]:
    """The postmaster and all of its processes, `but` those of some titles."""
    postmaster = int((home / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    titles = {pid: command(pid) for pid in map(int, children)}  # empty where it has ended meanwhile
    return {postmaster, *(pid for pid, title in titles.items() if title and not any(part in title for part in but))}
