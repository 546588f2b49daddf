"""What was held before the fills that the broker lists at first contact, and what it had cost."""

from __future__ import annotations

from decimal import Decimal, localcontext

from hypothesis import given
from hypothesis import strategies as st

from position_pipeline.accounting.circumstances import BookSide
from position_pipeline.accounting.first_contact import average_before, opening_balance
from position_pipeline.accounting.model import Basis, Holding
from position_pipeline_tests.scenarios import AAPL, CALL, buy, sell, snapshot

D = Decimal


def opened(holds, average, *fills, instrument=AAPL, listed=None):
    bought = sum((fill.signed_quantity for fill in fills if fill.signed_quantity > 0), D(0))
    sold = -sum((fill.signed_quantity for fill in fills if fill.signed_quantity < 0), D(0))
    ours = BookSide(bought - sold if listed is None else D(listed), bought=bought, sold=sold, first_entry_at=fills[0].time)
    return opening_balance(snapshot(at=3600), ours, Holding(instrument.id, D(holds), D(average)), instrument, fills)


def test_a_purchase_of_today_is_taken_out_of_the_average_of_now():
    """200 at 15 cost 3000; 100 of them were bought today, for 100 x 20 = 2000: the others had cost 1000."""
    opening = opened(200, 15, buy(AAPL, 100, 20))
    assert (opening.quantity, opening.price, opening.basis) == (100, 10, Basis.BROKER)
    assert opening.evidence == (
        "First contact: the broker holds 200, the fills it lists explain 100; the other 100 were held before, "
        "at 10, which with the fills makes the broker's average 15."
    )


def test_its_commission_is_in_the_average_too():
    """200 x 15 = 3000 are 100 x 20 + 4 and 100 x 9.96."""
    assert opened(200, 15, buy(AAPL, 100, 20, fee=4)).price == D("9.96")


def test_a_commission_is_of_a_contract_and_an_average_of_a_unit():
    """2 contracts of 100 at 4: 800, of which one cost 100 x 5 + 10; the other cost 290, or 2.90 a unit."""
    assert opened(2, 4, buy(CALL, 1, 5, fee=10), instrument=CALL).price == D("2.9")


def test_a_sale_leaves_the_average_as_it_is():
    assert opened(90, 100, sell(AAPL, 30, 130)).price == 100


def test_a_sale_takes_its_part_of_what_was_bought_before_it():
    """100 at 10 and 100 at 20 average 15; half of them is sold, and 50 more are bought at 18: (100 x 15 + 50 x 18) / 150 = 16."""
    fills = (buy(AAPL, 100, 20, at=1), sell(AAPL, 100, 30, at=2), buy(AAPL, 50, 18, at=3))
    assert average_before(D(100), D(16), D(1), fills) == 10


def test_a_short_is_averaged_as_a_long_is_and_a_commission_lowers_what_it_brought():
    """-100 at 50 and -100 at 60, with 2 of commission, brought 5000 + 6000 - 2 = 10998: 54.99 each."""
    assert opened(-200, "54.99", sell(AAPL, 100, 60, fee=2)).price == 50


def test_where_nothing_is_left_of_it_its_cost_is_not_known():
    opening = opened(20, 30, buy(AAPL, 50, 30))  # the short of 30 is covered
    assert (opening.quantity, opening.price, opening.basis) == (-30, None, Basis.UNKNOWN)
    assert average_before(D(-30), D(30), D(1), [buy(AAPL, 50, 30)]) is None


def test_where_the_fills_do_not_come_to_what_the_answer_lists_the_average_of_now_has_to_do():
    assert opened(200, 15, buy(AAPL, 100, 20), listed=90).price == 15


def test_an_average_that_nothing_positive_can_have_made_has_to_do_as_it_is():
    """200 x 5 = 1000, but 100 were bought for 2000: the broker averages in another way."""
    assert opened(200, 5, buy(AAPL, 100, 20)).price == 5


amounts = st.integers(1, 500).map(D)
prices = st.integers(1, 10**6).map(lambda cents: D(cents) / 100)


@given(before=amounts, cost=prices, trades=st.lists(st.tuples(st.booleans(), amounts, prices, st.integers(0, 300)), max_size=8))
def test_it_is_the_average_that_was_whatever_was_traded_without_passing_zero(before, cost, trades):
    with localcontext(prec=90):
        held, average, fills = before, cost, []
        for number, (purchase, quantity, price, cents) in enumerate(trades):
            fee = D(cents) / 100
            if purchase:
                average = (average * held + quantity * price + fee) / (held + quantity)
                held += quantity
                fills.append(buy(AAPL, quantity, price, at=number, fee=fee))
            elif quantity < held:
                held -= quantity
                fills.append(sell(AAPL, quantity, price, at=number, fee=fee))
    assert abs(average_before(before, average, D(1), fills) - cost) <= cost * D("1e-11")
