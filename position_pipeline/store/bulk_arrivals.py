"""Which fills of a large delivery are new, without asking PostgreSQL about each.

Belongs here: telling fills that are surely new from those that have to be looked up, and those that are plainly sound from those that
have to be looked at. Does not belong here: what a known fill may be completed with (accounting.arrivals), what is wrong with one
(accounting.faults).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import MAX_DIGITS, ZERO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from position_pipeline.accounting.model import Fill

BITS = 1 << 27
LAST = BITS - 1


class Seen:
    """Ids that may have been there: 16 MB however many there are.

    An id that was there is always found. One that was not may be found too, and is looked up for nothing: with a million ids that happens
    to one in a hundred thousand.
    """

    def __init__(self) -> None:
        self._bits = bytearray(BITS >> 3)

    def found(self, ids: Iterable[str]) -> set[str]:
        """Those of the ids that may have been there before, twice within `ids` included; from now on all of them have."""
        bits, found = self._bits, set()
        for id_ in ids:
            number, known = hash(id_), True
            for place in (number & LAST, number >> 19 & LAST, number >> 37 & LAST):
                byte, bit = place >> 3, 1 << (place & 7)
                if not bits[byte] & bit:
                    known = False
                    bits[byte] |= bit
            if known:
                found.add(id_)
        return found


def parted(fills: Sequence[Fill], seen: set[str]) -> tuple[list[Fill], list[Fill]]:
    """(surely new and complete, to be looked up): a commission has its currency and none has none, or it is looked at again."""
    sure: list[Fill] = []
    doubtful: list[Fill] = []
    for fill in fills:
        plain = fill.execution_id not in seen and (fill.commission is None) == (not fill.commission_currency)
        (sure if plain else doubtful).append(fill)
    return sure, doubtful


def is_plainly_sound(fill: Fill) -> bool:
    """Whether accounting.faults surely finds nothing, which takes it several times as long: all numbers are of a common size."""
    commission = ZERO if fill.commission is None else fill.commission
    numbers = f"{fill.quantity!s} {fill.price!s} {fill.multiplier!s} {commission!s}"
    return bool(_are_common(numbers)) and fill.quantity >= 0 and fill.multiplier > 0 and bool(fill.currency)


# Few characters in all, digits only: no exponent, infinity or NaN is among them, and none has too many digits.
_are_common = re.compile(rf"[-.0-9 ]{{7,{MAX_DIGITS}}}").fullmatch
