"""The data folder of the embedded server: made whole or not at all, with one role that can log in.

Belongs here: initdb, the role and its password, and how a program of PostgreSQL is run on a folder (by hand of another
user if we are root). Does not belong here: starting, sharing and stopping the server (``embedded``).
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

from position_pipeline.store.embedded_binaries import (
    ENVIRONMENT,
    EmbeddedServerError,
    Programs,
    binaries_for,
    owner_for,
)

NAME = "position_pipeline"  # of the role and of its database
PATIENCE = 60.0  # seconds for each single step: making, starting, stopping

# Nobody is let in without a password, not even over a socket that the server is told not to open. The C.UTF-8 of
# PostgreSQL itself, not of the system: it is there on every machine, and sorts the same after each system upgrade.
INITDB = [
    "--username=postgres",
    "--auth-local=reject",
    "--auth-host=scram-sha-256",
    "--data-checksums",
    "--no-instructions",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
]

# Whoever can send SQL as this role cannot read files or start programs of the machine, as a superuser could. CREATEROLE
# lets the owner make a reader for a chart tool, CREATEDB a database to test in.
ROLE = f"""
create role {NAME} login createdb createrole;
grant pg_monitor to {NAME};
create database {NAME} owner {NAME};
"""

# The many rounds of scram slow down the guessing of passwords that people chose. Ours has 256 random bits, so one round
# is as safe, and a connection takes 2 ms where it took 5; Dagster opens more than a hundred in a run. Old Java drivers
# insist on 4096 rounds: a role made for such a tool gets them, as the setting holds only while we set our password.
# The second setting keeps a refused statement, and so the password, out of the log.
SINGLE = ["-c", "scram_iterations=1", "-c", "log_min_error_statement=panic"]

REMEDIES = {
    "No space left on device": "The disk is full: make room and start again.",
    "Permission denied": "Something there belongs to another user: give it back to its owner, and start again.",
    "password authentication failed": "The file password is not the one of this data: remove it, and start again.",
    "could not bind": "Other programs took each port just as it was chosen: start again.",
    "could not map anonymous shared memory": "There is too little free memory: about 200 MB are needed.",
    "pre-existing shared memory": "An earlier server still lives: end the process that the log names.",
}
OTHERWISE = "Put right what it says, and start again."


class DataFolder:
    """The PostgreSQL folder of a home, and the programs that work on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.password_file = folder / "password"

    def prepare(self, alive: int) -> Programs:
        """Data that a server can start on, made if there is none; returns the programs to start it with."""
        programs = binaries_for(owner_for(self.data))
        if not self.data.exists():
            self._make(programs, alive)
        self._check_version(programs)
        if not self.password_file.exists():  # as in a backup without secrets: who owns the folder gets a new one
            self._set_password(programs, self.data, alive)
        return programs

    def options(self, data: Path) -> dict[str, Any]:
        """How a program is run on that data: as its owner, from inside it, knowing nothing of our environment."""
        owner = owner_for(data)
        return {"cwd": data, "env": ENVIRONMENT, **(owner.options() if owner else {})}

    def seen(self, data: Path) -> str:
        """The data folder as the program is told of it.

        As root, the user who runs the program often may not walk there: home may lie under /root. The program is
        put into the folder before root's rights are given up, and that link leads there without any walking.
        """
        return "/proc/self/cwd" if os.geteuid() == 0 else str(data)

    def failure(self, what: str, said: str | None = None) -> EmbeddedServerError:
        """An error with the last words of a program (by default: of the server), and what to do about them."""
        words = self.tail(10_000).decode(errors="replace") if said is None else said
        words = words.replace("/proc/self/cwd", str(self.data)).strip()
        remedies = [remedy for sign, remedy in REMEDIES.items() if sign in words]
        quoted = "\n".join("    " + line for line in words.splitlines()[-12:]) or "    (nothing)"
        return EmbeddedServerError(
            f"{what}. Its last words (the whole log: {self.log}):\n{quoted}\n"
            f"{(remedies or [OTHERWISE])[0]} Or set DATABASE_URL to a PostgreSQL server of your own."
        )

    def tail(self, size: int) -> bytes:
        """The last bytes of the server's log."""
        if not self.log.exists():
            return b""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - size))
            return log.read()

    def _make(self, programs: Programs, alive: int) -> None:
        """A new data folder. A maker that is killed leaves only new/ behind, which the next one clears away."""
        new = self.folder / "new"
        if new.exists():
            shutil.rmtree(new)
        new.mkdir(mode=0o700)
        owner = owner_for(self.data)
        if owner:
            os.chown(new, owner.uid, owner.gid)
        self._run([programs.path("initdb"), "-D", self.seen(new), *INITDB], new, alive)
        self._run_sql(programs, ROLE, new, alive)
        self._set_password(programs, new, alive)
        new.rename(self.data)
        _sync(self.folder)  # else a power cut could undo the rename, and the next maker clear away a full database

    def _check_version(self, programs: Programs) -> None:
        version = self.data / "PG_VERSION"
        if not version.exists():
            raise EmbeddedServerError(
                f"{self.data} is no PostgreSQL data folder, or what is left of one (PG_VERSION is missing). Put back a "
                "backup of it, or move it away to begin with an empty database."
            )
        if version.read_text().strip() != programs.major:
            raise EmbeddedServerError(
                f"{self.data} was made by PostgreSQL {version.read_text().strip()}, which PostgreSQL "
                f"{programs.version} (what is installed here) cannot read. Install the position-pipeline that made it, "
                f"save the database with pg_dump, move {self.folder} away, and load the dump into a new one."
            )

    def _set_password(self, programs: Programs, data: Path, alive: int) -> None:
        password = secrets.token_urlsafe(32)
        self._run_sql(programs, f"alter role {NAME} password '{password}';\n", data, alive)
        write(self.password_file, password)

    def _run_sql(self, programs: Programs, sql: str, data: Path, alive: int) -> None:
        """As the superuser, in a server of one process that listens nowhere; through a pipe, which nobody else sees."""
        command = [programs.path("postgres"), "--single", *SINGLE, "-D", self.seen(data), "postgres"]
        said = self._run(command, data, alive, sql)
        if "ERROR:" in said:
            raise self.failure(f"PostgreSQL refused to set up its role and its database in {data}", said)

    def _run(self, command: list[str], data: Path, alive: int, text: str = "") -> str:
        """Run a program on the data to its end. It holds server.lock too, so that it counts even if we are killed."""
        program = Path(command[0]).name
        pipes: dict[str, Any] = {"input": text, "capture_output": True, "text": True, "pass_fds": [alive]}
        try:
            done = subprocess.run(command, check=False, timeout=PATIENCE, **pipes, **self.options(data))
        except subprocess.TimeoutExpired as error:
            raise self.failure(f"{program} did not end in {PATIENCE:.0f} seconds") from error
        if done.returncode:
            raise self.failure(f"{program} failed in {data}", done.stdout + done.stderr)
        return str(done.stderr)


def write(file: Path, text: str) -> None:
    """Whole or not at all, and for our eyes only from its first moment."""
    new = file.with_name(file.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.rename(file)
    _sync(file.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
