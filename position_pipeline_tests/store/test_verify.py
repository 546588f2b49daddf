"""`verify` finds every value that somebody changed behind the book's back, and nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from position_pipeline.accounting.model import AdjustmentKind
from position_pipeline.verify import lines, verify
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, CALL, EVERYTHING, KO, SAP, adjustment, buy, holding, sell, snapshot
from position_pipeline_tests.store.histories import batches, history
from position_pipeline_tests.store.tables import query
from position_pipeline_tests.store.test_record import deliver

if TYPE_CHECKING:
    from position_pipeline.store import Store


@pytest.fixture
def traded(book):
    """Two lots and a close of AAPL, a short of SAP that was corrected, an option that expired, and a holding only the broker has."""
    fills = [buy(AAPL, 6, 100, fee="0.6", name="b1"), buy(AAPL, 4, 110, at=60, fee="0.4", name="b2"), sell(AAPL, 4, 120, at=120, name="s1")]
    book.record(*fills, buy(CALL, 1, 5, name="o1"), adjustment(AdjustmentKind.EXPIRY, CALL, -1, at=600, name="x1", price=0))
    book.record(sell(SAP, 3, 50, name="c1", fee=None))
    book.record(sell(SAP, 3, 51, name="c1", revision=2), sell(SAP, 1, 52, at=-60, name="late", fee="0.7"))
    book.store.reconcile(snapshot(holding(AAPL, 6), holding(SAP, -4)), EVERYTHING)
    book.store.reconcile(snapshot(holding(AAPL, 6), holding(SAP, -4), holding(KO, 5), at=3700), EVERYTHING)
    return book


def found(store: Store) -> list[tuple[str, str, str, str, str]]:
    return [(d.table, d.row, d.column, d.expected, d.found) for d in verify(store).differences]


def test_a_book_that_nobody_touched_is_what_its_entries_make(traded):
    verified = verify(traded.store)
    assert (verified.found, verified.accounts, verified.positions, verified.entries, verified.closes) == (0, 2, 4, 7, 2)
    assert lines(verified) == ["The book is what its entries make: 4 positions from 7 entries in 2 accounts, to the last digit."]


@pytest.mark.parametrize(
    ("sql", "difference"),
    [
        ("UPDATE positions SET quantity = 6.0000000001 WHERE quantity = 6", ("positions", "", "quantity", "6", "6.0000000001")),
        ("UPDATE positions SET cost = cost + 0.0000000001 WHERE quantity = 6", ("positions", "", "cost", "640", "640.0000000001")),
        ("UPDATE positions SET realized_gross = 79 WHERE quantity = 6", ("positions", "", "realized_gross", "80", "79")),
        ("UPDATE lots SET cost = 201 WHERE cost = 200", ("lots", "b1", "cost", "200", "201")),
        ("UPDATE lots SET commission = NULL WHERE cost = 200", ("lots", "b1", "commission", "0.2", "nothing")),
        ("DELETE FROM lots WHERE cost = 200", ("lots", "b1", "", "a row", "no such row")),
        ("UPDATE closes SET gross_pnl = 81 WHERE gross_pnl = 80", ("closes", "s1 b1", "gross_pnl", "80", "81")),
        ("UPDATE closes SET superseded_at = now() WHERE gross_pnl = 80", ("closes", "s1 b1", "", "a row", "no such row")),
        ("UPDATE position_events SET at = at + interval '1 s' WHERE cause = 'b1'", None),
        ("DELETE FROM position_events WHERE cause = 'b2'", ("events", "b2 increased", "", "a row", "no such row")),
        ("UPDATE executions SET price = 101 WHERE execution_id = 'b1'", ("lots", "b1", "cost", "202", "200")),
        ("UPDATE executions SET commission = 0.1 WHERE execution_id = 'late'", ("lots", "late", "commission", "0.1", "0.7")),
        ("UPDATE adjustments SET commission = 2 WHERE id = 'x1'", ("closes", "x1 o1", "closing_commission", "2", "0")),
        ("UPDATE accounts SET cost_method = 'lifo'", None),
    ],
)
def test_what_somebody_changed_is_found(traded, database, sql, difference):
    query(database, sql)
    differences = found(traded.store)
    assert differences
    assert difference is None or difference in differences


def test_a_row_without_entries_is_found(traded, database):
    query(database, "UPDATE positions SET realized_gross = 5 WHERE symbol = 'KO'")
    assert found(traded.store) == [("positions", "", "realized_gross", "0", "5")]


def test_a_close_that_rests_on_no_entry_of_its_position_is_found(traded, database):
    query(database, f"UPDATE closes SET instrument = '{KO.id}' WHERE execution_id = 's1'")
    assert ("closes", "s1 b1", "", "no such row", "a row") in found(traded.store)


def test_the_sentence_names_the_row(traded, database):
    query(database, "UPDATE lots SET cost = 201 WHERE cost = 200")
    assert lines(verify(traded.store)) == [
        "The book is not what its entries make: 1 difference in 4 positions from 7 entries in 2 accounts.",
        f"  {ACCOUNT} AAPL lots b1 cost: expected 200, found 201",
    ]


def test_only_the_asked_accounts_are_looked_at(traded, database):
    query(database, "UPDATE lots SET cost = 201 WHERE cost = 200")
    assert verify(traded.store, ["U1000002"]).found == 0


@pytest.mark.parametrize("seed", range(2000, 2020))
def test_whatever_is_told_in_whatever_order_is_what_its_entries_make(store, seed):
    told = history(seed, ACCOUNT)
    store.add_account(ACCOUNT, "ibkr", cost_method=told.method)
    for batch in batches(seed, told.told):
        deliver(store, ACCOUNT, batch)
        assert found(store) == []


def test_a_bust_of_a_fill_that_was_never_told_leaves_nothing_behind(book):
    book.record(buy(AAPL, 10, 100, name="a"), buy(AAPL, 0, 100, at=60, name="b", revision=2))
    assert found(book.store) == []
    assert book.position(AAPL)["quantity"] == Decimal(10)
