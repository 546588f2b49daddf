"""Every kind of book entry in the tables: splits, conversions, transfers, and what passes between instruments, however it is told."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest

from position_pipeline.accounting.model import AdjustmentKind, Fill, Instrument
from position_pipeline.verify import verify
from position_pipeline_tests.accounting.histories import INSTRUMENTS, read
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, CALL, KO, OTHER_ACCOUNT, SAP, TSLA, adjustment, buy, of_account, sell
from position_pipeline_tests.store.conftest import identities
from position_pipeline_tests.store.tables import TABLES, believed, query, rows, versions

K = AdjustmentKind
D = Decimal
OPEN_REJECTS = "SELECT symbol, reason FROM rejects WHERE resolved_at IS NULL ORDER BY symbol, reason"


def adjusted(kind, instrument, quantity=0, **more):
    decimals = ("numerator", "denominator", "amount", "share")
    return adjustment(kind, instrument, quantity, **{name: D(value) if name in decimals else value for name, value in more.items()})


@pytest.fixture
def proven(book):
    """The book; when the test is done it is what its entries make, and adds up."""
    yield book
    assert verify(book.store).differences == ()
    assert book.identities() == {}


def test_a_split_multiplies_the_lots(proven):
    proven.record(buy(AAPL, 10, 100, fee=1), adjusted(K.SPLIT, AAPL, at=60, numerator=4, denominator=1), sell(AAPL, 20, 30, at=120))
    position = proven.position(AAPL)
    assert (position["quantity"], position["cost"], position["realized_pnl_gross"]) == (20, 500, 100)
    assert [event[0] for event in proven.events(AAPL)] == ["opened", "split", "reduced"]


def test_a_fill_from_before_the_split_that_comes_late_is_split_too(proven):
    proven.record(buy(AAPL, 10, 100, name="a"), adjusted(K.SPLIT, AAPL, at=60, numerator=2, denominator=1))
    proven.record(buy(AAPL, 5, 80, at=30, name="b"))
    assert [(lot["opening_id"], lot["quantity"]) for lot in proven.lots(AAPL)] == [("a", 20), ("b", 10)]


def test_cash_in_lieu_closes_the_fraction(proven):
    proven.record(buy(AAPL, 5, 100), adjusted(K.SPLIT, AAPL, at=60, numerator=1, denominator=2, amount="120"))
    assert (proven.position(AAPL)["quantity"], proven.position(AAPL)["realized_pnl_gross"]) == (2, 20)


@pytest.mark.parametrize("late", [False, True])
def test_a_merger_takes_the_lots_to_the_other_instrument(proven, late):
    """Also where a fill of the old one comes after the merger was booked: both are booked anew."""
    out = adjusted(K.CONVERSION_OUT, AAPL, -10, at=60, name="m")
    into = adjusted(K.CONVERSION_IN, KO, at=60, takes_from="m", numerator=3, denominator=1)
    told = [buy(AAPL, 6, 100, name="a"), buy(AAPL, 4, 110, at=10, name="b"), out, into, sell(KO, 15, 50, at=120)]
    if late:
        proven.record(*told[2:], told[0])
        assert "m: the conversion_out of -10 exceeds the position of 6: the rest is not booked" in [
            r["reason"] for r in open_rejects(proven)
        ]
        proven.record(told[1])
    else:
        proven.record(*told)
    assert proven.quantities() == {"AAPL": 0, "KO": 15}
    # b is all that is left of the 30: 440 for 12; 3 of a at 600 / 18 each.
    assert proven.position(KO)["realized_pnl_gross"] == 250
    assert open_rejects(proven) == []


def test_a_spin_off_shares_the_cost(proven):
    proven.record(buy(AAPL, 10, 100), adjusted(K.SPIN_OFF, AAPL, at=60, name="s", share="0.2"))
    proven.record(adjusted(K.CONVERSION_IN, TSLA, at=60, takes_from="s", numerator=1, denominator=2))
    assert (proven.position(AAPL)["cost"], proven.position(TSLA)["cost"], proven.position(TSLA)["quantity"]) == (800, 200, 5)


def test_a_transfer_out_realises_nothing_and_one_in_has_its_basis(proven):
    proven.record(buy(AAPL, 10, 100), adjusted(K.TRANSFER, AAPL, -4, at=60), adjusted(K.TRANSFER, SAP, 7, at=60, cost="333.33"))
    assert (proven.position(AAPL)["cost"], proven.position(AAPL)["realized_pnl"]) == (600, 0)
    assert proven.position(SAP)["cost"] == D("333.33")


@pytest.mark.parametrize(("kind", "cost"), [(K.RETURN_OF_CAPITAL, 950), (K.REINVESTMENT, 1050)])
def test_cash_beside_the_position_changes_its_cost(proven, kind, cost):
    proven.record(buy(AAPL, 10, 100), adjusted(kind, AAPL, at=60, amount=50))
    assert proven.position(AAPL)["cost"] == cost


def test_a_fee_in_kind_leaves_the_cost(proven):
    proven.record(buy(AAPL, 10, 100), adjusted(K.FEE_IN_KIND, AAPL, "-0.01", at=60))
    assert (proven.position(AAPL)["quantity"], proven.position(AAPL)["cost"]) == (D("9.99"), 1000)


def test_a_cash_settlement_closes_at_what_was_paid(proven):
    proven.record(buy(CALL, 2, 5), adjusted(K.CASH_SETTLEMENT, CALL, -2, at=60, price=7))
    assert proven.position(CALL)["realized_pnl_gross"] == 400


def test_lots_that_a_sale_names_are_closed_first(proven):
    proven.record(buy(AAPL, 10, 100, name="a"), buy(AAPL, 10, 120, at=10, name="b"), sell(AAPL, 5, 130, at=60, closes_lots=(("b", D(5)),)))
    assert [close["opening_id"] for close in proven.closes()] == ["b"]
    proven.record(buy(AAPL, 1, 90, at=-60))
    assert [close["opening_id"] for close in proven.closes()] == ["b"]


@pytest.mark.parametrize("named_first", [True, False])
def test_lots_that_only_one_delivery_names_are_the_fills_own(proven, named_first):
    """The API told the sale, and what its owner named comes from a file: in whatever order, b is closed, 5 x (130 - 120)."""
    proven.record(buy(AAPL, 10, 100, name="a"), buy(AAPL, 10, 120, at=10, name="b"))
    sale = sell(AAPL, 5, 130, at=60, name="s")
    named = sale._replace(closes_lots=(("b", D(5)),), source="file")
    for each in (named, sale) if named_first else (sale, named):
        proven.record(each)
    assert [(close["opening_id"], close["gross_pnl"]) for close in proven.closes()] == [("b", 50)]


def test_what_a_sale_named_is_told_as_it_was_known(proven, database):
    proven.record(buy(AAPL, 10, 100, name="a"), buy(AAPL, 10, 120, at=10, name="b"), sell(AAPL, 5, 130, at=60, name="s"))
    (before,) = query(database, "SELECT clock_timestamp() AS at")
    proven.record(sell(AAPL, 5, 130, at=60, name="s", closes_lots=(("b", D(5)),)))
    (then,) = proven.store.read.positions_then([ACCOUNT], as_of=None, known_at=before["at"])
    assert (then["realized_pnl"], proven.position(AAPL)["realized_pnl"]) == (150, 50)  # 5 x (130 - 100), 5 x (130 - 120)


def test_two_deliveries_of_a_sale_that_name_other_lots_are_two_different_ones(proven):
    proven.record(
        buy(AAPL, 10, 100, name="a"), buy(AAPL, 10, 120, at=10, name="b"), sell(AAPL, 5, 130, at=60, name="s", closes_lots=(("b", D(5)),))
    )
    recorded = proven.record(sell(AAPL, 5, 130, at=60, name="s", closes_lots=(("a", D(5)),)))
    reason = "execution s revision 1 is known with closes_lots 5 of b, and came again with 5 of a: two different ones under one id"
    assert recorded.refused == (("AAPL", reason),)
    assert [close["opening_id"] for close in proven.closes()] == ["b"]


def open_rejects(book) -> list[dict]:
    return rows(book.store, OPEN_REJECTS)


BAD = [
    (buy(AAPL, "-1", 100, name="x"), "x: its quantity -1 is negative: the side says whether it was bought or sold"),
    (buy(AAPL, "NaN", 100, name="x"), "x: its quantity is NaN"),
    (buy(AAPL, 1, "NaN", name="x"), "x: its price is NaN"),
    (buy(AAPL, 1, 1, name="x")._replace(currency=""), "x: it has no currency"),
    (adjusted(K.SPLIT, AAPL, at=60, name="x", numerator=0, denominator=1), "x: its numerator 0 is not above 0"),
    (adjusted(K.CASH_SETTLEMENT, AAPL, -1, at=60, name="x", price=9, cost="5"), "x: its cost of 5 has no meaning in a cash_settlement"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_what_cannot_be_is_refused_with_its_reason_and_everything_else_is_booked(proven, bad, reason):
    recorded = proven.record(buy(AAPL, 10, 100), bad, buy(KO, 1, 1))
    assert recorded.refused == (("AAPL", reason),)
    assert proven.quantities() == {"AAPL": 10, "KO": 1}


def test_an_assignment_without_an_option_is_refused_until_the_option_is_there(proven):
    recorded = proven.record(adjusted(K.ASSIGNMENT, CALL, 1, at=60, name="x", price=0))
    reason = "x: the assignment of 1 meets a position of 0: there is nothing that it could take"
    assert recorded.refused == ((CALL.symbol, reason),)
    assert [row["reason"] for row in open_rejects(proven)] == [reason]
    assert proven.store.read.totals()["rejects"] == 1
    proven.record(sell(CALL, 1, 3))
    assert (open_rejects(proven), proven.store.read.totals()["rejects"], proven.position(CALL)["quantity"]) == ([], 0, 0)


def in_tables(store, account, entries) -> None:
    entries = [of_account(entry, account) for entry in entries]
    kinds = [
        Instrument(name, name, "STK", "USD", next((e.multiplier for e in entries if e.instrument == name), D(1))) for name in INSTRUMENTS
    ]
    fills = [entry for entry in entries if isinstance(entry, Fill)]
    store.record(account, fills, [entry for entry in entries if not isinstance(entry, Fill)], kinds)


@pytest.mark.parametrize("seeds", [range(start, start + 30) for start in range(0, 120, 30)])
def test_histories_of_all_kinds_end_in_the_same_book_in_any_order(store, seeds):
    """A hundred and twenty histories that mix all kinds, and nonsense: told in order, and again shuffled and in pieces.

    What is inferred is not among them: it may be withdrawn on the way (see test_inferred.py).
    """
    for seed in seeds:
        draw = Random(seed)
        story = read(draw.randbytes(480), infers=False)
        accounts = (f"A{seed}", f"B{seed}")
        for account in accounts:
            store.add_account(account, "ibkr", cost_method=story.method.value)
        in_tables(store, accounts[0], story.entries)
        shuffled = draw.sample(story.entries, len(story.entries))
        for start in range(0, len(shuffled), 5):
            in_tables(store, accounts[1], shuffled[start : start + 5])
        assert believed(store, accounts[1]) == believed(store, accounts[0]), f"seed {seed}"
        assert verify(store, accounts).differences == (), f"seed {seed}"
        before = versions(store, *TABLES)
        in_tables(store, accounts[1], story.entries)
        assert versions(store, *TABLES) == before, f"seed {seed}: told again"
    assert identities(store) == {}


def test_two_accounts_may_have_the_same_ids(proven):
    proven.record(buy(AAPL, 10, 100, name="a"), adjusted(K.SPLIT, AAPL, at=60, name="s", numerator=2, denominator=1))
    more = [each._replace(account=OTHER_ACCOUNT) for each in (buy(AAPL, 1, 100, name="a"),)]
    proven.record(*more, account=OTHER_ACCOUNT)
    assert (proven.position(AAPL)["quantity"], proven.position(AAPL, OTHER_ACCOUNT)["quantity"]) == (20, 1)
    assert ACCOUNT != OTHER_ACCOUNT
