"""Events of a file as entries of the book: what a line means beside the lines before it, and beside what is held.

Belongs here: terms of instruments, ids that come twice, what an event closes or delivers, and refusing what contradicts them, for a replay
and for an import alike. Does not belong here: reading lines (brokers.event_lines), which book they go into (replay_book, event_entries).

An option's assignment or exercise is two entries: the adjustment that ends the option, and the fill of its underlying at the strike, to
which the premium moves::

    assign   +1 of a short call on 100    SELL 100 at the strike        exercise -1 of a long call    BUY  100 at the strike
    assign   +1 of a short put            BUY  100 at the strike        exercise -1 of a long put     SELL 100 at the strike
"""

from __future__ import annotations

from decimal import Decimal, Inexact
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from position_pipeline.accounting.booking import book
from position_pipeline.accounting.exact import EXACT, ZERO, plain
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis, Fill, Side
from position_pipeline.brokers.event_lines import LineRefused

if TYPE_CHECKING:
    from position_pipeline.accounting.booking import Booked, Carries
    from position_pipeline.accounting.model import Entry, Position
    from position_pipeline.brokers.event_lines import Event

SOURCE = "file"
KINDS = {
    "split": AdjustmentKind.SPLIT,
    "dividend": AdjustmentKind.RETURN_OF_CAPITAL,
    "return_of_capital": AdjustmentKind.RETURN_OF_CAPITAL,
    "expire": AdjustmentKind.EXPIRY,
    "assign": AdjustmentKind.ASSIGNMENT,
    "exercise": AdjustmentKind.EXERCISE,
}


class Terms(NamedTuple):
    """What is fixed of an instrument by the first line that names it, or by the book, which is line 0."""

    currency: str
    multiplier: Decimal
    line: int

    @property
    def where(self) -> str:
        return f"line {self.line}" if self.line else "in the book"


class Earlier:
    """What the lines before fix for those that come: the terms of each instrument, and what each id stands for."""

    def __init__(self) -> None:
        self._terms: dict[str, Terms] = {}
        self._said: dict[tuple[str, str], tuple[int, bytes]] = {}

    def copied(self) -> Earlier:
        """The same, for a second try of some lines."""
        other = Earlier()
        other._terms, other._said = dict(self._terms), dict(self._said)
        return other

    def terms(self, event: Event) -> Terms:
        """The terms of the event's instrument. A fill that names none has the defaults, other events those of what they happen to."""
        known = None if event.type == "fill" else self._terms.get(event.instrument)
        currency = event.currency or (known.currency if known else "USD")
        multiplier = event.multiplier or (known.multiplier if known else Decimal(1))
        return self._agreed(event.instrument, Terms(currency, multiplier, event.line))

    def terms_of_underlying(self, event: Event, option: Terms) -> Terms:
        """Those of the shares that an option delivers: its currency, and a multiplier of 1 unless another is known or given."""
        if event.underlying == event.instrument:
            raise LineRefused(f"underlying {event.underlying} is the option itself")
        known = self._terms.get(event.underlying)
        multiplier = event.underlying_multiplier or (known.multiplier if known else Decimal(1))
        return self._agreed(event.underlying, Terms(option.currency, multiplier, event.line))

    def _agreed(self, instrument: str, terms: Terms) -> Terms:
        known = self._terms.get(instrument)
        if known is None:
            return terms
        if terms.currency != known.currency:
            raise LineRefused(f"currency {terms.currency} is not that of {instrument}, which is {known.currency} ({known.where})")
        if terms.multiplier != known.multiplier:
            what = f"multiplier {plain(terms.multiplier)} is not that of {instrument}, which is {plain(known.multiplier)}"
            raise LineRefused(f"{what} ({known.where}); a line without one has 1")
        return known

    def keep_terms(self, instrument: str, terms: Terms) -> None:
        self._terms.setdefault(instrument, terms)

    def is_repeated(self, event: Event, terms: Terms) -> bool:
        """Whether the very same event was there before, under the same id; refused when the id stood for another."""
        if not event.is_named:
            return False
        before = self._said.get((event.account, event.id))
        if before is not None and before[1] != _content(event, terms):
            raise LineRefused(f"execution_id {event.id} is that of line {before[0]}, which says something else: two under one id")
        return before is not None

    def keep(self, event: Event, terms: Terms) -> None:
        """Remember an event that was taken."""
        self.keep_terms(event.instrument, terms)
        if event.is_named:
            self._said[event.account, event.id] = (event.line, _content(event, terms))


def content_id(event: Event) -> str:
    """An id for a line without one: the same line always has the same."""
    return f"{event.type}-{_content(event._replace(id=''), Terms(event.currency or '', event.multiplier or ZERO, 0)).hex()}"


def _content(event: Event, terms: Terms) -> bytes:
    """All that an event says besides its line, in 16 bytes: a million ids have to fit into memory."""
    own = event[8:13] if event.type == "fill" else event[8:]
    said = (event.type, event.instrument, event.time.isoformat(), terms.currency, terms.multiplier, *own)
    # One number may be written in several ways. EXACT has more digits than any number of an event, so none is lost here.
    text = repr([each.normalize(EXACT) if isinstance(each, Decimal) else each for each in said])
    return blake2b(text.encode(), digest_size=16).digest()


# -- entries


def booked_whole(position: Position, entry: Entry, carries: Carries | None = None) -> Booked:
    """The position with one entry booked, which is booked whole or its line is refused."""
    booked = book(position, entry, carries)
    if booked.refused:
        raise LineRefused("; ".join(each.reason for each in booked.refused))
    return booked


def fill_of(event: Event, terms: Terms) -> Fill:
    assert event.side is not None
    assert event.quantity is not None
    assert event.price is not None
    return Fill(
        account=event.account,
        instrument=event.instrument,
        execution_id=event.id,
        side=event.side,
        quantity=event.quantity,
        price=event.price,
        currency=terms.currency,
        time=event.time,
        multiplier=terms.multiplier,
        commission=event.commission,
        commission_currency=event.commission_currency or terms.currency,
        source=SOURCE,
    )


def adjustment_of(event: Event, terms: Terms, held: Decimal) -> Adjustment:
    """The adjustment that an event is where `held` is what the position has; refused when it cannot have happened to that."""
    return Adjustment(
        id=event.id,
        account=event.account,
        instrument=event.instrument,
        kind=KINDS[event.type],
        time=event.time,
        quantity=_change(event, held),
        currency=terms.currency,
        multiplier=terms.multiplier,
        price=ZERO if event.type in _ENDS else None,
        commission=event.commission if event.type == "expire" else ZERO,
        basis=Basis.FILLS,
        numerator=event.numerator,
        denominator=event.denominator,
        amount=event.amount if event.type == "split" else event.capital,
        source=SOURCE,
    )


_ENDS = frozenset({"expire", "assign", "exercise"})


def _change(event: Event, held: Decimal) -> Decimal:
    """By how much an event changes the position: what ends an option closes what is held, and never more than that."""
    if event.type not in _ENDS:
        if not held and event.type != "split":
            raise LineRefused(f"no {event.instrument} is held whose cost could be lowered")
        if not held and event.amount:
            raise LineRefused(f"no {event.instrument} is held that could be paid out in cash")
        return ZERO
    if not held:
        raise LineRefused(f"no {event.instrument} is held")
    change = _closing(event, held)
    if change.copy_abs() > held.copy_abs():
        raise LineRefused(f"quantity {plain(event.quantity or change)} is more than the {plain(held)} of {event.instrument} that is held")
    return change


def _closing(event: Event, held: Decimal) -> Decimal:
    """The signed change. An expiry closes all, or so many, whether its quantity is a count or signed as the position changes."""
    change = held.copy_negate() if event.quantity is None else event.quantity
    towards_zero = (change > 0) != (held > 0)
    if event.type == "expire":
        if change < 0 and not towards_zero:
            raise LineRefused(f"quantity {plain(change)} does not close the {plain(held)} of {event.instrument} that is held")
        return change.copy_abs().copy_sign(held.copy_negate())
    if (held > 0) != (event.type == "exercise"):
        raise LineRefused(f"{plain(held)} of {event.instrument} is held; a long option is exercised, a short one assigned")
    if not towards_zero:
        raise LineRefused(f"quantity {plain(change)} has to be signed as the position changes, and {plain(held)} is held")
    return change


def delivery_of(event: Event, option: Adjustment, underlying: Terms) -> Fill:
    """The fill of the underlying: a call that goes brings what it was on, in the other direction; a put takes it along."""
    assert event.strike is not None
    bought = (option.quantity > 0) == (event.right == "P")
    return Fill(
        account=event.account,
        instrument=event.underlying,
        execution_id=event.id,
        side=Side.BUY if bought else Side.SELL,
        quantity=_delivered(option, underlying),
        price=event.strike,
        currency=underlying.currency,
        time=event.time,
        multiplier=underlying.multiplier,
        commission=event.commission,
        commission_currency=event.commission_currency or underlying.currency,
        premium_from=option.id,
        source=SOURCE,
    )


def _delivered(option: Adjustment, underlying: Terms) -> Decimal:
    """How many units: contracts x 100 of a stock, one future of 50 for one option on it of 50."""
    units = EXACT.multiply(option.quantity.copy_abs(), option.multiplier)
    try:
        return EXACT.divide(units, underlying.multiplier)
    except Inexact:
        raise LineRefused(f"{plain(units)} units are no exact number of contracts of {plain(underlying.multiplier)}") from None
