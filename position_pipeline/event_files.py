"""The use case of taking in a file of events, one a line, of any length: read, booked and written as it streams, all of it or nothing.

Belongs here: what a line needs to be kept, and what an import did. Does not belong here: the format (brokers.event_lines), what lines mean
that are no fills (event_entries.py), how very many fills are recorded (store.bulk), statements of a broker (statements.py).

A replay takes a line at its word; the book keeps it for ever beside those of other files. So a line has to say whose it is and when it was;
without an execution id it has one that is made of what it says. Lines that do not are refused by their number, as a replay refuses lines,
and the others are taken. What comes of a file whose times rise is what a replay of it prints; where they do not, a replay follows the lines
and the book the times.

Fills stream: the memory does not grow with them, unless they have no ids. Other events wait for the end, when it is known what was held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from position_pipeline.accounting.exact import EXACT, ZERO
from position_pipeline.accounting.model import Fill, Instrument
from position_pipeline.brokers.event_lines import UNTIMED, LineRefused, Refused
from position_pipeline.collection import without_collection
from position_pipeline.event_entries import Going, Moments
from position_pipeline.event_reading import reading
from position_pipeline.replay_entries import SOURCE, Earlier, content_id
from position_pipeline.store import Recorded
from position_pipeline.store.bulk import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from position_pipeline.accounting.model import Entry
    from position_pipeline.brokers.event_lines import Event
    from position_pipeline.event_entries import Understood
    from position_pipeline.store import Store
    from position_pipeline.store.bulk import Delivery

    Tell = Callable[[str, int, int], None]
    """Called with what is done, how much of it, and of how much."""

ONE = Decimal(1)
DIVIDENDS = "Dividends"
"""The type of the cash rows, as statements call them."""


class Terms(NamedTuple):
    """What is fixed of an instrument by the first line that names it: its id in the book, and its terms."""

    id: str
    currency: str
    multiplier: Decimal


@dataclass(slots=True)
class Taken:
    """What a file brought: by account what was recorded and how many new cash rows; the lines that were not taken."""

    lines: int = 0
    recorded: dict[str, Recorded] = field(default_factory=dict)
    cash: dict[str, int] = field(default_factory=dict)
    refused: list[tuple[str, str, str]] = field(default_factory=list)


def import_events(store: Store, path: Path, cost_method: str, tell: Tell) -> Taken:
    """Take in one file. Raises `NoEvents` when it cannot be read as events, and keeps nothing of it then."""
    size = path.stat().st_size
    with without_collection(), reading(path, BATCH) as batches, store.delivering() as delivery:
        importing = _Importing(store, delivery, cost_method)
        for batch in batches:
            importing.take(batch.lines)
            tell(f"Booking {path.name}", batch.position, size)
        taken = importing.finish()
        store.save_rejects(taken.refused, path.name)
    tell(f"Booked {path.name}", size, size)
    return taken


class _Importing:
    """A file on its way into the book."""

    def __init__(self, store: Store, delivery: Delivery, cost_method: str) -> None:
        self._store, self._delivery, self._method = store, delivery, cost_method
        self._lines = 0
        self._terms: dict[str, Terms] = {}
        self._met: dict[str, set[str]] = {}
        self._earlier, self._moments = Earlier(), Moments()
        self._unnamed: dict[tuple[str, str], int] = {}
        self._events: dict[str, list[Event]] = {}
        self._cash: dict[str, list[tuple[Any, ...]]] = {}
        self._refused: list[tuple[int, str, str]] = []

    def take(self, batch: Iterable[Event | Refused]) -> None:
        """Record the fills of a batch, and keep what else is in it for the end."""
        fills: dict[str, list[Fill]] = {}
        for line in batch:
            self._lines += 1
            if isinstance(line, Refused):
                self._refused.append((line.line, "", line.reason))
                continue
            try:
                _kept(line)
                if line.type == "fill":
                    fills.setdefault(line.account, []).append(self._fill(line))
                else:
                    self._keep(self._named(line))
            except LineRefused as error:
                self._refused.append((line.line, line.account, str(error)))
        for account, more in fills.items():
            self._deliver(account, more)

    def finish(self) -> Taken:
        """Record everything else; what all of it did."""
        for account, events in self._events.items():
            self._understand(account, events)
        recorded = self._delivery.finish()
        new = {account: recorded.get(account, Recorded()) for account in sorted(self._met)}
        refused = [(account, "", f"line {line}: {reason}") for line, account, reason in sorted(self._refused)]
        cash = {account: self._store.save_cash(rows) for account, rows in self._cash.items()}
        return Taken(self._lines, new, cash, refused)

    # Accounts and instruments

    def _open(self, account: str) -> None:
        """The account is one that the book has."""
        if account not in self._met:
            self._delivery.settle()
            self._store.add_account(account, SOURCE, cost_method=self._method)
            self._met[account] = set()

    def _deliver(self, account: str, fills: Sequence[Fill]) -> None:
        self._open(account)
        met = self._met[account]
        new = {fill.instrument: fill for fill in fills if fill.instrument not in met}
        met.update(new)
        self._delivery.add(account, fills, [_instrument(new[id_]) for id_ in sorted(new)])

    def _agreed(self, event: Event) -> Terms:
        """The terms of a fill's instrument, which are those of the first line that named it; a fill that names none has the defaults."""
        known = self._terms.get(event.instrument)
        if known is None or (event.currency or "USD") != known.currency or (event.multiplier or ONE) != known.multiplier:
            agreed = self._earlier.terms(event)  # which refuses what differs
            self._earlier.keep_terms(event.instrument, agreed)
            known = self._terms[event.instrument] = Terms(book_id(event.instrument), agreed.currency, agreed.multiplier)
        return known

    # Lines

    def _fill(self, event: Event) -> Fill:
        terms = self._agreed(event)
        assert event.side is not None
        assert event.quantity is not None
        assert event.price is not None
        id_ = event.id if event.is_named else self._named(event).id
        at = self._moments.of_fill((event.account, event.instrument), event.time)
        # The number of the line is the sequence: it orders the fills of one moment.
        return Fill(
            event.account, terms.id, id_, event.side, event.quantity, event.price, terms.currency, at, terms.multiplier,
            event.commission, event.commission_currency or terms.currency, 1, event.line, None, "", SOURCE,
        )  # fmt: skip

    def _named(self, event: Event) -> Event:
        """The line with an id: its own, or one of what it says and how many lines before say the same."""
        if event.is_named:
            return event
        id_ = content_id(event)
        again = self._unnamed[event.account, id_] = self._unnamed.get((event.account, id_), 0) + 1
        return event._replace(id=id_ if again == 1 else f"{id_}-{again}")

    def _keep(self, event: Event) -> None:
        """A dividend is cash; what of it is capital, and all other events, do something to a position."""
        if event.type == "dividend":
            self._keep_cash(event)
        if event.type != "dividend" or event.capital is not None:
            underlying = (event.account, event.underlying) if event.underlying else None
            at = self._moments.of_event((event.account, event.instrument), event.time, underlying)
            self._events.setdefault(event.account, []).append(event._replace(time=at))

    def _keep_cash(self, event: Event) -> None:
        paid = EXACT.subtract(event.amount or ZERO, (event.capital if event.amount is not None else None) or ZERO)
        if paid:
            self._open(event.account)
            known = self._terms.get(event.instrument)
            currency = event.currency or (known.currency if known else "USD")
            row = (event.account, event.id, DIVIDENDS, currency, paid, event.time, book_id(event.instrument), f"line {event.line}")
            self._cash.setdefault(event.account, []).append(row)

    def _understand(self, account: str, events: Sequence[Event]) -> None:
        """What events are beside all fills, of this file and of the book."""
        taken = self._delivery.known_fills(account, [event.id for event in events])
        for group in _linked(events):
            names = {name for event in group for name in (event.instrument, event.underlying) if name}
            known = self._delivery.history(account, map(book_id, names))
            found = self._through(group, known, taken)
            self._refused += [(each.line, account, each.reason) for each in found.refused]
            if found.adjustments:
                self._deliver(account, found.fills)
                self._delivery.adjust(account, found.adjustments)

    def _through(self, group: Sequence[Event], known: Mapping[str, Sequence[Entry]], taken: set[str]) -> Understood:
        """Beside all that the book has; beside its facts alone, where something inferred has taken the place of a line."""
        facts = {id_: tuple(entry for entry in entries if isinstance(entry, Fill) or entry.held is None) for id_, entries in known.items()}
        alone = None if facts == known else self._earlier.copied()
        found = Going(known, book_id, self._earlier, taken).through(group)
        if alone is None or not found.refused:
            return found
        again = Going(facts, book_id, alone, taken).through(group)
        if len(again.refused) >= len(found.refused):
            return found
        self._earlier = alone
        return again


def book_id(name: str) -> str:
    """The id in the book of what lines call by a name."""
    return name if ":" in name[1:] else f"{SOURCE}:{name}"


def _instrument(fill: Fill) -> Instrument:
    symbol = fill.instrument.partition(":")[2] or fill.instrument
    return Instrument(fill.instrument, symbol, "STK", fill.currency, fill.multiplier)


def _kept(event: Event) -> None:
    """Refuse what cannot be kept beside other files."""
    if not event.account:
        raise LineRefused("account is missing")
    if event.time == UNTIMED:  # it may have come from the process that reads ahead
        raise LineRefused("time is missing")


def _linked(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Events in groups that have no instrument in common, so that only the histories of one group are in memory."""
    groups: dict[str, list[Event]] = {}
    for event in events:
        group = groups.setdefault(event.instrument, [])
        group.append(event)
        other = groups.setdefault(event.underlying or event.instrument, group)
        if other is not group:
            group += other
            for each in other:
                for name in (each.instrument, each.underlying):
                    if name:
                        groups[name] = group
            groups[event.underlying] = group
    yield from {id(group): group for group in groups.values()}.values()
