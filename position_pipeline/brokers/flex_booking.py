"""Trades as fills and adjustments.

Belongs here: what becomes of a trade that was read, cancelled trades included. Does not belong here: reading rows (flex_trades.py), telling
how an option ended (flex_options.py).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, ZERO, plain
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis, Fill, Side
from position_pipeline.brokers.flex_options import deliveries, ending, settlement, worthless

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from decimal import Decimal

    from position_pipeline.brokers.flex_log import Log
    from position_pipeline.brokers.flex_options import Endings
    from position_pipeline.brokers.flex_trades import Trade

SOURCE = "flex"


@dataclass(slots=True)
class Trades:
    """What the section comes to. `changes` are the changes of quantity by (instrument), of everything that is taken."""

    fills: list[Fill] = field(default_factory=list)
    adjustments: list[Adjustment] = field(default_factory=list)

    def changes(self) -> Mapping[str, Decimal]:
        latest = {fill.execution_id: fill for fill in sorted(self.fills, key=lambda each: each.revision)}
        changes: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
        for fill in latest.values():
            changes[fill.instrument] = EXACT.add(changes[fill.instrument], fill.signed_quantity)
        for adjustment in self.adjustments:
            changes[adjustment.instrument] = EXACT.add(changes[adjustment.instrument], adjustment.quantity)
        return changes


def book_trades(trades: Sequence[Trade], endings: Endings, log: Log) -> Trades:
    """Fills and adjustments of an account's trades, in order of time."""
    taken = Trades()
    trades = _without_cancelled(trades, taken, log)
    ends = {trade.id: kind for trade in trades if (kind := ending(trade, endings)) is not None}
    links = deliveries([trade for trade in trades if ends.get(trade.id, AdjustmentKind.EXPIRY) is not AdjustmentKind.EXPIRY], trades)
    linked = set(links.values())
    for trade in trades:
        kind = ends.get(trade.id)
        if kind is None:
            _take_fill(trade, links.get(trade.id), endings, taken, log)
        elif kind is AdjustmentKind.EXPIRY or trade.id in linked:
            taken.adjustments.append(_adjustment(trade, kind))
        else:
            _settle(trade, kind, endings, taken, log)
    return taken


def _take_fill(trade: Trade, option: str | None, endings: Endings, taken: Trades, log: Log) -> None:
    if trade.is_option and trade.is_book_entry and not trade.price:
        if not worthless(trade):
            log.refuse(trade.row, "how this option ended is not told: tick Notes/Codes in the Flex query and import the statement again")
            log.taint(trade.row)
            return
        taken.adjustments.append(_adjustment(trade, AdjustmentKind.EXPIRY))
        return
    if option is None and trade.is_book_entry and (trade.codes & {"A", "Ex"} or endings.delivers(trade)):
        log.note("deliveries without the row of their option: its premium is not in their P&L")
    taken.fills.append(_fill(trade, trade.price, option))


def _settle(trade: Trade, kind: AdjustmentKind, endings: Endings, taken: Trades, log: Log) -> None:
    """An assigned or exercised option with no delivery: settled in cash where the file says so, else its premium waits."""
    price = settlement(trade, endings, log)
    if price is not None:
        taken.fills.append(_fill(trade, price, None))
        return
    log.note("assigned or exercised options without a delivery or a cash settlement: their premium is in no P&L")
    taken.adjustments.append(_adjustment(trade, kind))


def _fill(trade: Trade, price: Decimal, premium_from: str | None) -> Fill:
    row = trade.row
    return Fill(
        account=row.account,
        instrument=trade.instrument,
        execution_id=trade.id,
        side=Side.BUY if trade.quantity > 0 else Side.SELL,
        quantity=trade.quantity.copy_abs(),
        price=price,
        currency=row.currency,
        time=trade.time,
        multiplier=trade.multiplier,
        commission=trade.commission,
        commission_currency=trade.commission_currency,
        revision=trade.revision,
        sequence=row.serial("transactionID"),
        premium_from=premium_from,
        order_id=row.label("ibOrderID"),
        source=SOURCE,
        broker_pnl=None if row.asset == "CASH" else row.number("fifoPnlRealized"),
    )


def _adjustment(trade: Trade, kind: AdjustmentKind) -> Adjustment:
    return Adjustment(
        id=trade.id,
        account=trade.row.account,
        instrument=trade.instrument,
        kind=kind,
        time=trade.time,
        quantity=trade.quantity,
        currency=trade.row.currency,
        multiplier=trade.multiplier,
        price=ZERO,
        commission=trade.commission,
        basis=Basis.STATEMENT,
        sequence=trade.row.serial("transactionID"),
        source=SOURCE,
        evidence=f"the statement: {kind} of {plain(trade.quantity)} {trade.row.symbol}",
    )


def _without_cancelled(trades: Sequence[Trade], taken: Trades, log: Log) -> list[Trade]:
    """The trades without those that were cancelled and the rows that cancel them, which become fills and their busts at once."""
    originals = _by_number([trade for trade in trades if not trade.cancels])
    cancelled: dict[str, Trade] = {}
    for cancel in (trade for trade in trades if trade.cancels):
        original = next((originals[key] for key in _cancelled_numbers(cancel) if key in originals), None)
        if original is None or original.quantity != -cancel.quantity or original.instrument != cancel.instrument:
            log.refuse(cancel.row, "cancels a trade that is not in this file: import a statement that has both")
            log.taint(cancel.row)
        else:
            cancelled[original.id] = original
    for original in cancelled.values():
        _bust(original, [trade for trade in trades if trade.id == original.id and not trade.cancels], taken, log)
    return [trade for trade in trades if not trade.cancels and trade.id not in cancelled]


def _bust(original: Trade, revisions: Sequence[Trade], taken: Trades, log: Log) -> None:
    """Every revision as a fill, then the bust; none when a later revision corrected what was cancelled."""
    if original.is_option and original.is_book_entry:
        log.note("cancelled ends of options: neither taken")
        return
    taken.fills.extend(_fill(trade, trade.price, None) for trade in revisions)
    if max(trade.revision for trade in revisions) == original.revision:
        void = _fill(original, original.price, None)
        taken.fills.append(void._replace(quantity=ZERO, commission=ZERO, revision=original.revision + 1, broker_pnl=None))


def _by_number(trades: Iterable[Trade]) -> dict[tuple[str, str], Trade]:
    return {(name, number): trade for trade in trades for name in ("transactionID", "tradeID") if (number := trade.row.id(name))}


def _cancelled_numbers(cancel: Trade) -> list[tuple[str, str]]:
    """Where the cancelled trade may be found: by the ids that the row gives of it, then by its own trade id."""
    named = [("transactionID", cancel.row.id("origTransactionID")), ("tradeID", cancel.row.id("origTradeID"))]
    return [key for key in (*named, ("tradeID", cancel.row.id("tradeID"))) if key[1]]
