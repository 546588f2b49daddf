"""What is wrong with an entry by itself, whatever the position: such an entry is refused, and nothing is guessed.

Belongs here: one rule a line, each with the words that a person reads. Does not belong here: what depends on the position, such as an
expiry of more contracts than are held (actions.py), and reading numbers from text (exact.number).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import MAX_DIGITS, plain
from position_pipeline.accounting.model import AdjustmentKind, Fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal

    from position_pipeline.accounting.model import Adjustment, Entry

_K = AdjustmentKind
_ENDS = (_K.EXPIRY, _K.ASSIGNMENT, _K.EXERCISE, _K.CASH_SETTLEMENT)
_CHANGE = (*_ENDS, _K.OPENING_LOT, _K.TRANSFER, _K.CONVERSION_OUT, _K.FEE_IN_KIND, _K.DELIVERY)
_NO_CHANGE = (_K.SPLIT, _K.SPIN_OFF, _K.RETURN_OF_CAPITAL, _K.REINVESTMENT, _K.VOID)
_NO_COMMISSION = (*_NO_CHANGE, _K.CONVERSION_OUT, _K.CONVERSION_IN, _K.FEE_IN_KIND, _K.ADOPTED)
_NEVER_INFERRED = (_K.OPENING_LOT, _K.RETURN_OF_CAPITAL, _K.REINVESTMENT)
_COST = (_K.OPENING_BALANCE, _K.OPENING_LOT, _K.TRANSFER)
_RULED_RATIO = (_K.SPLIT, _K.TRANSFER, _K.CONVERSION_OUT, _K.CONVERSION_IN)
_NUMBERS = ("quantity", "multiplier", "price", "cost", "commission", "numerator", "denominator", "amount", "share", "held")


def faults(entry: Entry) -> tuple[str, ...]:
    """Why an entry cannot be booked, in words; empty where nothing speaks against it."""
    return tuple(_of_fill(entry) if isinstance(entry, Fill) else _of_adjustment(entry))


def _of_fill(fill: Fill) -> Iterator[str]:
    unreal = _unreal({"quantity": fill.quantity, "price": fill.price, "multiplier": fill.multiplier, "commission": fill.commission})
    if unreal:
        yield unreal
        return
    if fill.quantity < 0:
        yield f"its quantity {plain(fill.quantity)} is negative: the side says whether it was bought or sold"
    if fill.multiplier <= 0:
        yield f"its multiplier {plain(fill.multiplier)} is not above 0"
    if not fill.currency:
        yield "it has no currency"
    if not fill.execution_id:
        yield "it has no execution id"
    if fill.revision < 0:
        yield f"its revision {fill.revision} is below 0"


def _of_adjustment(entry: Adjustment) -> Iterator[str]:
    unreal = _unreal({name: getattr(entry, name) for name in _NUMBERS})
    if unreal:
        yield unreal
        return
    kind = entry.kind
    if entry.multiplier <= 0:
        yield f"its multiplier {plain(entry.multiplier)} is not above 0"
    if not entry.currency:
        yield "it has no currency"
    if kind in _CHANGE and not entry.quantity:
        yield f"a {kind} of 0 changes nothing"
    if kind in _NO_CHANGE and entry.quantity:
        yield f"a {kind} has no quantity of its own, and this one says {plain(entry.quantity)}"
    if kind in _NO_COMMISSION and entry.commission:
        yield f"a {kind} has no commission, and this one says {plain(entry.commission)}: what was paid is an entry of its own"
    yield from _of_what_the_kind_has(entry)


def _of_what_the_kind_has(entry: Adjustment) -> Iterator[str]:
    kind = entry.kind
    if kind in _NEVER_INFERRED and entry.held is not None:
        yield f"a {kind} does not follow from what is held, and this one says that {plain(entry.held)} are"
    if entry.cost is not None and kind not in (*_COST, _K.ADOPTED):
        yield f"its cost of {plain(entry.cost)} has no meaning in a {kind}"
    if kind in _RULES:
        yield from _RULES[kind](entry)
    if kind not in _RULED_RATIO:
        yield from _stated_ratio(entry)
    if kind is not _K.SPIN_OFF and entry.share is not None:
        yield from _share(entry)


def _unreal(numbers: dict[str, Decimal | None]) -> str:
    """The first number that is none, such as NaN, or that has too many digits for exact arithmetic."""
    for name, value in numbers.items():
        if value is not None and not value.is_finite():
            return f"its {name} is {value}"
        if value and not -2 * MAX_DIGITS <= int(value.as_tuple().exponent) <= value.adjusted() < MAX_DIGITS:
            return f"its {name} has more than {MAX_DIGITS} digits"
    return ""


def _ratio(entry: Adjustment) -> Iterator[str]:
    for name, value in (("numerator", entry.numerator), ("denominator", entry.denominator)):
        if value is None or value <= 0:
            yield f"its {name} {'is missing' if value is None else f'{plain(value)} is not above 0'}"


def _stated_ratio(entry: Adjustment) -> Iterator[str]:
    if entry.numerator is not None or entry.denominator is not None:
        yield from _ratio(entry)


def _conversion_in(entry: Adjustment) -> Iterator[str]:
    yield from _ratio(entry)
    if not entry.takes_from:
        yield "it does not say which entry it takes its lots from"


def _share(entry: Adjustment) -> Iterator[str]:
    if entry.share is None or not 0 <= entry.share <= 1:
        yield f"its share {'is missing' if entry.share is None else f'{plain(entry.share)} is not between 0 and 1'}"


def _amount(entry: Adjustment) -> Iterator[str]:
    if not entry.amount:
        yield f"a {entry.kind} of no amount changes nothing"


def _adopted(entry: Adjustment) -> Iterator[str]:
    if entry.held is None:
        yield "it does not say what the broker held"
    if entry.cost is not None:
        yield "it has a cost in all, and what it books of that depends on what else is there: it may have a price"


def _delivery(entry: Adjustment) -> Iterator[str]:
    yield from _price(entry)
    if not entry.takes_from:
        yield "it does not say which assignment or exercise it delivers for"


def _void(entry: Adjustment) -> Iterator[str]:
    if not entry.takes_from:
        yield "it does not say which fill stands for nothing"


def _price(entry: Adjustment) -> Iterator[str]:
    if entry.price is None:
        yield "it does not say what was paid per unit"


_RULES: dict[AdjustmentKind, Callable[[Adjustment], Iterator[str]]] = {
    _K.SPLIT: _ratio,
    _K.TRANSFER: _stated_ratio,
    _K.CONVERSION_OUT: _stated_ratio,
    _K.CONVERSION_IN: _conversion_in,
    _K.SPIN_OFF: _share,
    _K.RETURN_OF_CAPITAL: _amount,
    _K.REINVESTMENT: _amount,
    _K.CASH_SETTLEMENT: _price,
    _K.ADOPTED: _adopted,
    _K.DELIVERY: _delivery,
    _K.VOID: _void,
}
