"""What cannot be booked is refused by id and in words, and everything else is booked."""

from __future__ import annotations

from decimal import Decimal

import pytest

from position_pipeline.accounting.booking import Carried, Refusal
from position_pipeline.accounting.faults import faults
from position_pipeline.accounting.invariants import violations
from position_pipeline.accounting.model import AdjustmentKind, Close, Lot, Method, PositionEvent
from position_pipeline_tests.accounting.ledger import adjustment, booked, buy, gross, lots, sell

D = Decimal
K = AdjustmentKind
NAN = D("NaN")
RATIO = {"numerator": D(1), "denominator": D(1)}

# (the entry, a word of the reason)
BAD_BY_THEMSELVES = [
    (adjustment(K.SPLIT, 0), "numerator is missing"),
    (adjustment(K.SPLIT, 0, numerator=D(0), denominator=D(1)), "numerator 0 is not above 0"),
    (adjustment(K.SPLIT, 0, numerator=D(-2), denominator=D(1)), "numerator -2 is not above 0"),
    (adjustment(K.SPLIT, 0, numerator=D(2), denominator=D(0)), "denominator 0 is not above 0"),
    (adjustment(K.SPLIT, 5, **RATIO), "no quantity of its own"),
    (adjustment(K.SPLIT, 0, **RATIO, commission=D(1)), "no commission"),
    (adjustment(K.SPLIT, 0, numerator=NAN, denominator=D(1)), "numerator is NaN"),
    (adjustment(K.SPLIT, 0, numerator=D("1e40"), denominator=D(1)), "numerator has more than 40 digits"),
    (adjustment(K.SPLIT, 0, **RATIO, cost=D(5)), "its cost of 5 has no meaning in a split"),
    (adjustment(K.EXPIRY, -5, cost=D(0)), "its cost of 0 has no meaning"),
    (adjustment(K.TRANSFER, 0), "changes nothing"),
    (adjustment(K.EXPIRY, 0), "changes nothing"),
    (adjustment(K.CONVERSION_OUT, 0), "changes nothing"),
    (adjustment(K.CONVERSION_IN, 5, **RATIO), "which entry it takes its lots from"),
    (adjustment(K.CONVERSION_IN, 5, takes_from="x"), "numerator is missing"),
    (adjustment(K.SPIN_OFF, 0), "share is missing"),
    (adjustment(K.SPIN_OFF, 0, share=D("1.01")), "not between 0 and 1"),
    (adjustment(K.SPIN_OFF, 0, share=D("-0.01")), "not between 0 and 1"),
    (adjustment(K.RETURN_OF_CAPITAL, 0), "no amount"),
    (adjustment(K.REINVESTMENT, 0, amount=D(0)), "no amount"),
    (adjustment(K.CASH_SETTLEMENT, -5), "what was paid per unit"),
    (adjustment(K.OPENING_LOT, 5, price=D("Infinity")), "price is Infinity"),
    (adjustment(K.OPENING_LOT, 5, multiplier=D(0)), "multiplier 0 is not above 0"),
    (adjustment(K.OPENING_LOT, 5, currency=""), "no currency"),
    (adjustment(K.EXPIRY, -5, numerator=D(0), denominator=D(1)), "numerator 0 is not above 0"),
    (adjustment(K.EXPIRY, -5, share=D(2)), "share 2 is not between 0 and 1"),
    (buy(-5, 100), "-5 is negative"),
    (buy(5, NAN), "price is NaN"),
    (buy(NAN, 5), "quantity is NaN"),
]


def test_a_fill_without_an_id_or_with_a_negative_revision_is_not_stored():
    assert faults(buy(5, 100)._replace(execution_id="", revision=-1)) == ("it has no execution id", "its revision -1 is below 0")


@pytest.mark.parametrize(("entry", "reason"), BAD_BY_THEMSELVES, ids=[reason for _, reason in BAD_BY_THEMSELVES])
def test_an_entry_that_is_wrong_by_itself_is_refused_and_the_rest_is_booked(entry, reason):
    assert reason in faults(entry)[0]
    history = [buy(10, 100, at=0)._replace(execution_id="first"), entry, sell(10, 110)]
    result = booked(*history)
    assert (gross(result), result.position.quantity) == ([D(100)], 0)
    (refusal,) = result.refused
    assert refusal == Refusal(getattr(entry, "execution_id", None) or entry.id, "; ".join(faults(entry)))
    assert violations(history, result) == ()


def test_a_good_entry_has_no_faults():
    assert faults(buy(1, 1)) == faults(buy(0, 1)) == faults(adjustment(K.SPLIT, 0, **RATIO)) == ()
    assert faults(buy(1, 1)._replace(currency="", multiplier=D(0))) == ("its multiplier 0 is not above 0", "it has no currency")


# (the entry, what was held of what is refused)
BAD_FOR_A_FLAT_POSITION = [
    adjustment(K.EXPIRY, -1),
    adjustment(K.ASSIGNMENT, 1),
    adjustment(K.EXERCISE, -1),
    adjustment(K.CASH_SETTLEMENT, -1, price=D(1)),
    adjustment(K.TRANSFER, -1),
    adjustment(K.CONVERSION_OUT, -1),
    adjustment(K.CONVERSION_IN, 1, takes_from="nobody", **RATIO),
    adjustment(K.SPIN_OFF, 0, share=D("0.5")),
    adjustment(K.RETURN_OF_CAPITAL, 0, amount=D(1)),
    adjustment(K.REINVESTMENT, 0, amount=D(1)),
    adjustment(K.FEE_IN_KIND, -1),
    adjustment(K.SPLIT, 0, **RATIO, amount=D(1)),
]


@pytest.mark.parametrize("entry", BAD_FOR_A_FLAT_POSITION, ids=[entry.kind for entry in BAD_FOR_A_FLAT_POSITION])
def test_what_meets_nothing_is_refused_as_a_whole(entry):
    result = booked(entry)
    assert [(refusal.entry_id, refusal.quantity) for refusal in result.refused] == [(entry.id, None)]
    assert (result.closes, result.events, result.moves, result.position.lots) == ((), (), (), ())
    assert violations([entry], result) == ()


def test_a_split_of_nothing_is_nothing_to_refuse():
    assert booked(adjustment(K.SPLIT, 0, **RATIO)).refused == ()


def test_the_commission_of_an_end_that_is_refused_in_part_is_borne_by_the_rest():
    history = [buy(1, 3, at=0), adjustment(K.EXPIRY, -3, commission=D(6))]
    result = booked(*history)
    assert result.closes[0].closing_commission == D(6)
    assert result.refused[0].quantity == D(-2)
    assert "exceeds the position of 1" in result.refused[0].reason
    assert violations(history, result) == ()


def test_an_entry_that_hands_over_nothing_cannot_be_taken_from():
    out = adjustment(K.CONVERSION_OUT, -5)
    result = booked(out)
    assert result.carries == {out.id: Carried()}
    taken = booked(adjustment(K.CONVERSION_IN, 5, takes_from=out.id, **RATIO), carries=result.carries)
    assert "hands over no lots" in taken.refused[0].reason


def test_a_conversion_that_says_other_units_than_its_lots_make_is_told():
    leaving = adjustment(K.TRANSFER, -10)
    carries = booked(buy(10, 100, at=0), leaving).carries
    into = adjustment(K.CONVERSION_IN, 4, takes_from=leaving.id, numerator=D(1), denominator=D(2))
    result = booked(into, carries=carries)
    assert (result.position.quantity, result.refused[0].quantity) == (D(5), D(-1))
    assert violations([into], result) == ()


def test_cash_for_a_fraction_that_is_not_there_is_refused_and_the_split_is_booked():
    history = [buy(10, 100, at=0), adjustment(K.SPLIT, 0, numerator=D(2), denominator=D(1), amount=D(7))]
    result = booked(*history)
    assert (result.position.quantity, result.closes) == (D(20), ())
    assert (result.refused[0].quantity, result.refused[0].amount) == (D(0), D(7))
    assert violations(history, result) == ()


def test_a_split_that_would_leave_nothing_of_a_lot_is_refused():
    result = booked(buy("1e-18", 100, at=0), adjustment(K.SPLIT, 0, numerator=D(1), denominator=D(10)))
    assert (result.position.quantity, len(result.refused)) == (D("1e-18"), 1)


def test_no_run_of_splits_outgrows_the_arithmetic():
    up, down = {"numerator": D("1e39"), "denominator": D(1)}, {"numerator": D(1), "denominator": D("1e39")}
    history = [buy(10, 100, at=0), *(adjustment(K.SPLIT, 0, **ratio) for ratio in (up, up, down, down, up, up))]
    result = booked(*history)
    assert (result.position.quantity, result.position.cost) == (D(10), D(1000))
    assert len(result.refused) == 6  # even the first would make 1e40 units
    assert violations(history, result) == ()


# Named lots


def test_named_lots_are_closed_first_and_then_the_method_decides():
    history = [
        buy(10, 100, at=1, execution_id="a"),
        buy(10, 120, at=2, execution_id="b"),
        sell(7, 130, fee=7, closes_lots=(("b", D(4)),)),
    ]
    result = booked(*history)
    assert [(close.opening_id, close.quantity) for close in result.closes] == [("b", D(4)), ("a", D(3))]
    assert gross(result) == [D(40), D(90)]  # 4 x (130 - 120); 3 x (130 - 100)
    assert [close.closing_commission for close in result.closes] == [D(4), D(3)]
    assert (result.refused, violations(history, result)) == ((), ())


def test_a_lot_that_is_closed_by_name_and_by_the_method_is_one_close():
    history = [buy(3, 100, at=1, execution_id="a"), buy(9, 120, at=2, execution_id="b"), sell(9, 130, fee=9, closes_lots=(("b", D(4)),))]
    result = booked(*history)
    assert [(close.opening_id, close.quantity) for close in result.closes] == [("b", D(6)), ("a", D(3))]
    assert gross(result) == [D(60), D(90)]  # 4 and 2 of b: 6 x 10; 3 x 30
    assert (lots(result), violations(history, result)) == ([(D(3), D(360), D(0))], ())


def test_a_lot_of_unknown_cost_that_is_closed_in_both_ways_is_one_unknown_close():
    history = [adjustment(K.TRANSFER, 9, at=0, id="t"), sell(6, 130, closes_lots=(("t", D(2)),))]
    result = booked(*history)
    assert (len(result.closes), result.position.unknown_closes, violations(history, result)) == (1, 1, ())


def test_a_short_is_covered_by_name_and_a_fill_may_flip():
    history = [sell(10, 100, at=1, execution_id="a"), sell(10, 90, at=2, execution_id="b"), buy(25, 80, closes_lots=(("b", D(10)),))]
    result = booked(*history)
    assert gross(result) == [D(100), D(200)]  # b: 10 x (90 - 80); a: 10 x (100 - 80)
    assert result.position.quantity == D(5)


@pytest.mark.parametrize("naming", [("nobody", D(1)), ("a", D(11)), ("a", D(0)), ("a", D(-1)), ("a", NAN)])
def test_a_naming_that_cannot_be_followed_is_refused_and_the_fill_goes_by_the_method(naming):
    history = [buy(10, 100, at=1, execution_id="a"), buy(10, 120, at=2, execution_id="b"), sell(12, 130, closes_lots=(naming,))]
    result = booked(*history)
    assert gross(result) == [D(300), D(20)]
    assert [refusal.quantity for refusal in result.refused] == [D(0)]
    assert violations(history, result) == ()


def test_more_than_the_fill_closes_cannot_be_named_and_an_average_has_no_lots_to_name():
    bought = buy(10, 100, at=1, execution_id="a")
    assert len(booked(bought, sell(4, 130, closes_lots=(("a", D(3)), ("a", D(2))))).refused) == 1
    assert len(booked(bought, buy(4, 130, closes_lots=(("a", D(3)),))).refused) == 1
    assert len(booked(bought, sell(4, 130, closes_lots=(("a", D(3)),)), method=Method.AVERAGE).refused) == 1


# Values that are made by place


def test_fields_that_are_filled_by_place_stand_where_the_walk_puts_them():
    assert Close._fields[:7] == ("account", "instrument", "execution_id", "opening_id", "cycle", "closed_at", "opened_at")
    assert Close._fields[7:14] == (
        "quantity",
        "entry_price",
        "exit_price",
        "cost",
        "gross_pnl",
        "opening_commission",
        "closing_commission",
    )
    assert Close._fields[14:] == ("currency", "method", "basis", "partial", "premium", "fees")
    assert PositionEvent._fields == ("account", "instrument", "type", "at", "quantity_before", "quantity_after", "cycle", "cause")
    assert Lot._fields == ("opening_id", "opened_at", "quantity", "price", "cost", "commission", "basis", "fees")
    result = booked(buy(2, 5, at=0), sell(1, 6))
    assert all(len(close) == len(Close._fields) for close in result.closes)
    assert all(len(event) == len(PositionEvent._fields) for event in result.events)
