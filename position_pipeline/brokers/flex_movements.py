"""What moves units without a trade: corporate actions and transfers, taken or not.

Belongs here: what is taken, and what follows for later trades where a row cannot be. Does not belong here: what a row means (flex_actions).

A row that is not taken is refused with its reason, and so are the later trades of the instruments that it changed, because a fill in units
that the book does not have is wrong.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, ZERO, plain
from position_pipeline.brokers.flex_actions import Leg, booked, legs, together, transferred
from position_pipeline.brokers.flex_cash import detailed
from position_pipeline.brokers.flex_document import quoted
from position_pipeline.brokers.flex_rows import RowError
from position_pipeline.brokers.flex_words import CORPORATE_ACTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Adjustment
    from position_pipeline.brokers.flex_log import Log
    from position_pipeline.brokers.flex_rows import Row
    from position_pipeline.brokers.flex_trades import Trade


NOT_TOLD = "its rows do not tell what it does to the cost"


@dataclass(slots=True)
class Movements:
    """`adjustments` are what is taken. `changes` are the units by instrument, of all movements and of the trades that are refused because
    of some; `since` is from when on an instrument's trades are.
    """

    adjustments: list[Adjustment] = field(default_factory=list)
    changes: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    since: dict[str, datetime] = field(default_factory=dict)

    def take(self, made: Iterable[Adjustment], action: Iterable[Leg]) -> None:
        self.adjustments += made
        for leg in action:
            self.changes[leg.row.instrument_id] = EXACT.add(self.changes[leg.row.instrument_id], leg.quantity)

    def block(self, instrument: str, at: datetime, quantity: Decimal) -> None:
        """Units moved that are not booked: nothing that comes after it can be."""
        self.changes[instrument] = EXACT.add(self.changes[instrument], quantity)
        self.since[instrument] = min(at, self.since.get(instrument, at))

    def keep_out(self, trades: Iterable[Trade], log: Log) -> list[Trade]:
        """The trades before the first movement of their instrument; the others are refused."""
        kept = []
        for trade in trades:
            if trade.instrument in self.since and trade.time >= self.since[trade.instrument]:
                self.changes[trade.instrument] = EXACT.add(self.changes[trade.instrument], trade.quantity)
                log.refuse(trade.row, "trade not taken: it follows a corporate action that is not booked")
            else:
                kept.append(trade)
        return kept


def read_movements(actions: Iterable[Row], transfers: Iterable[Row], log: Log) -> Movements:
    """The corporate actions and the transfers of securities of an account."""
    found = Movements()
    for rows in together(detailed(actions, log)):
        log.words("corporate action", {row.text("type") for row in rows}, CORPORATE_ACTIONS)
        _take_action(rows, found, log)
    for row in transfers:
        if row.text("conid") and row.asset != "CASH":
            _take_transfer(row, found, log)
    return found


def _take_action(rows: Sequence[Row], found: Movements, log: Log) -> None:
    try:
        action = legs(rows)
        made = booked(action) if action else []
    except (RowError, ValueError) as error:
        for row in rows:
            log.refuse(row, f"{_named(row)} not read: {error}")
            log.taint(row)
        return
    if made:
        found.take(made, action)
    elif action:
        for leg in action:
            log.note(f"{leg.row.tag} rows not booked")
            found.block(leg.row.instrument_id, leg.at, leg.quantity)
            log.refuse(leg.row, f"{_named(leg.row)}: {plain(leg.quantity)} units not booked, trades after it not taken: {NOT_TOLD}")
    elif any(row.number("quantity") for row in rows):
        log.note("corporate actions that were reversed in the same file: neither taken")
    else:
        log.note("CorporateAction rows that move no units")


def _take_transfer(row: Row, found: Movements, log: Log) -> None:
    try:
        quantity = _units(row)
        if quantity:
            made = transferred(row, quantity)
            found.take([made], [Leg(row, made.time, quantity, ZERO)])
        else:
            log.note("Transfer rows that move no units")
    except (RowError, ValueError) as error:
        log.refuse(row, f"{_named(row)} not read: {error}")
        log.taint(row)


def _named(row: Row) -> str:
    if row.tag == "Transfer":
        return f"transfer {quoted(row.text('direction'), 5)}".strip()
    said = " ".join((row.text("type"), row.text("description"))).strip()
    return f"corporate action {quoted(said, 120)}"


def _units(row: Row) -> Decimal:
    """Signed units that moved. Where a transfer names its direction, that gives the sign."""
    quantity = row.number("quantity") or ZERO
    return {"IN": quantity.copy_abs(), "OUT": quantity.copy_abs().copy_negate()}.get(row.text("direction").upper(), quantity)
