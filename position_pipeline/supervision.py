r"""`position-pipeline up`: everything that runs, started, watched and stopped together.

Belongs here: which processes there are, with which files and ports. Watching and restarting them is supervisord's work. Does not belong
here: what the processes do.

    up ------- PostgreSQL (embedded; its own session, stopped last)
       \------ supervisord --- simulator (where no broker is configured), listener, code server, Dagster webserver, Dagster daemon

All files are in POSITION_SYNC_HOME: run/ (generated, safe to delete), logs/, dagster/, postgres/, simulator/.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from position_pipeline import connections, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from position_pipeline.settings import Settings

HOST = "127.0.0.1"
ALREADY_RUNNING = 75
FOR_EVER = 1_000_000
"""Starts that may fail in a row, each a second later than the one before: whatever keeps a process from starting, such as a database that
is away for a night, nobody has to come and start it when that is over."""
GLANCE = 1.0
"""Seconds between two looks whether PostgreSQL still runs; each reads two small files."""
PAUSE = 5.0
"""Seconds until PostgreSQL is tried again where it did not start."""
PATIENCE = 90
"""Seconds that the UI may take to answer after a start on a slow machine."""


@dataclass(frozen=True, slots=True)
class Program:
    """One supervised process. Those of a lower `rank` start first and stop last."""

    name: str
    command: tuple[str, ...]
    rank: int


def up(settings: Settings, port: int) -> int:
    """Run everything until SIGINT or SIGTERM; returns the exit code. Leaves no process behind."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    home = settings.home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in ("run", "logs", "dagster", "simulator"):
        (home / folder).mkdir(exist_ok=True)
    try:
        with _only_one(home / "run" / "up.lock"), connections.database(settings) as url:
            return _up(settings, url, _free_port(port))
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


def _stop(number: int, _frame: object) -> None:
    # A second Ctrl-C must not break the clean stop that the first one began.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def _up(settings: Settings, url: str, port: int) -> int:
    _prepare_database(url)
    simulated = not settings.ibkr_connections()
    programs = _programs(settings, port, simulated=simulated)
    _write_files(settings.home, programs, code_port=_code_port(programs))
    _announce(settings, url, port, simulated=simulated)
    supervisord = _start(settings.home, url)
    try:
        _wait_for_ui(supervisord, port, settings.home)
        while (moved := _watch(settings, supervisord, url)) is not None:
            show.say(show.console(), ["PostgreSQL has another port now. Everything that knows the old one is started again."])
            _end(supervisord, moved)
            url = moved
            supervisord = _start(settings.home, url)
        return supervisord.returncode
    finally:
        _end(supervisord, url)


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


def _programs(settings: Settings, port: int, *, simulated: bool) -> tuple[Program, ...]:
    home, code_port = settings.home, _free_port(0)
    python = sys.executable
    workspace = str(home / "dagster" / "workspace.yaml")
    code = ("-m", "dagster", "code-server", "start", "-m", "position_pipeline.definitions", "-h", HOST, "-p", str(code_port))
    # Started before the code server answers, both would fill their logs with tracebacks and look again only seconds later.
    after = (python, "-m", "position_pipeline.supervision", str(code_port))
    dagster = (
        Program("code-server", (python, *code), 20),
        Program("webserver", (*after, "-m", "dagster_webserver", "-h", HOST, "-p", str(port), "-w", workspace), 30),
        Program("daemon", (*after, "-m", "dagster._daemon", "run", "-w", workspace), 40),
    )
    return ((_simulator(home),) if simulated else ()) + (_listener(port), *dagster)


def _listener(ui_port: int) -> Program:
    """Another home's listener on the same database is waited for: ending with 75 it would be started again and again."""
    options = ("--stand-by", "--report-to", f"http://{HOST}:{ui_port}")
    return Program("listener", (sys.executable, "-m", "position_pipeline.cli", "listen", *options), 15)


def _simulator(home: Path) -> Program:
    """The simulated broker goes on where it stopped, on the same port if it is free."""
    try:
        _, last = connections.simulator_address(home)
    except connections.NoBroker:
        last = 0
    folder = home / "simulator"
    files = ("--state-file", str(folder / "state.json"), "--address-file", str(connections.simulator_file(home)))
    options = ("--port", str(_free_port(last)), "--executions-since", "week", *files)
    return Program("simulator", (sys.executable, "-m", "position_pipeline.cli", "simulator", *options), 10)


def _code_port(programs: tuple[Program, ...]) -> int:
    (code,) = (program for program in programs if program.name == "code-server")
    return int(code.command[-1])


def _free_port(wanted: int) -> int:
    """`wanted` if it is free, else a free one after it; any for 0."""
    for port in (*range(wanted, min(wanted + 20, 65536)), 0) if wanted else (0,):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise OSError("no port is free on 127.0.0.1")


def _write_files(home: Path, programs: tuple[Program, ...], code_port: int) -> None:
    shutil.copyfile(_dagster_yaml(), home / "dagster" / "dagster.yaml")
    workspace = f"load_from:\n  - grpc_server:\n      host: {HOST}\n      port: {code_port}\n      location_name: position_pipeline\n"
    (home / "dagster" / "workspace.yaml").write_text(workspace, encoding="utf-8")
    (home / "run" / "supervisord.conf").write_text(_supervisord_conf(home, programs), encoding="utf-8")


def _dagster_yaml() -> Path:
    """Beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parent
    return next(path for path in (package / "dagster.yaml", package.parent / "dagster.yaml") if path.exists())


def _supervisord_conf(home: Path, programs: tuple[Program, ...]) -> str:
    """Secrets are not written here: the processes inherit them from the environment of `up`."""
    own = "user=root\n" if os.geteuid() == 0 else ""
    text = (
        f"[supervisord]\nnodaemon=true\nsilent=true\n{own}logfile={_safe(home / 'logs' / 'supervisord.log')}\n"
        f"pidfile={_safe(home / 'run' / 'supervisord.pid')}\n\n"
    )
    for program in programs:
        command = " ".join(_quoted(word) for word in program.command)
        log = _safe(home / "logs" / f"{program.name}.log")
        text += (
            f"[program:{program.name}]\ncommand={command}\npriority={program.rank}\nautorestart=true\nstartsecs=3\nstartretries={FOR_EVER}\n"
            f"stopwaitsecs=15\nstopasgroup=false\nkillasgroup=true\nredirect_stderr=true\n"
            f"stdout_logfile={log}\nstdout_logfile_maxbytes=5MB\nstdout_logfile_backups=1\n\n"
        )
    return text


def _safe(path: Path) -> str:
    return str(path).replace("%", "%%")


def _quoted(word: str) -> str:
    escaped = word.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def environment(home: Path, url: str) -> dict[str, str]:
    """What the Dagster processes need besides the settings: their home, and their schema in our database."""
    address = url.replace("postgresql://", "postgresql+psycopg2://", 1)
    separator = "&" if "?" in address else "?"
    return {
        **os.environ,
        "DAGSTER_HOME": str(home / "dagster"),
        "DAGSTER_POSTGRES_URL": f"{address}{separator}options={quote('-csearch_path=dagster')}",
        "DAGSTER_COMPUTE_LOGS": str(home / "logs" / "compute"),
        "POSITION_SYNC_HOME": str(home),
        "TZ": "UTC",
    }


def _start(home: Path, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(home / "run" / "supervisord.conf")]
    # A session of its own: Ctrl-C reaches only us, and we stop the others in their order.
    return subprocess.Popen(command, env=environment(home, url), cwd=home, start_new_session=True, preexec_fn=_end_with_parent)  # noqa: PLW1509  it calls nothing but prctl


def _end_with_parent() -> None:
    """Where `up` itself is killed with no chance to stop the others, Linux tells supervisord to."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _announce(settings: Settings, url: str, port: int, *, simulated: bool) -> None:
    where = "your DATABASE_URL" if settings.database_url else f"embedded, data in {settings.home / 'postgres'}"
    brokers = "a simulated one on this machine (set POSITION_SYNC_IBKR_HOST for your own)"
    if not simulated:
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
        supervisord.wait(timeout=60)
        return
    supervisord.kill()
    supervisord.wait()


def _stop_waiting(url: str) -> None:
    """Sensors that wait for fills end their tick; the daemon would wait for them."""
    from position_pipeline.store import DatabaseUnavailable, Store

    with suppress(DatabaseUnavailable), Store(url) as store:
        store.verification.stop_waiting()


def start_after(port: int, words: Sequence[str]) -> None:
    """Become `python WORDS` once the port answers, or after a while in any case. Not returning is what it is for."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            break
        time.sleep(0.1)
    os.execv(sys.executable, [sys.executable, *words])  # noqa: S606  the words are ours


if __name__ == "__main__":
    start_after(int(sys.argv[1]), sys.argv[2:])
