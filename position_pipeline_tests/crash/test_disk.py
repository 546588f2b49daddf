"""The disk of PostgreSQL is full while fills stream in: they wait, and none is lost. What must hold: test_faults.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from position_pipeline.store import embedded, upgrade
from position_pipeline_tests.crash.place import PATIENCE, Place, linux, server_processes, trading
from position_pipeline_tests.test_listener import Process, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def full_disk(pids: set[int], size: int) -> Iterator[None]:
    """No file of these processes grows beyond `size` bytes: what the kernel answers is nearly what it answers where the disk is full."""
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit (util-linux) is not installed, which limits another user's process")
    refused = [_limit(pid, str(size)) for pid in pids]
    try:
        if any(refused):
            pytest.skip(f"this user may not limit PostgreSQL's processes: {refused}")
        yield
    finally:
        for pid in pids:
            _limit(pid, "unlimited")


def _limit(pid: int, size: str) -> str:
    """Set the soft limit, by the user whose process it is: even root may not do it for others everywhere. Why it was refused, if it was."""
    try:
        owner = Path(f"/proc/{pid}").stat()
    except FileNotFoundError:
        return ""  # it has ended meanwhile
    as_owner: dict[str, Any] = {} if owner.st_uid == os.geteuid() else {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    done = subprocess.run(["prlimit", f"--pid={pid}", f"--fsize={size}:"], capture_output=True, text=True, cwd="/", **as_owner)
    return done.stderr if done.returncode and Path(f"/proc/{pid}").exists() else ""


SEGMENT = 16 << 20
"""Bytes of a file of PostgreSQL's log, which is written from its beginning to its end."""


def larger_than_the_log(place: Place) -> int:
    """The size of `executions`, made larger than what of the log's newest file is written: what limits the one leaves the other room.

    Rows that were there and are gone leave their pages behind, as long as nobody vacuums.
    """
    ours = place.book
    with psycopg2.connect(place.url) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE executions SET (autovacuum_enabled = false)")
    while True:
        with psycopg2.connect(place.url) as connection, connection.cursor() as cursor:
            cursor.execute(PADDING)
            cursor.execute("DELETE FROM executions WHERE execution_id LIKE 'padding-%'")
        (found,) = ours.rows("SELECT pg_relation_size('executions') AS size, pg_current_wal_lsn() - '0/0' AS log")
        if found["size"] > found["log"] % SEGMENT + (2 << 20):
            return found["size"]


PADDING = """
INSERT INTO executions (account, execution_id, revision, instrument, side, quantity, price, multiplier, currency, time, source)
SELECT account, 'padding-' || n, 1, instrument, side, quantity, price, multiplier, currency, time, source
FROM (SELECT * FROM executions ORDER BY id LIMIT 1) AS one, generate_series(1, 3000) AS n
"""


@linux
def test_a_table_that_cannot_grow_keeps_fills_waiting_and_loses_none(broker, tmp_path):
    with embedded.running(tmp_path) as url:
        upgrade(url)
        place = Place(broker, url)
        with Process(url, broker, tmp_path) as listener:
            eventually(place.whole)
            with trading(place, "table") as traded:
                eventually(lambda: len(place.book.executions()) > 10)
                size = larger_than_the_log(place)
                with full_disk(server_processes(tmp_path, but=("checkpointer", "walwriter", "background writer")), size):
                    eventually(lambda: "File too large" in (tmp_path / "postgres" / "server.log").read_text(), "the table is full")
                    traded.wait_for(20)
                traded.stop()
            place.assert_right()
            assert listener.stop() == 0


@linux
def test_a_log_that_cannot_be_written_ends_the_server_again_and_again_and_loses_no_fill(broker, tmp_path):
    """PostgreSQL ends itself where it cannot write its log, and cannot start while the disk is full. Nobody helps but by making room."""
    home = tmp_path / "home"
    with embedded.running(home) as url:
        upgrade(url)
    place = Place(broker, "")
    with Process("", broker, home) as listener:
        place.url = eventually(lambda: embedded.url(home))
        eventually(place.whole)
        with trading(place, "log") as traded:
            eventually(lambda: len(place.book.executions()) > 10)
            with full_disk({listener.process.pid, *server_processes(home)}, 0):
                eventually(lambda: embedded.url(home) is None, "PostgreSQL ends itself")
                traded.wait_for(40)
                assert listener.process.poll() is None
            traded.stop()
        place.url = eventually(lambda: embedded.url(home), "PostgreSQL is started again", PATIENCE)
        place.assert_right()
        assert listener.stop() == 0
