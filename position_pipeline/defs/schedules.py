"""When jobs run by the clock: `position_sync` every few minutes, `book_verification` every night,
`housekeeping` every three hours.

Belongs here: the cron line, and the reasons to let a tick pass. Does not belong here: what runs (jobs), the run after a start (sensors).
"""

import dagster as dg

from position_pipeline.defs.jobs import BOOK_VERIFICATION, HOUSEKEEPING, POSITION_SYNC
from position_pipeline.defs.session import TRIGGER
from position_pipeline.settings import Settings

ZONE = "America/New_York"
"""The zone in which the exchanges' day is counted."""

QUIET_HOUR = "15 3 * * *"
"""Between two trading days, after the brokers' nightly restarts; in the spring the hour from two to three is left out."""

EVERY_THREE_HOURS = "45 */3 * * *"
"""Between two syncs of the usual interval; the one at night comes when the book has been verified."""

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def cron(seconds: int) -> str:
    """The cron line of an interval, which the settings have found to be a part of an hour or of a day."""
    minutes, hours = seconds // 60, seconds // 3600
    if not hours:
        return f"*/{minutes} * * * *"
    return f"0 */{hours} * * *" if hours < 24 else "0 0 * * *"


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


def every_night(settings: Settings) -> dg.ScheduleDefinition:
    """`book_verification` in a quiet hour of every night, running from the first start."""
    return dg.ScheduleDefinition(
        name="book_verification_schedule",
        job_name=BOOK_VERIFICATION,
        cron_schedule=QUIET_HOUR,
        execution_timezone=ZONE,
        default_status=dg.DefaultScheduleStatus.RUNNING if settings.enabled else dg.DefaultScheduleStatus.STOPPED,
        description="Proves every night that the book is what its entries make.",
    )


def every_few_hours(settings: Settings) -> dg.ScheduleDefinition:
    """`housekeeping` every three hours, running from the first start."""
    return dg.ScheduleDefinition(
        name="housekeeping_schedule",
        job_name=HOUSEKEEPING,
        cron_schedule=EVERY_THREE_HOURS,
        execution_timezone=ZONE,
        default_status=dg.DefaultScheduleStatus.RUNNING if settings.enabled else dg.DefaultScheduleStatus.STOPPED,
        description="Deletes old runs and old answers of brokers, so that the database does not grow for ever.",
    )
