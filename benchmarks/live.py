"""From a fill on the broker's wire to its committed position, through the real listener: a process of its own, a socket, PostgreSQL.

The clock starts when the simulated broker is told to execute and stops when PostgreSQL delivers the notice that Store.record sends with its
commit; both are clocks of this machine. Every fill is then looked for in the database, and the positions are held against the broker's.

    python -m benchmarks.live [--slow 60] [--fast 2000]      fills at 1 a second, and at 50 a second
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg2

from position_pipeline.simulator import Simulator, many_positions
from position_pipeline.store import embedded, upgrade

ACCOUNT = "U2000001"
SYMBOLS = tuple(f"S{number:05d}" for number in range(8))


class Commits(threading.Thread):
    """When the n-th fill was committed, by the notices of PostgreSQL."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.at: list[float] = []
        self._connection = psycopg2.connect(url)
        self._connection.autocommit = True
        with self._connection.cursor() as cursor:
            cursor.execute("LISTEN position_pipeline")

    def run(self) -> None:
        while True:
            select.select([self._connection], [], [])
            try:
                self._connection.poll()
            except psycopg2.OperationalError:
                return  # the server was stopped
            now = time.perf_counter()
            while self._connection.notifies:
                self.at += [now] * json.loads(self._connection.notifies.pop(0).payload)["fills"]

    def wait_for(self, count: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while len(self.at) < count and time.monotonic() < deadline:
            time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--slow", type=int, default=30, help="fills at 1 a second")
    parser.add_argument("--fast", type=int, default=2000, help="fills at 50 a second")
    wanted = parser.parse_args()
    print(f"fill on the wire -> committed position, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.platform()}")
    for client_id, whose in (
        (0, "fills that the gateway pushes (client id 0 or Master)"),
        (17, "fills of others (position changes, then we ask)"),
    ):
        print(whose)
        run(client_id, wanted.slow, 1.0)
        run(client_id, wanted.fast, 50.0)


def run(client_id: int, count: int, rate: float) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded.running(Path(folder) / "home") as url,
        Simulator(many_positions(accounts=1, positions=len(SYMBOLS)), speed=1) as broker,
    ):
        upgrade(url)
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POSITION_SYNC_")},
            "DATABASE_URL": url,
            "POSITION_SYNC_HOME": folder,
            "POSITION_SYNC_IBKR_HOST": broker.host,
            "POSITION_SYNC_IBKR_PORT": str(broker.port),
            "POSITION_SYNC_IBKR_CLIENT_ID": str(client_id),
        }
        said = Path(folder) / "listen.log"
        with said.open("wb") as log:
            command = [sys.executable, "-m", "position_pipeline.cli", "listen"]
            listener = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT)
        try:
            healed(url)
            measure(broker, url, count, rate)
        except SystemExit:
            print(said.read_text())
            raise
        finally:
            listener.send_signal(signal.SIGTERM)
            assert listener.wait(20) == 0


def healed(url: str) -> None:
    """Wait until the listener hears, and its first gap is closed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if rows(url, "SELECT 1 FROM stream_gaps WHERE closed_at IS NOT NULL"):
            return
        time.sleep(0.1)
    raise SystemExit("the listener did not get ready")


def measure(broker: Simulator, url: str, count: int, rate: float) -> None:
    commits = Commits(url)
    commits.start()
    known = rows(url, "SELECT count(*) FROM executions")[0][0]
    told = []
    began = time.perf_counter()
    for number in range(count):
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        # Two purchases and a sale in turn: positions grow, and lots are closed.
        side = "SELL" if number % 3 == 2 else "BUY"
        told.append(time.perf_counter())
        broker.execute(ACCOUNT, SYMBOLS[number % len(SYMBOLS)], side, 2 if side == "SELL" else 1)
    commits.wait_for(count, 30)
    lost = count - (rows(url, "SELECT count(*) FROM executions")[0][0] - known)
    latencies = sorted((committed - heard) * 1000 for committed, heard in zip(commits.at, told, strict=False))
    right = held(url) == {con_id: quantity for con_id, (quantity, _) in broker.holdings(ACCOUNT).items()}
    print(
        f"  {count:5d} fills at {rate:4.0f}/s   median {statistics.median(latencies):6.1f} ms   "
        f"p95 {latencies[int(len(latencies) * 0.95)]:6.1f} ms   slowest {latencies[-1]:7.1f} ms   lost {lost}   "
        f"positions {'equal' if right else 'DIFFER'}"
    )
    if lost or not right:
        raise SystemExit(1)


def held(url: str) -> dict[int, object]:
    found = rows(url, f"SELECT instrument, quantity FROM positions WHERE account = '{ACCOUNT}' AND quantity <> 0")
    return {int(instrument.partition(":")[2]): quantity for instrument, quantity in found}


def rows(url: str, sql: str) -> list[tuple]:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()
    finally:
        connection.close()


if __name__ == "__main__":
    main()
