"""Rows of tables as values of the model, and back: one pair of functions a table.

Belongs here: which column is which field. Does not belong here: SQL, decisions.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from psycopg2.extras import Json

from position_pipeline.accounting.exact import plain
from position_pipeline.accounting.model import (
    Adjustment,
    AdjustmentKind,
    Basis,
    Close,
    EventType,
    Fill,
    Instrument,
    Lot,
    Method,
    Position,
    PositionEvent,
    Side,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from position_pipeline.accounting.model import Fees, OrderKey
    from position_pipeline.store.connection import Row

    Revisions = Mapping[str, int | None]
    """Fills by id with their revision; adjustments with None."""


def instrument_row(instrument: Instrument) -> tuple[Any, ...]:
    i = instrument
    return (
        i.id, i.symbol, i.sec_type, i.currency, i.multiplier, i.exchange, i.expiry, i.strike, i.right, i.underlying, i.description,
    )  # fmt: skip


def instrument(row: Row) -> Instrument:
    return Instrument(
        id=row["instrument"],
        symbol=row["symbol"],
        sec_type=row["sec_type"],
        currency=row["currency"],
        multiplier=row["multiplier"],
        exchange=row["exchange"],
        expiry=row["expiry"],
        strike=row["strike"],
        right=row["right"],
        underlying=row["underlying"],
        description=row["description"],
    )


def execution_row(fill: Fill) -> tuple[Any, ...]:
    f = fill
    return (
        f.account, f.execution_id, f.revision, f.instrument, f.side.value, f.quantity, f.price, f.multiplier, f.currency,
        f.commission, f.commission_currency, f.time, f.order_id, f.source, f.sequence, f.premium_from, f.broker_pnl,
        _named_lots(f),
    )  # fmt: skip


def _named_lots(fill: Fill) -> Json | None:
    return Json([[name, plain(quantity)] for name, quantity in fill.closes_lots]) if fill.closes_lots else None


COMPLETION = "(%s, %s, %s, %s::numeric, %s::text, %s::bigint, %s::text, %s::numeric, %s, %s, %s, %s::jsonb, %s::timestamptz)"
"""The types of a completion, some of which are NULL."""


def completion_row(fill: Fill) -> tuple[Any, ...]:
    """What a later delivery may bring."""
    f = fill
    return (
        f.account, f.execution_id, f.revision, f.commission, f.commission_currency, f.sequence, f.premium_from, f.broker_pnl, f.time,
        f.order_id, f.source, _named_lots(f),
    )  # fmt: skip


def fill(row: Row) -> Fill:
    return Fill(
        account=row["account"],
        instrument=row["instrument"],
        execution_id=row["execution_id"],
        side=Side(row["side"]),
        quantity=row["quantity"],
        price=row["price"],
        currency=row["currency"],
        time=row["time"],
        multiplier=row["multiplier"],
        commission=row["commission"],
        commission_currency=row["commission_currency"],
        revision=row["revision"],
        sequence=row["sequence"],
        premium_from=row["premium_from"],
        order_id=row["order_id"],
        source=row["source"],
        broker_pnl=row["broker_pnl"],
        closes_lots=tuple((name, Decimal(quantity)) for name, quantity in row["closes_lots"] or ()),
    )


def fill_as_known(row: Row, at: datetime) -> Fill:
    """The fill as it stood at a time: without what later deliveries completed."""
    for said in row["earlier"] or ():
        if at < datetime.fromisoformat(said["until"]):
            return fill({**row, **_earlier(said)})
    return fill(row)


def _earlier(said: Row) -> Row:
    commission = said["commission"]
    time = datetime.fromisoformat(said["time"])
    return {**said, "time": time, "commission": None if commission is None else Decimal(commission)}


def adjustment_row(adjustment: Adjustment) -> tuple[Any, ...]:
    a = adjustment
    return (
        a.id, a.account, a.instrument, a.kind.value, a.time, a.quantity, a.currency, a.multiplier, a.price, a.cost,
        a.commission, a.basis.value, a.sequence, a.numerator, a.denominator, a.amount, a.share, a.takes_from, a.held, a.source, a.evidence,
    )  # fmt: skip


def adjustment(row: Row) -> Adjustment:
    return Adjustment(
        id=row["id"],
        account=row["account"],
        instrument=row["instrument"],
        kind=AdjustmentKind(row["kind"]),
        time=row["time"],
        quantity=row["quantity"],
        currency=row["currency"],
        multiplier=row["multiplier"],
        price=row["price"],
        cost=row["cost"],
        commission=row["commission"],
        basis=Basis(row["basis"]),
        sequence=row["sequence"],
        numerator=row["numerator"],
        denominator=row["denominator"],
        amount=row["amount"],
        share=row["share"],
        takes_from=row["takes_from"],
        held=row["held"],
        source=row["source"],
        evidence=row["evidence"],
    )


POSITION = (
    "account", "instrument", "symbol", "currency", "multiplier", "quantity", "average_price", "cost", "open_commission", "realized_gross",
    "relieved_commission", "closing_commission", "unknown_closes", "basis_quality", "method", "cycle", "opened_at", "closed_at",
    "last_entry_at", "last_entry_rank", "last_entry_sequence", "last_entry_id",
)  # fmt: skip
LOT = (
    "account", "instrument", "opening_id", "seq", "opening_revision", "opened_at", "quantity", "price", "cost", "commission", "basis",
    "fees",
)  # fmt: skip
CLOSE = (
    "account", "instrument", "execution_id", "execution_revision", "execution_adjustment", "opening_id", "opening_revision",
    "opening_adjustment", "cycle", "closed_at", "opened_at", "quantity", "entry_price", "exit_price", "cost", "gross_pnl",
    "opening_commission", "closing_commission", "premium", "fees", "currency", "method", "basis", "partial",
)  # fmt: skip
EVENT = ("account", "instrument", "type", "at", "quantity_before", "quantity_after", "cycle", "cause")
"""The columns that booking fills, in the order of the rows below and of the statements that write them."""


def named(columns: tuple[str, ...], row: tuple[Any, ...]) -> Row:
    """A row with its columns' names, as it reads when it comes back."""
    return {name: value.adapted if isinstance(value, Json) else value for name, value in zip(columns, row, strict=True)}


def position_row(position: Position, symbol: str) -> tuple[Any, ...]:
    p = position
    at, rank, sequence, entry = p.last_key or (None, None, None, None)
    return (
        p.account, p.instrument, symbol, p.currency, p.multiplier, p.quantity, p.average_price, p.cost, p.open_commission,
        p.realized_gross, p.opening_commission, p.closing_commission, p.unknown_closes, p.basis.value, p.method.value,
        p.cycle, p.opened_at, p.closed_at, at, rank, sequence, entry,
    )  # fmt: skip


def last_key(row: Row) -> OrderKey | None:
    """Where the last entry that is booked stands in the history."""
    if row["last_entry_at"] is None:
        return None
    return (row["last_entry_at"], row["last_entry_rank"], row["last_entry_sequence"], row["last_entry_id"])


def position(row: Row, lots: tuple[Lot, ...]) -> Position:
    return Position(
        account=row["account"],
        instrument=row["instrument"],
        currency=row["currency"],
        multiplier=row["multiplier"],
        method=Method(row["method"]),
        lots=lots,
        realized_gross=row["realized_gross"],
        opening_commission=row["relieved_commission"],
        closing_commission=row["closing_commission"],
        unknown_closes=row["unknown_closes"],
        cycle=row["cycle"],
        opened_at=row["opened_at"],
        closed_at=row["closed_at"],
        last_key=last_key(row),
    )


def lot_row(position: Position, lot: Lot, seq: int, revisions: Revisions) -> tuple[Any, ...]:
    return (
        position.account, position.instrument, lot.opening_id, seq, revisions[lot.opening_id], lot.opened_at, lot.quantity,
        lot.price, lot.cost, lot.commission, lot.basis.value, _fees_json(lot.fees),
    )  # fmt: skip


def held_lot(values: Sequence[Any]) -> Lot:
    """A lot of its columns in the order of its fields, in a third of the time that `lot` takes."""
    opening_id, opened_at, quantity, price, cost, commission, basis, fees = values
    return Lot(opening_id, opened_at, quantity, price, cost, commission, BASES[basis], _fees(fees) if fees else ())


BASES = {basis.value: basis for basis in Basis}
"""Asking an enum for its member takes longer than making the rest of a lot."""


def lot(row: Row) -> Lot:
    return Lot(
        opening_id=row["opening_id"],
        opened_at=row["opened_at"],
        quantity=row["quantity"],
        price=row["price"],
        cost=row["cost"],
        commission=row["commission"],
        basis=Basis(row["basis"]),
        fees=_fees(row["fees"]),
    )


def close_row(close: Close, revisions: Revisions) -> tuple[Any, ...]:
    c = close
    closing, opening = revisions[c.execution_id], revisions[c.opening_id]
    return (
        c.account, c.instrument, c.execution_id, closing, None if closing is not None else c.execution_id,
        c.opening_id, opening, None if opening is not None else c.opening_id, c.cycle, c.closed_at, c.opened_at, c.quantity,
        c.entry_price, c.exit_price, c.cost, c.gross_pnl, c.opening_commission, c.closing_commission, c.premium, _fees_json(c.fees),
        c.currency, c.method.value, c.basis.value, c.partial,
    )  # fmt: skip


def close(row: Row) -> Close:
    return Close(
        account=row["account"],
        instrument=row["instrument"],
        execution_id=row["execution_id"],
        opening_id=row["opening_id"],
        cycle=row["cycle"],
        closed_at=row["closed_at"],
        opened_at=row["opened_at"],
        quantity=row["quantity"],
        entry_price=row["entry_price"],
        exit_price=row["exit_price"],
        cost=row["cost"],
        gross_pnl=row["gross_pnl"],
        opening_commission=row["opening_commission"],
        closing_commission=row["closing_commission"],
        currency=row["currency"],
        method=Method(row["method"]),
        basis=Basis(row["basis"]),
        partial=row["partial"],
        premium=row["premium"],
        fees=_fees(row["fees"]),
    )


def event(row: Row) -> PositionEvent:
    return PositionEvent(
        account=row["account"],
        instrument=row["instrument"],
        type=EventType(row["type"]),
        at=row["at"],
        quantity_before=row["quantity_before"],
        quantity_after=row["quantity_after"],
        cycle=row["cycle"],
        cause=row["cause"],
    )


def event_row(event: PositionEvent) -> tuple[Any, ...]:
    e = event
    return (e.account, e.instrument, e.type.value, e.at, e.quantity_before, e.quantity_after, e.cycle, e.cause)


def _fees_json(fees: Fees) -> Json | None:
    return Json({currency: plain(amount) for currency, amount in fees}) if fees else None


def _fees(value: Mapping[str, str] | None) -> Fees:
    return tuple((currency, Decimal(amount)) for currency, amount in sorted(value.items())) if value else ()
