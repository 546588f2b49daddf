"""Wash sales: worked examples, the arithmetic beside the numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from position_pipeline.accounting.wash_sales import WashSale, wash_sales
from position_pipeline_tests.accounting.ledger import booked, buy, sell

D = Decimal


def on(month: int, day: int, hour: int = 15) -> datetime:
    return datetime(2025, month, day, hour, tzinfo=UTC)


def report(*fills):
    """(sold lot, replacement, units, disallowed)."""
    found = wash_sales(booked(*fills).closes, fills)
    return [(sale.opening_id, sale.replacement_id, sale.quantity, sale.disallowed) for sale in found]


def bought(name, quantity, price, at, **other):
    return buy(quantity, price, time=at, execution_id=name, **other)


def sold(name, quantity, price, at, **other):
    return sell(quantity, price, time=at, execution_id=name, **other)


def test_the_module_docstrings_example():
    fills = [bought("b1", 100, 50, on(1, 2)), sold("s1", 100, 40, on(3, 3)), bought("b2", 60, 42, on(3, 20))]
    (found,) = wash_sales(booked(*fills).closes, fills)
    assert found == WashSale("s1", "b1", "b2", D(60), D(600), "USD")  # (5000 - 4000) x 60/100


def test_a_loss_counts_with_its_commissions():
    fills = [bought("b1", 100, 50, on(1, 2), fee=1), sold("s1", 100, 40, on(3, 3), fee=2), bought("b2", 100, 42, on(3, 20))]
    assert report(*fills) == [("b1", "b2", D(100), D(1003))]


def test_a_gain_washes_nothing():
    assert report(bought("b1", 100, 50, on(1, 2)), sold("s1", 100, 60, on(3, 3)), bought("b2", 100, 42, on(3, 20))) == []


def test_the_window_is_30_days_on_either_side_counted_in_new_york():
    def replaced(at):
        return report(bought("b1", 10, 50, on(1, 2)), sold("s1", 10, 40, on(6, 10)), bought("b2", 10, 42, at))

    assert replaced(on(7, 10)) != []
    assert replaced(on(7, 11)) == []
    assert replaced(on(7, 11, hour=2)) != []  # still the evening of July 10 in New York
    before = [bought("b1", 10, 50, on(1, 2)), bought("b2", 10, 42, on(5, 11)), sold("s1", 10, 40, on(6, 10))]
    assert report(*before) == [("b1", "b2", D(10), D(100))]
    assert report(before[0], bought("b2", 10, 42, on(5, 10)), before[2]) == []


def test_units_bought_before_and_sold_in_the_same_sale_replace_nothing():
    assert report(bought("b1", 10, 50, on(3, 1)), bought("b2", 10, 45, on(3, 2)), sold("s1", 20, 40, on(3, 10))) == []


def test_replacements_are_used_in_the_order_of_acquisition_and_once():
    fills = [
        bought("b1", 100, 50, on(1, 2)),
        sold("s1", 60, 40, on(3, 3)),  # a loss of 600
        sold("s2", 40, 45, on(3, 4)),  # a loss of 200
        bought("b2", 30, 42, on(3, 10)),
        bought("b3", 50, 42, on(3, 11)),
    ]
    assert report(*fills) == [
        ("b1", "b2", D(30), D(300)),  # 600 x 30/60
        ("b1", "b3", D(30), D(300)),  # 600 x 30/60
        ("b1", "b3", D(20), D(100)),  # 20 of b3 are left for the 40 of the second sale: 200 x 20/40
    ]


def test_a_disallowed_loss_is_part_of_the_next_one():
    fills = [
        bought("b1", 10, 50, on(1, 2)),
        sold("s1", 10, 40, on(3, 3)),  # a loss of 100
        bought("b2", 10, 42, on(3, 10)),  # costs 420 + 100 for the tax return
        sold("s2", 10, 41, on(3, 20)),  # so that a loss of 10 is one of 110
        bought("b3", 10, 39, on(4, 1)),
    ]
    assert report(*fills) == [("b1", "b2", D(10), D(100)), ("b2", "b3", D(10), D(110))]


def test_shorts_are_treated_alike():
    fills = [sold("o1", 10, 40, on(1, 2)), bought("c1", 10, 50, on(3, 3)), sold("o2", 4, 48, on(3, 10))]
    assert report(*fills) == [("o1", "o2", D(4), D(40))]  # 100 x 4/10
    assert report(*fills[:2], bought("b2", 4, 48, on(3, 10))) == []


def test_a_flip_is_no_replacement_by_what_it_closes():
    fills = [bought("b1", 10, 50, on(1, 2)), sold("s1", 15, 40, on(3, 3)), bought("b2", 8, 42, on(3, 10))]
    assert report(*fills)[0] == ("b1", "b2", D(3), D(30))  # 5 of the 8 cover the short; 100 x 3/10


def test_what_is_not_known_is_left_out():
    fills = [bought("b1", 10, 50, on(1, 2)), sold("s1", 10, 40, on(3, 3), fee=None), bought("b2", 10, 42, on(3, 10))]
    assert report(*fills) == []
