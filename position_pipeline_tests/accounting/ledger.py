"""A short way to write ledgers: `buy(10, 100, fee=1)` at the next minute, folded with `booked(...)`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING

from position_pipeline.accounting.booking import Booked, Carries, fold, in_order
from position_pipeline.accounting.exact import EXACT, ZERO, exact
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Fill, Method, Position, Side

if TYPE_CHECKING:
    from collections.abc import Iterable

    from position_pipeline.accounting.model import Close, Entry

START = datetime(2025, 1, 2, 15, tzinfo=UTC)
ACCOUNT, STOCK, OPTION = "U1", "ibkr:1", "ibkr:2"
Number = int | str | Decimal
_numbers = count(1)


def minute(number: int) -> datetime:
    return START + timedelta(minutes=number)


def fill(side: Side | str, quantity: Number, price: Number, *, fee: Number | None = 0, at: int | None = None, **other: object) -> Fill:
    number = next(_numbers)
    values: dict[str, object] = {"account": ACCOUNT, "instrument": STOCK, "currency": "USD", "execution_id": f"e{number:06d}"}
    values |= {"side": Side(side), "quantity": Decimal(quantity), "price": Decimal(price), "time": minute(number if at is None else at)}
    values |= {"commission": None if fee is None else Decimal(fee), "commission_currency": "USD"}
    return Fill(**(values | other))  # type: ignore[arg-type]


def buy(quantity: Number, price: Number, **other: object) -> Fill:
    return fill(Side.BUY, quantity, price, **other)  # type: ignore[arg-type]


def sell(quantity: Number, price: Number, **other: object) -> Fill:
    return fill(Side.SELL, quantity, price, **other)  # type: ignore[arg-type]


def adjustment(kind: AdjustmentKind, quantity: Number, *, at: int | None = None, **other: object) -> Adjustment:
    number = next(_numbers)
    values: dict[str, object] = {"id": f"a{number:06d}", "account": ACCOUNT, "instrument": STOCK, "currency": "USD", "kind": kind}
    values |= {"quantity": Decimal(quantity), "time": minute(number if at is None else at)}
    return Adjustment(**(values | other))  # type: ignore[arg-type]


def flat(method: Method = Method.FIFO, instrument: str = STOCK) -> Position:
    return Position(ACCOUNT, instrument, "USD", method=method)


def booked(*entries: Entry, method: Method = Method.FIFO, carries: Carries | None = None) -> Booked:
    """Fold entries in their order of time."""
    instrument = entries[0].instrument if entries else STOCK
    return fold(flat(method, instrument), in_order(entries), carries)


def money(*texts: str) -> list[Decimal]:
    return [Decimal(text) for text in texts]


def gross(result: Booked) -> list[Decimal | None]:
    return [close.gross_pnl for close in result.closes]


def net(result: Booked) -> list[Decimal | None]:
    return [close.net_pnl for close in result.closes]


def lots(result: Booked) -> list[tuple[Decimal, Decimal | None, Decimal | None]]:
    """(quantity, cost, commission) of the open lots."""
    return [(lot.quantity, lot.cost, lot.commission) for lot in result.position.lots]


def cash_received(fills: Iterable[Fill]) -> Decimal:
    """Sales less purchases less commissions, exact."""
    with exact():
        return sum((-each.signed_quantity * each.price * each.multiplier - (each.commission or ZERO) for each in fills), ZERO)


def identity(result: Booked, fills: Iterable[Fill]) -> Decimal:
    """Net realised - remaining cost - open commission - cash received: 0 to the last digit where every basis is known."""
    position = result.position
    assert position.cost is not None
    with exact():
        return position.realized_net - position.cost - position.open_commission - cash_received(fills)


def total_net(closes: Iterable[Close]) -> Decimal:
    result = ZERO
    for close in closes:
        assert close.net_pnl is not None
        result = EXACT.add(result, close.net_pnl)
    return result
