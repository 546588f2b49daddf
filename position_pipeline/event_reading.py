"""The lines of a file of events, some thousands at a time; those of a large file are read ahead by a process of their own.

    with reading(path, at_a_time=20_000) as batches:
        for batch in batches: ...

Belongs here: where a file is read, and how what it says gets from one process to the other. Does not belong here: what lines say
(brokers.event_lines), what becomes of them (event_files.py).

Reading lines is a quarter of the work of an import, and with a second core it takes place while the rest is booked. The process has
the file and a pipe, and nothing else of ours: no database, no settings. It works on the next batch while one is booked and then waits for
the pipe. So it ends when nobody reads that any more, however whoever did has ended, and an interrupt is left to the one that it works for.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from position_pipeline.brokers.event_lines import Event, NoEvents, read_event_lines
from position_pipeline.collection import without_collection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from position_pipeline.brokers.event_cells import Refused

    Column = tuple[str, Sequence[Any]]
    """The name of what its texts are read as, '' for values as they are."""

LARGE = 4 << 20
"""Bytes of a file that is worth a process: it starts in the time that a megabyte takes."""


class Batch(NamedTuple):
    """Some lines, and how far into the file they go, in bytes."""

    lines: list[Event | Refused]
    position: int


@contextmanager
def reading(path: Path, at_a_time: int) -> Iterator[Iterator[Batch]]:
    """The batches of a file. The first of them raises `NoEvents` when the file as a whole cannot be read."""
    if path.stat().st_size < LARGE or (os.cpu_count() or 1) < 2:
        yield _batches(path, at_a_time)
        return
    command = [sys.executable, "-P", "-m", __name__, str(path.absolute()), str(at_a_time)]
    with Popen(command, stdin=DEVNULL, stdout=PIPE) as process:
        assert process.stdout is not None
        try:
            yield _received(process.stdout, process)
        finally:
            process.kill()  # it has nothing that it could leave half done


def _batches(path: Path, at_a_time: int) -> Iterator[Batch]:
    with path.open("rb") as file:
        lines: list[Event | Refused] = []
        for line in read_event_lines(file):
            lines.append(line)
            if len(lines) == at_a_time:
                yield Batch(lines, file.tell())
                lines = []
        if lines:
            yield Batch(lines, file.tell())


def _received(pipe: IO[bytes], process: Popen[bytes]) -> Iterator[Batch]:
    """What the process sends until it sends None: batches, or the error that it ended with."""
    while True:
        try:
            found = pickle.load(pipe)  # noqa: S301  of our own process, which nobody else can write to
        except (EOFError, pickle.UnpicklingError):
            raise RuntimeError(f"the process that reads the file ended early, with code {process.wait()}") from None
        if found is None:
            return
        if isinstance(found, Exception):
            raise found
        lines, position = found
        yield Batch(_lines(lines) if isinstance(lines, tuple) else lines, position)


def _send(path: Path, at_a_time: int, pipe: IO[bytes]) -> None:
    """Read a file and send its batches, and None or an error at the end."""
    end: Exception | None = None
    try:
        with without_collection():
            for batch in _batches(path, at_a_time):
                # Whole before the pipe is full: written piece by piece it would be made while the other side waits.
                pipe.write(pickle.dumps((_columns(batch.lines), batch.position), pickle.HIGHEST_PROTOCOL))
                pipe.flush()
    except (NoEvents, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        end = error
    pickle.dump(end, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()


# Numbers and times are pickled one by one, at more cost than reading them; as columns of text they take a quarter of it.

_SPELLED: dict[type, tuple[str, Callable[[Any], str]]] = {Decimal: ("number", str), datetime: ("time", datetime.isoformat)}
_READ: dict[str, Callable[[str], Any]] = {"number": Decimal, "time": datetime.fromisoformat}


def _columns(lines: list[Event | Refused]) -> tuple[Column, ...] | list[Event | Refused]:
    """The lines as columns, unless one of them was refused."""
    if not all(isinstance(line, Event) for line in lines):
        return lines
    return tuple(map(_column, zip(*lines, strict=True)))


def _column(values: Sequence[Any]) -> Column:
    kinds = set(map(type, values))
    if len(kinds) > 1 or kinds.isdisjoint(_SPELLED):
        return "", values
    name, spelled = _SPELLED[kinds.pop()]
    return name, list(map(spelled, values))


def _lines(columns: tuple[Column, ...]) -> list[Event | Refused]:
    values = (map(_READ[name], texts) if name else texts for name, texts in columns)
    return list(map(Event._make, zip(*values, strict=True)))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)  # it works ahead: where there are two processors for three, booking and PostgreSQL come first
    with suppress(BrokenPipeError):
        _send(Path(sys.argv[1]), int(sys.argv[2]), sys.stdout.buffer)
    os._exit(0)  # what the pipe did not take is of no use to anybody
