"""A day of trading at five-minute syncs, compressed: does anything grow that should not?

A listener as it runs in life hears fills while a second process syncs 288 times, as the schedule does in a day; every twelfth time the
listener is asked for the sync too. The broker's clock goes five minutes on from sync to sync: at its midnight its list of executions begins
anew, and once a day it drops everybody. Memory, file handles and database connections of both are read at the end of a day and at the end
of the next. A day's list of executions is in memory while it is read, some kilobytes each, so that within a day memory follows the fills;
what is left of them a day later would be growth.

Then follows a day on which nothing happens: 288 runs of `position_sync` with their checks in Dagster, which are made to look five minutes
apart, and housekeeping every three hours, as in life. Six such hours went before: the last three hours' runs are all kept, and when the day
begins those are there, and the room of the three hours before. What the database has grown by is read at its end.

    python -m benchmarks.soak [--syncs 288]      exits with 1 where a limit is broken

Not compressed: Dagster's ticks. They are kept for a day (dagster.yaml), so that they are a stock and no growth.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2

from benchmarks.live_sync import _environ
from position_pipeline import supervision_programs
from position_pipeline.simulator import Simulator, many_positions
from position_pipeline.store import embedded, upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYNCS = 288
ACCOUNT = "U2000001"
SYMBOLS = tuple(f"S{number:05d}" for number in range(20))
DAY = timedelta(days=1)
PAUSE = Decimal(300)
"""Seconds of the broker's clock from one sync to the next."""

MOST_GROWTH = 0.05
MOST_BYTES = 30_000_000
RUNS_A_CLEANING = 36
SPREAD = """
UPDATE dagster.runs r SET update_timestamp = r.update_timestamp - n.back * interval '5 min'
FROM (SELECT id, row_number() OVER (ORDER BY id DESC) - 1 AS back FROM dagster.runs WHERE id > %s) AS n WHERE n.id = r.id
"""
PATIENCE = 60


@dataclass(frozen=True)
class Figures:
    """Of one process: kilobytes that it has in memory for itself, open file handles, and its connections to PostgreSQL."""

    memory: int
    handles: int
    connections: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--syncs", type=int, default=SYNCS, help=f"syncs of the day (default {SYNCS})")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work()
        return 0
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {given.syncs} syncs", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded.running(Path(folder) / "home") as url,
        Simulator(many_positions(accounts=1, positions=len(SYMBOLS)), speed=0, starts_at=datetime.now(UTC) - 2 * DAY) as broker,
    ):
        upgrade(url)
        day = Day(Path(folder), url, broker, given.syncs)
        with day.listener(), day.worker():
            broken = _table(day.trade(), day.trade())
            broken += day.idle()
    return int(bool(broken))


class Day:
    """The processes of one day, and what it measures."""

    def __init__(self, folder: Path, url: str, broker: Simulator, syncs: int) -> None:
        self._folder, self._url, self._broker, self._syncs = folder, url, broker, syncs
        home = folder / "home"
        (home / "dagster").mkdir(parents=True, exist_ok=True)
        (home / "logs").mkdir(exist_ok=True)
        (home / "dagster" / "dagster.yaml").write_text(supervision_programs.dagster_yaml().read_text())  # as `up` does
        # Client id 0 is told of every fill at once: five minutes pass here before a listener has asked, and at midnight the list is gone.
        ours = {**_environ(home, broker), "DATABASE_URL": url, "POSITION_SYNC_IBKR_CLIENT_ID": "0"}
        dagsters = supervision_programs.environment(home, url)
        self._environ = {**{name: dagsters[name] for name in dagsters if name.startswith("DAGSTER_") or name == "TZ"}, **ours}
        self._listener: subprocess.Popen[bytes]
        self._worker: subprocess.Popen[str]

    # -- processes

    @contextmanager
    def listener(self) -> Iterator[None]:
        with (self._folder / "listen.log").open("wb") as log:
            command = [sys.executable, "-m", "position_pipeline.cli", "listen"]
            self._listener = subprocess.Popen(command, env=self._environ, stdout=log, stderr=subprocess.STDOUT)
        try:
            self._until("SELECT 1 FROM stream_gaps WHERE closed_at IS NOT NULL", "the listener hears")
            yield
        finally:
            self._listener.send_signal(signal.SIGTERM)
            self._listener.wait(PATIENCE)

    @contextmanager
    def worker(self) -> Iterator[None]:
        with (self._folder / "worker.log").open("wb") as log:
            command = [sys.executable, "-m", "benchmarks.soak", "--worker"]
            self._worker = subprocess.Popen(
                command, env=self._environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            yield
        finally:
            self._worker.communicate(timeout=PATIENCE)  # it ends when it is told nothing more

    def _ask(self, what: str) -> str:
        """Let the worker do something; its answer."""
        assert self._worker.stdin
        assert self._worker.stdout
        print(what, file=self._worker.stdin, flush=True)
        answer = self._worker.stdout.readline().strip()
        if not answer:
            raise SystemExit((self._folder / "worker.log").read_text())
        return answer

    # -- the days

    def trade(self) -> dict[str, Figures]:
        """Fills, a sync after each few of them, and in the middle the broker's nightly reset; the figures at the end."""
        began, chance = time.monotonic(), random.Random(1)
        fills, known = 0, self._recorded()
        for number in range(1, self._syncs + 1):
            several = chance.randint(1, 4)
            for _ in range(several):
                self._broker.advance(PAUSE / (several + 1))
                self._broker.execute(ACCOUNT, chance.choice(SYMBOLS), chance.choice(("BUY", "SELL")), chance.randint(1, 9))
            self._broker.advance(PAUSE / (several + 1))
            fills += several
            if number % 12 == 0:
                self._request()
            if number == self._syncs // 2:
                self._drop_everybody()
            outcome = self._ask("sync")
            assert outcome in ("synced", "unchanged"), outcome
        recorded = self._recorded() - known
        print(f"a day of trading: {self._syncs} syncs, {fills} fills, {recorded} recorded, {time.monotonic() - began:.0f} s", flush=True)
        assert recorded == fills
        assert not (apart := self._rows("SELECT evidence FROM breaks WHERE status = 'open'")), apart
        return self._figures()

    def _drop_everybody(self) -> None:
        """The broker's nightly reset, and the listener comes back."""
        gaps = self._rows("SELECT count(*) FROM stream_gaps")[0][0]
        self._broker.disconnect_clients()
        self._until(f"SELECT 1 FROM stream_gaps WHERE closed_at IS NOT NULL HAVING count(*) > {gaps}", "the listener hears again")

    def _recorded(self) -> int:
        return int(self._rows("SELECT count(*) FROM executions")[0][0])

    def _request(self) -> None:
        """A sync that a page asks for, which the listener carries out."""
        self._rows("INSERT INTO sync_requests (requested_by) VALUES ('soak') RETURNING pg_notify('position_pipeline_requests', '')")
        self._until("SELECT 1 WHERE NOT EXISTS (SELECT FROM sync_requests WHERE finished_at IS NULL)", "the listener syncs")

    def idle(self) -> int:
        """Runs of `position_sync` with nothing to do; 1 where the database has grown by too much."""
        count = RUNS_A_CLEANING * -(-self._syncs // RUNS_A_CLEANING)
        known = before = 0
        began = time.monotonic()
        for number in range(1 - 2 * RUNS_A_CLEANING, count + 1):
            assert self._ask("run") == "True", (self._folder / "worker.log").read_text()[-3000:]
            if number % RUNS_A_CLEANING == 0:
                known = self._age(known)
                assert self._ask("clean") == "True", (self._folder / "worker.log").read_text()[-3000:]
            if number == 0:
                before = self._size()
        grown = round((self._size() - before) * SYNCS / count)
        print(f"\na day without trading: {count} runs, {time.monotonic() - began:.0f} s")
        print(f"{'database growth in a day':<34} {grown / 1e6:10.1f} MB  limit {MOST_BYTES / 1e6:.0f} MB  {_said(grown > MOST_BYTES)}")
        return int(grown > MOST_BYTES)

    def _age(self, known: int) -> int:
        """Three hours pass in a moment: what was there is so much older, and the runs since then were five minutes apart. The last run."""
        with psycopg2.connect(self._url) as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE dagster.runs SET update_timestamp = update_timestamp - interval '3 h' WHERE id <= %s", [known])
            cursor.execute(SPREAD, [known])
            cursor.execute("SELECT max(id) FROM dagster.runs")
            return int((cursor.fetchone() or (0,))[0])

    # -- figures

    def _figures(self) -> dict[str, Figures]:
        return {"listener": self._of(self._listener.pid), "sync process": self._of(self._worker.pid)}

    def _of(self, pid: int) -> Figures:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        memory = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Private_Clean", "Private_Dirty")))
        handles = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
        ours = {f"socket:[{inode}]" for inode in _connected_to(int(self._url.rpartition(":")[2].partition("/")[0]))}
        return Figures(memory, len(handles), sum(handle in ours for handle in handles))

    def _size(self) -> int:
        return int(self._rows("SELECT pg_database_size(current_database())")[0][0])

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self._url)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall()
        finally:
            connection.close()

    def _until(self, sql: str, why: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._rows(sql):
            if time.monotonic() > deadline:
                raise SystemExit(f"not within {PATIENCE} s: {why}\n{(self._folder / 'listen.log').read_text()}")
            time.sleep(0.05)


def _connected_to(port: int) -> set[str]:
    """The inodes of sockets that are connected to a port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if int(row[2].rpartition(":")[2], 16) == port and row[3] == "01"}


def _table(before: Mapping[str, Figures], after: Mapping[str, Figures]) -> int:
    """Print what grew; how many limits were broken."""
    broken = 0
    print(f"{'':<34} {'first day':>10} {'next day':>10} {'growth':>8}")
    for process, then in before.items():
        for figure in ("memory", "handles", "connections"):
            first, last = getattr(then, figure), getattr(after[process], figure)
            growth = last / first - 1 if first else float(last)
            broken += growth > MOST_GROWTH
            name = f"{process}: {figure}" + (" (kB)" if figure == "memory" else "")
            print(f"{name:<34} {first:>10} {last:>10} {growth:>7.1%}  limit {MOST_GROWTH:.0%}  {_said(growth > MOST_GROWTH)}")
    return broken


def _said(broken: bool) -> str:
    return "BROKEN" if broken else "held"


def work() -> None:
    """The second process: does what it is told by a word a line, and answers with a line."""
    import dagster as dg

    from position_pipeline import connections, settings
    from position_pipeline.definitions import defs
    from position_pipeline.sync import sync

    given = settings.load()
    brokers, policy = connections.brokers(given), connections.policy(given)
    jobs = {"run": "position_sync", "clean": "housekeeping"}
    with connections.store(given) as store, dg.DagsterInstance.get() as instance:
        gc.collect()
        gc.freeze()  # as a listener does, which is the process that syncs so often in life
        for line in sys.stdin:
            if line.strip() == "sync":
                (result,) = sync(store, brokers, trigger="schedule", timeout=given.broker_timeout, policy=policy, wait=True)
                print(result.outcome, flush=True)
            else:
                ran = defs.resolve_job_def(jobs[line.strip()]).execute_in_process(instance=instance, raise_on_error=False)
                print(ran.success, flush=True)


if __name__ == "__main__":
    sys.exit(main())
