"""`python -m position_pipeline_tests.crash`: kills parts of the running product, while fills stream in, for as long as it takes.

    --rounds 500     so many kills (default 500)
    --seed N         the same kills again; without it a new seed is drawn, and printed first
    --quiet-every 20 after so many rounds Dagster has to have verified everything and hold nothing (default 20)

Ends with 1 at the first round after which something is wrong.
"""

# ruff: noqa: T201  it is a program, and printing is what it is for

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from random import SystemRandom

from position_pipeline_tests.crash.rounds import MOVED, Rounds, plan
from position_pipeline_tests.crash.world import World


def main() -> int:
    given = _arguments()
    seed = given.seed if given.seed is not None else SystemRandom().randrange(9_000_000)
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    # Every second world hears fills that are pushed to it; the others have to ask for them.
    with tempfile.TemporaryDirectory() as folder, World(Path(folder), DEBOUNCE="1", IBKR_CLIENT_ID=str(17 * (seed % 2))) as world:
        rounds = Rounds(world, seed, lambda line: print(line, flush=True))
        planned = plan(seed, given.rounds, (MOVED,))
        try:
            while planned:
                rounds.play(planned[: given.quiet_every])
                del planned[: given.quiet_every]
                print(f"verified, and nothing held, after {rounds.quiet():.1f} s", flush=True)
            code, left = world.stop(), world.left()
        except AssertionError as error:
            print(f"{error}\n\nseed {seed}: python -m position_pipeline_tests.crash --seed {seed} --rounds {given.rounds}")
            return 1
    took = sorted(rounds.took)
    print(
        f"{len(took)} rounds, {rounds.fills} fills, none lost, none twice; back after {statistics.median(took):.1f} s "
        f"(median), {took[-1]:.1f} s (longest); {time.monotonic() - began:.0f} s in all"
    )
    if code or left:
        print(f"up ended with {code} and left {sorted(left)}")
    return int(bool(code or left))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m position_pipeline_tests.crash", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=500, help="so many kills")
    parser.add_argument("--seed", type=int, help="the same kills again")
    parser.add_argument("--quiet-every", type=int, default=20, help="rounds between two looks at Dagster")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
