"""Dagster's own way to launch runs, which also notices when a run's process is gone.

Belongs here: what run monitoring asks about a worker. Does not belong here: launching and ending runs, which the default launcher does.

A code server tells Dagster of a run process that dies. Where both are gone at once (power loss, out of memory) nobody would, and the run
would hold its place in the pool until its longest run time was over. So each of our runs holds a lock in PostgreSQL that lives as long as
its process (`Store.running`), on whatever machine that is; a run that has held none for a while is over.
"""

import time

from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.dagster_run import DagsterRun

from position_pipeline import connections, settings
from position_pipeline.defs.jobs import OURS, is_by_hand
from position_pipeline.store import DatabaseUnavailable

GRACE = 30.0
"""Seconds without the lock after which a run is over. From a run's start to its lock it takes one, on a slow machine some."""


class WatchedRunLauncher(DefaultRunLauncher):
    """Named in dagster.yaml; run monitoring asks it about every run that has started."""

    grace = GRACE

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """RUNNING unless the run is of our jobs or assets and its process has held no lock for `grace` seconds."""
        missing = self.__dict__.setdefault("_missing", {})
        if not (run.job_name in OURS or is_by_hand(run.job_name)) or self._lives(run.run_id):
            missing.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        since = missing.setdefault(run.run_id, time.monotonic())
        if time.monotonic() - since < self.grace:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        del missing[run.run_id]
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the run's process is gone; what it had not committed was undone")

    def _lives(self, run_id: str) -> bool:
        try:
            with connections.store(settings.load()) as store:
                return store.is_running(run_id)
        except DatabaseUnavailable:
            return True  # not to be told apart now
