"""Taking back what was inferred from answers of the broker, once facts explain it or the broker says otherwise.

Belongs here: which inferred adjustments have to go. Does not belong here: how one is taken back (reversing.py), what is inferred
(accounting.reconciliation). What a person has accepted goes only when nothing is left for it to do.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO, plain
from position_pipeline.accounting.inferred import idle
from position_pipeline.store import queries, rows
from position_pipeline.store.histories import flat_positions, fold_histories, id_of
from position_pipeline.store.instruments import described
from position_pipeline.store.pages import Pages
from position_pipeline.store.rebuilding import groups
from position_pipeline.store.refusals import reject_id
from position_pipeline.store.reversing import reverse

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from position_pipeline.accounting.model import Adjustment, Entry
    from position_pipeline.store.book import Change
    from position_pipeline.store.connection import Connection, Row
    from position_pipeline.store.recording import Recorded

SQL = queries.load("breaks")
BOOK = queries.load("book")

EVER = datetime.min.replace(tzinfo=UTC)
WAITS = "It is kept. {} was inferred in its place, and gives way if the broker's next complete answer agrees: position-pipeline sync"
OURSELVES = "position_pipeline"
"""Who takes back what nobody has asked for."""


def withdraw_idle(connection: Connection, account: str, at: datetime) -> None:
    """Take back what books nothing any more, because other entries explain it. No position changes by that.

    Only beside a proven answer, never when entries are recorded: what has come so far may be half of the facts, and the book must not
    depend on their order.
    """
    instruments = [row["instrument"] for row in connection.rows(SQL["instruments_of_idle"], {"account": account})]
    if not instruments:
        return
    found = connection.rows(SQL["inferences"], {"account": account, "instruments": instruments})
    several = _with_linked(connection, account, found)
    events = connection.rows(SQL["events_of_causes"], {"account": account, "ids": [entry.id for entry in several]})
    gone = [entry.id for entry in idle(several, map(rows.event, events))]
    if gone:
        reverse(connection, account, gone, by=OURSELVES, why="Explained by the entries that have come since.", at=at)


def doubt(connection: Connection, account: str, entries: Iterable[Entry]) -> None:
    """Note what new entries may have explained: whatever was inferred of their instruments, where they are of before the last answer."""
    first: dict[str, datetime] = {}
    for entry in entries:
        first[entry.instrument] = min(entry.time, first.get(entry.instrument, entry.time))
    _doubt(connection, account, first)


def doubt_all(connection: Connection, account: str, instruments: Iterable[str]) -> None:
    """The same where so many entries came that they were not kept: any of them may be of before the last answer."""
    _doubt(connection, account, dict.fromkeys(instruments, EVER))


def _doubt(connection: Connection, account: str, first: Mapping[str, datetime]) -> None:
    connection.execute(SQL["doubt"], {"account": account, "instruments": list(first), "first": list(first.values())})


def told_apart(connection: Connection, account: str, recorded: Recorded) -> Recorded:
    """What recording did, with the facts that wait apart from those that are refused; after `doubt`."""
    if not recorded.refused:
        return recorded
    found = connection.rows(BOOK["waiting"], {"account": account})
    behind = {row["id"]: row["inferred"] for row in found}
    inferred = {row: behind.get(reject_id(account, *row)) for row in recorded.refused}
    return replace(
        recorded,
        refused=tuple(row for row in recorded.refused if inferred[row] is None),
        waiting=tuple((symbol, f"{reason}. {WAITS.format(id_)}") for (symbol, reason), id_ in inferred.items() if id_ is not None),
    )


def is_doubted(connection: Connection, account: str, unread: Iterable[str]) -> bool:
    """Whether an answer has to decide about something that late facts may explain."""
    return bool(connection.rows(SQL["doubted"], {"account": account, "unread": sorted(unread)}))


def withdraw_doubted(
    connection: Connection, account: str, theirs: Mapping[str, Decimal], unread: frozenset[str], at: datetime
) -> Mapping[str, Change]:
    """Take back what late facts explain, wherever in time they stand; the positions that changed by it.

    When an inferred event happened is a guess: a fact of it may come to stand behind it, and find nothing left to do, or do it again. So
    the answer decides. First all that was inferred of instruments that are linked goes at once, if without it both sides agree; else
    whatever may go alone. What the book began with goes only alone.
    """
    found = connection.rows(SQL["doubted"], {"account": account, "unread": sorted(unread)})
    if not found:
        return {}
    connection.execute(SQL["doubt_no_more"], {"account": account, "ids": [row["id"] for row in found]})
    doubted = {row["instrument"] for row in found}
    changes: Mapping[str, Change] = {}
    for group in groups(connection, account):
        if doubted.isdisjoint(group) or not unread.isdisjoint(group):
            continue
        for several in _to_be_tried(connection, account, group):
            without = _quantities_without(connection, account, group, {each.id for each in several})
            if all(without[each.instrument] == theirs.get(each.instrument, ZERO) for each in several):
                why = "The facts that have come explain what it stood for."
                done = reverse(connection, account, [each.id for each in several], by=OURSELVES, why=why, at=at)
                changes = {**changes, **done}
    return changes


def _to_be_tried(connection: Connection, account: str, group: Sequence[str]) -> Iterator[list[Adjustment]]:
    """What may be taken back together: all that was inferred, then each with what belongs to it, unless it is gone by then."""
    values = {"account": account, "instruments": list(group)}
    found = connection.rows(SQL["inferred_of"], values)
    together = [rows.adjustment(row) for row in found if row["held"] is not None]
    if len(together) > 1:
        yield together
    tried: set[str] = set()
    for row in connection.rows(SQL["inferred_of"], values):
        if row["id"] not in tried:
            several = _with_linked(connection, account, [row])
            tried |= {each.id for each in several}
            yield several


def withdraw_contradicted(
    connection: Connection, account: str, theirs: Mapping[str, Decimal], differing: Iterable[str], at: datetime
) -> Mapping[str, Change]:
    """Take back what stands between the book and the broker: without it both would hold the same. The positions that changed by it.

    `theirs` are the broker's quantities; what it does not name it does not hold.
    """
    changes: Mapping[str, Change] = {}
    left = set(differing)
    for row in connection.rows(SQL["inferences"], {"account": account, "instruments": sorted(left)}):
        if row["accepted_by"] or row["instrument"] not in left:
            continue
        several = _with_linked(connection, account, [row])
        if any(each.instrument not in left for each in several) or not _agree_without(connection, account, several, theirs):
            continue
        why = "; ".join(f"the broker holds {plain(theirs.get(each.instrument, ZERO))} of {each.instrument}" for each in several)
        done = reverse(connection, account, [each.id for each in several], by=OURSELVES, why=f"Without it both agree: {why}.", at=at)
        changes = {**changes, **done}
        left -= {each.instrument for each in several}
    return changes


def another_id(connection: Connection, account: str, entries: Sequence[Adjustment]) -> list[Adjustment]:
    """The entries, with new ids for those that were in the book and were taken back: what was taken back stays so, on record."""
    ids = [entry.id for entry in entries]
    back = connection.rows(SQL["taken_back"], {"account": account, "ids": ids}) if ids else []
    names = {row["id"]: f"{row['id']}:{row['reversed_at']:%Y%m%dT%H%M%S.%f}" for row in back}
    return [
        replace(entry, id=names.get(entry.id, entry.id), takes_from=names.get(entry.takes_from or "", entry.takes_from))
        for entry in entries
    ]


def _with_linked(connection: Connection, account: str, found: Iterable[Row]) -> list[Adjustment]:
    """The adjustments of some rows, and those that give to them or take from them."""
    by_id = {row["id"]: row for row in found}
    for row in connection.rows(SQL["linked_inferences"], {"account": account, "ids": list(by_id)}):
        by_id.setdefault(row["id"], row)
    return [rows.adjustment(row) for row in by_id.values()]


def _agree_without(connection: Connection, account: str, several: list[Adjustment], theirs: Mapping[str, Decimal]) -> bool:
    """Whether the book without some adjustments would hold what the broker holds, in each of their instruments."""
    ids, named = {each.id for each in several}, {each.instrument for each in several}
    linked = (group for group in groups(connection, account) if not named.isdisjoint(group))
    made = _quantities_without(connection, account, chain.from_iterable(linked), ids)
    return all(made[instrument] == theirs.get(instrument, ZERO) for instrument in named)


def _quantities_without(connection: Connection, account: str, instruments: Iterable[str], ids: Container[str]) -> dict[str, Decimal]:
    """What the book would hold of instruments that are linked, without some entries."""
    group = described(connection, instruments)
    histories = Pages(connection, account, group).histories(dict.fromkeys(group))
    without = {id_: tuple(entry for entry in history if id_of(entry) not in ids) for id_, history in histories.items()}
    folded = fold_histories(without, flat_positions(connection, account, group.values()))
    return {each.position.instrument: each.position.quantity for each in folded}
