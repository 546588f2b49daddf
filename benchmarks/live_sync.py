"""From a fill at the broker to a sync that verified it, with all of the product's processes; and one sync of 50 accounts.

`position-pipeline up` runs as it does for everybody: listener, code server, webserver, daemon, embedded PostgreSQL. The broker is a
simulator in this process, so that the moment of each fill is known. A fill is verified when a broker's answer that was asked for after it
was recorded has been held against the book (accounts.verified_to).
"""

from __future__ import annotations

import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2

from benchmarks.sync import _sync
from position_pipeline.simulator import Simulator, default_scenario, many_positions
from position_pipeline.store import embedded, upgrade

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg2.extensions import cursor as Cursor  # noqa: N812  it is a class

FILLS = int(os.environ.get("FILLS", "20"))
ACCOUNT = "U1000001"
PATIENCE = 120
EVENT_AT = """
SELECT extract(epoch FROM timestamp AT TIME ZONE 'UTC')::float8 FROM dagster.event_logs WHERE run_id = %s AND dagster_event_type = %s
"""
MANY_ACCOUNTS, MANY_POSITIONS, ROUNDS = 50, 200, 3


@dataclass(frozen=True)
class Way:
    """The moments of one fill, in seconds after it happened."""

    recorded: float
    asked: float
    launched: float
    started: float
    verified: float


def main() -> None:
    """Print medians and 95th percentiles of each part of the way, then the large sync."""
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    ways = verified_fills(FILLS)
    print(f"fill -> verified by a position_sync, {len(ways)} fills after quiet times, plain Dagster")
    _line("fill -> committed position (listener)", [w.recorded for w in ways])
    _line("committed -> run asked for (sensor)", [w.asked - w.recorded for w in ways])
    _line("asked for -> launched (queue)", [w.launched - w.asked for w in ways])
    _line("launched -> run begins (new process, imports)", [w.started - w.launched for w in ways])
    _line("run begins -> verified (broker's answer, book)", [w.verified - w.started for w in ways])
    _line("the whole way", [w.verified for w in ways], "goal: median 4 s")
    large_sync()


def verified_fills(count: int) -> list[Way]:
    """Run everything, and let the broker trade after quiet times of several lengths."""
    with tempfile.TemporaryDirectory() as folder, Simulator(default_scenario(), speed=0, executions_since="week") as broker:
        home = Path(folder) / "home"
        output = Path(folder) / "up.txt"
        with output.open("wb") as file:
            command = [sys.executable, "-m", "position_pipeline.cli", "up", "--port", "3971"]
            up = subprocess.Popen(command, env=_environ(home, broker), stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            cursor = _connected(up, home, output)
            quiet = random.Random(1)
            _wait(up, cursor, "SELECT 1 FROM accounts WHERE account = %s AND first_proven_at IS NOT NULL", ACCOUNT)
            time.sleep(15)
            return [_one(up, cursor, broker, number, quiet.uniform(6, 12)) for number in range(count)]
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(120)


def _environ(home: Path, broker: Simulator) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("POSITION_SYNC_", "DAGSTER_", "DATABASE_"))}
    return {
        **clean,
        "POSITION_SYNC_HOME": str(home),
        "POSITION_SYNC_IBKR_HOST": broker.host,
        "POSITION_SYNC_IBKR_PORT": str(broker.port),
    }


def _connected(up: subprocess.Popen[bytes], home: Path, output: Path) -> Cursor:
    deadline = time.monotonic() + PATIENCE
    while b"Ready." not in output.read_bytes():
        assert up.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)
    url = embedded.url(home)
    assert url is not None
    connection = psycopg2.connect(url)
    connection.autocommit = True
    return connection.cursor()


def _wait(up: subprocess.Popen[bytes], cursor: Cursor, sql: str, *values: object) -> tuple[Any, ...]:
    deadline = time.monotonic() + PATIENCE
    while True:
        cursor.execute(sql, values)
        if found := cursor.fetchone():
            return found
        assert up.poll() is None, "up has ended"
        assert time.monotonic() < deadline, f"waited in vain for {sql}"
        time.sleep(0.01)


def _one(up: subprocess.Popen[bytes], cursor: Cursor, broker: Simulator, number: int, quiet: float) -> Way:
    time.sleep(quiet)
    cursor.execute("SELECT coalesce(max(id), 0) FROM executions")
    (before,) = cursor.fetchone() or (0,)
    began = time.time()
    broker.execute(ACCOUNT, "AAPL", "BUY" if number % 2 == 0 else "SELL", 1)
    (fill,) = _wait(up, cursor, "SELECT max(id) FROM executions WHERE id > %s HAVING count(*) > 0", before)
    recorded = time.time()
    _wait(up, cursor, "SELECT 1 FROM accounts WHERE account = %s AND verified_to >= %s", ACCOUNT, fill)
    verified = time.time()
    (asked, run_id) = _wait(
        up, cursor,
        "SELECT extract(epoch FROM create_timestamp AT TIME ZONE 'UTC')::float8, run_id FROM dagster.runs ORDER BY id DESC LIMIT 1",
    )  # fmt: skip
    (launched,) = _wait(up, cursor, EVENT_AT, run_id, "PIPELINE_STARTING")
    (started,) = _wait(up, cursor, EVENT_AT, run_id, "PIPELINE_START")
    return Way(*(at - began for at in (recorded, asked, launched, started, verified)))


def large_sync() -> None:
    """One sync of many accounts, as a command of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded.running(Path(folder) / "home") as url,
        Simulator(many_positions(accounts=MANY_ACCOUNTS, positions=MANY_POSITIONS), speed=0) as broker,
    ):
        upgrade(url)
        environ = {**_environ(Path(folder), broker), "DATABASE_URL": url}
        first = _sync(environ)
        rounds = [_sync(environ) for _ in range(ROUNDS)]
    print(f"position-pipeline sync, {MANY_ACCOUNTS} accounts x {MANY_POSITIONS} positions")
    _line("first contact, whole command", [first[0]])
    _line("no change, whole command", [whole for whole, _, _ in rounds], "goal: 5 s")
    _line("  of which our own work", [own / 1000 for _, own, _ in rounds], "goal: under 1 s")


def _line(what: str, seconds: Sequence[float], goal: str = "") -> None:
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    print(f"{what:<50} median {statistics.median(ordered):7.3f} s   p95 {p95:7.3f} s   {goal}")


if __name__ == "__main__":
    main()
