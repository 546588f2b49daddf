"""The end of options: expired, assigned, exercised, settled in cash.

Belongs here: telling which of them a row without a price is, and which delivery takes up the premium. Does not belong here: booking it.

The notes of the row say what it was; where the query has no notes, the OptionEAE section does. An assigned or exercised option moves its
premium to the delivery: the share or future row of the same moment with the same underlying, as many units, at the strike. Where nothing
is delivered it is settled in cash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, ZERO, ratio
from position_pipeline.accounting.model import AdjustmentKind
from position_pipeline.brokers.flex_rows import Row, RowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from position_pipeline.brokers.flex_log import Log
    from position_pipeline.brokers.flex_trades import Trade

ENDINGS = {
    "Ep": AdjustmentKind.EXPIRY, "A": AdjustmentKind.ASSIGNMENT, "Ex": AdjustmentKind.EXERCISE,
    "Expiration": AdjustmentKind.EXPIRY, "Assignment": AdjustmentKind.ASSIGNMENT, "Exercise": AdjustmentKind.EXERCISE,
}  # fmt: skip
"""Notes of a trade, and transaction types of OptionEAE."""


class Endings:
    """The OptionEAE section: what became of options, where Trades does not say it."""

    def __init__(self, rows: Iterable[Row], log: Log) -> None:
        self._kinds: dict[tuple[str, str, Decimal], AdjustmentKind] = {}
        self._cash: dict[tuple[str, str], Row] = {}
        self.deliveries: set[tuple[str, str, Decimal]] = set()
        for row in rows:
            try:
                self._take(row)
            except RowError as error:
                log.refuse(row, f"row of OptionEAE not read: {error}")

    def _take(self, row: Row) -> None:
        kind, quantity = row.text("transactionType"), row.number("quantity") or ZERO
        if not kind:
            return
        row.number("proceeds")
        day = self._day(row, "date")
        if kind == "Cash Settlement":
            self._cash[row.instrument_id, day] = row
        elif kind in ENDINGS:
            self._kinds[row.instrument_id, day, quantity] = ENDINGS[kind]
        else:
            self.deliveries.add((row.instrument_id, day, quantity))

    @staticmethod
    def _day(row: Row, *names: str) -> str:
        return row.time(*names)[0].date().isoformat()

    def _key(self, trade: Trade) -> tuple[str, str]:
        return trade.instrument, self._day(trade.row, *(("tradeDate",) if trade.row.text("tradeDate") else ("dateTime",)))

    def kind(self, trade: Trade) -> AdjustmentKind | None:
        return self._kinds.get((*self._key(trade), trade.quantity))

    def cash(self, trade: Trade) -> Row | None:
        return self._cash.get(self._key(trade))

    def delivers(self, trade: Trade) -> bool:
        return (*self._key(trade), trade.quantity) in self.deliveries


def ending(trade: Trade, endings: Endings) -> AdjustmentKind | None:
    """What became of an option by this row; None for a trade, and for an end that nothing tells."""
    if not trade.is_option or trade.price:
        return None
    told = next((ENDINGS[code] for code in ("Ep", "A", "Ex") if code in trade.codes), None)
    return told or (endings.kind(trade) if trade.is_book_entry else None)


def deliveries(options: Sequence[Trade], trades: Sequence[Trade]) -> dict[str, str]:
    """The option whose premium a delivery takes up, by the delivery's id; each option and each delivery once."""
    links: dict[str, str] = {}
    legs = [trade for trade in trades if not trade.is_option and trade.is_book_entry]
    for test in (_same_action, _same_contract):
        for option in options:
            if option.id not in links.values():
                leg = next((leg for leg in legs if leg.id not in links and _delivers(option, leg) and test(option, leg)), None)
                if leg is not None:
                    links[leg.id] = option.id
    return links


def _delivers(option: Trade, leg: Trade) -> bool:
    """Whether a leg is what an option delivers: a call moves shares against the contracts' sign, a put with it."""
    if leg.time != option.time or leg.price != option.row.strike or leg.units != option.units:
        return False
    return ((leg.quantity > 0) == (option.quantity > 0)) == (option.row.right == "P")


def _same_action(option: Trade, leg: Trade) -> bool:
    action = option.row.label("positionActionID")
    return bool(action) and action == leg.row.label("positionActionID")


def _same_contract(option: Trade, leg: Trade) -> bool:
    """By the contract id of the underlying; without one, by the first word of the descriptions (or the share's symbol)."""
    underlying = option.row.text("underlyingConid")
    if underlying and leg.row.asset == "STK":
        return leg.instrument == f"ibkr:{underlying}"
    name, *_ = (*option.row.text("description").split(), "")
    return bool(name) and name in (leg.row.symbol, *leg.row.text("description").split()[:1])


def settlement(trade: Trade, endings: Endings, log: Log) -> Decimal | None:
    """Settlement value per unit: from the cash paid, else the P&L, else the closing price of an option that OptionEAE calls settled."""
    row = endings.cash(trade)
    paid = row.number("proceeds") if row is not None else None
    if not paid and (pnl := trade.row.number("fifoPnlRealized")):
        # IBKR's identity of a row: P&L = proceeds + commission + taxes + cost.
        parts = (trade.row.number(name) or ZERO for name in ("ibCommission", "taxes", "cost"))
        paid = pnl
        for part in parts:
            paid = EXACT.subtract(paid, part)
    if paid:
        return ratio(paid, EXACT.multiply(EXACT.minus(trade.quantity), trade.multiplier))
    if row is None:
        return None
    log.note("cash settlements valued at the option's closing price, for want of proceeds")
    return trade.row.number("closePrice")


def worthless(trade: Trade) -> bool:
    """Whether an option that nothing tells the end of lost its value: it closed at 0, or IBKR realised all of its cost and no more."""
    pnl, cost = trade.row.number("fifoPnlRealized"), trade.row.number("cost")
    return trade.row.number("closePrice") == ZERO or bool(pnl and cost and EXACT.subtract(cost, trade.commission or ZERO) == pnl)
