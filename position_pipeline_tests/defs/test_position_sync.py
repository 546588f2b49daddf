"""`position_sync` for real: over the wire from the simulated broker, through Dagster, into PostgreSQL."""

from __future__ import annotations

from decimal import Decimal

import dagster as dg
import psycopg2
import pytest

from position_pipeline.definitions import build_defs
from position_pipeline_tests.defs.conftest import rows
from position_pipeline_tests.defs.test_graph import ASSETS

FIRST, SECOND = "U1000001", "U1000002"
CLAIMS = (
    "snapshot_is_complete", "fills_have_commissions", "executions_have_no_gaps", "streams_are_whole", "quantities_match_broker", "lots_sum_to_positions",
    "positions_are_fresh", "positions_are_explained", "broker_cost_is_explained", "portfolio_value_adds_up", "cash_identity_holds", "closes_have_openings",
    "realized_pnl_ties_to_broker",
)  # fmt: skip
GREEN = dict.fromkeys(CLAIMS, True)


def book(store, account):
    """conId -> quantity, as `Simulator.holdings` gives it."""
    return {int(row["instrument"].partition(":")[2]): row["quantity"] for row in store.read.positions([account]) if row["quantity"]}


def held(sim, account):
    return {con_id: quantity for con_id, (quantity, _) in sim.holdings(account).items()}


def execute(database, sql):
    connection = psycopg2.connect(database)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql)
    connection.close()


def captures(sim):
    """How often the list of positions was asked for (message 61)."""
    return sum(request.message_id == 61 for request in sim.requests)


def test_a_run_is_green_and_holds_what_the_broker_holds(sync, sim, store):
    ran = sync()
    assert (ran.success, ran.failures) == (True, {})
    assert ran.passed == GREEN
    assert set(ran.made) == set(ASSETS)
    assert book(store, FIRST) == held(sim, FIRST)
    assert book(store, SECOND) == held(sim, SECOND)


def test_trades_between_two_runs_are_fills_closes_and_events(sync, sim, store):
    sync()
    sim.advance(130)  # adds AAPL, closes a part of SAP, opens XOM, flips TSLA
    ran = sync()
    assert ran.passed == GREEN
    assert book(store, FIRST) == held(sim, FIRST)
    assert ran.made["trade_executions"]["new_fills"] == 4
    assert ran.made["partial_close_pnl"]["closes"] == 2
    positions = ran.made["reconciled_positions"]
    assert positions["created"] == f"XOM ({FIRST})"
    assert positions["updated"] == f"AAPL ({FIRST}), TSLA ({FIRST}), SAP ({SECOND})"
    assert positions["unchanged"] == 9
    assert {row["Event"] for row in rows(ran.made["position_events"]["newest_events"])} >= {"increased", "reduced", "opened", "flipped"}


def test_the_realised_figures_are_exact_text_with_a_number_beside_them_to_plot(sync, sim, store):
    sync()
    sim.advance(15)
    sim.execute(SECOND, "SAP", "SELL", 30, "212.60", commission="3.10")
    shown = sync().made["partial_close_pnl"]
    # SAP was held at 172.3986: 30 * (212.60 - 172.3986) - 3.10 = 1202.942
    assert shown["net_pnl"] == "1202.942 EUR"
    assert shown["net_pnl_EUR"] == 1202.942
    assert rows(shown["newest_closes"])[0]["Net P&L"] == "1,202.94 EUR"
    assert store.read.closes()[0]["net_pnl"] == Decimal("1202.942")


def test_metadata_is_small_and_holds_no_exact_number_as_a_float(sync, sim):
    shown = sync().made["reconciled_positions"]
    assert shown["dagster/row_count"] == 12
    assert shown["open_positions"] == 12
    assert (shown["open_breaks"], shown["unpriced_positions"]) == (0, 0)
    assert shown["duration_ms"] >= shown["own_ms"] > 0
    table = rows(shown["largest_positions"])
    assert len(table) == 12
    assert table[0]["Position"] == f"ESZ7, {FIRST}"
    assert all(isinstance(cell, str) for row in table for cell in row.values())
    assert "EUR" in shown["market_value"]
    assert "USD" in shown["market_value"]


def test_a_run_asks_the_broker_once_and_logs_one_sync_an_account(sync, sim, store):
    sync()
    assert captures(sim) == 1
    assert store.read.totals()["total_runs"] == 1
    assert {row["account"]: row["outcome"] for row in store.read.last_sync()} == {FIRST: "synced", SECOND: "synced"}


def test_a_second_run_without_news_changes_nothing(sync, store):
    sync()
    before = store.read.positions(all_=True)
    ran = sync()
    assert ran.made["reconciled_positions"]["outcome"] == f"{FIRST} unchanged, {SECOND} unchanged"
    after = store.read.positions(all_=True)
    assert [{**row, "last_synced_at": None} for row in after] == [{**row, "last_synced_at": None} for row in before]


def test_the_trigger_is_the_runs_tag(sync, store):
    sync()
    assert {row["trigger"] for row in store.read.last_sync()} == {"manual"}
    assert sync(trigger="schedule").made["broker_snapshots"]["trigger"] == "schedule"
    assert {row["trigger"] for row in store.read.last_sync()} == {"schedule"}


def test_a_tag_names_the_accounts_to_sync(sync, sim, store):
    ran = sync(accounts=f" {SECOND} ,")
    assert ran.success
    assert ran.made["broker_snapshots"]["accounts"] == 1
    assert book(store, FIRST) == {}
    assert book(store, SECOND) == held(sim, SECOND)


def test_the_default_accounts_are_those_of_the_settings(sync, settings, brokers, database, store):
    limited = settings.model_copy(update={"default_account_id": SECOND})
    assert sync(given=build_defs(settings=limited, brokers=brokers, database_url=database)).success
    assert [row["account"] for row in store.read.accounts()] == [SECOND]


def test_a_rejected_answer_changes_no_position_and_the_run_goes_on_for_the_others(sync, sim, store):
    sync()
    before = store.read.positions([SECOND])
    sim.advance(15)
    sim.execute(FIRST, "AAPL", "BUY", 5)
    sim.execute(SECOND, "SAP", "SELL", 5)
    sim.inject(f"error:account-updates:code=321:account={SECOND}")
    ran = sync()
    assert ran.success
    assert ran.passed == {**GREEN, "snapshot_is_complete": False}
    check = ran.checks["snapshot_is_complete"]
    assert check.severity is dg.AssetCheckSeverity.ERROR
    assert rows(check.metadata["offending_rows"].value) == [{"account": SECOND, "status": "rejected"}]
    assert "refused" in check.metadata["evidence"].value
    assert store.read.positions([SECOND]) == before
    assert book(store, FIRST) == held(sim, FIRST)
    assert f"**{SECOND}** rejected: positions stay as they were." in ran.made["reconciled_positions"]["summary"]


def test_an_answer_that_lacks_a_symbol_is_a_warning(sync, sim):
    sync()
    sim.inject("garble:account-updates:symbol=SAP")
    ran = sync()
    assert ran.success
    check = ran.checks["snapshot_is_complete"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "SAP" in check.metadata["evidence"].value


def test_a_run_fails_when_no_account_answered_and_says_which_why_and_what_to_do(sync, sim, store):
    sync()
    before = store.read.positions()
    sim.inject("error:account-updates:code=321")
    ran = sync()
    assert not ran.success
    assert set(ran.failures) == {"broker_snapshots"}
    assert ran.made == {}
    assert ran.passed == {"snapshot_is_complete": False}
    (said,) = ran.failures.values()
    assert said.startswith("No account could be synced; every position stays as it was.")
    assert FIRST in said
    assert SECOND in said
    assert store.read.positions() == before
    assert {row["outcome"] for row in store.read.last_sync()} == {"rejected"}


def test_a_broker_that_is_away_is_told_with_a_remedy_and_is_on_record(sync, sim, store):
    sync()
    sim.inject("refuse")
    ran = sync("broker_snapshots")
    assert not ran.success
    assert f"{sim.host}:{sim.port}" in ran.failures["broker_snapshots"]
    assert not ran.checks["snapshot_is_complete"].passed
    assert {row["outcome"] for row in store.read.last_sync()} == {"failed"}


def test_a_position_that_changed_without_a_fill_is_a_difference_that_is_shown_and_does_not_move_the_book(sync, sim):
    """20 shares came and nothing tells why; a second answer may tell more."""
    sync()
    sim.transfer(FIRST, "NVDA", 20, "24096")
    ran = sync()
    assert ran.success
    assert ran.passed == {**GREEN, "quantities_match_broker": False, "portfolio_value_adds_up": False}
    check = ran.checks["quantities_match_broker"]
    assert check.severity is dg.AssetCheckSeverity.WARN
    (row,) = rows(check.metadata["offending_rows"].value)
    assert (row["symbol"], row["book"], row["broker"]) == ("NVDA", "20", "40")
    assert "The book holds 20, the broker 40 (+20)" in check.metadata["evidence"].value
    assert ran.made["reconciled_positions"]["open_breaks"] == 1
    quantities = {row["Position"]: row["Quantity"] for row in rows(ran.made["reconciled_positions"]["largest_positions"])}
    assert quantities[f"NVDA, {FIRST}"] == "20 (broker 40)"


def test_a_cost_that_somebody_changed_in_the_table_fails_the_run(sync, database):
    sync()
    execute(database, "UPDATE lots SET cost = cost + 0.0000000001 WHERE instrument = 'ibkr:272093' AND account = 'U1000001'")
    ran = sync()
    assert not ran.success
    assert ran.passed == {**GREEN, "cash_identity_holds": False, "lots_sum_to_positions": False}
    check = ran.checks["cash_identity_holds"]
    assert rows(check.metadata["offending_rows"].value) == [{"account": FIRST, "symbol": "MSFT", "off_by": "-0.0000000001 USD"}]
    assert check.metadata["expected"].value == "exactly 0 for each account and instrument"


def test_the_nightly_job_asks_no_broker_and_finds_what_somebody_changed(sync, sim, database):
    sync()
    asked = captures(sim)
    night = sync(job="book_verification")
    assert (night.success, night.passed, night.made) == (True, {"book_rebuilds_to_itself": True}, {})
    execute(database, "UPDATE lots SET commission = commission + 1 WHERE instrument = 'ibkr:272093' AND account = 'U1000001'")
    night = sync(job="book_verification")
    assert night.passed == {"book_rebuilds_to_itself": False}
    (row,) = rows(night.checks["book_rebuilds_to_itself"].metadata["offending_rows"].value)
    assert (row["account"], row["symbol"], row["table"], row["column"]) == (FIRST, "MSFT", "lots", "commission")
    assert captures(sim) == asked


@pytest.mark.parametrize(
    ("asset", "made"),
    [
        ("broker_snapshots", {"broker_snapshots"}),
        ("trade_executions", {"trade_executions"}),
        ("reconciled_positions", {"reconciled_positions", "partial_close_pnl", "position_events"}),
    ],
)
def test_each_asset_can_be_made_alone(sync, sim, store, asset, made):
    sim.execute(FIRST, "AAPL", "BUY", 5)
    ran = sync(*made if asset == "reconciled_positions" else (asset,))
    assert (ran.success, ran.failures) == (True, {})
    assert set(ran.made) == made
    assert len(store.read.latest_snapshots()) == 2
    assert len(store.read.executions()) == (0 if asset == "broker_snapshots" else 1)
    assert bool(store.read.positions()) == (asset != "broker_snapshots")


def test_a_step_alone_fails_too_when_no_account_answered(sync, sim):
    sim.inject("refuse")
    for names in (["trade_executions"], ["reconciled_positions", "partial_close_pnl", "position_events"]):
        ran = sync(*names)
        assert not ran.success
        (said,) = ran.failures.values()
        assert said.startswith("No account could be synced")


def test_the_checks_can_run_alone_and_ask_no_broker(sync, sim, defs, instance):
    sync()
    asked = captures(sim)
    selection = dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("reconciled_positions"), "quantities_match_broker"),
        dg.AssetCheckKey(dg.AssetKey("partial_close_pnl"), "cash_identity_holds"),
    )
    job = dg.define_asset_job("checks", selection=selection)
    resolved = dg.Definitions.merge(defs, dg.Definitions(jobs=[job])).resolve_job_def("checks")
    result = resolved.execute_in_process(instance=instance)
    assert [evaluation.passed for evaluation in result.get_asset_check_evaluations()] == [True, True]
    assert captures(sim) == asked


def test_a_database_without_tables_is_refused_in_the_words_that_help(sync, settings, brokers, empty_database):
    ran = sync(given=build_defs(settings=settings, brokers=brokers, database_url=empty_database))
    assert ran.failures == {"broker_snapshots": "The database has no tables of position_pipeline yet. Run: position-pipeline db upgrade"}


def test_a_database_of_a_newer_version_is_refused(sync, database):
    execute(database, "UPDATE alembic_version SET version_num = '9999'")
    assert "newer than this version's" in sync().failures["broker_snapshots"]


def test_a_database_that_is_away_is_told_without_its_password(sync, settings, brokers):
    url = "postgresql://me:hidden-word@127.0.0.1:1/nothing"
    said = sync(given=build_defs(settings=settings, brokers=brokers, database_url=url)).failures["broker_snapshots"]
    assert said.startswith("PostgreSQL at 127.0.0.1:1/nothing cannot be used")
    assert "hidden-word" not in said


def test_where_no_broker_is_configured_the_run_says_how_to_get_one(sync, settings, database):
    said = sync(given=build_defs(settings=settings, database_url=database)).failures["broker_snapshots"]
    assert said.startswith("No broker is configured.")


def test_an_account_that_is_being_synced_elsewhere_is_waited_for(sync, sim, database):
    import threading
    import time

    from position_pipeline.store import Store

    sync()
    let_go = threading.Event()

    def hold() -> None:
        with Store(database) as other, other.syncing(FIRST, wait=False) as free:
            assert free
            held_lock.set()
            let_go.wait(30)

    held_lock = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held_lock.wait(10)
    threading.Timer(0.8, let_go.set).start()
    began = time.monotonic()
    ran = sync()
    assert ran.success
    assert time.monotonic() - began > 0.7
    holder.join()


def test_after_a_run_the_accounts_are_free_and_no_connection_is_left(sync, database, store):
    sync()
    with store.syncing(FIRST, wait=False) as free:
        assert free
    connection = psycopg2.connect(database)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'position_pipeline'"
        )
        assert cursor.fetchone() == (1,)  # the test's own store
    connection.close()
