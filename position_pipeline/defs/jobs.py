"""The jobs: which assets are made together, and how long that may take.

Belongs here: selections and run tags. Does not belong here: when a job runs (schedules, sensors).
"""

from typing import TYPE_CHECKING

import dagster as dg

from position_pipeline.defs.assets import ASSETS
from position_pipeline.defs.checks import NIGHTLY
from position_pipeline.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

POSITION_SYNC = "position_sync"
BOOK_VERIFICATION = "book_verification"
HOUSEKEEPING = "housekeeping"

OURS = (POSITION_SYNC, BOOK_VERIFICATION, HOUSEKEEPING)
"""The jobs. Their runs, and those by hand, show by a lock in the database that their process lives."""

SPARE = 180
"""Seconds of a run beside its brokers' time: a cold start on a slow machine, a wait for another sync, a large first booking."""

LONGEST_VERIFICATION = 4 * 3600
"""Seconds: a book of a million fills takes a few minutes."""


def position_sync(settings: Settings) -> "UnresolvedAssetJobDefinition":
    """Capture, record, reconcile, and every check of it that does not take the whole history."""
    return dg.define_asset_job(
        POSITION_SYNC,
        selection=dg.AssetSelection.assets(*ASSETS) - dg.AssetSelection.checks(*NIGHTLY),
        description="Ask every broker once, book new fills, hold the answers against the book, and prove the result.\n\n"
        "For some accounts only, add the run tag `position_sync/accounts` with their names, separated by commas.",
        tags={"dagster/max_runtime": longest_run(settings)},
        executor_def=dg.in_process_executor,
    )


def book_verification() -> "UnresolvedAssetJobDefinition":
    """The checks that read the whole history, and nothing else: no broker is asked."""
    return dg.define_asset_job(
        BOOK_VERIFICATION,
        selection=dg.AssetSelection.checks(*NIGHTLY),
        description="Make every position anew from its first entry, and compare it with what is stored, to the last digit.",
        tags={"dagster/max_runtime": LONGEST_VERIFICATION},
        executor_def=dg.in_process_executor,
    )


def is_by_hand(job: str) -> bool:
    """Whether it is Dagster's own job, of which a run is that somebody starts from the pages of assets."""
    return job.startswith("__")


def longest_run(settings: Settings) -> int:
    """Seconds after which a run hangs: each broker may use its timeout, once to connect and once to answer."""
    brokers = max(len(settings.ibkr_connections()), 1)
    return SPARE + 2 * brokers * round(settings.broker_timeout)
