"""What an entry, or a part of it, brings to a position: quantity, price, commission, premium.

Belongs here: turning fills, adjustments and lots into flows, and dividing them. Does not belong here: what they meet (walk.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO, known_total, ratio, relieve
from position_pipeline.accounting.lots import less, minus, new_tuple, plus, share_of
from position_pipeline.accounting.model import Basis, Lot, Side, weaker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Adjustment, EventType, Fees, Fill
    from position_pipeline.accounting.results import Carries

_NO_FEES: Fees = ()

# Python 3.11 takes as long to find a member of an enum by its name as for a multiplication; those that every fill needs are found once.
_BUY, _FROM_FILLS = Side.BUY, Basis.FILLS


@dataclass(slots=True)
class Flow:
    """What one entry, or a part of it, brings.

    `premium` is part of the amount: what came from an option, or what a price with finite decimals cannot say of a stated total. `None`
    in `price` or `premium` means that the amount is not known.
    """

    id: str
    time: datetime
    quantity: Decimal
    price: Decimal | None
    multiplier: Decimal
    commission: Decimal | None
    fees: Fees
    premium: Decimal | None
    basis: Basis
    event: EventType | None = None
    moves_premium: bool = False

    @property
    def amount(self) -> Decimal | None:
        """Quantity x price x multiplier, and the premium: signed like a cost, None where it is not known."""
        if self.price is None or self.premium is None:
            return None
        amount = self.quantity * self.price * self.multiplier
        return amount + self.premium if self.premium else amount


def flow_of_fill(fill: Fill, carries: Carries) -> Flow:
    """A commission in another currency than the trade's stays apart, in `fees`."""
    commission, fees = fill.commission, _NO_FEES
    premium: Decimal | None = ZERO
    if commission and fill.commission_currency and fill.commission_currency != fill.currency:
        commission, fees = ZERO, ((fill.commission_currency, commission),)
    quantity = fill.quantity if fill.side is _BUY else fill.quantity.copy_negate()
    if fill.premium_from:
        carried = carries.get(fill.premium_from)
        premium = None if carried is None else carried.premium_for(quantity, quantity)
    return Flow(fill.execution_id, fill.time, quantity, fill.price, fill.multiplier, commission, fees, premium, _FROM_FILLS)


def flow_of_adjustment(entry: Adjustment, quantity: Decimal) -> Flow:
    """What `quantity` of an adjustment's own quantity brings, with all of its commission."""
    premium, price = ZERO, entry.price
    if entry.cost is not None and entry.quantity:
        price = ratio(entry.cost, entry.quantity * entry.multiplier)
        # The stated total is kept to the last digit: what the rounded price per unit loses travels beside it.
        premium = relieve(entry.cost - entry.quantity * price * entry.multiplier, abs(quantity), abs(entry.quantity))
    basis = entry.basis if price is not None else Basis.UNKNOWN
    return Flow(entry.id, entry.time, quantity, price, entry.multiplier, entry.commission, _NO_FEES, premium, basis)


def flow_of_delivery(entry: Adjustment, quantity: Decimal, carries: Carries) -> Flow:
    """`quantity` of the shares that an assignment or exercise delivers, with their part of its premium and all of their commission."""
    carried = carries.get(entry.takes_from or "")
    premium = None if carried is None else carried.premium_for(quantity, entry.quantity)
    return Flow(entry.id, entry.time, quantity, entry.price, entry.multiplier, entry.commission, _NO_FEES, premium, entry.basis)


def flow_of_cash(entry: Adjustment, quantity: Decimal, cash: Decimal) -> Flow:
    """`quantity` units that go for `cash`, which is positive when received."""
    price = ratio(-cash, quantity * entry.multiplier)
    premium = -cash - quantity * price * entry.multiplier
    return Flow(entry.id, entry.time, quantity, price, entry.multiplier, ZERO, _NO_FEES, premium, Basis.FILLS)


def flow_of_lots(entry: Adjustment, lots: Sequence[Lot]) -> Flow:
    """Lots that come in against a position of the other sign: they close it at what they cost."""
    quantity = sum((lot.quantity for lot in lots), ZERO)
    cost = known_total(lot.cost for lot in lots)
    price = None if cost is None else ratio(cost, quantity * entry.multiplier)
    premium = ZERO if cost is None or price is None else cost - quantity * price * entry.multiplier
    fees, basis = _NO_FEES, Basis.FILLS
    for lot in lots:
        fees, basis = plus(fees, lot.fees), weaker(basis, lot.basis)
    commission = known_total(lot.commission for lot in lots)
    return Flow(entry.id, entry.time, quantity, price, entry.multiplier, commission, fees, premium, basis)


def lot_of(flow: Flow) -> Lot:
    """The lot that an entry opens. A premium is part of its cost, and so of its price."""
    amount, price, basis = flow.amount, flow.price, flow.basis
    if amount is None:
        price, basis = None, Basis.UNKNOWN
    elif flow.premium:
        price = ratio(amount, flow.quantity * flow.multiplier)
    return new_tuple(Lot, (flow.id, flow.time, flow.quantity, price, amount, flow.commission, basis, flow.fees))


def split_flow(flow: Flow, part: Decimal, whole: Decimal) -> tuple[Flow, Flow]:
    """(what `part` of the `whole` (both unsigned) of an entry brings, what the rest of it does)."""
    quantity = part.copy_sign(flow.quantity)
    commission = flow.commission and relieve(flow.commission, part, whole)
    premium = flow.premium and relieve(flow.premium, part, whole)
    fees = share_of(flow.fees, part, whole) if flow.fees else _NO_FEES
    left_commission, left_fees, left_premium = less(flow.commission, commission), minus(flow.fees, fees), less(flow.premium, premium)
    id_, time, price, multiplier, basis, event = flow.id, flow.time, flow.price, flow.multiplier, flow.basis, flow.event
    left, moves = flow.quantity - quantity, flow.moves_premium
    return (
        Flow(id_, time, quantity, price, multiplier, commission, fees, premium, basis, event, moves),
        Flow(id_, time, left, price, multiplier, left_commission, left_fees, left_premium, basis, event, moves),
    )
