"""What an answer of the broker means for the book: agreement, an opening balance at first contact, or a break. Quantities match exactly."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.model import AdjustmentKind, Basis, BreakClass
from position_pipeline.accounting.reconciliation import BookSide, reconcile
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, BTC, EVERYTHING, KO, TSLA, holding, moment, snapshot

D = Decimal
KINDS = {instrument.id: instrument for instrument in EVERYTHING}


def side(quantity, bought=0, sold=0, *, at=60, **more) -> BookSide:
    return BookSide(D(quantity), moment(at), D(bought), D(sold), **more)


def first(book, *holdings, **more):
    return reconcile(book, snapshot(*holdings, **more), KINDS, first_contact=True)


def later(book, *holdings, **more):
    return reconcile(book, snapshot(*holdings, **more), KINDS, first_contact=False)


def only(found):
    assert not found.breaks
    (adjustment,) = found.adjustments
    return adjustment


def test_what_both_sides_hold_is_agreed():
    found = later({AAPL.id: side(10)}, holding(AAPL, 10, 100))
    assert (found.agreed, found.adjustments, found.breaks) == ({AAPL.id}, (), ())


def test_flat_on_both_sides_is_agreed():
    assert later({AAPL.id: side(0)}, holding(KO, 0)).agreed == {AAPL.id, KO.id}


# First contact


def test_a_holding_without_fills_was_held_before():
    opening = only(first({}, holding(AAPL, 120, "187.4421")))
    assert (opening.kind, opening.quantity, opening.price) == (AdjustmentKind.OPENING_BALANCE, 120, D("187.4421"))
    assert (opening.basis, opening.time, opening.id) == (Basis.BROKER, moment(3600 - 60), f"opening:{ACCOUNT}:{AAPL.id}")
    assert opening.evidence == (
        "First contact: the broker holds 120, the fills it lists explain 0; the other 120 were held before, at the broker's average 187.4421."
    )


@pytest.mark.parametrize(
    ("bought", "sold", "holds", "before"),
    [
        (10, 0, 130, 120),  # 130 - 10
        (0, 30, 90, 120),  # 90 + 30
        (10, 30, 100, 120),  # 100 - 10 + 30
        (5, 0, -25, -30),  # -25 - 5
    ],
)
def test_todays_fills_are_taken_off_what_was_held_before(bought, sold, holds, before):
    opening = only(first({AAPL.id: side(bought - sold, bought, sold)}, holding(AAPL, holds, 100)))
    assert (opening.quantity, opening.price, opening.basis) == (before, 100, Basis.BROKER)
    assert opening.time == moment(60) - timedelta(microseconds=1)  # before the first of them


@pytest.mark.parametrize(
    ("bought", "sold", "holds", "before"),
    [
        (0, 150, 0, 150),  # all of it sold today
        (50, 0, 20, -30),  # a short that was bought back, and more
        (0, 200, -50, 150),  # a long that was sold, and more
        (200, 150, 170, 120),  # sold, as the oldest; what is held now was bought today
    ],
)
def test_of_what_was_held_before_and_is_gone_the_brokers_average_says_nothing(bought, sold, holds, before):
    opening = only(first({AAPL.id: side(bought - sold, bought, sold)}, holding(AAPL, holds, 100)))
    assert (opening.quantity, opening.price, opening.basis) == (before, None, Basis.UNKNOWN)
    assert "at a cost that it does not tell" in opening.evidence


def test_a_holding_that_is_gone_is_not_listed_at_all():
    opening = only(first({AAPL.id: side(-150, 0, 150)}))
    assert (opening.quantity, opening.price) == (150, None)


def test_a_broker_that_tells_no_average_leaves_the_cost_unknown():
    opening = only(first({}, holding(AAPL, 120)))
    assert (opening.price, opening.basis) == (None, Basis.UNKNOWN)


def test_where_a_statement_has_told_what_was_held_a_difference_is_a_break_even_at_first_contact():
    found = first({AAPL.id: side(100, 100, listed=False)}, holding(AAPL, 160, 100))
    assert not found.adjustments
    assert [(b.book_quantity, b.broker_quantity) for b in found.breaks] == [(100, 160)]


def test_every_digit_counts():
    found = first({BTC.id: side("0.1", "0.1")}, holding(BTC, "0.123456789012345678901234567890123", 64000))
    assert only(found).quantity == D("0.023456789012345678901234567890123")


# Later


@pytest.mark.parametrize(("ours", "theirs"), [(10, 11), (10, -10), (0, 5), (5, 0), ("10.0000000001", 10)])
def test_a_later_difference_is_a_break_and_nothing_else(ours, theirs):
    found = later({AAPL.id: side(ours)}, holding(AAPL, theirs, 100))
    (difference,) = found.breaks
    assert (difference.cls, difference.book_quantity, difference.broker_quantity) == (BreakClass.UNKNOWN, D(ours), D(theirs))
    assert (found.agreed, found.adjustments) == (frozenset(), ())


def test_a_vanished_holding_is_a_break():
    (difference,) = later({AAPL.id: side(10), KO.id: side(5)}, holding(KO, 5)).breaks
    assert (difference.instrument, difference.broker_quantity) == (AAPL.id, ZERO)


def test_a_break_says_what_both_sides_hold_and_what_to_do():
    (difference,) = later({AAPL.id: side(10)}, holding(AAPL, "12.50", 100)).breaks
    assert difference.evidence.startswith("The book holds 10, the broker 12.5 (+2.5), ")
    assert "position-pipeline import" in difference.proposal


def test_an_average_of_another_convention_is_no_difference():
    assert later({AAPL.id: side(10)}, holding(AAPL, 10, 99)).agreed == {AAPL.id}


# What could not be read


@pytest.mark.parametrize("contact", [first, later])
def test_what_could_not_be_read_is_left_out(contact):
    book = {AAPL.id: side(10), KO.id: side(5)}
    found = contact(book, holding(KO, 5), errors={"AAPL": "garbled"}, unread=frozenset({AAPL.id}))
    assert (found.agreed, found.adjustments, found.breaks) == ({KO.id}, (), ())


def test_what_no_answer_could_be_read_of_has_its_first_contact_later():
    found = reconcile({}, snapshot(holding(TSLA, 7, 200), holding(KO, 5, 60)), KINDS, first_contact=False, unmet=frozenset({TSLA.id}))
    assert [(entry.instrument, entry.quantity) for entry in found.adjustments] == [(TSLA.id, 7)]
    assert [difference.instrument for difference in found.breaks] == [KO.id]
