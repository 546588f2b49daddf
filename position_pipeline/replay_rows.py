"""What a replay prints: rows with the names that `positions`, `closes` and lots have everywhere, for programs and for people.

Belongs here: rows, how they are written as JSON without all of them in memory, and tables. Does not belong here: booking, reading files.

A broker knows more than a file: what only a broker can tell is null.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING

from position_pipeline import show
from position_pipeline.accounting.exact import EXACT, plain, ratio
from position_pipeline.brokers.event_lines import UNTIMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from decimal import Decimal

    from rich.console import Console

    from position_pipeline.accounting.model import Close, Fees, Lot, Position
    from position_pipeline.brokers.event_lines import Refused
    from position_pipeline.show import Column, Row

MOST_ROWS = 200
"""Rows that a table shows people at most; programs get all."""

AVERAGE_PLACES = 28
"""Decimals of an average that has no end: as many as other programs calculate with."""

IN_MEMORY = 32 * 1024 * 1024
_BROKERS = ("broker", "sec_type", "broker_quantity", "broker_average_price", "market_price", "market_value", "unrealized_pnl")
_NOT_KNOWN: Row = dict.fromkeys((*_BROKERS, "last_synced_at", "stale"))


def position_row(position: Position) -> Row:
    return {
        "account": position.account,
        "symbol": position.instrument,
        "instrument": position.instrument,
        "currency": position.currency,
        "multiplier": position.multiplier,
        "quantity": position.quantity,
        "average_price": _average(position),
        "cost": position.cost,
        "open_commission": position.open_commission,
        "realized_pnl": position.realized_net,
        "realized_pnl_gross": position.realized_gross,
        "status": "open" if position.lots else "closed",
        "basis_quality": position.basis.value,
        "opened_at": _time(position.opened_at),
        "closed_at": _time(position.closed_at),
        **_NOT_KNOWN,
    }


def close_row(close: Close) -> Row:
    return {
        "account": close.account,
        "symbol": close.instrument,
        "instrument": close.instrument,
        "closed_at": _time(close.closed_at),
        "opened_at": _time(close.opened_at),
        "quantity": close.quantity,
        "entry_price": close.entry_price,
        "exit_price": close.exit_price,
        "gross_pnl": close.gross_pnl,
        "opening_commission": close.opening_commission,
        "closing_commission": close.closing_commission,
        "net_pnl": close.net_pnl,
        "currency": close.currency,
        "method": close.method.value,
        "execution_id": close.execution_id,
        "partial": close.partial,
        "opening_id": close.opening_id,
        "premium": close.premium,
        "fees": _fees(close.fees),
    }


def lot_rows(position: Position) -> Iterator[Row]:
    for lot in position.lots:
        yield _lot_row(position, lot)


def _lot_row(position: Position, lot: Lot) -> Row:
    return {
        "account": position.account,
        "instrument": position.instrument,
        "quantity": lot.quantity,
        "price": lot.price,
        "cost": lot.cost,
        "commission": lot.commission,
        "opened_at": _time(lot.opened_at),
        "opening_id": lot.opening_id,
        "fees": _fees(lot.fees),
    }


def _average(position: Position) -> Decimal | None:
    """Cost per unit. Where all lots have one price it is that price: a part that was sold has rounded their cost, not their price."""
    cost, prices = position.cost, {lot.price for lot in position.lots}
    if cost is None or not prices:
        return None
    if len(prices) == 1 and position.average_price not in prices:
        return prices.pop()
    return ratio(cost, EXACT.multiply(position.quantity, position.multiplier), AVERAGE_PLACES)


def _time(time: datetime | None) -> datetime | None:
    return None if time == UNTIMED else time


def _fees(fees: Fees) -> list[Row]:
    return [{"currency": currency, "amount": amount} for currency, amount in fees]


# -- for programs


class Spool:
    """Closes on their way out, as JSON text in a file of their own: however many there are, they do not fill the memory."""

    def __init__(self, file: SpooledTemporaryFile[str]) -> None:
        self._file = file

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Spool]:
        with SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8") as file:
            yield cls(file)

    def keep(self, close: Close) -> None:
        self._file.write(_dumped(close_row(close)) + "\n")

    def texts(self) -> Iterator[str]:
        self._file.seek(0)
        for line in self._file:
            yield line.rstrip("\n")


def print_json(positions: Iterable[Position], closes: Iterable[str], identity: Mapping[str, Decimal], refused: Iterable[Refused]) -> None:
    """`refused` is there only if a line was."""
    positions = list(positions)
    _print('{\n"positions": ')
    _print_list(_dumped(position_row(each)) for each in positions)
    _print(',\n"closes": ')
    _print_list(closes)
    _print(',\n"lots": ')
    _print_list(_dumped(row) for each in positions for row in lot_rows(each))
    _print(f',\n"identity": {_dumped(dict(identity))}')
    not_taken = [_dumped(each._asdict()) for each in refused]
    if not_taken:
        _print(',\n"refused": ')
        _print_list(not_taken)
    _print("\n}\n")


def _print(text: str) -> None:
    sys.stdout.write(text)


def _print_list(texts: Iterable[str]) -> None:
    before = "[\n  "
    for text in texts:
        _print(before + text)
        before = ",\n  "
    _print("[]" if before.startswith("[") else "\n]")


_dumped = json.JSONEncoder(ensure_ascii=False, default=show.jsonable).encode
"""A row as one line of JSON. Made once: a file of a million lines has as many rows."""


# -- for people


class Last:
    """The last closes, and how many there were."""

    def __init__(self) -> None:
        self.closes: deque[Close] = deque(maxlen=MOST_ROWS)
        self.count = 0

    def keep(self, close: Close) -> None:
        self.closes.append(close)
        self.count += 1


def print_tables(where: Console, positions: Iterable[Position], closes: Last, identity: Mapping[str, Decimal]) -> None:
    positions = list(positions)
    rows = [position_row(each) for each in positions[:MOST_ROWS]]
    show.table(where, "Positions", _POSITIONS, rows, "No event opened a position.")
    _say_rest(where, len(rows), len(positions), "positions", "first")
    show.table(where, "Closes", _CLOSES, [close_row(each) for each in closes.closes], "Nothing has been closed.")
    _say_rest(where, len(closes.closes), closes.count, "closes", "last")
    lots = [row for each in positions for row in lot_rows(each)]
    show.table(where, "Open lots", _LOTS, lots[:MOST_ROWS], "No lot is open.")
    _say_rest(where, min(len(lots), MOST_ROWS), len(lots), "lots", "first")
    figures = ", ".join(f"{plain(value)} {currency}" for currency, value in identity.items()) or "0"
    show.say(where, [f"Net realised less cost, open commissions and cash received: {figures}"])


def _say_rest(where: Console, seen: int, count: int, what: str, which: str) -> None:
    if seen < count:
        show.say(where, [f"These are the {which} {seen} of {count} {what}; --json has them all."])


_POSITIONS: list[Column] = [
    ("Account", "spare word", lambda row: row["account"]),
    ("Instrument", "word", lambda row: row["instrument"]),
    ("Quantity", "number", lambda row: show.quantity(row["quantity"])),
    ("Average", "spare number", lambda row: show.number(row["average_price"])),
    ("Cost", "number", lambda row: show.money(row["cost"])),
    ("Realized", "number", lambda row: show.money(row["realized_pnl"])),
    ("", "word", lambda row: row["currency"]),
]
_CLOSES: list[Column] = [
    ("Closed (UTC)", "spare time", lambda row: show.moment(row["closed_at"])),
    ("Account", "spare word", lambda row: row["account"]),
    ("Instrument", "word", lambda row: row["instrument"]),
    ("Quantity", "number", lambda row: show.quantity(row["quantity"])),
    ("Entry", "number", lambda row: show.number(row["entry_price"])),
    ("Exit", "number", lambda row: show.number(row["exit_price"])),
    ("Gross", "spare number", lambda row: show.money(row["gross_pnl"])),
    ("Net", "number", lambda row: show.money(row["net_pnl"])),
    ("", "word", lambda row: row["currency"]),
    ("Id", "spare word", lambda row: row["execution_id"]),
]
_LOTS: list[Column] = [
    ("Opened (UTC)", "spare time", lambda row: show.moment(row["opened_at"])),
    ("Account", "spare word", lambda row: row["account"]),
    ("Instrument", "word", lambda row: row["instrument"]),
    ("Quantity", "number", lambda row: show.quantity(row["quantity"])),
    ("Price", "number", lambda row: show.number(row["price"])),
    ("Cost", "number", lambda row: show.money(row["cost"])),
    ("Commission", "spare number", lambda row: show.number(row["commission"])),
    ("Id", "spare word", lambda row: row["opening_id"]),
]


def print_refused(where: Console, refused: Iterable[Refused]) -> None:
    show.say(where, [f"line {each.line}: {each.reason}" for each in refused], "red")
