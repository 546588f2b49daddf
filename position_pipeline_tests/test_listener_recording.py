"""What becomes of fills that cannot be recorded at once, or at all; and how long is waited before the next attempt."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime

import psycopg2
import pytest

from position_pipeline import listener_errands, settings
from position_pipeline.brokers import News
from position_pipeline.listener_errands import Backoff, House
from position_pipeline.listener_recording import Recording
from position_pipeline.listener_reports import Reports
from position_pipeline.store import DatabaseUnavailable, Store
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, KO, buy


class Stubborn:
    """A store that raises an error for the fills of one id, and keeps everything else."""

    def __init__(self, store: Store, bad: str, error: Exception) -> None:
        self._store, self._bad, self.error = store, bad, error

    def __getattr__(self, name):
        return getattr(self._store, name)

    def record(self, account, fills, adjustments=(), instruments=()):
        if self.error is not None and any(fill.execution_id == self._bad for fill in fills):
            raise self.error
        return self._store.record(account, fills, adjustments, instruments)


def recording(store, *fills) -> Recording:
    made = Recording("ibkr", House(settings.load({}), lambda: nullcontext(store), Reports()))
    made.add(News(datetime.now(UTC), whole=True, fills=fills, instruments=(AAPL, KO)))
    return made


THREE = (buy(AAPL, 1, 100, name="a"), buy(AAPL, 2, 100, name="bad", at=1), buy(KO, 3, 60, name="c", at=2))


def booked(store) -> set[str]:
    return {row["execution_id"] for row in store.read.executions()}


def test_fills_wait_while_a_lock_or_a_disk_keeps_them_out_and_are_recorded_afterwards(store):
    stubborn = Stubborn(store, "bad", psycopg2.errors.DiskFull("no space left"))
    waiting = recording(store, *THREE)
    waiting.record(stubborn)
    assert waiting.waiting
    assert waiting.trouble.left > 0
    assert booked(store) == set()
    stubborn.error = None
    waiting.record(stubborn)
    assert not waiting.waiting
    assert (waiting.recorded, booked(store)) == (3, {"a", "bad", "c"})


def test_fills_wait_while_postgresql_is_gone(store):
    stubborn = Stubborn(store, "bad", DatabaseUnavailable("gone"))
    waiting = recording(store, *THREE)
    with pytest.raises(DatabaseUnavailable):
        waiting.record(stubborn)
    stubborn.error = None
    waiting.record(stubborn)
    assert booked(store) == {"a", "bad", "c"}


def test_a_fill_that_can_never_be_recorded_is_kept_as_refused_and_the_others_are_recorded(store, database):
    waiting = recording(store, *THREE)
    waiting.record(Stubborn(store, "bad", psycopg2.errors.NumericValueOutOfRange("too large")))
    assert not waiting.waiting
    assert booked(store) == {"a", "c"}
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT account, symbol, reason FROM rejects")
        assert cursor.fetchall() == [(ACCOUNT, "AAPL", "bad: NumericValueOutOfRange: too large")]
    connection.close()


def test_each_failure_doubles_the_wait_up_to_a_most_and_success_ends_it(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(listener_errands, "monotonic", lambda: now[0])
    backoff, waits = Backoff(1, 10), []
    for _ in range(6):
        backoff.fail()
        waits.append(backoff.left)
    for wait, whole in zip(waits, (1, 2, 4, 8, 10, 10), strict=True):
        assert whole / 2 <= wait <= whole
    backoff.reset()
    assert backoff.left == 0
