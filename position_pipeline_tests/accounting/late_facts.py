"""Invented accounts of which some facts come late: what happened, what was told in time, what was inferred from snapshots meanwhile.

Belongs here: such accounts, as values. Does not belong here: expectations, databases.

The facts are a story of histories.py, nonsense included. Now and then a snapshot shows what all facts have come to by then. Where what was
told in time does not explain it, something is inferred, and often it is the wrong thing: an expiry where there was a sale, a split for a
purchase. However wrong, it has to give way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.booking import fold_together, in_order
from position_pipeline.accounting.exact import EXACT
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis, Fill, Method
from position_pipeline_tests.accounting.histories import INSTRUMENTS, OPTION, OTHER, STOCK, read
from position_pipeline_tests.accounting.ledger import ACCOUNT, minute

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from random import Random

    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Entry, Position

K = AdjustmentKind


@dataclass(frozen=True)
class LateFacts:
    """`facts` are all that happened; `in_time` were told at once, `inferred` came of the snapshots, `late` come in batches in the end."""

    method: Method
    flat: Mapping[str, Position]
    facts: Sequence[Entry]
    in_time: Sequence[Entry]
    inferred: Sequence[Adjustment]
    late: Sequence[Sequence[Entry]]

    def fold(self, entries: Sequence[Entry]) -> dict[str, Booked]:
        return fold_together(self.flat, in_order(entries))

    def steps(self) -> list[list[Entry]]:
        """All that is known, as one late batch comes after the other."""
        known: list[Entry] = [*self.in_time, *self.inferred]
        found = [list(known)]
        for batch in self.late:
            known += batch
            found.append(list(known))
        return found


def late_facts(content: bytes, draw: Random) -> LateFacts:
    """One account. The same tape and the same numbers give the same one."""
    story = read(content, infers=False)
    missing = [entry for entry in story.entries if draw.random() < draw.choice((0.15, 0.5))]
    in_time = [entry for entry in story.entries if entry not in missing]
    inferred: list[Adjustment] = []
    for after in sorted(draw.sample(range(1, story.clock + 1), min(story.clock, draw.choice((1, 1, 2, 4))))):
        at = minute(after) + timedelta(seconds=30)
        truth = _quantities(story.flat, story.entries, at)
        running = _quantities(story.flat, [*in_time, *inferred], at)
        inferred += _inferences(_Snapshot(draw, at, running, truth, story.multipliers, len(inferred)))
    draw.shuffle(missing)
    size = draw.choice((1, 2, 5, 99))
    batches = [missing[start : start + size] for start in range(0, len(missing), size)]
    return LateFacts(story.method, story.flat, story.entries, in_time, inferred, batches)


def _quantities(flat: Mapping[str, Position], entries: Sequence[Entry], at: datetime) -> dict[str, Decimal]:
    booked = fold_together(flat, in_order(entry for entry in entries if entry.time <= at))
    return {name: booked[name].position.quantity for name in INSTRUMENTS}


@dataclass
class _Snapshot:
    """One look at the account: what is inferred from it, with ids that tell their order."""

    draw: Random
    at: datetime
    running: Mapping[str, Decimal]
    truth: Mapping[str, Decimal]
    multipliers: Mapping[str, Decimal]
    number: int

    def change(self, instrument: str) -> Decimal:
        return EXACT.subtract(self.truth[instrument], self.running[instrument])

    def goes_out(self, instrument: str) -> bool:
        """Whether the position only got smaller."""
        change, running = self.change(instrument), self.running[instrument]
        return bool(change) and bool(running) and (change > 0) != (running > 0) and abs(change) <= abs(running)

    def infer(self, kind: AdjustmentKind, instrument: str, quantity: Decimal | None = None, **more: object) -> Adjustment:
        self.number += 1
        quantity = self.change(instrument) if quantity is None else quantity
        values = {"held": self.truth[instrument], "multiplier": self.multipliers[instrument], "basis": Basis.BROKER} | more
        return Adjustment(f"i{self.number:03d}", ACCOUNT, instrument, kind, self.at, quantity, "USD", **values)


def _inferences(look: _Snapshot) -> list[Adjustment]:
    legs = look.draw.choice((_delivery, _conversion, _spin_off, lambda _: []))(look)
    named = {entry.instrument for entry in legs}
    return [*legs, *(_alone(look, name) for name in INSTRUMENTS if name not in named and look.change(name))]


def _delivery(look: _Snapshot) -> list[Adjustment]:
    """An option that got smaller beside shares that changed, whatever the numbers."""
    shares = [name for name in (STOCK, OTHER) if look.change(name)]
    if not look.goes_out(OPTION) or not shares:
        return []
    option = look.infer(look.draw.choice((K.ASSIGNMENT, K.EXERCISE)), OPTION)
    return [option, look.infer(K.DELIVERY, shares[0], price=Decimal(50), takes_from=option.id)]


def _conversion(look: _Snapshot) -> list[Adjustment]:
    for one, other in ((STOCK, OTHER), (OTHER, STOCK)):
        if look.goes_out(one) and look.change(other):
            ratio = {"numerator": abs(look.change(other)), "denominator": abs(look.change(one))}
            out = look.infer(K.CONVERSION_OUT, one, **ratio)
            return [out, look.infer(K.CONVERSION_IN, other, takes_from=out.id, **ratio)]
    return []


def _spin_off(look: _Snapshot) -> list[Adjustment]:
    for one, other in ((STOCK, OTHER), (OTHER, STOCK)):
        if look.running[one] and look.change(other) and not look.change(one):
            ratio = {"numerator": abs(look.change(other)), "denominator": abs(look.running[one])}
            parent = look.infer(K.SPIN_OFF, one, Decimal(0), share=Decimal("0.3"))
            return [parent, look.infer(K.CONVERSION_IN, other, takes_from=parent.id, **ratio)]
    return []


def _alone(look: _Snapshot, instrument: str) -> Adjustment:
    running, truth = look.running[instrument], look.truth[instrument]
    kinds = [K.ADOPTED, K.ADOPTED, K.TRANSFER]
    if look.goes_out(instrument):
        kinds += [K.EXPIRY, K.CASH_SETTLEMENT, K.FEE_IN_KIND]
    if running and truth and (running > 0) == (truth > 0):
        kinds.append(K.SPLIT)
    kind = look.draw.choice(kinds)
    if kind is K.SPLIT:
        return look.infer(kind, instrument, Decimal(0), numerator=abs(truth), denominator=abs(running))
    price = Decimal(40) if kind is K.CASH_SETTLEMENT else look.draw.choice((None, Decimal("12.5")))
    return look.infer(kind, instrument, price=None if kind is K.FEE_IN_KIND else price)


def fills_and_adjustments(entries: Sequence[Entry]) -> tuple[list[Fill], list[Adjustment]]:
    return [entry for entry in entries if isinstance(entry, Fill)], [entry for entry in entries if isinstance(entry, Adjustment)]
