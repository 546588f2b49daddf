"""Corporate actions and transfers of a statement as adjustments.

Belongs here: which rows make one event, and what the event does to positions. Does not belong here: rows that are not taken, and what
follows from that (flex_movements), how an adjustment is booked (accounting).

The rows of one action share its actionID. Per instrument their units are added up, so that a reversed row and its reversal are nothing.

    units go, units come      conversion: an identifier change, a reverse split, a merger for shares (cash beside it lowers the cost)
    units go for cash         closed for that cash; for none where the action says that they are worthless
    units come                split or stock dividend, at the ratio of its text; a spin-off, whose cost no row tells: basis unknown

What fits none of these is not guessed: it is left for refusal.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, ZERO, exact, number, plain, ratio, total
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis
from position_pipeline.brokers.flex_booking import SOURCE
from position_pipeline.brokers.flex_document import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.brokers.flex_rows import Row

_RATIO = re.compile(r"(?:SPLIT|DIVIDEND).*?\b(\d+(?:\.\d+)?) FOR (\d+(?:\.\d+)?)", re.ASCII | re.IGNORECASE)
_OLD = re.compile(r"[^(]*\(([A-Z0-9]{8,12})\)", re.ASCII)
_SPLITS = frozenset({"FS", "FI"})
_CONVERSIONS = frozenset({"RS", "IC", "TC", "TO"})
_K = AdjustmentKind


@dataclass(frozen=True, slots=True)
class Leg:
    """What an action does to one instrument, all its rows together; `row` is the first of those that count."""

    row: Row
    at: datetime
    quantity: Decimal
    proceeds: Decimal

    @property
    def id(self) -> str:
        """The broker's number of the row, or one made of what the row says."""
        if named := self.row.id("transactionID"):
            return f"flex-{named}"
        content = (self.row.account, self.row.tag, self.row.instrument_id, self.at.isoformat(), plain(self.quantity), self.row.text("type"))
        return f"flex-action-{hashlib.sha256('|'.join(content).encode()).hexdigest()[:16]}"


def legs(rows: Sequence[Row]) -> list[Leg]:
    """The rows of one action, one leg an instrument; none for one whose units cancel out. Raises RowError."""
    by_instrument: dict[str, list[Row]] = {}
    for row in rows:
        by_instrument.setdefault(row.instrument_id, []).append(row)
    found = []
    for several in by_instrument.values():
        quantity = total(row.number("quantity") or ZERO for row in several)
        proceeds = total(row.number("proceeds") or ZERO for row in several)
        kept = next((row for row in several if (row.number("quantity") or ZERO) * quantity > 0), several[0])
        at, _ = kept.time("dateTime", "date", "settleDate", "reportDate")
        if quantity:
            found.append(Leg(kept, at, quantity, proceeds))
    return found


def booked(action: Sequence[Leg]) -> list[Adjustment]:
    """The adjustments of one corporate action; none where its rows do not say enough. Raises RowError."""
    kind = action[0].row.text("type").upper()
    if len(action) == 1:
        return _alone(action[0], kind)
    if kind not in _CONVERSIONS or len(action) != 2 or (action[0].quantity > 0) == (action[1].quantity > 0):
        return []
    return _converted(*sorted(action, key=_comes))


def _comes(leg: Leg) -> bool:
    """Whether a leg is what the other becomes: the text names the old one first. A long leaves with a minus, a short with a plus."""
    named = _OLD.match(leg.row.text("actionDescription") or leg.row.text("description"))
    ids = {leg.row.text(name) for name in ("isin", "securityID", "cusip")} - {""}
    return named[1] not in ids if named and ids else leg.quantity > 0


def _alone(leg: Leg, kind: str) -> list[Adjustment]:
    if kind in _SPLITS or kind == "SD":
        return _split(leg, adds=kind == "SD")
    if kind == "DW" and not leg.proceeds:
        return [_adjustment(leg, _K.EXPIRY, price=ZERO)]
    if kind in _CONVERSIONS and leg.proceeds and (leg.proceeds > 0) == (leg.quantity < 0):
        return [_adjustment(leg, _K.CASH_SETTLEMENT, price=_price(leg))]
    if kind == "SO" and leg.quantity > 0:
        return [_adjustment(leg, _K.TRANSFER, basis=Basis.UNKNOWN)]
    return []


def transferred(row: Row, quantity: Decimal) -> Adjustment:
    """A transfer of securities from or to another broker or account. What came in has no cost in such a row. Raises RowError."""
    at, _ = row.time("dateTime", "date", "settleDate", "reportDate")
    return _adjustment(Leg(row, at, quantity, ZERO), _K.TRANSFER, basis=Basis.UNKNOWN)


def _converted(going: Leg, coming: Leg) -> list[Adjustment]:
    """Lots go over at their cost. Cash beside it is received for what is given up, and lowers the cost."""
    cash = EXACT.add(going.proceeds, coming.proceeds)
    if cash and (cash > 0) != (going.quantity < 0):
        return []
    new, old = coming.quantity.copy_abs(), going.quantity.copy_abs()
    leaves = _adjustment(going, _K.CONVERSION_OUT, amount=cash or None, numerator=new, denominator=old)
    return [leaves, _adjustment(coming, _K.CONVERSION_IN, takes_from=leaves.id, numerator=new, denominator=old)]


def _split(leg: Leg, *, adds: bool) -> list[Adjustment]:
    """The ratio stands in the text alone: `SPLIT 4 FOR 1` has four units for one, a dividend of `1 FOR 10` eleven for ten."""
    written = _RATIO.search(leg.row.text("actionDescription") or leg.row.text("description"))
    if not written or leg.proceeds:
        return []
    new, old = number(written[1]), number(written[2])
    after = EXACT.add(new, old) if adds else new
    return [_adjustment(leg, _K.SPLIT, quantity=ZERO, numerator=after, denominator=old)] if new and old else []


def _price(leg: Leg) -> Decimal:
    with exact():
        return ratio(-leg.proceeds, leg.quantity * leg.row.multiplier)


def _adjustment(
    leg: Leg, kind: AdjustmentKind, *, quantity: Decimal | None = None, basis: Basis = Basis.STATEMENT, **more: object
) -> Adjustment:
    row = leg.row
    said = quoted(row.text("actionDescription") or row.text("description"), 160)
    fields: dict[str, object] = {
        "id": leg.id,
        "account": row.account,
        "instrument": row.instrument_id,
        "kind": kind,
        "time": leg.at,
        "quantity": leg.quantity if quantity is None else quantity,
        "currency": row.currency,
        "multiplier": row.multiplier,
        "basis": basis,
        "sequence": row.serial("transactionID"),
        "source": SOURCE,
        "evidence": f"the statement: {row.tag} {row.text('type')} of {plain(leg.quantity)} {row.symbol}: {said}",
    }
    return Adjustment(**{**fields, **more})  # type: ignore[arg-type]


def together(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each action, in the order of the file; a row without an actionID is an action of its own."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.label("actionID") or f"line {row.line}", []).append(row)
    return list(found.values())
