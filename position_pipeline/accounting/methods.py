"""The cost methods: which lot a closing entry consumes next, and whether openings merge into one lot.

Belongs here: one line a method. Does not belong here: what is done with the lot (walk.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.model import Lot, Method

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Picking(NamedTuple):
    """A cost method: the index of the lot that goes next, and whether openings merge into one lot."""

    next: Callable[[Sequence[Lot]], int]
    pools: bool = False


def _highest_cost(lots: Sequence[Lot]) -> int:
    """The lot that realises least: the dearest of a long, the cheapest of a short. Lots of unknown cost go last."""
    sign = 1 if lots[0].quantity > 0 else -1
    known = [i for i, lot in enumerate(lots) if lot.price is not None]
    return max(known, key=lambda i: (sign * (lots[i].price or ZERO), -i), default=0)


METHODS: dict[Method, Picking] = {
    Method.FIFO: Picking(lambda _lots: 0),
    Method.LIFO: Picking(lambda _lots: -1),
    Method.HIFO: Picking(_highest_cost),
    Method.AVERAGE: Picking(lambda _lots: 0, pools=True),
}
