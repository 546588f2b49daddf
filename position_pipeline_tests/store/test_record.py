"""Every fill is stored once and booked where it belongs, whatever is repeated, reordered, corrected, delayed or cut off."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from textwrap import dedent

import pytest

from position_pipeline.accounting.model import AdjustmentKind, Basis, Fill
from position_pipeline.store import Store
from position_pipeline_tests.scenarios import (
    AAPL,
    ACCOUNT,
    BTC,
    CALL,
    ES,
    EURUSD,
    EVERYTHING,
    KO,
    OTHER_ACCOUNT,
    SAP,
    adjustment,
    buy,
    moment,
    sell,
)
from position_pipeline_tests.store.conftest import identities
from position_pipeline_tests.store.histories import batches, history
from position_pipeline_tests.store.tables import TABLES, believed, listening, query, rows, versions

D = Decimal
BALANCE, LOT, EXPIRY = AdjustmentKind.OPENING_BALANCE, AdjustmentKind.OPENING_LOT, AdjustmentKind.EXPIRY
ASSIGNMENT = AdjustmentKind.ASSIGNMENT


def figures(row: dict, *names: str) -> tuple:
    return tuple(row[name] for name in names)


# Fills become positions, lots, closes and events


def test_first_bought_is_first_sold(book):
    book.record(
        buy(AAPL, 10, 100, at=0, fee=1, name="b1"),
        buy(AAPL, 10, 110, at=60, fee=1, name="b2"),
        sell(AAPL, 15, 120, at=120, fee="1.5", name="s"),
    )
    position = book.position(AAPL)
    # left: 5 of the second lot: 5 x 110 = 550, half of its fee
    assert figures(position, "quantity", "cost", "open_commission", "average_price") == (5, 550, D("0.5"), 110)
    # gross: 15 x 120 - 10 x 100 - 5 x 110 = 250; net: less 1 + 0.5 of the openings and 1.5 of the sale
    assert figures(position, "realized_pnl_gross", "realized_pnl") == (250, 247)
    assert [figures(c, "opening_id", "quantity", "gross_pnl", "net_pnl", "partial", "method") for c in book.closes()] == [
        ("b1", 10, 200, 198, True, "fifo"),  # 10 x 20; the sale's fee 1.5 x 10/15 = 1 and the purchase's 1
        ("b2", 5, 50, 49, True, "fifo"),  # 5 x 10; 0.5 of either
    ]
    assert book.events(AAPL) == [("opened", 0, 10, "b1"), ("increased", 10, 20, "b2"), ("reduced", 20, 5, "s")]
    assert not book.identities()


def test_at_average_cost_the_lots_are_one(book):
    book.record(
        *(
            fill._replace(account=OTHER_ACCOUNT)
            for fill in (buy(AAPL, 10, 100, fee=1), buy(AAPL, 20, 110, at=60, fee=1), sell(AAPL, 15, 120, at=120))
        ),
        account=OTHER_ACCOUNT,
    )
    position = book.position(AAPL, OTHER_ACCOUNT)
    # paid 10 x 100 + 20 x 110 = 3200 for 30; half goes: 15 x 120 - 1600 = 200
    assert figures(position, "quantity", "cost", "realized_pnl_gross", "open_commission") == (15, 1600, 200, 1)
    assert len(book.lots(AAPL, OTHER_ACCOUNT)) == 1
    assert not book.identities()


def test_a_sale_beyond_the_position_closes_it_and_opens_a_short_at_its_own_price(book):
    book.record(buy(ES, 2, 6000, fee="4.5", name="b"), sell(ES, 3, 6010, at=60, fee="6.75", name="s"))
    position = book.position(ES)
    # 2 x (6010 - 6000) x 50 = 1000; the short carries 1 x 6010 x 50, and a third of the sale's fee
    assert figures(position, "quantity", "cost", "open_commission", "realized_pnl_gross") == (-1, -300500, D("2.25"), 1000)
    assert book.events(ES) == [("opened", 0, 2, "b"), ("closed", 2, 0, "s"), ("flipped", 0, -1, "s")]
    assert figures(book.closes()[0], "quantity", "closing_commission", "partial") == (2, D("4.5"), False)
    assert not book.identities()


def test_a_fee_in_another_currency_stays_in_its_own(book):
    book.record(buy(SAP, 10, 200, fee=2, fee_currency="CHF"), sell(SAP, 5, 210, at=60, fee=1, fee_currency="USD", name="s"))
    position = book.position(SAP)
    assert figures(position, "cost", "open_commission", "realized_pnl") == (1000, 0, 50)  # 5 x (210 - 200) = 50 EUR
    assert book.closes()[0]["fees"] == {"CHF": "1", "USD": "1"}  # half of 2 CHF, and the 1 USD of the sale
    assert book.lots(SAP)[0]["fees"] == {"CHF": "1"}
    assert not book.identities()


def test_every_digit_of_a_quantity_is_kept(book):
    book.record(buy(BTC, "0.123456789012345678901234", "64210.25", fee="0.000000000000000001"))
    assert book.position(BTC)["quantity"] == D("0.123456789012345678901234")
    assert book.position(BTC)["open_commission"] == D("0.000000000000000001")


def test_conversions_of_currency_are_kept_and_never_a_position(book):
    recorded = book.record(buy(EURUSD, 5000, "1.085"), buy(AAPL, 1, 100))
    assert recorded.fills == 2
    assert book.quantities() == {"AAPL": 1}
    assert {row["symbol"] for row in book.store.read.executions()} == {"EUR.USD", "AAPL"}
    book.record(buy(EURUSD, 5000, "1.085")._replace(commission=D(2), commission_currency="USD", source="flex"))
    assert book.quantities() == {"AAPL": 1}


def test_what_happened_is_told(book):
    recorded = book.record(buy(AAPL, 10, 100), sell(KO, 5, 60))
    assert (recorded.fills, recorded.completed, recorded.refused) == (2, 0, ())
    assert {change.symbol: figures_of(change) for change in recorded.changes.values()} == {"AAPL": (0, 10, True), "KO": (0, -5, True)}
    recorded = book.record(sell(AAPL, 10, 100, at=60), sell(KO, 5, 60))
    assert (recorded.fills, {c.symbol: figures_of(c) for c in recorded.changes.values()}) == (1, {"AAPL": (10, 0, False)})


def figures_of(change) -> tuple:
    return change.before, change.after, change.is_new


def test_listeners_are_woken_when_there_is_news_and_only_then(book, database):
    with listening(database) as heard:
        book.record(buy(AAPL, 10, 100))
        book.record(buy(AAPL, 10, 100))
        assert heard() == [{"account": ACCOUNT, "fills": 1, "positions": 1}]


def test_fills_of_an_account_that_nobody_took_in_are_refused(store):
    with pytest.raises(Exception, match="U1000001"):
        store.record(ACCOUNT, [buy(AAPL, 10, 100)], (), EVERYTHING)
    assert rows(store, "SELECT * FROM executions") == []


# Again, later, in another order


def test_recording_again_writes_no_row(book):
    entries = (
        buy(AAPL, 10, 100, fee=None, name="b"),
        sell(AAPL, 4, 110, at=60, name="s"),
        buy(AAPL, 10, 100, fee=1, name="b"),
        adjustment(EXPIRY, CALL, 1, at=99, price=0),
        sell(CALL, 1, 3),
    )
    book.record(*entries)
    before = versions(book.store, *TABLES)
    for entry in (entries, entries[::-1], entries[2:], entries[:1]):
        recorded = book.record(*entry)
        assert (recorded.fills, recorded.completed, recorded.adjustments, recorded.changes, recorded.refused) == (0, 0, 0, {}, ())
    assert versions(book.store, *TABLES) == before


def deliver(store: Store, account: str, told) -> None:
    fills = [entry for entry in told if isinstance(entry, Fill)]
    store.record(account, fills, [entry for entry in told if not isinstance(entry, Fill)], EVERYTHING)


@pytest.mark.parametrize("seeds", [range(start, start + 10) for start in range(0, 40, 10)])
def test_any_order_and_any_split_ends_in_the_same_book(store, seeds):
    """Forty invented histories with corrections, busts, late commissions, flips, openings and assignments, each told in two ways."""
    for seed in seeds:
        in_order, shuffled = history(seed, f"A{seed}"), history(seed, f"B{seed}")
        for each in (in_order, shuffled):
            store.add_account(each.account, "ibkr", cost_method=each.method)
        deliver(store, in_order.account, in_order.told)
        for batch in batches(seed, shuffled.told):
            deliver(store, shuffled.account, batch)
        assert believed(store, shuffled.account) == believed(store, in_order.account), f"seed {seed}"
        before = versions(store, *TABLES)
        deliver(store, shuffled.account, shuffled.told)
        assert versions(store, *TABLES) == before, f"seed {seed}: told again"
    assert identities(store) == {}
    assert not rows(store, UNBALANCED)


# Quantity of the book by three ways: what was traded and opened, the position, its lots.
UNBALANCED = """
    SELECT account, instrument, p.quantity, (SELECT sum(quantity) FROM lots l WHERE (l.account, l.instrument) = (p.account, p.instrument)) AS lots,
           (SELECT sum(quantity_after - quantity_before) FROM position_events e
            WHERE (e.account, e.instrument) = (p.account, p.instrument) AND superseded_at IS NULL) AS events
    FROM positions p
    WHERE p.quantity <> coalesce((SELECT sum(quantity) FROM lots l WHERE (l.account, l.instrument) = (p.account, p.instrument)), 0)
       OR p.quantity <> coalesce((SELECT sum(quantity_after - quantity_before) FROM position_events e
                                  WHERE (e.account, e.instrument) = (p.account, p.instrument) AND superseded_at IS NULL), 0)
"""


@pytest.mark.parametrize("seed", range(1000, 1010))
def test_the_book_holds_what_the_fills_add_up_to(store, seed):
    """Against the simplest of all books: a sum. (Openings and expiries are left out; an assignment counts its contracts.)"""
    told = history(seed, ACCOUNT)
    store.add_account(ACCOUNT, "ibkr", cost_method=told.method)
    deliver(store, ACCOUNT, [entry for entry in told.told if isinstance(entry, Fill)])
    wanted: dict[str, Decimal] = {}
    for fill in told.truth:
        wanted[fill.instrument] = wanted.get(fill.instrument, D(0)) + fill.signed_quantity
    held = {row["instrument"]: row["quantity"] for row in store.read.positions(all_=True)}
    assert {name: quantity for name, quantity in held.items() if quantity} == {name: q for name, q in wanted.items() if q}


def test_a_late_fill_lands_in_its_place(book):
    book.record(buy(AAPL, 10, 110, at=60, name="second"), sell(AAPL, 10, 120, at=120, name="s"))
    assert book.position(AAPL)["realized_pnl_gross"] == 100  # 10 x (120 - 110)
    book.record(buy(AAPL, 10, 100, at=0, name="first"))
    # now the first one is sold, and the second one left: 10 x (120 - 100) = 200, 10 x 110 = 1100
    assert figures(book.position(AAPL), "realized_pnl_gross", "cost", "quantity") == (200, 1100, 10)
    assert [lot["opening_id"] for lot in book.lots(AAPL)] == ["second"]


def test_what_was_believed_before_stays_on_record(book):
    book.record(buy(AAPL, 10, 110, at=60, name="second"), sell(AAPL, 10, 120, at=120, name="s"))
    book.record(buy(AAPL, 10, 100, at=0, name="first"))
    found = rows(
        book.store,
        "SELECT opening_id, gross_pnl, superseded_at IS NULL AS believed, superseded_at >= believed_at AS later FROM closes ORDER BY id",
    )
    assert [tuple(row.values()) for row in found] == [("second", 100, False, True), ("first", 200, True, None)]
    assert [row["opening_id"] for row in book.closes()] == ["first"]


def test_a_late_fill_of_one_instrument_rewrites_nothing_of_another(book):
    book.record(buy(AAPL, 10, 110, at=60), buy(KO, 5, 60, at=60), sell(KO, 2, 61, at=70))
    before = {
        table: rows(book.store, f"SELECT ctid, xmin, * FROM {table} WHERE instrument = '{KO.id}'")
        for table in ("positions", "lots", "closes")
    }
    book.record(buy(AAPL, 1, 100, at=0))
    assert before == {table: rows(book.store, f"SELECT ctid, xmin, * FROM {table} WHERE instrument = '{KO.id}'") for table in before}


def test_a_replay_keeps_the_closes_that_are_still_true(book):
    book.record(buy(AAPL, 10, 100, name="b1"), sell(AAPL, 10, 110, at=60, name="s1"))
    kept = rows(book.store, "SELECT ctid, xmin, id FROM closes")
    book.record(buy(AAPL, 10, 120, at=300, name="b3"))
    book.record(buy(AAPL, 10, 115, at=200, name="b2"))  # late, but after the round trip
    assert rows(book.store, "SELECT ctid, xmin, id FROM closes") == kept


def test_a_replay_that_ends_as_before_writes_no_row(book):
    book.record(buy(AAPL, 10, 100, name="b"), sell(AAPL, 4, 110, at=60, name="s"))
    before = versions(book.store, "positions", "lots", "closes", "position_events")
    recorded = book.record(buy(AAPL, 10, 100, name="b", source="flex", sequence=5))  # it may stand elsewhere now, and does not
    assert (recorded.completed, recorded.changes) == (1, {})
    assert versions(book.store, "positions", "lots", "closes", "position_events") == before


# Corrections and busts


def test_a_correction_takes_the_place_of_what_it_corrects(book):
    book.record(buy(AAPL, 10, 100, name="b"), sell(AAPL, 10, 110, at=60, name="s"))
    book.record(buy(AAPL, 10, 101, name="b", revision=2))
    assert figures(book.position(AAPL), "quantity", "realized_pnl_gross") == (0, 90)  # 10 x (110 - 101)
    found = rows(book.store, "SELECT opening_revision, gross_pnl, superseded_at IS NOT NULL AS old FROM closes ORDER BY id")
    assert [tuple(row.values()) for row in found] == [(1, 100, True), (2, 90, False)]
    assert [(row["execution_id"], row["revision"], row["price"]) for row in book.store.read.executions()] == [("b", 2, 101), ("s", 1, 110)]


def test_a_correction_that_changes_no_figure_is_still_what_the_lot_rests_on(book):
    book.record(buy(AAPL, 10, 100, name="b"))
    book.record(buy(AAPL, 10, 100, name="b", revision=2))
    assert [lot["opening_revision"] for lot in book.lots(AAPL)] == [2]


def test_a_correction_may_name_another_instrument(book):
    book.record(buy(AAPL, 10, 100, name="b"), buy(KO, 1, 60))
    book.record(buy(KO, 10, 100, name="b", revision=2))
    assert book.quantities() == {"AAPL": 0, "KO": 11}
    assert not book.identities()


@pytest.mark.parametrize("late", [-30, 0, 30])
def test_what_a_correction_has_replaced_may_arrive_after_it(book, late):
    book.record(buy(AAPL, 12, 100, name="b", revision=3))
    book.record(buy(AAPL, 10, 100, name="b", revision=2)._replace(time=moment(late)))
    assert book.quantities() == {"AAPL": 12}


@pytest.mark.parametrize("revisions", [(1, 2), (2, 1), (0, 1), (1, 0)])
def test_a_bust_takes_the_fill_out_whichever_is_heard_first(book, revisions):
    last = max(revisions)
    for revision in revisions:
        book.record(buy(AAPL, 0 if revision == last else 10, 100, name="b", revision=revision))
    assert book.quantities() == {"AAPL": 0}
    assert book.events(AAPL) == []
    assert book.store.read.executions() == []
    assert book.count("executions") == 2


def test_a_bust_of_a_sale_brings_the_lot_back(book):
    book.record(buy(AAPL, 10, 100, name="b"), sell(AAPL, 10, 110, at=60, name="s"))
    book.record(sell(AAPL, 0, 110, at=60, name="s", revision=2))
    assert figures(book.position(AAPL), "quantity", "cost", "realized_pnl_gross", "status") == (10, 1000, 0, "open")
    assert book.closes() == []
    assert book.count("closes") == 1


# What comes later, and from elsewhere


def test_a_commission_that_has_not_come_is_not_zero(book):
    book.record(buy(AAPL, 10, 100, fee=1, name="b"), sell(AAPL, 10, 110, at=60, fee=None, name="s"))
    (close,) = book.closes()
    assert figures(close, "gross_pnl", "opening_commission", "closing_commission", "net_pnl") == (100, 1, None, None)
    assert not book.identities()
    recorded = book.record(sell(AAPL, 10, 110, at=60, fee="0.9", name="s"))
    (close,) = book.closes()
    assert figures(close, "gross_pnl", "closing_commission", "net_pnl") == (100, D("0.9"), D("98.1"))  # 100 - 1 - 0.9
    assert (recorded.fills, recorded.completed, list(recorded.changes)) == (0, 1, [AAPL.id])
    assert not book.identities()


def test_the_late_commission_of_a_purchase_reaches_what_was_sold_since(book):
    book.record(buy(AAPL, 10, 100, fee=None, name="b"), sell(AAPL, 10, 110, at=60, name="s"))
    recorded = book.record(buy(AAPL, 10, 100, fee=2, name="b"))
    assert book.closes()[0]["net_pnl"] == 98  # 100 - 2
    assert book.position(AAPL)["realized_pnl"] == 98
    assert list(recorded.changes) == [AAPL.id]


def test_a_commission_whose_currency_is_not_told_is_in_that_of_the_trade(book):
    book.record(buy(SAP, 1, 200, fee=2)._replace(commission_currency=None))
    book.record(buy(SAP, 1, 200, at=60, fee=None, name="late"))
    book.record(buy(SAP, 1, 200, at=60, fee=3, name="late")._replace(commission_currency=None))
    assert book.position(SAP)["open_commission"] == 5


FROM_THE_STATEMENT = {"source": "flex", "sequence": 77, "broker_pnl": D("9.5")}


@pytest.mark.parametrize("statement_first", [False, True])
def test_a_fill_from_the_api_and_from_the_statement_is_one(book, statement_first):
    api = sell(AAPL, 10, 110, at=60, fee="0.9", name="s", order_id="123", broker_pnl=D("9.1"))
    statement = sell(AAPL, 10, 110, at=60, fee="0.95", name="s", **FROM_THE_STATEMENT)
    for each in (statement, api) if statement_first else (api, statement):
        book.record(each)
    (row,) = rows(book.store, "SELECT * FROM executions")
    # the statement's commission has taxes in it and stands; it has no order id, so the API's stays
    assert figures(row, "commission", "sequence", "broker_pnl", "source", "order_id") == (D("0.95"), 77, D("9.5"), "flex", "123")
    assert book.quantities() == {"AAPL": -10}


def test_the_statement_orders_fills_of_one_moment(book):
    entries = [buy(AAPL, 10, 100, name="y"), buy(AAPL, 10, 120, name="x"), sell(AAPL, 10, 110, at=60, name="s")]
    book.record(*entries)
    assert book.closes()[0]["gross_pnl"] == -100  # of one moment: by id, so x comes first: 10 x (110 - 120)
    for sequence, entry in enumerate(entries):
        book.record(entry._replace(source="flex", sequence=sequence))
    assert book.closes()[0]["gross_pnl"] == 100  # y was first: 10 x (110 - 100)


@pytest.mark.parametrize("sources", [("ibkr-api", "flex"), ("flex", "ibkr-api")])
def test_the_time_of_a_fill_is_the_apis(book, sources):
    for source in sources:
        book.record(buy(AAPL, 10, 100, name="b", source=source, at=5 if source == "flex" else 0))
    assert book.store.read.executions()[0]["time"] == moment(0)
    assert book.position(AAPL)["opened_at"] == moment(0)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (sell(AAPL, 10, 100, name="b"), "side BUY, and came again with SELL"),
        (buy(AAPL, 11, 100, name="b"), "quantity 10, and came again with 11"),
        (buy(AAPL, 10, 101, name="b"), "price 100, and came again with 101"),
        (buy(KO, 10, 100, name="b"), "instrument ibkr:265598, and came again with ibkr:8894"),
        (buy(AAPL, 10, 100, name="b")._replace(multiplier=D(100)), "multiplier 1, and came again with 100"),
    ],
)
def test_two_different_fills_under_one_id_are_refused_and_the_known_one_stays(book, other, said):
    book.record(buy(AAPL, 10, 100, name="b"))
    before = believed(book.store)
    recorded = book.record(other, buy(SAP, 1, 200))
    assert [reason for _, reason in recorded.refused] == [f"execution b revision 1 is known with {said}: two different ones under one id"]
    assert book.quantities() == {"AAPL": 10, "SAP": 1}  # the rest of the delivery is taken
    assert set(before["executions"]) < set(believed(book.store)["executions"])


def test_two_different_adjustments_under_one_id_are_refused_and_the_known_one_stays(book):
    book.record(adjustment(LOT, AAPL, 10, price=100, name="lot"))
    recorded = book.record(adjustment(LOT, AAPL, 12, price=100, name="lot"))
    assert [reason for _, reason in recorded.refused] == [
        "opening_lot lot is known with quantity 10, and came again with 12: two different ones under one id"
    ]
    assert book.quantities() == {"AAPL": 10}


def test_the_same_ids_in_two_accounts_are_two_things(book):
    for account in (ACCOUNT, OTHER_ACCOUNT):
        lot = adjustment(LOT, KO, 10, price=60, at=-1, name="lot", account=account)
        book.record(lot, buy(AAPL, 10, 100, name="b", account=account), account=account)
    assert book.quantities(ACCOUNT) == book.quantities(OTHER_ACCOUNT) == {"AAPL": 10, "KO": 10}


# What was held before


def test_an_opening_balance_gives_way_when_earlier_fills_arrive(book):
    book.record(adjustment(BALANCE, AAPL, 100, at=3600, price=95, basis=Basis.BROKER, name="balance"))
    assert figures(book.position(AAPL), "quantity", "cost", "basis_quality") == (100, 9500, "broker")
    book.record(buy(AAPL, 60, 90, at=0))
    # 60 of the 100 are explained: 60 x 90 + 40 x 95 = 9200
    assert figures(book.position(AAPL), "quantity", "cost", "basis_quality") == (100, 9200, "broker")
    book.record(buy(AAPL, 40, 91, at=60))
    assert figures(book.position(AAPL), "quantity", "cost", "basis_quality") == (100, 9040, "fills")  # 5400 + 40 x 91
    assert not book.identities()


def test_earlier_fills_that_exceed_an_opening_balance_were_partly_sold_for_what_nobody_knows(book):
    book.record(adjustment(BALANCE, AAPL, 100, at=3600, price=95, basis=Basis.BROKER))
    book.record(buy(AAPL, 130, 90, at=0))
    position = book.position(AAPL)
    assert figures(position, "quantity", "cost", "unknown_closes", "realized_pnl") == (100, 9000, 1, 0)  # 30 went, in no P&L
    assert figures(book.closes()[0], "quantity", "entry_price", "exit_price", "gross_pnl") == (30, 90, None, None)
    assert not book.identities()


def test_an_opening_lot_gives_way_to_the_fill_that_it_stands_for(book):
    lot = adjustment(LOT, AAPL, 10, at=-5, cost="1000.5", sequence=77, name="lot")
    book.record(lot)
    assert figures(book.position(AAPL), "cost", "basis_quality") == (D("1000.5"), "statement")
    book.record(buy(AAPL, 10, 100, fee="0.5", name="b", source="flex", sequence=77))
    assert figures(book.position(AAPL), "quantity", "cost", "open_commission", "basis_quality") == (10, 1000, D("0.5"), "fills")
    assert not book.identities()


def test_what_was_bought_for_an_unknown_price_is_in_no_profit(book):
    book.record(adjustment(BALANCE, AAPL, 10, at=-1, basis=Basis.UNKNOWN), sell(AAPL, 15, 110, fee=3, name="s"))
    position = book.position(AAPL)
    assert figures(position, "quantity", "realized_pnl", "unknown_closes", "cost") == (-5, 0, 1, -550)  # a short of 5 x 110
    assert figures(book.closes()[0], "gross_pnl", "net_pnl", "basis_quality") == (None, None, "unknown")
    assert not book.identities()


@pytest.mark.parametrize("method", ["fifo", "average", "lifo", "hifo"])
def test_an_unknown_lot_among_known_ones_leaves_the_cash_right(store, method):
    store.add_account(ACCOUNT, "ibkr", cost_method=method)
    fills = [buy(AAPL, 5, 100, fee=1), sell(AAPL, 2, 105, at=5, fee=1), sell(AAPL, 9, 110, at=60, fee=1), buy(AAPL, 7, 90, at=70, fee=1)]
    balance = adjustment(BALANCE, AAPL, 10, at=1, basis=Basis.UNKNOWN)
    for upto in range(1, len(fills) + 1):
        store.record(ACCOUNT, fills[:upto], [balance] if upto > 1 else [], EVERYTHING)
        assert identities(store) == {}


# Options that become shares


def legs(contracts=1):
    assigned = adjustment(ASSIGNMENT, CALL, contracts, at=600, price=0, commission=0, name="assigned")
    leg = {"premium_from": "assigned", "source": "flex", "fee": 1}
    return sell(CALL, contracts, 3, fee="0.65", name="written"), assigned, sell(AAPL, 100 * contracts, 250, at=600, name="leg", **leg)


def test_the_premium_of_an_assigned_option_moves_to_its_shares(book):
    book.record(buy(AAPL, 100, 230, at=-60, name="b"), *legs())
    # written for 3 x 100 - 0.65 = 299.35; shares: 100 x (250 - 230) + 299.35 = 2299.35, less the fee of 1
    assert figures(book.position(AAPL), "quantity", "realized_pnl_gross", "realized_pnl") == (0, D("2299.35"), D("2298.35"))
    assert figures(book.position(CALL), "quantity", "realized_pnl") == (0, 0)
    assert [figures(c, "symbol", "gross_pnl", "premium") for c in book.closes()] == [
        ("AAPL", D("2299.35"), D("-299.35")),
        (CALL.symbol, 0, D("-299.35")),
    ]
    assert not book.identities()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_the_legs_of_an_assignment_may_come_one_by_one(book, order):
    several = legs()
    for index in order:
        book.record(several[index])
        assert not book.identities()
    position = book.position(AAPL)
    assert figures(position, "quantity", "cost", "basis_quality") == (-100, D("-25299.35"), "fills")  # -100 x 250 - 299.35


def test_shares_whose_option_is_not_known_have_no_known_cost(book):
    _, assigned, leg = legs()
    book.record(assigned, leg, buy(AAPL, 40, 240, at=700, name="back"))
    assert figures(book.position(AAPL), "quantity", "cost", "realized_pnl", "basis_quality") == (-60, None, 0, "unknown")
    assert not book.identities()


def test_a_correction_of_the_option_reaches_its_shares(book):
    book.record(*legs())
    book.record(sell(CALL, 1, 4, fee="0.65", name="written", revision=2))
    assert book.position(AAPL)["cost"] == D("-25399.35")  # -25000 - (400 - 0.65)


def test_an_option_that_expires_costs_what_it_had_cost_and_its_fee(book):
    book.record(buy(CALL, 2, 5, fee="1.3", name="o"), adjustment(EXPIRY, CALL, -2, at=600, price=0, commission="0.2"))
    assert figures(book.position(CALL), "quantity", "realized_pnl_gross", "realized_pnl") == (
        0,
        -1000,
        D("-1001.5"),
    )  # 2 x 5 x 100, 1.3 + 0.2
    assert book.events(CALL)[-1][0] == "expired"
    assert not book.identities()


def test_a_fee_of_an_assignment_goes_with_the_premium(book):
    written, assigned, leg = legs()
    book.record(written, replace(assigned, commission=D(5)), leg)
    assert book.position(AAPL)["cost"] == D("-25294.35")  # -25000 - (300 - 0.65 - 5)
    assert not book.identities()


# Instruments


def test_a_position_follows_its_instruments_new_symbol(book):
    book.record(buy(AAPL, 10, 100))
    book.store.record(ACCOUNT, (), (), [replace(AAPL, symbol="APPL")])
    assert book.position(AAPL)["symbol"] == "APPL"
    book.record(buy(AAPL, 10, 100, at=60))
    assert book.position(AAPL)["symbol"] == "AAPL"
    assert book.count("positions") == 1


def test_what_an_instrument_is_stays_as_first_seen(book):
    book.record(buy(CALL, 1, 5))
    book.store.record(ACCOUNT, (), (), [replace(CALL, multiplier=D(10), strike=None)])
    assert rows(book.store, "SELECT multiplier, strike FROM instruments WHERE instrument = %(i)s", {"i": CALL.id}) == [
        {"multiplier": 100, "strike": 250}
    ]


# Kills, and two at once


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """A connection that dies at its nth statement."""

    def __init__(self, connection, lives: int) -> None:
        self._connection, self.lives = connection, lives

    def __getattr__(self, name):
        found = getattr(self._connection, name)
        if name not in ("execute", "rows", "one", "many"):
            return found

        def counted(*given, **named):
            self.lives -= 1
            if self.lives < 0:
                raise Killed
            return found(*given, **named)

        return counted


def test_a_kill_between_any_two_statements_leaves_nothing(book):
    book.record(buy(AAPL, 10, 110, at=60, name="b"), sell(AAPL, 5, 120, at=120, name="s"))
    before, alive = believed(book.store), book.store._connection
    news = [buy(AAPL, 10, 100, at=0, name="late"), sell(KO, 3, 60, name="k"), buy(AAPL, 10, 111, at=60, name="b", revision=2)]
    lives = 0
    while True:
        book.store._connection = Mortal(alive, lives)
        try:
            book.record(*news)
            break
        except Killed:
            lives += 1
            assert believed_by(alive) == before
        finally:
            book.store._connection = alive
    assert lives > 10
    assert book.quantities() == {"AAPL": 15, "KO": -3}


def believed_by(connection):
    class Seen:
        _connection = connection

    return believed(Seen)


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_two_at_once_give_each_row_once(book, database, isolation):
    """Also where the server would give a transaction one view from its beginning: the second must see what the first committed."""
    query(database, f"ALTER DATABASE {database.rpartition('/')[2]} SET default_transaction_isolation = '{isolation}'")
    told = history(7, ACCOUNT).told

    def write(number: int) -> None:
        with Store(database) as store:
            for batch in batches(number, told):
                deliver(store, ACCOUNT, batch)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, number) for number in range(4)]:
            done.result()
    together = believed(book.store, ACCOUNT)
    deliver(book.store, ACCOUNT, told)
    assert believed(book.store, ACCOUNT) == together
    book.store.add_account("ALONE", "ibkr")
    alone = history(7, "ALONE")
    deliver(book.store, "ALONE", alone.told)
    assert believed(book.store, "ALONE") == together


def test_a_writer_that_is_killed_lets_the_next_one_in(book, database):
    """kill -9 in the middle of a transaction: nothing of it is there, and nobody waits for it."""
    program = dedent("""
        import sys, time
        from position_pipeline.store import Store, recording
        from position_pipeline_tests.scenarios import ACCOUNT, AAPL, EVERYTHING, buy
        store = Store(sys.argv[1])
        with store._connection.transaction():
            recording.record(store._connection, ACCOUNT, [buy(AAPL, 99, 100, name="lost")], [], EVERYTHING)
            print("written", flush=True)
            time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", program, database], stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout.readline() == "written\n"
        victim.kill()
    book.record(buy(AAPL, 10, 100))
    assert book.quantities() == {"AAPL": 10}


def test_an_instrument_that_an_execution_named_first_gets_its_exchange_from_the_first_row_that_knows_it(book):
    fills = [buy(AAPL, 1, 100)]
    book.store.record(ACCOUNT, fills, (), [replace(AAPL, exchange="")])
    book.store.record(ACCOUNT, (), (), [replace(AAPL, exchange="NASDAQ")])
    book.store.record(ACCOUNT, (), (), [replace(AAPL, exchange="ARCA")])
    assert rows(book.store, "SELECT symbol, exchange FROM instruments WHERE instrument = 'ibkr:265598'") == [
        {"symbol": "AAPL", "exchange": "NASDAQ"}
    ]
