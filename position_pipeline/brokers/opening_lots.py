"""Opening lots that a person gives, as CSV: what was bought before the broker's history begins, when, and for how much.

    account,instrument,quantity,price,opened_at
    U1234567,ibkr:272110,284,389.25,2024-11-20

Belongs here: reading that file into `opening_lot` adjustments. Does not belong here: statements of brokers (flex.py), booking.

Columns: `account`, `instrument` (broker, colon, id; as `positions --json` prints it), `quantity` (signed: a short is negative),
`opened_at` (ISO 8601; without a zone it is UTC, a date means its midnight), and `price` (per unit) or `cost` (the total, signed like the
quantity). Optional: `commission`. An instrument that is not in the book yet needs `symbol` and `currency` too, and `multiplier` and
`sec_type` where they are not 1 and STK; of a known one they may be left out, and are refused where they differ.

A lot is known by what it says, wherever it stands in whatever file: giving it again adds nothing. Two lots that are alike in one file
are two.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import number
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis, Instrument
from position_pipeline.brokers import Statement
from position_pipeline.brokers.flex_document import StatementError, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUIRED = ("account", "instrument", "quantity", "opened_at")
OPTIONAL = ("price", "cost", "commission", "symbol", "currency", "multiplier", "sec_type")
SOURCE = "opening lots"
"""What such an entry gives as its source."""

LARGEST = Decimal(10) ** 16
SMALLEST_EXPONENT = -24


def read_opening_lots(text: str, name: str, known: Mapping[str, Instrument]) -> tuple[Statement, ...]:
    """One `Statement` an account, holding its lots; `known` are the instruments of the book by id.

    Raises `StatementError` with the line of the first thing that is wrong.
    """
    lots = [_lot(cells, known) for cells in _rows(text, name)]
    seen: Counter[str] = Counter()
    entries: dict[str, list[Adjustment]] = {}
    for lot in lots:
        entries.setdefault(lot.account, []).append(lot.adjustment(seen[lot.identity]))
        seen[lot.identity] += 1
    instruments = {lot.instrument.id: lot.instrument for lot in lots}
    return tuple(_statement(account, mine, instruments) for account, mine in entries.items())


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of one line by column, and where they stand."""

    values: Mapping[str, str]
    where: str

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")

    def wrong(self, what: str) -> StatementError:
        return StatementError(f"{self.where}: {what}")

    def number(self, column: str) -> Decimal | None:
        """The number in a column, None where it is empty."""
        text = self[column]
        if not text:
            return None
        try:
            value = number(text)
        except ValueError as error:
            raise self.wrong(f"{column} {quoted(text, 40)!r} {error}") from None
        exponent = value.as_tuple().exponent
        if abs(value) >= LARGEST or not isinstance(exponent, int) or exponent < SMALLEST_EXPONENT:
            raise self.wrong(f"{column} {quoted(text, 40)!r} is out of range")
        return value


@dataclass(frozen=True, slots=True)
class _Lot:
    """One line that is understood."""

    account: str
    instrument: Instrument
    quantity: Decimal
    price: Decimal | None
    cost: Decimal | None
    commission: Decimal
    opened_at: datetime
    where: str

    @property
    def identity(self) -> str:
        figures = ("" if each is None else str(each.normalize()) for each in (self.quantity, self.price, self.cost))
        return "|".join((self.account, self.instrument.id, *figures, self.opened_at.isoformat()))

    def adjustment(self, occurrence: int) -> Adjustment:
        digest = hashlib.sha256(f"{self.identity}|{occurrence}".encode()).hexdigest()
        return Adjustment(
            id=f"lot:{digest[:20]}",
            account=self.account,
            instrument=self.instrument.id,
            kind=AdjustmentKind.OPENING_LOT,
            time=self.opened_at,
            quantity=self.quantity,
            currency=self.instrument.currency,
            multiplier=self.instrument.multiplier,
            price=self.price,
            cost=self.cost,
            commission=self.commission,
            basis=Basis.STATEMENT,
            source=SOURCE,
            evidence=f"Given by a person: {self.where}.",
        )


def _rows(text: str, name: str) -> list[_Cells]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[_Cells] = []
    columns: tuple[str, ...] = ()
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            where = f"{name}, line {reader.line_num}"
            if columns:
                rows.append(_cells(columns, row, where))
            else:
                columns = _columns(row, where)
    except csv.Error as error:
        raise StatementError(f"{name}, line {reader.line_num}: {error}") from None
    if not rows:
        raise StatementError(f"{name}: has no lots below its heading")
    return rows


def _columns(heading: list[str], where: str) -> tuple[str, ...]:
    if len(heading) == 1:
        raise StatementError(f"{where}: the columns are not separated by commas")
    columns = tuple(cell.strip() for cell in heading)
    for column in columns:
        if column not in (*REQUIRED, *OPTIONAL):
            raise StatementError(f"{where}: column {quoted(column, 40)!r} is not known; {_wanted()}")
        if columns.count(column) > 1:
            raise StatementError(f"{where}: column {column!r} is there twice")
    missing = [column for column in REQUIRED if column not in columns]
    if missing or not {"price", "cost"} & set(columns):
        raise StatementError(f"{where}: column {(missing or ['price'])[0]!r} is missing; {_wanted()}")
    return columns


def _wanted() -> str:
    return f"a file of opening lots has {', '.join(REQUIRED)}, and price or cost, and may have {', '.join(OPTIONAL[2:])}"


def _cells(columns: tuple[str, ...], row: list[str], where: str) -> _Cells:
    if len(row) != len(columns):
        raise StatementError(f"{where}: has {len(row)} fields, the heading has {len(columns)}")
    return _Cells({column: cell.strip() for column, cell in zip(columns, row, strict=True)}, where)


def _lot(cells: _Cells, known: Mapping[str, Instrument]) -> _Lot:
    if not cells["account"]:
        raise cells.wrong("the account is missing")
    quantity = cells.number("quantity")
    if not quantity:
        raise cells.wrong("a lot needs a quantity that is not 0")
    price, cost = cells.number("price"), cells.number("cost")
    if (price is None) == (cost is None):
        raise cells.wrong("give price or cost, and only one of them")
    if cost and (cost > 0) != (quantity > 0):
        raise cells.wrong(f"cost {cost} has another sign than quantity {quantity}")
    commission = cells.number("commission") or Decimal(0)
    instrument = _instrument(cells, known)
    return _Lot(quoted(cells["account"], 40), instrument, quantity, price, cost, commission, _time(cells), cells.where)


def _instrument(cells: _Cells, known: Mapping[str, Instrument]) -> Instrument:
    name = cells["instrument"]
    if not all(name.partition(":")) or quoted(name) != name or " " in name:
        raise cells.wrong(f"instrument {quoted(name)!r} is not like ibkr:265598; position-pipeline positions --json prints it")
    multiplier = cells.number("multiplier")
    if multiplier is not None and multiplier <= 0:
        raise cells.wrong(f"multiplier {multiplier} is not above 0")
    if name in known:
        _agrees(cells, known[name], multiplier)
        return known[name]
    for column in ("symbol", "currency"):
        if not cells[column]:
            raise cells.wrong(f"{name} is not in the book yet, so its {column} has to be given")
    symbol, currency, sec_type = (quoted(cells[column], 40) for column in ("symbol", "currency", "sec_type"))
    return Instrument(name, symbol, sec_type or "STK", currency, multiplier or Decimal(1))


def _agrees(cells: _Cells, instrument: Instrument, multiplier: Decimal | None) -> None:
    """What is given of a known instrument must be what is known; its symbol is only a label."""
    for column, stands in (("currency", instrument.currency), ("sec_type", instrument.sec_type)):
        if cells[column] and cells[column] != stands:
            raise cells.wrong(f"{column} {quoted(cells[column], 40)!r} is not that of {instrument.id}, which is {stands}")
    if multiplier is not None and multiplier != instrument.multiplier:
        raise cells.wrong(f"multiplier {multiplier} is not that of {instrument.id}, which is {instrument.multiplier.normalize():f}")


def _time(cells: _Cells) -> datetime:
    text = cells["opened_at"]
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise cells.wrong(f"opened_at {quoted(text, 40)!r} is no ISO 8601 date or time, such as 2024-11-20") from None
    try:
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise cells.wrong(f"opened_at {quoted(text, 40)!r} is out of range") from None
    if time > datetime.now(UTC):
        raise cells.wrong(f"opened_at {quoted(text, 40)!r} is in the future")
    return time


def _statement(account: str, lots: list[Adjustment], instruments: Mapping[str, Instrument]) -> Statement:
    times = [lot.time for lot in lots]
    named = {lot.instrument: instruments[lot.instrument] for lot in lots}
    return Statement(
        account=account,
        base_currency="",
        broker=lots[0].instrument.partition(":")[0],
        from_at=min(times),
        to_at=max(times),
        fills=(),
        adjustments=tuple(lots),
        instruments=tuple(named.values()),
        cash=(),
    )
