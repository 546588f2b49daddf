"""Ratios in which units are exchanged: 4 for 1, 1 for 10, 3 for 2.

Belongs here: which ratio makes one quantity of another. Does not belong here: whether that happened (corporate.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO, plain, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable

_FORWARD, _REVERSE, _SMALL, _DIVIDEND = 100, 1000, 10, 50
"""Up to 100 for 1 and 1 for 1,000; 3 for 2 and the like with numbers up to 10; and stock dividends of 2 % (51 for 50) and more."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """`numerator` units for `denominator`; `fraction` is what of a unit was not given, and is paid for in cash."""

    numerator: Decimal
    denominator: Decimal
    fraction: Decimal = ZERO

    def __str__(self) -> str:
        return f"{plain(self.numerator)} for {plain(self.denominator)}"

    def booked_as(self, before: Decimal, now: Decimal, amount: Decimal | None) -> Ratio:
        """The ratio to book: this one, unless a fraction went for an amount that is not known. Then all the cost stays with whole units."""
        return self if not self.fraction or amount is not None else Ratio(abs(now), abs(before))


def simple(before: Decimal, now: Decimal) -> Ratio | None:
    """The ratio of small whole numbers that makes one quantity of the other exactly; None where there is none, or nothing changed."""
    if not before or not now or (before > 0) != (now > 0) or before == now:
        return None
    found = Fraction(now) / Fraction(before)
    n, d = found.numerator, found.denominator
    whole, dividend = (d == 1 and n <= _FORWARD) or (n == 1 and d <= _REVERSE), n == d + 1 and d <= _DIVIDEND
    return Ratio(Decimal(n), Decimal(d)) if whole or dividend or max(n, d) <= _SMALL else None


def whole_units(before: Decimal, now: Decimal, moved: Decimal | None) -> Ratio | None:
    """The ratio 1 for d of which whole units stayed. Several fit a small quantity: the price, which rose by `moved`, must tell which."""
    if not now or (before > 0) != (now > 0) or now != int(now) or abs(now) >= abs(before):
        return None
    last = min(int(ratio(before, now, 0)) + 1, _REVERSE)
    first = max(int(ratio(abs(before), abs(now) + 1, 0)) - 1, 2)
    fits = [found for d in range(first, last + 1) if (found := made(before, now, Decimal(1), Decimal(d))) is not None]
    near = [found for found in fits if moved is not None and abs(moved - found.denominator) <= Decimal("0.15") * found.denominator]
    near.sort(key=lambda found: (abs((moved or ZERO) - found.denominator), found.denominator))
    return next(iter(near), None) if moved is not None else _only(fits)


def made(before: Decimal, now: Decimal, numerator: Decimal, denominator: Decimal) -> Ratio | None:
    """The ratio, if it makes one quantity of the other: exactly, or with whole units kept."""
    exact_units = Fraction(before) * Fraction(numerator) / Fraction(denominator)
    if exact_units == Fraction(now):
        return Ratio(numerator, denominator)
    if now == int(now) and int(exact_units) == int(now):
        fraction = ratio(before * numerator, denominator) - now
        return Ratio(numerator, denominator, fraction)
    return None


def _only(found: Iterable[Ratio]) -> Ratio | None:
    several = list(found)
    return several[0] if len(several) == 1 else None
