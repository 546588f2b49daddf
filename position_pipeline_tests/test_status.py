"""Whether it runs and is fresh: the next run across the changes of summer time, with a scheduler and without one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg2
import pytest

from position_pipeline import status
from position_pipeline.settings import INTERVALS, load
from position_pipeline.status import next_run
from position_pipeline.store import Store

NEW_YORK = ZoneInfo("America/New_York")
NOW = datetime(2026, 11, 20, 15, 2, 30, tzinfo=UTC)


def utc(text):
    return datetime.fromisoformat(f"{text}+00:00")


# -- the next run


@pytest.mark.parametrize(
    ("interval", "now", "then"),
    [
        (300, "2026-11-20T15:02:30", "2026-11-20T15:05:00"),
        (300, "2026-11-20T15:05:00", "2026-11-20T15:10:00"),  # at a tick: the next one
        (300, "2026-11-20T15:04:59.999999", "2026-11-20T15:05:00"),
        (3600, "2026-11-20T15:02:30", "2026-11-20T16:00:00"),
        (21600, "2026-11-20T15:02:30", "2026-11-20T17:00:00"),  # 12:00 in New York, which is 5 hours behind
        (21600, "2026-07-20T15:02:30", "2026-07-20T16:00:00"),  # and 4 in summer
        (86400, "2026-11-20T15:02:30", "2026-11-21T05:00:00"),
        # 2026-03-08: the clocks go from 01:59:59 EST (06:59:59 UTC) to 03:00:00 EDT.
        (300, "2026-03-08T06:57:00", "2026-03-08T07:00:00"),
        (300, "2026-03-08T07:01:00", "2026-03-08T07:05:00"),
        (7200, "2026-03-08T05:30:00", "2026-03-08T07:00:00"),  # 02:00 is not there; 03:00 EDT is the same moment
        (7200, "2026-03-08T07:00:00", "2026-03-08T08:00:00"),  # 04:00 EDT
        (86400, "2026-03-08T05:00:00", "2026-03-09T04:00:00"),  # a day of 23 hours
        # 2026-11-01: the clocks go from 01:59:59 EDT (05:59:59 UTC) back to 01:00:00 EST.
        (300, "2026-11-01T05:58:00", "2026-11-01T06:00:00"),
        (300, "2026-11-01T06:31:00", "2026-11-01T06:35:00"),
        (3600, "2026-11-01T05:30:00", "2026-11-01T06:00:00"),  # 01:00 comes twice
        (3600, "2026-11-01T06:30:00", "2026-11-01T07:00:00"),
        (7200, "2026-11-01T04:30:00", "2026-11-01T07:00:00"),  # 02:00 EST
        (86400, "2026-11-01T04:00:00", "2026-11-02T05:00:00"),  # a day of 25 hours
    ],
)
def test_the_next_run_is_a_tick_of_new_yorks_clock(interval, now, then):
    assert next_run(utc(now), interval) == utc(then)


@pytest.mark.parametrize("day", ["2026-03-07", "2026-03-08", "2026-10-31", "2026-11-01", "2026-11-20"])
@pytest.mark.parametrize("interval", INTERVALS)
def test_the_next_run_is_always_later_and_at_a_multiple_of_the_interval(day, interval):
    start = utc(f"{day}T00:00:00")
    for step in range(0, 48 * 3600, 1777):
        now = start + timedelta(seconds=step)
        then = next_run(now, interval)
        assert now < then <= now + timedelta(seconds=interval + 3600)
        local = then.astimezone(NEW_YORK)
        past = local.hour * 3600 + local.minute * 60 + local.second
        # Where 02:00 is left out, its tick falls on 03:00.
        assert past % interval == 0 or (local.hour == 3 and 7200 % interval == 0)


def test_the_next_run_is_in_utc():
    assert next_run(NOW.astimezone(NEW_YORK), 300).utcoffset() == timedelta(0)


# -- with a scheduler and without


def beat(database, at):
    """Dagster's heartbeat of its scheduler, as the daemon writes it."""
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS dagster.daemon_heartbeats (daemon_type text, timestamp timestamp)")
        cursor.execute("INSERT INTO dagster.daemon_heartbeats VALUES ('SCHEDULER', %s)", (at.replace(tzinfo=None),))
    connection.close()


def test_a_living_scheduler_has_a_next_run(store, database):
    beat(database, NOW - timedelta(seconds=20))
    found = status.status(load({}), store, NOW)
    assert (found["scheduler_running"], found["next_run_time"]) == (True, utc("2026-11-20T15:05:00"))
    assert "Next sync: 2026-11-20 15:05:00 UTC (every 5 minutes, America/New_York time)." in status.lines(found)


@pytest.mark.parametrize("ago", [None, 121, 86400])
def test_without_a_living_scheduler_there_is_no_next_run(store, database, ago):
    if ago is not None:
        beat(database, NOW - timedelta(seconds=ago))
    found = status.status(load({}), store, NOW)
    assert (found["scheduler_running"], found["next_run_time"]) == (False, None)
    assert any(line.startswith("No scheduler is running: position-pipeline up starts one") for line in status.lines(found))


def test_switched_off_it_says_so_and_has_no_next_run(store, database):
    beat(database, NOW)
    found = status.status(load({"POSITION_SYNC_ENABLED": "false"}), store, NOW)
    assert (found["enabled"], found["next_run_time"]) == (False, None)
    assert "Scheduled syncs are off (POSITION_SYNC_ENABLED is false)." in status.lines(found)


@pytest.mark.parametrize(("seconds", "words"), [(60, "1 minute"), (300, "5 minutes"), (3600, "1 hour"), (86400, "24 hours")])
def test_the_schedule_is_told_in_words(store, seconds, words):
    found = status.status(load({"POSITION_SYNC_SYNC_INTERVAL": str(seconds)}), store, NOW)
    assert found["schedule"] == f"every {words}, America/New_York time"


def test_what_was_never_synced_says_so(store):
    found = status.status(load({}), store, NOW)
    assert (found["last_run_time"], found["last_result"], found["last_error"], found["accounts"]) == (None, None, None, [])
    assert (found["total_runs"], found["successful_runs"], found["failed_runs"], found["is_running"]) == (0, 0, 0, False)
    assert status.lines(found)[0] == "Never synced."


def test_rows_that_could_not_be_taken_are_mentioned(store):
    store.save_rejects([("U1", "KO", "row 3 has no price")], "ibkr")
    (line,) = [line for line in status.lines(status.status(load({}), store, NOW)) if "rejects" in line]
    assert line == "1 row could not be taken so far; the table rejects says why."


# -- the streams


def streamed(database, **values):
    """A stream's row as a listener would have written it a moment ago, and an open gap."""
    with Store(database) as store:
        store.streaming.begin("ibkr")
        health = {
            **dict.fromkeys(("client_id", "connected_at", "disconnected_at", "last_event_at", "last_heard_at")),
            "connection": "ibkr",
            "state": "connected",
            "detail": "",
            "events": 0,
            "fills": 3,
            "triggers": 1,
            "connected_at": NOW,
            **values,
        }
        store.streaming.beat(health)
        store.streaming.open_gap("ibkr", NOW, "the connection was dropped.")
        store.add_account("U1", "ibkr", connection="ibkr")
        return status.status(load({}), store, NOW)


def test_a_stream_that_is_heard_says_so_and_its_open_gap_too(database):
    found = streamed(database)
    (row,) = found["streams"]
    assert (row["connected"], row["listening"], row["gap_open"], row["fills"], row["triggers"]) == (True, True, True, 3, 1)
    assert found["accounts"][0]["connected"] is True
    said = status.lines(found)
    assert "Listening to ibkr: no event yet. A gap is open since 2026-11-20 15:02:30 UTC: the connection was dropped." in said


def test_a_gap_that_a_sync_has_made_good_says_why_it_is_still_open(database):
    streamed(database)
    with Store(database) as store:
        store.streaming.heal_gap("ibkr", {})
        said = status.lines(status.status(load({}), store, NOW))
    assert any(line.endswith("2026-11-20 15:02:30 UTC, and a difference that it found is open: position-pipeline breaks") for line in said)


def test_a_stream_that_is_not_connected_says_why(database):
    found = streamed(database, state="waiting", detail="Nothing listens there.")
    assert found["accounts"][0]["connected"] is False
    assert any(line.startswith("Not connected to ibkr. Nothing listens there.") for line in status.lines(found))


def test_a_stream_whose_listener_gives_no_sign_of_life_is_not_connected(database):
    streamed(database)
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE streams SET last_heartbeat_at = now() - interval '1 minute'")
    connection.close()
    with Store(database) as store:
        found = status.status(load({}), store, NOW)
    assert (found["streams"][0]["listening"], found["streams"][0]["connected"]) == (False, False)
    assert any(line.startswith("Nobody listens to ibkr") for line in status.lines(found))
