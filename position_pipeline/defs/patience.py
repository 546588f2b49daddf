"""When something that waits may ask for a run, and when it has to wait.

Belongs here: the first at once, then not more often than allowed, after failures less and less often. Does not belong here: Dagster, the
clock, and what it is that waits (sensors).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST_PAUSE = 300.0
"""Seconds between two tries where every run so far failed: as often as the schedule tries, whatever the pause began with."""

NEVER = (0, 0, 0.0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that waits for a run: it is done up to the number `done`, and there is work up to the number `up_to`."""

    name: str
    done: int
    up_to: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What was asked for so far. `at`: when last, in seconds; `asked`: for each name the number, how many tries in a row, when last."""

    at: float | None = None
    asked: Mapping[str, tuple[int, int, float]] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None) -> Memory:
        """From a sensor's cursor; what cannot be read counts as nothing: at the worst a run is asked for that was not needed."""
        try:
            found = json.loads(text or "{}")
            asked = {str(name): (int(up_to), int(tries), float(at)) for name, (up_to, tries, at) in found.get("asked", {}).items()}
            return cls(None if found.get("at") is None else float(found["at"]), asked)
        except (ValueError, TypeError, AttributeError):
            return cls()

    def written(self) -> str:
        return json.dumps(asdict(self))

    def settled(self, waiting: Sequence[Waiting]) -> Memory:
        """Without what has been done since: a later ask for it is a first one."""
        undone = {one.name: one.done for one in waiting}
        return replace(self, asked={name: a for name, a in self.asked.items() if name in undone and undone[name] < a[0]})

    def due(self, waiting: Sequence[Waiting], now: float, pause: float) -> list[Waiting]:
        """What may be asked for now; `pause` is the least number of seconds between two runs, whatever they are for."""
        if self.at is not None and _passed(self.at, now, pause) < pause:
            return []
        return [one for one in waiting if self._rested(one.name, now, pause)]

    def _rested(self, name: str, now: float, pause: float) -> bool:
        """Whether enough time has passed since the last try; after each that failed twice as much is."""
        _, tries, at = self.asked.get(name, NEVER)
        rest = min(max(pause, 1.0) * 2.0 ** min(tries - 1, 20), max(LONGEST_PAUSE, pause))
        return tries == 0 or _passed(at, now, rest) >= rest

    def asking(self, due: Sequence[Waiting], now: float) -> Memory:
        """The memory after asking for these."""
        asked = {one.name: (one.up_to, self._tries(one.name) + 1, now) for one in due}
        return Memory(now, {**self.asked, **asked})

    def _tries(self, name: str) -> int:
        return self.asked.get(name, NEVER)[1]

    def key(self, due: Sequence[Waiting], what: str) -> str:
        """The same for the same work and the same try, so that no daemon, nor two, launch it twice."""
        lines = [f"{one.name} {one.up_to} {self._tries(one.name)}" for one in sorted(due, key=lambda one: one.name)]
        digest = hashlib.blake2b("\n".join(lines).encode(), digest_size=6).hexdigest()
        return f"{what}:{max(one.up_to for one in due)}:{digest}"


def _passed(since: float, now: float, whole: float) -> float:
    """Seconds since then. Where a clock was set back by more than the whole pause, the pause is over."""
    return now - since if now >= since - whole else whole
