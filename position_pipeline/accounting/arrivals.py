"""What is new in a delivery of fills: the same fill comes from the API again and again, and once more from a statement.

Belongs here: telling new fills from known ones, and completing what a known one lacked. Does not belong here: what a fill does to a
position (booking.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from position_pipeline.accounting.model import Fill

    Key = tuple[str, int]

STATEMENT_SOURCES = frozenset({"flex"})
"""Sources that are the broker's final word: commissions in them include taxes and later re-rating."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A fill that contradicts a known one of the same id and revision; the known one stays."""

    fill: Fill
    reason: str


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`new` was not known, `completed` replaces a known fill that lacked something, `conflicts` are refused."""

    new: tuple[Fill, ...]
    completed: tuple[Fill, ...]
    conflicts: tuple[Conflict, ...]


def sift(known: Mapping[Key, Fill], incoming: Iterable[Fill]) -> Arrivals:
    """Compare delivered fills of one account with the known ones, by (execution_id, revision)."""
    seen = dict(known)
    new: dict[Key, Fill] = {}
    completed: dict[Key, Fill] = {}
    conflicts: list[Conflict] = []
    for fill in incoming:
        key = (fill.execution_id, fill.revision)
        before = seen.get(key)
        if before is None:
            seen[key] = new[key] = fill
            continue
        difference = _difference(before, fill)
        if difference:
            conflicts.append(Conflict(fill, difference))
            continue
        after = _complete(before, fill)
        if after != before:
            seen[key] = after
            (new if key in new else completed)[key] = after
    return Arrivals(tuple(new.values()), tuple(completed.values()), tuple(conflicts))


def _difference(known: Fill, fill: Fill) -> str:
    for name in ("instrument", "side", "quantity", "price", "currency"):
        before, now = getattr(known, name), getattr(fill, name)
        if before != now:
            return (
                f"execution {fill.execution_id} revision {fill.revision} is known with {name} {before}, "
                f"and came again with {now}: two different fills under one id"
            )
    return ""


def _complete(known: Fill, fill: Fill) -> Fill:
    """What the known fill lacked is taken over; of two commissions the statement's stands."""
    final = fill.source in STATEMENT_SOURCES and known.source not in STATEMENT_SOURCES
    commission, currency = known.commission, known.commission_currency
    if fill.commission is not None and (commission is None or final):
        commission, currency = fill.commission, fill.commission_currency
    return replace(
        known,
        commission=commission,
        commission_currency=currency,
        sequence=fill.sequence if known.sequence is None else known.sequence,
        premium_from=known.premium_from or fill.premium_from,
        broker_pnl=fill.broker_pnl if known.broker_pnl is None else known.broker_pnl,
        order_id=known.order_id or fill.order_id,
        source=fill.source if final else known.source,
    )
