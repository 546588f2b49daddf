"""One account's history in one instrument, and what follows from it, as IBKR counts.

Here: the arithmetic of the simulated broker: average cost per unit with multiplier and commissions, realised P&L with
the commissions of both sides, cash. It is an independent oracle and shares no code with the product's accounting.
Not here: prices (`market.py`), accounts (`book.py`).

Worked example, an option of multiplier 100 on top of 2 at 3501.05:
    buy 3 at 42.00, commission 3.15:  cost 2 x 3501.05 + 3 x 42 x 100 + 3.15 = 19605.25, average 19605.25 / 5 = 3921.05
    sell 5 at 40.00, commission 4.00: realised 5 x 40 x 100 - 4.00 - 19605.25 = 390.75
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal

SHOWN = Decimal("0.00000001")
ZERO = Decimal(0)


@dataclass(frozen=True)
class Execution:
    """One fill as the broker reports it. `reported` is False while its commission report is held back."""

    exec_id: str
    account: str
    con_id: int
    side: str
    quantity: Decimal
    price: Decimal
    time: datetime
    commission: Decimal
    currency: str
    exchange: str = "SMART"
    perm_id: int = 0
    order_id: int = 0
    client_id: int = 0
    cumulative: Decimal = ZERO
    average_price: Decimal = ZERO
    reported: bool = True
    order_known: bool = False
    order_ref: str = ""
    liquidation: int = 0
    last_liquidity: int = 2
    pending_price_revision: bool = False

    @property
    def signed(self) -> Decimal:
        return self.quantity if self.side == "BOT" else -self.quantity

    @property
    def revision(self) -> int:
        return int(self.exec_id.rpartition(".")[2])

    @property
    def family(self) -> str:
        """The exec id without its last component: the same for a fill and its corrections."""
        return self.exec_id.rpartition(".")[0]


@dataclass(frozen=True)
class Split:
    """`ratio` new units for each old one; the total cost stays."""

    ratio: Decimal
    time: datetime


@dataclass(frozen=True)
class Holding:
    """Signed quantity and signed total cost: negative for a short, where cost is what was received less commission."""

    quantity: Decimal = ZERO
    cost: Decimal = ZERO

    @property
    def average_cost(self) -> Decimal:
        """Per unit, with the eight decimals that the broker shows; 0 when flat."""
        if not self.quantity:
            return ZERO
        return (self.cost / self.quantity).quantize(SHOWN, ROUND_HALF_EVEN)


@dataclass(frozen=True)
class Effect:
    """What one execution did. `realized` is None for an execution that only opens."""

    holding: Holding
    realized: Decimal | None
    cash: Decimal


def apply(holding: Holding, fill: Execution, factor: Decimal, *, daily_settled: bool = False) -> Effect:
    """The holding after a fill. A fill through zero closes with its share of the commission and opens with the rest."""
    value = fill.signed * fill.price * factor
    closing = _closing_quantity(holding.quantity, fill.signed)
    if not closing:
        opened = Holding(holding.quantity + fill.signed, holding.cost + value + fill.commission)
        return Effect(opened, None, ZERO if daily_settled else -value - fill.commission)
    share = closing / fill.signed
    relieved = holding.cost * (-closing / holding.quantity)
    commission = fill.commission * share
    realized = -value * share - commission - relieved
    left = Holding(holding.quantity + fill.signed, holding.cost - relieved)
    if share != 1:
        left = Holding(left.quantity, value * (1 - share) + (fill.commission - commission))
    return Effect(left, realized, realized if daily_settled else -value - fill.commission)


def _closing_quantity(held: Decimal, signed: Decimal) -> Decimal:
    """The part of a fill, with its sign, that reduces what is held."""
    if held * signed >= 0:
        return ZERO
    return signed if abs(signed) <= abs(held) else -held


class Ledger:
    """Entries in order, folded as they come; refolded when an old one changes."""

    def __init__(self, start: Holding, factor: Decimal, *, daily_settled: bool = False) -> None:
        self.base = start
        self.base_cash = ZERO
        self.entries: list[Execution | Split] = []
        self._factor, self._daily_settled = factor, daily_settled
        self._reset()

    def restart(self, base: Holding, cash: Decimal) -> None:
        """Begin anew from a holding and the cash that went with it."""
        self.base, self.base_cash, self.entries = base, cash, []
        self._reset()

    def _reset(self) -> None:
        self.holding, self.cash = self.base, self.base_cash
        self.realized: dict[str, Decimal | None] = {}
        self.realized_on: dict[date, Decimal] = defaultdict(Decimal)

    def add(self, entry: Execution | Split) -> None:
        self.entries.append(entry)
        self._fold(entry)

    def _fold(self, entry: Execution | Split) -> None:
        if isinstance(entry, Split):
            self.holding = replace(self.holding, quantity=self.holding.quantity * entry.ratio)
            return
        effect = apply(self.holding, entry, self._factor, daily_settled=self._daily_settled)
        self.holding, self.cash = effect.holding, self.cash + effect.cash
        self.realized[entry.exec_id] = effect.realized
        if effect.realized is not None:
            self.realized_on[entry.time.date()] += effect.realized

    def substitute(self, exec_id: str, entry: Execution | None) -> None:
        """Another version in the place of an execution, or nothing; everything after it is counted anew."""
        place = next(n for n, one in enumerate(self.entries) if isinstance(one, Execution) and one.exec_id == exec_id)
        self.entries[place : place + 1] = [] if entry is None else [entry]
        self._reset()
        for each in self.entries:
            self._fold(each)

    def forget_before(self, moment: datetime) -> None:
        """Fold old entries into the base, so that a simulator that runs for ever stays small."""
        old = [entry for entry in self.entries if entry.time < moment]
        if not old or self.entries[: len(old)] != old:
            return
        recent = self.entries[len(old) :]
        self.entries = old
        self._reset()
        for entry in old:
            self._fold(entry)
        self.restart(self.holding, self.cash)
        for entry in recent:
            self.add(entry)
