"""Which processes `up` runs, and the files and the environment that they are run with.

Belongs here: command lines, ports, supervisord's and Dagster's files. Does not belong here: starting and watching them (supervision), what
each does first (supervised).

All files are in POSITION_SYNC_HOME: run/ (generated, safe to delete), logs/, dagster/, postgres/, simulator/.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from position_pipeline import connections
from position_pipeline.supervised import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from position_pipeline.settings import Settings

FOR_EVER = 1_000_000
"""Starts that may fail in a row, each a second later than the one before: whatever keeps a process from starting, such as a database that
is away for a night, nobody has to come and start it when that is over."""

RUNNING = ".running"
"""How the names of the locks end that the processes hold."""


@dataclass(frozen=True, slots=True)
class Program:
    """One supervised process: `python WORDS`. Those of a lower `rank` start first and stop last; `after` is a port that has to answer."""

    name: str
    words: tuple[str, ...]
    rank: int
    after: int = 0

    def lock(self, home: Path) -> Path:
        """What it holds while it lives."""
        return home / "run" / f"{self.name}{RUNNING}"

    def command(self, home: Path) -> tuple[str, ...]:
        return (sys.executable, "-m", "position_pipeline.supervised", str(self.lock(home)), str(self.after), *self.words)


def programs(settings: Settings, port: int) -> tuple[Program, ...]:
    """All of them, with the UI on a port; the simulated broker is one where no other is configured."""
    home, code_port = settings.home, free_port(0)
    workspace = str(home / "dagster" / "workspace.yaml")
    code = ("-m", "dagster", "code-server", "start", "-m", "position_pipeline.definitions", "-h", HOST, "-p", str(code_port))
    web = ("-m", "dagster_webserver", "-h", HOST, "-p", str(port), "-w", workspace)
    dagster = (
        Program("code-server", code, 20),
        Program("webserver", web, 30, code_port),
        Program("daemon", ("-m", "dagster._daemon", "run", "-w", workspace), 40, code_port),
    )
    return (*(() if settings.ibkr_connections() else (_simulator(home),)), _listener(port), *dagster)


def _listener(ui_port: int) -> Program:
    """Another home's listener on the same database is waited for: ending with 75 it would be started again and again."""
    options = ("--stand-by", "--report-to", f"http://{HOST}:{ui_port}")
    return Program("listener", ("-m", "position_pipeline.cli", "listen", *options), 15)


def _simulator(home: Path) -> Program:
    """The simulated broker goes on where it stopped, on the same port if it is free."""
    try:
        _, last = connections.simulator_address(home)
    except connections.NoBroker:
        last = 0
    folder = home / "simulator"
    files = ("--state-file", str(folder / "state.json"), "--address-file", str(connections.simulator_file(home)))
    options = ("--port", str(free_port(last)), "--executions-since", "week", *files)
    return Program("simulator", ("-m", "position_pipeline.cli", "simulator", *options), 10)


def free_port(wanted: int) -> int:
    """`wanted` if it is free, else a free one after it; any for 0."""
    for port in (*range(wanted, min(wanted + 20, 65536)), 0) if wanted else (0,):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise OSError("no port is free on 127.0.0.1")


def write_files(home: Path, all_of_them: Sequence[Program]) -> None:
    """What supervisord and Dagster read."""
    (code_port,) = {program.after for program in all_of_them} - {0}
    shutil.copyfile(dagster_yaml(), home / "dagster" / "dagster.yaml")
    workspace = f"load_from:\n  - grpc_server:\n      host: {HOST}\n      port: {code_port}\n      location_name: position_pipeline\n"
    (home / "dagster" / "workspace.yaml").write_text(workspace, encoding="utf-8")
    conf(home).write_text(_supervisord_conf(home, all_of_them), encoding="utf-8")


def dagster_yaml() -> Path:
    """Beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parent
    return next(path for path in (package / "dagster.yaml", package.parent / "dagster.yaml") if path.exists())


def conf(home: Path) -> Path:
    """What supervisord is told; its name in a command line says whose supervisord it is."""
    return home / "run" / "supervisord.conf"


def pidfile(home: Path) -> Path:
    return home / "run" / "supervisord.pid"


def _supervisord_conf(home: Path, all_of_them: Sequence[Program]) -> str:
    """Secrets are not written here: the processes inherit them from the environment of `up`."""
    own = "user=root\n" if os.geteuid() == 0 else ""
    text = (
        f"[supervisord]\nnodaemon=true\nsilent=true\n{own}logfile={_safe(home / 'logs' / 'supervisord.log')}\n"
        f"pidfile={_safe(pidfile(home))}\n\n"
    )
    for program in all_of_them:
        command = " ".join(_quoted(word) for word in program.command(home))
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
