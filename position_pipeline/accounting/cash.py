"""Where the cash of one instrument came from and went to, computed from the entries and what booking gave back, for the cash identity.

Belongs here: `cash_flow_of`, which looks at each entry by itself: what it paid, what it brought without cash, what it handed over. Nothing
here follows lots or knows a cost method, so that it can vouch for the walk. Does not belong here: the identity itself (invariants.py).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO, exact
from position_pipeline.accounting.flows import flow_of_adjustment, flow_of_fill
from position_pipeline.accounting.methods import METHODS
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Fill

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from position_pipeline.accounting.model import Close, Entry, Lot, PositionEvent
    from position_pipeline.accounting.results import Booked, Move, Refusal

_K = AdjustmentKind
_ENDS = (_K.EXPIRY, _K.ASSIGNMENT, _K.EXERCISE, _K.CASH_SETTLEMENT)
_PREMIUM = (_K.ASSIGNMENT, _K.EXERCISE)
_BRINGS = (_K.OPENING_BALANCE, _K.OPENING_LOT, _K.TRANSFER)


@dataclass(frozen=True, slots=True)
class CashFlow:
    """Sums over one (account, instrument), all in the instrument's currency and exact.

    - `realized`: net P&L of the closes whose basis is known; `cost`, `open_commission`: of the open lots.
    - `traded`: sales - purchases - commissions of all believed fills, and the cash of all other entries.
    - `contributed`: cost and commission of what came in without cash (opening balances and lots, transfers, conversions).
    - `handed_over`: premium that assigned or exercised options gave away, and cost and commission of lots that left (signed like a
      cost); `taken_up`: what share legs took of premiums.
    - `unknown`: cash of the closes whose basis is unknown, which are in no P&L: their proceeds less commissions, less what the closed
      lots had cost where that is known.
    """

    realized: Decimal = ZERO
    cost: Decimal = ZERO
    open_commission: Decimal = ZERO
    traded: Decimal = ZERO
    contributed: Decimal = ZERO
    handed_over: Decimal = ZERO
    taken_up: Decimal = ZERO
    unknown: Decimal = ZERO


@dataclass(slots=True)
class _Entry:
    """One entry with all that booking says of it."""

    entry: Entry
    closes: list[Close] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    events: list[PositionEvent] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def is_booked(self) -> bool:
        return all(refusal.quantity is not None for refusal in self.refusals)

    @property
    def change(self) -> Decimal:
        return sum((event.quantity_after - event.quantity_before for event in self.events), ZERO)


def cash_flow_of(entries: Iterable[Entry], booked: Booked) -> CashFlow:
    """The flow of one instrument whose whole history, from flat, is `entries`; `booked` is what `fold` made of it.

    Its identity is 0 for every history. Only where costs are not known is a sum taken from what was booked.
    """
    with exact():
        told = _told(entries, booked)
        traded, contributed, handed, taken, unknown = (sum(column, ZERO) for column in zip(*map(_flows, told), strict=True))
        known = [close for close in booked.closes if close.gross_pnl is not None]
        return CashFlow(
            realized=sum(((close.gross_pnl or ZERO) - _commissions(close) for close in known), ZERO),
            cost=sum((lot.cost or ZERO for lot in booked.position.lots), ZERO),
            open_commission=booked.position.open_commission,
            traded=traded,
            contributed=contributed + _taken_up(told, booked),
            handed_over=handed + _handed_over(told, booked),
            taken_up=taken,
            unknown=unknown + sum(map(_went_unknown, filter(_is_unknown, booked.closes)), ZERO) - _lost_in_pool(told, booked),
        )
