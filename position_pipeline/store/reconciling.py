"""Holding a proven answer of a broker against the book, in the caller's transaction: what differs is looked into, and written down.

Belongs here: what is read for `accounting.reconciliation`, and carrying out what it says - marks, adjustments, the register. Does not
belong here: the verdicts themselves, and the rows of the register (register.py).

Most answers say nothing new: then only what is new is compared (agreeing.py). Else both sides are compared in everything, and the marks are
written. Only where something differs, or a break stands, is there a closer look, and it reads no more than what concerns those
instruments.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from position_pipeline.accounting.arrivals import STATEMENT_SOURCES
from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.model import Break, BreakClass, Subject
from position_pipeline.accounting.reconciliation import CLOCKS, reconcile
from position_pipeline.store import agreeing, book, comparing, cost_books, queries, recent, recording, register, syncing
from position_pipeline.store.instruments import described
from position_pipeline.store.marking import mark, names_of
from position_pipeline.store.recording import Recorded
from position_pipeline.store.turns import lock_account
from position_pipeline.store.withdrawing import OURSELVES, another_id, is_doubted, withdraw_contradicted, withdraw_doubted, withdraw_idle

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from position_pipeline.accounting.circumstances import BookSide, Policy, Reconciliation, Standing
    from position_pipeline.accounting.model import Instrument, Snapshot
    from position_pipeline.store.book import Change
    from position_pipeline.store.connection import Connection, Row
    from position_pipeline.store.syncing import Kept

SQL = queries.load("sync")
BOOK = queries.load("book")
BREAKS = queries.load("breaks")

STATEMENT = "Import a statement that covers the time since the last agreement: position-pipeline import FILE"
"""What helps where nothing else is known."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What reconciling did: positions that it changed, instruments whose broker side changed, all that are held by either side, and
    what became of the breaks, by their ids. `refused` are adjustments that could not be booked, as (symbol, reason); `snapshot_id` is
    where the answer is on record.
    """

    changes: Mapping[str, Change] = field(default_factory=dict)
    marked: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    opened: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    resolved: tuple[str, ...] = ()
    open_breaks: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    snapshot_id: int | None = None

    @property
    def is_news(self) -> bool:
        """Whether anybody who watches has to look again."""
        return bool(self.changes or self.marked or self.opened or self.changed or self.resolved)


def reconcile_account(
    connection: Connection,
    snapshot: Snapshot,
    instruments: Sequence[Instrument],
    policy: Policy,
    *,
    listed: Collection[str] | None = None,
    kept: Kept | None = None,
) -> Reconciled:
    """Compare a proven snapshot with the book, and mark, adjust, and keep the register. The caller holds a transaction.

    `kept` is what became of the snapshot when it was stored; with it only what is new on either side is looked at, where that will do.
    `listed` are the ids of the fills that came with the snapshot: at first contact one of that minute that is not listed is after it.
    None: nothing was listed, and the times decide.
    """
    at = lock_account(connection, snapshot.account)
    kinds = {instrument.id: instrument for instrument in instruments}
    snapshot = comparing.positions_only(snapshot, kinds)
    held = frozenset(holding.instrument for holding in snapshot.holdings if holding.quantity)
    marked = agreeing.still_agree(connection, snapshot, kinds, kept, at) if kept is not None else None
    if kept is None or marked is None:
        kept = syncing.written_again(connection, snapshot, kept) if kept is not None and kept.repeats else kept
        look = _CloserLook(connection, snapshot, list(kinds.values()), at, listed)
        done = _in_full(look, kinds, policy, kept)
    else:
        done = Reconciled(marked=marked, held=held)
    times = {"synced_at": snapshot.synced_at, "answered_at": snapshot.taken_at}
    connection.execute(SQL["mark_account"], {"account": snapshot.account, **times})
    return replace(done, snapshot_id=None if kept is None else kept.id)


def _in_full(look: _CloserLook, kinds: Mapping[str, Instrument], policy: Policy, kept: Kept | None) -> Reconciled:
    """Look at everything, and closer where something differs; see `reconcile_account`."""
    connection, snapshot, at = look.connection, look.snapshot, look.at
    account = connection.one(BOOK["account"], {"account": snapshot.account})
    assert account is not None, "an account is added before it is reconciled"
    withdraw_idle(connection, snapshot.account, at)
    sides = comparing.read_sides(connection, snapshot.account)
    standing = register.standing(connection, snapshot.account)
    first = account["first_proven_at"] is None
    unmet = frozenset() if first else _unmet(connection, snapshot, sides, kinds)
    doubted = is_doubted(connection, snapshot.account, snapshot.unread)
    differs = first or unmet or standing or doubted or not comparing.agrees(snapshot, sides, kinds)
    done = Reconciled()
    if differs:
        done, sides = look.carry_out(sides, standing, policy, first=first, unmet=unmet)
    marked = mark(connection, snapshot, sides)
    if differs or kept is None:
        agreeing.end_agreement(connection, snapshot.account)
    else:
        agreeing.keep_agreement(connection, snapshot.account, kept)
    held = {instrument for instrument, row in sides.items() if row["quantity"]} | {h.instrument for h in snapshot.holdings if h.quantity}
    return replace(done, marked=marked, held=frozenset(held - snapshot.unread))


def joined(first: Mapping[str, Change], then: Mapping[str, Change]) -> dict[str, Change]:
    """Two changes of one position in a row are one."""
    both = {i: replace(change, before=first[i].before, is_new=first[i].is_new) for i, change in then.items() if i in first}
    return {**first, **then, **both}


def _unmet(connection: Connection, snapshot: Snapshot, sides: Mapping[str, Row], kinds: Mapping[str, Instrument]) -> frozenset[str]:
    """Holdings that first contact could not read, and that no sync has read since: this is first contact for them."""
    row = connection.one(SQL["unread_at_first"], {"account": snapshot.account})
    if row is None or not row["symbols"]:
        return frozenset()
    met = {instrument for instrument, side in sides.items() if side["broker_quantity"] is not None}
    unread, known = set(row["symbols"]), set(row["unread"])
    held = {h.instrument for h in snapshot.holdings} | set(sides)
    kinds = {**described(connection, held - met), **kinds}
    return frozenset(i for i in held - met if i in known or not unread.isdisjoint(names_of(i, kinds[i].symbol)))


@dataclass(frozen=True, slots=True)
class _CloserLook:
    """What is done where an answer and the book differ, or a break stands. `at` is when the account's turn came."""

    connection: Connection
    snapshot: Snapshot
    instruments: Sequence[Instrument]
    at: datetime
    listed: Collection[str] | None

    @property
    def account(self) -> str:
        return self.snapshot.account

    def carry_out(
        self, sides: dict[str, Row], standing: list[Row], policy: Policy, *, first: bool, unmet: frozenset[str]
    ) -> tuple[Reconciled, dict[str, Row]]:
        """(what was done, both sides after it)."""
        connection, snapshot = self.connection, self.snapshot
        withdrawn = self._withdrawn(sides)
        if withdrawn:
            sides = comparing.read_sides(connection, self.account)
        standing = register.standing(connection, self.account)
        before = recent.answer_before(connection, snapshot)
        verdict, back = self._fresh(self._verdict(sides, standing, before, policy, first=first, unmet=unmet), standing, before)
        booked = (
            recording.record(connection, self.account, (), verdict.adjustments, self.instruments) if verdict.adjustments else Recorded()
        )
        if self._make_room(verdict, sides) or booked.changes:
            sides = comparing.read_sides(connection, self.account)
        verdict = self._told(verdict, sides, back)
        kept = register.keep(connection, snapshot, standing, verdict, before["id"] if before else None)
        changes = joined(withdrawn, booked.changes)
        done = Reconciled(changes, opened=kept.opened, changed=kept.changed, resolved=kept.resolved, refused=booked.refused)
        return replace(done, open_breaks=kept.open), sides

    def _withdrawn(self, sides: Mapping[str, Row]) -> Mapping[str, Change]:
        """Take back what was inferred and has no reason to be there any more; the positions that changed by it."""
        theirs = {holding.instrument: holding.quantity for holding in self.snapshot.holdings}
        explained = withdraw_doubted(self.connection, self.account, theirs, self.snapshot.unread, self.at)
        differing = comparing.differing(self.snapshot, comparing.read_sides(self.connection, self.account) if explained else sides)
        return joined(explained, withdraw_contradicted(self.connection, self.account, theirs, differing, self.at))

    def _verdict(
        self, sides: Mapping[str, Row], standing: Sequence[Row], before: Row | None, policy: Policy, *, first: bool, unmet: frozenset[str]
    ) -> Reconciliation:
        differing = comparing.differing(self.snapshot, sides)
        concerned = differing | {row["instrument"] for row in standing if row["instrument"] is not None}
        concerned.update(recent.related(self.connection, concerned))
        kinds = {**described(self.connection, concerned | self.snapshot.unread), **{i.id: i for i in self.instruments}}
        past = recent.load(self.connection, self.snapshot, sorted(concerned), standing, before)
        ours = self._book(sides, to_the_ground=first or bool(unmet))
        past = replace(past, standing=tuple(self._as_it_is(each, ours) for each in past.standing))
        for holding in self.snapshot.holdings:
            mine = ours.get(holding.instrument)
            if mine is not None and mine.quantity == holding.quantity and not comparing.costs_the_same(sides[holding.instrument], holding):
                ours[holding.instrument] = cost_books.completed(self.connection, self.snapshot, mine, holding, kinds[holding.instrument])
        return reconcile(ours, self.snapshot, kinds, first_contact=first, unmet=unmet, recent=past, policy=policy)

    def _as_it_is(self, one: Standing, ours: Mapping[str, BookSide]) -> Standing:
        """A break with what it is by now: both sides may trade on while they differ by the same, and what differs otherwise is new."""
        if one.adopted or one.instrument is None or one.instrument not in ours or one.subject is not Subject.QUANTITY:
            return one
        held = {holding.instrument: holding.quantity for holding in self.snapshot.holdings}
        mine, theirs = ours[one.instrument].quantity, held.get(one.instrument, ZERO)
        if register.difference(one.book_quantity, one.broker_quantity) != register.difference(mine, theirs):
            return replace(one, first_seen_at=self.snapshot.taken_at, seen=0, seen_whole=0, dismissed=False)
        return replace(one, book_quantity=mine, broker_quantity=theirs) if one.dismissed else one

    def _book(self, sides: Mapping[str, Row], *, to_the_ground: bool) -> dict[str, BookSide]:
        """The book's side; what it rests on matters only at first contact."""
        values = {"account": self.account, "statements": sorted(STATEMENT_SOURCES)}
        found = self.connection.rows(SQL["what_it_rests_on"], values) if to_the_ground else ()
        ground = {row.pop("instrument"): row for row in found}
        ours = {instrument: comparing.side(instrument, row, ground.get(instrument, {})) for instrument, row in sides.items()}
        return self._without_later_fills(ours) if to_the_ground and self.listed is not None else ours

    def _without_later_fills(self, ours: dict[str, BookSide]) -> dict[str, BookSide]:
        """The sides without the fills that were heard of in the minute of the answer and are not listed with it.

        Execution times are whole seconds: counted in, such a fill would be taken for a part of what was held before, for good.
        """
        since = min(self.snapshot.taken_at, self.snapshot.source_at or self.snapshot.taken_at) - CLOCKS
        values = {"account": self.account, "since": since, "listed": list(self.listed or ())}
        for row in self.connection.rows(SQL["fills_not_listed"], values):
            side = ours[row["instrument"]]
            bought, sold = side.bought - row["bought"], side.sold - row["sold"]
            ours[row["instrument"]] = replace(side, quantity=side.quantity - row["bought"] + row["sold"], bought=bought, sold=sold)
        return ours

    def _fresh(self, verdict: Reconciliation, standing: Iterable[Row], before: Row | None) -> tuple[Reconciliation, dict[str, str]]:
        """(the verdict without what a person has to decide, why by instrument).

        Where a person has taken something back, we book nothing until both sides have agreed again: the difference stands, and the person
        decides. What we took back ourselves is booked again under another id, because one that was taken back stays so.
        """
        entries = verdict.adjustments
        if not entries:
            return verdict, {}
        values = {"account": self.account, "instruments": sorted({entry.instrument for entry in entries}), "ourselves": OURSELVES}
        agreed = {row["instrument"]: row["agreed_at"] for row in standing if row["subject"] == Subject.QUANTITY}
        last = before["taken_at"] if before else None
        back = {
            row["instrument"]: f"{row['reversed_by']} took {row['id']} back: {row['reversed_why']}"
            for row in self.connection.rows(BREAKS["taken_back_by_people"], values)
            if (since := agreed.get(row["instrument"], last)) is None or row["reversed_at"] > since
        }
        ids = {entry.id for entry in entries if entry.instrument in back} | {e.takes_from for e in entries if e.instrument in back}
        gone = [entry for entry in entries if {entry.id, entry.takes_from or entry.id} & ids]
        kept = another_id(self.connection, self.account, [entry for entry in entries if entry not in gone])
        why = {entry.instrument: back.get(entry.instrument, "it belongs to what a person took back") for entry in gone}
        return replace(verdict, adjustments=tuple(kept)), why

    def _make_room(self, verdict: Reconciliation, sides: Mapping[str, Row]) -> bool:
        """Flat positions for what only the broker holds, so that its quantity is shown beside our zero."""
        known = {instrument.id: instrument for instrument in self.instruments}
        booked = {entry.instrument for entry in verdict.adjustments}
        strangers = {h.instrument for h in self.snapshot.holdings if h.quantity} - set(sides) - booked - self.snapshot.unread
        book.make_room(self.connection, self.account, [known[instrument] for instrument in sorted(strangers)])
        return bool(strangers)

    def _told(self, verdict: Reconciliation, sides: Mapping[str, Row], back: Mapping[str, str]) -> Reconciliation:
        """The verdict, with a break for every difference that it meant to end and that is there all the same."""
        told = {each.instrument for each in verdict.breaks if each.subject is Subject.QUANTITY}
        left = comparing.differing(self.snapshot, sides) - told
        meant = {each.instrument: each for each in verdict.resolved if each.instrument in left}
        evidence = {entry.instrument: entry.evidence for entry in verdict.adjustments}
        breaks = [
            meant[instrument] if instrument in meant else self._unended(instrument, sides[instrument], evidence.get(instrument, ""))
            for instrument in sorted(left)
        ]
        return replace(
            verdict,
            breaks=tuple(_not_booked(each, back.get(each.instrument or "")) for each in (*verdict.breaks, *breaks)),
            resolved=tuple(each for each in verdict.resolved if each.instrument not in left),
        )

    def _unended(self, instrument: str, side: Row, evidence: str) -> Break:
        theirs = {holding.instrument: holding.quantity for holding in self.snapshot.holdings}
        return Break(
            account=self.account,
            instrument=instrument,
            subject=Subject.QUANTITY,
            cls=BreakClass.UNKNOWN,
            book_quantity=side["quantity"],
            broker_quantity=theirs.get(instrument, ZERO),
            evidence=f"What was booked for it does not end it. {evidence}".strip(),
            proposal=STATEMENT,
        )


def _not_booked(each: Break, why: str | None) -> Break:
    """The break, with why what would explain it is not booked."""
    return replace(each, evidence=f"{each.evidence} It was not booked: {why}") if why and each.subject is Subject.QUANTITY else each
