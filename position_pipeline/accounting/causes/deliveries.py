"""Options that were delivered: assigned or exercised, so that shares came or went at the strike.

Belongs here: how many of each option of a group the shares tell of, what speaks for it, and the entries of both legs. Does not belong
here: options that end by themselves (options.py).
"""

from __future__ import annotations

from decimal import Decimal
from itertools import islice, product
from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.endings import CLEAR, End, expiry_of, held_at, key_of, moneyness, word_of
from position_pipeline.accounting.causes.expiries import next_opening_after
from position_pipeline.accounting.causes.figures import about, implied_price, money, signed
from position_pipeline.accounting.causes.scene import Verdict
from position_pipeline.accounting.exact import ZERO, plain, ratio
from position_pipeline.accounting.model import AdjustmentKind, BreakClass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from position_pipeline.accounting.causes.scene import Scene
    from position_pipeline.accounting.model import Adjustment, Instrument

_EXACTLY = Decimal("0.0005")
"""Delivery is paid at the strike to the cent; who sells the option and trades the shares pays something near it."""
_MOST = 10
"""So many expired options of one underlying are tried in every combination: 1,024 of them."""


def delivered_by(scene: Scene, group: Sequence[End], shares: Instrument | None, moved: Decimal) -> tuple[Decimal, ...] | None:
    """How many of each option were delivered, so that the shares add up; None where nothing or more than one thing fits."""
    by_price = _by_price(scene, group, shares)
    if by_price is not None and shares_for(group, by_price) == moved and (moved or any(by_price)):
        return by_price
    if not moved or len(group) > _MOST:
        return None
    choices = [(ZERO, end.count) if end.due else (end.count,) for end in group]
    fits = list(islice((each for each in product(*choices) if shares_for(group, each) == moved), 2))
    if len(fits) == 1:
        return fits[0]
    part = Decimal(int(ratio(moved, group[0].shares))) if len(group) == 1 else ZERO
    return (part,) if group[0].due and 0 < part < group[0].count and part * group[0].shares == moved else None


def _by_price(scene: Scene, group: Sequence[End], shares: Instrument | None) -> tuple[Decimal, ...] | None:
    inside = [moneyness(scene, end, shares) for end in group]
    if any(end.due is None for end in group) or any(each is None for each in inside):
        return None
    return tuple(end.count if each is not None and each > 0 else ZERO for end, each in zip(group, inside, strict=True))


def shares_for(group: Sequence[End], counts: Sequence[Decimal]) -> Decimal:
    return sum((end.shares * count for end, count in zip(group, counts, strict=True)), ZERO)


def delivery_of(scene: Scene, group: Sequence[End], counts: Sequence[Decimal], shares: Instrument, moved: Decimal) -> Verdict:
    ended = [(end, count) for end, count in zip(group, counts, strict=True) if count]
    paid = -sum((end.shares * count * end.strike for end, count in ended), ZERO)
    signs, against = _signs_of_delivery(scene, ended, shares, moved, paid)
    against += _signs_of_more(scene, [end for end, count in zip(group, counts, strict=True) if count != end.count], shares)
    against += _agreed_since(scene, [end for end, _ in ended], shares)
    words = ", ".join(f"{plain(count)} {end.it.instrument.symbol} {word_of(end)}" for end, count in ended)
    entries = tuple(_entries(scene, list(zip(group, counts, strict=True)), shares, "; ".join(signs)))
    paid_for = any(sign.startswith("cash") for sign in signs)
    shown = bool(moved) and (paid_for or not scene.differences[shares.id].gone)
    covered = (*(end.it.id for end in group), *((shares.id,) if moved else ()))
    return Verdict(
        BreakClass.OPTION_EVENT, covered, f"{words}: {signed(shares_for(group, counts))} {shares.symbol} at the strike",
        tuple(signs), tuple(against), entries, f"Book {words}; the premium moves to the shares",
        shown=shown,
        asks=not all(end.due for end in group) and scene.cash(group[0].it) is None,
    )  # fmt: skip


def _signs_of_delivery(
    scene: Scene, ended: Sequence[tuple[End, Decimal]], shares: Instrument, moved: Decimal, paid: Decimal
) -> tuple[list[str], list[str]]:
    signs, against = [], []
    first, it = ended[0][0], scene.differences.get(shares.id)
    if moved:
        signs.append(f"{shares.symbol} moved by {signed(moved)} with no fill, as these options deliver")
    cash = scene.cash(first.it)
    if cash is not None and about(cash, paid, _EXACTLY):
        signs.append(f"cash moved by {money(cash)}, and delivery at the strike moves it by {money(paid)}")
    elif cash is not None:
        against.append(f"cash moved by {money(cash)}, and delivery at the strike moves it by {money(paid)}")
    implied = None if it is None or len(ended) > 1 else implied_price(it)
    premium = first.it.before.average_price if first.it.before is not None else None
    if implied is not None and abs(implied - first.strike) <= (premium or ZERO) + CLEAR * first.strike:
        signs.append(f"by the broker's averages the shares came at {money(implied)}, the strike is {money(first.strike)}")
    if moved and it is not None and not it.gone and all(end.due for end, _ in ended):
        signs.append("the last trading day of the options is over")
    for end, _ in ended:
        inside = moneyness(scene, end, shares)
        if end.due and inside is not None and inside > 0:
            signs.append(f"{end.it.instrument.symbol} ended in the money: {shares.symbol} is at {money(scene.price(shares.id) or ZERO)}")
        elif inside is not None and inside < -CLEAR:
            against.append(f"{end.it.instrument.symbol} is out of the money: {shares.symbol} is at {money(scene.price(shares.id) or ZERO)}")
    if not moved and not any(sign.startswith("cash") for sign in signs):
        against.append("the shares add up to none, and no cash shows that any were delivered")
    return signs, against


def _agreed_since(scene: Scene, ended: Sequence[End], shares: Instrument) -> Iterator[str]:
    """Delivery comes by the next trading day: shares on which both sides agreed after that, and not on the option, moved otherwise."""
    it = scene.differences.get(shares.id)
    if it is not None and any(end.due and end.it.since < next_opening_after(end.due, shares.currency) <= it.since for end in ended):
        yield f"both sides agreed on {shares.symbol} at {it.since:%Y-%m-%d %H:%M} UTC, when any delivery had come"


def _signs_of_more(scene: Scene, worthless: Sequence[End], shares: Instrument) -> Iterator[str]:
    """What speaks against a worthless end of the others: they are in the money, or the book has a fill as their delivery makes one."""
    for end in worthless:
        inside = moneyness(scene, end, shares)
        if inside is not None and inside > CLEAR:
            yield f"{end.it.instrument.symbol} ended in the money too, and nothing that these shares tell delivers it"
        yield from legs_at_the_strike(scene, end, shares)


def legs_at_the_strike(scene: Scene, end: End, shares: Instrument) -> Iterator[str]:
    """Fills since the sides agreed that may be the share leg of some of these options."""
    for fill in sorted(scene.recent.fills, key=lambda fill: (fill.time, fill.execution_id)):
        of_it = fill.instrument == shares.id and fill.price == end.strike and (fill.signed_quantity > 0) == (end.shares > 0)
        if of_it and fill.time > end.it.since and not fill.quantity % abs(end.shares):
            yield f"fill {fill.execution_id} of {signed(fill.signed_quantity)} at its strike may deliver {end.it.instrument.symbol}"


def _entries(scene: Scene, counts: Sequence[tuple[End, Decimal]], shares: Instrument, evidence: str) -> Iterator[Adjustment]:
    """Each option ends, and its shares come: at one moment, each held as the entries before it at that moment leave it."""
    legs = []
    for end, count in counts:
        at = end.at
        left = end.it.broker - end.it.after(at) - (end.it.change if count else ZERO)
        if count:
            kind = AdjustmentKind.ASSIGNMENT if end.it.book < 0 else AdjustmentKind.EXERCISE
            left += count if end.it.change > 0 else -count
            leg = scene.adjustment(
                kind, end.it.instrument, key_of(end), at, quantity=count.copy_sign(end.it.change), held=left, evidence=evidence,
            )  # fmt: skip
            yield leg
            legs.append((at, leg.id, end, end.shares * count))
        if count != end.count:
            yield expiry_of(scene, end, end.count - count, evidence)
    it = scene.differences.get(shares.id)
    for number, (at, takes_from, end, delivered) in enumerate(sorted(legs, key=lambda leg: (leg[0], leg[1]))):
        later = sum((leg[3] for leg in sorted(legs, key=lambda leg: (leg[0], leg[1]))[number + 1 :]), ZERO)
        now = it.broker - it.after(at) if it is not None else held_at(scene, shares, at)
        yield scene.adjustment(
            AdjustmentKind.DELIVERY, shares, takes_from, at,
            quantity=delivered, held=now - later, price=end.strike, takes_from=takes_from, evidence=evidence,
        )  # fmt: skip
