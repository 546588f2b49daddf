"""Opening lots that a person gives, as CSV: what was bought before the broker's history begins, when, and for how much.

    account,instrument,quantity,price,opened_at
    U1234567,ibkr:272110,284,389.25,2024-11-20

Belongs here: reading that file into `opening_lot` adjustments. Does not belong here: statements of brokers (flex.py), booking.

Columns: `account`, `instrument` (broker, colon, id; as `positions --json` prints it), `quantity` (signed: a short is negative),
`opened_at` (ISO 8601; a date means its midnight in UTC), and `price` (per unit) or `cost` (the total, signed like the quantity). Optional:
`commission`, `currency` (USD), `multiplier` (1), `symbol`, `sec_type` (STK): used where the instrument is not known yet.
"""

from __future__ import annotations

import csv
import hashlib
import io
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis, Instrument
from position_pipeline.brokers import Statement
from position_pipeline.brokers.flex import StatementError

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUIRED = ("account", "instrument", "quantity", "opened_at")
OPTIONAL = ("price", "cost", "commission", "currency", "multiplier", "symbol", "sec_type")
LARGEST = Decimal(10) ** 16


def read_opening_lots(text: str, name: str) -> tuple[Statement, ...]:
    """One `Statement` an account, holding its lots. Raises `StatementError` with the line of the first thing that is wrong."""
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        columns = tuple(reader.fieldnames or ())
        _check_columns(columns, name)
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise StatementError(f"{name}, line {reader.line_num}: {error}") from None
    if not rows:
        raise StatementError(f"{name} has no lots below its heading")
    lots = [_lot(row, f"{name}, line {line}") for line, row in rows]
    accounts = dict.fromkeys(adjustment.account for adjustment, _ in lots)
    return tuple(_statement(account, [lot for lot in lots if lot[0].account == account]) for account in accounts)


def _check_columns(columns: tuple[str, ...], name: str) -> None:
    missing = [column for column in REQUIRED if column not in columns]
    if missing or not {"price", "cost"} & set(columns):
        wanted = ", ".join(missing) if missing else "price or cost"
        raise StatementError(f"{name}: column {wanted} is missing; a file of opening lots has {', '.join(REQUIRED)} and price or cost")
    unknown = [column for column in columns if column not in (*REQUIRED, *OPTIONAL)]
    if unknown:
        raise StatementError(f"{name}: unknown column {unknown[0]!r}; known are {', '.join((*REQUIRED, *OPTIONAL))}")


def _lot(row: Mapping[str, str | None], where: str) -> tuple[Adjustment, Instrument]:
    if None in row or None in row.values():
        raise StatementError(f"{where}: this line has another number of fields than the heading")
    cells = {column: (value or "").strip() for column, value in row.items()}
    account, instrument = cells["account"], cells["instrument"]
    if not account:
        raise StatementError(f"{where}: the account is missing")
    if not all(instrument.partition(":")):
        raise StatementError(f"{where}: instrument {instrument!r} is not like ibkr:265598; position-pipeline positions --json prints it")
    quantity = _number(cells, "quantity", where)
    if not quantity:
        raise StatementError(f"{where}: a lot of quantity 0 is none")
    described = _described(cells, instrument, where)
    return _adjustment(cells, account, described, quantity, where), described


def _described(cells: Mapping[str, str], instrument: str, where: str) -> Instrument:
    multiplier = _number(cells, "multiplier", where) if cells.get("multiplier") else Decimal(1)
    if multiplier <= 0:
        raise StatementError(f"{where}: multiplier {multiplier} is not above 0")
    symbol = cells.get("symbol") or instrument
    return Instrument(instrument, symbol, cells.get("sec_type") or "STK", cells.get("currency") or "USD", multiplier)


def _adjustment(cells: Mapping[str, str], account: str, instrument: Instrument, quantity: Decimal, where: str) -> Adjustment:
    price = _number(cells, "price", where) if cells.get("price") else None
    cost = _number(cells, "cost", where) if cells.get("cost") else None
    if (price is None) == (cost is None):
        raise StatementError(f"{where}: give price or cost, and only one of them")
    if cost and (cost > 0) != (quantity > 0):
        raise StatementError(f"{where}: cost {cost} has another sign than quantity {quantity}")
    opened_at = _time(cells["opened_at"], where)
    identity = "|".join((account, instrument.id, str(quantity.normalize()), str(price), str(cost), opened_at.isoformat()))
    return Adjustment(
        id=f"lot:{hashlib.sha256(f'{identity}|{where}'.encode()).hexdigest()[:20]}",
        account=account,
        instrument=instrument.id,
        kind=AdjustmentKind.OPENING_LOT,
        time=opened_at,
        quantity=quantity,
        currency=instrument.currency,
        multiplier=instrument.multiplier,
        price=price,
        cost=cost,
        commission=_number(cells, "commission", where) if cells.get("commission") else Decimal(0),
        basis=Basis.STATEMENT,
        source="opening lots",
        evidence=f"Given by a person: {where}.",
    )


def _number(cells: Mapping[str, str], column: str, where: str) -> Decimal:
    try:
        number = Decimal(cells[column])
    except InvalidOperation:
        raise StatementError(f"{where}: {column} {cells[column][:40]!r} is not a number") from None
    if not number.is_finite() or abs(number) >= LARGEST or number.as_tuple().exponent < -24:  # type: ignore[operator]
        raise StatementError(f"{where}: {column} {cells[column][:40]!r} is out of range")
    return number


def _time(text: str, where: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise StatementError(f"{where}: opened_at {text[:40]!r} is no ISO 8601 date or time") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _statement(account: str, lots: list[tuple[Adjustment, Instrument]]) -> Statement:
    times = [adjustment.time for adjustment, _ in lots]
    instruments = {instrument.id: instrument for _, instrument in lots}
    return Statement(
        account=account,
        base_currency="",
        broker=lots[0][1].broker,
        from_at=min(times),
        to_at=max(times),
        fills=(),
        adjustments=tuple(adjustment for adjustment, _ in lots),
        instruments=tuple(instruments.values()),
        cash=(),
    )
