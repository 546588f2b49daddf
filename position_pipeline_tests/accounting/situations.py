"""Reads situations as a trader would tell them, and plays one: situations.txt has them, and says what each line means."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from position_pipeline.accounting.booking import Booked, fold_together, in_order
from position_pipeline.accounting.circumstances import BookSide, CorporateAction, Policy, Recent, Reconciliation, Standing
from position_pipeline.accounting.model import (
    AccountValue,
    Adjustment,
    BreakClass,
    Entry,
    Fill,
    Holding,
    Instrument,
    Method,
    Position,
    Side,
    Snapshot,
    SnapshotStatus,
    Subject,
)
from position_pipeline.accounting.reconciliation import reconcile

ACCOUNT = "U1000001"
MONDAY = datetime(2026, 3, 16, 15, 0, tzinfo=UTC)
FILE = Path(__file__).with_name("situations.txt")
_KINDS = {"BTC": "CRYPTO", "ETH": "CRYPTO", "EUR.USD": "CASH", "SPX": "IND", "ES": "FUT"}
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass
class Situation:
    """One situation: what was, what has happened, what the broker says now, and what is expected of it."""

    name: str
    now: datetime = MONDAY
    last: timedelta = timedelta(minutes=5)
    stands: tuple[timedelta, int] | None = None
    whole: int | None = None
    first: bool = False
    cash: tuple[str, str] | None = None
    was: dict[str, Holding] = field(default_factory=dict)
    bought_at: dict[str, Decimal] = field(default_factory=dict)
    holds: list[Holding] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    corrected: list[tuple[Fill, Fill]] = field(default_factory=list)
    actions: list[CorporateAction] = field(default_factory=list)
    elsewhere: dict[str, tuple[tuple[str, Decimal], ...]] = field(default_factory=dict)
    prices: dict[str, Decimal] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    dismissed: bool = False
    policy: Policy = field(default_factory=Policy)
    instruments: dict[str, Instrument] = field(default_factory=dict)
    then: list[list[str]] = field(default_factory=list)

    def instrument(self, symbol: str) -> Instrument:
        if symbol not in self.instruments:
            self.instruments[symbol] = _instrument(symbol)
        return self.instruments[symbol]

    @property
    def agreed_at(self) -> datetime:
        return self.now - self.last if self.stands is None else self.now - self.stands[0] - self.last

    def history(self, *more: Adjustment) -> tuple[Entry, ...]:
        """What was held is bought ten days ago, at the price that it was held at."""
        bought = [self._opening(symbol, holding) for symbol, holding in self.was.items() if holding.quantity]
        return in_order([*bought, *self.fills, *more])

    def _opening(self, symbol: str, holding: Holding) -> Fill:
        instrument, quantity = self.instrument(symbol), holding.quantity
        return Fill(
            ACCOUNT, instrument.id, f"old-{symbol}", Side.BUY if quantity > 0 else Side.SELL, abs(quantity), self.bought_at[symbol],
            instrument.currency, self.now - timedelta(days=40), instrument.multiplier, Decimal(0),
        )  # fmt: skip

    def fold(self, *more: Adjustment) -> dict[str, Booked]:
        history = self.history(*more)
        positions = {each.id: Position(ACCOUNT, each.id, each.currency, each.multiplier, Method.FIFO) for each in self.instruments.values()}
        return fold_together(positions, history)

    def book(self, *more: Adjustment) -> dict[str, BookSide]:
        before = {holding.instrument: holding for holding in self.holds} if self.stands else {h.instrument: h for h in self.was.values()}
        booked = self.fold(*more)
        touched = {entry.instrument for entry in self.history(*more)}
        return {
            each: BookSide(
                booked[each].position.quantity, booked[each].position.cost, booked[each].position.open_commission, Method.FIFO,
                before=before.get(each), **self._ground(each),
            )
            for each in sorted(touched)
        }  # fmt: skip

    def _ground(self, instrument: str) -> dict:
        fills = [each for each in self.fills if each.instrument == instrument]
        if not self.first or not fills:
            return {}
        bought = sum((each.quantity for each in fills if each.side is Side.BUY), Decimal(0))
        sold = sum((each.quantity for each in fills if each.side is Side.SELL), Decimal(0))
        return {"first_entry_at": min(each.time for each in fills), "bought": bought, "sold": sold}

    def snapshot(self, at: datetime | None = None) -> Snapshot:
        status = SnapshotStatus.PARTIAL if self.unread else SnapshotStatus.COMPLETE
        unread = frozenset(self.instruments[symbol].id for symbol in self.unread if symbol in self.instruments)
        holdings = tuple(self.holds)
        return Snapshot(ACCOUNT, "ibkr", at or self.now, status, holdings, self._values(1), errors=self.unread, unread=unread)

    def _values(self, which: int) -> tuple[AccountValue, ...]:
        worth = AccountValue("NetLiquidation", "100000", "USD")
        rate = AccountValue("ExchangeRate", "1.1", "EUR")
        return (worth, rate) if self.cash is None else (worth, rate, AccountValue("CashBalance", self.cash[which], "USD"))

    def recent(self, standing: tuple[Standing, ...] | None = None) -> Recent:
        return Recent(
            fills=tuple(self.fills),
            corrected=tuple(self.corrected),
            actions=tuple(self.actions),
            standing=self.standing() if standing is None else standing,
            elsewhere={self.instruments[symbol].id: found for symbol, found in self.elsewhere.items()},
            values=self._values(1 if self.stands else 0),
            proven_before=self.now - self.last,
            prices={self.instruments[symbol].id: price for symbol, price in self.prices.items()},
        )

    def standing(self) -> tuple[Standing, ...]:
        if self.stands is None:
            return ()
        age, seen = self.stands
        book, held = self.book(), {holding.instrument: holding.quantity for holding in self.holds}
        was = {holding.instrument: holding for holding in self.was.values()}
        return tuple(
            Standing(
                f"b-{each}", each, Subject.QUANTITY, BreakClass.TIMING, self.now - age, seen,
                book[each].quantity if each in book else Decimal(0), held.get(each, Decimal(0)), dismissed=self.dismissed,
                seen_whole=self.whole if self.whole is not None else seen, agreed_at=self.agreed_at, before=was.get(each), values=self._values(0),
            )
            for each in sorted(set(book) | set(held))
            if (book[each].quantity if each in book else 0) != held.get(each, Decimal(0))
        )  # fmt: skip

    def kinds(self) -> dict[str, Instrument]:
        return {each.id: each for each in self.instruments.values()}

    def reconciled(self) -> Reconciliation:
        return reconcile(self.book(), self.snapshot(), self.kinds(), first_contact=self.first, recent=self.recent(), policy=self.policy)

    def reconciled_again(self, *more: Adjustment) -> Reconciliation:
        """Five minutes later, with these adjustments in the book, and nothing else new."""
        later = replace(self, now=self.now + timedelta(minutes=5), last=timedelta(minutes=5), stands=None, first=False, cash=None)
        later.was = self.was
        held = {holding.instrument: holding for holding in self.holds}
        sides = {each: replace(side, before=held.get(each)) for each, side in self.book(*more).items()}
        return reconcile(sides, self.snapshot(later.now), self.kinds(), first_contact=False, recent=later.recent(()), policy=self.policy)


def read(text: str) -> list[Situation]:
    found: list[Situation] = []
    for line in text.splitlines():
        if line.startswith("= "):
            found.append(Situation(line[2:].strip()))
        elif line.strip() and not line.startswith("#"):
            word, *rest = shlex.split(line, comments=True)
            _LINES[word](found[-1], rest)
    return found


def _instrument(symbol: str) -> Instrument:
    """`AAPL` is a share, `AAPL-C250-20260313` an option, `SAP.DE` one in euros."""
    parts = symbol.split("-")
    if len(parts) == 3:
        right, strike, expiry = parts[1][0], Decimal(parts[1][1:]), parts[2]
        return Instrument(
            f"ibkr:{symbol}", symbol, "OPT", "USD", Decimal(100), expiry=expiry, strike=strike, right=right, underlying=parts[0]
        )
    currency = "EUR" if symbol.endswith(".DE") else "USD"
    return Instrument(f"ibkr:{symbol}", symbol, _KINDS.get(symbol, "STK"), currency)


def _span(text: str) -> timedelta:
    return timedelta(**{_UNITS[text[-1]]: float(text[:-1])})


def _pairs(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def _holding(it: Situation, words: list[str]) -> Holding:
    symbol, quantity, *rest = words
    figures = _pairs(rest)
    average, price = (Decimal(figures[name]) if name in figures else None for name in ("@", "price"))
    return Holding(it.instrument(symbol).id, Decimal(quantity), average, None, price)


def _was(it: Situation, words: list[str]) -> None:
    it.was[words[0]] = holding = _holding(it, words)
    figures = _pairs(words[2:])
    it.bought_at[words[0]] = Decimal(figures.get("cost", figures.get("@", "1")))
    assert holding.quantity


def _fill(it: Situation, words: list[str]) -> None:
    symbol, side, quantity, *rest = words
    figures = _pairs(rest)
    instrument = it.instrument(symbol)
    fee = figures.get("fee", "0")
    it.fills.append(
        Fill(
            ACCOUNT, instrument.id, figures.get("id", f"f{len(it.fills) + 1}"), Side(side.upper()), Decimal(quantity), Decimal(figures["@"]),
            instrument.currency, it.now - _span(figures["ago"]), instrument.multiplier, None if fee == "none" else Decimal(fee),
            order_id=figures.get("order", ""), source=figures.get("source", "ibkr-api"),
        )
    )  # fmt: skip


def _corrected(it: Situation, words: list[str]) -> None:
    latest = it.fills[-1]._replace(revision=2)
    earlier = it.fills[-1]._replace(quantity=Decimal(words[1]))
    it.fills[-1] = latest
    it.corrected.append((earlier, latest))


def _action(it: Situation, words: list[str]) -> None:
    symbol, kind, *rest = words
    figures = _pairs(rest)
    n, d = (Decimal(each) for each in figures["ratio"].split(":")) if "ratio" in figures else (None, None)
    into = it.instrument(figures["into"]).id if "into" in figures else None
    at = it.now - _span(figures.get("ago", "4m"))
    it.actions.append(CorporateAction(it.instrument(symbol).id, BreakClass(kind), at, n, d, into, "the broker"))


_LINES = {
    "clock": lambda it, words: setattr(it, "now", datetime.fromisoformat(words[0])),
    "last": lambda it, words: setattr(it, "last", _span(words[0])),
    "stands": lambda it, words: setattr(it, "stands", (_span(words[0]), int(words[2]))),
    "whole": lambda it, words: setattr(it, "whole", int(words[0])),
    "dismissed": lambda it, words: setattr(it, "dismissed", True),
    "first": lambda it, words: setattr(it, "first", True),
    "cash": lambda it, words: setattr(it, "cash", (words[0], words[2])),
    "was": _was,
    "now": lambda it, words: it.holds.append(_holding(it, words)),
    "fill": _fill,
    "corrected": _corrected,
    "action": _action,
    "elsewhere": lambda it, words: it.elsewhere.setdefault(words[0], ((words[1], Decimal(words[2])),)),
    "price": lambda it, words: it.prices.setdefault((it.instrument(words[0]), words[0])[1], Decimal(words[1])),
    "unread": lambda it, words: it.unread.setdefault((it.instrument(words[0]), words[0])[1], "garbled"),
    "ask": lambda it, words: setattr(it, "policy", replace(it.policy, adopts=False)),
    "closes_missing": lambda it, words: setattr(it, "policy", replace(it.policy, closes_missing=True)),
    "answers": lambda it, words: setattr(it, "policy", replace(it.policy, snapshots=int(words[0]))),
    "then": lambda it, words: it.then.append(words),
}

SITUATIONS = read(FILE.read_text())
