"""Lines that are no fills as entries of a book that knows something already: what each does to what is held when its turn comes.

Belongs here: going through the entries of some instruments and through new lines in one order, and telling new lines from known ones. Does
not belong here: what a line means (replay_entries.py), reading lines and storing entries (event_files.py), booking.

Of lines of one moment the order of the lines counts, and the book has its own: adjustments come before fills. So a line that would change
places with one before it is given the next microsecond::

    fill   BUY 10    2026-01-02      stands at 2026-01-02T00:00:00Z
    split  2 for 1   2026-01-02      stands at 2026-01-02T00:00:00.000001Z, and so do fills of that day below it
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING

from position_pipeline.accounting.booking import fold_together, order_key
from position_pipeline.accounting.model import Adjustment, Fill, Position
from position_pipeline.brokers.event_lines import LineRefused, Refused
from position_pipeline.replay_entries import KINDS, Terms, adjustment_of, booked_whole, delivery_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from position_pipeline.accounting.booking import Carries
    from position_pipeline.accounting.model import Entry, OrderKey
    from position_pipeline.brokers.event_lines import Event
    from position_pipeline.replay_entries import Earlier

    Key = tuple[str, str]

NEXT = timedelta(microseconds=1)


class Moments:
    """When lines take their place, by (account, instrument): asked in the order of the lines."""

    def __init__(self) -> None:
        self._fills: dict[Key, datetime] = {}
        self._events: dict[Key, tuple[datetime, datetime]] = {}

    def of_fill(self, key: Key, time: datetime) -> datetime:
        """Not before an event of the same moment that stands above."""
        at = self._fills[key] = self._after_events(key, time) if self._events else time
        return at

    def of_event(self, key: Key, time: datetime, underlying: Key | None) -> datetime:
        """After the fills of the same moment that stand above; what it delivers is a fill of its underlying at the same time."""
        at = self._after_events(key, time)
        if self._fills.get(key) == at:
            at += NEXT
        if underlying is not None:
            at = self._fills[underlying] = max(at, self._after_events(underlying, time))
            self._events[underlying] = (time, at)
        self._events[key] = (time, at)
        return at

    def _after_events(self, key: Key, time: datetime) -> datetime:
        given, placed = self._events.get(key, (time, time))
        return placed if given == time else time


@dataclass(slots=True)
class Understood:
    """What lines came to: entries that are new, and the lines that were not taken."""

    adjustments: list[Adjustment] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


class Going:
    """Through the history of some linked instruments of one account.

    `known` is what the book has of them, by its own ids, and `book_id` makes one of the name that a line uses. `earlier` knows the terms
    that the lines of the file fix, `taken` are execution ids that stand for fills.
    """

    def __init__(self, known: Mapping[str, Sequence[Entry]], book_id: Callable[[str], str], earlier: Earlier, taken: set[str]) -> None:
        self._entries = sorted(chain.from_iterable(known.values()), key=order_key)
        self._adjustments = {entry.id: entry for entry in self._entries if isinstance(entry, Adjustment)}
        self._first = {id_: entries[0] for id_, entries in known.items() if entries}
        self._done = 0
        self._book_id, self._earlier, self._taken = book_id, earlier, taken
        self._positions: dict[str, Position] = {}
        self._carries: Carries = {}

    def through(self, events: Iterable[Event]) -> Understood:
        """What lines come to, whose times are those of `Moments`."""
        found = Understood()
        for event in sorted(events, key=lambda event: (event.time, event.line)):
            try:
                self._take(event, found)
            except LineRefused as error:
                found.refused.append(Refused(event.line, str(error)))
        return found

    def _take(self, event: Event, found: Understood) -> None:
        self._learn_terms(event.instrument)
        terms = self._earlier.terms(event)
        if self._earlier.is_repeated(event, terms):
            return
        known = self._adjustments.get(adjustment_id(event))
        if known is None:
            self._make(event, terms, found)
        elif not _says(known, event):
            raise LineRefused(f"execution_id {event.id} is known in the book with something else: two under one id")
        self._earlier.keep(event, terms)

    def _learn_terms(self, name: str) -> None:
        """What the book knows of an instrument stands where the file has not said it before."""
        first = self._first.get(self._book_id(name))
        if first is not None:
            self._earlier.keep_terms(name, Terms(first.currency, first.multiplier, 0))

    def _make(self, event: Event, terms: Terms, found: Understood) -> None:
        if event.id in self._taken:
            raise LineRefused(f"execution_id {event.id} is that of a fill: two under one id")
        position = self._before(event, terms)
        if not position.quantity and event.type == "split" and not event.amount:
            return  # what is not held cannot be split, as in a replay
        entry = replace(
            adjustment_of(event, terms, position.quantity),
            id=adjustment_id(event),
            instrument=position.instrument,
            sequence=event.line,
            evidence=f"line {event.line}",
        )
        delivery = self._delivery(event, entry, terms) if event.underlying else None
        booked = booked_whole(position, entry, self._carries)
        self._positions[position.instrument], self._carries = booked.position, booked.carries
        found.adjustments.append(entry)
        if delivery is not None:
            found.fills.append(delivery)
            insort(self._entries, delivery, lo=self._done, key=order_key)

    def _delivery(self, event: Event, option: Adjustment, terms: Terms) -> Fill:
        self._learn_terms(event.underlying)
        underlying = self._earlier.terms_of_underlying(event, terms)
        fill = delivery_of(event, option, underlying)._replace(instrument=self._book_id(event.underlying), sequence=event.line)
        self._earlier.keep_terms(event.underlying, underlying)
        return fill

    def _before(self, event: Event, terms: Terms) -> Position:
        """The position as the line finds it."""
        place: OrderKey = (event.time, 0, event.line, event.id)
        upto = bisect_left(self._entries, place, lo=self._done, key=order_key)
        some, self._done = self._entries[self._done : upto], upto
        for entry in some:
            if entry.instrument not in self._positions:
                self._positions[entry.instrument] = Position(event.account, entry.instrument, entry.currency, entry.multiplier)
        touched = {entry.instrument: self._positions[entry.instrument] for entry in some}
        for id_, booked in fold_together(touched, some, self._carries).items():
            self._positions[id_], self._carries = booked.position, booked.carries
        id_ = self._book_id(event.instrument)
        return self._positions.get(id_) or Position(event.account, id_, terms.currency, terms.multiplier)


def adjustment_id(event: Event) -> str:
    """The id of the entry that a line is in the book. What an option delivers is a fill, which has the execution id to itself."""
    return f"{event.id}:{event.type}" if event.underlying else event.id


def _says(known: Adjustment, event: Event) -> bool:
    """Whether an entry of the book is what a line says, apart from what follows from the holding."""
    amount = event.amount if event.type == "split" else event.capital
    said = (KINDS[event.type], event.numerator, event.denominator, amount)
    counted = event.quantity is None or event.quantity.copy_abs() == known.quantity.copy_abs()
    return counted and said == (known.kind, known.numerator, known.denominator, known.amount)
