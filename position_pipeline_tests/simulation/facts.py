"""What happened, one fact at a time: the complete list of them is all that the true book is made of.

Belongs here: the value. Does not belong here: how facts come about (world.py), what they come to (checker.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.model import Side

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class Fact:
    """One thing that happened, for good. `quantity` is signed, `price` per unit; `cost` is a total.

    Kinds: open, trade, split, in, out (transfers), expiry, ended (an option that was delivered), gave and took (a conversion).
    """

    id: str
    kind: str
    account: str
    con_id: int
    time: datetime
    quantity: Decimal = Decimal(0)
    price: Decimal | None = None
    commission: Decimal = Decimal(0)
    revision: int = 1
    numerator: int = 1
    denominator: int = 1
    takes_from: str = ""
    side: Side = Side.BUY
