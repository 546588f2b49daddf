"""One account's history in one instrument, and what follows from it, as IBKR counts.

Here: the arithmetic of the simulated broker: average cost per unit with multiplier and commissions, realised P&L with
the commissions of both sides, cash. It is an independent oracle and shares no code with the product's accounting.
Not here: prices (`market.py`), accounts (`book.py`).

Worked example, an option of multiplier 100 on top of 2 at 3501.05:
    buy 3 at 42.00, commission 3.15:  cost 2 x 3501.05 + 3 x 42 x 100 + 3.15 = 19605.25, average 19605.25 / 5 = 3921.05
    sell 5 at 40.00, commission 4.00: realised 5 x 40 x 100 - 4.00 - 19605.25 = 390.75

An assignment or exercise realises nothing in the option. Its premium goes with the shares: a put sold for 299.00 net and assigned at 50
makes 100 shares that cost 100 x 50 - 299.00 = 4701.00, while 5000 is paid.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal

SHOWN = Decimal("0.00000001")
ZERO = Decimal(0)


@dataclass(frozen=True)
class Execution:
    """One fill as the broker reports it. `reported` is False while its commission report is held back.

    `premium` is what an option that delivered these units had brought (negative: had cost); it lowers their cost and is no cash of today.
    `listed` is False for what the broker books without ever showing it among the executions.
    """

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
    premium: Decimal = ZERO
    listed: bool = True

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
class Move:
    """Units that come or go with no execution. What comes has a `cost`; what goes leaves at its average and realises nothing.

    `passed`: its cost is in another instrument now, so that no fill before it can be changed any more.
    """

    quantity: Decimal
    cost: Decimal | None
    time: datetime
    passed: bool = False


@dataclass(frozen=True)
class End:
    """Units that expire worthless: what they had cost is realised, with no cash and no commission."""

    quantity: Decimal
    time: datetime


Entry = Execution | Split | Move | End


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
    fee = fill.commission - fill.premium
    closing = _closing_quantity(holding.quantity, fill.signed)
    if not closing:
        opened = Holding(holding.quantity + fill.signed, holding.cost + value + fee)
        return Effect(opened, None, ZERO if daily_settled else -value - fill.commission)
    share = closing / fill.signed
    relieved = holding.cost * (-closing / holding.quantity)
    realized = -value * share - fee * share - relieved
    left = Holding(holding.quantity + fill.signed, holding.cost - relieved)
    if share != 1:
        left = Holding(left.quantity, value * (1 - share) + (fee - fee * share))
    return Effect(left, realized, realized if daily_settled else -value - fill.commission)


def move(holding: Holding, entry: Move) -> Holding:
    """The holding after units came or went. Raises ValueError where more would go than is held, or what comes has no cost."""
    after = holding.quantity + entry.quantity
    if _closing_quantity(holding.quantity, entry.quantity):
        if after and (after > 0) != (holding.quantity > 0):
            raise ValueError(f"{entry.quantity} units cannot leave a holding of {holding.quantity}")
        return Holding(after, holding.cost * (after / holding.quantity))
    if entry.cost is None:
        raise ValueError(f"{entry.quantity} units that come need a cost")
    return Holding(after, holding.cost + entry.cost)


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
        self.entries: list[Entry] = []
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

    def add(self, entry: Entry) -> None:
        self._fold(entry)
        self.entries.append(entry)

    def _fold(self, entry: Entry) -> None:
        if isinstance(entry, Split):
            self.holding = replace(self.holding, quantity=self.holding.quantity * entry.ratio)
            return
        if isinstance(entry, Move):
            self.holding = move(self.holding, entry)
            return
        if isinstance(entry, End):
            left = move(self.holding, Move(entry.quantity, None, entry.time))
            self.realized_on[entry.time.date()] -= self.holding.cost - left.cost
            self.holding = left
            return
        effect = apply(self.holding, entry, self._factor, daily_settled=self._daily_settled)
        self.holding, self.cash = effect.holding, self.cash + effect.cash
        self.realized[entry.exec_id] = effect.realized
        if effect.realized is not None:
            self.realized_on[entry.time.date()] += effect.realized

    def has_passed(self, exec_id: str) -> bool:
        """Whether units with what they cost have gone into another instrument since this execution."""
        place = next(n for n, one in enumerate(self.entries) if isinstance(one, Execution) and one.exec_id == exec_id)
        return any(isinstance(entry, Move) and entry.passed for entry in self.entries[place:])

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
