"""What was inferred from a snapshot brings the position to what the broker held, and gives way to facts, in whatever order they come."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from position_pipeline.accounting.booking import fold_together, in_order
from position_pipeline.accounting.faults import faults
from position_pipeline.accounting.inferred import idle
from position_pipeline.accounting.invariants import violations
from position_pipeline.accounting.model import AdjustmentKind, Basis, EventType, Method
from position_pipeline_tests.accounting.late_facts import late_facts
from position_pipeline_tests.accounting.ledger import OPTION, STOCK, adjustment, booked, buy, flat, lots, money, sell

K = AdjustmentKind
D = Decimal
OTHER = "ibkr:3"


def inferred(kind, held, quantity=0, *, at=1000, **more):
    decimals = ("price", "numerator", "denominator", "amount", "share", "commission")
    figures = {name: None if value is None else D(value) if name in decimals else value for name, value in more.items()}
    return adjustment(kind, quantity, at=at, held=D(held), **figures)


def adopted(held, change=0, **more):
    return inferred(K.ADOPTED, held, change, **more)


def sound(*entries, method=Method.FIFO):
    """Booked, and nothing of it contradicts anything."""
    result = booked(*entries, method=method)
    assert violations(in_order(entries), result) == ()
    return result


def together(*entries):
    """Booked with all instruments of the entries, and nothing contradicts anything; by instrument."""
    history = in_order(entries)
    results = fold_together({name: flat(instrument=name) for name in (STOCK, OPTION, OTHER)}, history)
    for name, result in results.items():
        assert violations([entry for entry in history if entry.instrument == name], result) == ()
    return results


def quantities(results):
    return [results[name].position.quantity for name in (STOCK, OPTION, OTHER)]


# Adopted


@pytest.mark.parametrize("method", list(Method))
def test_what_is_adopted_at_a_price_is_a_lot_of_the_brokers(method):
    result = sound(adopted(100, 100, price=10, basis=Basis.BROKER), method=method)
    assert [(lot.quantity, lot.cost, lot.basis) for lot in result.position.lots] == [(100, 1000, Basis.BROKER)]
    assert [event.type for event in result.events] == [EventType.OPENED]


@pytest.mark.parametrize("method", list(Method))
def test_what_is_adopted_without_a_price_has_an_unknown_cost(method):
    known, more = buy(10, 5, at=1), adopted(15, 5)
    result = sound(known, more, method=method)
    assert (result.position.cost, result.position.basis, result.events[1].type) == (None, Basis.UNKNOWN, EventType.ADJUSTED)
    assert sound(known, more, sell(15, 7, at=2000), method=method).position.unknown_closes == 1


def test_what_was_adopted_is_not_the_oldest_lot():
    """It stands where it was seen: the sale closes what was bought before it. 4 x 7 - 4 x 5 = 8."""
    result = sound(buy(10, 5, at=1), adopted(15, 5, price=6), sell(4, 7, at=2000))
    assert result.position.realized_gross == 8


@pytest.mark.parametrize("method", list(Method))
def test_units_that_are_gone_are_closed_for_an_unknown_amount(method):
    result = sound(buy(10, 5, at=1, fee=1), adopted(4, -6), method=method)
    assert [(close.quantity, close.gross_pnl, close.basis) for close in result.closes] == [(6, None, Basis.UNKNOWN)]
    assert (result.position.quantity, result.position.cost, result.position.realized_gross) == (4, 20, 0)
    assert [event.type for event in result.events] == [EventType.OPENED, EventType.ADJUSTED]


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize(("price", "cost"), [(None, None), (8, -24)])
def test_what_goes_through_zero_opens_at_the_brokers_price_or_none(method, price, cost):
    result = sound(buy(10, 5, at=1), adopted(-3, -13, price=price), method=method)
    assert (result.position.quantity, result.position.cost, result.position.unknown_closes) == (-3, cost, 1)
    assert [event.type for event in result.events] == [EventType.OPENED, EventType.ADJUSTED, EventType.FLIPPED]


def test_what_facts_explain_in_part_is_adopted_for_the_rest():
    """40 of 100 are bought: the other 60 are adopted. 40 x 10 + 60 x 12 = 1120."""
    later = adopted(100, 100, price=12)
    result = sound(buy(40, 10, at=1), later)
    assert lots(result) == [(40, 400, 0), (60, 720, 0)]
    assert sound(buy(40, 10, at=1), buy(60, 11, at=2), later).position.cost == 1060


def test_facts_that_explain_all_leave_nothing_to_adopt_and_nothing_to_refuse():
    facts = (buy(100, 10, at=1), sell(30, 12, at=2))
    result = sound(*facts, adopted(70, 70, price=12))
    expected = sound(*facts)
    assert (result.closes, result.events, result.refused) == (expected.closes, expected.events, ())
    assert replace(result.position, last_key=None) == replace(expected.position, last_key=None)


def test_facts_that_come_to_more_than_was_held_are_followed_back():
    """A purchase of 120 came late, and the sale of 20 that followed it not yet."""
    result = sound(buy(120, 10, at=1), adopted(100, 100))
    assert (result.position.quantity, result.closes[0].gross_pnl) == (100, None)


# Ends, splits and what goes: no further than what was held


@pytest.mark.parametrize("kind", [K.EXPIRY, K.CASH_SETTLEMENT, K.FEE_IN_KIND, K.TRANSFER])
@pytest.mark.parametrize(
    ("facts", "left"),
    [
        ([buy(10, 5, at=1)], 4),
        ([buy(10, 5, at=1), sell(2, 6, at=2)], 4),
        ([buy(10, 5, at=1), sell(6, 6, at=2)], 4),
        ([buy(10, 5, at=1), sell(9, 6, at=2)], 1),
        ([buy(10, 5, at=1), buy(3, 6, at=2)], 7),
    ],
)
def test_what_ended_ends_no_more_than_was_said_and_stops_at_what_was_held(kind, facts, left):
    """The position of 10 was 4 afterwards: -6 was inferred. The last of the facts makes 13, of which 6 end and not 9."""
    price = {"price": 7, "commission": "0.5"} if kind is K.CASH_SETTLEMENT else {}
    result = sound(*facts, inferred(kind, 4, -6, **price))
    assert (result.position.quantity, result.refused) == (left, ())


def test_a_transfer_in_brings_what_is_missing():
    assert lots(sound(buy(40, 10, at=1), inferred(K.TRANSFER, 100, 100, price=12))) == [(40, 400, 0), (60, 720, 0)]


@pytest.mark.parametrize(
    ("facts", "held"),
    [
        ([buy(10, 5, at=1)], 20),
        ([buy(10, 5, at=1), adjustment(K.SPLIT, 0, at=2, numerator=D(2), denominator=D(1))], 20),
        ([buy(10, 5, at=1), buy(10, 5, at=2)], 20),
        ([buy(15, 5, at=1)], 15),
        ([sell(10, 5, at=1)], -10),
    ],
)
def test_a_split_happens_only_where_it_leads_to_what_was_held(facts, held):
    """Of 15 it would make 30, which is as far from 20 as 15 is near."""
    result = sound(*facts, inferred(K.SPLIT, 20, numerator=2, denominator=1))
    assert (result.position.quantity, result.refused) == (held, ())


def test_a_reverse_split_with_cash_for_the_fraction_goes_by_the_whole_units():
    result = sound(buy(25, 4, at=1), inferred(K.SPLIT, 2, numerator=1, denominator=10, amount=20))
    assert (result.position.quantity, result.position.realized_gross) == (2, 0)


# What passes from one position to another

CALL = {"instrument": OPTION, "multiplier": D(100)}
WRITTEN = sell(2, 3, at=1, **CALL)  # two calls, for 600
ASSIGNED = inferred(K.ASSIGNMENT, 0, 2, id="as", **CALL)
DELIVERED = inferred(K.DELIVERY, -200, -200, id="de", price=50, takes_from="as", basis=Basis.BROKER)
REAL = adjustment(K.ASSIGNMENT, 2, at=5, id="real", **CALL)
LEG = sell(200, 50, at=5, premium_from="real", execution_id="leg")


def test_an_assignment_and_its_delivery_move_the_premium_to_the_shares():
    """200 shares are sold at 50, and 600 had come for the calls: 10600."""
    results = together(WRITTEN, ASSIGNED, DELIVERED)
    assert quantities(results) == [-200, 0, 0]
    assert results[STOCK].position.cost == -10600


def test_a_delivery_is_booked_after_its_assignment_whatever_their_ids():
    assert together(WRITTEN, replace(ASSIGNED, id="z"), replace(DELIVERED, takes_from="z"))[STOCK].position.cost == -10600


def test_a_delivery_against_shares_closes_them_like_a_fill():
    """200 bought at 45 for 9000, delivered at 50 with the premium of 600: 10600 - 9000 - 1 = 1599."""
    delivered = replace(DELIVERED, held=D(0), commission=D(1))
    results = together(buy(200, 45, at=1), WRITTEN, ASSIGNED, delivered)
    assert (results[STOCK].position.quantity, results[STOCK].position.realized_net) == (0, 1599)


@pytest.mark.parametrize("order", [(REAL, LEG), (LEG, REAL)])
def test_the_real_assignment_takes_the_place_of_the_inferred_one(order):
    """In between the shares have one leg of each: how much premium they carry is not known then, and known in the end."""
    between = together(WRITTEN, ASSIGNED, DELIVERED, order[0])
    assert (quantities(between), between[STOCK].position.cost) == ([-200, 0, 0], None)
    results = together(WRITTEN, ASSIGNED, DELIVERED, *order)
    expected = together(WRITTEN, REAL, LEG)
    for name in (STOCK, OPTION):
        assert (results[name].closes, results[name].events) == (expected[name].closes, expected[name].events)
        assert (results[name].position.lots, results[name].refused) == (expected[name].position.lots, ())


def test_a_delivery_of_a_part_takes_its_part_of_the_premium():
    """One of two calls had been closed for 400 before: one was assigned, and its 300 go with its 100 shares. 5000 + 300 = 5300."""
    closed, sold = buy(1, 4, at=2, **CALL), sell(100, 49, at=3)
    results = together(WRITTEN, closed, ASSIGNED, sold, DELIVERED)
    assert [lot.cost for lot in results[STOCK].position.lots] == [-4900, -5300]


def test_more_shares_than_were_assigned_have_an_unknown_premium():
    results = together(WRITTEN, buy(1, 4, at=2, **CALL), ASSIGNED, DELIVERED)
    assert (quantities(results), results[STOCK].position.cost) == ([-200, 0, 0], None)


def test_a_premium_that_no_delivery_takes_has_left_the_option_all_the_same():
    results = together(WRITTEN, ASSIGNED, sell(200, 51, at=3), DELIVERED)
    assert (quantities(results), results[STOCK].position.cost, results[OPTION].position.realized_net) == ([-200, 0, 0], -10200, 0)


RATIO = {"numerator": D(3), "denominator": D(1)}
OUT = inferred(K.CONVERSION_OUT, 0, -10, id="out", **RATIO)
INTO = inferred(K.CONVERSION_IN, 30, 30, id="in", instrument=OTHER, takes_from="out", **RATIO)


@pytest.mark.parametrize(
    ("facts", "held", "cost"),
    [
        ([], [0, 0, 30], 100),
        # 4 were sold before: 6 are converted, and make 18.
        ([sell(4, 11, at=2)], [0, 0, 18], 60),
        # 12 of the other had been bought for 120: 18 of the 30 find room, at 60.
        ([buy(12, 10, at=2, instrument=OTHER)], [0, 0, 30], 180),
        ([sell(10, 11, at=2), buy(30, 4, at=2, instrument=OTHER)], [0, 0, 30], 120),
        # What leaves is not needed: it is in neither position until the fact comes that says where it went.
        ([buy(30, 4, at=2, instrument=OTHER)], [0, 0, 30], 120),
    ],
)
def test_a_conversion_moves_what_is_above_and_takes_up_what_has_room(facts, held, cost):
    results = together(buy(10, 10, at=1), *facts, OUT, INTO)
    assert (quantities(results), results[OTHER].position.cost) == (held, cost)
    assert [result.refused for result in results.values()] == [(), (), ()]


PARENT = inferred(K.SPIN_OFF, 10, id="s", share="0.2")
CHILD = inferred(K.CONVERSION_IN, 5, 5, id="c", instrument=OTHER, takes_from="s", numerator=1, denominator=2)


def test_a_spin_off_moves_its_share_of_the_cost():
    results = together(buy(10, 10, at=1), PARENT, CHILD)
    assert [results[name].position.cost for name in (STOCK, OTHER)] == [80, 20]


@pytest.mark.parametrize(
    "facts",
    [
        [buy(5, 7, at=2, instrument=OTHER)],
        [
            adjustment(K.SPIN_OFF, 0, at=2, id="r", share=D("0.25")),
            adjustment(K.CONVERSION_IN, 5, at=2, id="rc", instrument=OTHER, takes_from="r", numerator=D(1), denominator=D(2)),
        ],
    ],
)
def test_a_spin_off_that_facts_explain_leaves_the_cost_where_it_is(facts):
    parent = buy(10, 10, at=1)
    results, expected = together(parent, *facts, PARENT, CHILD), together(parent, *facts)
    for name in (STOCK, OTHER):
        assert (results[name].position.lots, results[name].events) == (expected[name].position.lots, expected[name].events)
        assert results[name].refused == ()


# Void


def test_a_void_takes_its_fill_out():
    twice = [buy(10, 5, at=1, execution_id="one"), buy(10, 5, at=1, execution_id="two")]
    result = sound(*twice, sell(4, 7, at=2), adjustment(K.VOID, 0, at=1000, takes_from="two"))
    assert lots(result) == [(6, 30, 0)]
    assert {event.cause for event in result.events}.isdisjoint({"two"})


def test_a_void_fill_does_not_stand_for_an_opening_lot():
    lot = adjustment(K.OPENING_LOT, 10, at=1, price=D(5), sequence=7)
    result = sound(lot, buy(10, 5, at=1, execution_id="x", sequence=7), adjustment(K.VOID, 0, at=1000, takes_from="x"))
    assert [each.opening_id for each in result.position.lots] == [lot.id]


def test_a_void_of_another_instrument_takes_nothing_out():
    assert booked(buy(10, 5, at=1, execution_id="x"), adjustment(K.VOID, 0, takes_from="y")).position.quantity == 10


# Faults


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (adjustment(K.ADOPTED, 5), "it does not say what the broker held"),
        (
            inferred(K.ADOPTED, 5, 5, cost=D(1)),
            "it has a cost in all, and what it books of that depends on what else is there: it may have a price",
        ),
        (inferred(K.ADOPTED, 5, 5, commission=1), "a adopted has no commission, and this one says 1: what was paid is an entry of its own"),
        (inferred(K.ADOPTED, "NaN", 5), "its held is NaN"),
        (adjustment(K.DELIVERY, 5, takes_from="a"), "it does not say what was paid per unit"),
        (adjustment(K.DELIVERY, 5, price=D(1)), "it does not say which assignment or exercise it delivers for"),
        (adjustment(K.DELIVERY, 0, price=D(1), takes_from="a"), "a delivery of 0 changes nothing"),
        (adjustment(K.VOID, 0), "it does not say which fill stands for nothing"),
        (adjustment(K.VOID, 5, takes_from="a"), "a void has no quantity of its own, and this one says 5"),
        (inferred(K.REINVESTMENT, 5, amount=1), "a reinvestment does not follow from what is held, and this one says that 5 are"),
    ],
)
def test_what_is_wrong_by_itself_is_told(entry, fault):
    assert faults(entry) == (fault,)


# All of it at once

tapes = st.binary(min_size=480, max_size=480)


@given(tapes, st.randoms(use_true_random=False))
@settings(max_examples=700, deadline=None)
def test_late_facts_in_any_order_end_in_the_book_of_facts_in_time(content, draw):
    check(late_facts(content, draw))


@pytest.mark.parametrize("seeds", [range(start, start + 100) for start in range(0, 400, 100)])
def test_four_hundred_more_of_them(seeds):
    """Hypothesis likes simple accounts; these are long ones."""
    for seed in seeds:
        draw = Random(seed)
        check(late_facts(draw.randbytes(480), draw))


def check(told):
    for known in told.steps():
        results = told.fold(known)
        for name, result in results.items():
            assert violations([entry for entry in in_order(known) if entry.instrument == name], result) == ()
    for name, expected in told.fold(told.facts).items():
        result = results[name]
        assert (result.closes, result.events, result.moves) == (expected.closes, expected.events, expected.moves)
        assert replace(result.position, last_key=None) == replace(expected.position, last_key=None)
        assert result.refused == expected.refused
    assert idle(known, [event for result in results.values() for event in result.events]) == tuple(told.inferred)


def test_the_accounts_with_late_facts_have_something_of_every_kind():
    """Of 400: each kind is inferred and booked, and facts are missing in most."""
    seen: set[AdjustmentKind] = set()
    late = 0
    for seed in range(400):
        draw = Random(seed)
        told = late_facts(draw.randbytes(480), draw)
        causes = {event.cause for result in told.fold(told.steps()[0]).values() for event in result.events}
        seen |= {entry.kind for entry in told.inferred if entry.id in causes}
        late += bool(told.late and told.inferred)
    ends = {K.EXPIRY, K.CASH_SETTLEMENT, K.ASSIGNMENT, K.EXERCISE}
    assert seen == ends | {K.ADOPTED, K.DELIVERY, K.SPLIT, K.TRANSFER, K.CONVERSION_OUT, K.CONVERSION_IN, K.SPIN_OFF, K.FEE_IN_KIND}
    assert late > 250


def test_legs_that_belong_together_are_idle_together():
    """The option is explained, its shares are not: neither leg may be withdrawn."""
    entries = (WRITTEN, REAL, ASSIGNED, DELIVERED)
    events = [event for result in together(*entries).values() for event in result.events]
    assert idle(entries, events) == ()
    entries = (*entries, LEG)
    events = [event for result in together(*entries).values() for event in result.events]
    assert idle(entries, events) == (ASSIGNED, DELIVERED)


def test_facts_a_void_and_an_opening_balance_are_never_idle():
    void = adjustment(K.VOID, 0, takes_from="x", held=D(0))
    assert idle([buy(1, 1), adjustment(K.EXPIRY, -1), void, inferred(K.OPENING_BALANCE, 1, 1)], []) == ()


def test_money_of_an_account_with_an_adopted_close_counts_only_what_is_known():
    """10 for 50 and 1 fee; 6 went for what nobody knows; the other 4 are sold for 28: 28 - 20 - 0.4 = 7.6."""
    result = sound(buy(10, 5, at=1, fee=1), adopted(4, -6), sell(4, 7, at=2000))
    assert [result.position.realized_net] == money("7.6")
