"""A sync of 2 accounts x 500 positions without a change: the whole command, and our own part of it.

The command is a process of its own, as a person runs it: interpreter, imports, the broker's wire, the database. Our own work is what the
sync log says: from the broker's last byte to the end of the pass. How that grows with what is held and with what changed is in growth.py.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import growth
from position_pipeline.simulator import Simulator, many_positions
from position_pipeline.store import embedded, upgrade

ROUNDS = 9
ACCOUNTS, POSITIONS = 2, 500


def main() -> None:
    """Print medians and the slowest of several rounds."""
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded.running(Path(folder) / "home") as url,
        Simulator(many_positions(accounts=ACCOUNTS, positions=POSITIONS), speed=0) as broker,
    ):
        upgrade(url)
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POSITION_SYNC_")},
            "DATABASE_URL": url,
            "POSITION_SYNC_HOME": folder,
            "POSITION_SYNC_IBKR_HOST": broker.host,
            "POSITION_SYNC_IBKR_PORT": str(broker.port),
        }
        first = _sync(environ)
        rounds = [_sync(environ) for _ in range(ROUNDS)]
        python = [_timed([sys.executable, "-c", "pass"], environ)[0] for _ in range(ROUNDS)]
    assert all(outcome == "unchanged" for _, _, outcome in rounds), "nothing changed between the rounds"
    print(f"position-pipeline sync, {ACCOUNTS} accounts x {POSITIONS} positions, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    _line("first contact, whole command", [first[0]])
    _line("no change, whole command", [whole for whole, _, _ in rounds], "goal: under 1.5 s")
    _line("  of which our own work", [own / 1000 for _, own, _ in rounds], "goal: under 0.1 s")
    _line("  a bare Python interpreter, for comparison", python)
    with tempfile.TemporaryDirectory() as folder, embedded.running(Path(folder) / "home") as url:
        upgrade(url)
        growth.measure(url)


def _sync(environ: dict[str, str]) -> tuple[float, float, str]:
    """(seconds of the whole command, own milliseconds, outcome)."""
    seconds, output = _timed([sys.executable, "-m", "position_pipeline.cli", "sync", "--json"], environ)
    rows = json.loads(output)
    outcomes = {row["outcome"] for row in rows}
    return seconds, max(row["own_ms"] for row in rows), outcomes.pop() if len(outcomes) == 1 else "mixed"


def _timed(command: list[str], environ: dict[str, str]) -> tuple[float, bytes]:
    began = time.perf_counter()
    done = subprocess.run(command, env=environ, check=True, capture_output=True)
    return time.perf_counter() - began, done.stdout


def _line(what: str, seconds: list[float], goal: str = "") -> None:
    print(f"{what:<45} median {statistics.median(seconds):7.3f} s   slowest {max(seconds):7.3f} s   {goal}")


if __name__ == "__main__":
    main()
