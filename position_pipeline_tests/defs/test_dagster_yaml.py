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
    assert instance.run_monitoring_start_timeout_seconds == 120
    assert not instance.run_retries_enabled


def test_ticks_do_not_pile_up_and_nothing_is_sent_anywhere():
    kept = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    assert kept["retention"]["sensor"]["purge_after_days"]["skipped"] == 1
    assert kept["retention"]["schedule"]["purge_after_days"] == 7
    assert kept["telemetry"] == {"enabled": False}
