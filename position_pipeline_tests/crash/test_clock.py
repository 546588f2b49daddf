"""A clock steps forth and back while fills stream in: ours, and PostgreSQL's. What must hold: test_faults.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psycopg2
import pytest

from position_pipeline.brokers.ibkr_fills import identity
from position_pipeline_tests.crash.place import hearing, trading
from position_pipeline_tests.test_listener import Process, eventually

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


@pytest.fixture
def step(tmp_path, monkeypatch):
    """A file whose number of seconds the clocks of all processes started from now on are ahead."""
    (tmp_path / "sitecustomize.py").write_text(STEPPED)
    file = tmp_path / "step"
    file.write_text("0")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("STEPPED_CLOCK", str(file))
    return file


def synced(listener: Process) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "position_pipeline.cli", "sync", "--json"]
    return json.loads(subprocess.run(command, env=listener.environ, capture_output=True, timeout=60, check=False).stdout)


@pytest.mark.parametrize("hours", [26, -26])
def test_fills_after_first_contact_by_a_wrong_clock_are_no_part_of_what_was_held_before(place, tmp_path, step, hours):
    """By a clock that is a day ahead, every fill of that day is of before the first answer."""
    step.write_text(str(hours * HOUR))
    place.broker.execute("U1", "KO", "BUY", 70)
    with Process(place.url, place.broker, tmp_path) as listener:
        eventually(place.whole)
        with trading(place, "wrong clock") as traded:
            traded.wait_for(20)
            step.write_text("0")  # somebody sets it right
            place.broker.disconnect_clients("reset")
            traded.wait_for(20)
        place.assert_right()
        assert {each["outcome"] for each in synced(listener)} <= {"synced", "unchanged"}
        assert place.rows("SELECT evidence FROM breaks WHERE status = 'open'") == []
        assert listener.stop() == 0


def test_our_clock_that_steps_forth_and_back_loses_no_fill(place, tmp_path, step):
    with Process(place.url, place.broker, tmp_path) as listener:
        eventually(place.whole)
        with trading(place, "clock") as traded:
            for hours in (3, -2, 1):
                step.write_text(str(hours * HOUR))
                eventually(lambda hours=hours: round(place.book.one(AHEAD)["hours"]) == hours, "the listener's clock has stepped")
                place.broker.disconnect_clients("reset")
                traded.wait_for(20)
            outcomes = {each["outcome"] for each in synced(listener)}
        assert outcomes <= {"synced", "unchanged", "rejected", "already_running"}
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
