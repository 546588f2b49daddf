"""Housekeeping: what is past its time goes, a thin history stays, and no fill, close or event is ever deleted."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

import position_pipeline
from position_pipeline.defs.housekeeping import _ended, _thinned, delete_runs
from position_pipeline.store import queries
from position_pipeline_tests.defs.test_dagster_yaml import instance as on_postgresql  # noqa: F401  a fixture
from position_pipeline_tests.defs.test_position_sync import execute
from position_pipeline_tests.scenarios import AAPL, EVERYTHING, KO, buy, holding, rejected, snapshot

FIRST, OTHER = "U1000001", "U1000002"
NOW = datetime.now(UTC)
SACRED = {"executions", "closes", "position_events", "adjustments", "statement_imports", "cash_rows"}
UNSEEN = {"take_back_closes", "take_back_events"}
"""What an import takes back within the transaction that wrote it: nobody has seen those rows."""
QUERIES = Path(position_pipeline.__file__).parent / "store" / "queries"


def query(store, sql, **values):
    return store.housekeeping._connection.rows(sql, values)


def answer(store, *holdings, hours, account=FIRST, bad=False):
    """One answer of so many hours ago, with its row in the sync log; returns its id."""
    given = rejected("garbled", account=account) if bad else snapshot(*holdings, account=account)
    saved = store.save_snapshot(given, EVERYTHING, "simulator")
    query(store, "UPDATE snapshots SET taken_at = %(at)s WHERE id = %(id)s RETURNING id", at=NOW - timedelta(hours=hours), id=saved)
    attempt(store, saved, hours, account)
    return saved


def attempt(store, snapshot_id, hours, account=FIRST):
    at = NOW - timedelta(hours=hours)
    store.save_sync(
        account=account, connection="simulator", trigger="schedule", started_at=at, finished_at=at, outcome="unchanged", unchanged=1, fills=0,
        snapshot_id=snapshot_id, snapshot_status="complete", duration_ms=1, own_ms=1, created=[], updated=[], closed=[], errors=[],
    )  # fmt: skip


def left(store, table="snapshots", column="id"):
    return [row["it"] for row in query(store, f"SELECT {column} AS it FROM {table} ORDER BY 1")]


@pytest.fixture
def book(store):
    store.add_account(FIRST, "ibkr", connection="simulator")
    store.record(FIRST, [buy(AAPL, 10, 100)], (), [AAPL])
    return store


def test_of_old_days_the_last_proven_answer_stays_and_of_young_ones_every_one(book):
    ten, eleven = holding(AAPL, 10), holding(AAPL, 11)
    noon = (NOW - timedelta(days=50)).replace(hour=17, minute=0)  # noon in New York or an hour later: no day ends nearby
    old = (NOW - noon) / timedelta(hours=1)
    first = answer(book, ten, hours=old + 24)
    other = answer(book, eleven, hours=old)  # the first to say what the two that follow say too
    same = answer(book, eleven, hours=old - 1)
    last_of_day = answer(book, eleven, hours=old - 2)
    refused = answer(book, hours=old - 3, bad=True)
    young = [answer(book, ten, hours=5), answer(book, ten, hours=4), answer(book, hours=3, bad=True)]
    freed = book.housekeeping.drop_history(NOW - timedelta(days=30))
    assert left(book) == [first, last_of_day, *young]
    assert freed == {"snapshots": 3, "syncs": 3}
    assert {other, same, refused}.isdisjoint(left(book, "syncs", "snapshot_id"))
    assert left(book, "holdings", "snapshot_id") == [first, other, young[0]]
    assert book.housekeeping.drop_history(NOW - timedelta(days=30)) == {}


def test_the_only_proven_answer_of_an_account_stays_however_old_it_is_and_the_next_says_the_same(book):
    proven = answer(book, holding(AAPL, 10), hours=9000)
    for hours in (8990, 8000, 7000):
        answer(book, hours=hours, bad=True)
    book.housekeeping.drop_history(NOW)
    assert left(book) == [proven]
    answer(book, holding(AAPL, 10), hours=0)
    assert query(book, "SELECT snapshot_id, until_id FROM holdings") == [{"snapshot_id": proven, "until_id": None}]


def test_holdings_that_nobody_refers_to_any_more_go_with_their_answer(book):
    base = (NOW - timedelta(days=50)).replace(hour=17, minute=0)
    old = (NOW - base) / timedelta(hours=1)
    kept = [answer(book, holding(AAPL, 1), hours=old + 30)]
    gone = answer(book, holding(AAPL, 2), holding(KO, 1), hours=old)
    kept.append(answer(book, holding(AAPL, 3), hours=old - 1))
    kept.append(answer(book, holding(AAPL, 4), hours=1))
    freed = book.housekeeping.drop_history(NOW - timedelta(days=30))
    assert left(book) == kept
    assert gone not in left(book, "holdings", "snapshot_id")
    assert freed == {"snapshots": 1, "holdings": 2, "syncs": 1}


def test_attempts_without_an_answer_go_too_but_the_last_of_each_account_stays(book):
    for hours in (2000, 1900, 1800):
        attempt(book, None, hours)
    attempt(book, None, 2000, OTHER)
    assert book.housekeeping.drop_history(NOW - timedelta(days=30)) == {"syncs": 2}
    assert left(book, "syncs", "account") == [FIRST, OTHER]


def test_of_the_attempts_that_an_old_answer_was_repeated_by_the_last_stays(book):
    old, young = answer(book, holding(AAPL, 10), hours=2003), answer(book, holding(AAPL, 10), hours=3)
    for hours in (2002, 2001):
        attempt(book, old, hours)
    attempt(book, young, 2)
    assert book.housekeeping.drop_history(NOW - timedelta(days=30)) == {"syncs": 2}
    assert left(book, "syncs", "snapshot_id") == [old, young, young]


def test_requests_and_gaps_that_are_over_go_and_those_that_are_open_stay(book, database):
    book.streaming.ask_sync(FIRST, "a test")
    execute(
        database,
        "INSERT INTO sync_requests (account, requested_by, requested_at, picked_at, picked_by, finished_at, outcome, result) "
        "VALUES (NULL, 'old', now() - interval '90 d', now() - interval '90 d', 'x', now() - interval '90 d', 'synced', '[]');"
        "INSERT INTO stream_gaps (connection, opened_at, cause, healed_at, closed_at) VALUES "
        "('a', now() - interval '91 d', 'old', now() - interval '90 d', now() - interval '90 d'), ('b', now() - interval '91 d', 'open', NULL, NULL)",
    )
    assert book.housekeeping.drop_history(NOW - timedelta(days=30)) == {"sync_requests": 1, "stream_gaps": 1}
    assert left(book, "sync_requests", "requested_by") == ["a test"]
    assert left(book, "stream_gaps", "cause") == ["open"]


def test_alerts_that_are_over_go_with_what_was_told_of_them_and_those_that_stand_stay_whole(book):
    def tell(cause, days, ended_days=None):
        at = NOW - timedelta(days=days)
        alert = {
            "news": "new", "cause": cause, "kind": "run", "accounts": [], "severity": "grave", "headline": cause, "digest": "",
            "impact_class": 0, "age_class": 0, "since_at": at,
        }  # fmt: skip
        said = {"title": cause, "body": cause, "severity": "grave"}
        book.alerting.save([{"message": said, "alerts": [alert]}], ["json-1"], at)
        if ended_days is not None:
            (standing,) = [row for row in book.alerting.standing() if row["cause"] == cause]
            ended = [{"news": "recovered", "id": standing["id"]}]
            book.alerting.save([{"message": {**said, "severity": "good"}, "alerts": ended}], ["json-1"], NOW - timedelta(days=ended_days))

    tell("over for long", 60, 50)
    tell("over just now", 60, 1)
    tell("it stands", 60)
    freed = book.housekeeping.drop_history(NOW - timedelta(days=30))
    assert freed == {"alerts": 1, "alert_messages": 3, "alert_deliveries": 3}, "with the first message of what is over just now"
    assert left(book, "alerts", "cause") == ["it stands", "over just now"]
    assert left(book, "alert_messages", "title") == ["it stands", "over just now"]
    tell("it stands, and more", 0)
    (standing,) = [row for row in book.alerting.standing() if row["cause"] == "it stands"]
    over = {"message": {"title": "over", "body": "", "severity": "good"}, "alerts": [{"news": "recovered", "id": standing["id"]}]}
    book.alerting.save([over], ["json-1", "json-2"], NOW)
    told = query(book, "SELECT channel FROM alert_deliveries JOIN alert_messages m ON m.id = message_id WHERE m.title = 'over'")
    assert told == [{"channel": "json-1"}], "its end is told to the one that heard of it"


def test_no_statement_of_ours_deletes_a_fill_a_close_an_adjustment_or_an_event():
    statements = {name: said for path in QUERIES.glob("*.sql") for name, said in queries.load(path.stem).items() if name not in UNSEEN}
    found = (
        re.findall(r"\b(?:DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?)\s+(?:ONLY\s+)?([\w.]+)", said, re.IGNORECASE) for said in statements.values()
    )
    deleted = {table for tables in found for table in tables}
    assert "snapshots" in deleted, "the pattern finds what there is"
    assert deleted & SACRED == set()
    cascades = {(table, onto) for table, onto in _cascades() if table in SACRED}
    assert cascades == set()


def _cascades():
    """(table that loses rows, table whose deletion takes them along)."""
    from position_pipeline.store.schema import metadata

    for table in metadata.tables.values():
        for key in table.foreign_keys:
            if key.ondelete:
                yield table.name, key.column.table.name


@pytest.fixture
def kept(on_postgresql):  # noqa: F811
    """In place of the instance in memory: one whose tables are in our database."""
    return on_postgresql


def test_the_job_frees_old_runs_with_all_that_hangs_on_them_and_says_what_it_freed(defs, store, sim, kept, database):
    instance = kept

    def run(job="position_sync"):
        result = defs.resolve_job_def(job).execute_in_process(instance=instance)
        assert result.success
        return result

    sim.execute(FIRST, "AAPL", "BUY", 5)
    for _ in range(3):
        run()
    execute(
        database,
        "UPDATE dagster.runs SET update_timestamp = update_timestamp - interval '20 d' "
        "WHERE id < (SELECT max(id) FROM dagster.runs);"
        "UPDATE dagster.asset_check_executions SET create_timestamp = create_timestamp - interval '20 d';",
    )
    sacred = {table: query(store, f"SELECT * FROM {table} ORDER BY id") for table in ("executions", "closes", "position_events")}
    checks = len(instance.event_log_storage.get_latest_asset_check_execution_by_key(_check_keys(defs)))
    result = run("housekeeping")
    (output,) = [event for event in result.all_events if event.is_successful_output]
    shown = {name: value.value for name, value in output.step_output_data.metadata.items()}
    assert shown["runs"] == 2
    assert shown["check_evaluations"] == 2 * checks
    assert shown["rows_freed"] == 2 + 2 * checks
    assert shown["bytes_of_dagster"] > shown["bytes_of_public"] > 0
    assert instance.get_runs_count(dg.RunsFilter(job_name="position_sync")) == 1
    # Of the two runs that are left, and events of no other run.
    assert query(store, "SELECT count(DISTINCT run_id) AS n FROM dagster.event_logs") == [{"n": 2}]
    assert len(instance.event_log_storage.get_latest_asset_check_execution_by_key(_check_keys(defs))) == checks
    assert {table: query(store, f"SELECT * FROM {table} ORDER BY id") for table in sacred} == sacred
    run()


def _check_keys(defs):
    return list(defs.resolve_asset_graph().asset_check_keys)


def test_a_run_that_has_not_ended_is_never_deleted(instance):
    statuses = set(dg.DagsterRunStatus) - {dg.DagsterRunStatus.QUEUED}  # which needs a code server
    for number, status in enumerate(statuses):
        instance.add_run(dg.DagsterRun(job_name="position_sync", run_id=f"{number:032d}", status=status))
    deleted = delete_runs(instance, _ended(instance, NOW + timedelta(days=1)), time.monotonic() + 60)
    ended = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
    assert deleted == 3
    assert {run.status for run in instance.get_runs()} == statuses - ended


def test_of_runs_that_went_well_the_last_of_each_hour_and_job_stays_and_of_those_that_failed_every_one(kept, database):
    good, bad = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE
    for number, (job, minutes, status) in enumerate(
        [
            ("position_sync", 10, good),  # gone: 20 comes later in the same hour
            ("position_sync", 20, good),
            ("position_sync", 15, bad),
            ("housekeeping", 12, good),
            ("position_sync", 70, good),  # gone
            ("position_sync", 119, good),
            ("position_sync", 130, good),  # too young
        ]
    ):
        kept.add_run(dg.DagsterRun(job_name=job, run_id=str(number), status=status))
        at = datetime(2026, 3, 2, 14, tzinfo=UTC) + timedelta(minutes=minutes)
        execute(database, f"UPDATE dagster.runs SET update_timestamp = '{at:%Y-%m-%d %H:%M}' WHERE run_id = '{number}'")
    assert sorted(_thinned(kept, datetime(2026, 3, 2, 16, 5, tzinfo=UTC))) == ["0", "4"]


def test_it_stops_when_its_time_is_up(instance):
    instance.add_run(dg.DagsterRun(job_name="position_sync", run_id="0" * 32, status=dg.DagsterRunStatus.SUCCESS))
    assert delete_runs(instance, _ended(instance, NOW + timedelta(days=1)), time.monotonic() - 1) == 0
