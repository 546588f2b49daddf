"""The use case of taking in a file of fills, one a line, of any length: read, booked and written as it streams, all of it or nothing.

Belongs here: what a line needs to be kept, and what an import did. Does not belong here: the format (brokers.event_lines), how very many
fills are recorded (store.bulk), statements of a broker (statements.py).

A replay takes a line at its word; the book keeps it for ever beside those of other files. So a line has to say whose it is, which
execution it is, and when it was: without these the same fill could not be told from another, or put in its place. Lines that do not, and
events that are no fills, are refused by their number, and the others are taken.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from position_pipeline.accounting.model import Fill, Instrument
from position_pipeline.brokers.event_lines import UNTIMED, LineRefused, Refused, read_event_lines
from position_pipeline.store.bulk import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from position_pipeline.brokers.event_lines import Event
    from position_pipeline.store import Recorded, Store
    from position_pipeline.store.bulk import Delivery

    Tell = Callable[[str, int, int], None]
    """Called with what is done, how much of it, and of how much."""

SOURCE = "file"
ONE = Decimal(1)


class Terms(NamedTuple):
    """What is fixed of an instrument by the first line that names it: its id in the book, and its terms."""

    id: str
    currency: str
    multiplier: Decimal


@dataclass(slots=True)
class Taken:
    """What a file brought: by account what was recorded, and the lines that were not taken."""

    lines: int = 0
    recorded: dict[str, Recorded] = field(default_factory=dict)
    refused: list[tuple[str, str, str]] = field(default_factory=list)


def import_events(store: Store, path: Path, cost_method: str, tell: Tell) -> Taken:
    """Take in one file. Raises `NoEvents` when it cannot be read as events, and keeps nothing of it then."""
    taken = Taken()
    with path.open("rb") as file, without_collection(), store.delivering() as delivery:
        importing = _Importing(store, delivery, taken, cost_method)
        size = path.stat().st_size
        for batch in _batches(read_event_lines(file)):
            importing.take(batch)
            tell(f"Booking {path.name}", file.tell(), size)
        taken.recorded = delivery.finish()
        store.save_rejects(taken.refused, path.name)
    tell(f"Booked {path.name}", size, size)
    return taken


@contextmanager
def without_collection() -> Iterator[None]:
    """Python's search for garbage in cycles stays away: fills and results are in none, and looking at them takes a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _batches(events: Iterable[Event | Refused]) -> Iterator[list[Event | Refused]]:
    batch: list[Event | Refused] = []
    for event in events:
        batch.append(event)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class _Importing:
    """A file on its way into the book."""

    def __init__(self, store: Store, delivery: Delivery, taken: Taken, cost_method: str) -> None:
        self._store, self._delivery, self._taken, self._method = store, delivery, taken, cost_method
        self._terms: dict[str, Terms] = {}
        self._of: dict[str, Terms] = {}
        self._met: dict[str, set[str]] = {}

    def take(self, batch: Iterable[Event | Refused]) -> None:
        fills: dict[str, list[Fill]] = {}
        for line in batch:
            self._taken.lines += 1
            if isinstance(line, Refused):
                self._refuse("", line.line, line.reason)
                continue
            try:
                fill = self._fill(line)
            except LineRefused as error:
                self._refuse(line.account, line.line, str(error))
            else:
                fills.setdefault(fill.account, []).append(fill)
        for account, more in fills.items():
            self._deliver(account, more)

    def _refuse(self, account: str, line: int, reason: str) -> None:
        self._taken.refused.append((account, "", f"line {line}: {reason}"))

    def _deliver(self, account: str, fills: list[Fill]) -> None:
        if account not in self._met:
            self._delivery.settle()
            self._store.add_account(account, SOURCE, cost_method=self._method)
        met = self._met.setdefault(account, set())
        new = {fill.instrument for fill in fills} - met
        met |= new
        self._delivery.add(account, fills, [self._instrument(id_) for id_ in sorted(new)])

    def _instrument(self, id_: str) -> Instrument:
        terms = self._of[id_]
        return Instrument(id_, id_.partition(":")[2] or id_, "STK", terms.currency, terms.multiplier)

    def _fill(self, event: Event) -> Fill:
        _kept(event)
        terms = self._agreed(event)
        assert event.side is not None
        assert event.quantity is not None
        assert event.price is not None
        return Fill(
            event.account, terms.id, event.id, event.side, event.quantity, event.price, terms.currency, event.time, terms.multiplier,
            event.commission, event.commission_currency or terms.currency, 1, None, None, "", SOURCE,
        )  # fmt: skip

    def _agreed(self, event: Event) -> Terms:
        currency, multiplier = event.currency, event.multiplier
        known = self._terms.get(event.instrument)
        if known is None:
            id_ = event.instrument if ":" in event.instrument[1:] else f"{SOURCE}:{event.instrument}"
            known = self._terms[event.instrument] = self._of[id_] = Terms(id_, currency or "USD", multiplier or ONE)
        elif (currency and currency != known.currency) or (multiplier and multiplier != known.multiplier):
            raise LineRefused(f"currency or multiplier is not that of the first line of {event.instrument}, which has {known.currency}")
        return known


def _kept(event: Event) -> None:
    """Refuse what cannot be kept beside other files."""
    if event.type != "fill":
        raise LineRefused(f"{event.type} cannot be imported, only fills; replay takes it")
    if not event.account:
        raise LineRefused("account is missing")
    if not event.is_named:
        raise LineRefused("execution_id is missing: the same file could not be imported twice")
    if event.time is UNTIMED:
        raise LineRefused("time is missing")
