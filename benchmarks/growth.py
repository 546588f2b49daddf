"""What a sync costs by how much is held, and by how much has changed: own work, rows and bytes, over 100, 1,000 and 10,000 positions.

The broker is a value in memory, so that nothing but our own work is measured: from the answer to the end of the pass. Rows are those that
PostgreSQL counts, over all tables, added and written again; bytes are those of its write-ahead log, with indexes and everything.
`benchmarks.sync` runs it after the whole command.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.circumstances import Policy
from position_pipeline.accounting.model import AccountValue, Fill, Holding, Instrument, Side, Snapshot, SnapshotStatus
from position_pipeline.brokers import Capture
from position_pipeline.store import Store
from position_pipeline.sync import sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Spent = tuple[float, int, int, int]
"""Milliseconds, rows added, rows written again, bytes of the log."""

SIZES = (100, 1_000, 10_000)
CHANGED = 10
ROUNDS = 7
ASK = Policy(adopts=False)


@dataclass
class _Broker:
    """A broker of one account that answers at once with what it holds; its clock goes a minute from answer to answer."""

    name: str
    account: str
    instruments: tuple[Instrument, ...]
    held: tuple[Holding, ...]
    fills: tuple[Fill, ...] = ()
    at: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(hours=2))
    where = "in memory"
    accounts = ()

    def capture(self, accounts: object, timeout: float) -> Capture:
        del accounts, timeout
        self.at += timedelta(minutes=1)
        values = (AccountValue("NetLiquidation", "1000000", "USD"),)
        answer = Snapshot(self.account, "bench", self.at, SnapshotStatus.COMPLETE, self.held, values)
        return Capture(self.name, datetime.now(UTC), (answer,), self.fills, self.instruments, ())

    def trade(self, several: int) -> None:
        """Buy one more of each of the first few, half a minute before the next answer."""
        at, cost = self.at + timedelta(seconds=30), Decimal(50)
        named = {"source": "bench", "commission": Decimal(0), "commission_currency": "USD"}
        self.fills = tuple(
            Fill(self.account, h.instrument, f"{h.instrument} {at}", Side.BUY, Decimal(1), cost, "USD", at, **named)
            for h in self.held[:several]
        )
        self.change(several, lambda h: replace(h, quantity=h.quantity + 1))

    def change(self, several: int, how: Callable[[Holding], Holding]) -> None:
        """Hold the first few otherwise."""
        self.held = (*map(how, self.held[:several]), *self.held[several:])


def measure(url: str) -> None:
    """Print the cases for each size."""
    print(
        f"\nOwn work of a sync: it grows with what changed. Medians of {ROUNDS}; rows added, rows written again, bytes of PostgreSQL's log."
    )
    print(f"{'positions':>10}  {'what changed':<34} {'own work':>11} {'added':>8} {'again':>8} {'bytes':>11}")
    with Store(url) as store:
        for size in SIZES:
            for what, spent in _cases(store, size):
                ms, added, again, log = (statistics.median(each) for each in zip(*spent, strict=True))
                print(f"{size:>10,}  {what:<34} {ms:>8.1f} ms {added:>8,.0f} {again:>8,.0f} {log:>11,.0f}")


def _cases(store: Store, size: int) -> Iterator[tuple[str, list[Spent]]]:
    """Each case, with what its syncs took."""
    instruments = tuple(Instrument(f"bench:{size}-{n}", f"S{n:05d}", "STK", "USD") for n in range(size))
    held = tuple(Holding(i.id, Decimal(100), Decimal(50), Decimal(50), Decimal(51)) for i in instruments)
    broker = _Broker(f"bench{size}", f"B{size}", instruments, held)

    def rounds(happens: Callable[[], None], times: int = ROUNDS) -> list[Spent]:
        return [_spent(store, broker, happens) for _ in range(times)]

    yield "everything is new", rounds(_nothing, 1)
    _spent(store, broker, _nothing)
    yield "nothing", rounds(_nothing)
    yield "one price", rounds(lambda: broker.change(1, _dearer))
    yield "every price", rounds(lambda: broker.change(size, _dearer))
    yield "one quantity, with its fill", rounds(lambda: broker.trade(1))
    yield f"{CHANGED} quantities, with their fills", rounds(lambda: broker.trade(CHANGED))
    broker.change(CHANGED, lambda h: replace(h, quantity=h.quantity + Decimal("0.37")))
    _spent(store, broker, _nothing)
    yield f"nothing, beside {CHANGED} open breaks", rounds(_nothing)


def _nothing() -> None:
    """A sync comes, and that is all."""


def _dearer(holding: Holding) -> Holding:
    return replace(holding, market_price=(holding.market_price or Decimal(0)) + 1)


def _spent(store: Store, broker: _Broker, happens: Callable[[], None]) -> Spent:
    """What one pass took after something has happened; it has to be a good one."""
    happens()
    before, began = _written(store), time.perf_counter()
    (result,) = sync(store, [broker], trigger="manual", timeout=5, policy=ASK)
    took = (time.perf_counter() - began) * 1000
    assert result.good, result.errors
    added, again, log = (now - then for now, then in zip(_written(store), before, strict=True))
    return took, added, again, log


def _written(store: Store) -> tuple[int, int, int]:
    """(rows added, rows written again, bytes of the log) since the database is there, over all of our tables."""
    raw = store.read._connection.raw  # noqa: SLF001  nothing of the product needs such a count
    with raw.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT sum(n_tup_ins)::bigint, sum(n_tup_upd)::bigint, (pg_current_wal_insert_lsn() - '0/0')::bigint "
            "FROM pg_stat_user_tables WHERE schemaname = 'public'"
        )
        added, again, size = cursor.fetchone() or (0, 0, 0)
    return added, again, size
