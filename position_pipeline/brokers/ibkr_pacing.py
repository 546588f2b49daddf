"""How often a gateway may be asked: figures, and the allowance of questions that changed positions raise. Pure.

Belongs here: counting. Does not belong here: what is asked, and what for (ibkr_conversation.py).
"""

from __future__ import annotations

from typing import NamedTuple

RESUME = 2.0
"""Questions that have to be allowed again after all were used."""


class Pace(NamedTuple):
    """Seconds. What is asked how often, and how long an answer may take."""

    heartbeat: float = 3.0  # of silence, after which the time is asked for
    deadline: float = 6.0  # until that has to be answered
    poll: float = 3.0  # between two lists of an account's newest executions
    all: float = 30.0  # between two lists of all of an account's executions of today
    share: float = 0.05  # of the time that may be spent on those, where they are long
    between: float = 0.2  # between the lists of two accounts


class Allowance:
    """Questions for executions that may be asked: three at once, and 40 more a second.

    A gateway takes 50 messages a second, and the library holds back what exceeds 45 until a second has passed, for which every fill of that
    time would wait. This stays below both, and leaves some for a sync. Where fills come faster than they may be asked for, most are
    still asked for at once and the others together: once all is used, two questions have to be allowed again before the next.
    """

    def __init__(self, rate: float = 40.0, most: float = 3.0) -> None:
        self._rate, self._most = rate, most
        self._left, self._needed, self._at = most, 1.0, 0.0

    def wait(self, now: float) -> float:
        """Seconds until a question may be asked; 0.0: now. `now` is of one monotonic clock."""
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1.0:
            self._needed = RESUME
        return max(self._needed - self._left, 0.0) / self._rate

    def use(self) -> None:
        """A question was asked."""
        self._left -= 1.0
        self._needed = 1.0
