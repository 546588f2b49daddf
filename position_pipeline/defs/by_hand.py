"""Runs that somebody started from the pages of assets in the Dagster UI: which of them failed and have not been made good.

Belongs here: telling when such a run is over. Does not belong here: runs of our jobs, and what a failure says (alerting).

They are all of one job of Dagster's own, whichever assets they make. So its last run says nothing of the one before, which may have been
of another asset: a failed one counts until all that it was to make has been made since, by hand or by a job.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import dagster as dg

from position_pipeline.defs.checks import NIGHTLY
from position_pipeline.defs.jobs import BOOK_VERIFICATION, POSITION_SYNC, is_by_hand

Key = dg.AssetKey | dg.AssetCheckKey

MOST = 50
"""Runs that are looked at, the newest: nobody starts more by hand while an alert is due every half minute."""

ENDS = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]


def failed(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> Iterator[tuple[str, dg.RunRecord]]:
    """The newest failed run of each selection that has not been made good, with the names of what it was to make."""
    records = [
        record
        for job in filter(is_by_hand, repository.job_names)
        for record in instance.get_run_records(dg.RunsFilter(job_name=job, statuses=ENDS), limit=MOST)
    ]
    if all(record.dagster_run.is_success for record in records):
        return
    made, told = _made_at(instance, repository, records), set()
    for record in records:
        wanted = _wanted(record.dagster_run, repository)
        names = ", ".join(sorted(map(_name, wanted)))
        if record.dagster_run.is_success or names in told or not wanted:
            continue
        if any(made.get(key, datetime.min.replace(tzinfo=UTC)) < record.create_timestamp for key in wanted):
            told.add(names)
            yield names, record


def _made_at(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, by_hand: Iterable[dg.RunRecord]) -> dict[Key, datetime]:
    """When the last run that succeeded in making it was begun, by asset and check."""
    made: dict[Key, datetime] = {}
    good = [(record, _wanted(record.dagster_run, repository)) for record in by_hand if record.dagster_run.is_success]
    nightly: set[Key] = {key for check in NIGHTLY for key in check.check_keys}
    for job, keys in ((POSITION_SYNC, _everything(repository) - nightly), (BOOK_VERIFICATION, nightly)):
        filters = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS])
        good += [(record, keys) for record in instance.get_run_records(filters, limit=1)]
    for record, keys in good:
        made |= {key: max(record.create_timestamp, made.get(key, record.create_timestamp)) for key in keys}
    return made


def _wanted(run: dg.DagsterRun, repository: dg.RepositoryDefinition) -> set[Key]:
    """What a run was to make; no selection means all. What there is no more cannot be made good, and does not count."""
    chosen: set[Key] = {*(run.asset_selection or ()), *(run.asset_check_selection or ())}
    everything = _everything(repository)
    return chosen & everything if chosen else everything


def _everything(repository: dg.RepositoryDefinition) -> set[Key]:
    graph = repository.asset_graph
    return {*graph.get_all_asset_keys(), *graph.asset_check_keys}


def _name(key: Key) -> str:
    return key.to_user_string() if isinstance(key, dg.AssetKey) else key.name
