"""Time in a simulator: how much of it has passed, and which event is due.

Here: the clock and the timeline of events. Not here: what an event does (`broker.py`), keeping the time over a restart
(`state.py`).
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from position_pipeline.simulator.scenario import Event, Scenario


class Clock:
    """Play time in seconds, and the broker's wall clock.

    With speed 0 both stand still but for `advance`; otherwise play time runs `speed` times as fast as the wall clock.
    """

    def __init__(self, speed: float = 1, starts_at: datetime | None = None, elapsed: Decimal = Decimal(0)) -> None:
        self.speed = speed
        self._base = elapsed
        self._advanced = Decimal(0)
        self._started = time.monotonic()
        self.starts_at = starts_at
        self._origin = starts_at

    @property
    def elapsed(self) -> Decimal:
        running = Decimal(f"{(time.monotonic() - self._started) * self.speed:.3f}")
        return self._base + self._advanced + running

    def advance(self, seconds: Decimal) -> None:
        self._advanced += seconds

    def now(self) -> datetime:
        """The moment an execution of now is stamped with, to the second as the broker does."""
        return self._exact().replace(microsecond=0)

    def _exact(self) -> datetime:
        if self.speed:
            passed = timedelta(seconds=time.monotonic() - self._started)
            return datetime.now(UTC) if self._origin is None else self._origin + passed
        if self._origin is None:
            self._origin = datetime.now(UTC)
        return self._origin + timedelta(seconds=float(self._advanced))


class Due(NamedTuple):
    """An event with its place: the round it belongs to (0 for a single event) and its number there."""

    at: Decimal
    round: int
    number: int
    event: Event


class Timeline:
    """Single events and rounds for ever, in order of time. Its state is three counters."""

    def __init__(self, scenario: Scenario) -> None:
        self._events, self._rounds = scenario.events, scenario.rounds
        self._next_event = 0
        self._round, self._item = 1, 0

    def peek(self) -> Due | None:
        single, again = self._single(), self._again()
        if single is None or (again is not None and again.at < single.at):
            return again
        return single

    def _single(self) -> Due | None:
        if self._next_event >= len(self._events):
            return None
        event = self._events[self._next_event]
        return Due(event.at, 0, self._next_event + 1, event)

    def _again(self) -> Due | None:
        if not self._rounds.events:
            return None
        event = self._rounds.events[self._item]
        starts = self._rounds.starts + (self._round - 1) * self._rounds.every
        return Due(starts + event.at, self._round, self._item + 1, event)

    def pop(self) -> Due | None:
        due = self.peek()
        if due is None:
            return None
        if due.round == 0:
            self._next_event += 1
        elif self._item + 1 < len(self._rounds.events):
            self._item += 1
        else:
            self._round, self._item = self._round + 1, 0
        return due

    def number_of(self, name: str, round_number: int) -> int:
        """The number of a named event in the single list (round 0) or in the rounds."""
        events = self._events if round_number == 0 else self._rounds.events
        return next(n for n, event in enumerate(events, start=1) if event.name == name)

    def state(self) -> dict[str, int]:
        return {"event": self._next_event, "round": self._round, "item": self._item}

    def restore(self, state: Mapping[str, int]) -> None:
        self._next_event, self._round, self._item = state["event"], state["round"], state["item"]
