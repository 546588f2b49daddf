"""Two questions about the past: what was true then, as we know now (`as_of`), and what we believed then (`known_at`).

One account over four moments of knowing, each a step of `told`: K0 nothing, K1 the broker's API, K2 a late fill and a correction, K3 a bust
and a commission that came late, K4 the statement, weeks later. The figures are worked out beside the tests.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from position_pipeline.accounting.model import AdjustmentKind, Method
from position_pipeline.verify import verify
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, BTC, CALL, EVERYTHING, adjustment, buy, moment, sell
from position_pipeline_tests.store.histories import batches, history
from position_pipeline_tests.store.tables import query
from position_pipeline_tests.store.test_record import deliver

FIRST = buy(AAPL, 10, 100, name="b1", fee=1)
SECOND = buy(AAPL, 10, 120, name="b2", at=120, fee=None)
SALE = sell(AAPL, 10, 130, name="s1", at=240, fee=1)
LATE = buy(AAPL, 5, 90, name="b0", at=-60, fee="0.5")
CORRECTION = SALE._replace(price=Decimal(131), revision=2)
BUST = SECOND._replace(quantity=Decimal(0), commission=Decimal(0), commission_currency="USD", revision=2)
STATEMENT = SECOND._replace(source="flex", commission=Decimal(2), commission_currency="USD")


def now(database: str) -> datetime:
    return query(database, "SELECT clock_timestamp() AS at")[0]["at"]


@pytest.fixture
def told(book, database):
    """The moments between the deliveries, by name."""
    moments = {"K0": now(database)}
    for name, entries in (("K1", (FIRST, SECOND, SALE)), ("K2", (LATE, CORRECTION)), ("K3", (STATEMENT,)), ("K4", (BUST,))):
        book.record(*entries)
        moments[name] = now(database)
    return moments


def held(book, *, as_of=None, known_at=None) -> list[tuple]:
    rows = book.store.read.positions_then([ACCOUNT], as_of=as_of, known_at=known_at, all_=True)
    return [(row["symbol"], row["quantity"], row["cost"], row["open_commission"], row["realized_pnl"]) for row in rows]


def closed(book, *, as_of=None, known_at=None) -> list[tuple]:
    rows = book.store.read.closes([ACCOUNT], as_of=as_of, known_at=known_at)
    return [(row["opening_id"], row["quantity"], row["gross_pnl"], row["net_pnl"]) for row in rows]


@pytest.mark.parametrize(
    ("known", "position", "closes"),
    [
        ("K0", [], []),
        # b1 is sold: 1300 - 1000 = 300, less 1 and 1; b2 is left, without its commission.
        ("K1", [("AAPL", 10, 1200, 0, 298)], [("b1", 10, 300, 298)]),
        # b0 came late and is older: 5 x (131 - 90) = 205 less 0.5 and 0.5, then 5 of b1: 5 x 31 = 155 less 0.5 and 0.5.
        ("K2", [("AAPL", 15, 1700, Decimal("0.5"), 358)], [("b0", 5, 205, 204), ("b1", 5, 155, 154)]),
        # The statement has b2's commission.
        ("K3", [("AAPL", 15, 1700, Decimal("2.5"), 358)], [("b0", 5, 205, 204), ("b1", 5, 155, 154)]),
        # b2 never was.
        ("K4", [("AAPL", 5, 500, Decimal("0.5"), 358)], [("b0", 5, 205, 204), ("b1", 5, 155, 154)]),
    ],
)
def test_what_we_believed_at_a_time(book, told, known, position, closes):
    assert held(book, known_at=told[known]) == position
    assert closed(book, known_at=told[known]) == closes


@pytest.mark.parametrize(
    ("at", "position", "closes"),
    [
        (-61, [], []),
        (-60, [("AAPL", 5, 450, Decimal("0.5"), 0)], []),
        (239, [("AAPL", 15, 1450, Decimal("1.5"), 0)], []),
        (240, [("AAPL", 5, 500, Decimal("0.5"), 358)], [("b0", 5, 205, 204), ("b1", 5, 155, 154)]),
    ],
)
def test_what_was_true_at_a_time_as_we_know_now(book, told, at, position, closes):
    assert held(book, as_of=moment(at)) == position
    assert closed(book, as_of=moment(at)) == closes


def test_both_together_what_we_believed_was_true(book, told):
    """After the first delivery we believed that 20 were held before the sale; the late fill was not known."""
    assert held(book, as_of=moment(200), known_at=told["K1"]) == [("AAPL", 20, 2200, 1, 0)]
    assert closed(book, as_of=moment(200), known_at=told["K1"]) == []
    assert held(book, as_of=moment(200), known_at=told["K2"]) == [("AAPL", 25, 2650, Decimal("1.5"), 0)]


def test_the_far_future_is_now(book, told):
    later = datetime(2100, 1, 1, tzinfo=UTC)
    assert held(book, as_of=later, known_at=later) == held(book)
    assert closed(book, as_of=later, known_at=later) == closed(book)


def test_a_commission_that_replaces_another_was_the_other_before(book, database):
    """The API said 1; three weeks later the statement says 1.25, and why is in what it said earlier."""
    book.record(FIRST)
    before = now(database)
    book.record(FIRST._replace(commission=Decimal("1.25"), source="flex"))
    assert [row[3] for row in held(book, known_at=before)] == [1]
    assert [row[3] for row in held(book)] == [Decimal("1.25")]


def test_an_adjustment_is_not_known_before_it_is_recorded(book, database):
    """A statement weeks later says that the call expired, and what was held before we looked."""
    book.record(buy(CALL, 2, 5, fee=1))
    before = now(database)
    book.record(adjustment(AdjustmentKind.EXPIRY, CALL, -2, at=600, price=0))
    assert [row[1] for row in held(book, known_at=before)] == [2]
    assert [row[1] for row in held(book, as_of=moment(599))] == [2]
    assert [row[1] for row in held(book)] == [0]


def test_only_open_positions_unless_all_are_asked_for(book):
    book.record(buy(AAPL, 1, 1), sell(AAPL, 1, 2, at=60), buy(BTC, "0.1", 5))
    assert [row["symbol"] for row in book.store.read.positions_then(as_of=moment(60), known_at=None)] == ["BTC"]
    assert [row["symbol"] for row in book.store.read.positions_then(as_of=moment(60), known_at=None, all_=True)] == ["AAPL", "BTC"]


def test_the_fields_are_those_of_today(book):
    book.record(buy(AAPL, 1, 1))
    (then,), (today,) = book.store.read.positions_then(as_of=moment(1), known_at=None), book.store.read.positions()
    assert set(then) == set(today)
    assert {name: value for name, value in then.items() if value is not None} == {
        name: today[name] for name in then if then[name] is not None
    }


@pytest.mark.parametrize("seed", range(3000, 3006))
def test_what_is_said_of_a_time_is_what_was_said_at_that_time(store, database, seed):
    """Histories with corrections, busts, late commissions and premiums: after each batch the answers of then are kept, and asked for at the end."""
    told = history(seed, ACCOUNT)
    store.add_account(ACCOUNT, "ibkr", cost_method=told.method)
    said = []
    for batch in batches(seed, told.told):
        deliver(store, ACCOUNT, batch)
        said.append((now(database), answers(store.read.positions(all_=True)), answers(store.read.closes())))
    for at, positions, closes in said:
        assert answers(store.read.positions_then(as_of=None, known_at=at, all_=True)) == positions
        assert answers(store.read.closes(known_at=at)) == closes


def test_another_method_books_anew_and_what_was_believed_by_the_old_one_stays(book, database):
    """FIFO closes b1: 1300 - 1000 = 300. LIFO closes b2: 1300 - 1200 = 100."""
    book.record(FIRST, SECOND._replace(commission=Decimal(0), commission_currency="USD"), SALE, buy(BTC, "0.1", 5))
    before = now(database)
    assert book.store.set_cost_method(ACCOUNT, Method.LIFO) == 2
    assert closed(book) == [("b2", 10, 100, 99)]
    assert closed(book, known_at=before) == [("b1", 10, 300, 298)]
    assert [row[4] for row in held(book, known_at=before)] == [298, 0]
    assert [row[4] for row in held(book)] == [99, 0]
    assert book.store.set_cost_method(ACCOUNT, Method.LIFO) == 0
    assert verify(book.store).found == 0


def test_a_kind_of_instrument_may_have_a_method_of_its_own(book):
    book.record(FIRST, buy(BTC, 1, 10, name="x"), buy(BTC, 1, 20, at=60, name="y"))
    assert book.store.set_cost_method(ACCOUNT, Method.AVERAGE, "CRYPTO") == 1
    book.record(sell(BTC, 1, 30, at=120))
    assert closed(book) == [("x", 1, 15, 15)]
    assert {row["symbol"]: row["method"] for row in book.store.read.positions(all_=True)} == {"AAPL": "fifo", "BTC": "average"}
    assert verify(book.store).found == 0


def answers(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "unknown"} for row in rows]


def test_recording_is_timed_by_the_turn_of_the_writer(book, database):
    """The same moment stands on the fills and on what the book says of them, so that no question falls between."""
    before = now(database)
    book.store.record(ACCOUNT, [FIRST, SALE], (), EVERYTHING)
    (times,) = query(
        database,
        "SELECT array_agg(DISTINCT at) AS at FROM (SELECT recorded_at AS at FROM executions UNION SELECT believed_at FROM closes) t",
    )
    assert len(times["at"]) == 1
    assert before < times["at"][0] < before + timedelta(minutes=1)
