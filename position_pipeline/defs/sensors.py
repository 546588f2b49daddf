"""What asks for runs because of something that happened.

Belongs here: `sync_at_start`. Does not belong here: the clock (schedules).
"""

import dagster as dg

from position_pipeline.defs.jobs import POSITION_SYNC
from position_pipeline.defs.session import TRIGGER
from position_pipeline.settings import Settings

INTERVAL = 20
"""Seconds between ticks. The first comes when the daemon starts, but not sooner than this after the last tick before it stopped: this
bounds how late the first sync after a quick restart is. 4,320 skipped ticks a day are some 5 MB, kept for a day (dagster.yaml)."""


def this_start(instance: dg.DagsterInstance) -> str:
    """What is new with each start of the daemon, and with nothing else.

    When this module was loaded would not do: a daemon that starts the code itself loads it anew every minute.
    """
    beat = instance.get_daemon_heartbeats().get("SENSOR")
    return f"start:{beat.daemon_id}" if beat and beat.daemon_id else "start:first"


def sync_at_start(settings: Settings) -> dg.SensorDefinition:
    """One run of `position_sync` right after the start, so that nobody waits for the schedule to see whether it works."""

    @dg.sensor(
        name="sync_at_start",
        job_name=POSITION_SYNC,
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.enabled else dg.DefaultSensorStatus.STOPPED,
        description="Asks for one sync when everything has started, and for nothing more until the next start.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        start = this_start(context.instance)
        if context.cursor == start:
            return dg.SensorResult(skip_reason="The sync of this start has been asked for; the schedule goes on from there.")
        return dg.SensorResult([dg.RunRequest(run_key=start, tags={TRIGGER: "start"})], cursor=start)

    return sensor
