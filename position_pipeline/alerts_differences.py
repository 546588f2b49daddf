"""What is wrong between book and broker: from breaks to troubles, one for each cause.

Belongs here: which breaks are one trouble, which pass by themselves, and in how many words they are put. Pure. Does not belong here: other
causes (alerts_causes), reading the rows (store.alerting), what of it is told (alerts).
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline import show
from position_pipeline.accounting.exact import total
from position_pipeline.alerts import Kind, Trouble, cut
from position_pipeline.alerts_causes import Row, digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime, timedelta

IMPACTS = (Decimal(1_000), Decimal(10_000), Decimal(100_000), Decimal(1_000_000))
"""In the currency of the impact; a difference that comes to ten times as much is worse, and told again."""


def of_breaks(rows: Iterable[Row], now: datetime, least: Decimal, next_answer: timedelta) -> list[Trouble]:
    """One trouble for each cause: an option and the shares that it became are one. `least`: impacts below it are not told.

    `next_answer` is how long it takes at most until an answer after any moment is there and looked into.

    Its key is the id of its first break, which stays while more is learned of it: what is taken for another cause than before is the same
    trouble, and no recovery.
    """
    causes: dict[str, list[Row]] = defaultdict(list)
    guarded = set()
    for row in rows:
        causes[row["cause"] or row["id"]].append(row)
        if row["instrument"] is None and row["status"] != "dismissed":
            guarded.add(row["account"])
    return [_of_cause(found, guarded, now, least, next_answer) for found in causes.values()]


def _of_cause(every: Sequence[Row], guarded: Collection[str], now: datetime, least: Decimal, next_answer: timedelta) -> Trouble:
    """`guarded` are accounts of which too much is gone at once: that is told, and not each position that is gone."""
    rows = [row for row in every if row["status"] != "dismissed"] or every
    first = rows[0]
    whole = first["instrument"] is None
    accounts = tuple(sorted({row["account"] for row in rows}))
    return Trouble(
        cause=f"break:{first['id']}",
        kind=Kind.GUARD if whole else Kind.BREAK,
        accounts=accounts,
        headline=_headline(rows),
        says=" ".join(filter(None, (_class_in_words(rows), cut(first["evidence"]), first["proposal"]))),
        helps=f"position-pipeline breaks show {first['id']}",
        since_at=min(row["first_seen_at"] for row in rows),
        digest=digest(*sorted(_data(row) for row in rows)),
        impact_class=_impact_class(rows),
        grave=whole,
        quiet=all(_passes(row, now, least, next_answer) or _is_guarded(row, guarded) for row in rows),
        dismissed=first["status"] == "dismissed",
        covers=tuple(f"break:{row['id']}" for row in every if row is not first),
    )


def _passes(row: Row, now: datetime, least: Decimal, next_answer: timedelta) -> bool:
    """It may clear by itself until a time that has not come, or is too small to be told.

    The first answer after that time says what it is: until then there is nothing to tell but that time is over.
    """
    waits = row["expected_clear_at"] is not None and now < row["expected_clear_at"] + next_answer
    small = row["impact"] is not None and row["impact"] < least
    return (row["class"] == "timing" and waits) or small


def _is_guarded(row: Row, guarded: Collection[str]) -> bool:
    return row["account"] in guarded and bool(row["book_quantity"]) and row["broker_quantity"] == 0


def _data(row: Row) -> str:
    """The difference, not both sides: a position that is traded moves on while what is missing stays the same."""
    sides = row["broker_quantity"], row["book_quantity"]
    apart = "" if None in sides else show.quantity(sides[0] - sides[1])
    return f"{row['account']} {row['instrument']} {row['subject']} {row['class']} {apart} {row['adopted'] or ''}"


def _headline(rows: Sequence[Row]) -> str:
    first = rows[0]
    more = f" (and {show.counted(len(rows) - 1, 'more break')} of the same cause)" if len(rows) > 1 else ""
    if first["instrument"] is None:
        return f"{first['account']}: the broker's answer as a whole is doubtful ({first['class']}){more}"
    if first["subject"] != "quantity":
        return f"{first['symbol']} in {first['account']}: {first['subject']} differs{more}"
    ours, theirs = show.quantity(first["book_quantity"]), show.quantity(first["broker_quantity"])
    if first["adopted"] and ours == theirs:
        return f"{first['symbol']} in {first['account']}: the book follows the broker's {theirs} unexplained{more}"
    sides = f"book {ours}, broker {theirs}"
    return f"{first['symbol']} in {first['account']}: {sides}{more}"


def _class_in_words(rows: Sequence[Row]) -> str:
    sums = _sums(rows)
    worth = ", ".join(f"{show.money(amount)} {currency}" for currency, amount in sorted(sums.items()))
    adopted = " The book follows the broker until a fact explains it." if any(row["adopted"] for row in rows) else ""
    return f"{rows[0]['class']}, worth {worth or 'an unknown amount'}.{adopted}"


def _sums(rows: Sequence[Row]) -> dict[str, Decimal]:
    """What the breaks of a cause are worth, a currency at a time."""
    amounts = defaultdict(list)
    for row in rows:
        if row["impact"] is not None:
            amounts[row["impact_currency"]].append(row["impact"])
    return {currency: total(each) for currency, each in amounts.items()}


def _impact_class(rows: Sequence[Row]) -> int:
    """How many of `IMPACTS` are reached; what has no price is not taken for small."""
    sums = _sums(rows)
    if not sums:
        return 1
    return max(sum(amount >= step for step in IMPACTS) for amount in sums.values())
