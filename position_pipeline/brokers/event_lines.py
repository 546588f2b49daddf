"""Events that a person or a program wrote down, one a line, as JSON Lines or CSV.

    type,account,instrument,side,quantity,price,commission,numerator,denominator
    fill,U1,ACME,BUY,10,100,1,,
    split,U1,ACME,,,,,3,1
    {"type": "fill", "account": "U1", "instrument": "ACME", "side": "BUY", "quantity": "10", "price": 100, "commission": "1"}

Belongs here: cells to events, and refusing a line whose own words are wrong. Does not belong here: what JSON and CSV are
(event_cells.py), what an event means beside the other lines and what is held (replay_entries.py), booking.

Nothing is guessed: a line that cannot be taken is refused by its number, and the others are read. Numbers are read from their text, in
quotes or not, and keep every digit. Times are ISO 8601; without a zone they are UTC, a date means its midnight, none at all is `UNTIMED`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from position_pipeline.accounting.exact import number
from position_pipeline.accounting.model import Side
from position_pipeline.brokers.event_cells import OWN_FIELDS, SHARED, LineRefused, NoEvents, Refused, perhaps, read_cells, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from position_pipeline.brokers.event_cells import Cells

    Own = dict[str, Any]

__all__ = ["UNTIMED", "Event", "LineRefused", "NoEvents", "Refused", "read_event_lines"]

T = TypeVar("T")
UNTIMED = datetime.min.replace(tzinfo=UTC)
"""The time of an event whose line gives none."""

LARGEST = Decimal(10) ** 16
SMALLEST_EXPONENT = -24
"""Numbers are below `LARGEST` and have at most 24 decimals, as the tables hold them and as brokers send them."""

LONGEST_NAME = 200
_MAY_BE_ZERO_ANYWHERE = frozenset({"quantity", "price", "commission"})
_DATED = re.compile(r"\d{4}-?\d\d-?\d\d([T ].+)?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z][A-Z0-9.]{1,9}", re.ASCII)


class Event(NamedTuple):
    """What one line says; None is what it does not say.

    `id` is its `execution_id`, or `line-N` where it has none. `amount` is that of a dividend, or a split's cash in lieu; `capital` is what
    of an amount lowers the cost.
    """

    line: int
    type: str
    account: str
    instrument: str
    id: str
    time: datetime
    currency: str | None
    multiplier: Decimal | None
    side: Side | None = None
    quantity: Decimal | None = None
    price: Decimal | None = None
    commission: Decimal = Decimal(0)
    commission_currency: str | None = None
    numerator: Decimal | None = None
    denominator: Decimal | None = None
    amount: Decimal | None = None
    capital: Decimal | None = None
    underlying: str = ""
    strike: Decimal | None = None
    right: str = ""
    underlying_multiplier: Decimal | None = None

    @property
    def is_named(self) -> bool:
        """Whether the line has an id of its own."""
        return self.id != f"line-{self.line}"


def read_event_lines(lines: Iterable[bytes]) -> Iterator[Event | Refused]:
    """What each line comes to, one after the other. Raises `NoEvents` at the first when the file as a whole cannot be read."""
    for found in read_cells(lines):
        if isinstance(found, Refused):
            yield found
            continue
        line, cells = found
        try:
            event = _event(line, cells)
        except LineRefused as error:
            yield Refused(line, str(error))
        else:
            yield event


def _event(line: int, cells: Cells) -> Event:
    type_ = cells.get("type", "fill")
    if type_ not in OWN_FIELDS:
        raise LineRefused(f"type {shown(type_)} is not known{perhaps(type_, OWN_FIELDS)}")
    _belong(cells, type_)
    return Event(
        line,
        type_,
        _name(cells, "account"),
        _needed(cells, "instrument", _name),
        _name(cells, "execution_id") or f"line-{line}",
        _time(cells["time"]) if "time" in cells else UNTIMED,
        _currency(cells, "currency"),
        _above_zero(cells, "multiplier"),
        **_READ[type_](cells),
    )


def _belong(cells: Cells, type_: str) -> None:
    """A field of another type of event may be there only where it says nothing."""
    own = OWN_FIELDS[type_]
    if own.issuperset(cells.keys() - SHARED):
        return
    for name in cells:
        idle = name in own or name in SHARED or (name in _MAY_BE_ZERO_ANYWHERE and _number(cells, name) == 0)
        if not idle:
            raise LineRefused(f"{name} {shown(cells[name])} has no meaning on a line of type {type_}")


def _fill(cells: Cells) -> Own:
    side = _needed(cells, "side", dict.get)
    if side not in ("BUY", "SELL"):
        raise LineRefused(f"side {shown(side)} is not BUY or SELL")
    quantity = _needed(cells, "quantity", _number)
    if quantity <= 0:
        raise LineRefused(f"quantity {shown(cells['quantity'])} is not above 0; the side says the direction")
    return {
        "side": Side(side),
        "quantity": quantity,
        "price": _needed(cells, "price", _number),
        "commission": _number(cells, "commission") or Decimal(0),
        "commission_currency": _currency(cells, "commission_currency"),
    }


def _split(cells: Cells) -> Own:
    return {
        "numerator": _needed(cells, "numerator", _above_zero),
        "denominator": _needed(cells, "denominator", _above_zero),
        "amount": _number(cells, "cash_in_lieu"),
    }


def _dividend(cells: Cells) -> Own:
    """A plain dividend returns no capital; of one that does, the part that is capital is what counts."""
    returned = _number(cells, "return_of_capital")
    return {"amount": _number(cells, "amount") if returned is not None else _needed(cells, "amount", _number), "capital": returned}


def _return_of_capital(cells: Cells) -> Own:
    amount = _needed(cells, "amount", _number)
    return {"amount": amount, "capital": amount}


def _expire(cells: Cells) -> Own:
    if _number(cells, "price"):
        raise LineRefused(f"price {shown(cells['price'])}: what expires is closed at 0; a cash settlement is a fill")
    return {"quantity": _not_zero(cells, "quantity"), "commission": _number(cells, "commission") or Decimal(0)}


def _delivery(cells: Cells) -> Own:
    right = _needed(cells, "right", dict.get)
    if right not in ("C", "P"):
        raise LineRefused(f"right {shown(right)} is not C or P")
    return {
        "quantity": _needed(cells, "quantity", _not_zero),
        "commission": _number(cells, "commission") or Decimal(0),
        "commission_currency": _currency(cells, "commission_currency"),
        "underlying": _needed(cells, "underlying", _name),
        "strike": _needed(cells, "strike", _above_zero),
        "right": right,
        "underlying_multiplier": _above_zero(cells, "underlying_multiplier"),
    }


_READ: dict[str, Callable[[Cells], Own]] = {
    "fill": _fill,
    "split": _split,
    "dividend": _dividend,
    "return_of_capital": _return_of_capital,
    "expire": _expire,
    "assign": _delivery,
    "exercise": _delivery,
}


# -- values


def _needed(cells: Cells, name: str, read: Callable[[Cells, str], T | None]) -> T:
    value = read(cells, name)
    if value is None or value == "":
        raise LineRefused(f"{name} is missing")
    return value


def _number(cells: Cells, name: str) -> Decimal | None:
    text = cells.get(name)
    if text is None:
        return None
    try:
        return _exact(text)
    except ValueError as error:
        raise LineRefused(f"{name} {shown(text)} {error}") from None


@lru_cache(maxsize=8192)
def _exact(text: str) -> Decimal:
    value = number(text)
    if value.copy_abs() >= LARGEST:
        raise ValueError("is out of range")
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < SMALLEST_EXPONENT:
        raise ValueError(f"has more than {-SMALLEST_EXPONENT} decimals")
    return value


def _above_zero(cells: Cells, name: str) -> Decimal | None:
    value = _number(cells, name)
    if value is not None and value <= 0:
        raise LineRefused(f"{name} {shown(cells[name])} is not above 0")
    return value


def _not_zero(cells: Cells, name: str) -> Decimal | None:
    value = _number(cells, name)
    if value is not None and not value:
        raise LineRefused(f"{name} is 0")
    return value


def _name(cells: Cells, name: str) -> str:
    text = cells.get(name, "")
    if len(text) > LONGEST_NAME or not text.isprintable():
        raise LineRefused(f"{name} {shown(text)} is not a name of at most {LONGEST_NAME} printable characters")
    return text


def _currency(cells: Cells, name: str) -> str | None:
    text = cells.get(name)
    if text is not None and not _CURRENCY.fullmatch(text):
        raise LineRefused(f"{name} {shown(text)} is not a code such as USD, in capitals")
    return text


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text if _DATED.fullmatch(text) else "")
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise LineRefused(f"time {shown(text)} is no ISO 8601 date or time, such as 2025-01-02T15:30:00Z") from None
