"""When something that waits may ask for a run: at once, then not too often, and after failures less and less often."""

from __future__ import annotations

import pytest

from position_pipeline.defs.patience import LONGEST_PAUSE, Memory, Waiting

A, B = Waiting("A", 0, 7), Waiting("B", 0, 9)


def names(found):
    return [one.name for one in found]


def test_the_first_is_due_at_once_and_the_next_after_the_pause():
    memory = Memory()
    assert names(memory.due([A], 100.0, 5)) == ["A"]
    memory = memory.asking([A], 100.0)
    assert memory.due([A, B], 104.9, 5) == []
    assert names(memory.due([A, B], 105.0, 5)) == ["A", "B"]


def test_without_a_pause_the_next_is_due_at_once():
    assert names(Memory().asking([A], 100.0).due([B], 100.0, 0)) == ["B"]


def test_each_try_that_failed_doubles_the_wait_up_to_a_bound():
    memory, now, waits = Memory(), 0.0, []
    for _ in range(9):
        memory = memory.asking([A], now)
        later = next(s for s in range(1, 1000) if memory.due([A], now + s, 5))
        waits.append(later)
        now += later
    # 5 * 2^0, 5 * 2^1, ... and never longer than 300
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert LONGEST_PAUSE == 300


def test_what_fails_again_and_again_does_not_hold_up_the_others_nor_they_it():
    memory, now = Memory(), 0.0
    for _ in range(4):
        memory, now = memory.asking([A], now), now + 100
    asked = []
    for second in range(400, 460, 5):
        due = memory.due([A, B], float(second), 5)
        asked += names(due)
        memory = memory.asking(due, float(second)) if due else memory
        memory = memory.settled([A, Waiting("B", 9, 10)])
    assert asked.count("A") >= 1
    assert asked.count("B") == 12


def test_what_has_been_done_is_forgotten_and_what_has_come_since_is_a_first_try():
    memory = Memory().asking([A], 100.0)
    assert memory.settled([A]).asked == {"A": (7, 1, 100.0)}
    assert memory.settled([]).asked == {}
    assert memory.settled([Waiting("A", 7, 8)]).asked == {}
    assert memory.settled([Waiting("A", 6, 8)]).asked == {"A": (7, 1, 100.0)}


def test_the_key_is_the_same_for_the_same_work_and_another_for_each_try_and_for_more_work():
    first = Memory().key([A, B], "trade")
    assert first == Memory().key([B, A], "trade")
    assert first.startswith("trade:9:")
    again = Memory().asking([A, B], 1.0).key([A, B], "trade")
    more = Memory().key([A, Waiting("B", 0, 10)], "trade")
    assert len({first, again, more}) == 3


def test_a_memory_survives_the_cursor():
    memory = Memory().asking([A], 100.5)
    assert Memory.read(memory.written()) == memory


@pytest.mark.parametrize("cursor", [None, "", "{", "[]", "7", '{"at": "x"}', '{"asked": {"A": [1]}}'])
def test_a_cursor_that_cannot_be_read_counts_as_none(cursor):
    assert Memory.read(cursor) == Memory()


def test_a_clock_that_is_set_back_does_not_stop_it():
    memory = Memory().asking([A], 1_000_000.0)
    assert names(memory.due([A], 500.0, 5)) == ["A"]
    assert memory.due([A], 999_999.0, 5) == []
