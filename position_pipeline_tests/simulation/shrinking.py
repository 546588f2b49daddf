"""A smaller plan that still fails in the same way: steps are taken out, many at once and then one by one.

Belongs here: that. A plan without some of its steps is a plan: what is not possible any more is passed over (world.py).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from position_pipeline_tests.simulation.driver import play

if TYPE_CHECKING:
    from position_pipeline_tests.simulation.database import Databases
    from position_pipeline_tests.simulation.driver import Played
    from position_pipeline_tests.simulation.plan import Plan

LONGEST = 45
"""Seconds."""


def shrunk(failed: Played, databases: Databases) -> Played:
    """The smallest failure of the same kind that is found in time."""
    until, kind, best = time.monotonic() + LONGEST, _kind(failed), failed

    def tried(plan: Plan) -> Played | None:
        url = databases.fresh()
        try:
            one = play(url, plan)
        except Exception:  # noqa: BLE001  a smaller plan that ends in another way is none of this failure
            return None
        return one if one.violations and _kind(one) == kind else None

    size = len(best.plan.steps) // 2
    while size and time.monotonic() < until:
        place = 0
        while place < len(best.plan.steps) and time.monotonic() < until:
            smaller = tried(best.plan.without(place, place + size))
            if smaller is None:
                place += size
            else:
                best = smaller
        size //= 2
    for held in best.plan.opening:
        smaller = tried(replace(best.plan, opening=tuple(each for each in best.plan.opening if each != held)))
        best = smaller or best
    return best


def _kind(played: Played) -> str:
    return played.violations[0].partition(":")[0]
