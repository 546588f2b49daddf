"""The graph as it is meant to be, in explicit lists: whoever changes it, changes them."""

from __future__ import annotations

import ast
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import environ

import position_pipeline.defs
from position_pipeline.definitions import build_defs
from position_pipeline.defs.jobs import longest_run
from position_pipeline.defs.schedules import cron
from position_pipeline.settings import INTERVALS, Settings, SettingsError

FOLDER = Path(position_pipeline.defs.__file__).parent

ASSETS = {
    "broker_snapshots": ("capture", "public.snapshots", set()),
    "trade_executions": ("capture", "public.executions", {"broker_snapshots"}),
    "reconciled_positions": ("book", "public.positions", {"trade_executions"}),
    "partial_close_pnl": ("book", "public.closes", {"trade_executions"}),
    "position_events": ("book", "public.position_events", {"trade_executions"}),
}
CHECKS = {
    ("broker_snapshots", "snapshot_is_complete", False),
    ("trade_executions", "fills_have_commissions", False),
    ("trade_executions", "executions_have_no_gaps", False),
    ("trade_executions", "streams_are_whole", False),
    ("reconciled_positions", "quantities_match_broker", False),
    ("reconciled_positions", "lots_sum_to_positions", True),
    ("reconciled_positions", "positions_are_fresh", False),
    ("reconciled_positions", "broker_cost_is_explained", False),
    ("reconciled_positions", "positions_are_explained", False),
    ("reconciled_positions", "portfolio_value_adds_up", False),
    ("partial_close_pnl", "closes_have_openings", True),
    ("partial_close_pnl", "realized_pnl_ties_to_broker", False),
    ("reconciled_positions", "book_rebuilds_to_itself", False),
    ("partial_close_pnl", "cash_identity_holds", True),
}
NIGHTLY = {"book_rebuilds_to_itself"}


def definitions(**settings):
    return build_defs(settings=Settings(home=Path("/nowhere"), **settings))


@pytest.fixture(scope="module")
def graph():
    return definitions().resolve_asset_graph()


def test_the_definitions_load_without_any_connection():
    dg.Definitions.validate_loadable(definitions())


def test_the_assets_are_these_tables(graph):
    found = {
        key.to_user_string(): (
            graph.get(key).group_name,
            graph.get(key).metadata["dagster/table_name"],
            {parent.to_user_string() for parent in graph.get(key).parent_keys},
        )
        for key in graph.get_all_asset_keys()
    }
    assert found == ASSETS


def test_the_checks_are_these_claims(graph):
    found = {(key.asset_key.to_user_string(), key.name, graph.get(key).blocking) for key in graph.asset_check_keys}
    assert found == CHECKS


def test_every_asset_says_in_its_first_line_what_one_row_is(graph):
    for key in graph.get_all_asset_keys():
        assert graph.get(key).description.startswith("One row is "), key


def test_every_check_has_a_claim_in_words(graph):
    for key in graph.asset_check_keys:
        assert graph.get(key).description.partition("\n")[0].endswith("."), key


def test_the_columns_of_an_asset_are_those_of_its_table(graph):
    columns = {column.name: column for column in graph.get(dg.AssetKey("reconciled_positions")).metadata["dagster/column_schema"].columns}
    assert columns["quantity"].type == "numeric"
    assert columns["quantity"].description == "signed, from the book"
    assert not columns["quantity"].constraints.nullable
    assert columns["broker_quantity"].constraints.nullable


def test_the_job_makes_all_assets_and_all_checks_but_the_nightly_ones():
    job = definitions().resolve_job_def("position_sync")
    layer = job.asset_layer
    assert {key.to_user_string() for key in layer.executable_asset_keys} == set(ASSETS)
    assert {key.name for key in layer.asset_graph.asset_check_keys} == {name for _, name, _ in CHECKS} - NIGHTLY
    assert job.executor_def is dg.in_process_executor


def test_the_nightly_job_makes_no_asset_and_only_the_checks_that_read_everything():
    layer = definitions().resolve_job_def("book_verification").asset_layer
    assert set(layer.executable_asset_keys) == set()
    assert {key.name for key in layer.asset_graph.asset_check_keys} == NIGHTLY
    schedule = definitions().resolve_schedule_def("book_verification_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("15 3 * * *", "America/New_York")


def test_there_are_these_jobs_schedules_and_sensors():
    defs = definitions()
    assert [job.name for job in defs.jobs] == ["position_sync", "book_verification", "housekeeping"]
    assert [schedule.name for schedule in defs.schedules] == [
        "position_sync_schedule", "book_verification_schedule", "housekeeping_schedule",
    ]  # fmt: skip
    assert [sensor.name for sensor in defs.sensors] == ["sync_at_start", "executions_sensor", "sync_requests_sensor", "alerts"]


def test_everything_that_asks_a_broker_is_in_its_pool():
    pools = {node.name: node.definition.pool for node in definitions().resolve_job_def("position_sync").graph.nodes if node.definition.pool}
    assert pools == {"broker_snapshots": "broker", "trade_executions": "broker", "book": "broker"}


def test_the_schedule_runs_every_five_minutes_of_new_york_from_the_first_start():
    schedule = definitions().resolve_schedule_def("position_sync_schedule")
    assert schedule.cron_schedule == "*/5 * * * *"
    assert schedule.execution_timezone == "America/New_York"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_nothing_starts_by_itself_where_syncing_is_switched_off():
    defs = definitions(enabled=False)
    assert defs.resolve_schedule_def("position_sync_schedule").default_status is dg.DefaultScheduleStatus.STOPPED
    assert defs.resolve_sensor_def("sync_at_start").default_status is dg.DefaultSensorStatus.STOPPED


def test_the_start_sensor_is_running_and_ticks_seldom():
    sensor = definitions().resolve_sensor_def("sync_at_start")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 20


@pytest.mark.parametrize(
    ("seconds", "line"),
    [
        (60, "*/1 * * * *"),
        (300, "*/5 * * * *"),
        (1800, "*/30 * * * *"),
        (3600, "0 */1 * * *"),
        (14400, "0 */4 * * *"),
        (86400, "0 0 * * *"),
    ],
)
def test_an_interval_is_a_cron_line(seconds, line):
    assert cron(seconds) == line


def test_every_interval_that_the_settings_let_in_is_a_cron_line():
    for seconds in INTERVALS:
        assert definitions(sync_interval=seconds).resolve_schedule_def("position_sync_schedule").cron_schedule == cron(seconds)


def test_a_run_may_last_as_long_as_its_brokers_may_take():
    assert longest_run(Settings()) == 180 + 2 * 30
    assert longest_run(Settings(broker_timeout=600)) == 180 + 2 * 600


def test_a_bad_setting_is_what_loading_the_definitions_says():
    with environ({"POSITION_SYNC_INTERVALL": "300"}), pytest.raises(SettingsError, match="POSITION_SYNC_INTERVALL"):
        build_defs()


def functions_of(module):
    return [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.FunctionDef)]


def test_no_asset_and_no_check_has_more_than_fifteen_lines_or_any_arithmetic():
    for function in functions_of(FOLDER / "assets.py") + functions_of(FOLDER / "checks.py"):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        assert function.body[-1].end_lineno - body[0].lineno < 15, function.name
        if function.decorator_list:
            assert not [node for line in body for node in ast.walk(line) if isinstance(node, ast.BinOp)], function.name


def test_nothing_in_defs_computes_with_decimals():
    for module in FOLDER.glob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Name)}
        assert not names & {"Decimal", "decimal", "sum_exact"}, module.name


@pytest.mark.parametrize("name", ["session.py", "verdicts.py"])
def test_what_is_decided_knows_nothing_of_dagster(name):
    assert "import dagster" not in (FOLDER / name).read_text()
