"""Processes of one name in one home: one at a time, none without its parent, and none that hangs keeps the next one out."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from position_pipeline.supervised import take, wait_until_free

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULE = (sys.executable, "-m", "position_pipeline.supervised")
SAYS = "import os; print(os.getpid(), flush=True); import time; time.sleep(100)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SAYS


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "one.running"


def test_it_becomes_what_was_asked_for_and_holds_the_lock_for_as_long_as_that_lives(lock):
    with running(*MODULE, str(lock), "0", "-c", SAYS) as one:
        assert said(one) == str(one.pid) == lock.read_text()
        assert not wait_until_free([lock], 0)
        one.kill()
        assert wait_until_free([lock], 10)


def test_the_next_one_waits_until_the_former_is_gone(lock):
    with running(*MODULE, str(lock), "0", "-c", SAYS) as former:
        assert said(former)
        with running(*MODULE, str(lock), "0", "-c", SAYS) as following:
            time.sleep(0.5)
            assert lock.read_text() == str(former.pid), "it waits"
            former.send_signal(signal.SIGTERM)
            assert said(following) == lock.read_text() == str(following.pid)


def test_one_that_does_not_end_is_ended_by_the_next(lock):
    with running(*MODULE, str(lock), "0", "-c", DEAF) as former:
        assert said(former)
        former.send_signal(signal.SIGTERM)
        os.close(take(lock, patience=0.3))
        assert former.wait(10) == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel tells nobody")
def test_it_ends_when_whoever_started_it_is_killed(lock):
    deaf = "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    starter = f"{deaf} subprocess.run([*{MODULE!r}, {str(lock)!r}, '0', '-c', {SAYS!r}])"
    with running(sys.executable, "-c", starter) as parent:
        assert said(parent) == lock.read_text() != str(parent.pid)
        parent.kill()
        assert wait_until_free([lock], 10)


def test_it_waits_for_the_port_that_it_needs(lock):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        with running(*MODULE, str(lock), str(server.getsockname()[1]), "-c", SAYS) as one:
            while not lock.exists() or not lock.read_text():
                time.sleep(0.01)
            command = Path(f"/proc/{one.pid}/cmdline")
            if command.exists():
                assert "position_pipeline.supervised" in command.read_text()
            server.listen()
            assert said(one) == str(one.pid)
