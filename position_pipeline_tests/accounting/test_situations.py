"""Situations of a trader's life, told in situations.txt: the verdict that a careful person would give, and the book after it.

In none of them is a position closed, opened or re-costed without a reason: where no `then` says that something is automatic or adopted,
the book stays as it was.
"""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal

import pytest

from position_pipeline.accounting.model import Break, Subject
from position_pipeline.accounting.reconciliation import differing, reconcile
from position_pipeline_tests.accounting.situations import SITUATIONS, Situation

CENT = Decimal("0.0001")
each_situation = pytest.mark.parametrize("it", SITUATIONS, ids=[it.name for it in SITUATIONS])


def break_of(found, instrument: str) -> Break | None:
    return next((each for each in found.breaks if each.instrument == instrument), None)


def test_there_are_many_situations():
    assert len(SITUATIONS) >= 60
    assert len({it.name for it in SITUATIONS}) == len(SITUATIONS)
    assert all(it.then for it in SITUATIONS)


@each_situation
def test_a_careful_verdict(it: Situation):
    found = it.reconciled()
    booked = it.fold(*found.adjustments)
    assert not any(each.refused for each in booked.values())
    assert bool(found.alarm) == (["alarm"] in it.then)
    told: set[str] = set()
    for symbol, *words in it.then:
        if symbol == "realised":
            assert close(booked[it.instrument(words[0]).id].position.realized_gross, words[1])
        elif words[:1] == ["accepted"]:
            accepted(it, found, symbol, *words[1:])
        elif symbol != "alarm":
            told.add(it.instrument(symbol).id)
            verdict(it, found, booked, it.instrument(symbol).id, words)
    assert {each.instrument for each in (*found.breaks, *found.adjustments)} <= told


def verdict(it: Situation, found, booked, instrument: str, words: list[str]) -> None:
    what, how, *figures = words if words[0] != "agreed" else ["agreed", *words]
    position, here = booked[instrument].position, break_of(found, instrument)
    mine = [each for each in found.adjustments if each.instrument == instrument]
    assert position.quantity == Decimal(figures[0])
    if len(figures) > 1:
        assert position.cost is None if figures[1] == "unknown" else close(position.cost, figures[1])
    if how == "agreed":
        assert instrument not in differing(it.book(), it.snapshot())
        assert here is None
    elif how == "automatic":
        assert here is None
        assert mine
        if what != "opening":
            (record,) = [each for each in found.resolved if each.instrument == instrument]
            assert record.cls == what
            assert len(record.signs) > 1
    else:
        assert here is not None
        assert here.cls == what
        assert bool(mine) == (how == "adopted")
        assert how != "proposal" or (here.proposed and here.proposal)
        assert how != "open" or what == "timing" or not here.proposed


def accepted(it: Situation, found, symbol: str, quantity: str, cost: str = "0") -> None:
    proposed = {entry.id: entry for each in found.breaks for entry in each.proposed}
    position = it.fold(*proposed.values())[it.instrument(symbol).id].position
    assert position.quantity == Decimal(quantity)
    assert close(position.cost, cost)


def close(value: Decimal | None, expected: str) -> bool:
    """The broker's averages are rounded, and so is what follows from them."""
    assert value is not None
    return abs(value - Decimal(expected)) < CENT


@each_situation
def test_what_is_carried_out_makes_both_sides_hold_the_same(it: Situation):
    found = it.reconciled()
    booked = it.fold(*found.adjustments)
    held = {holding.instrument: holding.quantity for holding in it.holds}
    for instrument in {each.instrument for each in found.adjustments}:
        assert booked[instrument].position.quantity == held.get(instrument, 0)


@each_situation
def test_what_was_carried_out_is_not_carried_out_again(it: Situation):
    adjustments = it.reconciled().adjustments
    again = it.reconciled_again(*adjustments)
    assert not {each.instrument for each in again.adjustments} & {each.instrument for each in adjustments}
    assert not {each.id for each in again.adjustments} & {each.id for each in adjustments}


@each_situation
def test_the_order_of_what_comes_in_does_not_matter(it: Situation):
    found, shuffle = it.reconciled(), random.Random(it.name)
    recent = it.recent()
    for _ in range(3):
        book = list(it.book().items())
        holdings, fills, standing, kinds = list(it.holds), list(recent.fills), list(recent.standing), list(it.kinds().items())
        for values in (book, holdings, fills, standing, kinds):
            shuffle.shuffle(values)
        other = reconcile(
            dict(book), replace(it.snapshot(), holdings=tuple(holdings)), dict(kinds), first_contact=it.first,
            recent=replace(recent, fills=tuple(fills), standing=tuple(standing)), policy=it.policy,
        )  # fmt: skip
        assert other == found


@each_situation
def test_every_difference_has_a_verdict_with_its_figures(it: Situation):
    found = it.reconciled()
    answered = {each.instrument for each in (*found.breaks, *found.resolved)} | {each.instrument for each in found.adjustments}
    kinds = it.kinds()
    assert {each for each in differing(it.book(), it.snapshot()) if kinds[each].sec_type != "CASH"} <= answered
    for each in (*found.breaks, *found.resolved):
        if each.subject is Subject.QUANTITY:
            assert each.evidence.startswith("The book holds ")
            assert each.cause
            assert each.proposal


@each_situation
def test_what_was_inferred_says_what_is_held_after_it(it: Situation):
    found = it.reconciled()
    for entry in (*found.adjustments, *(entry for each in found.breaks for entry in each.proposed)):
        assert entry.held is not None or entry.kind in ("void", "opening_balance")
        assert entry.time <= it.now
