"""A million fills into PostgreSQL with all their results, and what a few more fills cost beside them.

    python -m benchmarks.scale --fills 1000000

The file is imported as a person's is: read line by line, booked, written, in one transaction. Every part has a row of its own, with the
CPU time that it took: two cores that others use too make the time on the clock go up and down. The memory is that of the importing process.
Costs of few fills are medians of several rounds, with a million fills of history and with none, each first in every other round.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from position_pipeline.accounting.booking import order_key
from position_pipeline.accounting.model import Fill, Instrument, Position, Side
from position_pipeline.brokers.event_lines import read_event_lines
from position_pipeline.event_files import import_events, without_collection
from position_pipeline.store import Store, embedded, upgrade
from position_pipeline.store.bulk_kernel import fold_sorted
from position_pipeline.store.bulk_text import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from position_pipeline.accounting.booking import Booked
    from position_pipeline.brokers.event_lines import Event

INSTRUMENTS = 1000
GOAL = 20_000
ROUNDS = 40
SAMPLE = 50_000
LARGE, SMALL = "LARGE", "SMALL"
START = datetime(2020, 1, 2, 14, 30, tzinfo=UTC)
HEADER = "account,instrument,execution_id,side,quantity,price,commission,currency,time\n"


class Used(NamedTuple):
    """Seconds on the clock, of our process and of PostgreSQL's for us; bytes of memory that our process has now."""

    clock: float
    own: float
    server: float
    memory: int


def write_file(path: Path, fills: int) -> None:
    """Random fills of many instruments, in the order of time."""
    rng, at = random.Random(7), START
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        for number in range(fills):
            at += timedelta(milliseconds=rng.randint(1, 200))
            side, quantity = rng.choice(("BUY", "SELL")), rng.randint(1, 500)
            price, fee = rng.randint(1000, 100000) / 100, rng.randint(0, 300) / 100
            name = f"X{rng.randrange(INSTRUMENTS):04}"
            file.write(f"{LARGE},{name},e{number:09},{side},{quantity},{price},{fee},USD,{at.isoformat()}\n")


def used(pid: int) -> Used:
    """Of this process and of the server's process with that number."""
    ticks = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    server = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    return Used(time.perf_counter(), time.process_time(), server, pages * os.sysconf("SC_PAGE_SIZE"))


def imported(url: str, path: Path, fills: int) -> None:
    """Import the file and print what it took."""
    memory: dict[int, int] = {}
    with Store(url) as store:
        pid = store._connection.raw.get_backend_pid()  # noqa: SLF001  nobody but a benchmark wants it
        before = used(pid)

        def tell(_: str, done: int, whole: int) -> None:
            percent = max((each for each in (10, 50, 100) if 100 * done >= each * whole), default=0)
            memory.setdefault(percent, used(pid).memory)

        taken = import_events(store, path, "fifo", tell)
        after = used(pid)
    clock, own, server = (now - then for now, then in zip(after[:3], before[:3], strict=True))
    assert taken.recorded[LARGE].fills == fills
    assert not taken.refused
    rate = fills / clock
    print(f"{fills:,} fills of {INSTRUMENTS:,} instruments, with positions, lots, closes and events, {path.stat().st_size >> 20} MB of CSV")
    print(f"  end to end             {clock:8.1f} s   {rate:10,.0f} fills/s   goal {GOAL:,}: {rate / GOAL:.2f} of it")
    print(f"  CPU of the import      {own:8.1f} s   {fills / own:10,.0f} fills/s   CPU of PostgreSQL {server:.1f} s, at the same time")
    print("  memory                 " + ", ".join(f"{memory[at] >> 20} MB at {at} %" for at in (10, 50, 100) if at in memory))


def parts(path: Path) -> None:
    """What reading, booking and writing lines take of it, each alone on the first fills."""
    with path.open("rb") as file, without_collection():
        events, reading = _cpu(lambda: [event for event, _ in zip(read_event_lines(file), range(SAMPLE), strict=False)])
        made, making = _cpu(lambda: [_fill(event) for event in events])
        by_name: dict[str, list[Fill]] = {}
        for fill in sorted(made, key=order_key):
            by_name.setdefault(fill.instrument, []).append(fill)
        booked, booking = _cpu(lambda: [fold_sorted(Position(LARGE, name, "USD"), more) for name, more in by_name.items()])
        lines = Lines(START, dict.fromkeys((fill.execution_id for fill in made), 1))
        _, writing = _cpu(lambda: _written(lines, made, booked))
    for what, seconds in (("reading lines", reading), ("making fills", making), ("booking", booking), ("rows as text", writing)):
        print(f"    {what:<20} {1e6 * seconds / len(made):8.1f} us of CPU a fill")


def _written(lines: Lines, made: Sequence[Fill], booked: Sequence[Booked]) -> int:
    rows = [*map(lines.execution, made)]
    for each in booked:
        rows += [*map(lines.close, each.closes), *map(lines.event, each.events)]
    return len("".join(rows))


def _cpu(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    return work(), time.process_time() - began


def _fill(event: Event) -> Fill:
    e = event
    assert e.side
    assert e.quantity is not None
    assert e.price is not None
    return Fill(e.account, e.instrument, e.id, e.side, e.quantity, e.price, "USD", e.time, Decimal(1), e.commission, "USD", source="file")


def few(url: str, fills: int) -> None:
    """Five new fills, and a late one, with and without history."""
    with Store(url) as store:
        store.add_account(SMALL, "file")
        large: list[float] = []
        small: list[float] = []
        late: list[float] = []
        first = _new(SMALL, 0)
        store.record(SMALL, first, (), [Instrument(fill.instrument, fill.instrument[5:], "STK", "USD") for fill in first])
        for number in range(1, ROUNDS + 1):
            turn = [(large, LARGE), (small, SMALL)]
            for times, account in turn if number % 2 else reversed(turn):
                times.append(_seconds(store, account, _new(account, number)))
        for number in range(3):
            fill = _new(LARGE, 0)[number]._replace(execution_id=f"late{number}", time=START + timedelta(seconds=30))
            late.append(_seconds(store, LARGE, [fill]))
    ratio = statistics.median(large) / statistics.median(small)
    print("5 new fills of 5 instruments, recorded")
    print(f"  beside the file's      {1000 * statistics.median(large):8.1f} ms")
    print(f"  in an empty account    {1000 * statistics.median(small):8.1f} ms   ratio {ratio:.2f}, goal under 1.5")
    print(f"1 late fill, before {fills // INSTRUMENTS:,} others of its instrument: {1000 * statistics.median(late):.1f} ms")


def _new(account: str, number: int) -> list[Fill]:
    at = START + timedelta(days=3000, seconds=number)
    one = Decimal(1)
    sides = (Side.BUY, Side.SELL)
    return [
        Fill(account, f"file:X{i:04}", f"n{number}-{i}", sides[number % 2], one, Decimal(100 + i), "USD", at, one, one, "USD", source="api")
        for i in range(5)
    ]


def _seconds(store: Store, account: str, fills: list[Fill]) -> float:
    began = time.perf_counter()
    assert store.record(account, fills).fills == len(fills)
    return time.perf_counter() - began


def _servers() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, embedded.running(Path(folder) / "home") as url:
        upgrade(url)
        yield url


def main() -> None:
    """Make the file, import it, record some more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fills", type=int, default=1_000_000)
    fills = parser.parse_args().fills
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fills.csv"
        write_file(path, fills)
        for url in _servers():
            imported(url, path, fills)
            parts(path)
            few(url, fills)


if __name__ == "__main__":
    main()
