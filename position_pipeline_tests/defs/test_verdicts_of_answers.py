"""The claims about the brokers' answers, decided from rows alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from position_pipeline.defs.verdicts_of_answers import (
    broker_cost_is_explained,
    executions_have_no_gaps,
    fills_have_commissions,
    portfolio_value_adds_up,
    positions_are_fresh,
    realized_pnl_ties_to_broker,
    streams_are_whole,
)

NOW = datetime(2026, 11, 20, 15, tzinfo=UTC)
ALL_OF_IT = lambda kinds, since, upto: upto - since  # noqa: E731
NONE_OF_IT = lambda kinds, since, upto: timedelta(0)  # noqa: E731


def answered(account, minutes, kinds=(("STK", "USD"),)):
    return {"account": account, "source_at": NOW - timedelta(minutes=minutes), "kinds": [list(kind) for kind in kinds]}


def test_answers_within_the_limit_are_fresh_and_nobody_asks_for_the_calendar():
    def never(*_):
        raise AssertionError

    assert positions_are_fresh([answered("U1", 15), answered("U2", 0)], NOW, 900, never).passed


def test_an_answer_that_is_too_old_while_markets_are_open_is_a_warning():
    verdict = positions_are_fresh([answered("U1", 4), answered("U2", 16)], NOW, 900, ALL_OF_IT)
    assert (verdict.passed, verdict.mild) == (False, True)
    assert verdict.offending == ({"account": "U2", "last_answer": "2026-11-20 14:44:00", "age": "16 min"},)


def test_silence_while_nothing_can_be_traded_is_excused_to_a_limit():
    assert positions_are_fresh([answered("U1", 25 * 60)], NOW, 900, NONE_OF_IT).passed
    old = positions_are_fresh([answered("U1", 26 * 60 + 1)], NOW, 900, NONE_OF_IT)
    assert (old.passed, old.mild) == (False, False)
    assert old.offending[0]["age"] == "26 h 01 min"


def test_an_answer_of_later_than_now_tells_of_clocks_that_differ():
    assert positions_are_fresh([answered("U1", -1)], NOW, 900, ALL_OF_IT).passed
    verdict = positions_are_fresh([answered("U1", 0), answered("U2", -120)], NOW, 900, ALL_OF_IT)
    assert (verdict.passed, verdict.mild) == (False, True)
    assert verdict.offending == (
        {"account": "U2", "last_answer": "2026-11-20 17:00:00", "age": "2 h 00 min in the future, because the clocks differ"},
    )
    assert verdict.evidence[0].startswith("U2: by the broker's clock its last answer was given 2 h 00 min later than it is on this machine")


def test_no_account_at_all_is_nothing_to_be_late():
    assert positions_are_fresh([], NOW, 900, ALL_OF_IT).passed


def span(first, last, account="U1"):
    return {"account": account, "since": NOW + timedelta(hours=first), "upto": NOW + timedelta(hours=last)}


def gaps(unlistened, covered=(), silence=ALL_OF_IT):
    return executions_have_no_gaps(unlistened, covered, [answered("U1", 0)], timedelta(minutes=15), silence)


def test_hours_that_nobody_listened_to_are_a_gap_that_names_them():
    verdict = gaps([span(0, 9)])
    assert (verdict.passed, verdict.mild) == (False, True)
    assert verdict.offending == ({"account": "U1", "from": "2026-11-20 15:00:00", "to": "2026-11-21 00:00:00"},)


def test_closed_markets_make_no_gap():
    assert gaps([span(0, 9)], silence=NONE_OF_IT).passed


def test_a_statement_closes_the_part_of_a_gap_that_it_covers():
    assert gaps([span(0, 9)], [span(-100, 100)]).passed
    assert gaps([span(0, 9)], [span(-1, 4), span(4, 9)]).passed
    left = gaps([span(0, 9)], [span(2, 4)])
    assert [(row["from"][11:16], row["to"][11:16]) for row in left.offending] == [("15:00", "17:00"), ("19:00", "00:00")]
    assert not gaps([span(0, 9)], [span(-100, 100, account="U2")]).passed


def stream(**changes):
    whole = {
        "connection": "ibkr",
        "alive": True,
        "state": "connected",
        "detail": "",
        "disconnected_at": None,
        "gap_opened_at": None,
        "gap_cause": None,
        "gap_healed_at": None,
    }
    return {**whole, **changes}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"alive": False}, "has no listener"),
        ({"state": "waiting", "disconnected_at": NOW - timedelta(minutes=16)}, "is not connected"),
        ({"gap_opened_at": NOW - timedelta(minutes=16), "gap_cause": "1100"}, "has had a gap open since 2026-11-20 14:44:00 UTC"),
    ],
)
def test_a_stream_that_is_not_heard_or_whose_gap_stays_open_is_a_warning(changes, why):
    verdict = streams_are_whole([stream(), stream(connection="other", **changes)], NOW, 900)
    assert (verdict.passed, verdict.mild, verdict.looked_at) == (False, True, 2)
    assert verdict.offending == ({"connection": "other", "why": why},)


def test_a_moment_without_a_connection_and_nobody_who_listens_are_no_failure():
    away = stream(state="waiting", disconnected_at=NOW - timedelta(minutes=14), gap_opened_at=NOW - timedelta(minutes=14))
    assert streams_are_whole([away], NOW, 900).passed
    looked_for = stream(gap_opened_at=NOW - timedelta(days=3), gap_healed_at=NOW - timedelta(days=2))
    assert streams_are_whole([looked_for], NOW, 900).passed, "the difference that keeps it open has claims of its own"
    assert streams_are_whole([stream(alive=False, state="stopped")], NOW, 900).passed
    assert streams_are_whole([], NOW, 900).passed


def test_a_fill_without_its_commission_is_named():
    row = {"account": "U1", "symbol": "AAPL", "execution_id": "e1", "time": NOW}
    verdict = fills_have_commissions([row], executions=7)
    assert (verdict.passed, verdict.mild, verdict.looked_at) == (False, True, 7)
    assert "AAPL in U1" in verdict.says
    assert fills_have_commissions([], executions=7).passed


def execution(ours, theirs):
    return {
        "account": "U1", "symbol": "AAPL", "execution_id": "e1", "currency": "USD", "broker_pnl": Decimal(theirs), "net_pnl": Decimal(ours),
        "gap": Decimal(ours) - Decimal(theirs),
    }  # fmt: skip


def test_realised_pnl_ties_to_two_cents():
    assert realized_pnl_ties_to_broker([execution("97.00", "97.02"), execution("-3", "-2.98")]).passed
    verdict = realized_pnl_ties_to_broker([execution("97.00", "97.020001"), execution("0", "0")])
    assert (verdict.passed, verdict.mild, verdict.looked_at) == (False, False, 2)
    assert verdict.evidence == ("AAPL in U1: off by -0.020001 USD. position-pipeline explain e1 shows the lots and the arithmetic.",)


def test_a_cost_at_the_broker_that_nothing_explains_is_a_warning():
    row = {"account": "U1", "symbol": "AAPL", "first_seen_at": NOW, "evidence": "Ours 10, the broker's 12."}
    verdict = broker_cost_is_explained([row], compared=3)
    assert (verdict.passed, verdict.mild) == (False, True)
    assert verdict.evidence == ("AAPL in U1: Ours 10, the broker's 12.",)


def account(net, cash, *more):
    return {"account": "U1", "values": [["NetLiquidation", "USD", net], ["TotalCashValue", "USD", cash], *more]}


def position(value, currency="USD", sec_type="STK"):
    return {"account": "U1", "currency": currency, "sec_type": sec_type, "market_value": None if value is None else Decimal(value)}


def test_cash_and_positions_come_to_the_net_liquidation_value_in_base_currency():
    # 1,000 cash + 500 + 200 EUR x 1.1 = 1,720
    values = account("1720", "1000", ["ExchangeRate", "EUR", "1.1"])
    assert portfolio_value_adds_up([values], [position("500"), position("200", "EUR")]).passed


def test_a_missing_position_does_not_come_to_it():
    # Tolerated are 2 % of 500 and 1: 11. What is missing is 720 - 500 = 220.
    verdict = portfolio_value_adds_up([account("1720", "1000")], [position("500")])
    assert not verdict.passed
    assert verdict.offending == ({"account": "U1", "off_by": "-220.00 USD", "broker": "1,720.00 USD"},)
    assert portfolio_value_adds_up([account("1511", "1000")], [position("500")]).passed
    assert not portfolio_value_adds_up([account("1511.01", "1000")], [position("500")]).passed


def test_what_a_future_has_gained_is_in_the_cash():
    assert portfolio_value_adds_up([account("1000", "1000")], [position("250000", sec_type="FUT")]).passed


def test_an_account_with_an_unknown_price_rate_or_total_is_not_added_up():
    without_rate = portfolio_value_adds_up([account("1", "1000")], [position("5", "EUR")])
    without_price = portfolio_value_adds_up([account("1", "1000")], [position(None)])
    without_total = portfolio_value_adds_up([{"account": "U1", "values": [["TotalCashValue", "USD", "x"]]}], [])
    for verdict in (without_rate, without_price, without_total):
        assert (verdict.passed, verdict.looked_at) == (True, 0)
        assert "0 of 1 accounts can be added up" in verdict.says
