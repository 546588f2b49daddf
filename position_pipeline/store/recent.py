"""The recent past of an account, as reconciliation asks for it: what a difference may be explained by.

Belongs here: reading it. Does not belong here: which explanation is right (accounting.reconciliation). What concerns the instruments in
question is read, and the fills since the last answer, so that it costs what has changed and not what is held.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from position_pipeline.accounting.circumstances import CorporateAction, Recent
from position_pipeline.accounting.model import BreakClass
from position_pipeline.accounting.reconciliation import CLOCKS
from position_pipeline.store import queries, rows
from position_pipeline.store.register import account_values, as_standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from decimal import Decimal

    from position_pipeline.accounting.model import Fill, Snapshot
    from position_pipeline.store.connection import Connection, Row

SQL = queries.load("breaks")

LOOKED_BACK = timedelta(days=10)
"""Over a long weekend, and the days that a broker takes to book an option's end. What stands is looked at from before it began."""


def answer_before(connection: Connection, snapshot: Snapshot) -> Row | None:
    """The last proven answer before this one: its id, taken_at and values."""
    return connection.one(SQL["answer_before"], {"account": snapshot.account, "at": snapshot.taken_at})


def related(connection: Connection, instruments: Iterable[str]) -> list[str]:
    """Some instruments, the options on them, and what they are options on."""
    return [row["instrument"] for row in connection.rows(SQL["related"], {"instruments": sorted(instruments)})]


def load(connection: Connection, snapshot: Snapshot, concerned: Sequence[str], standing: Sequence[Row], before: Row | None) -> Recent:
    """What may explain differences in the instruments `concerned`."""
    began = [row["agreed_at"] for row in standing if row["agreed_at"] is not None]
    since = min([snapshot.taken_at - LOOKED_BACK, *began])
    cash_since = min(filter(None, [*began, before["taken_at"] if before else None]), default=snapshot.taken_at)
    values = {
        "account": snapshot.account,
        "broker": snapshot.broker,
        "instruments": list(concerned),
        "since": since,
        "cash_since": cash_since - CLOCKS,
    }
    return Recent(
        fills=tuple(rows.fill(row) for row in connection.each(SQL["recent_fills"], values)),
        corrected=_corrected(connection, values),
        actions=_actions(connection, values),
        standing=tuple(map(as_standing, standing)),
        elsewhere=_elsewhere(connection, values),
        values=account_values(before["values"] if before else None),
        proven_before=before["taken_at"] if before else None,
        prices={row["instrument"]: row["market_price"] for row in connection.rows(SQL["known_prices"], values)},
    )


def _corrected(connection: Connection, values: dict[str, object]) -> tuple[tuple[Fill, Fill], ...]:
    """Each earlier revision of a fill beside the one that is believed."""
    found = map(rows.fill, connection.each(SQL["recent_corrections"], values))
    by_fill = [list(several) for _, several in groupby(found, key=lambda fill: fill.execution_id)]
    return tuple((earlier, several[-1]) for several in by_fill for earlier in several[:-1])


def _actions(connection: Connection, values: dict[str, object]) -> tuple[CorporateAction, ...]:
    """What statements of other accounts have told of the instruments: a company does not split for one holder alone."""
    return tuple(action for row in connection.rows(SQL["actions_elsewhere"], values) for action in _told_by(row))


def _told_by(row: Row) -> Iterator[CorporateAction]:
    """The causes that a row may stand for: at a ratio, units become others by a merger, or by a reverse split with a new conId."""
    figures = (row["numerator"], row["denominator"], row["into"], f"the statement of account {row['account']}")
    for kind in _kinds_of(row):
        yield CorporateAction(row["instrument"], kind, row["time"], *figures)


def _kinds_of(row: Row) -> tuple[BreakClass, ...]:
    if row["kind"] == "split":
        return (BreakClass.SPLIT,)
    if row["into"] is None:
        return ()
    if row["kind"] == "spin_off":
        return (BreakClass.SPIN_OFF,)
    return (BreakClass.SYMBOL_CHANGE,) if row["numerator"] == row["denominator"] else (BreakClass.SPLIT, BreakClass.MERGER)


def _elsewhere(connection: Connection, values: dict[str, object]) -> dict[str, tuple[tuple[str, Decimal], ...]]:
    found: dict[str, list[tuple[str, Decimal]]] = {}
    for row in connection.rows(SQL["differences_elsewhere"], values):
        found.setdefault(row["instrument"], []).append((row["account"], row["difference"]))
    return {instrument: tuple(several) for instrument, several in found.items()}
