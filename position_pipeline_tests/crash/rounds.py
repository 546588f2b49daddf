"""A seed becomes a list of kills; each is done while fills stream in, waited for, and checked.

Belongs here: who is killed when, and how long coming back may take. Does not belong here: what must hold (checking.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from position_pipeline_tests.crash import checking
from position_pipeline_tests.crash.trading import Trading
from position_pipeline_tests.crash.world import SUPERVISED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from position_pipeline_tests.crash.world import World

VICTIMS = {
    "listener": 4, "sync": 2, "worker": 3, "daemon": 2, "code-server": 2, "postgres": 3, "everything": 2, "supervisord": 1, "up": 1,
}  # fmt: skip
"""Who is killed in twenty rounds, and how often. A sync is a command that a person gives; everything is all of the others at once but those
who start them: of supervisord and `up` the kernel tells the others, which end. Somebody has to start `up` again, and here we do."""

ORDER = {"worker": 0, "listener": 2, "sync": 2}
MOVED = "moved"
"""PostgreSQL is killed and comes back on another port, so that all of Dagster has to be started again: one round in twenty of a soak."""

SPAN = 0.8
"""Seconds of trading before the kill, at most, and again after it."""

BACK = 45
"""Seconds until the book is the broker's again and who was killed lives again; a listener that cannot connect tries again within that."""

ENDED = 90
"""Seconds until nothing is left of an `up` that was killed: its supervisord stops one after the other, and gives each fifteen."""

QUIET = 150
"""Seconds until Dagster holds nothing and has verified every fill. A run whose process was killed together with the code server, or that
could not write its end because PostgreSQL was away, is found out after half a minute; one that was only just being launched after a minute
(dagster.yaml). Only then comes the next one."""


@dataclass(frozen=True, slots=True)
class Round:
    """One kill: who, so many seconds after trading began, and how long trading goes on after it."""

    number: int
    victim: str
    before: float
    after: float


def plan(seed: int, rounds: int, also: tuple[str, ...] = (), *, quick: bool = False) -> list[Round]:
    """Every victim at least once in twenty rounds, and those of `also` once; the order is drawn.

    What leaves an orphaned run behind blocks the next ones for half a minute. Where it has to be `quick`, the runs that are killed on purpose
    come first, and those who have nothing to do with Dagster last: the orphan is found out meanwhile.
    """
    random = Random(f"{seed}/kills")
    drawn: list[str] = []
    while len(drawn) < rounds:
        twenty = [victim for victim, often in VICTIMS.items() for _ in range(often)]
        twenty[: len(also)] = also
        random.shuffle(twenty)
        drawn += sorted(twenty, key=lambda victim: ORDER.get(victim, 1)) if quick else twenty
    return [Round(n, victim, random.uniform(0, SPAN), random.uniform(0, SPAN)) for n, victim in enumerate(drawn[:rounds], 1)]


_ROLES = {MOVED: "postgres"}
STARTERS = ("up", "supervisord")


class Rounds:
    """Plays rounds in a world. `tell` hears a line about each."""

    def __init__(self, world: World, seed: int, tell: Callable[[str], object] = lambda _: None) -> None:
        self._world, self._tell = world, tell
        self._random = Random(f"{seed}/trading")
        self.fills = 0
        self.took: list[float] = []

    def play(self, rounds: Iterable[Round]) -> None:
        for one in rounds:
            try:
                self._play(one)
            except AssertionError as error:
                raise AssertionError(f"round {one}: {error}") from None

    def _play(self, one: Round) -> None:
        world = self._world
        with Trading(world.broker, self._random) as trading:
            victims = self._kill(one)
            killed_at = time.monotonic()
            time.sleep(one.after)
        self.fills += trading.fills
        self._back(victims)
        self.took.append(time.monotonic() - killed_at)
        self._tell(f"round {one.number:3d} {one.victim:<12} {trading.fills:3d} fills  back after {self.took[-1]:5.1f} s")

    def _kill(self, one: Round) -> set[int]:
        """Kill whom the round names, at its moment; who was killed."""
        world = self._world
        sync = world.sync() if one.victim in ("sync", "everything") else None
        if one.victim == "worker":
            world.wait_for(lambda: world.pids("worker"), "a run begins", QUIET)
        time.sleep(one.before)
        if one.victim == MOVED:
            (world.home / "postgres" / "port").write_text("0")
        census = world.census()
        if one.victim == "everything":
            victims = set[int]().union(*(pids for role, pids in census.items() if role not in STARTERS))
        else:
            victims = census[_ROLES.get(one.victim, one.victim)]
        world.kill(victims)
        if one.victim == "up":
            world.start_again(ENDED)
        if sync is not None:
            sync.wait(BACK)
        return victims

    def _back(self, victims: set[int]) -> None:
        """Wait until all live again and the book is right, and nobody holds it."""
        world = self._world

        def alive() -> bool:
            census = world.census()
            return all(census[role] - victims for role in ("postgres", *SUPERVISED)) and not checking.twice(census)

        world.wait_for(alive, "everybody lives again, and once", BACK)
        wrong = self._until_right(lambda: checking.fills(world) or checking.positions(world), BACK)
        wrong = wrong or checking.book(world) or self._until_right(lambda: checking.locks(world), BACK)
        assert not wrong, "\n".join([*wrong[:20], world.logs()])

    def quiet(self) -> float:
        """Wait until Dagster has verified every fill against the broker and holds nothing; the seconds that it took."""
        world, began = self._world, time.monotonic()
        wrong = self._until_right(lambda: checking.unverified(world) or checking.slots(world) or checking.locks(world), QUIET)
        assert not wrong, "\n".join([*wrong[:20], world.logs()])
        return time.monotonic() - began

    def _until_right(self, look: Callable[[], list[str]], patience: float) -> list[str]:
        """Look until nothing is wrong; what still is when the time is up."""
        last = ["PostgreSQL is away"]

        def right() -> bool:
            last[:] = look()
            return not last

        try:
            self._world.wait_for(right, "", patience)
        except AssertionError:
            assert last, "up has ended"
        return last
