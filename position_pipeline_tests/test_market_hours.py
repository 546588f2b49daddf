"""How much of a silence falls into trading hours, and into a broker's nightly reset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from position_pipeline.market_hours import merged, open_time, resting_time

NIGHT = (23 * 60 + 45, 60 + 45)
"""23:45 to 01:45 in New York."""


def at(day: int, hour: int, minute: int = 0, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def test_over_a_weekend_american_stocks_trade_in_its_last_and_first_hours():
    # Friday 20:00 to Monday 15:00 UTC: New York closes Friday 16:00 (21:00 UTC) and opens Monday 9:30 (14:30 UTC): 60 + 30 minutes.
    assert open_time([("STK", "USD")], at(20, 20), at(23, 15)) == timedelta(minutes=90)


def test_hours_of_two_exchanges_that_overlap_count_once():
    # Monday 8:00 to 15:00 UTC, Frankfurt 8:00 to 16:30 UTC; New York's half hour lies within: 7 hours.
    assert open_time([("STK", "USD"), ("OPT", "EUR")], at(23, 7), at(23, 15)) == timedelta(hours=7)


def test_a_holiday_has_no_trading_hours():
    assert open_time([("STK", "USD")], at(26, 5), at(27, 5)) == timedelta(0)  # Thanksgiving


def test_crypto_currencies_and_what_no_calendar_is_known_for_are_always_open():
    for kind in (("CRYPTO", "USD"), ("CASH", "EUR"), ("STK", "XXX")):
        assert open_time([kind], at(21, 0), at(22, 0)) == timedelta(days=1)


def test_futures_trade_on_a_sunday_evening_when_stocks_do_not():
    sunday = (at(22, 12), at(23, 5))
    assert open_time([("STK", "USD")], *sunday) == timedelta(0)
    assert open_time([("FUT", "USD")], *sunday) > timedelta(hours=5)


def test_nothing_held_and_no_time_have_no_trading_hours():
    assert open_time([], at(20, 15), at(20, 16)) == timedelta(0)
    assert open_time([("CRYPTO", "USD")], at(20, 15), at(20, 15)) == timedelta(0)


def test_the_nightly_reset_is_in_new_york_time_in_winter_and_in_summer():
    # 23:45 to 01:45 in New York is 04:45 to 06:45 UTC in November and 03:45 to 05:45 UTC in July.
    assert resting_time(at(20, 20), at(21, 15), NIGHT) == timedelta(hours=2)
    assert resting_time(at(21, 4), at(21, 5), NIGHT) == timedelta(minutes=15)
    assert resting_time(at(21, 3, month=7), at(21, 4, month=7), NIGHT) == timedelta(minutes=15)
    assert resting_time(at(20, 10), at(20, 20), NIGHT) == timedelta(0)
    assert resting_time(at(20, 0), at(23, 0), NIGHT) == 3 * timedelta(hours=2)


def test_spans_that_touch_become_one():
    assert merged([(at(20, 3), at(20, 4)), (at(20, 1), at(20, 2)), (at(20, 2), at(20, 3))]) == [(at(20, 1), at(20, 4))]
    assert merged([(at(20, 1), at(20, 5)), (at(20, 2), at(20, 3))]) == [(at(20, 1), at(20, 5))]
