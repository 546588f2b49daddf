"""Numbers that other projects assert, against our book: every fee convention is a view of the same four figures.

The cases are facts transcribed from other projects' tests; they lie beside the checkout and are no part of it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from position_pipeline.accounting.booking import Booked, fold
from position_pipeline.accounting.exact import ZERO, exact
from position_pipeline.accounting.model import Fill, Method, Position, Side

CASES = Path(__file__).resolve().parents[2].parent / "shared" / "cases" / "position_cases.json"
NOT_BOOKED_YET = {"split": "splits are not booked yet", "dividend": "dividends are not booked yet"}

if CASES.exists():
    cases: list[dict[str, Any]] = json.loads(CASES.read_text())
else:
    pytest.skip("the cases are not beside the checkout (../shared/cases/position_cases.json)", allow_module_level=True)


def missing(case: dict[str, Any]) -> str:
    """Why a case cannot be run, or nothing."""
    if case.get("variant"):
        return f"{case['variant']} is a convention that no method of ours follows"
    return next((NOT_BOOKED_YET[event["type"]] for event in case["events"] if event["type"] in NOT_BOOKED_YET), "")


def parameters() -> list[Any]:
    return [pytest.param(case, id=case["id"], marks=[pytest.mark.skip(reason=missing(case))] if missing(case) else []) for case in cases]


@pytest.mark.parametrize("case", parameters())
def test_the_book_gives_the_numbers_that_others_assert(case):
    fills = [fill(number, event, case) for number, event in enumerate(case["events"])]
    position = Position("U1", "ibkr:1", case["currency"], multiplier=Decimal(case["multiplier"]), method=Method(case["method"].lower()))
    expectations = [*case["expect"].get("after_each", []), {}][: len(fills)]
    for number, expected in enumerate(expectations, 1):
        compare(view(fold(position, fills[:number]), case), expected, case, f"after {number}")
    compare(view(fold(position, fills), case), case["expect"], case, "at the end")


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


class View:
    """A position in the fee convention and scope of a case."""

    def __init__(self, booked: Booked, case: dict[str, Any]) -> None:
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
    def peak_quantity(self) -> Decimal:
        return max(abs(event.quantity_after) for event in self.booked.events)

    @property
    def lots(self) -> list[tuple[Decimal, Decimal]]:
        return [(lot.quantity, lot.price) for lot in self.position.lots]

    @property
    def consumed(self) -> list[tuple[Decimal, Decimal]]:
        return [(abs(close.quantity), close.entry_price) for close in self.booked.closes]


def view(booked: Booked, case: dict[str, Any]) -> View:
    return View(booked, case)


NUMBERS = {
    "quantity": lambda seen: seen.position.quantity,
    "average_price": lambda seen: seen.average_price,
    "cost_basis": lambda seen: seen.basis,
    "realized_pnl": lambda seen: seen.realized_pnl,
    "realized_pnl_gross": lambda seen: seen.position.realized_gross,
    "commission_total": lambda seen: seen.commission_total,
    "commission_total_cycle": lambda seen: seen.commission_total_cycle,
    "peak_quantity": lambda seen: seen.peak_quantity,
}
AT_A_PRICE = {"unrealized_pnl_at": View.unrealized, "total_pnl_at": View.total, "total_pnl_gross_at": View.total_gross}
PARTS = {"lots": lambda seen: seen.lots, "consumed": lambda seen: seen.consumed}


def compare(seen: View, expected: dict[str, Any], case: dict[str, Any], when: str) -> None:
    tolerance = Decimal(case["tolerance"])
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
    assert {case["method"] for case in run} == {"AVERAGE", "FIFO", "LIFO", "HIFO"}
    assert {case["fee_mode"] for case in run} == {"none", "in_cost", "on_fill"}
    assert all(before["id"] != after["id"] for before, after in pairwise(cases))
