"""`python -m position_pipeline_tests.simulation`: looks for a history that ends in a wrong book.

    --minutes 5      fresh seeds until the time is over (default 1); the first one is printed first
    --count 200      so many seeds instead
    --seed N         begin with this seed; alone: just this one, told step by step
    --shrink         take steps out of the failing plan while it still fails the same way

Ends with 1 at the first failure, which it prints with the seed that plays it again.
"""

# ruff: noqa: T201  it is a program, and printing is what it is for

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import SystemRandom

from position_pipeline.store import embedded
from position_pipeline_tests.simulation.database import Databases
from position_pipeline_tests.simulation.driver import Played, play
from position_pipeline_tests.simulation.plan import plan
from position_pipeline_tests.simulation.shrinking import shrunk


def main() -> int:
    given = _arguments()
    first = given.seed if given.seed is not None else SystemRandom().randrange(9_000_000)
    count = given.count or (1 if given.seed is not None and given.minutes is None else None)
    print(f"first seed {first}", flush=True)
    until = time.monotonic() + 60 * (given.minutes or 1)
    with tempfile.TemporaryDirectory() as folder, embedded.running(Path(folder) / "server") as server:
        return _search(Databases(server), first, count, until, shrink=given.shrink, keep_going=given.keep_going)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m position_pipeline_tests.simulation", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, help="begin with this seed; alone: just this one")
    parser.add_argument("--count", type=int, help="so many seeds")
    parser.add_argument("--minutes", type=float, help="so long (default 1)")
    parser.add_argument("--shrink", action="store_true", help="make a failing plan smaller")
    parser.add_argument("--keep-going", action="store_true", help="tell all failures, in one line each")
    return parser.parse_args()


def _search(databases: Databases, first: int, count: int | None, until: float, *, shrink: bool, keep_going: bool) -> int:
    began, total, number, days, failed = time.monotonic(), Played(plan(first)), 0, 0, 0
    while number < count if count else time.monotonic() < until:
        one = play(databases.shared(), plan(first + number))
        number += 1
        days += one.plan.days
        for name in ("events", "faults", "marks"):
            getattr(total, name).update(getattr(one, name))
        if one.violations:
            failed += 1
            _tell(one, databases, shrink=shrink)
            if not keep_going:
                break
    took = time.monotonic() - began
    print(f"{number} histories, {days} days in {took:.0f} s, {failed} failed")
    for name in ("events", "faults", "marks"):
        print(f"  {name}: " + ", ".join(f"{what} {times}" for what, times in sorted(Counter(getattr(total, name)).items())))
    return 1 if failed else 0


def _tell(one: Played, databases: Databases, *, shrink: bool) -> None:
    if shrink:
        one = shrunk(one, databases)
        print(f"  {one.plan.opening} options end on days {one.plan.expiries}, {one.plan.method}")
        for step in one.plan.steps:
            print(f"  day {step.at // 86_400} {step.at % 86_400 // 3600:02}:{step.at % 3600 // 60:02}:{step.at % 60:02} {step}")
    print(f"FAILED: python -m position_pipeline_tests.simulation --seed {one.plan.seed}")
    for each in one.violations[:8]:
        print(f"  {each[:700]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
