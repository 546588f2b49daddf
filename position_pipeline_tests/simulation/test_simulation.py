"""A fixed list of random histories: each ends in the true book. `python -m position_pipeline_tests.simulation` plays others.

Each of the seeds found a fault once, or has a kind of event or fault that no other has. They are valid for the plans as they are drawn now:
where plan.py changes, `sometimes` says what the list does not have any more.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from position_pipeline_tests.simulation.checker import true_book, wrong_verdicts
from position_pipeline_tests.simulation.database import Databases
from position_pipeline_tests.simulation.driver import play
from position_pipeline_tests.simulation.facts import Fact
from position_pipeline_tests.simulation.faults import ANSWERS
from position_pipeline_tests.simulation.market import START
from position_pipeline_tests.simulation.plan import KINDS, plan
from position_pipeline_tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from position_pipeline_tests.simulation.driver import Played

SEEDS = (
    *(3, 16, 25, 36, 42, 46, 52, 57, 59, 65, 75, 202, 1003, 1061, 1064, 5025, 5063, 7048, 1409209, 1409263, 1409363),
    *(1409375, 4698907, 5270380, 6200083, 6300079, 6400126, 8188560, 8188659),  # something else than was booked as certain had happened
)


@pytest.fixture(scope="module")
def databases(server: str) -> Databases:
    return Databases(server)


@pytest.fixture(scope="module")
def total() -> Iterator[Counter[str]]:
    """What all histories did together."""
    return Counter()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_book_is_the_true_one_in_the_end(seed: int, databases: Databases, total: Counter[str]) -> None:
    played = play(databases.shared(), plan(seed))
    assert played.violations == [], f"python -m position_pipeline_tests.simulation --seed {seed}"
    total.update(played.events + played.faults + played.marks)


def test_everything_happened_in_some_of_them(total: Counter[str]) -> None:
    """A history in which nothing happens is no test."""
    wanted = {*KINDS, *ANSWERS, "expired", "delivered at the end", "statements", "exact without a statement", "healed by adopted"}
    assert wanted - {what for what, times in total.items() if times} == set()


def test_a_plan_is_the_same_whenever_it_is_drawn() -> None:
    assert plan(7) == plan(7)
    assert plan(7) != plan(8)


def test_a_book_that_is_wrong_is_found(databases: Databases) -> None:
    """The statement tells other commissions than there were: the checker must see it."""

    class Liar(World):
        def statement(self, account, until=None):
            fills, adjustments = super().statement(account, until)
            return [fill._replace(commission=fill.commission + 1) for fill in fills], adjustments

    found = _played_in(Liar, databases)
    assert {each.partition(":")[0] for each in found.violations} == {"lots", "realised"}


def _played_in(world: type[World], databases: Databases) -> Played:
    from position_pipeline_tests.simulation import driver

    kept, driver.World = driver.World, world
    url = databases.fresh()
    try:
        return play(url, plan(2))
    finally:
        driver.World = kept
        databases.drop(url)


# The brute force, against sums on paper

D = Decimal


def fact(kind: str, quantity: int = 0, price: str | None = None, *, at: int, **more) -> Fact:
    from datetime import timedelta

    values = {"id": f"{kind}{at}", "account": "U1", "con_id": 1} | more
    return Fact(kind=kind, time=START + timedelta(seconds=at), quantity=D(quantity), price=None if price is None else D(price), **values)


def booked(kind: str, quantity: int = 0, ratio: tuple[int, int] | None = None, con_id: int = 1) -> dict:
    """A row of what the book says by itself."""
    n, d = ratio or (None, None)
    figures = {"quantity": D(quantity), "numerator": n, "denominator": d, "evidence": "two signs"}
    return {"kind": kind, "account": "U1", "instrument": f"ibkr:{con_id}", **figures}


@pytest.mark.parametrize(
    "wrong",
    [
        booked("transfer", 300),
        booked("transfer", -100),
        booked("split", 0, (7, 3)),
        booked("split", 0, (2, 1), con_id=2),
        booked("expiry", 2),
        booked("expiry", -6, con_id=2),
        booked("void"),
    ],
)
def test_what_was_booked_as_certain_and_did_not_happen_so_is_found(wrong: dict) -> None:
    facts = [fact("in", 100, "5", at=1), fact("split", at=2, numerator=2), fact("expiry", -5, at=3, con_id=2)]
    true = [
        booked("transfer", 100),
        booked("transfer", 200),  # by an answer from after the split
        booked("split", 0, (2, 1)),
        booked("expiry", -5, con_id=2),
        booked("expiry", -2, con_id=2),  # three more had been bought, of which nobody told
        booked("adopted", 77),
    ]
    (said,) = wrong_verdicts(facts, [*true, wrong])
    assert said.startswith(f"wrong: {wrong['kind']} of ")


def test_the_brute_force_takes_the_oldest_or_newest_lots_or_the_average() -> None:
    facts = [
        fact("trade", 10, "5", at=1, commission=D(1)),
        fact("trade", 10, "7", at=2),
        fact("trade", -15, "8", at=3, commission=D(3)),
    ]
    realized = {method: true_book(facts, {1: D(1)}, method).realized["U1", 1, "trade3"] for method in ("fifo", "lifo", "average")}
    # 15 x 8 - 3 = 117; fifo less 51 + 35; lifo less 70 + 25.50; average less 15 x 121 / 20
    assert realized == {"fifo": 31, "lifo": Fraction(43, 2), "average": 117 - Fraction(15 * 121, 20)}


def test_the_brute_force_moves_a_premium_with_the_shares() -> None:
    facts = [
        fact("trade", -1, "3", at=1, con_id=2, commission=D(1)),
        fact("ended", 1, at=2, con_id=2, id="end"),
        fact("trade", 100, "50", at=2, takes_from="end"),
    ]
    book = true_book(facts, {1: D(1), 2: D(100)}, "fifo")
    assert [(lot.quantity, lot.cost) for lot in book.lots["U1", 1]] == [(100, 4701)]  # 100 x 50 - (300 - 1)
    assert book.quantity(("U1", 2)) == 0
