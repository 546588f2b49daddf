"""The broker's average beside what the book says the open lots cost: two cost books, of which neither is overwritten.

Belongs here: which gap has an explanation. Does not belong here: quantities (verdicts.py), what lots cost (booking.py).

A gap is an agreement within half a percent, or one unit of currency altogether. Brokers differ in two conventions: IBKR has commissions in
its average and Alpaca has not, and each has a method of its own; a broker's cost that is ours with or without commissions, or by
another method (where the caller has worked that out), is explained. What is left is a break of class `cost_method`; never an adjustment.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.figures import COST_SHARE, about, money
from position_pipeline.accounting.exact import exact, plain
from position_pipeline.accounting.impacts import in_base
from position_pipeline.accounting.model import Break, BreakClass, Subject

if TYPE_CHECKING:
    from position_pipeline.accounting.circumstances import BookSide
    from position_pipeline.accounting.model import Holding, Instrument, Snapshot

_LEAST = Decimal(1)


def cost_break(snapshot: Snapshot, side: BookSide, holding: Holding, instrument: Instrument) -> Break | None:
    """The break of one instrument of which both sides hold the same, if their costs differ and nothing explains it."""
    if side.cost is None or holding.average_price is None or not side.quantity:
        return None
    with exact():
        return _compared(snapshot, side, holding, instrument)


def _compared(snapshot: Snapshot, side: BookSide, holding: Holding, instrument: Instrument) -> Break | None:
    assert side.cost is not None
    assert holding.average_price is not None
    theirs = holding.average_price * side.quantity * instrument.multiplier
    if about(theirs, side.cost, COST_SHARE, _LEAST) or _is_explained(theirs, side):
        return None
    gap = theirs - side.cost - side.open_commission
    impact, currency = in_base(abs(gap), instrument.currency, snapshot.values)
    method = "" if side.method is None else f" by {side.method}"
    return Break(
        account=snapshot.account,
        instrument=instrument.id,
        subject=Subject.COST,
        cls=BreakClass.COST_METHOD,
        book_quantity=side.quantity,
        broker_quantity=holding.quantity,
        evidence=(
            f"Both hold {plain(side.quantity)}. The book's cost{method} is {money(side.cost)}, with "
            f"commissions {money(side.cost + side.open_commission)}; the broker's is {money(theirs)} "
            f"({plain(holding.average_price)} a unit). The gap of {money(gap)} {instrument.currency} is more than methods and commissions "
            "explain: a wash sale, a return of capital or lots chosen at the broker may. The book's cost stays."
        ),
        proposal="Compare with the broker's tax lots; a statement brings what is missing: position-pipeline import FILE",
        cause=f"{BreakClass.COST_METHOD}:{snapshot.account}:{instrument.id}",
        impact=impact,
        impact_currency=currency,
    )


def _is_explained(theirs: Decimal, side: BookSide) -> bool:
    """Whether commissions or another method make our cost the broker's; a commission raises a long's cost and lowers a short's proceeds."""
    assert side.cost is not None
    costs = (side.cost, *side.costs.values())
    return any(about(theirs, cost + side.open_commission, COST_SHARE, _LEAST) or about(theirs, cost, COST_SHARE, _LEAST) for cost in costs)
