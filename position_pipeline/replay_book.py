"""A book in memory that events are folded into in the order of their lines, for a replay without a database.

Belongs here: which entries are folded together, and what was held when a line came. Does not belong here: what entries are
(replay_entries.py), what they do (accounting.booking), printing.

The order of the lines is the order of booking, whatever their times say. Fills wait, since a position with many lots is folded fastest
with many fills at once; an event that depends on what is held first has the fills before it folded. Closes leave in the order of lines.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from position_pipeline.accounting.booking import fold
from position_pipeline.accounting.model import Position
from position_pipeline.brokers.event_lines import UNTIMED, LineRefused, Refused
from position_pipeline.replay_entries import Earlier, adjustment_of, booked_whole, delivery_of, fill_of
from position_pipeline.replay_identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Close, Fill, Method
    from position_pipeline.brokers.event_lines import Event
    from position_pipeline.replay_entries import Terms

    Key = tuple[str, str]
    Waiting = tuple[Event, Terms, Fill]

MOST_WAITING = 20_000


class Book:
    """Positions by (account, instrument). `keep` is given each close, once.

    `refused` are lines that were not taken. `repeated` counts lines that say again what an earlier one said under the same id,
    `backwards` those that are earlier than the line before them, `idle` those that happened to nothing.
    """

    def __init__(self, method: Method, keep: Callable[[Close], None]) -> None:
        self.refused: list[Refused] = []
        self.repeated = self.backwards = self.idle = 0
        self._method, self._keep = method, keep
        self._positions: dict[Key, Position] = {}
        self._earlier, self._identity = Earlier(), Identity()
        self._waiting: dict[Key, list[Waiting]] = {}
        self._count = 0
        self._closes: list[tuple[int, Close]] = []
        self._times: dict[Key, datetime] = {}

    def take(self, what: Event | Refused) -> None:
        """Book one event, or note why its line is refused; nothing of a refused line is booked."""
        if isinstance(what, Refused):
            self.refused.append(what)
            return
        try:
            self._take(what)
        except LineRefused as error:
            self.refused.append(Refused(what.line, str(error)))

    def finish(self) -> None:
        """Fold what waits and let go of the closes; to be called after the last event."""
        for key in list(self._waiting):
            self._fold_waiting(key)
        self._count = 0
        for _, close in sorted(self._closes, key=itemgetter(0)):
            self._keep(close)
        self._closes.clear()
        self.refused.sort()

    @property
    def positions(self) -> Sequence[Position]:
        """All that were ever opened, by account and instrument."""
        return [position for _, position in sorted(self._positions.items()) if position.cycle]

    def identity(self) -> dict[str, Decimal]:
        return self._identity.of(self.positions)

    def _take(self, event: Event) -> None:
        if event.type == "dividend" and event.capital is None:
            return  # cash that no cost depends on, and that may be paid in any currency, after everything was sold
        terms = self._earlier.terms(event)
        if self._earlier.is_repeated(event, terms):
            self.repeated += 1
            return
        if event.type == "fill":
            self._wait(event, terms)
        elif event.underlying:
            self._deliver(event, terms)
        else:
            self._adjust(event, terms)
        self._earlier.keep(event, terms)
        self._note_time(event)
        self._count += 1
        if self._count >= MOST_WAITING:
            self.finish()

    def _wait(self, event: Event, terms: Terms) -> None:
        self._waiting.setdefault((event.account, event.instrument), []).append((event, terms, fill_of(event, terms)))

    def _fold_waiting(self, key: Key) -> None:
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            return
        position = self._position(key, waiting[0][1])
        self._keep_booked(fold(position, [fill for _, _, fill in waiting]), {event.id: event.line for event, _, _ in waiting})
        for event, terms, _ in waiting:
            self._identity.fill(event, terms)

    def _adjust(self, event: Event, terms: Terms) -> None:
        position = self._current(event.account, event.instrument, terms)
        if not position.quantity and event.type == "split" and not event.amount:
            self.idle += 1
            return
        booked = booked_whole(position, adjustment_of(event, terms, position.quantity))
        self._keep_booked(booked, {event.id: event.line})
        self._identity.adjustment(event, terms)

    def _deliver(self, event: Event, terms: Terms) -> None:
        """End the option, then book its delivery with the premium: both or neither."""
        underlying = self._earlier.terms_of_underlying(event, terms)
        position = self._current(event.account, event.instrument, terms)
        option = adjustment_of(event, terms, position.quantity)
        ended = booked_whole(position, option)
        shares = self._current(event.account, event.underlying, underlying)
        delivered = booked_whole(shares, delivery_of(event, option, underlying), {option.id: ended.carries[option.id]})
        for booked in (ended, delivered):
            self._keep_booked(booked, {event.id: event.line})
        self._identity.delivery(event, terms, underlying)
        self._earlier.keep_terms(event.underlying, underlying)

    def _current(self, account: str, instrument: str, terms: Terms) -> Position:
        """The position with all that came before folded in."""
        self._fold_waiting((account, instrument))
        return self._position((account, instrument), terms)

    def _position(self, key: Key, terms: Terms) -> Position:
        known = self._positions.get(key)
        return known or Position(*key, terms.currency, multiplier=terms.multiplier, method=self._method)

    def _keep_booked(self, booked: Booked, lines: dict[str, int]) -> None:
        position = booked.position
        self._positions[position.account, position.instrument] = position
        for close in booked.closes:
            self._identity.close(close)
            self._closes.append((lines[close.execution_id], close))

    def _note_time(self, event: Event) -> None:
        key = (event.account, event.instrument)
        if event.time != UNTIMED:
            self.backwards += event.time < self._times.get(key, UNTIMED)
            self._times[key] = event.time


def replayed(events: Iterable[Event | Refused], method: Method, keep: Callable[[Close], None]) -> Book:
    """The book that events come to."""
    result = Book(method, keep)
    for event in events:
        result.take(event)
    result.finish()
    return result
