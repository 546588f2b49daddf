r"""`position-pipeline up`: everything that runs, started, watched and stopped together.

Belongs here: PostgreSQL and supervisord, which watches and restarts the others. Does not belong here: which these are, and with which
files they run (supervision_programs), what each does first (supervised).

    up ------- PostgreSQL (embedded; its own session, stopped last) and its guard
       \------ supervisord --- simulator (where no broker is configured), listener, code server, Dagster webserver, Dagster daemon

Where supervisord is killed, the others end with it and all are started again. Where `up` is killed, all of them end, and the next `up`
waits for that: two daemons on one database would run every schedule twice.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from position_pipeline import connections, show
from position_pipeline.supervised import HOST, PATIENCE, end_with_parent, wait_until_free
from position_pipeline.supervision_programs import RUNNING, conf, environment, free_port, pidfile, programs, write_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from position_pipeline.settings import Settings

ALREADY_RUNNING = 75
GLANCE = 1.0
"""Seconds between two looks whether PostgreSQL still runs; each reads two small files."""
PAUSE = 5.0
"""Seconds until PostgreSQL is tried again where it did not start."""
LONGEST_STOP = 60.0
"""Seconds that everything may take to stop; each process is killed by supervisord after fifteen."""


def up(settings: Settings, port: int) -> int:
    """Run everything until SIGINT or SIGTERM; returns the exit code. Leaves no process behind."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    home = settings.home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in ("run", "logs", "dagster", "simulator"):
        (home / folder).mkdir(exist_ok=True)
    try:
        with _only_one(home / "run" / "up.lock"), connections.database(settings) as url, _guarded(settings):
            _end_former(home, url)
            return _up(settings, url, port)
    except KeyboardInterrupt:
        return 0
    except BlockingIOError:
        show.say(show.console(stderr=True), [f"position-pipeline up already runs for {home}."], "red")
        return ALREADY_RUNNING


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Two daemons on one database would run every schedule twice. The kernel frees the lock however we end."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextmanager
def _guarded(settings: Settings) -> Iterator[None]:
    """Beside us somebody uses our own PostgreSQL who stops it where we are killed just when nobody else does."""
    if settings.database_url is not None:
        yield
        return
    words = [sys.executable, "-m", "position_pipeline.store.embedded_guard", str(settings.home), str(os.getpid())]
    guard = subprocess.Popen(words, start_new_session=True)
    try:
        yield
    finally:
        guard.kill()  # what it holds the kernel frees, and we are the last one out
        guard.wait()


def _stop(number: int, _frame: object) -> None:
    # A second Ctrl-C must not break the clean stop that the first one began.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def _up(settings: Settings, url: str, wanted_port: int) -> int:
    _prepare_database(url)
    home, port = settings.home, free_port(wanted_port)
    all_of_them = programs(settings, port)
    write_files(home, all_of_them)
    _announce(settings, url, port)
    supervisord = _start(home, url)
    try:
        _wait_for_ui(supervisord, port, home)
        while (moved := _watch(settings, supervisord, url)) is not None or supervisord.returncode < 0:
            show.say(show.console(), [WHY_AGAIN[moved is None]])
            url = moved or url
            _end(supervisord, url)
            _stop_waiting(url)
            wait_until_free(program.lock(home) for program in all_of_them)
            supervisord = _start(home, url)
        return supervisord.returncode
    finally:
        _end(supervisord, url)


WHY_AGAIN = {
    False: "PostgreSQL has another port now. Everything that knows the old one is started again.",
    True: "The process that watches the others was killed, and they ended with it. Everything is started again.",
}


def _end_former(home: Path, url: str) -> None:
    """End what is left of an `up` that was killed. On Linux all of it has been told to end, which takes seconds."""
    pid, locks = _former(home), list((home / "run").glob(f"*{RUNNING}"))
    if not pid and wait_until_free(locks, 0):
        return
    show.say(show.console(), ["What is left of the last position-pipeline up is stopped first."])
    _stop_waiting(url)
    deadline = time.monotonic() + LONGEST_STOP
    with suppress(ProcessLookupError):
        while pid and _former(home) == pid:
            os.kill(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(0.5)
    wait_until_free(locks)


def _former(home: Path) -> int:
    """The process id of a supervisord of this home, 0 if there is none."""
    from position_pipeline.store.embedded_host import command

    with suppress(OSError, ValueError):
        pid = int(pidfile(home).read_text())
        if str(conf(home)) in command(pid):
            return pid
    return 0


def _watch(settings: Settings, supervisord: subprocess.Popen[bytes], url: str) -> str | None:
    """Start our own PostgreSQL again when it was killed. None when supervisord has ended; the new URL where another one took its port.

    Whoever opens the store would start it too, but only we know that what Dagster's processes inherited does not lead there any more.
    """
    from position_pipeline.store import embedded

    while True:
        with suppress(subprocess.TimeoutExpired):
            supervisord.wait(timeout=GLANCE)
            return None
        if settings.database_url is not None or embedded.url(settings.home) == url:
            continue
        try:
            with embedded.running(settings.home) as found:
                if found != url:
                    return found
        except embedded.EmbeddedServerError as error:
            show.say(show.console(stderr=True), [str(error)], "red")
            time.sleep(PAUSE)


def _prepare_database(url: str) -> None:
    """Tables for an empty database; one of another revision is refused with the word of `WrongRevision`."""
    from position_pipeline.store import Store, WrongRevision, upgrade

    try:
        Store(url).close()
    except WrongRevision as error:
        if not error.empty:
            raise
        upgrade(url)


def _start(home: Path, url: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "supervisor.supervisord", "-c", str(conf(home))]
    # A session of its own: Ctrl-C reaches only us, and we stop the others in their order.
    return subprocess.Popen(words, env=environment(home, url), cwd=home, start_new_session=True, preexec_fn=end_with_parent)  # noqa: PLW1509  it calls nothing but prctl


def _announce(settings: Settings, url: str, port: int) -> None:
    where = "your DATABASE_URL" if settings.database_url else f"embedded, data in {settings.home / 'postgres'}"
    brokers = "a simulated one on this machine (set POSITION_SYNC_IBKR_HOST for your own)"
    if settings.ibkr_connections():
        brokers = ", ".join(f"{c.name} at {c.host}:{c.port}" for c in settings.ibkr_connections())
    show.say(
        show.console(),
        [
            f"Database    PostgreSQL at {url.rpartition('@')[2].partition('?')[0]}, {where}",
            f"Broker      {brokers}",
            f"Dagster UI  http://{HOST}:{port} (starting)",
            f"Logs        {settings.home / 'logs'}",
        ],
    )


def _wait_for_ui(supervisord: subprocess.Popen[bytes], port: int, home: Path) -> None:
    """Say when the UI answers; if it does not, say where to look and go on: supervisord keeps trying."""
    deadline = time.monotonic() + PATIENCE
    while supervisord.poll() is None and time.monotonic() < deadline:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"http://{HOST}:{port}/server_info", timeout=2):
            show.say(
                show.console(),
                [
                    f"Ready. Open http://{HOST}:{port} in a browser; the first sync starts within seconds.",
                    "In another terminal: position-pipeline status, positions, closes, breaks. Ctrl-C here stops everything.",
                ],
            )
            return
        time.sleep(0.5)
    show.say(show.console(stderr=True), [f"The Dagster UI does not answer yet; {home / 'logs' / 'webserver.log'} says why."], "red")


def _end(supervisord: subprocess.Popen[bytes], url: str) -> None:
    """Stop the children in their order; what does not go in time is killed by supervisord."""
    if supervisord.poll() is None:
        show.say(show.console(), ["Stopping."])
        _stop_waiting(url)
        supervisord.terminate()
    with suppress(subprocess.TimeoutExpired):
        supervisord.wait(timeout=LONGEST_STOP)
        return
    supervisord.kill()
    supervisord.wait()


def _stop_waiting(url: str) -> None:
    """Sensors that wait for fills end their tick; the daemon would wait for them."""
    from position_pipeline.store import DatabaseUnavailable, Store

    with suppress(DatabaseUnavailable), Store(url) as store:
        store.verification.stop_waiting()
