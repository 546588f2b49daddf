"""Alerts end to end: real runs in a real Dagster instance, their checks and their ends, and a webhook that hears of them once."""

from __future__ import annotations

import dagster as dg
import pytest
from pydantic import SecretStr

from position_pipeline.definitions import build_defs
from position_pipeline.settings import Settings
from position_pipeline_tests.alert_receivers import webhook
from position_pipeline_tests.defs.conftest import read
from position_pipeline_tests.store.tables import query

FIRST, SECOND = "U1000001", "U1000002"


@pytest.fixture
def hook():
    with webhook() as receiver:
        yield receiver


@pytest.fixture
def settings(tmp_path, hook):
    return Settings(home=tmp_path, broker_timeout=10, alerts=SecretStr(hook.url))


@pytest.fixture
def tick(defs, instance):
    """One tick of the sensor; what it says."""

    def run():
        context = dg.build_sensor_context(instance=instance, definitions=defs)
        return defs.resolve_sensor_def("alerts").evaluate_tick(context).skip_message

    return run


def test_the_sensor_is_running_from_the_first_start_and_asks_for_no_run():
    sensor = build_defs(settings=Settings(enabled=False)).resolve_sensor_def("alerts")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 30
    assert not sensor.targets


def test_while_all_is_well_nothing_is_told(sync, tick, hook):
    assert tick() == "There is nothing new to tell."  # and nothing has ever run
    sync()
    assert tick() == "There is nothing new to tell."
    assert hook.requests == 0


def test_a_failed_check_in_a_successful_run_is_told_once_and_its_end_once(sync, tick, sim, hook):
    sync()
    sim.inject(f"error:account-updates:code=321:account={SECOND}")
    for _ in range(2):
        ran = sync()
        assert (ran.success, ran.passed["snapshot_is_complete"]) == (True, False)
        tick()
        tick()
    (message,) = hook.messages
    assert message["title"] == "New: snapshot_is_complete failed (broker_snapshots)"
    assert f"The answers for {SECOND} cannot be used" in message["message"]
    sim.heal()
    assert sync().passed["snapshot_is_complete"]
    tick()
    assert hook.titles()[1:] == ["Recovered: snapshot_is_complete failed (broker_snapshots)"]


def test_a_difference_is_told_by_its_break_and_not_by_the_check_as_well(sync, tick, sim, hook, database):
    """A fill that the broker's list lacks; here its break is made one that does not wait for it."""
    sync()
    sim.execute(FIRST, "MSFT", "BUY", 7)
    sim.inject("omit:executions:symbol=MSFT")
    assert not sync().passed["quantities_match_broker"]
    query(database, "UPDATE breaks SET class = 'unknown', expected_clear_at = NULL RETURNING id")
    tick()
    tick()
    (title,) = hook.titles()
    assert title.startswith(f"New: MSFT in {FIRST}: book ")
    sim.heal()
    assert sync().passed["quantities_match_broker"]
    tick()
    assert [title.partition(" in ")[0] for title in hook.titles()] == ["New: MSFT", "Recovered: MSFT"]


def test_a_failed_run_is_told_once_and_its_end_once(sync, tick, sim, hook):
    sync()
    sim.inject("error:account-updates:code=321")
    for _ in range(2):
        assert not sync().success
        tick()
    (message,) = hook.messages
    assert message["title"] == "New: the run position_sync failed at broker_snapshots"
    assert "No account could be synced" in message["message"]
    sim.heal()
    assert sync().success
    tick()
    assert hook.titles()[1:] == ["Recovered: the run position_sync failed at broker_snapshots"]


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_a_run_that_never_started_or_was_killed_is_told_when_it_is_found_to_have_failed(tick, instance, hook, status):
    """As Dagster's run monitoring ends it."""
    run = dg.DagsterRun("position_sync", "0" * 32, status=status)
    instance.add_run(run)
    assert tick() == "There is nothing new to tell."
    instance.report_run_failed(run, "Run timed out due to taking longer than 120 seconds to start.")
    tick()
    assert hook.titles() == ["New: the run position_sync failed"]
    assert "120 seconds to start" in hook.messages[0]["message"]


def test_a_run_that_a_person_canceled_says_nothing(tick, instance, hook):
    run = dg.DagsterRun("position_sync", "0" * 32, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    instance.report_run_canceled(run)
    tick()
    assert hook.requests == 0


def test_a_channel_that_is_down_lets_a_run_be_and_gets_its_message_later(sync, tick, sim, hook, store):
    hook.answers = [503]
    sim.inject("error:account-updates:code=321")
    sync()
    assert tick() == "1 new message. 0 deliveries, 1 failed."
    sim.heal()
    assert sync().success
    (alert,) = store.alerting.listed(all_=False)
    assert alert["deliveries"][0]["error"] == "Failed to send JSON POST notification: Servers are overloaded., error=503."


# -- by hand, from the pages of assets


@pytest.fixture
def by_hand(defs, instance):
    """Make some assets as the UI does: in Dagster's own job."""

    def run(*assets: str):
        only = [dg.AssetKey(name) for name in assets] or None
        return read(
            defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance, raise_on_error=False, asset_selection=only)
        )

    return run


def test_a_run_by_hand_that_fails_is_told_once_and_is_over_when_its_assets_are_made_by_any_run(by_hand, sync, tick, sim, hook):
    sync()
    sim.inject("error:account-updates:code=321")
    for _ in range(2):
        assert not by_hand("broker_snapshots").success
        tick()
    assert hook.titles() == ["New: the run of broker_snapshots that was started by hand failed at broker_snapshots"]
    assert "No account could be synced" in hook.messages[0]["message"]
    sim.heal()
    assert by_hand("position_events", "reconciled_positions", "partial_close_pnl").success
    assert tick() == "There is nothing new to tell.", "that one made other assets"
    assert sync().success
    tick()
    assert hook.titles()[1:] == ["Recovered: the run of broker_snapshots that was started by hand failed at broker_snapshots"]


def test_a_check_that_fails_in_a_run_by_hand_is_told_once(by_hand, sync, tick, sim, hook):
    sync()
    sim.inject(f"error:account-updates:code=321:account={SECOND}")
    for _ in range(2):
        ran = by_hand("broker_snapshots")
        assert (ran.success, ran.passed["snapshot_is_complete"]) == (True, False)
        tick()
    assert hook.titles() == ["New: snapshot_is_complete failed (broker_snapshots)"]
    sim.heal()
    assert by_hand("broker_snapshots").success
    tick()
    assert hook.titles()[1:] == ["Recovered: snapshot_is_complete failed (broker_snapshots)"]


def test_of_two_runs_by_hand_each_is_told_and_one_of_what_is_no_more_is_not(instance, tick, hook):
    for number, asset in enumerate(("broker_snapshots", "trade_executions", "gone")):
        run = dg.DagsterRun(
            "__ASSET_JOB", f"{number:032d}", status=dg.DagsterRunStatus.STARTED, asset_selection=frozenset({dg.AssetKey(asset)})
        )
        instance.add_run(run)
        instance.report_run_failed(run, "Its process is gone.")
    tick()
    (message,) = hook.messages
    assert message["title"].endswith("and 1 more")
    assert message["message"].count("that was started by hand failed") == 2
    assert "gone that" not in message["message"]
