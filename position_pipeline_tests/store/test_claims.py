"""What the claims are decided from: rows that break one, read from a real book, some of them broken on purpose."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from psycopg2.extras import Json

from position_pipeline_tests.scenarios import AAPL, ACCOUNT, EVERYTHING, KO, TSLA, buy, holding, moment, sell, snapshot
from position_pipeline_tests.store.tables import rows

D = Decimal


def run(book, sql: str, values=None) -> None:
    book.store._connection.execute(sql, values)


def answered(book, at: float, *holdings, **more) -> None:
    book.store.save_snapshot(snapshot(*holdings, at=at, **more), EVERYTHING, "ibkr")


@pytest.fixture
def traded(book):
    """10 AAPL at 100 with fee 1, of which 4 are sold at 110: (110 - 100) x 4 - 0.4 - 2 = 37.60."""
    book.record(buy(AAPL, 10, 100, at=0, fee=1, name="open"), sell(AAPL, 4, 110, at=1, fee=2, name="close", broker_pnl=D("37.6")))
    return book


def test_a_book_that_nobody_touched_breaks_no_claim(traded):
    claims = traded.store.claims
    assert claims.positions_beside_their_lots() == []
    assert claims.orphans() == []
    assert claims.without_commission(moment(100)) == []


@pytest.mark.parametrize(
    ("change", "figure"),
    [
        ("UPDATE lots SET quantity = 7", ("quantity", "lots_quantity")),
        ("UPDATE lots SET cost = 600.01", ("cost", "lots_cost")),
        ("UPDATE lots SET commission = 0", ("open_commission", "lots_commission")),
        ("UPDATE lots SET cost = NULL, basis = 'unknown'", ("cost", "lots_cost")),
        ("DELETE FROM lots", ("quantity", "lots_quantity")),
    ],
)
def test_a_position_that_is_not_the_sum_of_its_lots_is_found(traded, change, figure):
    run(traded, change)
    (row,) = traded.store.claims.positions_beside_their_lots()
    assert row["symbol"] == "AAPL"
    assert row[figure[0]] != row[figure[1]]


def test_a_close_by_a_fill_that_was_busted_behind_our_back_is_an_orphan(traded):
    run(
        traded,
        "INSERT INTO executions (account, execution_id, revision, instrument, side, quantity, price, multiplier, currency, time, source) "
        "SELECT account, execution_id, revision + 1, instrument, side, 0, price, multiplier, currency, time, source "
        "FROM executions WHERE execution_id = 'close'",
    )
    assert [row["execution_id"] for row in traded.store.claims.orphans()] == ["close"]


def test_a_close_whose_opening_was_corrected_behind_our_back_is_an_orphan(traded):
    run(
        traded,
        "INSERT INTO executions (account, execution_id, revision, instrument, side, quantity, price, multiplier, currency, time, source) "
        "SELECT account, execution_id, revision + 1, instrument, side, 11, price, multiplier, currency, time, source "
        "FROM executions WHERE execution_id = 'open'",
    )
    assert [row["opening_id"] for row in traded.store.claims.orphans()] == ["open"]


def test_only_the_latest_revision_of_an_old_fill_can_lack_its_commission(book):
    book.record(buy(AAPL, 10, 100, at=0, fee=None, name="waits"), buy(KO, 1, 50, at=0, fee=1))
    assert [row["execution_id"] for row in book.store.claims.without_commission(moment(1))] == ["waits"]
    assert book.store.claims.without_commission(moment(0)) == []
    book.record(buy(AAPL, 10, 100, at=0, fee=1, name="waits", revision=2))
    assert book.store.claims.without_commission(moment(1)) == []


def test_the_brokers_own_pnl_stands_beside_the_sum_of_the_closes(traded):
    (row,) = traded.store.claims.beside_the_brokers_pnl()
    assert (row["execution_id"], row["broker_pnl"], row["net_pnl"], row["parts"]) == ("close", D("37.6"), D("37.6"), 1)


def test_a_fill_that_opens_for_us_and_closes_for_the_broker_is_shown_with_nothing_realised(book):
    book.record(sell(TSLA, 5, 200, at=0, fee=0, broker_pnl=D(120)))
    (row,) = book.store.claims.beside_the_brokers_pnl()
    assert (row["broker_pnl"], row["net_pnl"], row["parts"]) == (D(120), D(0), 0)


def test_what_an_average_realises_or_an_unknown_lot_is_not_compared(traded):
    run(traded, "UPDATE closes SET basis = 'broker'")
    assert traded.store.claims.beside_the_brokers_pnl() == []
    run(traded, "UPDATE closes SET basis = 'fills'")
    run(traded, "UPDATE positions SET method = 'average'")
    assert traded.store.claims.beside_the_brokers_pnl() == []


def test_the_age_of_an_account_is_that_of_its_last_proven_answer_by_the_brokers_clock(traded):
    answered(traded, 60, holding(AAPL, 6, 100))
    traded.store.add_account(ACCOUNT, "ibkr", connection="ibkr")
    run(traded, "UPDATE snapshots SET source_at = taken_at - interval '90 s'")
    run(
        traded,
        "INSERT INTO snapshots (account, connection, broker, taken_at, status, reason, holdings) "
        "VALUES (%(account)s, 'ibkr', 'ibkr', now(), 'rejected', 'cut off', 0)",
        {"account": ACCOUNT},
    )
    (row,) = traded.store.claims.last_proven()
    assert (row["account"], row["source_at"], row["kinds"]) == (ACCOUNT, moment(-30), [["STK", "USD"]])


DAY = 86400
OPEN_TO_MIDNIGHT = 14.5 * 3600
"""From 9:30 in New York, where `moment(0)` is."""


def test_a_night_between_two_answers_leaves_the_evening_before_it_unheard(traded):
    for at in (0, 60, 60 + DAY):
        answered(traded, at, holding(AAPL, 6, 100))
    found = traded.store.claims.unlistened(moment(-1), timedelta(minutes=15))
    assert [(row["since"], row["upto"]) for row in found] == [(moment(60), moment(OPEN_TO_MIDNIGHT))]


def test_answers_around_midnight_leave_nothing_unheard(traded):
    for at in (OPEN_TO_MIDNIGHT - 300, OPEN_TO_MIDNIGHT + 5):
        answered(traded, at, holding(AAPL, 6, 100))
    assert traded.store.claims.unlistened(moment(-1), timedelta(minutes=15)) == []


def test_a_rejected_answer_is_no_listening(traded):
    for at in (0, DAY):
        answered(traded, at, holding(AAPL, 6, 100))
    run(traded, "UPDATE snapshots SET status = 'rejected', reason = 'cut off' WHERE id = (SELECT max(id) FROM snapshots)")
    assert traded.store.claims.unlistened(moment(-1), timedelta(minutes=15)) == []


def test_a_statement_tells_what_it_covers(traded):
    values = {"account": ACCOUNT, "from": moment(0), "to": moment(100), "none": Json({})}
    run(
        traded,
        "INSERT INTO statement_imports (account, file, sha256, from_at, to_at, counts, notes) "
        "VALUES (%(account)s, 'a.xml', 'x', %(from)s, %(to)s, %(none)s, %(none)s)",
        values,
    )
    assert [(row["since"], row["upto"]) for row in traded.store.claims.covered(moment(50))] == [(moment(0), moment(100))]
    assert traded.store.claims.covered(moment(100)) == []


def test_totals_are_those_of_the_last_proven_answer(traded):
    answered(traded, 0, holding(AAPL, 6, 100))
    answered(traded, 60, holding(AAPL, 6, 100))
    (row,) = traded.store.claims.account_values()
    assert row["taken_at"] == moment(60)
    assert rows(traded.store, "SELECT count(*) AS n FROM snapshots") == [{"n": 2}]
