"""A running `position-pipeline up`: which of its processes is who, killing them, and the database as it is now.

Belongs here: processes. Does not belong here: which are killed when (rounds.py), what must hold afterwards (checking.py).

The broker lives in this process, behind a real socket: it is not ours to kill, and what it holds is the truth. Every process that `up`
starts carries a marker in its environment and is found by it, so that nothing else is ever killed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg2

from position_pipeline.simulator import Simulator, load_scenario
from position_pipeline.store import embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MARK = "POSITION_PIPELINE_WORLD"
START = 120
"""Seconds that `up` may take until its UI answers; a quiet machine needs eight."""

ROLES = {
    "listener": ("position_pipeline.cli listen",),
    "daemon": ("dagster._daemon run",),
    "code-server": ("dagster code-server", "dagster api grpc"),
    "webserver": ("dagster_webserver",),
    "worker": ("multiprocessing.spawn import spawn_main",),
    "sync": ("position_pipeline.cli sync",),
    "supervisord": ("supervisor.supervisord",),
}
"""Who a process is, by a part of its command line. PostgreSQL is found by its own file, `up` is known."""

NOT_YET = "position_pipeline.supervised"
"""In the command line of a process that waits for the former one of its name."""

SUPERVISED = ("listener", "daemon", "code-server", "webserver")

SCENARIO = """
name = "some of everything that a kill can hit"
price_every = 0
instruments = [
    { symbol = "AAPL", con_id = 265598, price = 200 },
    { symbol = "MSFT", con_id = 272093, price = 430 },
    { symbol = "KO", con_id = 8894, price = 61 },
    { symbol = "AAPL", con_id = 712940105, sec_type = "OPT", multiplier = 100, local_symbol = "AAPL  280121C00250000", right = "C", strike = 250, expiry = "20280121", price = 44 },
]
[[accounts]]
id = "U1"
cash = { USD = 10000000 }
positions = [{ symbol = "AAPL", quantity = 100, average_cost = 150.25 }]
[[accounts]]
id = "U2"
cash = { USD = 10000000 }
"""


class World:
    """`up` in a home of its own and the broker that it listens to, as a context manager."""

    def __init__(self, folder: Path, **given: str) -> None:
        self.home = folder / "home"
        self.output = folder / "up.txt"
        self.mark = uuid.uuid4().hex
        self.broker = Simulator(load_scenario(SCENARIO), speed=1, executions_since="week")
        self._given = given
        self._port = _free_port()
        self.up: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self.broker.__enter__()
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def environ(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("POSITION_SYNC_", "DAGSTER_", "DATABASE_"))}
        ours = {"HOME": self.home, "IBKR_HOST": self.broker.host, "IBKR_PORT": self.broker.port, **self._given}
        return {**clean, MARK: self.mark, **{f"POSITION_SYNC_{name}": str(value) for name, value in ours.items()}}

    def start(self) -> None:
        """Start `up`, and wait until its UI answers."""
        with self.output.open("wb") as file:
            self.up = self._command("up", "--port", str(self._port), stdout=file)
        self.wait_for(lambda: "Ready. Open " in self.output.read_text(), "the UI answers", START)

    def _command(self, *words: str, stdout: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "position_pipeline.cli", *words]
        return subprocess.Popen(command, env=self.environ, stdout=stdout, stderr=subprocess.STDOUT, start_new_session=True)

    def sync(self) -> subprocess.Popen[bytes]:
        """`position-pipeline sync`, started and not waited for."""
        return self._command("sync")

    def wait_for(self, what: Callable[[], Any], why: str, patience: float) -> Any:
        """What `what` finds, as soon as it finds something. A database that is away has nothing to be found in."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with suppress(psycopg2.OperationalError, psycopg2.InterfaceError):
                if found := what():
                    return found
            if self.up.poll() is not None:
                raise AssertionError(f"up has ended with {self.up.returncode}\n{self.logs()}")
            time.sleep(0.1)
        raise AssertionError(f"not within {patience} s: {why}\n{self.logs()}")

    def logs(self) -> str:
        """The ends of all logs."""
        logs = [self.output, *sorted((self.home / "logs").glob("*.log")), self.home / "postgres" / "server.log"]
        return "".join(f"\n--- {log.name}\n{log.read_text(errors='replace')[-2500:]}" for log in logs if log.exists())

    # -- processes

    def pids(self, role: str) -> set[int]:
        """The living processes of a role. For `postgres` the one that all others of it end with."""
        return self.census()[role]

    def census(self) -> dict[str, set[int]]:
        """The living processes of every role."""
        found: dict[str, set[int]] = {"up": {self.up.pid}, "postgres": self._postmaster(), **{role: set() for role in ROLES}}
        for pid in _processes():
            line = _command_line(pid)
            if NOT_YET in line:
                continue
            for role, parts in ROLES.items():
                if any(part in line for part in parts) and self._is_ours(pid):
                    found[role].add(pid)
        return found

    def _postmaster(self) -> set[int]:
        with suppress(OSError, ValueError):
            pid = int((self.home / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0])
            if _state(pid) not in ("", "Z"):
                return {pid}
        return set()

    def _is_ours(self, pid: int) -> bool:
        with suppress(OSError):
            return f"{MARK}={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False

    def kill(self, pids: set[int]) -> None:
        """kill -9, all of them within the same millisecond."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> int:
        """End `up` as a person does; its exit code."""
        self.up.send_signal(signal.SIGTERM)
        return self.up.wait(90)

    def start_again(self, patience: float) -> None:
        """After `up` was killed: wait until everything has ended by itself, and start it."""
        self.up.wait(patience)
        deadline = time.monotonic() + patience
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.1)
        if left:
            raise AssertionError(f"up was killed, and left {[_command_line(pid) for pid in left]} for {patience} s\n{self.logs()}")
        self.start()

    def left(self) -> set[int]:
        """Every process of this world that lives."""
        return {pid for pid in _processes() if self._is_ours(pid)} | self._postmaster()

    def end(self) -> None:
        """Leave nothing behind, however the world is."""
        deadline = time.monotonic() + 30
        while (left := self.left()) and time.monotonic() < deadline:
            self.kill(left)
            if hasattr(self, "up"):
                self.up.poll()
            time.sleep(0.05)
        if hasattr(self, "up"):
            self.up.wait(30)
        self.broker.stop()

    # -- the database

    @property
    def url(self) -> str:
        """Where PostgreSQL is now. Raises `OperationalError` while it is away."""
        found = embedded.url(self.home)
        if found is None:
            raise psycopg2.OperationalError("PostgreSQL does not run")
        return found

    @contextmanager
    def database(self) -> Iterator[psycopg2.extensions.cursor]:
        """A cursor of a connection of its own. Raises `OperationalError` while PostgreSQL is away."""
        connection = psycopg2.connect(self.url, connect_timeout=5)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.database() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()


def _processes() -> set[int]:
    return set(map(int, filter(str.isdigit, os.listdir("/proc")))) - {os.getpid()}


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _state(pid: int) -> str:
    """One letter, `Z` for a process that is dead but for its number; empty where there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
