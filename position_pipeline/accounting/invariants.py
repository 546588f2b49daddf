"""What must always hold, as functions of values: the same ones run in the tests and behind the asset checks.

Belongs here: claims about the book that can be computed. Does not belong here: reading the rows, telling anyone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO, exact

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass(frozen=True, slots=True)
class CashFlow:
    """Sums over one (account, instrument), all in the instrument's currency and exact.

    - `realized`: net P&L of the closes whose basis is known; `cost`, `open_commission`: of the open lots.
    - `traded`: sales - purchases - commissions of all believed fills.
    - `contributed`: cost and commission of what came in without a fill (opening balances and lots).
    - `handed_over`: premium that assigned or exercised options gave away (signed like a cost); `taken_up`: what share legs took.
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


def cash_identity(flow: CashFlow) -> Decimal:
    """Net realised - remaining cost - open commissions - cash received: exactly 0, or a figure of the book is wrong."""
    with exact():
        received = flow.traded - flow.contributed + flow.handed_over - flow.taken_up - flow.unknown
        return flow.realized - flow.cost - flow.open_commission - received
