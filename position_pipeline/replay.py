"""The command `position-pipeline replay FILE`: a file of events through the accounting alone, with no database, broker or settings.

    position-pipeline replay trades.csv --method fifo --json

Belongs here: opening the file, progress, exit codes. Does not belong here: reading lines (brokers.event_lines), booking (replay_book.py),
rows and tables (replay_rows.py).

Lines that cannot be taken are named on stderr and in the JSON (`refused`), and all others are booked. Exit 0: all lines were; 1: some
were not; 2: the file cannot be read.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from position_pipeline import show
from position_pipeline.accounting.model import Method
from position_pipeline.brokers.event_cells import LONGEST_LINE
from position_pipeline.brokers.event_lines import NoEvents, read_event_lines
from position_pipeline.replay_book import replayed
from position_pipeline.replay_rows import Last, Spool, print_json, print_refused, print_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from position_pipeline.accounting.model import Close
    from position_pipeline.replay_book import Book

LINES_A_STEP = 2000


def run(file: Path, method: str = "fifo", json: bool = False) -> int:
    """Fold a file and print what it comes to; the exit code."""
    if method not in list(Method):
        return _fail(f"Method {method!r} is not known; known are {', '.join(Method)}.")
    try:
        return _run_json(file, Method(method)) if json else _run_tables(file, Method(method))
    except NoEvents as error:
        return _fail(f"{file}: {error}")
    except BrokenPipeError:
        return 1  # who reads has seen enough, as with `| head`
    except OSError as error:
        if error.filename is None:
            raise  # not of this file: the output is gone, or the disk is full
        return _fail(f"{file} cannot be read: {error.strerror}")


def _run_json(file: Path, method: Method) -> int:
    with Spool.opened() as spool:
        book = _book(file, method, spool.keep)
        identity = book.identity()
        print_json(book.positions, spool.texts(), identity, book.refused)
    return _end(book, identity.values())


def _run_tables(file: Path, method: Method) -> int:
    last = Last()
    book = _book(file, method, last.keep)
    identity = book.identity()
    print_tables(show.console(), book.positions, last, identity)
    return _end(book, identity.values())


def _book(file: Path, method: Method, keep: Callable[[Close], None]) -> Book:
    with file.open("rb") as stream, _progress(file) as advance:
        return replayed(read_event_lines(_lines(stream, advance)), method, keep)


def _end(book: Book, identity: Iterable[object]) -> int:
    errors = show.console(stderr=True)
    print_refused(errors, book.refused)
    show.say(errors, list(_notes(book)))
    if any(identity):
        show.say(errors, ["The identity is not 0. This is a fault in position-pipeline: a figure above is wrong."], "red")
        return 1
    return 1 if book.refused else 0


def _notes(book: Book) -> Iterator[str]:
    if book.repeated:
        yield f"{_lines_that(book.repeated, 'says', 'say')} the same as an earlier one with the same execution_id, booked once."
    if book.backwards:
        yield f"{_lines_that(book.backwards, 'is', 'are')} earlier than a line before of that instrument; the order of lines stands."
    if book.idle:
        yield f"{_lines_that(book.idle, 'splits', 'split')} what is not held, which changes nothing."


def _lines_that(count: int, one: str, many: str) -> str:
    return f"{show.counted(count, 'line')} {one if count == 1 else many}"


def _fail(message: str) -> int:
    show.say(show.console(stderr=True), [message], "red")
    return 2


def _lines(stream: IO[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    """The lines of a file; of one that is far too long only the start, so that it cannot fill the memory."""
    done, lines = 0, 0
    while raw := stream.readline(LONGEST_LINE + 1):
        done, lines = done + len(raw), lines + 1
        yield raw
        while len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
            raw = stream.readline(LONGEST_LINE + 1) or b"\n"
            done += len(raw)
        if lines % LINES_A_STEP == 0:
            advance(done)


@contextmanager
def _progress(file: Path) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal."""
    errors = show.console(stderr=True)
    if not errors.is_terminal:
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("Replaying", total=file.stat().st_size or None)
        yield lambda done: progress.update(task, completed=done)


if __name__ == "__main__":
    from argparse import ArgumentParser

    parser = ArgumentParser(prog="position-pipeline replay", description="Fold a file of events through the accounting alone.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--method", choices=list(map(str, Method)), default="fifo")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    sys.exit(run(asked.file, asked.method, asked.json))
