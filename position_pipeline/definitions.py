"""The whole graph in one glance.

Belongs here: what `dagster dev` and the other Dagster processes load. Does not belong here: any part of it (defs).

    broker_snapshots --> trade_executions --> reconciled_positions, partial_close_pnl, position_events
"""

from collections.abc import Callable, Sequence

import dagster as dg
from pydantic import SecretStr

from position_pipeline import connections
from position_pipeline import settings as settings_module
from position_pipeline.brokers import Broker
from position_pipeline.defs import alerting, assets, checks, housekeeping, jobs, resources, schedules, sensors
from position_pipeline.settings import Settings


def build_defs(
    *,
    settings: Settings | None = None,
    brokers: Callable[[], Sequence[Broker]] | None = None,
    database_url: str | None = None,
) -> dg.Definitions:
    """Fresh definitions; tests give what they want otherwise. Nothing is connected before a run.

    Raises `SettingsError`, which Dagster shows as the reason why the code location did not load.
    """
    settings = settings or settings_module.load()
    if database_url is not None:
        settings = settings.model_copy(update={"database_url": SecretStr(database_url)})
    return dg.Definitions(
        assets=assets.ASSETS,
        asset_checks=checks.CHECKS,
        jobs=[jobs.position_sync(settings), jobs.book_verification(), housekeeping.housekeeping(settings)],
        schedules=[schedules.every_interval(settings), schedules.every_night(settings), schedules.every_few_hours(settings)],
        sensors=[
            sensors.sync_at_start(settings),
            sensors.executions_sensor(settings),
            sensors.sync_requests_sensor(settings),
            alerting.alerts(settings),
        ],
        resources={"sync": resources.sync_session(settings, brokers or (lambda: connections.brokers(settings)))},
        executor=dg.in_process_executor,
    )


defs = build_defs()
