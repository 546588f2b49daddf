"""A whole run for tests: the real definitions on a real database, against the simulated broker, in a real Dagster instance."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from position_pipeline.brokers.ibkr import IbkrBroker
from position_pipeline.definitions import build_defs
from position_pipeline.settings import Settings
from position_pipeline.simulator import Simulator, default_scenario

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Ran:
    """What one run left in the event log."""

    success: bool
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: dict[str, dg.AssetCheckEvaluation] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> dict[str, bool]:
        return {name: check.passed for name, check in self.checks.items()}


def read(result: dg.ExecuteInProcessResult) -> Ran:
    ran = Ran(result.success)
    for event in result.all_events:
        if event.is_step_materialization:
            made = event.step_materialization_data.materialization
            ran.made[made.asset_key.to_user_string()] = {label: value.value for label, value in made.metadata.items()}
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            ran.checks[event.asset_check_evaluation_data.check_name] = event.asset_check_evaluation_data
        elif event.is_step_failure:
            data = event.step_failure_data
            said = data.user_failure_data.description if data.user_failure_data else data.error.to_string()
            ran.failures[event.step_key] = said or ""
    return ran


def rows(table: Any) -> list[dict[str, Any]]:
    """The records of a table in metadata, as it came or as its value."""
    return [dict(record.data) for record in getattr(table, "records", table)]


@pytest.fixture
def sim() -> Iterator[Simulator]:
    # Of the week, because a test may run over midnight in New York; some minutes ago, because tests let its clock go on.
    minutes_ago = datetime.now(UTC) - timedelta(minutes=5)
    with Simulator(default_scenario(), speed=0, starts_at=minutes_ago, executions_since="week") as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, broker_timeout=10)


@pytest.fixture
def brokers(sim: Simulator):
    return lambda: [IbkrBroker(name="simulator", host=sim.host, port=sim.port)]


@pytest.fixture
def defs(brokers, settings: Settings, database: str) -> dg.Definitions:
    return build_defs(settings=settings, brokers=brokers, database_url=database)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def sync(defs: dg.Definitions, instance: dg.DagsterInstance):
    """Run `position_sync`, or only some of its assets."""

    def run(*assets: str, job: str = "position_sync", given: dg.Definitions = defs, **tags: str) -> Ran:
        only = [dg.AssetKey(name) for name in assets] or None
        named = {f"position_sync/{name}": value for name, value in tags.items()}
        resolved = given.resolve_job_def(job)
        return read(resolved.execute_in_process(instance=instance, raise_on_error=False, asset_selection=only, tags=named))

    return run
