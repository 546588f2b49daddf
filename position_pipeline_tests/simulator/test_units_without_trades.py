"""Units that come and go without a trade: transfers, ends of options, new names. Every expected number has its own sum beside it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from position_pipeline.simulator import Account, BookError, Opening, Scenario, Simulator
from position_pipeline.simulator.scenario import Instrument

D = Decimal
NOON = datetime(2026, 3, 4, 17, 0, tzinfo=UTC)
SHARE = Instrument(1, "ABC", price=D(50))
NEW = Instrument(2, "ABCD", price=D(1))
PUT = Instrument(3, "ABC", "OPT", multiplier=D(100), strike=D(50), right="P", local_symbol="ABC P50", price=D(3))
CALL = replace(PUT, con_id=4, right="C", local_symbol="ABC C50")
SCENARIO = Scenario(
    (SHARE, NEW, PUT, CALL),
    (Account("U1", cash={"USD": D(0)}, positions=(Opening(1, D(100), D(40)),)), Account("U2", cash={"USD": D(0)})),
    price_every=D(0),
)
Start = Any


def start(**options: Any) -> Simulator:
    return Simulator(SCENARIO, speed=0, starts_at=NOON, **options)


@pytest.fixture
def broker() -> Iterator[Simulator]:
    with start() as one:
        yield one


def cash(broker: Simulator, account: str = "U1") -> str:
    return broker.account_values(account)["CashBalance", "USD"]


def test_a_transfer_in_brings_units_at_their_cost_and_no_cash_and_no_execution(broker: Simulator) -> None:
    broker.transfer("U1", "ABC", 50, cost=1000)
    # 100 x 40 + 1000 = 5000; 5000 / 150 = 33.33333333
    assert broker.holdings("U1") == {1: (D(150), D("33.33333333"))}
    assert (cash(broker), broker.executions()) == ("0.00", [])


def test_a_transfer_out_leaves_at_the_average_and_realizes_nothing(broker: Simulator) -> None:
    broker.transfer("U1", "ABC", -30)
    assert broker.holdings("U1") == {1: (D(70), D(40))}
    assert (cash(broker), broker.account_values("U1")["RealizedPnL", "USD"]) == ("0.00", "0.00")


def test_more_than_is_held_cannot_leave_and_what_comes_needs_a_cost(broker: Simulator) -> None:
    with pytest.raises(BookError, match="cannot leave"):
        broker.transfer("U1", "ABC", -101)
    with pytest.raises(BookError, match="need a cost"):
        broker.transfer("U1", "ABC", 1)
    assert broker.holdings("U1") == {1: (D(100), D(40))}


def test_a_put_that_was_sold_and_is_assigned_brings_shares_at_the_strike_less_its_premium(broker: Simulator) -> None:
    broker.execute("U2", "ABC P50", "SELL", 1, "3", commission="1")
    broker.deliver("U2", "ABC P50", 1, "ABC")
    # paid 100 x 50 = 5000, kept 3 x 100 - 1 = 299: the shares cost 4701, 47.01 each; cash -5000 + 299
    assert broker.holdings("U2") == {1: (D(100), D("47.01"))}
    assert (cash(broker, "U2"), len([one for one in broker.executions("U2") if one.con_id == 1])) == ("-4701.00", 0)


def test_a_call_that_is_exercised_takes_its_premium_to_the_shares_and_may_show_their_leg(broker: Simulator) -> None:
    broker.execute("U2", "ABC C50", "BUY", 2, "3", commission="1")
    broker.deliver("U2", "ABC C50", 1, "ABC", listed=True)
    # of 2 x 300 + 1 = 601 one half: the shares cost 5000 + 300.50, 53.005 each; one contract is left at 300.50
    assert broker.holdings("U2") == {4: (D(1), D("300.5")), 1: (D(100), D("53.005"))}
    leg = broker.executions("U2")[-1]
    assert (leg.con_id, leg.side, leg.price, leg.commission) == (1, "BOT", D(50), D(0))


def test_an_assigned_call_sells_shares_and_realizes_its_premium_with_them(broker: Simulator) -> None:
    broker.execute("U1", "ABC C50", "SELL", 1, "3", commission="0")
    broker.deliver("U1", "ABC C50", 1, "ABC", listed=True)
    assert broker.holdings("U1") == {}
    # 100 x 50 + 300 - 100 x 40
    assert broker.realized(broker.executions("U1")[-1].exec_id) == D(1300)


def test_contracts_that_are_not_held_cannot_be_delivered(broker: Simulator) -> None:
    with pytest.raises(BookError, match="holds 0"):
        broker.deliver("U1", "ABC C50", 1, "ABC")


def test_an_option_that_expires_realizes_what_it_had_cost_for_no_cash(broker: Simulator) -> None:
    broker.execute("U1", "ABC C50", "BUY", 2, "3", commission="1")
    before = cash(broker)
    broker.expire("ABC C50")
    assert 4 not in broker.holdings("U1")
    assert (cash(broker), broker.account_values("U1")["RealizedPnL", "USD"]) == (before, "-601.00")


def test_a_new_name_takes_all_units_their_cost_and_the_price_along(broker: Simulator) -> None:
    broker.convert("ABC", "ABCD", 1, 10)
    # 100 units at 40 are 10 at 400; the price of 50 is one of 500
    assert broker.holdings("U1") == {2: (D(10), D(400))}
    assert (broker.price("ABCD"), cash(broker)) == (D(500), "0.00")


def test_a_fill_whose_cost_has_gone_elsewhere_is_not_changed_any_more(broker: Simulator) -> None:
    fill = broker.execute("U1", "ABC", "BUY", 10, "50")
    broker.correct(fill, price="51")
    broker.convert("ABC", "ABCD")
    with pytest.raises(BookError, match="something else"):
        broker.bust(fill)


def test_all_of_it_survives_a_restart(tmp_path: Path) -> None:
    with start(state_file=tmp_path / "state") as first:
        first.transfer("U1", "ABC", 50, cost=1000)
        first.transfer("U1", "ABC", -10)
        first.execute("U1", "ABC P50", "SELL", 2, "3", commission="1")
        first.deliver("U1", "ABC P50", 1, "ABC")
        first.expire("ABC P50")
        first.convert("ABC", "ABCD", 1, 10)
        before = first.holdings("U1"), first.account_values("U1"), first.executions()
    with start(state_file=tmp_path / "state") as second:
        assert (second.holdings("U1"), second.account_values("U1"), second.executions()) == before
