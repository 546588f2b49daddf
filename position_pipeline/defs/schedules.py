"""When `position_sync` runs by the clock.

Belongs here: the cron line, and the reasons to let a tick pass. Does not belong here: what runs (jobs), the run after a start (sensors).
"""

import dagster as dg

from position_pipeline.defs.jobs import POSITION_SYNC
from position_pipeline.defs.session import TRIGGER
from position_pipeline.settings import PREFIX, Settings, SettingsError

ZONE = "America/New_York"
"""The zone in which the exchanges' day is counted."""

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def cron(seconds: int) -> str:
    """The cron line of an interval; cron knows only parts of an hour and parts of a day, so others are a `SettingsError`."""
    minutes, odd = divmod(seconds, 60)
    hours, rest = divmod(minutes, 60)
    if not odd and minutes and 60 % minutes == 0 and minutes < 60:
        return f"*/{minutes} * * * *"
    if not odd and not rest and hours and 24 % hours == 0:
        return "0 0 * * *" if hours == 24 else f"0 */{hours} * * *"
    near = min(POSSIBLE, key=lambda possible: abs(possible - seconds))
    raise SettingsError(
        f"Bad setting {PREFIX}SYNC_INTERVAL: must be whole minutes that divide an hour, or whole hours that divide a day, "
        f"in seconds (it is {seconds}). The nearest is {near}."
    )


POSSIBLE = [60 * minutes for minutes in range(1, 60) if 60 % minutes == 0] + [3600 * hours for hours in range(1, 25) if 24 % hours == 0]


def in_progress(instance: dg.DagsterInstance) -> str | None:
    """Why no further run should be asked for now, None if there is no reason."""
    running = instance.get_runs_count(dg.RunsFilter(job_name=POSITION_SYNC, statuses=UNFINISHED))
    return f"{running} {POSITION_SYNC} is queued or running already; the next tick will ask again." if running else None


def every_interval(settings: Settings) -> dg.ScheduleDefinition:
    """`position_sync` every POSITION_SYNC_SYNC_INTERVAL seconds, running from the first start."""

    @dg.schedule(
        name="position_sync_schedule",
        job_name=POSITION_SYNC,
        cron_schedule=cron(settings.sync_interval),
        execution_timezone=ZONE,
        default_status=dg.DefaultScheduleStatus.RUNNING if settings.enabled else dg.DefaultScheduleStatus.STOPPED,
        description="Syncs every account. A tick passes while a sync is queued or running, so that they never pile up.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        reason = in_progress(context.instance)
        return dg.SkipReason(reason) if reason else dg.RunRequest(tags={TRIGGER: "schedule"})

    return schedule
