"""Which verdict counts for each difference, and what is done about it: carried out, adopted, or left open.

Belongs here: the window, the guard against answers from which much has vanished, adoption, and the words of a break. Does not belong here:
what speaks for a cause (causes), comparing the sides (reconciliation.py).

A strong verdict (two independent signs or more, none against it) is carried out at once. Everything else stays as a break: as `timing`
while a fill may still come, then as what most signs speak for, with its proposal. What is well founded and not certain (two signs more
than there are against it) waits for a person; of the rest the quantity is adopted. Nothing is done about an instrument

- that trades within a minute of the answer: nobody can say which of those fills the answer has;
- that is gone together with too many others (`Policy.vanishing`): an answer that forgot them looks the same;
- whose break a person has dismissed, while its figures stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from position_pipeline.accounting.causes import CAUSES
from position_pipeline.accounting.causes.expiries import closing_of
from position_pipeline.accounting.causes.figures import implied_price, money, signed
from position_pipeline.accounting.causes.scene import CLOCKS, Difference, Scene, Verdict
from position_pipeline.accounting.causes.trades import IMPORT
from position_pipeline.accounting.exact import ZERO, plain
from position_pipeline.accounting.impacts import impact_of
from position_pipeline.accounting.model import AdjustmentKind, Break, BreakClass, SnapshotStatus, Subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from position_pipeline.accounting.model import Adjustment, Fill


@dataclass(slots=True)
class Outcome:
    """What comes of the differences of one account."""

    adjustments: list[Adjustment] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    resolved: list[Break] = field(default_factory=list)
    alarm: str = ""


def decide(scene: Scene) -> Outcome:
    """One outcome for all differences of a scene."""
    verdicts = [verdict for cause in CAUSES for it in scene.differences.values() for verdict in cause(scene, it)]
    missing = _missing(scene, verdicts)
    outcome = Outcome(alarm=_alarm(scene, missing))
    taken: set[str] = set()
    for verdict in verdicts:
        covered = [scene.differences[each] for each in verdict.instruments]
        if verdict.strong and taken.isdisjoint(verdict.instruments) and all(_may_be_changed(scene, it, missing) for it in covered):
            taken.update(verdict.instruments)
            _carry_out(scene, verdict, covered, outcome)
    free: dict[str, list[Verdict]] = {each: [] for each in scene.differences if each not in taken}
    for verdict in verdicts:
        if taken.isdisjoint(verdict.instruments):
            for each in verdict.instruments:
                free[each].append(verdict)
    for each, several in free.items():
        _leave_open(scene, scene.differences[each], _best(several), missing, outcome)
    return outcome


def _best(verdicts: Iterable[Verdict]) -> Verdict | None:
    """What most signs speak for; the first of several. What more speaks against than for it is none."""
    likely = (each for each in verdicts if each.weight >= 0)
    return max(likely, key=lambda each: each.weight, default=None)


# What nothing is done about


def _missing(scene: Scene, verdicts: Iterable[Verdict]) -> frozenset[str]:
    """Positions that are gone, and nothing shows why, if they are too many of what was held; else none.

    An option whose last day is over is expected to be gone, and what became something else is not missing: these do not count. Where the
    others are too many, nothing is done about those that have expired either.
    """
    shown = {each for verdict in verdicts if verdict.shown and verdict.strong for each in verdict.instruments}
    expected = {each for each in scene.book if _is_over(scene, each)} | shown
    held = {each for each, side in scene.book.items() if side.quantity} - scene.snapshot.unread - expected
    gone = {each for each, it in scene.differences.items() if it.gone}
    missing = gone & held
    if missing and (missing == held or len(missing) > scene.policy.vanishing * len(held)):
        return frozenset(gone - shown)
    return frozenset()


def _is_over(scene: Scene, instrument: str) -> bool:
    known = scene.instruments.get(instrument)
    closing = None if known is None or not known.expiry else closing_of(known)
    return closing is not None and closing <= scene.snapshot.taken_at


def _alarm(scene: Scene, missing: frozenset[str]) -> str:
    """One position that is gone may be a sale whose fill is late: it is an alarm only when that was seen as often as the policy says."""
    if not missing or (len(missing) == 1 and all(scene.differences[each].seen < scene.policy.snapshots for each in missing)):
        return ""
    held = sum(1 for each, side in scene.book.items() if side.quantity and each not in scene.snapshot.unread)
    symbols = ", ".join(scene.instruments[each].symbol for each in sorted(missing)[:5]) + (", ..." if len(missing) > 5 else "")
    return (
        f"{len(missing)} of {held} positions of {scene.snapshot.account} are gone from the broker's answer at once ({symbols}), and "
        "nothing shows why. None of them was closed. Compare with the broker's own window, then sync again."
    )


def _may_be_changed(scene: Scene, it: Difference, missing: frozenset[str]) -> bool:
    return it.id not in missing and not scene.moving(it) and not _dismissed(it)


def _dismissed(it: Difference) -> bool:
    return it.standing is not None and it.standing.dismissed and _same_figures(it)


def _same_figures(it: Difference) -> bool:
    return it.standing is not None and (it.standing.book_quantity, it.standing.broker_quantity) == (it.book, it.broker)


# What is done


def _carry_out(scene: Scene, verdict: Verdict, covered: list[Difference], outcome: Outcome) -> None:
    known = {entry.id for entry in outcome.adjustments}
    outcome.adjustments += [entry for entry in verdict.proposed if entry.id not in known]
    outcome.resolved += [_break(scene, it, verdict.cls, verdict, "The book follows.") for it in covered]


def _leave_open(scene: Scene, it: Difference, verdict: Verdict | None, missing: frozenset[str], outcome: Outcome) -> None:
    late = _told_too_late(scene, it)
    if it.id in missing:
        words = "Too much is gone from this answer at once: nothing is closed, and the position keeps the book's quantity."
        outcome.breaks.append(_break(scene, it, BreakClass.TIMING if _in_window(scene, it) else BreakClass.UNKNOWN, None, words))
    elif late:
        names = ", ".join(f"{fill.execution_id} of {fill.time:%H:%M:%S} UTC" for fill in late)
        words = f"The answer is from before fill {names}: the next one will have it."
        outcome.breaks.append(_break(scene, it, BreakClass.TIMING, None, words))
    elif _in_window(scene, it) and not _is_to_be_closed(scene, it, verdict) and not _is_well_founded(verdict):
        words = "A fill of it may still come, or the broker's list may be late. The position keeps the book's quantity."
        outcome.breaks.append(_break(scene, it, BreakClass.TIMING, None, words))
    else:
        _adopt_or_ask(scene, it, verdict, missing, outcome)


def _adopt_or_ask(scene: Scene, it: Difference, verdict: Verdict | None, missing: frozenset[str], outcome: Outcome) -> None:
    cls = BreakClass.UNKNOWN if verdict is None else verdict.cls
    closes = _is_to_be_closed(scene, it, verdict)
    adopts = scene.policy.adopts and not it.gone and not _in_window(scene, it)
    if (closes or adopts) and _may_be_changed(scene, it, missing) and not _is_well_founded(verdict):
        entry = _adoption(scene, it)
        outcome.adjustments.append(entry)
        cost = "at a cost that is not known" if entry.price is None else f"at {money(entry.price)} a unit by the broker's averages"
        coming = "" if it.gone or abs(it.broker) < abs(it.book) else f", {cost}"
        words = f"The book follows the broker from now on{coming}, until a fill, a statement or a person explains it."
        outcome.breaks.append(_break(scene, it, cls, verdict, words))
    else:
        outcome.breaks.append(_break(scene, it, cls, verdict, "The position keeps the book's quantity."))


def _is_well_founded(verdict: Verdict | None) -> bool:
    """Whether there is an explanation that a person should see before anything else is done; a fill that is missing may still come."""
    return verdict is not None and verdict.weight > 1 and not verdict.late


def _in_window(scene: Scene, it: Difference) -> bool:
    return it.seen < scene.policy.snapshots or scene.snapshot.taken_at < it.began_at + scene.policy.window


def _is_to_be_closed(scene: Scene, it: Difference, verdict: Verdict | None) -> bool:
    """Whether a position that is gone is closed because complete snapshots in a row say so; not while what it became may still come."""
    if not it.gone or (verdict is not None and verdict.clears_at is not None and scene.snapshot.taken_at < verdict.clears_at):
        return False
    before = it.standing.broker_quantity if it.standing is not None else None
    complete = scene.snapshot.status is SnapshotStatus.COMPLETE
    return scene.policy.closes_missing and complete and it.seen_whole >= scene.policy.snapshots and before == ZERO


def _adoption(scene: Scene, it: Difference) -> Adjustment:
    coming = not it.gone and (abs(it.broker) > abs(it.book) or (it.book > 0) != (it.broker > 0))
    return scene.adjustment(
        AdjustmentKind.ADOPTED, it.instrument, it.began_at.isoformat(), scene.snapshot.taken_at,
        quantity=it.change, held=it.broker, price=implied_price(it) if coming else None,
        evidence=f"The broker holds {plain(it.broker)}; the book explains {plain(it.book)} (seen since {it.began_at:%Y-%m-%d %H:%M} UTC).",
    )  # fmt: skip


def _told_too_late(scene: Scene, it: Difference) -> list[Fill]:
    """The last fills, if the answer lacks just them: they are from after it, or within a minute of it."""
    fresh = [fill for fill in it.fills if fill.time >= scene.snapshot.taken_at - CLOCKS]
    for number in range(len(fresh)):
        if sum((fill.signed_quantity for fill in fresh[number:]), ZERO) == -it.change:
            return fresh[number:]
    return []


# Words


def _break(scene: Scene, it: Difference, cls: BreakClass, verdict: Verdict | None, consequence: str) -> Break:
    sentences = [f"The book holds {plain(it.book)}, the broker {plain(it.broker)} ({signed(it.change)})."]
    if verdict is not None:
        sentences.append(f"{verdict.says}: {'; '.join(verdict.signs)}." if verdict.signs else f"{verdict.says}.")
        sentences += [f"Against it: {'; '.join(verdict.against)}."] if verdict.against else []
    elif cls is BreakClass.UNKNOWN:
        sentences.append("No fill, and nothing else that is known, explains it.")
    impact, currency = impact_of(scene, it)
    covered = (it.id,) if verdict is None else verdict.instruments
    return Break(
        account=scene.snapshot.account,
        instrument=it.id,
        subject=Subject.QUANTITY,
        cls=cls,
        book_quantity=it.book,
        broker_quantity=it.broker,
        evidence=" ".join([*sentences, consequence]),
        proposal=_what_helps(scene, it, cls) if verdict is None else verdict.proposal,
        signs=() if verdict is None else verdict.signs,
        proposed=() if verdict is None else verdict.proposed,
        cause=f"{cls}:{scene.snapshot.account}:{','.join(covered)}:{min(scene.differences[each].began_at for each in covered).isoformat()}",
        expected_clear_at=it.began_at + scene.policy.window if cls is BreakClass.TIMING else None if verdict is None else verdict.clears_at,
        impact=impact,
        impact_currency=currency,
    )


def _what_helps(scene: Scene, it: Difference, cls: BreakClass) -> str:
    """While a fill may still come, waiting does."""
    if cls is not BreakClass.TIMING:
        return IMPORT
    return f"Wait until {it.began_at + scene.policy.window:%H:%M} UTC. If it stands then: {IMPORT[0].lower()}{IMPORT[1:]}"
