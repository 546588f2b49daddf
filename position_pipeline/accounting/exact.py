"""Exact decimal arithmetic: the one context, and the one place where money is rounded.

Belongs here: how numbers are multiplied, divided and rounded. Does not belong here: what the numbers mean.

Every product and sum of the book is exact. `EXACT` traps `Inexact`, so a rounding that nobody asked for is an exception, never a
wrong digit. It cannot overflow either: `MAX_DIGITS` bounds every number that comes in, the largest product (quantity x price x
multiplier, doubled once when a cost is split pro rata) stays far below `EXACT.prec`, and adding a million such numbers adds six digits.
"""

from __future__ import annotations

import re
from decimal import (
    ROUND_05UP,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)
from functools import cache, reduce
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

ZERO = Decimal(0)
MAX_DIGITS = 40
"""Most digits of a number that is let in: brokers send up to 24 decimals, and no position needs more than 16 digits before them."""

_NUMBER = re.compile(r"[+-]?(\d{1,100}(\.\d{0,100})?|\.\d{1,100})([eE][+-]?\d{1,3})?", re.ASCII)

MONEY_SCALE = Decimal("1e-10")
"""Money is rounded only where cost is relieved, half to even, at ten decimals."""
_MONEY_PLACES = 10

EXACT = Context(prec=300, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow, Inexact])
# ROUND_05UP keeps a sticky last digit, so that rounding its result once more gives what one rounding of the true quotient would.
_QUOTIENT = Context(prec=300, rounding=ROUND_05UP, traps=[InvalidOperation, DivisionByZero, Overflow])
_ROUNDING = Context(prec=300, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
# A quotient of three machine words, where those have all the digits that count, is made in a third of the time.
_SHORT_DIGITS = 57
_SHORT_QUOTIENT = Context(prec=_SHORT_DIGITS, rounding=ROUND_05UP, traps=[InvalidOperation, DivisionByZero, Overflow])


def exact() -> AbstractContextManager[Context]:
    """Within this block `+`, `-` and `*` of Decimals are exact or raise `decimal.Inexact`."""
    return localcontext(EXACT)


def relieve(total: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """The share of `total` that goes with `part` of `whole` (both > 0, same unit), rounded once at `MONEY_SCALE`.

    The whole takes exactly `total`, so whoever keeps `total - relieve(...)` loses no digit.
    """
    if part == whole or not total:
        return total
    return _divided(EXACT.multiply(total, part), whole, _MONEY_PLACES, MONEY_SCALE)


def ratio(total: Decimal, whole: Decimal, places: int = 18) -> Decimal:
    """`total / whole` rounded half-even at `places` decimals: for numbers that are shown or scaled, never for state that must add up."""
    return _divided(total, whole, places, _scale(places))


def _divided(total: Decimal, whole: Decimal, places: int, scale: Decimal) -> Decimal:
    """The quotient rounded once, half to even, at `scale`, which has so many `places`."""
    quotient = _SHORT_QUOTIENT.divide(total, whole)
    # The sticky digit has to stand behind the first one that is rounded away.
    if quotient.adjusted() > _SHORT_DIGITS - places - 3:
        quotient = _QUOTIENT.divide(total, whole)
    return _ROUNDING.quantize(quotient, scale)


@cache
def _scale(places: int) -> Decimal:
    return Decimal((0, (1,), -places))


def total(values: Iterable[Decimal]) -> Decimal:
    """The exact sum, whatever the context around it; 0 for none."""
    return reduce(EXACT.add, values, ZERO)


def known_total(values: Iterable[Decimal | None]) -> Decimal | None:
    """The exact sum, or None when one of the values is not known."""
    known: list[Decimal] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return total(known)


def number(text: str) -> Decimal:
    """The number that a text from outside says, with every digit; ValueError when it says none or has too many digits.

    Plain and scientific notation; no thousands separators, no infinities. At most `MAX_DIGITS` digits on either side of the point.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError("is not a number")
    value = Decimal(text)
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or len(digits) > MAX_DIGITS or not -MAX_DIGITS <= exponent <= MAX_DIGITS - len(digits):
        raise ValueError(f"has more than {MAX_DIGITS} digits")
    return value


def plain(value: Decimal) -> str:
    """The digits as people write them: no exponent, no trailing zeros, no negative zero."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
