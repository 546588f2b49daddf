"""How nautilus_trader and beancount book the fills of `accounting.py`: a process of its own, in an environment of their own.

Runs as `python peers.py PROGRAM FILE` and knows nothing of the product. `FILE` has the fills (see `Fills`), a line on standard input names
a set of them, and the answer is one line of JSON: seconds of CPU time and what came out.

What is not counted, for none of the programs: imports, reading the file, reporting. Two more things are not counted for the peers: fills
that flip a position are split beforehand, because neither books them in one piece (the execution engine of nautilus_trader splits them
itself, beancount wants two postings), and the event id of nautilus_trader is made once for all fills.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

Fills = dict[str, list[list[str]]]
"""By instrument, oldest first: [id, side, quantity, price, commission, seconds since 1970], all as text."""

Outcome = dict[str, dict[str, str]]
"""By instrument: the figures that a program has at the end, by name, as text."""


class Booker(Protocol):
    """A program under test. What it does in `make` and `book` is timed."""

    version: str

    def prepare(self, fills: Fills) -> Any: ...
    def make(self, rows: Any) -> Any: ...
    def book(self, made: Any) -> Any: ...
    def outcome(self, booked: Any) -> Outcome: ...


class Measured(NamedTuple):
    """CPU seconds of making the program's own fills from text, of booking them, and what came out."""

    make: float
    book: float
    outcome: Outcome


def measure(booker: Booker, fills: Fills) -> Measured:
    """Time one program on one set of fills. The garbage collector works as always, but need not look at what the benchmark itself holds."""
    rows = booker.prepare(fills)
    gc.collect()
    gc.freeze()
    began = time.process_time()
    made = booker.make(rows)
    between = time.process_time()
    gc.collect()
    resumed = time.process_time()
    booked = booker.book(made)
    ended = time.process_time()
    return Measured(between - began, ended - resumed, booker.outcome(booked))


class Piece(NamedTuple):
    """A fill, or the closing or opening part of one that flips the position."""

    id: str
    side: str
    quantity: str
    price: str
    commission: str
    seconds: str
    opens: bool


def cycles(rows: list[list[str]]) -> list[list[Piece]]:
    """The pieces of one instrument, from flat to flat."""
    found: list[list[Piece]] = []
    held = 0
    for row in rows:
        for piece in _pieces(row, held):
            if not held:
                found.append([])
            found[-1].append(piece)
            held += int(piece.quantity) if piece.side == "BUY" else -int(piece.quantity)
    return found


def _pieces(row: list[str], held: int) -> list[Piece]:
    name, side, quantity, price, commission, seconds = row
    if not held or (held > 0) == (side == "BUY"):
        return [Piece(*row, opens=True)]
    if int(quantity) <= abs(held):
        return [Piece(*row, opens=False)]
    closing = (Decimal(commission) * abs(held) / int(quantity)).quantize(Decimal("0.01"))
    return [
        Piece(f"{name}-C", side, str(abs(held)), price, str(closing), seconds, opens=False),
        Piece(f"{name}-O", side, str(int(quantity) - abs(held)), price, str(Decimal(commission) - closing), seconds, opens=True),
    ]


class Nautilus:
    """`Position.apply`: moving average, double arithmetic, realised P&L after all fees in a Money of two decimals, all fills kept."""

    def __init__(self) -> None:
        self.version = version("nautilus_trader")
        self.names = self._names()
        self.currency = self.names.Currency.from_str("USD")
        self.event_id = self.names.UUID4()

    def _names(self) -> SimpleNamespace:
        from nautilus_trader.core.uuid import UUID4
        from nautilus_trader.model import enums, events, identifiers, instruments, objects, position

        modules = (enums, events, identifiers, instruments, objects, position)
        return SimpleNamespace(**{name: value for module in modules for name, value in vars(module).items()}, UUID4=UUID4)

    def prepare(self, fills: Fills) -> dict[Any, list[list[Piece]]]:
        return {self._instrument(name): cycles(rows) for name, rows in fills.items()}

    def _instrument(self, name: str) -> Any:
        n = self.names
        return n.Equity(
            instrument_id=n.InstrumentId.from_str(f"{name}.XNAS"),
            raw_symbol=n.Symbol(name),
            currency=self.currency,
            price_precision=2,
            price_increment=n.Price.from_str("0.01"),
            lot_size=n.Quantity.from_int(1),
            ts_event=0,
            ts_init=0,
        )

    def make(self, rows: dict[Any, list[list[Piece]]]) -> dict[Any, list[list[Any]]]:
        n = self.names
        common = {
            "trader_id": n.TraderId("TRADER-001"),
            "strategy_id": n.StrategyId("S-001"),
            "account_id": n.AccountId("XNAS-001"),
            "order_type": n.OrderType.MARKET,
            "currency": self.currency,
            "liquidity_side": n.LiquiditySide.TAKER,
            "event_id": self.event_id,
            "reconciliation": False,
        }
        return {instrument: self._events(instrument, rounds, common) for instrument, rounds in rows.items()}

    def _events(self, instrument: Any, rounds: list[list[Piece]], common: dict[str, Any]) -> list[list[Any]]:
        here = {**common, "instrument_id": instrument.id, "position_id": self.names.PositionId(f"{instrument.id}-S-001")}
        return [[self._event(piece, here) for piece in pieces] for pieces in rounds]

    def _event(self, piece: Piece, common: dict[str, Any]) -> Any:
        n, nanoseconds = self.names, int(piece.seconds) * 1_000_000_000
        return n.OrderFilled(
            client_order_id=n.ClientOrderId(piece.id),
            venue_order_id=n.VenueOrderId(piece.id),
            trade_id=n.TradeId(piece.id),
            order_side=n.OrderSide.BUY if piece.side == "BUY" else n.OrderSide.SELL,
            last_qty=n.Quantity.from_str(piece.quantity),
            last_px=n.Price.from_str(piece.price),
            commission=n.Money(float(piece.commission), self.currency),
            ts_event=nanoseconds,
            ts_init=nanoseconds,
            **common,
        )

    def book(self, made: dict[Any, list[list[Any]]]) -> dict[Any, tuple[Any, list[Any]]]:
        """As the execution engine does: one position per instrument, which starts anew after it was flat; its P&L is kept before."""
        booked = {}
        for instrument, rounds in made.items():
            position = self.names.Position(instrument, rounds[0][0])
            realized = []
            for number, events in enumerate(rounds):
                for event in events if number else events[1:]:
                    position.apply(event)
                realized.append(position.realized_pnl)
            booked[instrument] = position, realized
        return booked

    def outcome(self, booked: dict[Any, tuple[Any, list[Any]]]) -> Outcome:
        return {
            str(instrument.id).partition(".")[0]: {
                "quantity": str(int(position.signed_qty)),
                "net": str(sum((money.as_decimal() for money in realized), Decimal(0))),
                **({"average": repr(float(position.avg_px_open))} if position.signed_qty else {}),
            }
            for instrument, (position, realized) in booked.items()
        }


class NautilusRust(Nautilus):
    """The same with the library's Rust classes, called from Python."""

    def _names(self) -> SimpleNamespace:
        from nautilus_trader.core import nautilus_pyo3

        return SimpleNamespace(**vars(nautilus_pyo3))


class Beancount:
    """`booking.book`: FIFO with lots, exact decimals, transactions that balance; the gain of a sale is left for it to compute."""

    def __init__(self) -> None:
        from beancount.core import amount, data, number, position
        from beancount.parser import booking, options

        self.version = version("beancount")
        self.names = SimpleNamespace(
            Amount=amount.Amount, MISSING=number.MISSING, CostSpec=position.CostSpec, Posting=data.Posting, Transaction=data.Transaction
        )
        self.run = booking.book
        self.options = {**options.OPTIONS_DEFAULTS, "booking_method": data.Booking.FIFO}

    def prepare(self, fills: Fills) -> list[tuple[str, Piece]]:
        return [(name, piece) for name, rows in fills.items() for pieces in cycles(rows) for piece in pieces]

    def make(self, rows: list[tuple[str, Piece]]) -> list[Any]:
        return [self._transaction(name, piece) for name, piece in rows]

    def _transaction(self, name: str, piece: Piece) -> Any:
        n, amount = self.names, self.names.Amount
        quantity = Decimal(piece.quantity) if piece.side == "BUY" else -Decimal(piece.quantity)
        price, commission = Decimal(piece.price), Decimal(piece.commission)
        # Each lot has a label, or beancount would merge those of one day and price.
        spec = (price, None, "USD", None, piece.id, None) if piece.opens else (n.MISSING, None, "USD", None, None, None)
        postings = [
            n.Posting(f"Assets:{name}", amount(quantity, name), n.CostSpec(*spec), amount(price, "USD"), None, None),
            n.Posting("Assets:Cash", amount(-quantity * price - commission, "USD"), None, None, None, None),
            n.Posting("Expenses:Commissions", amount(commission, "USD"), None, None, None, None),
        ]
        if not piece.opens:
            postings.append(n.Posting(f"Income:{name}", n.MISSING, None, None, None, None))
        day = datetime.fromtimestamp(int(piece.seconds), UTC).date()
        return n.Transaction({"filename": "fills", "lineno": 1}, day, "*", None, piece.id, frozenset(), frozenset(), postings)

    def book(self, made: list[Any]) -> list[Any]:
        entries, errors = self.run(made, self.options)
        if errors:
            raise RuntimeError(f"beancount booked {len(errors)} transactions with errors; the first: {errors[0].message}")
        return entries

    def outcome(self, booked: list[Any]) -> Outcome:
        figures: dict[str, dict[str, Decimal]] = {}
        for posting in (posting for entry in booked for posting in entry.postings):
            kind, _, name = posting.account.partition(":")
            if name in ("Cash", "Commissions"):
                continue
            sums = figures.setdefault(name, {"quantity": Decimal(0), "cost": Decimal(0), "gross": Decimal(0)})
            if kind == "Income":
                sums["gross"] -= posting.units.number
            else:
                sums["quantity"] += posting.units.number
                sums["cost"] += posting.units.number * posting.cost.number
        return {name: {figure: str(value) for figure, value in sums.items()} for name, sums in figures.items()}


PROGRAMS: dict[str, type[Booker]] = {"nautilus": Nautilus, "nautilus-rust": NautilusRust, "beancount": Beancount}


def main(program: str, file: str) -> None:
    """Say the version, then answer each set of fills that is asked for."""
    booker = PROGRAMS[program]()
    sets: dict[str, Fills] = json.loads(Path(file).read_text(encoding="utf-8"))
    print(json.dumps(booker.version), flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(booker, sets[line.strip()])), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
