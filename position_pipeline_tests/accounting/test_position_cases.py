"""Numbers that other projects assert, against our book: every fee convention is a view of the same four figures.

The cases are facts transcribed from other projects' tests; they lie beside the checkout and are no part of it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from position_pipeline.accounting.booking import Booked, fold
from position_pipeline.accounting.exact import ZERO, exact
from position_pipeline.accounting.invariants import violations
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Fill, Method, Position, Side

if TYPE_CHECKING:
    from position_pipeline.accounting.model import Entry

CASES = Path(__file__).resolve().parents[2].parent / "shared" / "cases" / "position_cases.json"
CENT = Decimal("0.01")

if CASES.exists():
    cases: list[dict[str, Any]] = json.loads(CASES.read_text())
else:
    pytest.skip("the cases are not beside the checkout (../shared/cases/position_cases.json)", allow_module_level=True)


def missing(case: dict[str, Any]) -> str:
    """Why a case cannot be run, or nothing."""
    if case.get("variant") == "all_time_side_average":
        return "all_time_side_average: the contract has moving averages only (DESIGN 5: AVERAGE, FIFO, LIFO, HIFO, named lots)"
    return ""


def parameters() -> list[Any]:
    return [pytest.param(case, id=case["id"], marks=[pytest.mark.skip(reason=missing(case))] if missing(case) else []) for case in cases]


@pytest.mark.parametrize("case", parameters())
def test_the_book_gives_the_numbers_that_others_assert(case):
    entries = history(case)
    booked = fold(flat(case), entries)
    assert booked.refused == ()
    assert violations(entries, booked) == ()
    for number, expected in enumerate(case["expect"].get("after_each", []), 1):
        compare(View(fold(flat(case), entries_of_first(case, number, entries)), case, number), expected, f"after {number}")
    compare(View(booked, case, len(case["events"])), case["expect"], "at the end")


def flat(case: dict[str, Any]) -> Position:
    return Position("U1", "ibkr:1", case["currency"], multiplier=Decimal(case["multiplier"]), method=Method(case["method"].lower()))


def history(case: dict[str, Any]) -> list[Entry]:
    """The entries of a case: a dividend is none, because it has no effect on cost."""
    entries: list[Entry] = []
    for number, event in enumerate(case["events"]):
        if event["type"] == "fill":
            entries.append(fill(number, event, case))
        elif event["type"] == "split":
            entries.append(split(number, event, case, fold(flat(case), entries).position))
        else:
            assert event["type"] == "dividend"
    return entries


def entries_of_first(case: dict[str, Any], number: int, entries: list[Entry]) -> list[Entry]:
    return entries[: sum(event["type"] != "dividend" for event in case["events"][:number])]


def fill(number: int, event: dict[str, Any], case: dict[str, Any]) -> Fill:
    return Fill(
        account="U1",
        instrument="ibkr:1",
        execution_id=f"e{number:04d}",
        side=Side(event["side"]),
        quantity=Decimal(event["quantity"]),
        price=Decimal(event["price"]),
        currency=case["currency"],
        time=datetime.fromisoformat(event["time"]).astimezone(UTC),
        multiplier=Decimal(case["multiplier"]),
        commission=ZERO if case["fee_mode"] == "none" else Decimal(event["commission"]),
        commission_currency=case["currency"],
    )


def split(number: int, event: dict[str, Any], case: dict[str, Any], before: Position) -> Adjustment:
    return Adjustment(
        id=f"s{number:04d}",
        account="U1",
        instrument="ibkr:1",
        kind=AdjustmentKind.SPLIT,
        time=datetime.fromisoformat(event["time"]).astimezone(UTC),
        quantity=ZERO,
        currency=case["currency"],
        multiplier=Decimal(case["multiplier"]),
        numerator=Decimal(event["numerator"]),
        denominator=Decimal(event["denominator"]),
        amount=cash_in_lieu(event, before) if "fractions" in event else None,
    )


def cash_in_lieu(event: dict[str, Any], before: Position) -> Decimal:
    """The fraction at the new cost of a unit, both rounded to cents: 1/3 of 60.00 is 20.00."""
    assert event["fractions"] == "cash_in_lieu_at_new_cost"
    numerator, denominator = Decimal(event["numerator"]), Decimal(event["denominator"])
    units = before.quantity * numerator / denominator
    new_cost = (before.average_price * denominator / numerator).quantize(CENT)
    return ((units - int(units)) * new_cost).quantize(CENT)


class View:
    """A position in the fee convention and scope of a case."""

    def __init__(self, booked: Booked, case: dict[str, Any], number: int) -> None:
        self.events = case["events"][:number]
        self.booked, self.position, self.case = booked, booked.position, case
        self.multiplier = Decimal(case["multiplier"])
        self.in_cost, self.on_fill = case["fee_mode"] == "in_cost", case["fee_mode"] == "on_fill"

    @property
    def basis(self) -> Decimal:
        assert self.position.cost is not None
        return self.position.cost + self.position.open_commission if self.in_cost else self.position.cost

    @property
    def realized_pnl(self) -> Decimal:
        paid_now = self.position.open_commission if self.on_fill else ZERO
        if self.case["realized_scope"] == "cycle":
            return self.cycle_pnl(self.position.cycle) - paid_now
        return self.position.realized_net - paid_now

    def cycle_pnl(self, cycle: int) -> Decimal:
        return sum((close.net_pnl for close in self.booked.closes if close.cycle == cycle), ZERO)

    @property
    def closed_cycle_realized_pnl(self) -> list[Decimal]:
        closed = self.position.cycle if not self.position.quantity else self.position.cycle - 1
        return [self.cycle_pnl(cycle) for cycle in range(1, closed + 1)]

    @property
    def commission_total(self) -> Decimal:
        return self.position.opening_commission + self.position.closing_commission + self.position.open_commission

    @property
    def commission_total_cycle(self) -> Decimal:
        closes = [close for close in self.booked.closes if close.cycle == self.position.cycle]
        return sum((close.opening_commission + close.closing_commission for close in closes), self.position.open_commission)

    @property
    def average_price(self) -> Decimal:
        return abs(self.basis / (self.position.quantity * self.multiplier))

    def unrealized(self, price: Decimal) -> Decimal:
        return self.position.quantity * price * self.multiplier - self.basis

    def total(self, price: Decimal) -> Decimal:
        return self.realized_pnl + self.unrealized(price)

    def total_gross(self, price: Decimal) -> Decimal:
        return self.position.realized_gross + self.position.quantity * price * self.multiplier - self.position.cost

    @property
    def cash_in_lieu(self) -> Decimal:
        paid = [close for close in self.booked.closes if close.execution_id.startswith("s")]
        return sum((close.gross_pnl + close.cost for close in paid), ZERO)

    @property
    def dividend_income(self) -> Decimal:
        """The cases hold the same from the first dividend on."""
        rates = [Decimal(event["amount_per_share"]) for event in self.events if event["type"] == "dividend"]
        return sum((rate * self.position.quantity for rate in rates), ZERO)

    @property
    def peak_quantity(self) -> Decimal:
        return max(abs(event.quantity_after) for event in self.booked.events)

    @property
    def lots(self) -> list[tuple[Decimal, Decimal]]:
        return [(lot.quantity, lot.price) for lot in self.position.lots]

    @property
    def consumed(self) -> list[tuple[Decimal, Decimal]]:
        return [(abs(close.quantity), close.entry_price) for close in self.booked.closes]


NUMBERS = {
    "quantity": lambda seen: seen.position.quantity,
    "average_price": lambda seen: seen.average_price,
    "cost_basis": lambda seen: seen.basis,
    "realized_pnl": lambda seen: seen.realized_pnl,
    "realized_pnl_gross": lambda seen: seen.position.realized_gross,
    "commission_total": lambda seen: seen.commission_total,
    "commission_total_cycle": lambda seen: seen.commission_total_cycle,
    "peak_quantity": lambda seen: seen.peak_quantity,
    "cash_in_lieu": lambda seen: seen.cash_in_lieu,
    "dividend_income": lambda seen: seen.dividend_income,
}
AT_A_PRICE = {"unrealized_pnl_at": View.unrealized, "total_pnl_at": View.total, "total_pnl_gross_at": View.total_gross}
PARTS = {"lots": lambda seen: seen.lots, "consumed": lambda seen: seen.consumed}


def compare(seen: View, expected: dict[str, Any], when: str) -> None:
    tolerance = Decimal(seen.case["tolerance"])
    for name, wanted in expected.items():
        if name in NUMBERS:
            close_to(NUMBERS[name](seen), wanted, tolerance, f"{name} {when}")
        elif name in AT_A_PRICE:
            close_to(AT_A_PRICE[name](seen, Decimal(wanted["price"])), wanted["value"], tolerance, f"{name} {when}")
        elif name in PARTS:
            parts = [(Decimal(part["quantity"]), Decimal(part["price"])) for part in wanted]
            assert parts_joined(PARTS[name](seen)) == parts_joined(parts), f"{name} {when}"
        elif name == "closed_cycle_realized_pnl":
            assert seen.closed_cycle_realized_pnl == [Decimal(each) for each in wanted]
        else:
            assert name == "after_each", f"{name} is not compared"


def close_to(value: Decimal, wanted: str, tolerance: Decimal, what: str) -> None:
    with exact():
        assert abs(value - Decimal(wanted)) <= tolerance, f"{what}: {value}, expected {wanted}"


def parts_joined(parts: list[tuple[Decimal, Decimal]]) -> list[tuple[Decimal, Decimal]]:
    """Neighbours of one price as one: some books keep them apart, others do not."""
    joined: list[tuple[Decimal, Decimal]] = []
    for quantity, price in parts:
        if joined and joined[-1][1] == price:
            joined[-1] = (joined[-1][0] + quantity, price)
        else:
            joined.append((quantity, price))
    return joined


def test_the_cases_cover_what_they_are_said_to_cover():
    run = [case for case in cases if not missing(case)]
    assert len(cases) - len(run) == sum("variant" in case for case in cases)
    assert {event["type"] for case in run for event in case["events"]} == {"fill", "split", "dividend"}
    assert {case["method"] for case in run} == {"AVERAGE", "FIFO", "LIFO", "HIFO"}
    assert {case["fee_mode"] for case in run} == {"none", "in_cost", "on_fill"}
    assert all(before["id"] != after["id"] for before, after in pairwise(cases))
