"""What each process that `up` starts does before it becomes what it is: it ends with its parent, and there is one of its name in a home.

    python -m position_pipeline.supervised LOCK PORT WORD...     becomes `python WORD...` once the former one is gone and PORT answers

Belongs here: what the kernel has to be asked for from within the process, with nothing imported that takes time. Does not belong here:
which processes there are (supervision_programs), and watching them (supervision).

Where supervisord is killed, nobody is left to stop its processes. Linux tells them to end, and a second daemon beside the first would run
every schedule twice: so each holds a lock for as long as it lives, and the next of its name waits for that. Where one does not end, on
Linux because it hangs and elsewhere because nobody has told it, the next ends it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOST = "127.0.0.1"
PATIENCE = 90
"""Seconds that a code server may take to answer on a slow machine."""

LONGEST_END = 20.0
"""Seconds that the former one may take to end; supervisord gives it fifteen."""

PAUSE = 0.1


def end_with_parent() -> None:
    """Where the parent is killed, with no chance to stop us, Linux tells us to end, by a signal that a parent may have had us ignore.

    Both stay through `exec`.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def take(file: Path, patience: float = LONGEST_END) -> int:
    """Hold the lock for as long as this process lives, whatever it becomes; ends who holds it for longer than `patience` seconds."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + patience
    while not _locked(descriptor):
        if time.monotonic() > deadline:
            with suppress(ValueError, ProcessLookupError):
                os.kill(int(os.pread(descriptor, 20, 0)), signal.SIGKILL)
            deadline = time.monotonic() + patience
        time.sleep(PAUSE)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    os.set_inheritable(descriptor, True)
    return descriptor


def wait_until_free(files: Iterable[Path], patience: float = LONGEST_END) -> bool:
    """Wait until nobody holds any of the locks, or the time is up; whether nobody does."""
    deadline = time.monotonic() + patience
    return all(_until_free(file, deadline) for file in files)


def _until_free(file: Path, deadline: float) -> bool:
    with file.open("a") as opened:
        while not _locked(opened.fileno()):
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE)
    return True


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for(port: int) -> None:
    """Until the port answers, or for a while in any case. Both that wait would fill their logs with tracebacks, and look again rarely."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(PAUSE)


def main(words: Sequence[str]) -> None:
    """Become what was asked for."""
    parent = os.getppid()
    end_with_parent()
    if os.getppid() != parent:
        return  # it is gone already
    take(Path(words[0]))
    if int(words[1]):
        wait_for(int(words[1]))
    os.execv(sys.executable, [sys.executable, *words[2:]])  # noqa: S606  the words are ours


if __name__ == "__main__":
    main(sys.argv[1:])
