"""What the embedded server needs of the operating system: locks that die with their holder, free ports, processes.

Belongs here: short answers that are the same for any server. Does not belong here: what follows from them for ours
(``embedded``).
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

ALONE = fcntl.LOCK_EX
SHARED = fcntl.LOCK_SH


def open_private(file: Path, flags: int = 0) -> int:
    """Not inherited by programs we start, as everything Python opens: a server holding users.lock would never stop."""
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o600)


def lock(descriptor: int, kind: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)


def free_port(host: str, wanted: int) -> int:
    """The wanted port if it is free, else any. Somebody may still take it before the server does."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closing connections do not count as taken
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    return wanted


def pids() -> list[int]:
    if Path("/proc/self/cmdline").exists():
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [int(pid) for pid in _ps("-ax", "-o", "pid=").split()]


def command(pid: int) -> str:
    """The command line of a living process, or the title it gave itself; nothing if there is no such process."""
    if not Path("/proc/self/cmdline").exists():
        return _ps("-ww", "-o", "command=", "-p", str(pid))
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _ps(*asked: str) -> str:
    """For macOS, which has no /proc. A slim Linux image has no ps."""
    return subprocess.run(["/bin/ps", *asked], capture_output=True, text=True, check=False).stdout
