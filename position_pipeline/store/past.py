"""Positions at another time, in two senses: what was true then, as we know now, and what we believed then.

Belongs here: rows of positions with the fields of those of today. Does not belong here: how the past is made again (rebuilding.py). The
prices of then are not kept, so what rests on them is None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO
from position_pipeline.store import queries
from position_pipeline.store.rebuilding import groups, rebuilt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from position_pipeline.store.connection import Connection, Row
    from position_pipeline.store.rebuilding import Rebuilt

SQL = queries.load("past")

_NOT_KEPT = dict.fromkeys(
    (
        "broker_quantity", "broker_average_price", "market_price", "market_value", "unrealized_pnl", "priced_at", "sync_error",
        "last_synced_at",
    )
)  # fmt: skip


def positions(
    connection: Connection, accounts: Sequence[str] | None, *, as_of: datetime | None, known_at: datetime | None, all_: bool
) -> list[Row]:
    """What the entries until `as_of` come to, as they were known at `known_at`: open positions, with `all_` the closed ones too."""
    named = connection.rows(SQL["accounts_named"], {"accounts": list(accounts) if accounts else None})
    found = [
        _row(one, account["broker"])
        for account in named
        for group in groups(connection, account["account"])
        for one in rebuilt(connection, account["account"], group, as_of=as_of, known_at=known_at)
        if one.history and (all_ or one.booked.position.lots)
    ]
    return sorted(found, key=lambda row: (row["account"], row["symbol"], row["instrument"]))


def _row(one: Rebuilt, broker: str) -> Row:
    p, quantity = one.booked.position, one.booked.position.quantity
    return {
        "account": p.account,
        "broker": broker,
        "symbol": one.instrument.symbol,
        "instrument": p.instrument,
        "sec_type": one.instrument.sec_type,
        "currency": p.currency,
        "multiplier": p.multiplier,
        "quantity": quantity,
        "average_price": p.average_price,
        "cost": p.cost,
        "open_commission": p.open_commission,
        "realized_pnl": p.realized_net,
        "realized_pnl_gross": p.realized_gross,
        "status": "open" if quantity != ZERO else "closed",
        "basis_quality": p.basis.value,
        "unknown_closes": p.unknown_closes,
        "method": p.method.value,
        "cycle": p.cycle,
        "opened_at": p.opened_at,
        "closed_at": p.closed_at,
        **_NOT_KEPT,
    }
