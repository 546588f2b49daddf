"""The book's side of each instrument, and comparing it with the broker's.

Belongs here: reading it, and whether both sides hold the same at about the same cost. Does not belong here: what is done where they do
not (reconciling.py), and when comparing may be left out (agreeing.py).
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from position_pipeline.accounting.causes.figures import COST_SHARE
from position_pipeline.accounting.circumstances import BookSide
from position_pipeline.accounting.costs import cost_break
from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.model import Holding, Method
from position_pipeline.accounting.reconciliation import NOT_BOOKED
from position_pipeline.store import cost_books, queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from position_pipeline.accounting.model import Instrument, Snapshot
    from position_pipeline.store.connection import Connection, Row

SQL = queries.load("sync")


def read_sides(connection: Connection, account: str, instruments: Iterable[str] | None = None) -> dict[str, Row]:
    """What the book holds of some instruments, or of all, by instrument."""
    values = {
        "account": account,
        "not_booked": sorted(NOT_BOOKED),
        "instruments": None if instruments is None else sorted(instruments),
    }
    return {row["instrument"]: row for row in connection.rows(SQL["book_side"], values)}


def positions_only(snapshot: Snapshot, kinds: Mapping[str, Instrument]) -> Snapshot:
    """The snapshot without what is never a position."""
    kept = tuple(h for h in snapshot.holdings if kinds[h.instrument].sec_type not in NOT_BOOKED)
    return snapshot if len(kept) == len(snapshot.holdings) else replace(snapshot, holdings=kept)


def agrees(snapshot: Snapshot, sides: Mapping[str, Row], kinds: Mapping[str, Instrument]) -> bool:
    """Whether everything could be read, and both sides hold the same of it at about the same cost."""
    if snapshot.errors or snapshot.unread or differing(snapshot, sides):
        return False
    apart = (h for h in snapshot.holdings if h.instrument in sides and not costs_the_same(sides[h.instrument], h))
    return not any(cost_break(snapshot, side(h.instrument, sides[h.instrument]), h, kinds[h.instrument]) for h in apart)


def costs_the_same(row: Row, holding: Holding) -> bool:
    """Whether it needs no closer look that both costs agree: so it is with most, and there may be ten thousand."""
    cost, average = row["cost"], holding.average_price
    if cost is None or average is None:
        return True
    return bool(abs(average * row["quantity"] * row["multiplier"] - cost) <= abs(cost) * COST_SHARE)


def side(instrument: str, row: Row, ground: Mapping[str, Any] = MappingProxyType({})) -> BookSide:
    """The book's side of one instrument; `ground` is what it rests on."""
    return BookSide(
        quantity=row["quantity"],
        cost=row["cost"],
        open_commission=row["open_commission"],
        method=Method(row["method"]),
        costs=cost_books.known(row) if row["other_costs"] else {},
        before=_before(instrument, row),
        opened_at=row["opened_at"],
        **ground,
    )


def differing(snapshot: Snapshot, sides: Mapping[str, Row]) -> set[str]:
    """The instruments of which both sides do not hold the same; what could not be read is not among them."""
    theirs = {holding.instrument: holding.quantity for holding in snapshot.holdings}
    found = {instrument for instrument, row in sides.items() if row["quantity"] != theirs.get(instrument, ZERO)}
    found.update(instrument for instrument, quantity in theirs.items() if quantity and instrument not in sides)
    return found - snapshot.unread


def _before(instrument: str, row: Row) -> Holding | None:
    """The broker's side as the last proven snapshot gave it; None where none has named the instrument."""
    if row["broker_quantity"] is None:
        return None
    return Holding(instrument, row["broker_quantity"], row["broker_average_price"], market_price=row["market_price"])
