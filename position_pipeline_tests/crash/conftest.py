"""What tests of this folder are given: a broker, an empty database, and little patience with whoever is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from position_pipeline import listener_hearing
from position_pipeline.listener_errands import Backoff
from position_pipeline.simulator import Simulator, load_scenario
from position_pipeline_tests.crash.place import Place
from position_pipeline_tests.crash.world import SCENARIO
from position_pipeline_tests.test_listener import _soon

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["_soon"]


@pytest.fixture
def broker() -> Iterator[Simulator]:
    with Simulator(load_scenario(SCENARIO), speed=1, executions_since="week") as running:
        yield running


@pytest.fixture
def place(broker, database) -> Place:
    return Place(broker, database)


@pytest.fixture(autouse=True)
def _again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is refused tries again within half a second, however often."""
    monkeypatch.setattr(listener_hearing, "Backoff", lambda least, most: Backoff(least / 5, min(most, 0.5)))
