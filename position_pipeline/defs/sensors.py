"""What asks for runs because of something that happened: a start, recorded fills, a request.

Belongs here: what is looked at, and which run is asked for. Does not belong here: the clock (schedules), how long something has to wait
(patience).

The daemon looks at its sensors every five seconds, and that cannot be set. So two of them do not look once and go: they wait inside
their tick, woken by PostgreSQL, until there is something to ask for or the tick has lasted `WATCH` seconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import dagster as dg

from position_pipeline import connections
from position_pipeline.defs.jobs import POSITION_SYNC
from position_pipeline.defs.patience import Memory, Waiting
from position_pipeline.defs.schedules import in_progress
from position_pipeline.defs.session import ACCOUNTS, REQUESTED, TRIGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from position_pipeline.settings import Settings
    from position_pipeline.store import Store

    Look = Callable[[Store], list[Waiting]]

INTERVAL = 20
"""Seconds between ticks of `sync_at_start`. The first comes when the daemon starts, but not sooner than this after the last tick before
it stopped: this bounds how late the first sync after a quick restart is. 4,320 skipped ticks a day are some 5 MB, kept for a day
(dagster.yaml)."""

WATCH = 24.5
"""Seconds that a tick waits: a little less than five of the daemon's rounds, so that the next round begins the next tick. A code server is
given sixty seconds to answer; and a daemon that is told to stop waits for its ticks, though `up` wakes them first."""

GLANCE = 0.25
"""Seconds between two looks while something has to wait: for its time, or for the end of a run."""

LONGEST_LIST = 20
"""Accounts that a run's tag names; where more have something to verify, all are synced."""


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
        default_status=_status(on=settings.enabled),
        description="Asks for one sync when everything has started, and for nothing more until the next start.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        start = this_start(context.instance)
        if context.cursor == start:
            return dg.SensorResult(skip_reason="The sync of this start has been asked for; the schedule goes on from there.")
        return dg.SensorResult([dg.RunRequest(run_key=start, tags={TRIGGER: "start"})], cursor=start)

    return sensor


def executions_sensor(settings: Settings, watch: float = WATCH) -> dg.SensorDefinition:
    """A run of `position_sync` for the accounts with recorded fills that no broker's answer has been held against yet.

    What is to be verified is a fact in the database, not a place in a list: a fill is never passed over, and one whose run failed waits
    on. The first fill after a quiet time is verified at once, then there is one run at most in POSITION_SYNC_DEBOUNCE seconds.
    """

    @dg.sensor(
        name="executions_sensor",
        job_name=POSITION_SYNC,
        minimum_interval_seconds=1,
        default_status=_status(on=settings.enabled and settings.sync_on_trade),
        description="Asks for a sync of the accounts whose newest fills are not verified against their broker.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return _watch(context, settings, watch, _fills_to_verify(settings), "trade")

    return sensor


def sync_requests_sensor(settings: Settings, watch: float = WATCH) -> dg.SensorDefinition:
    """A run of `position_sync` that carries out the open rows of `sync_requests`, where no listener lives that does."""

    @dg.sensor(
        name="sync_requests_sensor",
        job_name=POSITION_SYNC,
        minimum_interval_seconds=1,
        default_status=_status(on=settings.enabled),
        description="Asks for the syncs that a page asked for, unless a listener is there to carry them out.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return _watch(context, settings, watch, _requests, REQUESTED)

    return sensor


def _status(*, on: bool) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED


def _fills_to_verify(settings: Settings) -> Look:
    only = set(settings.default_accounts)

    def look(store: Store) -> list[Waiting]:
        found = store.verification.outstanding()
        return [Waiting(row.account, row.verified_to, row.up_to) for row in found if not only or row.account in only]

    return look


def _requests(store: Store) -> list[Waiting]:
    return [Waiting(row["account"] or "", row["id"] - 1, row["id"]) for row in store.streaming.left_alone()]


def _watch(context: dg.SensorEvaluationContext, settings: Settings, seconds: float, look: Look, trigger: str) -> dg.SensorResult:
    """Look, and wait, until a run is to be asked for or the tick's time is up."""
    until = time.monotonic() + seconds
    memory = Memory.read(context.cursor)
    with connections.store(settings) as store:
        store.verification.listen()
        while True:
            waiting = look(store)
            memory = memory.settled(waiting)
            due = memory.due(waiting, time.time(), settings.debounce)
            busy = in_progress(context.instance) if due else None
            if due and not busy:
                return _asked(memory, due, trigger)
            left = until - time.monotonic()
            if left <= 0 or store.verification.stopping:
                said = busy or (f"{len(waiting)} account(s) wait for their turn." if waiting else "Nothing waits.")
                return dg.SensorResult(skip_reason=said, cursor=memory.written())
            store.verification.wait(min(left, GLANCE) if waiting else left)


def _asked(memory: Memory, due: Sequence[Waiting], trigger: str) -> dg.SensorResult:
    names = [one.name for one in due]
    named = {ACCOUNTS: ",".join(names)} if all(names) and len(names) <= LONGEST_LIST else {}
    request = dg.RunRequest(run_key=memory.key(due, trigger), tags={TRIGGER: trigger, **named})
    return dg.SensorResult([request], cursor=memory.asking(due, time.time()).written())
