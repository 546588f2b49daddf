"""How often a gateway is asked while fills of others come in, second by second, with no clock but the given one."""

from __future__ import annotations

import math
from bisect import bisect_left

import pytest

from position_pipeline.brokers.ibkr_pacing import Allowance

LIBRARY = 45
"""Messages a second that the library lets through; what exceeds them waits for the rest of the second."""


def play(moments: list[float]) -> tuple[list[float], list[float]]:
    """(when questions were asked, how long each of the changed positions waited for one), where an answer takes no time."""
    allowance, now = Allowance(), 0.0
    asked: list[float] = []
    waits: list[float] = []
    while len(waits) < len(moments):
        now = max(now, moments[len(waits)])
        now += allowance.wait(now)
        allowance.use()
        asked.append(now)
        waits += [now - each for each in moments[len(waits) : bisect_left(moments, math.nextafter(now, math.inf))]]
    return asked, sorted(waits)


def at(rate: float, seconds: float) -> list[float]:
    return [100 + number / rate for number in range(round(rate * seconds))]


def test_fills_after_quiet_times_are_asked_for_at_once():
    asked, waits = play(at(1, 20))
    assert len(asked) == 20
    assert waits[-1] == 0


@pytest.mark.parametrize("rate", [20, 40, 50, 80, 400])
def test_however_fast_fills_come_the_library_never_has_to_hold_a_question_back(rate):
    asked, _ = play(at(rate, 10))
    assert max(bisect_left(asked, moment + 1) - number for number, moment in enumerate(asked)) <= 43 < LIBRARY


def test_of_fifty_fills_a_second_most_are_asked_for_at_once_and_all_within_a_few_hundredths():
    """At 40 a second and two to be allowed again, the longest wait is 2 / 40 s = 50 ms."""
    _, waits = play(at(50, 40))
    assert waits[len(waits) // 2] < 0.001
    assert waits[int(len(waits) * 0.95)] < 0.035
    assert waits[-1] < 0.05


def test_what_was_used_at_once_comes_back():
    allowance = Allowance()
    assert [allowance.wait(100.0) or allowance.use() for _ in range(3)] == [None] * 3
    assert allowance.wait(100.0) == pytest.approx(2 / 40)
    assert allowance.wait(100.0 + 1.5 / 40) == pytest.approx(0.5 / 40), "one alone is not enough"
    assert allowance.wait(100.0 + 2.01 / 40) == 0
    assert allowance.wait(200.0) == 0
