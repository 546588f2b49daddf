"""What happens to an account besides its listed trades: from the simulated broker's socket to the check, its rows, the break and the alert.

Real definitions on a real database in a real Dagster instance; messages arrive at a real HTTP receiver through the sensor `alerts`. The
window for what is only late is 0 here where nothing else is said: a difference is looked into when two answers have shown it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from pydantic import SecretStr

from position_pipeline.definitions import build_defs
from position_pipeline.settings import Settings
from position_pipeline.simulator import Simulator, default_scenario
from position_pipeline.simulator.scenario import Account, Instrument, Opening, Scenario
from position_pipeline.statements import import_file
from position_pipeline_tests.alert_receivers import webhook
from position_pipeline_tests.brokers.flex_file import flex_file, trade
from position_pipeline_tests.defs.conftest import rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from position_pipeline_tests.alert_receivers import Webhook

FIRST, SECOND = "U1000001", "U1000002"
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
KO_SHARES, KO_PUT, XOM_CALL = 8894, 900_001, 900_002
PUT_NAME, CALL_NAME = "KO 240119P00070000", "XOM 240119C00140000"
"""Options whose last day is long over: that they are gone tells the same on every day on which this is run."""


def _scenario() -> Scenario:
    """The demo without its events, with 2 puts on KO that were sold and 3 calls on XOM that were bought; those have expired."""
    demo = default_scenario()
    put = _option(KO_PUT, ("KO", KO_SHARES), "KO    240119P00070000", price="1.20")
    call = _option(XOM_CALL, ("XOM", 13977), "XOM   240119C00140000", price="0.01")
    first, second = demo.accounts
    options = (Opening(KO_PUT, Decimal(-2), Decimal("119.00")), Opening(XOM_CALL, Decimal(3), Decimal("85.00")))
    accounts: tuple[Account, ...] = (replace(first, positions=(*first.positions, *options)), second)
    return replace(demo, instruments=(*demo.instruments, put, call), accounts=accounts)


def _option(con_id: int, under: tuple[str, int], local_symbol: str, *, price: str) -> Instrument:
    """`local_symbol` as the exchanges write it: `KO    240119P00070000` is a put at 70 of 19 January 2024."""
    symbol, under_con_id = under
    return Instrument(
        con_id, symbol, "OPT", multiplier=Decimal(100), expiry=f"20{local_symbol[6:12]}", strike=Decimal(local_symbol[13:]) / 1000,
        right=local_symbol[12], local_symbol=local_symbol, trading_class=symbol, long_name=symbol, under_con_id=under_con_id, price=Decimal(price),
    )  # fmt: skip


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(_scenario(), speed=0, executions_since="week") as running:
        yield running


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as receiver:
        yield receiver


@pytest.fixture
def settings(tmp_path, hook):
    return Settings(home=tmp_path, broker_timeout=10, alerts=SecretStr(hook.url), timing_window=0)


@pytest.fixture
def look(defs, instance, sync):
    """Some runs of `position_sync`, with two ticks of the sensor after each: what is told twice is seen to be."""

    def run(times: int = 1, given: dg.Definitions = defs):
        for _ in range(times):
            ran = sync(given=given)
            for _ in range(2):
                context = dg.build_sensor_context(instance=instance, definitions=given)
                given.resolve_sensor_def("alerts").evaluate_tick(context)
        return ran

    return run


@pytest.fixture
def with_settings(settings, brokers, database):
    """The definitions with other settings."""

    def given(**changes):
        return build_defs(settings=settings.model_copy(update=changes), brokers=brokers, database_url=database)

    return given


def failed(ran):
    """The checks that fail, with their severities."""
    return {name: check.severity for name, check in ran.checks.items() if not check.passed}


def offending(ran, check="quantities_match_broker"):
    """The rows that break a claim, without since when."""
    found = ran.checks[check].metadata["offending_rows"].value
    return [{name: cell for name, cell in row.items() if name != "since"} for row in rows(found)]


def evidence(ran, check="quantities_match_broker"):
    return ran.checks[check].metadata["evidence"].value


def differs(symbol, book, broker, account=FIRST):
    return {"account": account, "symbol": symbol, "book": book, "broker": broker}


def breaks(store, *, all_=False):
    """(symbol, class, status) of each break."""
    return [(row["symbol"], row["class"], row["status"]) for row in store.read.breaks(all_=all_)]


def position(store, symbol, account=FIRST):
    (row,) = [row for row in store.read.positions([account], all_=True) if row["symbol"] == symbol]
    return row


def held(store, symbol, account=FIRST):
    row = position(store, symbol, account)
    return row["quantity"], row["broker_quantity"]


def events(store, symbol):
    return [row["type"] for row in store.read.events([FIRST]) if row["symbol"] == symbol]


def kinds(store):
    """The adjustments that are no opening balances."""
    return sorted((row["kind"], row["symbol"]) for row in store.read.adjustments() if row["kind"] != "opening_balance")


# -- explained by two signs: booked at once, every check green, nothing told


@pytest.mark.parametrize("ratio", [(10, 1), (1, 10)], ids=["split", "reverse split"])
def test_a_split_without_trades_is_booked_at_its_cost(look, sim, store, hook, ratio):
    look()
    sim.split("NVDA", *ratio)
    after = 20 * ratio[0] // ratio[1]
    ran = look()
    assert (ran.success, failed(ran)) == (True, {})
    assert held(store, "NVDA") == (after, after)
    assert position(store, "NVDA")["cost"] == Decimal("17462.21")  # 20 * 873.1105, before and after
    assert events(store, "NVDA") == ["opened", "split"]
    assert breaks(store, all_=True) == [("NVDA", "split", "resolved")]
    (row,) = store.read.breaks(all_=True)
    assert len(row["signs"]) == 3
    assert ran.made["reconciled_positions"]["updated"] == f"NVDA ({FIRST})"
    assert hook.messages == []


def test_an_assignment_moves_the_premium_to_the_shares(look, sim, store, hook):
    """2 puts sold at 1.19 are assigned at 70: 200 shares for 14,000 less the premium of 238 cost 13,762, 68.81 each; nothing is realised."""
    look()
    sim.deliver(FIRST, KO_PUT, 2, KO_SHARES)
    ran = look()
    assert (ran.success, failed(ran)) == (True, {})
    assert (held(store, PUT_NAME), held(store, "KO")) == ((0, 0), (200, 200))
    assert position(store, "KO")["average_price"] == Decimal("68.81")
    assert store.read.closes() == [] or all(row["net_pnl"] == 0 for row in store.read.closes())
    assert kinds(store) == [("assignment", PUT_NAME), ("delivery", "KO")]
    assert events(store, PUT_NAME) == ["opened", "assigned"]
    assert sorted(breaks(store, all_=True)) == [("KO", "option_event", "resolved"), (PUT_NAME, "option_event", "resolved")]
    assert hook.messages == []


def test_an_option_that_ended_worthless_is_closed_at_nothing(look, sim, store, hook):
    """3 calls that cost 85 each expire: -255."""
    look()
    sim.expire(XOM_CALL)
    ran = look()
    assert (ran.success, failed(ran)) == (True, {})
    assert held(store, CALL_NAME) == (0, 0)
    assert [row["net_pnl"] for row in store.read.closes()] == [-255]
    assert events(store, CALL_NAME) == ["opened", "expired"]
    assert breaks(store, all_=True) == [(CALL_NAME, "option_event", "resolved")]
    assert hook.messages == []


def test_a_correction_and_a_bust_replay_the_fill(look, sim, store, hook):
    """50 at 117.45 become 40 at 117.40, and then nothing."""
    look()
    fill = sim.execute(FIRST, "XOM", "BUY", 50, "117.45")
    assert failed(look()) == {}
    corrected = sim.correct(fill, quantity=40, price="117.40")
    assert corrected.endswith(".02")
    assert failed(look()) == {}
    assert (held(store, "XOM"), position(store, "XOM")["cost"]) == ((40, 40), Decimal("4696.00"))
    sim.bust(corrected)
    assert failed(look()) == {}
    assert held(store, "XOM") == (0, 0)
    assert (breaks(store, all_=True), hook.messages) == ([], [])


# -- only late


def test_a_sale_elsewhere_whose_fill_is_late_waits_and_is_cleared_by_the_fill(look, sim, store, hook, with_settings):
    patient = with_settings(timing_window=900)
    look(given=patient)
    sim.execute(FIRST, "MSFT", "SELL", 40, "428.15", commission="1.00")
    sim.inject("omit:executions:symbol=MSFT")
    ran = look(3, given=patient)
    assert ran.success
    assert failed(ran) == {"quantities_match_broker": WARN, "portfolio_value_adds_up": WARN}
    assert offending(ran) == [differs("MSFT", "40", "0")]
    assert "A fill of it may still come" in evidence(ran)
    assert (
        ran.checks["quantities_match_broker"].metadata["expected"].value == "positions that differ from the broker's last proven answer: 0"
    )
    assert ran.checks["quantities_match_broker"].metadata["actual"].value == "positions that differ from the broker's last proven answer: 1"
    assert breaks(store) == [("MSFT", "timing", "open")]
    assert store.read.breaks()[0]["expected_clear_at"] - store.read.breaks()[0]["first_seen_at"] == timedelta(minutes=15)
    assert held(store, "MSFT") == (40, 0)
    sim.heal()
    assert failed(look(given=patient)) == {}
    assert breaks(store, all_=True) == [("MSFT", "timing", "resolved")]
    # 40 * (428.15 - 402.155) - 1.00 = 1038.80
    assert [row["net_pnl"] for row in store.read.closes()] == [Decimal("1038.80")]
    assert hook.messages == []


# -- gone, with no fill


def test_a_position_that_is_gone_is_not_closed_and_is_told_once_until_its_fill_comes(look, sim, store, hook):
    look()
    sim.execute(FIRST, "MSFT", "SELL", 40, "428.15", commission="1.00")
    sim.inject("omit:executions:symbol=MSFT")
    ran = look(4)
    assert failed(ran) == {"quantities_match_broker": ERROR, "portfolio_value_adds_up": WARN}
    assert offending(ran) == [differs("MSFT", "40", "0")]
    assert "A sale of 40 that no fill tells: cash in USD moved by 17125" in evidence(ran)  # 40 * 428.15 - 1
    assert breaks(store) == [("MSFT", "missing_fill", "open")]
    assert held(store, "MSFT") == (40, 0)
    assert store.read.closes() == []
    (message,) = hook.messages
    assert message["title"] == f"New: MSFT in {FIRST}: book 40, broker 0"
    (row,) = store.read.breaks()
    assert f"What helps: position-pipeline breaks show {row['id']}" in message["message"]
    assert "worth 17,126.00 USD" in message["message"]
    sim.heal()
    assert failed(look(2)) == {}
    assert held(store, "MSFT") == (0, 0)
    assert breaks(store, all_=True) == [("MSFT", "missing_fill", "resolved")]
    assert hook.titles()[1:] == [f"Recovered: MSFT in {FIRST}: book 40, broker 0"]


def test_with_the_setting_two_complete_answers_close_what_is_gone_and_the_fill_takes_its_place(look, sim, store, hook, with_settings):
    closing = with_settings(mark_missing_as_closed=True)
    look(given=closing)
    sim.execute(FIRST, "MSFT", "SELL", 40, "428.15", commission="1.00")
    sim.inject("omit:executions:symbol=MSFT")
    assert offending(look(given=closing)) == [differs("MSFT", "40", "0")]
    assert failed(look(given=closing)) == {"positions_are_explained": WARN}
    assert held(store, "MSFT") == (0, 0)
    assert kinds(store) == [("adopted", "MSFT")]
    (row,) = store.read.breaks()
    assert (row["class"], row["status"], bool(row["adopted"])) == ("missing_fill", "open", True)
    assert [row["net_pnl"] for row in store.read.closes()] == [None]  # nobody knows yet what it was sold at
    assert hook.titles() == [f"New: MSFT in {FIRST}: the book follows the broker's 0 unexplained"]
    sim.heal()
    assert failed(look(given=closing)) == {}
    assert [row["net_pnl"] for row in store.read.closes()] == [Decimal("1038.80")]
    assert breaks(store) == []
    assert hook.titles()[1:] == [f"Recovered: MSFT in {FIRST}: the book follows the broker's 0 unexplained"]


# -- answers that are not whole


@pytest.mark.parametrize("fault", [("truncate:positions:after=4", 4), ("empty:positions", 0)], ids=["half", "none"])
def test_half_a_list_and_no_list_change_nothing(look, sim, store, hook, fault):
    look()
    fault, listed = fault
    before = store.read.positions([FIRST])
    sim.inject(f"{fault}:account={FIRST}")
    ran = look(3)
    check = "snapshot_is_complete"
    assert (ran.success, failed(ran)) == (True, {check: ERROR})
    assert offending(ran, check) == [{"account": FIRST, "status": "rejected"}]
    assert evidence(ran, check).startswith(
        f"{FIRST}: its two lists contradict each other, the positions list has {listed} holdings, the portfolio"
    )
    assert ran.checks[check].metadata["expected"].value == "2 of 2 accounts gave a complete answer"
    assert ran.checks[check].metadata["actual"].value == "1 of 2 accounts gave a complete answer"
    assert store.read.positions([FIRST]) == before
    assert breaks(store, all_=True) == []
    (message,) = hook.messages
    assert message["title"] == "New: snapshot_is_complete failed (broker_snapshots)"
    assert f"The answers for {FIRST} cannot be used; the positions stay as they were." in message["message"]
    sim.heal()
    assert failed(look()) == {}
    assert hook.titles()[1:] == ["Recovered: snapshot_is_complete failed (broker_snapshots)"]


def test_when_most_positions_are_gone_at_once_nothing_is_closed_and_one_alarm_goes_out(look, sim, store, hook, with_settings):
    """7 of 10 are gone, and the account's totals agree: closing what is missing is on, and does not count here."""
    closing = with_settings(mark_missing_as_closed=True)
    look(given=closing)
    before = {row["symbol"]: row["quantity"] for row in store.read.positions([FIRST])}
    holdings = sim.holdings(FIRST)
    gone = [con_id for con_id in holdings if con_id not in (649180678, KO_PUT, XOM_CALL)]
    for con_id in gone:
        sim.transfer(FIRST, con_id, -holdings[con_id][0])
    ran = look(4, given=closing)
    assert failed(ran)["quantities_match_broker"] is ERROR
    assert len(offending(ran)) == len(gone) == 7
    assert "Too much is gone from this answer at once: nothing is closed" in evidence(ran)
    assert {row["symbol"]: row["quantity"] for row in store.read.positions([FIRST])} == before
    assert (None, "snapshot_incomplete", "open") in breaks(store)
    (message,) = hook.messages
    assert message["title"] == f"New: {FIRST}: the broker's answer as a whole is doubtful (snapshot_incomplete)"
    assert f"7 of 10 positions of {FIRST} are gone" in message["message"]
    for con_id in gone:
        sim.transfer(FIRST, con_id, holdings[con_id][0], holdings[con_id][0] * holdings[con_id][1])
    assert failed(look(given=closing)) == {}
    assert breaks(store) == []
    assert hook.titles()[1:] == [f"Recovered: {FIRST}: the broker's answer as a whole is doubtful (snapshot_incomplete)"]


# -- came without a fill


def test_units_that_came_at_a_cost_of_their_own_and_for_no_cash_are_a_transfer(look, sim, store, hook):
    look()
    sim.transfer(FIRST, "XOM", 50, "4500")
    ran = look()
    assert offending(ran) == [differs("XOM", "0", "50")]
    assert breaks(store) == [("XOM", "timing", "open")]  # account values may be older than holdings: only a second answer says it
    assert failed(look()) == {}
    assert breaks(store, all_=True) == [("XOM", "transfer", "resolved")]
    assert (position(store, "XOM")["cost"], position(store, "XOM")["basis_quality"]) == (4500, "broker")
    assert (kinds(store), events(store, "XOM")) == ([("transfer", "XOM")], ["transferred"])
    assert hook.messages == []


def test_what_was_adopted_gives_way_to_the_fill(look, sim, store, hook):
    """Bought elsewhere at 117.45, and no fill tells it: by the broker's averages the 50 cost 5,872.50 and a dollar of commission."""
    look()
    sim.execute(FIRST, "XOM", "BUY", 50, "117.45", commission="1.00")
    sim.inject("omit:executions:symbol=XOM")
    assert failed(look())["quantities_match_broker"] is WARN
    ran = look(3)
    assert failed(ran) == {"positions_are_explained": WARN}
    assert offending(ran, "positions_are_explained") == [{**differs("XOM", "50", "50"), "class": "missing_fill"}]
    assert "50 of its quantity rest on nothing but the broker's list" in evidence(ran, "positions_are_explained")
    assert position(store, "XOM")["basis_quality"] == "broker"
    assert position(store, "XOM")["cost"] == Decimal("5873.50")
    (row,) = store.read.breaks()
    assert (row["class"], row["status"], bool(row["adopted"])) == ("missing_fill", "open", True)
    assert hook.titles() == [f"New: XOM in {FIRST}: the book follows the broker's 50 unexplained"]
    sim.heal()
    assert failed(look()) == {}
    shown = position(store, "XOM")
    assert (shown["basis_quality"], shown["cost"], shown["open_commission"]) == ("fills", Decimal("5872.50"), 1)
    assert breaks(store) == []
    assert hook.titles()[1:] == [f"Recovered: XOM in {FIRST}: the book follows the broker's 50 unexplained"]


def test_what_was_adopted_gives_way_to_the_statement(look, sim, store, hook, tmp_path):
    """The API never lists the fill; the statement tells 50 at 117.45 and a commission of 1.00."""
    look()
    fill = sim.execute(FIRST, "XOM", "BUY", 50, "117.45", commission="1.00")
    sim.inject("omit:executions:symbol=XOM")
    look(2)
    assert kinds(store) == [("adopted", "XOM")]
    import_file(store, statement_of(tmp_path, fill, sim.now), "fifo", lambda *_: None)
    assert failed(look()) == {}
    shown = position(store, "XOM")
    assert (shown["basis_quality"], shown["quantity"], shown["cost"]) == ("fills", 50, Decimal("5872.50"))
    assert breaks(store, all_=True) == [("XOM", "missing_fill", "resolved")]
    assert [title.partition(":")[0] for title in hook.titles()] == ["New", "Recovered"]


def statement_of(folder: Path, execution_id: str, at: datetime) -> Path:
    """A Flex statement of the day with one purchase of XOM."""
    local = at.astimezone(ZoneInfo("America/New_York"))
    stock = {"accountId": FIRST, "conid": "13977", "symbol": "XOM"}
    bought = trade(1, "50", "117.45", ibExecID=execution_id, dateTime=f"{local:%Y%m%d;%H%M%S}", tradeDate=f"{local:%Y%m%d}", **stock)
    path = folder / "day.xml"
    path.write_bytes(flex_file(bought, account=FIRST, start=f"{local:%Y%m%d}", end=f"{local:%Y%m%d}"))
    return path


def test_where_a_person_is_to_be_asked_nothing_is_adopted(look, sim, store, hook, with_settings):
    asking = with_settings(on_unexplained="ask")
    look(given=asking)
    sim.execute(FIRST, "XOM", "BUY", 50, "117.45")
    sim.inject("omit:executions:symbol=XOM")
    ran = look(3, given=asking)
    assert failed(ran) == {"quantities_match_broker": ERROR, "portfolio_value_adds_up": WARN}
    assert (held(store, "XOM"), breaks(store)) == ((0, 50), [("XOM", "missing_fill", "open")])
    assert hook.titles() == [f"New: XOM in {FIRST}: book 0, broker 50"]


def test_one_fill_under_two_ids_is_a_break_with_what_to_take_out_and_a_person_settles_it(look, sim, store, hook, with_settings):
    asking = with_settings(on_unexplained="ask")
    look(given=asking)
    sim.inject("second-id")
    sim.execute(FIRST, "XOM", "BUY", 50, "117.45", time=sim.now - timedelta(minutes=5))
    ran = look(3, given=asking)
    assert failed(ran)["quantities_match_broker"] is ERROR
    assert offending(ran) == [differs("XOM", "100", "50")]
    assert "is in the book twice, under another id" in evidence(ran)
    (row,) = store.read.breaks()
    assert (row["class"], row["can_be_accepted"]) == ("duplicate_fill", True)
    store.decisions.accept(row["id"], by="desk", why="one fill", second_name_above=None)
    assert failed(look(given=asking)) == {}
    assert held(store, "XOM") == (50, 50)
    assert breaks(store) == []
    assert [title.partition(":")[0] for title in hook.titles()] == ["New", "Recovered"]


# -- costs


def test_a_cost_that_the_broker_counts_otherwise_is_told_and_ours_stays(look, sim, store, hook):
    """The lots of MSFT are replaced at the broker: 40 at 300 in place of 40 at 402.155, which no method and no commission explains."""
    look()
    sim.transfer(FIRST, "MSFT", -40)
    sim.transfer(FIRST, "MSFT", 40, "12000")
    ran = look(2)
    assert failed(ran) == {"broker_cost_is_explained": WARN}
    assert offending(ran, "broker_cost_is_explained") == [{"account": FIRST, "symbol": "MSFT"}]
    assert "The book's cost by fifo is 16086.2" in evidence(ran, "broker_cost_is_explained")  # 40 * 402.155
    assert "the broker's is 12000 (300 a unit)" in evidence(ran, "broker_cost_is_explained")
    assert position(store, "MSFT")["cost"] == Decimal("16086.20")
    assert breaks(store) == [("MSFT", "cost_method", "open")]
    assert hook.titles() == [f"New: MSFT in {FIRST}: cost differs"]


def test_another_method_explains_the_brokers_average(look, sim, store, hook):
    """Of 40 at 402.155 and 40 at 500 the first 40 go: what is left costs 500 by FIFO and 451.0775 by the broker's average."""
    look()
    sim.execute(FIRST, "MSFT", "BUY", 40, "500", commission="0")
    sim.execute(FIRST, "MSFT", "SELL", 40, "428", commission="0")
    assert failed(look(2)) == {}
    shown = position(store, "MSFT")
    assert (shown["average_price"], shown["broker_average_price"]) == (500, Decimal("451.0775"))
    assert (breaks(store, all_=True), hook.messages) == ([], [])
