"""A proven answer is held against the book: its marks are written, and what it contradicts is a break (see test_register.py)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from position_pipeline.accounting.model import Basis
from position_pipeline_tests.scenarios import (
    AAPL,
    ACCOUNT,
    CALL,
    ES,
    EURUSD,
    EVERYTHING,
    KO,
    OTHER_ACCOUNT,
    SAP,
    TSLA,
    buy,
    holding,
    moment,
    rejected,
    sell,
    snapshot,
)
from position_pipeline_tests.store.tables import TABLES, listening, rows, versions

D = Decimal


@pytest.fixture
def met(book):
    """A book that has met its broker: 10 AAPL, bought here."""
    book.record(buy(AAPL, 10, 100, fee=1))
    see(book, holding(AAPL, 10, "100.1", price=105))
    return book


def see(book, *holdings, **more):
    """What a sync does with one answer."""
    answer = snapshot(*holdings, **more)
    kept = book.store.take_in(answer, EVERYTHING, "ibkr")
    return book.store.reconcile(answer, EVERYTHING, kept=kept)


def open_breaks(book) -> list[tuple]:
    names = ("symbol", "class", "status", "book_quantity", "broker_quantity")
    return [tuple(row[name] for name in names) for row in book.store.read.breaks()]


# First contact


def test_at_first_contact_holdings_become_opening_balances(book):
    found = see(book, holding(AAPL, 120, "187.4421"), holding(TSLA, -30, "251.8467"), holding(CALL, 5, "39.2105"), holding(KO, 7))
    shown = {row["symbol"]: (row["quantity"], row["cost"], row["basis_quality"]) for row in book.store.read.positions()}
    assert shown == {
        "AAPL": (120, D("22493.0520"), "broker"),  # 120 x 187.4421
        "TSLA": (-30, D("-7555.4010"), "broker"),  # -30 x 251.8467
        CALL.symbol: (5, D("19605.25"), "broker"),  # 5 x 39.2105 x 100
        "KO": (7, None, "unknown"),
    }
    assert len(found.changes) == 4
    assert open_breaks(book) == []
    assert not book.identities()


def test_at_first_contact_todays_fills_are_what_they_are_and_the_rest_was_there_before(book):
    book.record(buy(AAPL, 10, 230, at=20, fee=1), sell(KO, 150, 70, at=30, name="sold"), buy(TSLA, 50, 245, at=40))
    see(book, holding(AAPL, 130, "190.5"), holding(TSLA, 20, "245.02"))
    assert book.quantities() == {"AAPL": 130, "KO": 0, "TSLA": 20}
    # The broker's 130 x 190.5 = 24765 have 10 x 230 + 1 in them: the opening, which stands first, cost 24765 - 2301
    assert [lot["cost"] for lot in book.lots(AAPL)] == [22464, 2300]
    assert book.position(TSLA)["cost"] == 4900  # 20 x 245: the short of 30 that it covered had cost nobody knows what
    assert {row["symbol"]: row["gross_pnl"] for row in book.closes()} == {"KO": None, "TSLA": None}
    assert open_breaks(book) == []
    assert not book.identities()


def test_an_opening_balance_gives_way_when_the_fills_behind_it_arrive(book):
    see(book, holding(AAPL, 10, 100))
    book.record(buy(AAPL, 10, 90, at=-86400))
    assert book.position(AAPL)["cost"] == 900
    see(book, holding(AAPL, 10, 90), at=3700)
    assert open_breaks(book) == []
    assert not book.identities()


def test_where_a_statement_has_told_the_past_a_difference_is_a_break_even_at_first_contact(book):
    book.record(buy(AAPL, 10, 100, source="flex"))
    see(book, holding(AAPL, 12, 100), holding(KO, 5, 60))
    assert book.quantities() == {"AAPL": 10, "KO": 5}
    assert open_breaks(book) == [("AAPL", "timing", "open", 10, 12)]


def test_first_contact_is_once(met):
    see(met, holding(AAPL, 10, 100), holding(KO, 5, 60), at=3700)
    assert met.position(KO)["quantity"] == 0
    assert open_breaks(met) == [("KO", "timing", "open", 0, 5)]


def test_what_first_contact_could_not_read_has_its_own(book):
    errors = {"errors": {"TSLA": "its position could not be read", "AAPL": "garbled"}, "unread": frozenset({TSLA.id, CALL.id})}
    see(book, holding(KO, 5, 60), **errors)
    assert book.quantities() == {"KO": 5}
    see(book, holding(KO, 5, 60), holding(TSLA, -30, 250), holding(CALL, 2, 3), holding(SAP, 1, 200), at=3700)
    assert book.quantities() == {"KO": 5, "TSLA": -30, CALL.symbol: 2, "SAP": 0}
    assert open_breaks(book) == [("SAP", "timing", "open", 0, 1)]
    see(book, holding(KO, 5, 60), holding(TSLA, -20, 250), holding(CALL, 2, 3), at=3800)
    assert open_breaks(book) == [("TSLA", "timing", "open", -30, -20)]


# Later differences


def test_a_difference_is_a_break_and_the_position_stays(met):
    before = met.position(AAPL)
    found = see(met, holding(AAPL, 12, 101), at=3700)
    after = met.position(AAPL)
    assert (after["quantity"], after["broker_quantity"], after["cost"]) == (10, 12, before["cost"])
    (row,) = met.store.read.breaks()
    assert (found.opened, found.open_breaks, found.changes) == ((row["id"],), 1, {})
    assert met.count("adjustments") == 0
    assert met.store.read.disagreements()[0]["evidence"].startswith("The book holds 10, the broker 12 (+2)")


def test_a_break_that_is_seen_again_is_the_same_row(met):
    see(met, holding(AAPL, 12, 101), at=3700)
    (first,) = met.store.read.breaks()
    found = see(met, holding(AAPL, 13, 101), at=3800)
    (again,) = met.store.read.breaks()
    assert (again["id"], again["first_seen_at"], again["last_seen_at"]) == (first["id"], moment(3700), moment(3800))
    assert (again["broker_quantity"], found.opened, found.open_breaks) == (13, (), 1)


def test_a_break_is_resolved_when_both_sides_agree_again(met):
    (id_,) = see(met, holding(AAPL, 12, 101), at=3700).opened
    found = see(met, holding(AAPL, 10, "100.1"), at=3800)
    assert (found.resolved, found.open_breaks, open_breaks(met)) == ((id_,), 0, [])
    (row,) = met.store.read.breaks(all_=True)
    assert (row["status"], row["resolved_at"]) == ("resolved", moment(3800))


def test_a_difference_that_comes_back_is_a_new_break(met):
    for at, quantity in ((3700, 12), (3800, 10), (3900, 12)):
        see(met, holding(AAPL, quantity, 100), at=at)
    assert [(row["status"], row["first_seen_at"]) for row in met.store.read.breaks(all_=True)] == [
        ("open", moment(3900)),
        ("resolved", moment(3700)),
    ]


def test_a_holding_that_the_book_knows_nothing_of_is_shown_beside_our_zero(met):
    found = see(met, holding(AAPL, 10, "100.1"), holding(SAP, 8, "172.4", price=180), at=3700)
    shown = {row["symbol"]: (row["quantity"], row["broker_quantity"], row["broker_average_price"]) for row in met.store.read.positions()}
    assert shown == {"AAPL": (10, 10, D("100.1")), "SAP": (0, 8, D("172.4"))}
    assert found.held == {AAPL.id, SAP.id}
    assert not met.identities()
    met.record(buy(SAP, 8, 172, at=3650))
    see(met, holding(AAPL, 10, "100.1"), holding(SAP, 8, "172.4", price=180), at=3800)
    assert open_breaks(met) == []
    assert met.position(SAP)["cycle"] == 1


# What is not read


def test_what_could_not_be_read_keeps_all_that_it_had(met):
    before = met.position(AAPL)
    see(met, holding(AAPL, 12, 101), at=3700)
    open_before = met.store.read.breaks()
    found = see(met, errors={"AAPL": "its position could not be read: 5 fields"}, unread=frozenset({AAPL.id}), at=3800)
    after = met.position(AAPL)
    assert after["sync_error"] == "its position could not be read: 5 fields"
    assert (after["quantity"], after["broker_quantity"]) == (before["quantity"], 12)
    assert after["last_synced_at"] == moment(3700)  # its own age, not that of its account
    assert [row for row in met.store.read.breaks() if row["subject"] == "quantity"] == open_before
    assert [row["class"] for row in met.store.read.breaks() if row["subject"] == "snapshot"] == ["snapshot_incomplete"]
    assert (found.open_breaks, found.held) == (2, frozenset())
    see(met, holding(AAPL, 10, "100.1"), at=3900)
    healed = met.position(AAPL)
    assert (healed["sync_error"], healed["last_synced_at"]) == (None, moment(3900))
    assert open_breaks(met) == []


def test_a_row_shows_when_it_was_last_read_even_if_nothing_changed_then(met):
    see(met, holding(AAPL, 10, "100.1", price=105), at=3700)
    for at in (3800, 3900):
        see(met, errors={"AAPL": "garbled"}, unread=frozenset({AAPL.id}), at=at)
    assert met.position(AAPL)["last_synced_at"] == moment(3700)


def test_an_error_is_put_to_the_instrument_that_could_not_be_read_and_not_to_its_namesake(met):
    met.record(buy(CALL, 1, 5))
    see(met, holding(AAPL, 10, "100.1"), errors={"AAPL": "garbled"}, unread=frozenset({CALL.id}), at=3700)
    assert (met.position(AAPL)["sync_error"], met.position(CALL)["sync_error"]) == (None, "garbled")


def test_an_unread_row_that_stays_unread_is_not_written_again(met):
    for at in (3700, 3800):
        before = versions(met.store, "positions")
        see(met, errors={"AAPL": "garbled"}, unread=frozenset({AAPL.id}), at=at)
    assert versions(met.store, "positions") == before


def test_a_rejected_answer_is_kept_and_touches_nothing(met):
    before = versions(met.store, *TABLES)
    met.store.save_snapshot(rejected(at=3700), (), "ibkr")
    assert versions(met.store, *TABLES) == before
    (row,) = [row for row in met.store.read.latest_snapshots() if row["account"] == ACCOUNT]
    assert (row["status"], row["reason"], row["taken_at"]) == ("rejected", f"{ACCOUNT}: the list of positions has no end", moment(3700))


def test_a_partial_answer_says_what_it_lacks(met):
    met.store.save_snapshot(snapshot(errors={"AAPL": "garbled"}, unread=frozenset({AAPL.id})), EVERYTHING, "ibkr")
    assert met.store.read.latest_snapshots()[0]["errors"] == {"AAPL": "garbled"}


def test_conversions_of_currency_are_no_positions(met):
    found = see(met, holding(AAPL, 10, "100.1"), holding(EURUSD, 5000, "1.08"), at=3700)
    assert met.quantities() == {"AAPL": 10}
    assert (found.held, found.open_breaks) == ({AAPL.id}, 0)


# Marks


def test_the_brokers_side_is_shown_beside_ours(met):
    position = met.position(AAPL)
    # 10 x 105 = 1050; less our cost of 1000
    assert (position["broker_quantity"], position["broker_average_price"]) == (10, D("100.1"))
    assert (position["market_price"], position["market_value"], position["unrealized_pnl"]) == (105, 1050, 50)
    assert (position["average_price"], position["priced_at"], position["last_synced_at"]) == (100, moment(3600), moment(3600))


def test_a_multiplier_counts_in_the_market_value(book):
    see(book, holding(ES, -2, "6000", price="6010"))
    position = book.position(ES)
    assert (position["market_value"], position["unrealized_pnl"]) == (-601000, -1000)  # -2 x 6010 x 50; less -600000


def test_a_price_that_moved_changes_the_priced_columns_and_no_other(met):
    before = rows(met.store, "SELECT * FROM positions")[0]
    found = see(met, holding(AAPL, 10, "100.1", price=106), at=3700)
    after = rows(met.store, "SELECT * FROM positions")[0]
    assert {name for name in after if after[name] != before[name]} == {
        "market_price",
        "market_value",
        "unrealized_pnl",
        "priced_at",
        "last_synced_at",
    }
    assert found.marked == frozenset()  # which is no change of the position


def test_an_answer_without_a_price_leaves_the_last_one_with_its_age(met):
    see(met, holding(AAPL, 10, "100.2"), at=3700)
    position = met.position(AAPL)
    assert (position["market_price"], position["priced_at"]) == (105, moment(3600))


def test_nothing_new_writes_no_position_and_no_holding(met):
    before = versions(met.store, "positions", "lots", "holdings", "breaks", "instruments")
    found = see(met, holding(AAPL, 10, "100.10", price="105.0"), at=3700)
    assert versions(met.store, "positions", "lots", "holdings", "breaks", "instruments") == before
    assert (found.changes, found.marked, found.opened, found.resolved) == ({}, frozenset(), (), ())
    assert met.store.read.accounts()[0]["last_synced_at"] == moment(3700)


def test_holdings_are_stored_when_a_quantity_or_an_average_changes(met):
    for at, quantity, average in ((3700, 10, "100.1"), (3800, 10, "100.2"), (3900, 11, "100.2"), (4000, 11, "100.2")):
        see(met, holding(AAPL, quantity, average), at=at)
    ids = [row["id"] for row in rows(met.store, "SELECT id FROM snapshots ORDER BY id")]
    found = rows(met.store, "SELECT snapshot_id, until_id, quantity, average_price FROM holdings ORDER BY snapshot_id")
    assert [tuple(row.values()) for row in found] == [
        (ids[0], ids[2], 10, D("100.1")),  # said by the first two answers
        (ids[2], ids[3], 10, D("100.2")),
        (ids[3], None, 11, D("100.2")),  # by the last two
    ]


def test_a_difference_in_the_last_of_many_digits_is_a_difference(book):
    digits = "0.1234567890123456789012345678901234"
    see(book, holding(AAPL, digits))
    see(book, holding(AAPL, digits[:-1] + "5"), at=3700)
    assert book.count("holdings") == 2
    assert open_breaks(book)[0][3:] == (D(digits), D(digits[:-1] + "5"))


def test_listeners_are_woken_when_an_answer_brings_news_and_only_then(met, database):
    with listening(database) as heard:
        see(met, holding(AAPL, 10, "100.1", price=107), at=3700)
        see(met, holding(AAPL, 12, "100.1", price=107), at=3800)
        assert heard() == [{"account": ACCOUNT, "fills": 0, "positions": 1}]


def test_one_account_is_nothing_to_another(met):
    met.record(buy(AAPL, 3, 90)._replace(account=OTHER_ACCOUNT), account=OTHER_ACCOUNT)
    before = rows(met.store, f"SELECT xmin, * FROM positions WHERE account = '{ACCOUNT}'")
    see(met, holding(AAPL, 4, 90), account=OTHER_ACCOUNT)
    assert rows(met.store, f"SELECT xmin, * FROM positions WHERE account = '{ACCOUNT}'") == before
    assert met.position(AAPL, OTHER_ACCOUNT)["basis_quality"] == Basis.BROKER.value


def test_an_answer_of_an_account_that_nobody_took_in_is_not_reconciled(store):
    with pytest.raises(AssertionError, match="added before"):
        store.reconcile(snapshot(holding(AAPL, 10)), EVERYTHING)
