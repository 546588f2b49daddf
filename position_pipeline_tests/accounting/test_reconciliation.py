"""What an answer of the broker means for the book: agreement, an opening balance at first contact, or a break that waits and is adopted.

Causes are in test_situations.py. Quantities match exactly.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from position_pipeline.accounting.circumstances import BookSide, Policy, Recent, Standing
from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.model import AccountValue, AdjustmentKind, Basis, BreakClass, Method, Subject
from position_pipeline.accounting.reconciliation import differing, reconcile
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, BTC, CALL, EVERYTHING, KO, SAP, TSLA, buy, holding, moment, snapshot

D = Decimal
KINDS = {instrument.id: instrument for instrument in EVERYTHING}
EUROS = (AccountValue("NetLiquidation", "1", "USD"), AccountValue("ExchangeRate", "1.1", "EUR"))


def side(quantity, bought=0, sold=0, *, at=60, **more) -> BookSide:
    return BookSide(D(quantity), first_entry_at=moment(at), bought=D(bought), sold=D(sold), **more)


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


def test_a_later_difference_is_waited_for_and_nothing_else_is_done():
    for ours, theirs in [(10, 11), (10, -10), (0, 5), ("10.0000000001", 10)]:
        found = later({AAPL.id: side(ours), KO.id: side(1)}, holding(AAPL, theirs, 100), holding(KO, 1))
        (difference,) = found.breaks
        assert (difference.cls, difference.book_quantity, difference.broker_quantity) == (BreakClass.TIMING, D(ours), D(theirs))
        assert (found.agreed, found.adjustments) == ({KO.id}, ())


def test_a_vanished_holding_is_a_break():
    (difference,) = later({AAPL.id: side(10), KO.id: side(5)}, holding(KO, 5)).breaks
    assert (difference.instrument, difference.broker_quantity) == (AAPL.id, ZERO)


def test_a_break_says_what_both_sides_hold_what_it_is_worth_and_what_to_do():
    (difference,) = later({SAP.id: side(10)}, holding(SAP, "12.50", 100, 101), values=EUROS).breaks
    assert difference.evidence.startswith("The book holds 10, the broker 12.5 (+2.5). ")
    assert "position-pipeline import" in difference.proposal
    assert (difference.impact, difference.impact_currency) == (D("277.75"), "USD")  # 2.5 x 101 x 1.1


def test_without_a_rate_a_difference_is_worth_what_it_is_in_its_own_currency():
    (difference,) = later({SAP.id: side(10)}, holding(SAP, 12, 100)).breaks
    assert (difference.impact, difference.impact_currency) == (200, "EUR")


def test_without_a_price_nobody_knows_what_a_difference_is_worth():
    (difference,) = later({SAP.id: side(10)}, holding(SAP, 12)).breaks
    assert (difference.impact, difference.impact_currency) == (None, None)


def test_the_cheap_first_step_finds_what_differs():
    book = {AAPL.id: side(10), KO.id: side(5), TSLA.id: side(0), SAP.id: side(3)}
    answer = snapshot(holding(AAPL, 10), holding(KO, 6), holding(BTC, 1), errors={"SAP": "garbled"}, unread=frozenset({SAP.id}))
    assert differing(book, answer) == {KO.id, BTC.id}


# A break that stands


def standing(first=0, seen=1, book=10, broker=15, *, instrument=AAPL, **more) -> Standing:
    values = {"before": holding(instrument, book, 100), "agreed_at": moment(first - 300), "changed_at": moment(first)}
    figures = (D(book), D(broker))
    return Standing("b1", instrument.id, Subject.QUANTITY, BreakClass.TIMING, moment(first), seen, *figures, **(values | more))


def again(at, one: Standing, ours=10, theirs=15, policy=None, **more):
    """What is made of 10 in the book and 15 at the broker, the others at 100 and these at 110."""
    book = {AAPL.id: side(ours), KO.id: side(1)}
    answer = snapshot(holding(AAPL, theirs, "103.3333333333", 110), holding(KO, 1), at=at)
    past = Recent(standing=(one,), proven_before=moment(at - 300), **more)
    return reconcile(book, answer, KINDS, first_contact=False, recent=past, policy=policy or Policy())


@pytest.mark.parametrize(
    ("age", "seen", "adopted"),
    [
        (900, 1, True),  # fifteen minutes, and this is the second answer
        (899, 1, False),  # a second too early
        (86400, 9, True),
    ],
)
def test_what_nothing_explains_is_adopted_after_the_window(age, seen, adopted):
    found = again(3600, standing(3600 - age, seen))
    assert bool(found.adjustments) == adopted
    (difference,) = found.breaks  # it stays open either way
    assert (difference.cls is BreakClass.TIMING) != adopted


def test_one_answer_more_is_needed_where_the_policy_says_so():
    assert not again(3600, standing(0, 1), policy=Policy(snapshots=3)).adjustments
    assert again(3600, standing(0, 2), policy=Policy(snapshots=3)).adjustments


def test_a_difference_that_may_clear_says_by_when():
    (difference,) = again(3600, standing(3300)).breaks
    assert difference.expected_clear_at == moment(3300 + 900)


def test_an_adoption_says_what_the_broker_holds_and_at_what_cost_it_came():
    (entry,) = again(3600, standing(0)).adjustments
    assert (entry.kind, entry.quantity, entry.held, entry.time) == (AdjustmentKind.ADOPTED, 5, 15, moment(3600))
    assert abs(entry.price - 110) < D("0.0001")  # (15 x 103.33 - 10 x 100) / 5
    assert (entry.basis, entry.id) == (Basis.BROKER, f"adopted:{ACCOUNT}:{AAPL.id}:{moment(0).isoformat()}")


def test_the_same_cause_has_the_same_id_however_late_it_is_looked_at():
    assert again(3600, standing(0)).adjustments[0].id == again(7200, standing(0, 30)).adjustments[0].id


def test_who_wants_to_be_asked_is_asked():
    found = again(3600, standing(0), policy=Policy(adopts=False))
    assert (found.adjustments, len(found.breaks)) == ((), 1)


@pytest.mark.parametrize(("at", "told"), [(3541, True), (3600, True), (3605, True), (3539, False)])
def test_a_fill_within_a_minute_of_the_answer_may_be_missing_from_it(at, told):
    late = buy(AAPL, 5, 110, at=at, name="x1")
    found = again(3600, standing(0), ours=15, theirs=10, fills=(late,))
    (difference,) = found.breaks
    assert ("from before fill x1" in difference.evidence) == told
    assert bool(found.adjustments) != told  # nothing is adopted of what trades right now


def test_an_adopted_difference_stays_a_break_while_its_adoption_books_something():
    adopted = standing(0, 4, book=15, broker=15, adopted="a1", booked=D(5))
    found = again(3600, adopted, ours=15)
    assert found.agreed == {AAPL.id, KO.id}
    (left,) = found.breaks
    assert (left.cls, left.book_quantity, left.broker_quantity) == (BreakClass.TIMING, 15, 15)
    assert "5 of its quantity rest on nothing but the broker's list" in left.evidence


def test_an_adopted_difference_that_facts_explain_is_no_break_any_more():
    assert not again(3600, standing(0, 4, book=15, broker=15, adopted="a1"), ours=15).breaks


def test_a_new_difference_where_one_was_adopted_has_a_window_of_its_own():
    adopted = standing(0, 40, book=15, broker=15, adopted="a1", booked=D(5))
    fresh = again(36000, adopted, ours=15, theirs=18)
    assert (fresh.adjustments, fresh.breaks[0].cls) == ((), BreakClass.TIMING)
    late = again(37000, replace(adopted, broker_quantity=D(18), changed_at=moment(36000)), ours=15, theirs=18)
    assert [entry.id for entry in late.adjustments] == [f"adopted:{ACCOUNT}:{AAPL.id}:{moment(36000).isoformat()}"]


def test_a_dismissed_break_is_left_alone_until_its_figures_change():
    dismissed = standing(0, 40, dismissed=True)
    assert not again(3600, dismissed).adjustments
    assert again(3600, dismissed, theirs=16).adjustments


def gone(one: Standing, policy: Policy):
    """AAPL is gone, KO is there."""
    book = {AAPL.id: side(10), KO.id: side(1)}
    answer = snapshot(holding(KO, 1), at=3600)
    return reconcile(book, answer, KINDS, first_contact=False, recent=Recent(standing=(one,), proven_before=moment(3300)), policy=policy)


def test_what_is_gone_is_closed_only_when_two_answers_in_a_row_say_so():
    policy = Policy(closes_missing=True)
    assert gone(standing(3300, 3, broker=0, seen_whole=1), policy).adjustments
    assert not gone(standing(3300, 3, broker=5, seen_whole=1), policy).adjustments  # the last one said 5
    assert not gone(standing(3300, 3, broker=0, seen_whole=1), Policy()).adjustments


def test_answers_that_were_read_in_part_are_none_of_the_two_that_close_what_is_gone():
    assert not gone(standing(3300, 3, broker=0, seen_whole=0), Policy(closes_missing=True)).adjustments


@pytest.mark.parametrize("share", ["0.5", "1", "2"])
def test_all_that_is_held_is_never_closed_whatever_the_share(share):
    policy = Policy(closes_missing=True, vanishing=D(share))
    book = {AAPL.id: side(10), KO.id: side(1)}
    past = Recent(standing=(standing(0, 9, broker=0), standing(0, 9, 1, 0, instrument=KO)))
    found = reconcile(book, snapshot(at=3600), KINDS, first_contact=False, recent=past, policy=policy)
    assert not found.adjustments
    assert found.alarm.startswith(f"2 of 2 positions of {ACCOUNT} are gone from the broker's answer at once (AAPL, KO)")


# What could not be read


@pytest.mark.parametrize("contact", [first, later])
def test_what_could_not_be_read_is_a_break_and_keeps_what_it_has(contact):
    book = {AAPL.id: side(10), KO.id: side(5)}
    found = contact(book, holding(KO, 5), errors={"AAPL": "garbled"}, unread=frozenset({AAPL.id}))
    assert (found.agreed, found.adjustments) == ({KO.id}, ())
    (unread,) = found.breaks
    assert (unread.instrument, unread.subject, unread.cls) == (AAPL.id, Subject.SNAPSHOT, BreakClass.SNAPSHOT_INCOMPLETE)
    assert unread.evidence == "AAPL: garbled. The position keeps what it has."


def test_what_could_not_be_read_of_an_unknown_instrument_is_a_break_of_the_account():
    (unread,) = later({}, errors={"???": "no conId"}, unread=frozenset({"ibkr:999"})).breaks
    assert (unread.instrument, unread.evidence) == (None, "???: no conId. Nothing was changed for it.")


def test_what_no_answer_could_be_read_of_has_its_first_contact_later():
    found = reconcile({}, snapshot(holding(TSLA, 7, 200), holding(KO, 5, 60)), KINDS, first_contact=False, unmet=frozenset({TSLA.id}))
    assert [(entry.instrument, entry.quantity) for entry in found.adjustments] == [(TSLA.id, 7)]
    assert [difference.instrument for difference in found.breaks] == [KO.id]


# Costs


def costs(average, cost, *, fees=0, quantity=10, instrument=AAPL, **more):
    book = {instrument.id: side(quantity, cost=D(cost), open_commission=D(fees), **more)}
    return later(book, holding(instrument, quantity, average)).breaks


@pytest.mark.parametrize(
    ("average", "cost", "more"),
    [
        (100, 1000, {}),
        ("100.4", 1000, {}),  # within half a percent
        (102, 1000, {"fees": 20}),  # 1020 / 10: the broker has commissions in it
        (98, -1000, {"fees": 20, "quantity": -10}),  # a short's proceeds less commissions
        (110, 1000, {"costs": {Method.AVERAGE: D(1100)}}),  # by another method
        ("0.15", 1, {}),  # half a dollar in all
    ],
)
def test_a_cost_that_a_convention_explains_is_an_agreement(average, cost, more):
    assert not costs(average, cost, **more)


def test_a_cost_that_nothing_explains_is_a_break_with_its_figures_and_no_adjustment():
    (gap,) = costs(110, 1000, fees=1)
    assert (gap.subject, gap.cls, gap.proposed) == (Subject.COST, BreakClass.COST_METHOD, ())
    assert "The book's cost is 1000, with commissions 1001; the broker's is 1100 (110 a unit). The gap of 99 USD" in gap.evidence
    assert (gap.impact, gap.impact_currency) == (99, "USD")


def test_a_cost_that_is_not_known_is_compared_with_nothing():
    assert not later({AAPL.id: side(10)}, holding(AAPL, 10, 99)).breaks
    assert not later({AAPL.id: side(10, cost=D(5))}, holding(AAPL, 10)).breaks


def test_the_cost_of_an_option_has_its_multiplier():
    assert not costs("2.5", 500, quantity=2, instrument=CALL)
    assert costs("2.5", 5, quantity=2, instrument=CALL)
