"""The views over the life of positions say what the entries come to: held when, for how long, bought and sold at what."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from position_pipeline.accounting.model import AdjustmentKind, Fill
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, CALL, EVERYTHING, KO, adjustment, buy, moment, sell
from position_pipeline_tests.store.histories import batches, history

D = Decimal


def held(book, **at) -> list[tuple]:
    """(symbol, quantity, cycle, from, to) in seconds."""
    rows = book.store.read.history([ACCOUNT], **at)
    return [(row["symbol"], row["quantity"], row["cycle"], seconds(row["valid_from"]), seconds(row["valid_to"])) for row in rows]


def seconds(at) -> float | None:
    return None if at is None else (at - moment(0)).total_seconds()


def test_what_was_held_is_told_as_intervals_without_the_times_in_which_nothing_was(book):
    book.record(
        buy(AAPL, 10, 100, at=10), sell(AAPL, 4, 110, at=20), sell(AAPL, 6, 110, at=30), buy(AAPL, 1, 100, at=50), buy(KO, 2, 60, at=15)
    )
    assert held(book) == [
        ("AAPL", 10, 1, 10, 20),
        ("KO", 2, 1, 15, None),
        ("AAPL", 6, 1, 20, 30),
        ("AAPL", 1, 2, 50, None),
    ]
    assert held(book, at=moment(20)) == [("KO", 2, 1, 15, None), ("AAPL", 6, 1, 20, 30)]
    assert held(book, at=moment(40)) == [("KO", 2, 1, 15, None)]
    (first, *_) = book.store.read.history([ACCOUNT])
    assert first["held_for"] == timedelta(seconds=10)


def test_a_position_that_turns_is_two_lives(book):
    book.record(buy(AAPL, 10, 100, at=10), sell(AAPL, 15, 110, at=20))
    assert held(book) == [("AAPL", 10, 1, 10, 20), ("AAPL", -5, 2, 20, None)]
    rows = book.store.read.cycles([ACCOUNT])
    told = [(row["side"], row["peak_quantity"], row["entry_price"], row["exit_price"], row["gross_pnl"], row["closes"]) for row in rows]
    assert told == [("long", 10, 100, 110, 100, 1), ("short", 5, 110, None, None, 0)]
    assert [seconds(row["closed_at"]) for row in rows] == [20, None]


def test_a_late_fill_and_a_correction_are_in_the_history_as_if_they_had_been_in_time(book):
    book.record(buy(AAPL, 10, 100, at=10), sell(AAPL, 4, 110, at=20, name="s"))
    book.record(buy(AAPL, 3, 90, at=5))
    book.record(sell(AAPL, 5, 110, at=20, name="s", revision=2))
    assert held(book) == [("AAPL", 3, 1, 5, 10), ("AAPL", 13, 1, 10, 20), ("AAPL", 8, 1, 20, None)]


def test_scaled_exits_and_entries_are_averaged_by_what_was_traded(book):
    book.record(
        buy(AAPL, 10, 100, at=10, fee=1), buy(AAPL, 10, 104, at=20, fee=1), sell(AAPL, 5, 110, at=30, fee=1), sell(AAPL, 15, 114, at=40)
    )
    (row,) = book.store.read.cycles([ACCOUNT])
    assert row["entry_price"] == 102  # (10 x 100 + 10 x 104) / 20
    assert row["exit_price"] == 113  # (5 x 110 + 15 x 114) / 20
    assert (row["gross_pnl"], row["net_pnl"], row["held_for"]) == (220, 217, timedelta(seconds=30))


def test_what_is_still_open_counts_in_the_entry_price(book):
    book.record(buy(CALL, 2, 5, at=10), buy(CALL, 2, 7, at=20), sell(CALL, 1, 9, at=30))
    (row,) = book.store.read.cycles([ACCOUNT])
    assert (row["entry_price"], row["exit_price"], row["closed_at"]) == (6, 9, None)  # (2 x 5 + 2 x 7) / 4, per unit of 100


def test_a_split_is_a_step_of_the_quantity(book):
    book.record(buy(AAPL, 10, 100, at=10), adjustment(AdjustmentKind.SPLIT, AAPL, 0, at=20, numerator=D(2), denominator=D(1)))
    assert held(book) == [("AAPL", 10, 1, 10, 20), ("AAPL", 20, 1, 20, None)]


def test_what_is_not_known_of_a_life_is_not_told(book):
    book.record(adjustment(AdjustmentKind.TRANSFER, KO, 5, at=10), sell(KO, 5, 60, at=20))
    (row,) = book.store.read.cycles([ACCOUNT])
    assert (row["entry_price"], row["gross_pnl"], row["net_pnl"]) == (None, None, None)


@pytest.mark.parametrize("seed", range(12))
def test_at_any_moment_the_history_is_what_the_entries_until_then_come_to(book, seed):
    """Told late, twice, corrected, in pieces; many entries share their second."""
    known = history(seed, ACCOUNT)
    for batch in batches(seed, known.told):
        fills = [each for each in batch if isinstance(each, Fill)]
        book.store.record(ACCOUNT, fills, [each for each in batch if not isinstance(each, Fill)], EVERYTHING)
    for at in range(-2, 140, 1):
        then = book.store.read.positions_then([ACCOUNT], as_of=moment(at), known_at=None)
        expected = sorted((row["instrument"], row["quantity"], row["cycle"]) for row in then if row["quantity"])
        found = sorted((row["instrument"], row["quantity"], row["cycle"]) for row in book.store.read.history([ACCOUNT], at=moment(at)))
        assert found == expected, at
