"""Worked ledgers of what is no fill: splits, transfers, conversions, distributions, settlements. The arithmetic stands beside the number."""

from __future__ import annotations

from decimal import Decimal

import pytest

from position_pipeline.accounting.booking import fold, fold_together, in_order
from position_pipeline.accounting.exact import ZERO, total
from position_pipeline.accounting.invariants import violations
from position_pipeline.accounting.model import AdjustmentKind, Basis, EventType, Method, Position
from position_pipeline_tests.accounting.ledger import ACCOUNT, STOCK, adjustment, booked, buy, flat, gross, lots, minute, sell

D = Decimal
K = AdjustmentKind
NEW = "ibkr:9"
BOTH = pytest.mark.parametrize("method", [Method.FIFO, Method.AVERAGE])


def events(result):
    return [event.type for event in result.events]


def checked(*entries, method=Method.FIFO):
    """Folded in order, with every claim about the book examined."""
    result = booked(*entries, method=method)
    assert violations(entries, result) == ()
    return result


def linked(*entries, method=Method.FIFO):
    """(what became of STOCK, what became of NEW), every claim about both examined."""
    flats = {name: Position(ACCOUNT, name, "USD", method=method) for name in (STOCK, NEW)}
    results = fold_together(flats, in_order(entries))
    for name, result in results.items():
        assert violations([entry for entry in entries if entry.instrument == name], result) == ()
    return results[STOCK], results[NEW]


def split(numerator, denominator=1, **other):
    return adjustment(K.SPLIT, 0, numerator=D(numerator), denominator=D(denominator), **other)


# Splits


@BOTH
@pytest.mark.parametrize(("trade", "sign"), [(buy, 1), (sell, -1)])
def test_a_split_changes_units_and_prices_and_nothing_else(method, trade, sign):
    result = checked(trade(10, 100, fee=1), split(2), method=method)
    assert lots(result) == [(D(20) * sign, D(1000) * sign, D(1))]  # 10 x 2/1; the cost stays 10 x 100
    assert result.position.lots[0].price == D(50)  # 1000 / 20
    assert (events(result), result.closes) == ([EventType.OPENED, EventType.SPLIT], ())


def test_lots_that_cannot_be_divided_add_up_to_a_whole_number_all_the_same():
    """100 + 101 + 201 = 402 shares, 1 for 3: 134, though none of the lots is a multiple of 3."""
    result = checked(buy(100, 3), buy(101, 3), buy(201, 3), split(1, 3))
    assert result.position.quantity == 134
    assert [lot.quantity for lot in result.position.lots] == [
        D("33.333333333333333333"),  # 100/3
        D("33.666666666666666667"),  # 201/3 = 67 in all
        D("67.000000000000000000"),  # 134 - 67
    ]
    assert total(lot.cost for lot in result.position.lots) == 1206  # 402 x 3
    closed = checked(buy(100, 3), buy(101, 3), buy(201, 3), split(1, 3), sell(134, 10))
    assert closed.position.quantity == 0
    assert total(gross(closed)) == D(134)  # 1340 - 1206


def test_a_ratio_without_end_is_rounded_once_at_18_decimals():
    assert checked(buy(20, 50), split(1, 3)).position.quantity == D("6.666666666666666667")  # 20/3, half to even


@BOTH
def test_cash_in_lieu_closes_the_fraction_and_keeps_whole_units(method):
    result = checked(buy(100, 20), split(1, 3, amount=D(21)), method=method)
    # 33.33.. units at 60; the third of a unit had cost 2000 x (1/3)/(100/3) = 20 and is paid with 21
    assert result.position.quantity == 33
    assert result.position.cost == D(1980)
    assert gross(result) == [D(1)]
    assert events(result) == [EventType.OPENED, EventType.SPLIT, EventType.REDUCED]
    short = checked(sell(100, 20), split(1, 3, amount=D(-21)), method=method)
    assert (short.position.quantity, gross(short)) == (D(-33), [D(-1)])  # 20 received for what now costs 21


def test_cash_in_lieu_takes_the_fraction_from_the_lot_of_the_method():
    lifo = checked(buy(10, 30), buy(10, 60), split(3, 40, amount=D(200)), method=Method.LIFO)
    # 20 x 3/40 = 1.5 units of 400 (lot 1) and 800 (lot 2), .75 each; .5 goes for 200 and had cost 600 x .5/.75 = 400
    assert (gross(lifo), lifo.position.quantity) == ([D(-200)], D(1))
    assert lots(lifo) == [(D("0.75"), D(300), ZERO), (D("0.25"), D(200), ZERO)]


def test_a_fraction_that_is_all_there_is_closes_the_position():
    result = checked(buy(10, 1), split(1, 100, amount=D(12)))
    assert (result.position.quantity, gross(result)) == (ZERO, [D(2)])
    assert events(result) == [EventType.OPENED, EventType.SPLIT, EventType.CLOSED]


def test_fills_before_a_split_are_not_restated():
    result = checked(buy(10, 100), sell(4, 110), split(2), sell(12, 60))
    assert gross(result) == [D(40), D(120)]  # 4 x (110 - 100); 12 x 60 - 600


# Transfers


@BOTH
def test_a_transfer_in_is_a_lot_at_what_it_had_cost(method):
    result = checked(adjustment(K.TRANSFER, 10, cost=D(1000), commission=D(2), basis=Basis.STATEMENT), sell(10, 110), method=method)
    assert gross(result) == [D(100)]  # 1100 - 1000
    assert result.closes[0].net_pnl == D(98)
    assert (events(result)[0], result.closes[0].basis) == (EventType.TRANSFERRED, Basis.STATEMENT)


def test_a_transfer_in_of_unknown_cost_is_in_no_profit_and_selling_it_is_no_short():
    result = checked(adjustment(K.TRANSFER, 10), sell(10, 110))
    assert (gross(result), result.position.quantity, result.position.unknown_closes) == ([None], ZERO, 1)
    assert result.position.realized_net == 0


@BOTH
def test_a_transfer_out_takes_lots_at_their_cost_and_realises_nothing(method):
    leaving = adjustment(K.TRANSFER, -15, at=3)
    result = checked(buy(10, 100, fee=1, at=1), buy(10, 120, fee=1, at=2), leaving, method=method)
    if method is Method.FIFO:
        assert lots(result) == [(D(5), D(600), D("0.5"))]  # 10 @ 100 and 5 @ 120 are gone
    else:
        assert lots(result) == [(D(5), D(550), D("0.5"))]  # 2200 x 5/20, 2 x 5/20
    assert (result.closes, events(result)[-1]) == ((), EventType.TRANSFERRED)
    gone = result.carries[leaving.id].lots
    assert total(lot.quantity for lot in gone) == 15


def test_a_short_is_transferred_out_by_units_that_come():
    result = checked(sell(10, 100), adjustment(K.TRANSFER, 10))
    assert (result.position.quantity, result.closes) == (ZERO, ())
    assert result.position.closed_at == result.events[-1].at


def test_a_transfer_out_of_more_than_is_held_makes_no_short():
    result = checked(buy(10, 100), adjustment(K.TRANSFER, -15))
    assert (result.position.quantity, result.closes) == (ZERO, ())
    assert [refusal.quantity for refusal in result.refused] == [D(-5)]
    nothing = checked(adjustment(K.TRANSFER, -5))
    assert (nothing.position.quantity, nothing.refused[0].quantity) == (ZERO, None)


def test_a_short_comes_in_where_its_price_is_stated():
    result = checked(adjustment(K.TRANSFER, -5, price=D(20)), buy(5, 18))
    assert gross(result) == [D(10)]  # 5 x (20 - 18)


def test_lots_go_from_one_account_to_another_with_their_age_and_cost():
    leaving = adjustment(K.TRANSFER, -15, at=20)
    source = booked(buy(10, 100, fee=1, at=1), buy(10, 120, at=2), leaving)
    coming = adjustment(K.TRANSFER, 15, at=20, takes_from=leaving.id, account="U2")
    target = fold(Position("U2", STOCK, "USD"), [coming], source.carries)
    assert violations([coming], target) == ()
    assert lots(target) == [(D(10), D(1000), D(1)), (D(5), D(600), ZERO)]
    assert [lot.opened_at for lot in target.position.lots] == [minute(1), minute(2)]


# Conversions: symbol changes and mergers


@BOTH
def test_a_symbol_change_keeps_lots_ages_and_cost(method):
    bought = buy(10, 100, fee=1, at=1)
    out = adjustment(K.CONVERSION_OUT, -10, at=9, numerator=D(1), denominator=D(1))
    into = adjustment(K.CONVERSION_IN, 10, at=9, instrument=NEW, takes_from=out.id, numerator=D(1), denominator=D(1))
    old, new = linked(into, out, bought, method=method)  # the giver comes first at one time, whatever the ids say
    assert (old.position.quantity, old.closes, new.closes) == (ZERO, (), ())
    assert (events(old)[-1], events(new)) == (EventType.RENAMED, [EventType.RENAMED])
    assert new.position.lots == ((bought.execution_id, minute(1), D(10), D(100), D(1000), D(1), Basis.FILLS, ()),)


@BOTH
@pytest.mark.parametrize(("trade", "sign"), [(buy, 1), (sell, -1)])
def test_a_merger_with_cash_lowers_the_cost_that_is_carried(method, trade, sign):
    out = adjustment(K.CONVERSION_OUT, -100 * sign, at=9, amount=D(500) * sign)
    into = adjustment(K.CONVERSION_IN, 50 * sign, at=9, instrument=NEW, takes_from=out.id, numerator=D(1), denominator=D(2))
    old, new = linked(trade(100, 20, fee=3, at=1), out, into, method=method)
    assert lots(new) == [(D(50) * sign, D(1500) * sign, D(3))]  # 100 x 1/2; 2000 - 500
    assert new.position.average_price == D(30)
    assert (old.position.quantity, old.closes, new.refused) == (ZERO, (), ())
    assert (events(old)[-1], events(new)) == (EventType.TRANSFERRED, [EventType.TRANSFERRED])


def test_cash_above_the_cost_is_realised_when_the_new_units_are_sold():
    out = adjustment(K.CONVERSION_OUT, -100, at=8, amount=D(2500))
    into = adjustment(K.CONVERSION_IN, 0, at=9, instrument=NEW, takes_from=out.id, numerator=D(1), denominator=D(2))
    _, new = linked(buy(100, 20, at=1), out, into, sell(50, 1, at=10, instrument=NEW))
    assert gross(new) == [D(550)]  # 50 x 1 - (2000 - 2500)


def test_a_merger_pays_the_fraction_in_cash():
    out = adjustment(K.CONVERSION_OUT, -33, at=8)
    into = adjustment(K.CONVERSION_IN, D("9.9"), at=8, instrument=NEW, takes_from=out.id, numerator=D(3), denominator=D(10), amount=D(95))
    _, new = linked(buy(33, 30, at=1), out, into)
    assert lots(new) == [(D(9), D(900), ZERO)]  # 990 x 9/9.9
    assert gross(new) == [D(5)]  # 95 - 990 x .9/9.9


def test_a_tender_moves_a_part_by_the_method():
    out = adjustment(K.CONVERSION_OUT, -15, at=8)
    into = adjustment(K.CONVERSION_IN, 15, at=8, instrument=NEW, takes_from=out.id, numerator=D(1), denominator=D(1))
    old, new = linked(buy(10, 100, at=1), buy(10, 120, at=2), out, into, method=Method.LIFO)
    assert lots(old) == [(D(5), D(500), ZERO)]
    assert lots(new) == [(D(5), D(500), ZERO), (D(10), D(1200), ZERO)]
    assert events(new) == [EventType.TRANSFERRED]  # not a change of name: some stayed


def test_lots_that_meet_a_short_cover_it_at_their_cost():
    """Long the target, short the acquirer."""
    out = adjustment(K.CONVERSION_OUT, -100, at=8)
    into = adjustment(K.CONVERSION_IN, 50, at=8, instrument=NEW, takes_from=out.id, numerator=D(1), denominator=D(2))
    _, new = linked(buy(100, 20, at=1), sell(40, 45, at=2, instrument=NEW), out, into)
    assert gross(new) == [D(200)]  # 40 x 45 - 2000 x 40/50
    assert lots(new) == [(D(10), D(400), ZERO)]
    assert events(new) == [EventType.OPENED, EventType.CLOSED, EventType.TRANSFERRED]


def test_a_fraction_may_be_all_that_is_left_after_a_short_is_covered():
    out = adjustment(K.CONVERSION_OUT, -33, at=8)
    into = adjustment(K.CONVERSION_IN, 0, at=8, instrument=NEW, takes_from=out.id, numerator=D(3), denominator=D(10), amount=D(95))
    _, new = linked(buy(33, 30, at=1), sell(9, 120, at=2, instrument=NEW), out, into)
    assert gross(new) == [D(180), D(5)]  # 9 x 120 - 990 x 9/9.9; 95 - 990 x .9/9.9
    assert events(new) == [EventType.OPENED, EventType.CLOSED, EventType.TRANSFERRED, EventType.ADJUSTED]
    assert (new.position.quantity, new.position.closed_at) == (ZERO, minute(8))


def test_lots_that_come_in_stand_by_age():
    out = adjustment(K.CONVERSION_OUT, -10, at=8)
    into = adjustment(K.CONVERSION_IN, 10, at=8, instrument=NEW, takes_from=out.id, numerator=D(1), denominator=D(1))
    later = [buy(5, 7, at=3, instrument=NEW), sell(12, 9, at=9, instrument=NEW)]
    _, new = linked(buy(10, 6, at=1), out, into, *later)
    assert gross(new) == [D(30), D(4)]  # 10 x (9 - 6) are older; 2 x (9 - 7)


def test_a_change_of_name_and_back_again():
    entries = [buy(10, 100, at=1)]
    for at, source, target in ((5, STOCK, NEW), (6, NEW, STOCK)):
        out = adjustment(K.CONVERSION_OUT, -10, at=at, instrument=source)
        entries += [out, adjustment(K.CONVERSION_IN, 10, at=at, instrument=target, takes_from=out.id, numerator=D(1), denominator=D(1))]
    old, new = linked(*entries, sell(10, 101, at=7))
    assert (gross(old), new.position.quantity) == ([D(10)], ZERO)


# Distributions


@BOTH
def test_a_spin_off_takes_its_share_of_cost_and_commission(method):
    spun = adjustment(K.SPIN_OFF, 0, at=8, share=D("0.2"))
    into = adjustment(K.CONVERSION_IN, 25, at=8, instrument=NEW, takes_from=spun.id, numerator=D(1), denominator=D(4))
    old, new = linked(buy(100, 20, fee=5, at=1), spun, into, method=method)
    assert lots(old) == [(D(100), D(1600), D(4))]  # 2000 x .8, 5 x .8
    assert lots(new) == [(D(25), D(400), D(1))]  # 100 x 1/4; 2000 x .2, 5 x .2
    assert new.position.lots[0].opened_at == minute(1)
    assert events(old) == [EventType.OPENED, EventType.ADJUSTED]


def test_a_return_of_capital_lowers_the_cost_by_quantity():
    result = checked(buy(10, 100), buy(30, 110), adjustment(K.RETURN_OF_CAPITAL, 0, amount=D(80)))
    assert lots(result) == [(D(10), D(980), ZERO), (D(30), D(3240), ZERO)]  # 80 x 10/40, 80 x 30/40
    assert (result.closes, events(result)[-1]) == ((), EventType.ADJUSTED)


def test_what_a_return_of_capital_has_above_the_cost_shows_when_the_units_are_sold():
    result = checked(buy(10, 1), adjustment(K.RETURN_OF_CAPITAL, 0, amount=D(15)), sell(10, 2))
    assert gross(result) == [D(25)]  # 20 - (10 - 15)


def test_a_short_pays_a_return_of_capital():
    result = checked(sell(10, 100), adjustment(K.RETURN_OF_CAPITAL, 0, amount=D(-50)))
    assert lots(result) == [(D(-10), D(-950), ZERO)]  # 1000 received, 50 paid
    wrong = checked(sell(10, 100), adjustment(K.RETURN_OF_CAPITAL, 0, amount=D(50)))
    assert (lots(wrong), len(wrong.refused)) == ([(D(-10), D(-1000), ZERO)], 1)


def test_a_return_of_capital_on_units_of_unknown_cost_leaves_it_unknown():
    result = checked(adjustment(K.TRANSFER, 10), buy(10, 5), adjustment(K.RETURN_OF_CAPITAL, 0, amount=D(20)))
    assert lots(result) == [(D(10), None, ZERO), (D(10), D(40), ZERO)]


def test_a_notional_reinvestment_raises_the_cost():
    result = checked(buy(10, 100), buy(30, 110), adjustment(K.REINVESTMENT, 0, amount=D(80)))
    assert lots(result) == [(D(10), D(1020), ZERO), (D(30), D(3360), ZERO)]


@BOTH
def test_a_fee_in_kind_takes_units_and_leaves_the_cost(method):
    result = checked(buy("0.5", 60000), buy("1.5", 60000), adjustment(K.FEE_IN_KIND, "-0.005"), method=method)
    assert result.position.quantity == D("1.995")
    assert result.position.cost == D(120000)
    if method is Method.FIFO:
        assert [lot.quantity for lot in result.position.lots] == [D("0.49875"), D("1.49625")]  # .5 and 1.5 less a quarter percent
    assert (result.closes, events(result)[-1]) == ((), EventType.ADJUSTED)


def test_a_fee_in_kind_that_takes_all_is_a_loss_of_the_cost():
    result = checked(buy(2, 10), adjustment(K.FEE_IN_KIND, -2))
    assert (gross(result), result.position.quantity) == ([D(-20)], ZERO)


def test_a_fee_in_kind_keeps_24_decimals():
    result = checked(buy("0.123456789012345678901234", 7), buy(1, 7), adjustment(K.FEE_IN_KIND, "-0.000000000000000000000001"))
    assert result.position.quantity == D("1.123456789012345678901233")


def test_how_many_idle_zeros_a_quantity_has_changes_no_lot():
    """A history that was folded in batches had 2.0000 units where the whole one had 2, and so two more decimals in its lots."""
    fee = adjustment(K.FEE_IN_KIND, "-0.7", at=9)
    short = checked(buy(1, 7, at=1), buy(2, 7, at=2), fee)
    long = checked(buy("1." + "0" * 24, 7, at=1), buy(2, 7, at=2), fee)
    assert [lot.quantity for lot in short.position.lots] == [lot.quantity for lot in long.position.lots]
    assert short.position.lots[0].quantity == D("0.766666666666666667")  # 2.3/3


# Settlement in cash: 1 contract of 100, premium 3, fee 1


@pytest.mark.parametrize(("trade", "change", "profit"), [(buy, -1, 450), (sell, 1, -450)])
def test_a_settlement_in_cash_pays_the_intrinsic_value(trade, change, profit):
    settled = adjustment(K.CASH_SETTLEMENT, change, at=2, price=D("7.5"), multiplier=D(100), commission=D(2))
    result = checked(trade(1, 3, fee=1, multiplier=D(100), at=1), settled)
    assert gross(result) == [D(profit)]  # 100 x (7.5 - 3)
    assert result.closes[0].net_pnl == profit - 3
    assert events(result)[-1] is EventType.EXPIRED


def test_a_settlement_of_more_than_is_held_settles_what_is_held():
    result = checked(buy(1, 3, multiplier=D(100)), adjustment(K.CASH_SETTLEMENT, -4, price=D(5), multiplier=D(100)))
    assert (gross(result), result.refused[0].quantity) == ([D(200)], D(-3))


def test_what_changed_in_a_lot_is_told():
    result = checked(buy(10, 100, execution_id="e1"), adjustment(K.RETURN_OF_CAPITAL, 0, amount=D(80)), split(2))
    assert [(move.opening_id, move.quantity, move.cost) for move in result.moves] == [("e1", ZERO, D(-80)), ("e1", D(10), ZERO)]
    assert fold(flat(), ()).moves == ()
