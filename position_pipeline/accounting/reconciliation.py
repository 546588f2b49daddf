"""What a proven snapshot means for the book: `reconcile` says what to mark, to adjust and to call a break, and why.

Belongs here: comparing the union of both sides, and the order in which verdicts are reached. Does not belong here: why a quantity differs
(causes), what is done about it (verdicts.py), costs (costs.py), opening balances (first_contact.py), carrying it out (store), where
snapshots come from (brokers).

Quantities match exactly. First contact makes opening balances of what no fill explains; at any later time a difference has a cause, is
adopted by the rules of `Policy`, or stays a break. Nothing here has a clock: now is when the snapshot was taken.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.scene import CLOCKS, Difference, Scene
from position_pipeline.accounting.circumstances import BookSide, Policy, Recent, Reconciliation
from position_pipeline.accounting.costs import cost_break
from position_pipeline.accounting.exact import ZERO, exact, plain
from position_pipeline.accounting.first_contact import opening_balance
from position_pipeline.accounting.model import Break, BreakClass, Holding, SnapshotStatus, Subject
from position_pipeline.accounting.verdicts import decide

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from decimal import Decimal

    from position_pipeline.accounting.circumstances import Standing
    from position_pipeline.accounting.model import Fill, Instrument, Snapshot

__all__ = ["CLOCKS", "NOT_BOOKED", "BookSide", "Policy", "Recent", "Reconciliation", "differing", "reconcile"]

NOT_BOOKED = frozenset({"CASH", "BAG"})
"""Kinds that are never positions: conversions of currency move cash, a combination is known by its legs."""


def differing(book: Mapping[str, BookSide], snapshot: Snapshot) -> frozenset[str]:
    """The instruments of which both sides hold something else, without those that could not be read.

    The cheap first step: where it finds nothing and no break stands, `reconcile` needs nothing of the recent past.
    """
    held = {holding.instrument: holding.quantity for holding in snapshot.holdings}
    ours = {instrument for instrument, side in book.items() if side.quantity != held.get(instrument, ZERO)}
    return frozenset(
        (ours | {instrument for instrument, quantity in held.items() if quantity and instrument not in book}) - snapshot.unread
    )


def reconcile(
    book: Mapping[str, BookSide],
    snapshot: Snapshot,
    instruments: Mapping[str, Instrument],
    *,
    first_contact: bool,
    unmet: frozenset[str] = frozenset(),
    recent: Recent = Recent(),  # noqa: B008 - immutable
    policy: Policy = Policy(),  # noqa: B008 - immutable
) -> Reconciliation:
    """Compare the union of both sides of one account, quantities exactly.

    `instruments` are those of both sides, and the underlyings of options as far as they are known. Instruments that the snapshot could not
    read keep everything, and are breaks of class `snapshot_incomplete`; `unmet` are those that no snapshot could read before this one.
    At first contact, what the fills do not explain becomes an opening balance, unless a statement has told what was held before.

    A break that a person has dismissed is in the answer all the same, with nothing done about it while its figures stay: it is the register
    that keeps quiet about it.
    """
    held = {holding.instrument: holding for holding in snapshot.holdings}
    differ = {each for each in differing(book, snapshot) if instruments[each].sec_type not in NOT_BOOKED}
    opening = {each for each in differ if (first_contact or each in unmet) and _side(book, each).listed}
    agreed = frozenset((set(book) | set(held)) - snapshot.unread - differ)
    with exact():
        scene = Scene(snapshot, book, held, instruments, recent, policy)
        found = decide(replace(scene, differences=_differences(scene, sorted(differ - opening))))
        fills = _fills_of(recent, opening)
        balances = [opening_balance(snapshot, _side(book, i), _holding(held, i), instruments[i], fills[i]) for i in sorted(opening)]
        explained = {entry.instrument for entry in found.adjustments} | {e.instrument for each in found.breaks for e in each.proposed}
        compared = sorted((agreed & held.keys() & book.keys()) - explained)
        costs = (cost_break(snapshot, book[each], held[each], instruments[each]) for each in compared)
        breaks = (
            *found.breaks,
            *_adopted(snapshot, recent, agreed),
            *(each for each in costs if each is not None),
            *_incomplete(snapshot, book, instruments),
        )
    return Reconciliation(agreed, (*balances, *found.adjustments), breaks, tuple(found.resolved), found.alarm)


def _side(book: Mapping[str, BookSide], instrument: str) -> BookSide:
    return book.get(instrument) or BookSide(ZERO)


def _holding(held: Mapping[str, Holding], instrument: str) -> Holding:
    return held.get(instrument) or Holding(instrument, ZERO)


# The scene


def _differences(scene: Scene, differ: list[str]) -> dict[str, Difference]:
    fills = _fills_of(scene.recent, differ)
    standing = {each.instrument: each for each in scene.recent.standing if each.subject is Subject.QUANTITY}
    return {each: _difference(scene, each, standing.get(each), tuple(fills[each])) for each in differ}


def _fills_of(recent: Recent, instruments: Iterable[str]) -> dict[str, list[Fill]]:
    """The recent fills of some instruments, in order of time."""
    fills: dict[str, list[Fill]] = {each: [] for each in instruments}
    for fill in sorted(recent.fills, key=lambda fill: (fill.time, fill.execution_id)):
        if fill.instrument in fills and fill.quantity:
            fills[fill.instrument].append(fill)
    return fills


def _difference(scene: Scene, instrument: str, standing: Standing | None, fills: tuple[Fill, ...]) -> Difference:
    """A new difference goes by the last proven snapshot, one that stands by how things were before it began.

    An adopted one in which both sides agreed the last time is over: what differs now is a new one.
    """
    side, now, recent = _side(scene.book, instrument), scene.snapshot.taken_at, scene.recent
    since, before, values, began, seen = recent.proven_before or now - CLOCKS, side.before, recent.values, now, 1
    stood, whole = now, int(scene.snapshot.status is SnapshotStatus.COMPLETE)
    if standing is not None and not (standing.adopted and standing.book_quantity == standing.broker_quantity):
        began = (standing.changed_at if standing.adopted else None) or standing.first_seen_at
        since, before, values = standing.agreed_at or began - CLOCKS, standing.before, standing.values
        stood = min(began, began if standing.adopted else standing.stood_since or began)
        seen, whole = standing.seen + 1, whole + standing.seen_whole
    holding = _holding(scene.held, instrument)
    return Difference(scene.instruments[instrument], side, holding, before, since, values, began, stood, seen, whole, fills, standing)


# What stands besides differences in quantity


def _adopted(snapshot: Snapshot, recent: Recent, agreed: frozenset[str]) -> Iterator[Break]:
    """Breaks whose difference was adopted stay while the adoption still books something."""
    for each in sorted(recent.standing, key=lambda each: each.instrument or ""):
        if each.adopted and each.booked and each.instrument in agreed and each.subject is Subject.QUANTITY:
            yield Break(
                account=snapshot.account,
                instrument=each.instrument,
                subject=each.subject,
                cls=each.cls,
                book_quantity=each.broker_quantity,
                broker_quantity=each.broker_quantity,
                evidence=(
                    f"The book follows the broker since {each.first_seen_at:%Y-%m-%d %H:%M} UTC: {plain(each.booked)} of its quantity rest "
                    "on nothing but the broker's list."
                ),
                proposal="Import a statement that covers that time, position-pipeline import FILE, or accept it as it is",
                cause=f"{each.cls}:{snapshot.account}:{each.instrument}:{each.first_seen_at.isoformat()}",
            )


def _incomplete(snapshot: Snapshot, book: Mapping[str, BookSide], instruments: Mapping[str, Instrument]) -> Iterator[Break]:
    """One break for each instrument that could not be read, and one for all else that the snapshot could not read."""
    told: set[str] = set()
    for each in sorted(snapshot.unread & instruments.keys()):
        symbol = instruments[each].symbol
        names = (symbol, symbol.partition(" ")[0], f"{symbol} ({each})", f"{symbol.partition(' ')[0]} ({each})", each)
        name = next((name for name in names if name in snapshot.errors), None)
        told.update(() if name is None else (name,))
        side = book.get(each)
        why = "what the broker said of it could not be read" if name is None else snapshot.errors[name]
        yield _unread(snapshot, each, f"{symbol}: {why}. The position keeps what it has.", None if side is None else side.quantity)
    rest = sorted(set(snapshot.errors) - told)
    if rest:
        yield _unread(
            snapshot, None, "; ".join(f"{name}: {snapshot.errors[name]}" for name in rest) + ". Nothing was changed for it.", None
        )


def _unread(snapshot: Snapshot, instrument: str | None, evidence: str, quantity: Decimal | None) -> Break:
    return Break(
        account=snapshot.account,
        instrument=instrument,
        subject=Subject.SNAPSHOT,
        cls=BreakClass.SNAPSHOT_INCOMPLETE,
        book_quantity=quantity,
        broker_quantity=None,
        evidence=evidence,
        proposal="Sync again; if it stays, position-pipeline doctor says what the broker sends",
        cause=f"{BreakClass.SNAPSHOT_INCOMPLETE}:{snapshot.account}:{instrument or ''}",
    )
