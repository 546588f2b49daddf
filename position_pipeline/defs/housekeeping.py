"""The job that deletes what is past its time: Dagster's runs with their events and logs, and old answers of brokers.

Belongs here: Dagster's side of it, by Dagster's own calls, and what is shown of the whole. Does not belong here: which of our rows may go
(store.housekeeping), when it runs (schedules). Ticks are Dagster's own work (retention in dagster.yaml).
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg

from position_pipeline.defs.jobs import HOUSEKEEPING
from position_pipeline.defs.resources import told
from position_pipeline.defs.session import SyncSession
from position_pipeline.settings import Settings

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]

RUNS_A_LOOK = 200
"""Runs that are read at once; each takes some ten milliseconds to delete."""

RUNS_TO_THIN = 5000
"""The newest runs that are looked at for thinning: more than there can be where it runs every few hours."""

LONGEST = 1800
"""Seconds. What it has not deleted by then, the next one does."""

ALL_OF_THEM = timedelta(hours=3)
"""For so long every run is kept; of older ones that went well, the last of each hour of each job. 288 runs a day, of some 130 kB each, say
nothing that the sync log does not say, and would come to 37 MB a day."""


def housekeeping(settings: Settings) -> dg.JobDefinition:
    """Deletes what is past its time and says what that freed. Executions, closes and events are never deleted."""

    @dg.op(
        name="delete_what_is_past_its_time", description="Deletes old runs and old answers of brokers; never a fill, a close or an event."
    )
    def clean(context: dg.OpExecutionContext, sync: dg.ResourceParam[SyncSession]) -> None:
        now = datetime.now(UTC)
        with told():
            freed = _cleaned(context.instance, sync, settings, now)
            context.add_output_metadata(freed)

    @dg.job(
        name=HOUSEKEEPING,
        description="Delete runs, their logs, and snapshots that are past their time, and say what that freed.",
        tags={"dagster/max_runtime": 2 * LONGEST},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        clean()

    return job


def _cleaned(instance: dg.DagsterInstance, sync: SyncSession, settings: Settings, now: datetime) -> dict[str, int | str]:
    """What was freed, as metadata."""
    runs_before = now - timedelta(days=settings.keep_runs_days)
    ours_before = now - timedelta(days=settings.keep_snapshots_days)
    store = sync.store.housekeeping
    sizes = store.sizes()
    until = time.monotonic() + LONGEST
    deleted = delete_runs(instance, _ended(instance, runs_before), until)
    deleted += delete_runs(instance, _thinned(instance, now - ALL_OF_THEM), until)
    freed = Counter({"runs": deleted})
    freed += store.drop_dagster_leftovers(runs_before)
    freed += store.drop_history(ours_before)
    store.make_room()
    return {
        "rows_freed": sum(freed.values()),
        **dict(sorted(freed.items())),
        **_bytes(sizes, store.sizes()),
        "runs_before": runs_before.isoformat(timespec="seconds"),
        "snapshots_before": ours_before.isoformat(timespec="seconds"),
    }


def delete_runs(instance: dg.DagsterInstance, run_ids: Iterable[str], until: float) -> int:
    """Delete runs with their events and what they printed, as far as the monotonic clock has not passed `until`; how many."""
    deleted = 0
    for run_id in run_ids:
        if time.monotonic() > until:
            break
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
        deleted += 1
    return deleted


def _ended(instance: dg.DagsterInstance, before: datetime) -> Iterator[str]:
    """The runs that ended before, oldest first. They are read again after each lot, because the lot is gone then."""
    old = dg.RunsFilter(statuses=ENDED, updated_before=before)
    while found := instance.get_run_records(old, limit=RUNS_A_LOOK, ascending=True):
        yield from (record.dagster_run.run_id for record in found)


def _thinned(instance: dg.DagsterInstance, before: datetime) -> list[str]:
    """The runs that went well and are not the last of their job in their hour."""
    good = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], updated_before=before)
    found = instance.get_run_records(good, limit=RUNS_TO_THIN, ascending=False)
    last: set[tuple[str, datetime]] = set()
    gone = []
    for record in found:
        hour = (record.dagster_run.job_name, record.update_timestamp.replace(minute=0, second=0, microsecond=0))
        if hour in last:
            gone.append(record.dagster_run.run_id)
        last.add(hour)
    return gone


def _bytes(earlier: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """Sizes after, and what became smaller. Most of what is freed stays with the tables, for the rows to come."""
    names: Iterable[str] = sorted(now)
    return {f"bytes_of_{name}": now[name] for name in names} | {"bytes_given_back": max(0, sum(earlier.values()) - sum(now.values()))}
