"""What a sync costs by how much is held, and by how much has changed: own work, rows and bytes, over 100, 1,000 and 10,000 positions.

The broker is a value in memory, so that nothing but our own work is measured: from the answer to the end of the pass. `benchmarks.sync`
runs it after the whole command.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from position_pipeline.accounting.circumstances import Policy
from position_pipeline.accounting.model import AccountValue, Fill, Holding, Instrument, Side, Snapshot, SnapshotStatus
from position_pipeline.brokers import Capture
from position_pipeline.store import Store
from position_pipeline.sync import sync

SIZES = (100, 1_000, 10_000)
CHANGED = 10
ROUNDS = 7
ASK = Policy(adopts=False)


@dataclass
class _Broker:
    """A broker that answers at once with what it was last given."""

    name: str
    capture_: Capture
    where = "in memory"
    accounts = ()

    def capture(self, accounts: object, timeout: float) -> Capture:
        del accounts, timeout
        return replace(self.capture_, received_at=datetime.now(UTC))


def measure(url: str) -> None:
    """Print a line for each size."""
    print(f"\nOwn work of a sync, which grows with what changed (median of {ROUNDS}; rows and bytes of one sync)")
    print(f"{'positions':>10} {'no change':>12} {'rows':>5} {'bytes':>7} {f'{CHANGED} fills':>12} {'10 breaks seen again':>22}")
    with Store(url) as store:
        for size in SIZES:
            _line(store, size)


def _line(store: Store, size: int) -> None:
    account = f"B{size}"
    instruments = tuple(Instrument(f"bench:{size}-{n}", f"S{n:05d}", "STK", "USD") for n in range(size))
    held = tuple(Holding(i.id, Decimal(100), Decimal(50), Decimal(50), Decimal(51)) for i in instruments)
    broker = _Broker(f"bench{size}", _capture(account, instruments, held, 0))
    _pass(store, broker)
    quiet, before = [], _counted(store, account)
    for number in range(ROUNDS):
        broker.capture_ = _capture(account, instruments, held, number + 1)
        quiet.append(_pass(store, broker))
    rows, size_ = (round((now - then) / ROUNDS) for now, then in zip(_counted(store, account), before, strict=True))
    busy = []
    for number in range(ROUNDS):
        held, fills = _traded(account, held, number)
        broker.capture_ = _capture(account, instruments, held, 100 + number, fills)
        busy.append(_pass(store, broker))
    differing = tuple(replace(h, quantity=h.quantity + Decimal("0.37")) if n < CHANGED else h for n, h in enumerate(held))
    seen = []
    for number in range(ROUNDS + 1):
        broker.capture_ = _capture(account, instruments, differing, 200 + number)
        seen.append(_pass(store, broker))
    figures = (statistics.median(each) for each in (quiet, busy, seen[1:]))
    first, second, third = (f"{figure:.1f} ms" for figure in figures)
    print(f"{size:>10,} {first:>12} {rows:>5} {size_:>7} {second:>12} {third:>22}")


def _capture(
    account: str, instruments: tuple[Instrument, ...], held: tuple[Holding, ...], at: int, fills: tuple[Fill, ...] = ()
) -> Capture:
    taken_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=at - 3600)
    values = (AccountValue("NetLiquidation", "1000000", "USD"),)
    answer = Snapshot(account, "bench", taken_at, SnapshotStatus.COMPLETE, held, values)
    return Capture(f"bench{len(held)}", datetime.now(UTC), (answer,), fills, instruments, ())


def _traded(account: str, held: tuple[Holding, ...], number: int) -> tuple[tuple[Holding, ...], tuple[Fill, ...]]:
    """One more of each of the first ten, a minute before the answer that shows them."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=3600 - 30 - number)
    fills = tuple(
        Fill(account, h.instrument, f"{account}-{number}-{n}", Side.BUY, Decimal(1), Decimal(50), "USD", at, commission=Decimal(0),
             commission_currency="USD", source="bench")
        for n, h in enumerate(held[:CHANGED])
    )  # fmt: skip
    return tuple(replace(h, quantity=h.quantity + 1) if n < CHANGED else h for n, h in enumerate(held)), fills


def _pass(store: Store, broker: _Broker) -> float:
    """Milliseconds of one pass; it has to be a good one."""
    began = time.perf_counter()
    (result,) = sync(store, [broker], trigger="manual", timeout=5, policy=ASK)
    took = (time.perf_counter() - began) * 1000
    assert result.good, result.errors
    return took


def _counted(store: Store, account: str) -> tuple[int, int]:
    """(rows, bytes) that the account has in the tables that a sync writes."""
    raw = store.read._connection.raw  # noqa: SLF001  nothing of the product needs such a count
    rows = size = 0
    with raw.cursor() as cursor:
        for table in ("snapshots", "syncs"):
            cursor.execute(f"SELECT count(*), coalesce(sum(pg_column_size(t.*)), 0) FROM {table} t WHERE account = %s", [account])
            found = cursor.fetchone() or (0, 0)
            rows, size = rows + int(found[0]), size + int(found[1])
    return rows, size
