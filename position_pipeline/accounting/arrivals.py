"""What is new in a delivery of fills: the same fill comes from the API again and again, and once more from a statement.

Belongs here: telling new fills and adjustments from known ones, and completing what a known one lacked. Does not belong here: what a
fill does to a position (booking.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from position_pipeline.accounting.model import Adjustment, Entry, Fill

    Key = tuple[str, int]

STATEMENT_SOURCES = frozenset({"flex"})
"""Sources that are the broker's final word: commissions in them include taxes and later re-rating."""

_FACTS_OF_FILL = ("instrument", "side", "quantity", "price", "multiplier", "currency")
_FACTS_OF_ADJUSTMENT = (
    *("instrument", "kind", "time", "quantity", "price", "cost", "commission", "multiplier", "currency"),
    *("numerator", "denominator", "amount", "share", "takes_from"),
)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A fill or an adjustment that contradicts a known one of the same id and revision; the known one stays."""

    entry: Entry
    reason: str


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`new` was not known, `completed` replaces a known fill that lacked something, `conflicts` are refused.

    `rebook` are the instruments whose book rests on something that has changed, because a fill has another revision now, or other figures:
    each with the time of the earliest that any revision of such a fill says, until which nothing has changed.
    """

    new: tuple[Fill, ...]
    completed: tuple[Fill, ...]
    conflicts: tuple[Conflict, ...]
    rebook: Mapping[str, datetime]


def sift(known: Mapping[Key, Fill], incoming: Iterable[Fill]) -> Arrivals:
    """Compare delivered fills of one account with the known ones, by (execution_id, revision).

    `known` has all revisions of every execution that is delivered.
    """
    seen = dict(known)
    new: dict[Key, Fill] = {}
    completed: dict[Key, Fill] = {}
    conflicts: list[Conflict] = []
    for fill in map(_with_currency, incoming):
        key = (fill.execution_id, fill.revision)
        before = seen.get(key)
        if before is None:
            seen[key] = new[key] = fill
            continue
        difference = _differs_in(before, fill, _FACTS_OF_FILL) or _names_others(before, fill)
        if difference:
            conflicts.append(Conflict(fill, f"execution {fill.execution_id} revision {fill.revision} {difference}"))
            continue
        after = _complete(before, fill)
        if after != before:
            seen[key] = after
            (new if key in new else completed)[key] = after
    changed = [each for key, fill in completed.items() if _rebooks(known[key], fill) for each in (known[key], fill)]
    rebook = _earliest((*_revised(seen.values(), new.values()), *changed))
    return Arrivals(tuple(new.values()), tuple(completed.values()), tuple(conflicts), rebook)


def contradictions(known: Mapping[str, Adjustment], incoming: Iterable[Adjustment]) -> tuple[Conflict, ...]:
    """The adjustments that came again with something else under a known id; one that says the same is none."""
    found = ((entry, _differs_in(known[entry.id], entry, _FACTS_OF_ADJUSTMENT)) for entry in incoming if entry.id in known)
    return tuple(Conflict(entry, f"{entry.kind} {entry.id} {difference}") for entry, difference in found if difference)


def _revised(seen: Iterable[Fill], new: Iterable[Fill]) -> list[Fill]:
    """All revisions of new fills of which there is more than one."""
    named: dict[str, list[Fill]] = {}
    for fill in seen:
        named.setdefault(fill.execution_id, []).append(fill)
    return [each for fill in new if len(named[fill.execution_id]) > 1 for each in named[fill.execution_id]]


def _earliest(fills: Iterable[Fill]) -> dict[str, datetime]:
    """When the first of the fills of each instrument was."""
    times: dict[str, datetime] = {}
    for fill in fills:
        times[fill.instrument] = min(fill.time, times.get(fill.instrument, fill.time))
    return times


def _rebooks(before: Fill, after: Fill) -> bool:
    """Whether the completion is one that the book shows: not the order id, nor what the broker says of its own P&L."""
    names = ("commission", "commission_currency", "sequence", "premium_from", "time", "closes_lots")
    return any(getattr(before, name) != getattr(after, name) for name in names)


def _with_currency(fill: Fill) -> Fill:
    """A commission whose currency is not told is in that of the trade; one that has not come has none."""
    currency = None if fill.commission is None else fill.commission_currency or fill.currency
    return fill if fill.commission_currency == currency else fill._replace(commission_currency=currency)


def _differs_in(known: Entry, entry: Entry, names: Iterable[str]) -> str:
    """The first of some fields in which two entries of one id differ, in words; '' where they agree."""
    for name in names:
        before, now = getattr(known, name), getattr(entry, name)
        if before != now:
            return f"is known with {name} {before}, and came again with {now}: two different ones under one id"
    return ""


def _names_others(known: Fill, fill: Fill) -> str:
    """In words, where both name lots that they close, and not the same; a delivery that names none says nothing of it."""
    before, now = ({(name, plain(quantity)) for name, quantity in each.closes_lots} for each in (known, fill))
    if not before or not now or before == now:
        return ""
    named = (", ".join(f"{quantity} of {name}" for name, quantity in sorted(each)) for each in (before, now))
    return "is known with closes_lots {}, and came again with {}: two different ones under one id".format(*named)


def _complete(known: Fill, fill: Fill) -> Fill:
    """What either says. Where both do, the statement's word stands over the API's, else the known one's: the order must not matter.

    Only the time is the API's: a statement may have been made without times of day.
    """
    theirs, ours = _is_final(fill), _is_final(known)
    first, other = (fill, known) if theirs and not ours else (known, fill)
    paid = other if first.commission is None else first
    return first._replace(
        time=fill.time if ours and not theirs else known.time,
        commission=paid.commission,
        commission_currency=paid.commission_currency,
        sequence=other.sequence if first.sequence is None else first.sequence,
        premium_from=first.premium_from or other.premium_from,
        broker_pnl=other.broker_pnl if first.broker_pnl is None else first.broker_pnl,
        order_id=first.order_id or other.order_id,
        closes_lots=first.closes_lots or other.closes_lots,
    )


def _is_final(fill: Fill) -> bool:
    return fill.source in STATEMENT_SOURCES
