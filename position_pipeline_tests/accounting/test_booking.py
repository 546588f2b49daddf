"""Worked ledgers: the arithmetic stands beside the expected number."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from itertools import permutations

import pytest

from position_pipeline.accounting.booking import Carried, book, fold, in_order
from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.model import AdjustmentKind, Basis, EventType, Method
from position_pipeline_tests.accounting.ledger import (
    OPTION,
    adjustment,
    booked,
    buy,
    fill,
    flat,
    gross,
    identity,
    lots,
    money,
    net,
    sell,
)

D = Decimal
OPENED, INCREASED, REDUCED = EventType.OPENED, EventType.INCREASED, EventType.REDUCED
CLOSED, FLIPPED, ADJUSTED = EventType.CLOSED, EventType.FLIPPED, EventType.ADJUSTED
OPENING_BALANCE, OPENING_LOT = AdjustmentKind.OPENING_BALANCE, AdjustmentKind.OPENING_LOT
EXPIRY, ASSIGNMENT, EXERCISE = AdjustmentKind.EXPIRY, AdjustmentKind.ASSIGNMENT, AdjustmentKind.EXERCISE
EVERY_METHOD = pytest.mark.parametrize("method", list(Method))


def events(result):
    return [event.type for event in result.events]


# Opening and adding


@EVERY_METHOD
def test_a_first_purchase_opens_a_position_whose_cost_has_no_fee_in_it(method):
    result = booked(buy(10, 100, fee=1), method=method)
    assert lots(result) == [(D(10), D(1000), D(1))]  # 10 x 100; the fee stands beside it
    assert result.position.average_price == D(100)
    assert (events(result), result.closes, result.position.cycle) == ([OPENED], (), 1)


@pytest.mark.parametrize("method", [Method.FIFO, Method.LIFO, Method.HIFO])
def test_adding_keeps_the_lots_apart(method):
    result = booked(buy(10, 100, fee=1), buy(30, 110, fee=2), method=method)
    assert lots(result) == [(D(10), D(1000), D(1)), (D(30), D(3300), D(2))]
    assert events(result) == [OPENED, INCREASED]


def test_adding_at_average_cost_makes_one_lot():
    result = booked(buy(10, 100, fee=1), buy(30, 110, fee=2), method=Method.AVERAGE)
    assert lots(result) == [(D(40), D(4300), D(3))]  # 1000 + 3300
    assert result.position.lots[0].price == D("107.5")  # 4300 / 40


def test_a_multiplier_counts_in_cost_and_profit_but_not_in_prices():
    result = booked(buy(2, "1.50", fee="1.30", multiplier=D(100)), sell(1, 2, fee="0.65", multiplier=D(100)))
    assert gross(result) == [D(50)]  # 1 x 2 x 100 - 1 x 1.50 x 100
    assert lots(result) == [(D(1), D(150), D("0.65"))]
    assert result.position.average_price == D("1.5")


# Closing


def test_fifo_sells_the_oldest_first():
    result = booked(buy(10, 100, fee=1), buy(10, 120, fee=1), sell(15, 130, fee=3))
    assert gross(result) == [D(300), D(50)]  # 10 x (130 - 100); 5 x (130 - 120)
    assert net(result) == [D(297), D("48.5")]  # 300 - 1 - 3 x 10/15; 50 - 1 x 5/10 - 3 x 5/15
    assert lots(result) == [(D(5), D(600), D("0.5"))]


def test_lifo_sells_the_youngest_first():
    result = booked(buy(10, 100), buy(10, 120), sell(15, 130), method=Method.LIFO)
    assert gross(result) == [D(100), D(150)]  # 10 x (130 - 120); 5 x (130 - 100)
    assert lots(result) == [(D(5), D(500), ZERO)]


def test_hifo_sells_the_dearest_first_and_covers_the_cheapest_short_first():
    long = booked(buy(10, 100), buy(10, 140), buy(10, 120), sell(15, 130), method=Method.HIFO)
    assert gross(long) == [D(-100), D(50)]  # 10 x (130 - 140); 5 x (130 - 120)
    short = booked(sell(10, 100), sell(10, 140), sell(10, 120), buy(15, 110), method=Method.HIFO)
    assert gross(short) == [D(-100), D(50)]  # 10 x (100 - 110); 5 x (120 - 110)


def test_hifo_breaks_ties_by_age_and_takes_lots_of_unknown_cost_last():
    opening = adjustment(OPENING_BALANCE, 10, at=0)
    result = booked(opening, buy(10, 100, execution_id="old"), buy(10, 100, execution_id="young"), sell(25, 130), method=Method.HIFO)
    assert [close.opening_id for close in result.closes] == ["old", "young", opening.id]
    assert gross(result) == [D(300), D(300), None]


def test_average_relieves_cost_and_fee_in_proportion():
    result = booked(buy(10, 100, fee=1), buy(30, 110, fee=2), sell(10, 120, fee=1), method=Method.AVERAGE)
    assert gross(result) == [D(125)]  # 10 x 120 - 4300 x 10/40
    assert net(result) == [D("123.25")]  # 125 - 3 x 10/40 - 1
    assert lots(result) == [(D(30), D(3225), D("2.25"))]  # 4300 - 1075; 3 - 0.75


def test_scaled_exits_add_up_to_the_whole():
    """A third of a cost of 100 has no end: the last exit takes what the roundings left."""
    fills = [buy(3, "33.3333333333333", fee="0.1"), sell(1, 40), sell(1, 41), sell(1, 42)]
    result = booked(*fills)
    cost = 3 * D("33.3333333333333")  # 99.9999999999999
    third = D("33.3333333333")  # rounded half-even at ten decimals
    assert gross(result) == [40 - third, 41 - D("33.3333333333"), 42 - (cost - 2 * third)]
    assert [close.partial for close in result.closes] == [True, True, False]
    assert events(result) == [OPENED, REDUCED, REDUCED, CLOSED]
    assert identity(result, fills) == 0


def test_the_module_docstrings_ledger_is_what_the_code_does():
    fills = [buy(10, 100, fee=1), sell(4, 110, fee=1), sell(10, 120, fee=1)]
    result = booked(*fills)
    assert gross(result) == [D(40), D(120)]
    assert [close.opening_commission for close in result.closes] == money("0.4", "0.6")
    assert [close.closing_commission for close in result.closes] == money("1", "0.6")
    assert net(result) == money("38.6", "118.8")
    assert lots(result) == [(D(-4), D(-480), D("0.4"))]
    assert identity(result, fills) == 0


# Shorts and flips


def test_a_short_earns_when_it_is_covered_lower():
    result = booked(sell(10, 100, fee=1), buy(4, 90, fee="0.5"))
    assert gross(result) == [D(40)]  # -(4 x 90) - (-400)
    assert result.closes[0].quantity == -4  # the sign of the position that was closed
    assert net(result) == [D("39.1")]  # 40 - 0.4 - 0.5
    assert lots(result) == [(D(-6), D(-600), D("0.6"))]


@EVERY_METHOD
def test_selling_more_than_held_flips_to_short_at_the_fill_price(method):
    result = booked(buy(10, 100, fee=1), sell(15, 110, fee=3), method=method)
    assert gross(result) == [D(100)]  # 10 x (110 - 100): the P&L belongs to the closed part
    assert result.closes[0].closing_commission == D(2)  # 3 x 10/15
    assert lots(result) == [(D(-5), D(-550), D(1))]  # 3 x 5/15
    assert events(result) == [OPENED, CLOSED, FLIPPED]
    assert [(event.quantity_before, event.quantity_after, event.cycle) for event in result.events] == [
        (ZERO, D(10), 1),
        (D(10), ZERO, 1),
        (ZERO, D(-5), 2),
    ]
    assert not result.closes[0].partial


@EVERY_METHOD
def test_buying_more_than_owed_flips_to_long(method):
    result = booked(sell(10, 100), sell(10, 120), buy(30, 110), method=method)
    assert sum(gross(result)) == 0  # 10 x (100 - 110) + 10 x (120 - 110)
    assert lots(result) == [(D(10), D(1100), ZERO)]
    assert result.position.cycle == 2


def test_a_position_closed_and_opened_again_is_a_new_cycle():
    result = booked(buy(1, 10, at=1), sell(1, 11, at=2), buy(1, 12, at=3))
    assert [event.cycle for event in result.events] == [1, 1, 2]
    assert result.position.opened_at == result.events[2].at
    assert result.position.closed_at is None
    closed = booked(buy(1, 10, at=1), sell(1, 11, at=2)).position
    assert (closed.closed_at, closed.cycle, closed.quantity) == (closed.last_key[0], 1, ZERO)


def test_a_busted_fill_does_nothing():
    result = booked(buy(10, 100), fill("SELL", 0, 100), buy(5, 100))
    assert events(result) == [OPENED, INCREASED]
    assert result.position.quantity == 15


# Digits


@EVERY_METHOD
def test_fractions_with_24_decimals_keep_every_digit(method):
    quantity = "0.123456789012345678901234"
    price = "65432.123456789012345678901234"
    fills = [buy(quantity, price, fee="0.000000000000000000000001"), sell("0.023456789012345678901234", price)]
    result = booked(*fills, method=method)
    assert result.position.quantity == D("0.1")
    assert identity(result, fills) == 0


def test_position_figures_are_exact_in_a_caller_whose_context_rounds():
    quantity = "123456789012345.123456789012345678901234"
    with localcontext(prec=6):
        result = booked(buy(quantity, "0.1"), buy(1, "0.1"))
        assert result.position.quantity == D("123456789012346.123456789012345678901234")
        assert str(result.position.cost) == "12345678901234.6123456789012345678901234"


@pytest.mark.parametrize(("total", "part", "whole"), [(1000, 1, 3), (-1000, 2, 3), ("0.00000000005", 1, 2), ("7.77", "0.3", 7), (1, 1, 7)])
def test_what_is_relieved_is_the_true_share_rounded_once_half_even_at_ten_decimals(total, part, whole):
    result = booked(buy(whole, 0, fee=total), sell(part, 0))
    share = Fraction(D(total)) * Fraction(D(part)) / Fraction(D(whole))
    assert Fraction(result.closes[0].opening_commission) == Fraction(round(share * 10**10), 10**10)  # Python rounds Fractions half-even
    assert result.position.open_commission == D(total) - result.closes[0].opening_commission


def test_half_of_an_odd_last_digit_goes_to_the_even_one():
    down = booked(buy(2, 0, fee="0.0000000005"), sell(1, 0)).closes[0].opening_commission
    up = booked(buy(2, 0, fee="0.0000000015"), sell(1, 0)).closes[0].opening_commission
    assert (down, up) == (D("0.0000000002"), D("0.0000000008"))
    assert D("0.00000000025").quantize(D("1e-10"), ROUND_HALF_EVEN) == down


# Commissions


def test_a_commission_that_has_not_come_leaves_the_net_unknown_and_the_gross_known():
    result = booked(buy(10, 100, fee=None), sell(4, 110, fee=1))
    assert (gross(result), net(result)) == ([D(40)], [None])
    assert lots(result) == [(D(6), D(600), None)]
    assert result.position.open_commission == 0


def test_a_commission_that_comes_later_changes_only_the_commissions():
    opening, closing = buy(10, 100, fee=None), sell(4, 110, fee=1)
    late = opening._replace(commission=D(1))
    before, after = booked(opening, closing), booked(late, closing)
    assert gross(before) == gross(after)
    assert net(after) == [D("38.6")]  # 40 - 1 x 4/10 - 1


def test_a_rebate_is_a_negative_commission():
    result = booked(buy(10, 100, fee="-0.5"), sell(10, 100, fee="-0.2"))
    assert net(result) == [D("0.7")]


def test_a_commission_in_another_currency_stays_in_it_and_follows_the_quantity():
    result = booked(buy(10, 100, fee=2, commission_currency="CHF"), sell(4, 110, fee=1, commission_currency="EUR"))
    close = result.closes[0]
    assert close.fees == (("CHF", D("0.8")), ("EUR", D(1)))  # 2 x 4/10; all of 1
    assert (close.opening_commission, close.closing_commission, close.net_pnl) == (ZERO, ZERO, D(40))
    assert result.position.lots[0].fees == (("CHF", D("1.2")),)


def test_a_commission_in_another_currency_that_has_not_come_is_unknown_too():
    assert net(booked(buy(1, 1, fee=None, commission_currency="CHF"), sell(1, 2))) == [None]


def test_fees_in_other_currencies_pool_and_flip():
    first, second = buy(10, 100, fee=1, commission_currency="CHF"), buy(10, 100, fee=3, commission_currency="CHF")
    pool = booked(first, second, sell(25, 100, fee=5, commission_currency="CHF"), method=Method.AVERAGE)
    assert pool.closes[0].fees == (("CHF", D(8)),)  # 1 + 3 + 5 x 20/25
    assert pool.position.lots[0].fees == (("CHF", D(1)),)


# Opening balances and lots


def test_an_opening_balance_without_a_price_has_an_unknown_basis():
    result = booked(adjustment(OPENING_BALANCE, 10, at=0), sell(4, 110, fee=1))
    assert (gross(result), result.closes[0].basis) == ([None], Basis.UNKNOWN)
    assert (result.position.cost, result.position.basis, result.position.unknown_closes) == (None, Basis.UNKNOWN, 1)
    assert result.position.realized_net == 0  # what is not known is in no P&L


def test_an_opening_balance_at_the_brokers_average_is_a_cost_from_the_broker():
    result = booked(adjustment(OPENING_BALANCE, -5, at=0, price=D(20), basis=Basis.BROKER), buy(5, 18))
    assert gross(result) == [D(10)]  # 5 x (20 - 18)
    assert result.closes[0].basis is Basis.BROKER


def test_an_opening_balance_gives_way_to_the_fills_that_explain_it_in_whatever_order_they_come():
    entries = [buy(6, 90, at=1), adjustment(OPENING_BALANCE, 10, at=5), buy(4, 95, at=2), sell(7, 100, at=8)]
    results = {booked(*order).position for order in permutations(entries)}
    assert len(results) == 1
    complete = booked(*entries)
    assert gross(complete) == [D(60), D(5)]  # 6 x (100 - 90); 1 x (100 - 95)
    assert complete.position.unknown_closes == 0


def test_an_opening_balance_books_only_the_part_that_fills_do_not_explain_and_fifo_sells_that_first():
    result = booked(buy(6, 90, at=1), adjustment(OPENING_BALANCE, 10, at=5, price=D(80), basis=Basis.BROKER), sell(7, 100, at=8))
    assert gross(result) == [D(80), D(30)]  # 4 x (100 - 80) are older than all we know of; 3 x (100 - 90)
    assert events(result) == [OPENED, ADJUSTED, REDUCED]


@pytest.mark.parametrize("held", [4, 0, -3])
def test_an_opening_balance_below_what_the_fills_say_closes_the_rest_with_unknown_proceeds(held):
    result = booked(buy(6, 90, at=1), adjustment(OPENING_BALANCE, held, at=5, price=D(80), basis=Basis.BROKER))
    assert result.position.quantity == held
    assert gross(result) == [None]
    assert all(lot.basis is Basis.UNKNOWN for lot in result.position.lots if lot.quantity < 0)
    assert result.events[1].type is ADJUSTED


def test_an_opening_lot_keeps_its_stated_cost_to_the_last_digit():
    lot = adjustment(OPENING_LOT, 3, at=0, cost=D("1000.00000000000000000001"), basis=Basis.STATEMENT)
    result = booked(lot, sell(3, 400))
    assert gross(result) == [1200 - D("1000.00000000000000000001")]
    assert result.closes[0].basis is Basis.STATEMENT


def test_opening_lots_explain_an_opening_balance():
    entries = (
        adjustment(OPENING_LOT, 4, at=0, cost=D(400), basis=Basis.STATEMENT),
        adjustment(OPENING_BALANCE, 10, at=5),
        sell(7, 100, at=8),
    )
    result = booked(*entries)
    assert gross(result) == [None, ZERO]  # 6 of unknown cost first; 1 x (100 - 100)
    assert lots(result) == [(D(3), D(300), ZERO)]


def test_an_opening_lot_gives_way_to_the_fill_that_it_stands_for():
    lot = adjustment(OPENING_LOT, 4, at=1, cost=D(401), basis=Basis.STATEMENT, sequence=77)
    bought = buy(10, 100, at=1, fee=1, sequence=77)
    assert in_order([bought, lot]) == (bought,)
    assert in_order([lot, buy(10, 100, at=1, sequence=78)])[0] == lot


def test_a_basis_is_as_weak_as_its_weakest_lot():
    pool = booked(adjustment(OPENING_BALANCE, 1, at=0, price=D(1), basis=Basis.BROKER), buy(1, 1), method=Method.AVERAGE)
    assert pool.position.basis is Basis.BROKER
    unknown = booked(adjustment(OPENING_BALANCE, 1, at=0), buy(1, 1), method=Method.AVERAGE)
    assert (unknown.position.basis, unknown.position.cost, unknown.position.average_price) == (Basis.UNKNOWN, None, None)


# The end of options: 1 contract of 100 shares, strike 50, premium 3 a share, fee 1


def option_of(side, **other):
    return fill(side, 1, 3, fee=1, multiplier=D(100), instrument=OPTION, at=1, **other)


def ended(kind, quantity, **other):
    return adjustment(kind, quantity, at=10, id="end", instrument=OPTION, multiplier=D(100), **other)


def test_an_option_that_expires_loses_what_was_paid():
    result = booked(option_of("BUY"), ended(EXPIRY, -1))
    assert (gross(result), net(result)) == ([D(-300)], [D(-301)])
    assert events(result) == [OPENED, EventType.EXPIRED]


def test_a_sold_option_that_expires_earns_what_was_received():
    result = booked(option_of("SELL"), ended(EXPIRY, 1))
    assert net(result) == [D(299)]


# (how the option was opened, its end, how the shares move, what they cost or bring including the premium)
ENDS = [
    ("BUY", EXERCISE, "BUY", D(5301)),  # long call: shares bought for 5000, and 301 paid for the call
    ("SELL", ASSIGNMENT, "SELL", D(-5299)),  # short call: shares sold for 5000, and 299 kept from the call
    ("BUY", EXERCISE, "SELL", D(-4699)),  # long put: shares sold for 5000, less 301 paid for the put
    ("SELL", ASSIGNMENT, "BUY", D(4701)),  # short put: shares bought for 5000, less 299 kept from the put
]


@pytest.mark.parametrize(("opened", "kind", "shares", "amount"), ENDS)
def test_the_premium_enters_the_cost_of_shares_that_the_option_opens(opened, kind, shares, amount):
    option = booked(option_of(opened), ended(kind, 1 if opened == "SELL" else -1))
    assert (net(option), option.position.quantity) == ([ZERO], ZERO)  # the option itself realises nothing
    result = booked(fill(shares, 100, 50, fee=2, premium_from="end"), carries=option.carries)
    assert lots(result) == [(D(100) if shares == "BUY" else D(-100), amount, D(2))]
    assert result.position.average_price == abs(amount) / 100


@pytest.mark.parametrize(("opened", "kind", "shares", "amount"), ENDS)
def test_the_premium_enters_the_profit_of_shares_that_the_option_closes(opened, kind, shares, amount):
    option = booked(option_of(opened), ended(kind, 1 if opened == "SELL" else -1))
    before = fill("SELL" if shares == "BUY" else "BUY", 100, 40, fee=1)
    result = booked(before, fill(shares, 100, 50, fee=2, premium_from="end"), carries=option.carries)
    held = D(4000) if shares == "SELL" else D(-4000)
    assert gross(result) == [-amount - held]
    assert net(result) == [-amount - held - 3]
    assert result.position.quantity == 0


def test_a_fee_of_the_exercise_moves_with_the_premium():
    option = booked(option_of("BUY"), ended(EXERCISE, -1, commission=D("2.47")))
    assert option.carries == {"end": Carried(D("303.47"))}
    assert net(option) == [ZERO]


def test_a_premium_follows_the_quantity_when_its_shares_close_several_lots_and_open_more():
    option = booked(option_of("SELL"), ended(ASSIGNMENT, 1))
    shares = sell(100, 50, premium_from="end")
    result = booked(buy(40, 45), buy(30, 46), shares, carries=option.carries)
    assert gross(result) == money("319.6", "209.7")  # 40 x 5 + 299 x .4; 30 x 4 + 299 x .3
    assert lots(result) == [(D(-30), D("-1589.7"), ZERO)]  # 30 x 50 + 299 x .3


def test_shares_of_an_option_whose_cost_is_unknown_have_an_unknown_basis():
    option = booked(adjustment(OPENING_BALANCE, -1, at=0, instrument=OPTION, multiplier=D(100)), ended(ASSIGNMENT, 1))
    assert option.carries == {"end": Carried(None)}
    result = booked(buy(100, 45), sell(100, 50, premium_from="end"), carries=option.carries)
    assert (gross(result), result.closes[0].basis) == ([None], Basis.UNKNOWN)


def test_shares_whose_option_is_not_booked_yet_have_an_unknown_basis():
    result = booked(buy(100, 50, premium_from="end"))
    assert lots(result) == [(D(100), None, ZERO)]
    assert result.position.basis is Basis.UNKNOWN


@pytest.mark.parametrize("kind", [EXPIRY, ASSIGNMENT, EXERCISE])
def test_the_end_of_an_option_opens_nothing(kind):
    result = booked(ended(kind, 3))
    assert (result.position.quantity, result.closes, result.events) == (ZERO, (), ())
    more = booked(option_of("SELL"), ended(kind, 3))
    assert more.position.quantity == 0
    assert more.carries == ({} if kind is EXPIRY else {"end": Carried(None)})


# One by one


def test_booking_one_by_one_is_folding():
    fills = [buy(10, 100, fee=1), sell(4, 110, fee=1), sell(10, 120, fee=1), buy(4, 90)]
    position, closes = flat(), []
    for each in fills:
        result = book(position, each)
        position = result.position
        closes += result.closes
    assert (position, tuple(closes)) == (fold(flat(), fills).position, fold(flat(), fills).closes)
    assert fold(position, ()).position == position
