"""dagster.yaml on a real PostgreSQL: Dagster keeps to its own schema, and its storage works with our driver."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import psycopg2
import pytest
import yaml
from dagster._core.test_utils import environ

from position_pipeline.definitions import build_defs
from position_pipeline.store import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def instance(tmp_path, database):
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    url = database.replace("postgresql://", "postgresql+psycopg2://", 1)
    variables = {
        "DAGSTER_POSTGRES_URL": f"{url}?options={quote('-csearch_path=dagster')}",
        "DAGSTER_COMPUTE_LOGS": str(tmp_path / "logs"),
    }
    with environ(variables), dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def tables(database, schema):
    connection = psycopg2.connect(database)
    with connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (schema,))
        found = {name for (name,) in cursor.fetchall()}
    connection.close()
    return found


def test_a_run_on_postgresql_storage_is_green_and_dagster_stays_in_its_schema(sync, instance, database):
    ours = tables(database, "public")
    ran = sync()
    assert (ran.success, ran.failures) == (True, {})
    assert instance.get_runs_count(dg.RunsFilter(job_name="position_sync")) == 1
    assert {"runs", "event_logs", "job_ticks", "alembic_version"} <= tables(database, "dagster")
    assert tables(database, "public") == ours


def test_runs_of_a_pool_wait_for_each_other(instance):
    pools = instance.get_concurrency_config().pool_config
    assert (pools.pool_granularity.value, pools.default_pool_limit) == ("run", 1)
    assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 4


def test_what_hangs_is_ended_and_nothing_is_tried_twice(instance):
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_max_runtime_seconds == 1500
    assert instance.run_monitoring_start_timeout_seconds == 60
    assert not instance.run_retries_enabled


def status_of(instance, run_id, job="position_sync"):
    run = dg.DagsterRun(job_name=job, run_id=run_id, status=dg.DagsterRunStatus.STARTED)
    return instance.run_launcher.check_run_worker_health(run).status.value


def test_a_run_whose_process_is_gone_is_noticed_without_its_code_server(instance, database):
    """Power loss takes the code server and the run together; without this the run held its place in the pool for minutes."""
    instance.run_launcher.grace = 0
    with environ({"DATABASE_URL": database}):
        with Store(database) as worker:
            worker.running("a run")
            assert status_of(instance, "a run") == "RUNNING"
        assert status_of(instance, "a run") == "NOT_FOUND"
        assert status_of(instance, "by hand", job="__ASSET_JOB") == "NOT_FOUND"
        assert status_of(instance, "another", job="of somebody else") == "RUNNING"


def test_a_run_that_is_just_starting_is_not_taken_for_gone(instance, database):
    with environ({"DATABASE_URL": database}):
        assert status_of(instance, "a run") == "RUNNING"
    assert instance.run_launcher.grace >= 30


def test_a_database_that_is_away_ends_no_run(instance):
    instance.run_launcher.grace = 0
    with environ({"DATABASE_URL": "postgresql://me:x@127.0.0.1:1/nothing"}):
        assert status_of(instance, "a run") == "RUNNING"


def test_a_run_shows_that_it_lives_for_as_long_as_its_steps_run(settings, brokers, database, instance, store):
    seen = []

    def looked_at():
        (run,) = instance.get_runs(dg.RunsFilter(job_name="position_sync"))
        seen.append(store.is_running(run.run_id))
        return brokers()

    made = build_defs(settings=settings, brokers=looked_at, database_url=database)
    result = made.resolve_job_def("position_sync").execute_in_process(instance=instance)
    assert (result.success, seen) == (True, [True])
    assert not store.is_running(result.run_id)


def test_sensors_that_wait_do_not_hold_up_the_others():
    sensors = yaml.safe_load((ROOT / "dagster.yaml").read_text())["sensors"]
    assert sensors["use_threads"]
    assert sensors["num_workers"] >= 4


def test_ticks_do_not_pile_up_and_nothing_is_sent_anywhere():
    kept = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    assert kept["retention"]["sensor"]["purge_after_days"]["skipped"] == 1
    assert kept["retention"]["schedule"]["purge_after_days"] == 7
    assert kept["telemetry"] == {"enabled": False}
