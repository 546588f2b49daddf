"""The promise of a replay, summed from both ends: what the book says, and the cash that the lines say has moved.

Belongs here: cash per line, and the identity per currency. Does not belong here: booking, printing.

Net realised - remaining cost - open commission - cash received (sales - purchases - fees + capital returned + cash in lieu) is exactly 0.
The cash comes from the lines alone, the rest from closes and lots alone. A commission in another currency than the trade's is neither cost
nor cash of the trade: it stands in the identity of its own, as realised or open, and as cash.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, ZERO
from position_pipeline.accounting.model import Side

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from position_pipeline.accounting.model import Close, Lot, Position
    from position_pipeline.brokers.event_lines import Event
    from position_pipeline.replay_entries import Terms


class Identity:
    """Running sums per currency; what has been told to it is not kept."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)

    def fill(self, event: Event, terms: Terms) -> None:
        """Cash of a fill: sales come in, purchases and fees go out."""
        assert event.quantity is not None
        assert event.price is not None
        amount = EXACT.multiply(EXACT.multiply(event.quantity, event.price), terms.multiplier)
        self._receive(terms.currency, amount if event.side is Side.SELL else amount.copy_negate())
        self._pay(event.commission_currency or terms.currency, event.commission)

    def adjustment(self, event: Event, terms: Terms) -> None:
        """Cash of a split (in lieu of fractions), of capital returned, of an expiry (its fee)."""
        self._receive(terms.currency, event.capital or (event.amount if event.type == "split" else None) or ZERO)
        self._pay(terms.currency, event.commission)

    def delivery(self, event: Event, option: Terms, underlying: Terms) -> None:
        """Cash of an assignment or exercise: the strike for each unit delivered. A long call pays it, and so does a short put."""
        assert event.quantity is not None
        assert event.strike is not None
        amount = EXACT.multiply(EXACT.multiply(event.quantity, option.multiplier), event.strike)
        self._receive(underlying.currency, amount if event.right == "C" else amount.copy_negate())
        self._pay(event.commission_currency or underlying.currency, event.commission)

    def close(self, close: Close) -> None:
        for amount, sign in ((close.gross_pnl, 1), (close.opening_commission, -1), (close.closing_commission, -1)):
            self._add(close.currency, amount or ZERO, sign)
        for currency, fee in close.fees:
            self._add(currency, fee, -1)

    def of(self, positions: Iterable[Position]) -> dict[str, Decimal]:
        """The identity per currency, with the lots that the positions have now."""
        rest = Identity()
        rest._sums.update(self._sums)
        for position in positions:
            for lot in position.lots:
                rest._lot(position.currency, lot)
        return {currency: rest._sums[currency] for currency in sorted(rest._sums)}

    def _lot(self, currency: str, lot: Lot) -> None:
        self._add(currency, lot.cost or ZERO, -1)
        self._add(currency, lot.commission or ZERO, -1)
        for other, fee in lot.fees:
            self._add(other, fee, -1)

    def _receive(self, currency: str, amount: Decimal) -> None:
        self._add(currency, amount, -1)

    def _pay(self, currency: str, fee: Decimal) -> None:
        if fee:
            self._add(currency, fee, 1)

    def _add(self, currency: str, amount: Decimal, sign: int) -> None:
        self._sums[currency] = EXACT.add(self._sums[currency], amount if sign > 0 else amount.copy_negate())
