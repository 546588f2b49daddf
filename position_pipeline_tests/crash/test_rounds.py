"""Twenty kills, while fills stream in: after each, every fill is there once, and everything has come back by itself."""

from __future__ import annotations

import sys

import pytest

from position_pipeline_tests.crash.rounds import VICTIMS, Rounds, plan
from position_pipeline_tests.crash.world import World

SEED = 20


def test_a_seed_gives_the_same_kills_again_and_twenty_rounds_kill_everybody():
    assert plan(SEED, 20) == plan(SEED, 20) != plan(SEED + 1, 20)
    assert {one.victim for one in plan(SEED, 20)} == set(VICTIMS)


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_whoever_is_killed_no_fill_is_lost_or_booked_twice_and_everything_comes_back(tmp_path):
    with World(tmp_path, DEBOUNCE="1", IBKR_CLIENT_ID="0") as world:
        rounds = Rounds(world, SEED)
        rounds.play(plan(SEED, 20, quick=True))
        assert rounds.fills > 100
        rounds.quiet()
        assert world.stop() == 0
        assert not world.left()
