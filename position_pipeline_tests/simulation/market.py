"""What can be traded in a plan, and what is held before its first day.

Belongs here: instruments of the simulated broker, made for one plan, so that no two histories share one. Does not belong here: trading.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from position_pipeline.simulator.scenario import Instrument, Opening
from position_pipeline_tests.simulation.plan import OPTIONS, STOCKS

if TYPE_CHECKING:
    from position_pipeline_tests.simulation.plan import Plan

ZONE = ZoneInfo("America/New_York")
START = datetime(2026, 4, 6, tzinfo=ZONE)
"""A Monday; no clock is changed for months."""

PRICES = {
    "ALFA": "40",
    "BETA": "103.5",
    "GAMMA": "7.8",
    "DELTA": "251",
    "CALL": "2.4",
    "PUT": "1.9",
    "NEAR": "3",
    "FUTURE": "5000",
    "COIN": "60000",
}
ON = {"CALL": ("ALFA", "C"), "PUT": ("ALFA", "P"), "NEAR": ("BETA", "C")}
"""The shares that each option delivers, and its right."""


def market(plan: Plan) -> dict[str, Instrument]:
    """By the names that steps use; `NEW ALFA` is what ALFA may become."""
    base = 1_000_000_000 + plan.seed % 9_000_000 * 100
    names = (*PRICES, *(f"NEW {name}" for name in STOCKS))
    return {name: _made(plan, name, base + number) for number, name in enumerate(names)}


def _made(plan: Plan, name: str, con_id: int) -> Instrument:
    label = f"{name}{plan.seed}"
    if name in OPTIONS:
        return _option(plan, name, con_id)
    if name == "FUTURE":
        more = {"sec_type": "FUT", "multiplier": Decimal(50), "expiry": "20270319", "tick": Decimal("0.25")}
        return Instrument(con_id, label, local_symbol=label, price=Decimal(PRICES[name]), **more)
    if name == "COIN":
        return Instrument(con_id, label, "CRYPTO", price=Decimal(PRICES[name]))
    old = name.removeprefix("NEW ")
    if old != name:
        label = f"{old}{plan.seed}X" if plan.seed % 2 == 0 else f"{old[::-1]}{plan.seed}"
    return Instrument(con_id, label, "STK", local_symbol=label, price=Decimal(PRICES[old]))


def _option(plan: Plan, name: str, con_id: int) -> Instrument:
    (under, right), number = ON[name], OPTIONS.index(name)
    return Instrument(
        con_id,
        f"{under}{plan.seed}",
        "OPT",
        multiplier=Decimal(100),
        expiry=f"{START + timedelta(days=plan.expiries[number]):%Y%m%d}",
        strike=(Decimal(PRICES[under]) * (100 + plan.strikes[number]) / 100).quantize(Decimal("0.5")),
        right=right,
        local_symbol=f"{name}{plan.seed}",
        price=Decimal(PRICES[name]),
    )


def openings(plan: Plan, account: int, listed: dict[str, Instrument]) -> tuple[Opening, ...]:
    """What an account holds before the first day, bought at seven percent below the market."""
    return tuple(_opening(listed[what], quantity) for owner, what, quantity in plan.opening if owner == account)


def _opening(one: Instrument, quantity: int) -> Opening:
    units = Decimal(quantity) / (100 if one.sec_type == "CRYPTO" else 1)
    return Opening(one.con_id, units, (one.price * Decimal("0.93") * one.factor).quantize(Decimal("0.01")))
