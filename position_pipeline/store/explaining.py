"""What stands behind one close or one position: the rows that it rests on.

Belongs here: finding them. Does not belong here: the sums (explain).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from position_pipeline.store import queries
from position_pipeline.store.rebuilding import before

if TYPE_CHECKING:
    from collections.abc import Sequence

    from position_pipeline.accounting.model import Lot
    from position_pipeline.store.connection import Connection, Row

SQL = queries.load("read")


@dataclass(frozen=True, slots=True)
class ExplainedClose:
    """A close with both its entries, the lot as the closing entry found it, and what the book said of the same part before."""

    close: Row
    closing: Row
    opening: Row
    lot: Lot | None
    earlier: Sequence[Row]


@dataclass(frozen=True, slots=True)
class ExplainedPosition:
    """A position with its lots, and all that was closed of it."""

    position: Row
    lots: Sequence[Row]
    closes: Sequence[Row]


Explained = ExplainedClose | ExplainedPosition


def explained(connection: Connection, id_: str, accounts: Sequence[str] | None) -> list[Explained]:
    """All that the id may mean; nothing if it means nothing."""
    values = {"id": id_, "accounts": list(accounts) if accounts else None}
    closes = [_close(connection, row) for row in connection.rows(SQL["explained_closes"], values)]
    return [*closes, *(_position(connection, row) for row in connection.rows(SQL["explained_positions"], values))]


def _close(connection: Connection, row: Row) -> ExplainedClose:
    earlier = connection.rows(SQL["earlier_closes"], {**row, "until": row["believed_at"]})
    known_at = None if row["superseded_at"] is None else row["believed_at"]
    position = before(connection, row["account"], row["instrument"], row["execution_id"], known_at=known_at)
    lot = next((lot for lot in position.lots if lot.opening_id == row["opening_id"]), None)
    return ExplainedClose(row, _entry(connection, row, "execution"), _entry(connection, row, "opening"), lot, earlier)


def _entry(connection: Connection, close: Row, end: str) -> Row:
    """The fill, in the revision that the close rests on, or the adjustment."""
    values = {"account": close["account"], "id": close[f"{end}_id"], "revision": close[f"{end}_revision"]}
    found = connection.one(SQL["adjustment" if values["revision"] is None else "execution"], values)
    assert found is not None, "foreign keys hold both ends of a close"
    return found


def _position(connection: Connection, row: Row) -> ExplainedPosition:
    mine = {"accounts": [row["account"]], "all": True, "as_of": None, "known_at": None}
    position = next(each for each in connection.rows(SQL["positions"], mine) if each["instrument"] == row["instrument"])
    closes = [each for each in connection.rows(SQL["closes"], mine) if each["instrument"] == row["instrument"]]
    return ExplainedPosition(position, connection.rows(SQL["lots"], row), closes)
