"""Wash sales (US): which losses a tax return may not claim, and the lots whose basis they raise. A report on top, never part of the book.

A loss is disallowed, unit for unit, in so far as units were bought within 30 days before or after the sale: in the order in which they
were acquired, other units than those sold, each used once. What is disallowed is added to the basis of the units bought::

    BUY  100 @ 50   Jan  2
    SELL 100 @ 40   Mar  3      a loss of 1000
    BUY   60 @ 42   Mar 20      within 30 days: 60/100 of the loss, 600, is disallowed; the 60 cost 2520 + 600 for the tax return

Belongs here: the rule for one account and instrument. Does not belong here: other accounts, options on the same stock or "substantially
identical" securities, which a person must judge; and units are compared as they are, with no split between the sale and the purchase.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from position_pipeline.accounting.exact import ZERO, exact, relieve

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date, datetime, tzinfo
    from decimal import Decimal

    from position_pipeline.accounting.model import Close, Fill

WINDOW = timedelta(days=30)
NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class WashSale:
    """A part of the loss of one close that is disallowed because of one purchase.

    `quantity` (unsigned) units sold by `execution_id` from the lot of `opening_id` met as many of the lot of `replacement_id`, whose
    basis a tax return raises by `disallowed` (positive, in `currency`).
    """

    execution_id: str
    opening_id: str
    replacement_id: str
    quantity: Decimal
    disallowed: Decimal
    currency: str


@dataclass(slots=True)
class _Purchase:
    """Units that one fill opened. Of units that are sold, those that were used as a replacement are taken to go first.

    `added` is what is left of the losses that raised their basis, `raised` the units that it lies on: the used ones not sold since.
    """

    id: str
    time: datetime
    long: bool
    opened: Decimal
    sold: Decimal = ZERO
    used: Decimal = ZERO
    added: Decimal = ZERO
    raised: Decimal = ZERO


@dataclass(slots=True)
class _Report:
    zone: tzinfo
    purchases: Sequence[_Purchase]
    found: list[WashSale] = field(default_factory=list)

    def sell(self, closes: Sequence[Close]) -> None:
        """All closes of one closing fill: what it sells of any lot is no replacement."""
        bases = [self._leave(close) for close in closes]
        for close, basis in zip(closes, bases, strict=True):
            if close.net_pnl is not None and close.net_pnl < basis:
                self._match(close, basis - close.net_pnl)

    def _leave(self, close: Close) -> Decimal:
        """The units go; returns what earlier disallowed losses had added to their basis."""
        purchase = next((each for each in self.purchases if each.id == close.opening_id), None)
        if purchase is None:
            return ZERO
        gone = abs(close.quantity)
        purchase.sold += gone
        part = min(gone, purchase.raised)
        basis = relieve(purchase.added, part, purchase.raised) if part else ZERO
        purchase.added, purchase.raised = purchase.added - basis, purchase.raised - part
        return basis

    def _match(self, close: Close, loss: Decimal) -> None:
        whole = left = abs(close.quantity)
        for purchase in self.purchases:
            units = min(left, self._available(purchase, close))
            if units:
                disallowed = relieve(loss, units, whole)
                loss, whole, left = loss - disallowed, whole - units, left - units
                purchase.used, purchase.raised, purchase.added = purchase.used + units, purchase.raised + units, purchase.added + disallowed
                ids = (close.execution_id, close.opening_id, purchase.id)
                self.found.append(WashSale(*ids, units, disallowed, close.currency))

    def _available(self, purchase: _Purchase, close: Close) -> Decimal:
        """Units of a purchase that may replace those sold: of the window, another lot, still held then, and not used yet."""
        near = abs(self._day(purchase.time) - self._day(close.closed_at)) <= WINDOW
        if not near or purchase.id == close.opening_id or purchase.long != (close.quantity > 0):
            return ZERO
        return min(purchase.opened - purchase.sold, purchase.opened - purchase.used)

    def _day(self, at: datetime) -> date:
        return at.astimezone(self.zone).date()


def wash_sales(closes: Iterable[Close], fills: Iterable[Fill], zone: tzinfo = NEW_YORK) -> tuple[WashSale, ...]:
    """The disallowed losses of one account and instrument, in the order of the sales.

    `closes` are those of the book in its order and `fills` the believed ones; days are counted in `zone`. A loss on a short is treated
    alike, with units sold short again. Closes whose net P&L is not known are left out: nothing is guessed.
    """
    with exact():
        groups: dict[str, list[Close]] = {}
        for close in closes:
            groups.setdefault(close.execution_id, []).append(close)
        report = _Report(zone, _purchases(groups, fills))
        for group in sorted(groups.values(), key=lambda each: each[0].closed_at):
            report.sell(group)
        return tuple(report.found)


def _purchases(groups: dict[str, list[Close]], fills: Iterable[Fill]) -> list[_Purchase]:
    """What each fill opened, beyond what it closed, in order of acquisition."""
    closed = defaultdict(lambda: ZERO, {name: sum((close.quantity for close in group), ZERO) for name, group in groups.items()})
    opened = [(fill, fill.signed_quantity + closed[fill.execution_id]) for fill in fills]
    return [
        _Purchase(fill.execution_id, fill.time, quantity > 0, abs(quantity))
        for fill, quantity in sorted(opened, key=lambda pair: (pair[0].time, pair[0].execution_id))
        if quantity
    ]
