"""The break register: every difference has one row from when it is first seen until its cause is gone, whatever is learned in between.

Belongs here: opening, seeing again, resolving and settling breaks in the caller's transaction. Does not belong here: what a difference is
taken for (accounting.reconciliation), and what a person does about it (accepting.py).

A break is known by its account, instrument and subject. Seeing it again is one small update. It is news - `changed_at` moves, and a first
acceptance is void - only when its class, its difference or its proposal changes; a dismissed one is open again only when its
difference does. `history` tells all of it in words.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from psycopg2.extras import Json

from position_pipeline.accounting.circumstances import Standing
from position_pipeline.accounting.exact import EXACT, plain
from position_pipeline.accounting.model import AccountValue, AdjustmentKind, Break, BreakClass, Holding, SnapshotStatus, Subject
from position_pipeline.accounting.reconciliation import CLOCKS
from position_pipeline.store import proposals, queries
from position_pipeline.store.turns import lock_account

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.circumstances import Reconciliation
    from position_pipeline.accounting.model import Entry, Snapshot
    from position_pipeline.store.connection import Connection, Row

    Key = tuple[str | None, str]
    """(instrument, subject)"""

SQL = queries.load("breaks")


@dataclass(frozen=True, slots=True)
class Kept:
    """What one answer did to the register: ids of breaks by what became of them, and how many are open after it."""

    opened: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    resolved: tuple[str, ...] = ()
    open: int = 0


def standing(connection: Connection, account: str) -> list[Row]:
    """The rows of breaks that are open or dismissed, oldest first."""
    return connection.rows(SQL["standing"], {"account": account})


def as_standing(row: Row) -> Standing:
    """A row of `standing` as the accounting reads it: a difference that became another one is waited for anew."""
    before = None
    if row["held_instrument"] is not None:
        figures = (row["held_quantity"], row["held_average"], row["held_raw_cost"], row["held_price"])
        before = Holding(row["held_instrument"], *figures)
    return Standing(
        id=row["id"],
        instrument=row["instrument"],
        subject=Subject(row["subject"]),
        cls=BreakClass(row["class"]),
        first_seen_at=row["differs_since"],
        seen=row["seen"],
        seen_whole=row["seen_whole"],
        book_quantity=row["book_quantity"],
        broker_quantity=row["broker_quantity"],
        adopted=row["follows"],
        booked=row["booked"],
        changed_at=row["differs_since"],
        stood_since=row["first_seen_at"],
        dismissed=row["status"] == "dismissed",
        agreed_at=row["agreed_at"],
        before=before,
        values=account_values(row["agreed_values"]),
    )


def account_values(stored: Sequence[Sequence[str]] | Mapping[str, str] | None) -> tuple[AccountValue, ...]:
    """The account's totals as a snapshot keeps them."""
    return tuple(AccountValue(tag, value, currency) for tag, currency, value in stored or ())


def keep(connection: Connection, snapshot: Snapshot, rows: Iterable[Row], verdict: Reconciliation, previous: int | None) -> Kept:
    """Bring the register in line with a verdict. `rows` are the standing ones, `previous` the last proven snapshot before this one."""
    return _Pen(connection, snapshot, previous, {(row["instrument"], row["subject"]): row for row in rows}).write(verdict)


@dataclass(frozen=True, slots=True)
class _Pen:
    """Writes what one answer says. `stored` are the standing rows that it has not spoken of yet, `new` rows that are still to be added."""

    connection: Connection
    snapshot: Snapshot
    previous: int | None
    stored: dict[Key, Row]
    new: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def at(self) -> datetime:
        return self.snapshot.taken_at

    @property
    def whole(self) -> int:
        """How many complete answers this one is: 1, or 0 of a partial one."""
        return int(self.snapshot.status is SnapshotStatus.COMPLETE)

    def write(self, verdict: Reconciliation) -> Kept:
        adopted = {entry.instrument: entry.id for entry in verdict.adjustments if entry.kind is AdjustmentKind.ADOPTED}
        opened, changed, still_open = [], [], 0
        for each in _with_alarm(self.snapshot, verdict):
            row = self.stored.pop((each.instrument, each.subject.value), None)
            follows = adopted.get(each.instrument or "") if each.subject is Subject.QUANTITY else None
            if row is None:
                opened.append(self._open(each, follows))
            elif self._see_again(each, row, follows):
                changed.append(row["id"])
            still_open += row is None or row["status"] == "open" or row["id"] in changed
        explained = [self._explained(each) for each in verdict.resolved]
        gone = [row["id"] for row in self.stored.values() if row["instrument"] not in self.snapshot.unread]
        resolve(self.connection, gone, self.at, "Book and broker agree again.")
        self.connection.many(SQL["open_breaks"], self.new)
        still_open += sum(row["status"] == "open" for row in self.stored.values() if row["instrument"] in self.snapshot.unread)
        return Kept(tuple(opened), tuple(changed), (*explained, *gone), still_open)

    def _open(self, each: Break, follows: str | None = None, *, ended: bool = False) -> str:
        """A new row; its id."""
        at, b = self.at, each
        cause = f"{b.account}\x1f{b.instrument}\x1f{b.subject}\x1f{at.isoformat()}"
        id_ = hashlib.sha256(cause.encode()).hexdigest()[:12]
        history = [
            *told(at, f"First seen: {_words(b)}."),
            *(told(at, f"The book follows the broker by {follows}.") if follows else []),
            *(told(at, "Explained and booked at once.") if ended else []),
        ]
        self.new.append((
            id_, b.account, b.instrument, b.subject.value, b.cls.value, b.cause, b.book_quantity, b.broker_quantity, at, at, at, at,
            self.whole, self.previous, b.expected_clear_at, b.impact, b.impact_currency, Json(list(b.signs)), b.proposal,
            Json(proposals.as_json(b.proposed)), b.evidence, follows, "resolved" if ended else "open", at if ended else None, Json(history),
        ))  # fmt: skip
        return id_

    def _see_again(self, each: Break, row: Row, follows: str | None = None) -> bool:
        """Bring one row up to date; whether that is news to a person: for a dismissed one only a new difference is."""
        said = _figures(each)
        if follows:  # from here on both sides hold what the broker holds
            each = replace(each, book_quantity=each.broker_quantity)
        figure = _figure(each.subject, each.book_quantity, each.broker_quantity)
        differs = figure != _figure(each.subject, row["book_quantity"], row["broker_quantity"])
        reopens = differs and not (each.subject is Subject.QUANTITY and each.book_quantity == each.broker_quantity)
        # What would explain it still does so after the book has followed the broker.
        keeps = bool(row["follows"] and row["proposed"] and not each.proposed and not differs)
        proposed = row["proposed"] if keeps else proposals.as_json(each.proposed)
        changes = [
            *([f"{each.cls.value} instead of {row['class']}"] if each.cls.value != row["class"] else []),
            *([said] if differs and not follows else []),
            *([f"the book follows the broker by {follows}"] if follows and follows != row["adopted"] else []),
            *(["another proposal"] if _signature(proposed) != _signature(row["proposed"]) else []),
        ]
        values = {
            **{name: getattr(each, name) for name in _COPIED},
            "id": row["id"],
            "at": self.at,
            "class": each.cls.value,
            "is_news": bool(changes),
            "differs": differs,
            "whole": self.whole,
            "reopens": reopens,
            "agreed_snapshot": self.previous,
            "signs": Json(row["signs"] if keeps else list(each.signs)),
            "proposal": row["proposal"] if keeps else each.proposal,
            "proposed": Json(proposed),
            "adopted": follows or row["follows"],
            "history": Json(told(self.at, f"Now {'; '.join(changes)}.") if changes else []),
        }
        self.connection.execute(SQL["see_again"], values)
        return bool(changes) and (reopens or row["status"] == "open")

    def _explained(self, each: Break) -> str:
        """A difference that was explained and booked at once stays on record; one that stood until now ends with what explained it."""
        row = self.stored.pop((each.instrument, each.subject.value), None)
        if row is None:
            return self._open(each, ended=True)
        self._see_again(each, row)
        resolve(self.connection, [row["id"]], self.at, "Explained and booked.")
        return str(row["id"])


_COPIED = ("cause", "book_quantity", "broker_quantity", "expected_clear_at", "impact", "impact_currency", "evidence")


def resolve(connection: Connection, ids: Sequence[str], at: datetime, why: str) -> None:
    """The cause of some breaks is gone."""
    if ids:
        connection.execute(SQL["resolve"], {"ids": list(ids), "at": at, "history": Json(told(at, why))})


def told(at: datetime, what: str) -> list[list[str]]:
    """One entry of a break's history."""
    return [[at.isoformat(), what]]


def _with_alarm(snapshot: Snapshot, verdict: Reconciliation) -> list[Break]:
    """All breaks of a verdict. An alarm is one of the account as a whole, together with what else there is to say of that."""
    if not verdict.alarm:
        return list(verdict.breaks)
    whole = [each for each in verdict.breaks if each.instrument is None]
    text = " ".join([verdict.alarm, *(each.evidence for each in whole)])
    return [*(each for each in verdict.breaks if each.instrument is not None), _alarm(snapshot, text)]


def _alarm(snapshot: Snapshot, text: str) -> Break:
    return Break(
        account=snapshot.account,
        instrument=None,
        subject=Subject.SNAPSHOT,
        cls=BreakClass.SNAPSHOT_INCOMPLETE,
        book_quantity=None,
        broker_quantity=None,
        evidence=text,
        proposal=(
            "Look at the account at the broker. If its list is wrong, the next complete answer ends this; if it is right, bring the facts: "
            "position-pipeline import FILE"
        ),
    )


def difference(book: Decimal | None, broker: Decimal | None) -> Decimal | None:
    """What the broker has more than the book."""
    return None if book is None or broker is None else EXACT.subtract(broker, book)


def _figure(subject: Subject, book: Decimal | None, broker: Decimal | None) -> Decimal | None:
    """The figure of a break whose change is news. Where costs differ, both quantities are the same: it is how many units they are of."""
    return book if subject is Subject.COST else difference(book, broker)


def _words(each: Break) -> str:
    return each.cls.value + ("" if each.book_quantity is None else f", {_figures(each)}")


def _figures(each: Break) -> str:
    book, broker = ("unknown" if value is None else plain(value) for value in (each.book_quantity, each.broker_quantity))
    return f"book {book}, broker {broker}"


def _signature(proposed: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """What makes two proposals the same: the time and the words of one may be later."""
    names = ("instrument", "kind", "quantity", "price", "numerator", "denominator", "amount")
    return [tuple(each.get(name) for name in names) for each in proposed]


# After facts have come


def settle(connection: Connection, account: str, entries: Iterable[Entry], changed: Iterable[str]) -> None:
    """Resolve the differences that new entries have closed; `changed` are the positions that they changed.

    What happened after the answer that showed a difference does not explain it.
    """
    last: dict[str, datetime] = {}
    for entry in entries:
        last[entry.instrument] = max(entry.time, last.get(entry.instrument, entry.time))
    concerned = sorted({*last, *changed})
    row = connection.one(SQL["is_open"], {"account": account, "instruments": concerned}) if concerned else None
    if row and row["is_open"]:
        at = lock_account(connection, account)
        values = {"account": account, "instruments": list(last), "last": list(last.values()), "clocks": CLOCKS}
        resolve(connection, tuple(row["id"] for row in connection.rows(SQL["settled"], values)), at, "An entry explains it.")
