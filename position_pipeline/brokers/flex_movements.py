"""Corporate actions and transfers: what changes a position without a trade, and is not booked yet.

Belongs here: seeing them, and keeping trades in units that the book does not have out of it. Does not belong here: booking them.

Every such row is refused with its reason, so that it is seen. From the first one on, trades of its instrument are refused too: a sale of
shares that a split added would look like a short. How many units moved still counts for what was held before the period.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, ZERO, plain
from position_pipeline.brokers.flex_cash import detailed
from position_pipeline.brokers.flex_document import quoted
from position_pipeline.brokers.flex_rows import RowError
from position_pipeline.brokers.flex_words import CORPORATE_ACTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.brokers.flex_log import Log
    from position_pipeline.brokers.flex_rows import Row
    from position_pipeline.brokers.flex_trades import Trade


@dataclass(slots=True)
class Movements:
    """`changes` are units by instrument, of the movements and of the trades that are refused because of them; `since` the first time."""

    changes: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    since: dict[str, datetime] = field(default_factory=dict)

    def add(self, instrument: str, at: datetime, quantity: Decimal) -> None:
        self.changes[instrument] = EXACT.add(self.changes[instrument], quantity)
        self.since[instrument] = min(at, self.since.get(instrument, at))

    def keep_out(self, trades: Iterable[Trade], log: Log) -> list[Trade]:
        """The trades before the first movement of their instrument; the others are refused."""
        kept = []
        for trade in trades:
            if trade.instrument in self.since and trade.time >= self.since[trade.instrument]:
                self.changes[trade.instrument] = EXACT.add(self.changes[trade.instrument], trade.quantity)
                log.refuse(trade.row, "trade not taken: it follows a corporate action or transfer that is not booked yet")
            else:
                kept.append(trade)
        return kept


def read_movements(actions: Iterable[Row], transfers: Iterable[Row], log: Log) -> Movements:
    """The corporate actions and the transfers of securities of an account."""
    found = Movements()
    for row in detailed(actions, log):
        log.words("corporate action", (row.text("type"),), CORPORATE_ACTIONS)
        kind = quoted(f"{row.text('type')} {row.text('description')}".strip(), 120)
        _take(row, f"corporate action {kind}", found, log)
    for row in transfers:
        if row.text("conid") and row.asset != "CASH":
            _take(row, f"transfer {quoted(row.text('direction'), 5)}".strip(), found, log)
    return found


def _take(row: Row, what: str, found: Movements, log: Log) -> None:
    try:
        at, _ = row.time("dateTime", "date", "settleDate", "reportDate")
        quantity, instrument = _units(row), row.instrument_id
    except RowError as error:
        log.refuse(row, f"{what} not read: {error}")
        log.taint(row)
        return
    log.note(f"{row.tag} rows not booked")
    if quantity:
        found.add(instrument, at, quantity)
        log.refuse(row, f"{what}: {plain(quantity)} units not booked, trades after it not taken; such rows are not supported yet")
    else:
        log.refuse(row, f"{what}: not booked; such rows are not supported yet")


def _units(row: Row) -> Decimal:
    """Signed units that moved. Where a transfer names its direction, that gives the sign."""
    quantity = row.number("quantity") or ZERO
    direction = row.text("direction").upper() if row.tag == "Transfer" else ""
    return {"IN": quantity.copy_abs(), "OUT": quantity.copy_abs().copy_negate()}.get(direction, quantity)
