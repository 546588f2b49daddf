"""The scenario language: what it means, and what its errors say."""

from decimal import Decimal
from pathlib import Path

import pytest

from position_pipeline.simulator import ScenarioError, default_scenario, load_scenario

GOOD = """\
name = "tiny"
price_every = 2.5
[rates]
EUR = 1.1
[[instruments]]
symbol = "AAPL"
con_id = 265598
price = 230.10
[[instruments]]
symbol = "AAPL"
con_id = 7
sec_type = "OPT"
right = "C"
multiplier = 100
local_symbol = "AAPL 28C"
price = 40
[[accounts]]
id = "U1"
cash = { USD = 100, EUR = 20.5 }
[[accounts.positions]]
symbol = "AAPL"
quantity = 100
average_cost = 180.01
[[accounts.positions]]
symbol = "AAPL 28C"
quantity = -2
average_cost = 3501.05
[[events]]
at = 30
account = "U1"
symbol = "AAPL"
side = "SELL"
quantity = 1.5
price = 231
[[events]]
at = 10
account = "U1"
symbol = "AAPL"
side = "BUY"
quantity = 5
price = "market"
"""


def test_a_scenario_is_read_to_the_last_digit() -> None:
    scenario = load_scenario(GOOD)
    assert scenario.name == "tiny"
    assert scenario.rates == {"USD": Decimal(1), "EUR": Decimal("1.1")}
    first, second = scenario.accounts[0].positions
    assert (first.con_id, first.quantity, first.average_cost) == (265598, Decimal(100), Decimal("180.01"))
    assert (second.con_id, second.quantity, second.average_cost) == (7, Decimal(-2), Decimal("3501.05"))
    assert scenario.accounts[0].cash["EUR"] == Decimal("20.5")


def test_events_are_put_in_order_and_market_means_the_price_of_the_moment() -> None:
    early, late = load_scenario(GOOD).events
    assert (early.at, early.price) == (Decimal(10), None)
    assert (late.at, late.price, late.quantity) == (Decimal(30), Decimal(231), Decimal("1.5"))


def test_a_scenario_may_be_a_path(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(GOOD)
    assert load_scenario(file) == load_scenario(str(file)) == load_scenario(GOOD)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('side = "SELL"', 'side = "HOLD"', "line 32: events[0].side: must be one of BUY, SELL (not 'HOLD')"),
        ("quantity = 1.5", "quantity = 0", "line 33: events[0].quantity: must be a number above zero (not 0)"),
        (
            "quantity = -2",
            'quantity = "some"',
            "line 26: accounts[0].positions[1].quantity: must be a number (not 'some')",
        ),
        ("average_cost = 180.01", "avg = 1", "line 23: accounts[0].positions[0].avg: unknown; known are average_cost"),
        (
            'symbol = "AAPL 28C"\nquantity',
            'symbol = "MSFT"\nquantity',
            "line 25: accounts[0].positions[1].symbol: must be one of AAPL",
        ),
        ('right = "C"', 'right = "X"', "line 13: instruments[1].right: must be 'C' or 'P'"),
        ("con_id = 7", "con_id = 265598", "line 11: instruments[1].con_id: must be given once (not 265598)"),
        ("con_id = 7", "", "line 9: instruments[1].con_id: must be a whole number"),
        ("EUR = 1.1", "", "line 3: rates.EUR: missing: the scenario uses this currency"),
        ('account = "U1"\nsymbol = "AAPL"\nside = "BUY"', 'side = "BUY"', "line 35: events[1].symbol: must be a text"),
        ("at = 10", "at = -1", "line 36: events[1].at: must be seconds from the start, zero or more"),
        ("price = 40", "price = 40\nprice = 41", "not TOML"),
        ('name = "tiny"', 'nmae = "tiny"', "line 1: nmae: unknown"),
    ],
)
def test_an_error_names_the_line_and_the_field(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ScenarioError) as caught:
        load_scenario(GOOD.replace(old, new))
    assert str(caught.value).startswith(message)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ScenarioError, match=r"cannot read the scenario '/no/such\.toml'"):
        load_scenario("/no/such.toml")


def test_a_round_must_fit_into_its_time() -> None:
    text = GOOD + '[rounds]\nevery = 10\n[[rounds.events]]\nat = 12\naccount = "U1"\nsymbol = "AAPL"\nside = "BUY"\nquantity = 1\n'
    with pytest.raises(ScenarioError, match=r"line 43: rounds.every: must be above the last event's at \(12\)"):
        load_scenario(text)


def test_a_correction_names_a_fill_of_its_own_list() -> None:
    with pytest.raises(ScenarioError, match=r"events\[2\].of: must be the name of a fill"):
        load_scenario(GOOD + '[[events]]\nat = 40\ntype = "correction"\nof = "nothing"\nquantity = 3\n')


def test_the_demo_has_two_accounts_twelve_positions_and_every_kind_of_instrument() -> None:
    demo = default_scenario()
    assert [account.currency for account in demo.accounts] == ["USD", "EUR"]
    assert sum(len(account.positions) for account in demo.accounts) == 12
    assert {one.sec_type for one in demo.instruments} == {"STK", "OPT", "FUT", "CRYPTO"}
    assert {one.currency for one in demo.instruments} == {"USD", "EUR"}
    assert min(p.quantity for account in demo.accounts for p in account.positions) < 0
    assert demo.events[0].at == 20


def test_a_round_of_the_demo_ends_as_it_began() -> None:
    moved: dict[tuple[str, int], Decimal] = {}
    for event in default_scenario().rounds.events:
        if event.type == "fill" and event.quantity is not None:
            key = (event.account, event.con_id)
            moved[key] = moved.get(key, Decimal(0)) + (event.quantity if event.side == "BUY" else -event.quantity)
    assert set(moved.values()) == {Decimal(0)}
