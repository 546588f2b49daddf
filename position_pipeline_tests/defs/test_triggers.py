"""When runs are asked for: by the clock, unless one is under way; and once after a start."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from position_pipeline.definitions import build_defs
from position_pipeline.defs.schedules import UNFINISHED
from position_pipeline.settings import Settings

S = dg.DagsterRunStatus


@pytest.fixture(scope="module")
def defs():
    return build_defs(settings=Settings(home=Path("/nowhere")))


@pytest.fixture
def instance():
    """A schedule's context asks for an instance that another process could open too."""
    with dg.instance_for_test() as made:
        yield made


def tick(defs, instance):
    return defs.resolve_schedule_def("position_sync_schedule")(dg.build_schedule_context(instance))


def beat(instance, daemon_id):
    instance.add_daemon_heartbeat(DaemonHeartbeat(timestamp=1.0, daemon_type="SENSOR", daemon_id=daemon_id))


def start(defs, instance, cursor=None):
    context = dg.build_sensor_context(instance=instance, cursor=cursor, definitions=defs)
    return defs.resolve_sensor_def("sync_at_start").evaluate_tick(context)


def test_a_tick_asks_for_a_run_that_says_that_the_schedule_asked(defs, instance):
    assert tick(defs, instance).tags["position_sync/trigger"] == "schedule"


@pytest.mark.parametrize("status", [S.NOT_STARTED, S.STARTING, S.STARTED, S.CANCELING])
def test_a_tick_passes_with_a_reason_while_a_sync_is_under_way(defs, instance, status):
    instance.add_run(dg.DagsterRun(job_name="position_sync", run_id="0" * 32, status=status))
    skipped = tick(defs, instance)
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == "1 position_sync is queued or running already; the next tick will ask again."


def test_a_queued_sync_is_under_way_too():
    assert {S.QUEUED, S.NOT_STARTED, S.STARTING, S.STARTED, S.CANCELING} == set(UNFINISHED)


@pytest.mark.parametrize("status", [S.SUCCESS, S.FAILURE, S.CANCELED])
def test_a_sync_that_has_ended_holds_nothing_up(defs, instance, status):
    instance.add_run(dg.DagsterRun(job_name="position_sync", run_id="0" * 32, status=status))
    assert isinstance(tick(defs, instance), dg.RunRequest)


def test_another_job_holds_nothing_up(defs, instance):
    instance.add_run(dg.DagsterRun(job_name="other", run_id="0" * 32, status=S.STARTED))
    assert isinstance(tick(defs, instance), dg.RunRequest)


def test_a_start_asks_for_one_run(defs, instance):
    beat(instance, "first-start")
    asked = start(defs, instance)
    assert [(run.run_key, run.tags["position_sync/trigger"]) for run in asked.run_requests] == [("start:first-start", "start")]
    again = start(defs, instance, asked.cursor)
    assert again.run_requests == []
    assert again.skip_message == "The sync of this start has been asked for; the schedule goes on from there."


def test_the_next_start_asks_again(defs, instance):
    beat(instance, "first-start")
    cursor = start(defs, instance).cursor
    beat(instance, "second-start")
    assert [run.run_key for run in start(defs, instance, cursor).run_requests] == ["start:second-start"]


def test_loading_the_code_anew_is_no_start(instance):
    """A daemon that starts the code itself loads it anew every minute; this once made a run a minute."""
    beat(instance, "first-start")
    cursor = start(build_defs(settings=Settings()), instance).cursor
    assert start(build_defs(settings=Settings()), instance, cursor).run_requests == []


def test_a_start_without_a_daemon_still_asks_once(defs, instance):
    asked = start(defs, instance)
    assert len(asked.run_requests) == 1
    assert start(defs, instance, asked.cursor).run_requests == []
