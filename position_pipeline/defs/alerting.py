"""The sensor that tells: every half minute it looks at what Dagster knows and at our tables, and sends what is due.

Belongs here: reading runs and checks from Dagster. Does not belong here: what counts as wrong and what is told (alerts_causes, alerts),
sending (alerts_delivery). A tick asks for no run.

It looks at how things are and not at what has happened since the last tick: the last run of each job, what was started by hand
and not made good, the last evaluation of each check.
So it keeps no cursor, and a restart neither forgets nor repeats anything: what was told is in the table `alerts`. A run that was
killed or never started has failed as soon as Dagster's run monitoring says so.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import dagster as dg

from position_pipeline import connections
from position_pipeline.alerts import Trouble
from position_pipeline.alerts_causes import Ended, Judged, of_checks, of_runs
from position_pipeline.alerts_delivery import tell
from position_pipeline.defs import by_hand
from position_pipeline.defs.jobs import is_by_hand
from position_pipeline.settings import Settings

INTERVAL = 30
"""Seconds between ticks, which bounds how late something is told."""

ENDS = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
"""How a run ends that says something about its job; one that a person has canceled says nothing."""

MOST_SAID = 3
"""Failures of one run that are told; more come from the first."""


def alerts(settings: Settings) -> dg.SensorDefinition:
    """The sensor `alerts`, running from the first start: it asks no broker and starts nothing, so there is no reason to hold it back."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells once of failed runs, failed checks, breaks, stale accounts and gaps, and once that each is over.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        repository = context.repository_def
        assert repository is not None, "a sensor is evaluated as part of the definitions"
        with connections.store(settings) as store:
            return dg.SkipReason(tell(store, settings, lambda: seen(context.instance, repository), datetime.now(UTC)))

    return sensor


def seen(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> list[Trouble]:
    """What is wrong as far as Dagster knows, whoever started the runs."""
    jobs = [name for name in repository.job_names if not is_by_hand(name)]
    runs = [run for job in jobs if (run := last_run(instance, job)) is not None]
    runs += [_ended(instance, record, f"of {names} that was started by hand") for names, record in by_hand.failed(instance, repository)]
    return [*of_runs(runs), *of_checks(last_evaluations(instance, sorted(repository.asset_graph.asset_check_keys)))]


def last_run(instance: dg.DagsterInstance, job: str) -> Ended | None:
    """How the last run of a job ended, None if none has."""
    records = instance.get_run_records(dg.RunsFilter(job_name=job, statuses=ENDS), limit=1)
    return _ended(instance, records[0], job) if records else None


def _ended(instance: dg.DagsterInstance, record: dg.RunRecord, name: str) -> Ended:
    run = record.dagster_run
    failed = run.status is dg.DagsterRunStatus.FAILURE
    steps, says = _failures(instance, run.run_id) if failed else ((), "")
    at = datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), UTC)
    return Ended(name, run.run_id, failed, at, steps, says)


def _failures(instance: dg.DagsterInstance, run_id: str) -> tuple[tuple[str, ...], str]:
    """The steps that failed, and what they said; where none did, what ended the run."""
    found = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    events = [record.event_log_entry.get_dagster_event() for record in found]
    if not events:
        ends = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
        return (), " ".join(record.event_log_entry.get_dagster_event().message or "" for record in ends)
    return tuple(sorted(event.step_key or "" for event in events)), " ".join(_said(event) for event in events[:MOST_SAID])


def _said(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    return (error.cause or error).message if error else event.message or ""


def last_evaluations(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]) -> list[Judged]:
    """What each check last found; those that were never evaluated are left out."""
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    pending = _without_success(instance, {record.run_id for record in records.values()})
    found = []
    for key, record in records.items():
        event = record.event.get_dagster_event() if record.event else None
        evaluation = event.asset_check_evaluation_data if event and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION else None
        found.append(
            Judged(
                asset=key.asset_key.to_user_string(),
                name=key.name,
                passed=evaluation.passed if evaluation else None,
                says=(evaluation.description or "") if evaluation else "",
                at=datetime.fromtimestamp(record.create_timestamp, UTC),
                error=evaluation is not None and evaluation.severity is dg.AssetCheckSeverity.ERROR,
                run_succeeded=record.run_id not in pending,
                accounts=_accounts(evaluation) if evaluation else (),
            )
        )
    return found


def _accounts(evaluation: dg.AssetCheckEvaluation) -> tuple[str, ...]:
    """Whom the rows that break a check concern."""
    table = evaluation.metadata.get("offending_rows")
    records = table.records if isinstance(table, dg.TableMetadataValue) else ()
    return tuple(sorted({str(record.data["account"]) for record in records if "account" in record.data}))


def _without_success(instance: dg.DagsterInstance, run_ids: Collection[str]) -> frozenset[str]:
    """Those of the runs that failed, were canceled, or go on."""
    if not run_ids:
        return frozenset()
    runs = instance.get_runs(dg.RunsFilter(run_ids=sorted(run_ids)))
    return frozenset(run.run_id for run in runs if run.status is not dg.DagsterRunStatus.SUCCESS)
