"""A large file is read ahead by a process of its own: the same lines, and nothing of that process is left behind."""

from __future__ import annotations

import os
import signal
import sys
from subprocess import PIPE, Popen

import pytest

from position_pipeline import event_reading
from position_pipeline.brokers.event_lines import NoEvents
from position_pipeline.event_files import import_events
from position_pipeline.event_reading import reading
from position_pipeline_tests.store.tables import TABLES, versions

HEAD = "type,account,instrument,execution_id,side,quantity,price,commission,time,numerator,denominator\n"
ENOUGH = 20_000
"""Lines that fill any pipe."""


@pytest.fixture
def path(tmp_path):
    """A file of fills, with a split and a bad line in it."""
    fills = "".join(f"fill,U1,ACME,e{number:05},BUY,1.50,10.25,0.1,2026-01-02T15:00:00.{number:06}Z,,\n" for number in range(ENOUGH))
    path = tmp_path / "fills.csv"
    path.write_text(f"{HEAD}{fills}split,U1,ACME,s,,,,,2026-01-03,2,1\nfill,U1,ACME,x,HOLD,1,1,0,2026-01-04,,\n", encoding="utf-8")
    return path


@pytest.fixture
def every_file_is_large(monkeypatch):
    monkeypatch.setattr(event_reading, "LARGE", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def read(path, at_a_time=7_000):
    with reading(path, at_a_time) as batches:
        return list(batches)


def test_a_process_of_its_own_reads_the_same_batches(path, monkeypatch):
    alone = read(path)
    assert [len(batch.lines) for batch in alone] == [7_000, 7_000, 6_002]
    assert alone[-1].position == path.stat().st_size
    monkeypatch.setattr(event_reading, "LARGE", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    ahead = read(path)
    assert ahead == alone
    assert [type(line) for line in ahead[-1].lines[-2:]] == [type(line) for line in alone[-1].lines[-2:]]
    assert ahead[0].lines[0].side is alone[0].lines[0].side
    assert str(ahead[0].lines[0]) == str(alone[0].lines[0])  # 1.50 stays 1.50, and the time UTC


@pytest.mark.usefixtures("every_file_is_large")
def test_what_is_no_file_of_events_is_refused_in_the_same_words(tmp_path):
    path = tmp_path / "what.csv"
    path.write_text("colour,size\nred,1\n")
    with pytest.raises(NoEvents, match="line 1 has to name the columns"):
        read(path)


def reader(path) -> Popen[bytes]:
    return Popen([sys.executable, "-m", event_reading.__name__, str(path), "100"], stdout=PIPE, stderr=PIPE)


def test_it_ends_when_nobody_reads_any_more_however_that_came(path):
    """As the pipe of a process that was killed: its end is closed by the kernel."""
    with reader(path) as process:
        process.stdout.read(100)
        process.stdout.close()
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == b""


def test_an_interrupt_is_left_to_whom_it_reads_for(path):
    with reader(path) as process:
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == b""
    assert len(rest) > path.stat().st_size // 10


def started(monkeypatch) -> list[Popen[bytes]]:
    """The processes that are started from now on."""
    found: list[Popen[bytes]] = []

    def starting(*arguments, **options):
        found.append(Popen(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(event_reading, "Popen", starting)
    return found


def stop(*_):
    raise KeyboardInterrupt


@pytest.mark.usefixtures("every_file_is_large")
def test_an_interrupted_import_leaves_neither_rows_nor_a_process(store, path, monkeypatch):
    processes, before = started(monkeypatch), versions(store, *TABLES)
    with pytest.raises(KeyboardInterrupt):
        import_events(store, path, "fifo", stop)
    (process,) = processes
    assert process.returncode is not None
    assert versions(store, *TABLES) == before


@pytest.mark.usefixtures("every_file_is_large")
def test_an_import_whose_reader_is_killed_keeps_nothing_and_says_so(store, path, monkeypatch):
    monkeypatch.setattr("position_pipeline.event_files.BATCH", 100)
    processes, before = started(monkeypatch), versions(store, *TABLES)

    def kill(*_):
        processes[0].kill()

    with pytest.raises(RuntimeError, match="ended early, with code -9"):
        import_events(store, path, "fifo", kill)
    assert versions(store, *TABLES) == before


@pytest.mark.usefixtures("every_file_is_large")
def test_an_import_that_is_read_ahead_books_everything(store, path):
    taken = import_events(store, path, "average", lambda *_: None)
    assert (taken.recorded["U1"].fills, taken.recorded["U1"].adjustments, len(taken.refused)) == (ENOUGH, 1, 1)
    (held,) = store.read.positions()
    assert held["quantity"] == ENOUGH * 3  # 1.5 each, two for one


@pytest.mark.usefixtures("every_file_is_large")
def test_a_line_without_a_time_is_refused_in_a_large_file_too(store, tmp_path):
    path = tmp_path / "fills.csv"
    path.write_text(f"{HEAD}fill,U1,ACME,a,BUY,1,10,0,2026-01-02,,\nfill,U1,ACME,b,BUY,1,10,0,,,\n", encoding="utf-8")
    taken = import_events(store, path, "fifo", lambda *_: None)
    assert (taken.recorded["U1"].fills, taken.refused) == (1, [("U1", "", "line 3: time is missing")])
