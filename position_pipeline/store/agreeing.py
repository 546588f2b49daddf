"""How far book and broker are known to agree, so that a sync looks only at what is new on either side.

Belongs here: what may be left out, and keeping how far it goes. Does not belong here: comparing (comparing.py), and what is done about a
difference (reconciling.py), which looks at everything.

Once a look at everything has found both sides the same, no break standing and nothing in doubt, only three things can change that: the
next answer says something else (its prints, syncing.py), the book says something else (triggers on positions and adjustments note it in
last_answers.touched, whoever writes), or the rules do. Time alone cannot, because nothing waits. So what the answer and the book have
changed is looked at, and the rest is as it was. The first answer of each day is held against everything: should the rules have changed,
or anything of this be wrong, it is found within a day.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from position_pipeline.store import comparing, queries, register
from position_pipeline.store.marking import mark
from position_pipeline.store.withdrawing import is_doubted, withdraw_idle

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from position_pipeline.accounting.model import Instrument, Snapshot
    from position_pipeline.store.connection import Connection
    from position_pipeline.store.syncing import Kept

SQL = queries.load("sync")


def still_agree(
    connection: Connection, snapshot: Snapshot, kinds: Mapping[str, Instrument], kept: Kept, at: datetime
) -> frozenset[str] | None:
    """Look at what is new on either side, and mark it; the instruments whose broker side changed. None: look at everything.

    The caller holds the account's book lock, and `at` is when its turn came.
    """
    looked = _new(connection, snapshot, kept)
    if looked is None:
        return None
    marked: frozenset[str] = frozenset()
    if looked:
        withdraw_idle(connection, snapshot.account, at)
        sides = comparing.read_sides(connection, snapshot.account, looked)
        part = replace(snapshot, holdings=tuple(holding for holding in snapshot.holdings if holding.instrument in looked))
        part = comparing.positions_only(part, kinds)
        stands = register.standing(connection, snapshot.account) or is_doubted(connection, snapshot.account, ())
        if stands or not comparing.agrees(part, sides, kinds):
            return None
        marked = mark(connection, part, sides)
    if kept.repeats:
        values = {"id": kept.id, "taken_at": snapshot.taken_at, "source_at": snapshot.source_at}
        connection.execute(SQL["repeat_snapshot"], values)
    if looked or not kept.repeats:
        keep_agreement(connection, snapshot.account, kept, looked)
    return marked


def _new(connection: Connection, snapshot: Snapshot, kept: Kept) -> frozenset[str] | None:
    """The instruments of which either side says something else than when they agreed; None: that is not known, or was long ago."""
    if kept.changed is None or kept.since is None or snapshot.errors or snapshot.unread:
        return None
    row = connection.one(SQL["agreement"], {"account": snapshot.account, "id": kept.id})
    if row is None or row["agreed_to"] != kept.since:
        return None
    return kept.changed.union(row["touched"])


def keep_agreement(connection: Connection, account: str, kept: Kept, looked: Iterable[str] | None = None) -> None:
    """Both sides were found the same in what was looked at (None: in everything), beside an answer that is the last one."""
    values = {"account": account, "id": kept.id, "looked": None if looked is None else list(looked)}
    connection.execute(SQL["keep_agreement"], values)


def end_agreement(connection: Connection, account: str) -> None:
    """They were not: until they are again, everything is looked at."""
    connection.execute(SQL["end_agreement"], {"account": account})
