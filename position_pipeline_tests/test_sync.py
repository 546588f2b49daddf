"""One pass over the brokers: what it says of itself is true, it is on record, and whatever fails changes no position."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from textwrap import dedent

import pytest

from position_pipeline.accounting.circumstances import Policy
from position_pipeline.accounting.model import AdjustmentKind, Basis
from position_pipeline.brokers import BrokerUnavailable, RefusedRow
from position_pipeline.brokers.ibkr import IbkrBroker
from position_pipeline.listener_hearing import Health
from position_pipeline.simulator import Account, Instrument, Opening, Scenario, Simulator, default_scenario
from position_pipeline.store import DatabaseUnavailable, Store, syncing
from position_pipeline.sync import shared_out, sync
from position_pipeline.sync_pass import SyncPass
from position_pipeline_tests.scenarios import (
    AAPL,
    ACCOUNT,
    BROKER,
    CALL,
    EVERYTHING,
    KO,
    OTHER_ACCOUNT,
    SAP,
    TSLA,
    adjustment,
    buy,
    capture,
    holding,
    rejected,
    sell,
    snapshot,
)
from position_pipeline_tests.store.conftest import identities
from position_pipeline_tests.store.tables import TABLES, query, rows, versions

D = Decimal


class FakeBroker:
    """A broker that gives one answer after the other; an exception among them is raised. The last answer stays."""

    def __init__(self, *answers, name: str = BROKER) -> None:
        self.name, self.where, self.accounts = name, f"the fake at {name}:4002", ()
        self.answers = list(answers)
        self.asked: list[list[str] | None] = []

    def capture(self, accounts, timeout):
        self.asked.append(None if accounts is None else list(accounts))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        wanted = [each for each in answer.snapshots if accounts is None or each.account in accounts]
        return replace(answer, snapshots=tuple(wanted), received_at=datetime.now(UTC))


UNREACHABLE = BrokerUnavailable("the fake at ibkr:4002: connection refused.", "Start TWS.")
HELD = snapshot(holding(AAPL, 10, 100, price=105), holding(KO, 5, 60))
OTHERS = snapshot(holding(SAP, 3, 200), account=OTHER_ACCOUNT)


def run(store, *brokers, accounts=(), **more):
    return sync(store, brokers, accounts, **{"trigger": "manual", "timeout": 5, **more})


def only(results):
    (result,) = results
    return result


def book_of(store, account=ACCOUNT) -> dict[str, Decimal]:
    return {row["symbol"]: row["quantity"] for row in store.read.positions([account], all_=True)}


def log(store) -> list[tuple]:
    return [(row["account"], row["outcome"]) for row in rows(store, "SELECT account, outcome FROM syncs ORDER BY id")]


@pytest.fixture
def met(store):
    """A store that has met its broker: 10 AAPL and 5 KO."""
    run(store, FakeBroker(capture(HELD)))
    return store


# What a pass says


def test_the_first_pass_takes_the_account_in_and_creates_its_positions(store):
    result = only(run(store, FakeBroker(capture(HELD))))
    assert (result.account, result.connection, result.trigger, result.outcome) == (ACCOUNT, BROKER, "manual", "synced")
    assert (result.created, result.updated, result.closed, result.unchanged, result.fills) == (("AAPL", "KO"), (), (), 0, 0)
    assert (result.errors, result.snapshot_status, result.open_breaks, result.good) == ((), "complete", 0, True)
    account = store.read.accounts()[0]
    assert (account["base_currency"], account["connection"], account["positions"]) == ("USD", BROKER, 2)


def test_a_fill_that_the_listener_heard_of_just_after_the_first_answer_is_no_part_of_what_was_held_before(store):
    """The answer of 3600 has 10 AAPL; 2 more are bought in its second, recorded before the answer is looked at, and not listed with it."""
    store.add_account(ACCOUNT, "ibkr", connection=BROKER)
    store.record(ACCOUNT, [buy(AAPL, 2, 101, at=3600)], (), EVERYTHING)
    run(store, FakeBroker(capture(HELD)))
    assert book_of(store) == {"AAPL": 12, "KO": 5}
    fills = (buy(AAPL, 2, 101, at=3600),)
    result = only(run(store, FakeBroker(capture(snapshot(holding(AAPL, 12, 100), holding(KO, 5, 60), at=3900), fills=fills))))
    assert (result.open_breaks, book_of(store)) == (0, {"AAPL": 12, "KO": 5})


def test_a_fill_that_is_listed_with_the_first_answer_is_a_part_of_what_it_holds(store):
    store.add_account(ACCOUNT, "ibkr", connection=BROKER)
    fills = (buy(AAPL, 2, 101, at=3600),)
    store.record(ACCOUNT, fills, (), EVERYTHING)
    run(store, FakeBroker(capture(HELD, fills=fills)))
    assert book_of(store) == {"AAPL": 10, "KO": 5}


def test_nothing_new_is_unchanged(met):
    result = only(run(met, FakeBroker(capture(HELD))))
    assert (result.outcome, result.created, result.updated, result.closed, result.unchanged) == ("unchanged", (), (), (), 2)
    assert result.good


def test_a_price_that_moved_is_no_change_of_a_position(met):
    moved = snapshot(holding(AAPL, 10, 100, price=106), holding(KO, 5, 60), at=3700)
    assert only(run(met, FakeBroker(capture(moved)))).outcome == "unchanged"
    assert met.read.positions()[0]["market_price"] == 106


def test_fills_open_change_and_close_positions(met):
    fills = (sell(AAPL, 10, 110, at=3650, fee=1), buy(KO, 2, 61, at=3650), sell(TSLA, 3, 200, at=3650))
    after = snapshot(holding(KO, 7, "60.3"), holding(TSLA, -3, 200), at=3700)
    result = only(run(met, FakeBroker(capture(after, fills=fills))))
    assert (result.outcome, result.created, result.updated, result.closed) == ("synced", ("TSLA",), ("KO",), ("AAPL",))
    assert (result.unchanged, result.fills, result.open_breaks) == (0, 3, 0)
    assert only(run(met, FakeBroker(capture(after, fills=fills)))).outcome == "unchanged"


def test_a_position_that_turns_from_long_to_short_is_updated(met):
    after = snapshot(holding(AAPL, -5, 110), holding(KO, 5, 60), at=3700)
    result = only(run(met, FakeBroker(capture(after, fills=(sell(AAPL, 15, 110, at=3650),)))))
    assert (result.created, result.updated, result.closed, result.unchanged) == ((), ("AAPL",), (), 1)


def test_what_was_sold_today_before_we_met_is_neither_created_nor_closed(store):
    result = only(run(store, FakeBroker(capture(snapshot(holding(KO, 5, 60)), fills=(sell(AAPL, 10, 110),)))))
    assert (result.created, result.updated, result.closed, result.open_breaks) == (("KO",), ("AAPL",), (), 0)
    assert book_of(store) == {"AAPL": 0, "KO": 5}


def test_what_came_and_went_between_two_syncs_is_created_and_closed(met):
    fills = (buy(TSLA, 3, 200, at=3650), sell(TSLA, 3, 210, at=3660))
    result = only(run(met, FakeBroker(capture(replace(HELD, taken_at=HELD.taken_at + timedelta(seconds=100)), fills=fills))))
    assert (result.created, result.updated, result.closed, result.unchanged) == (("TSLA",), (), ("TSLA",), 2)


def test_a_fill_that_is_corrected_after_its_position_was_closed_is_an_update(met):
    fills = (buy(TSLA, 3, 200, at=3650, name="b"), sell(TSLA, 3, 210, at=3660))
    later = replace(HELD, taken_at=HELD.taken_at + timedelta(seconds=100))
    run(met, FakeBroker(capture(later, fills=fills)))
    result = only(run(met, FakeBroker(capture(later, fills=(*fills, buy(TSLA, 3, 201, at=3650, name="b", revision=2))))))
    assert (result.created, result.updated, result.closed) == ((), ("TSLA",), ())


def test_a_pass_does_with_differences_what_the_policy_says(met):
    for number, policy in enumerate((Policy(adopts=False), Policy(adopts=False), Policy()), 1):
        answer = snapshot(holding(AAPL, "12.37", 100), holding(KO, 5, 60), at=3600 + 1000 * number)
        result = only(run(met, FakeBroker(capture(answer)), policy=policy))
    assert (result.updated, result.open_breaks, book_of(met)["AAPL"]) == (("AAPL",), 1, D("12.37"))
    assert (result.outcome, result.good) == ("synced", True)


def test_a_commission_that_came_is_a_change(met):
    fill = sell(AAPL, 4, 110, at=3650, fee=None, name="s")
    after = snapshot(holding(AAPL, 6, 100), holding(KO, 5, 60), at=3700)
    run(met, FakeBroker(capture(after, fills=(fill,))))
    result = only(run(met, FakeBroker(capture(after, fills=(fill._replace(commission=D(1), commission_currency="USD"),)))))
    assert (result.outcome, result.updated, result.fills) == ("synced", ("AAPL",), 0)
    assert met.read.closes()[0]["net_pnl"] == 39  # 4 x (110 - 100) - 1


def test_a_break_is_an_update_once_and_stays_open(met):
    differing = snapshot(holding(AAPL, 12, 100, price=105), holding(KO, 5, 60), at=3700)
    first, second = (only(run(met, FakeBroker(capture(differing)))) for _ in range(2))
    assert (first.outcome, first.updated, first.open_breaks) == ("synced", ("AAPL",), 1)
    assert (second.outcome, second.updated, second.unchanged, second.open_breaks) == ("unchanged", (), 2, 1)


def test_results_can_be_printed_and_are_what_the_log_says(met):
    fills = (buy(KO, 1, 61, at=3650),)
    after = snapshot(holding(AAPL, 10, 100), holding(KO, 6, 60), at=3700)
    result = only(run(met, FakeBroker(capture(after, fills=fills)), trigger="schedule"))
    json.dumps({**asdict(result), "started_at": result.started_at.isoformat()})
    (row,) = met.read.last_sync()
    same = (
        "account",
        "connection",
        "trigger",
        "started_at",
        "outcome",
        "unchanged",
        "fills",
        "snapshot_id",
        "snapshot_status",
        "duration_ms",
    )
    assert {name: row[name] for name in same} == {name: getattr(result, name) for name in same}
    assert (row["updated"], float(row["own_ms"])) == (["KO"], result.own_ms)
    assert 0 < result.own_ms < result.duration_ms + 1


def test_own_work_leaves_out_the_time_that_the_broker_took(store):
    class Slow(FakeBroker):
        def capture(self, accounts, timeout):
            time.sleep(0.5)
            return super().capture(accounts, timeout)

    result = only(run(store, Slow(capture(HELD))))
    assert result.duration_ms >= 500
    assert result.own_ms < 450


# What goes wrong


def test_a_broker_that_is_away_changes_nothing_and_every_account_has_its_row(met):
    run(met, FakeBroker(capture(HELD, OTHERS)))
    before = versions(met, *TABLES)
    results = run(met, FakeBroker(UNREACHABLE))
    assert {(r.account, r.outcome, r.errors, r.snapshot_status) for r in results} == {
        (ACCOUNT, "failed", (("", "the fake at ibkr:4002: connection refused. Start TWS."),), None),
        (OTHER_ACCOUNT, "failed", (("", "the fake at ibkr:4002: connection refused. Start TWS."),), None),
    }
    assert versions(met, *TABLES) == before
    assert log(met)[-2:] == [(ACCOUNT, "failed"), (OTHER_ACCOUNT, "failed")]
    assert met.read.last_error()["errors"] == [{"symbol": "", "error": str(UNREACHABLE)}]


def test_where_no_account_is_known_yet_the_connection_stands_for_them(store):
    result = only(run(store, FakeBroker(UNREACHABLE)))
    assert (result.account, result.outcome) == (BROKER, "failed")
    assert log(store) == [(BROKER, "failed")]


def test_a_fault_of_one_adapter_is_told_and_does_not_stop_the_others(store):
    results = run(store, FakeBroker(ZeroDivisionError("division by zero"), name="broken"), FakeBroker(capture(HELD)))
    assert [(r.account, r.outcome) for r in results] == [("broken", "failed"), (ACCOUNT, "synced")]
    assert results[0].errors == (("", "ZeroDivisionError: division by zero"),)


def test_a_rejected_answer_changes_nothing_and_says_why(met):
    before = versions(met, *TABLES)
    result = only(run(met, FakeBroker(capture(rejected(at=3700), fills=(buy(AAPL, 1, 1, at=3650),)))))
    assert (result.outcome, result.snapshot_status, result.good) == ("rejected", "rejected", False)
    assert result.errors == (("", f"{ACCOUNT}: the list of positions has no end"),)
    assert versions(met, *TABLES) == before
    assert [row["status"] for row in met.read.latest_snapshots()] == ["rejected"]
    assert result.snapshot_id == met.read.latest_snapshots()[0]["id"]


def test_an_account_is_not_taken_in_by_a_rejected_answer(store):
    result = only(run(store, FakeBroker(capture(rejected()))))
    assert (result.account, result.outcome, store.read.accounts()) == (ACCOUNT, "rejected", [])


def test_one_rejected_account_does_not_stop_another(met):
    results = {r.account: r for r in run(met, FakeBroker(capture(rejected(at=3700), OTHERS)))}
    assert {account: r.outcome for account, r in results.items()} == {ACCOUNT: "rejected", OTHER_ACCOUNT: "synced"}
    assert book_of(met, OTHER_ACCOUNT) == {"SAP": 3}


def test_an_account_that_the_broker_no_longer_lists_keeps_its_positions(met):
    before = {table: rows(met, f"SELECT xmin, * FROM {table} WHERE account = '{ACCOUNT}'") for table in ("positions", "lots", "accounts")}
    results = {r.account: r for r in run(met, FakeBroker(capture(OTHERS)))}
    assert results[ACCOUNT].outcome == "failed"
    assert f"no longer lists account {ACCOUNT}. Its positions stay as they were." in results[ACCOUNT].errors[0][1]
    assert before == {table: rows(met, f"SELECT xmin, * FROM {table} WHERE account = '{ACCOUNT}'") for table in before}


def test_a_symbol_that_could_not_be_read_is_an_error_and_the_others_sync(met):
    partial = snapshot(holding(KO, 6, 60), errors={"AAPL": "its position could not be read"}, unread=frozenset({AAPL.id}), at=3700)
    result = only(run(met, FakeBroker(capture(partial, fills=(buy(KO, 1, 61, at=3650),)))))
    assert (result.outcome, result.snapshot_status, result.good) == ("partial", "partial", False)
    assert (result.updated, result.unchanged, result.errors) == (("KO",), 0, (("AAPL", "its position could not be read"),))
    assert book_of(met) == {"AAPL": 10, "KO": 6}


def test_a_fill_that_contradicts_a_known_one_is_refused_and_named(met):
    fill = buy(KO, 1, 61, at=3650, name="x")
    after = snapshot(holding(AAPL, 10, 100), holding(KO, 6, 60), at=3700)
    run(met, FakeBroker(capture(after, fills=(fill,))))
    result = only(run(met, FakeBroker(capture(after, fills=(fill._replace(quantity=D(2)),)))))
    ((symbol, said),) = result.errors
    assert symbol == "KO"
    assert "known with quantity 1, and came again with 2" in said
    assert rows(met, "SELECT account, symbol, source FROM rejects") == [{"account": ACCOUNT, "symbol": "KO", "source": BROKER}]
    assert book_of(met)["KO"] == 6


def test_rows_that_the_adapter_refused_are_kept_once(met):
    refused = (RefusedRow(ACCOUNT, "ZZZ", "an execution could not be read: no price"),)
    for _ in range(2):
        run(met, FakeBroker(capture(HELD, refused=refused)))
    assert [tuple(row.values()) for row in rows(met, "SELECT account, symbol, reason FROM rejects")] == [
        (ACCOUNT, "ZZZ", "an execution could not be read: no price")
    ]


def test_a_failure_in_one_account_is_told_and_the_others_go_on(met):
    stranger = replace(holding(AAPL, 1), instrument="ibkr:404")  # named by nothing
    results = {r.account: r for r in run(met, FakeBroker(capture(snapshot(stranger, at=3700), OTHERS)))}
    assert {account: r.outcome for account, r in results.items()} == {ACCOUNT: "failed", OTHER_ACCOUNT: "synced"}
    assert results[ACCOUNT].errors[0][1].startswith("ForeignKeyViolation: ")
    assert book_of(met) == {"AAPL": 10, "KO": 5}


def test_a_pass_that_was_only_asked_to_capture_and_record_is_no_sync_and_no_failure(met):
    before = log(met)
    with SyncPass(met, FakeBroker(capture(HELD)), trigger="manual", timeout=5) as one:
        one.capture()
        one.record()
    assert one.results == []
    assert log(met) == before


def test_a_connection_that_is_narrowed_to_some_accounts_does_not_miss_the_others(met):
    broker = FakeBroker(capture(HELD, OTHERS))
    broker.accounts = (ACCOUNT,)
    assert [(r.account, r.outcome) for r in run(met, broker)] == [(ACCOUNT, "unchanged")]


def test_a_pass_that_is_interrupted_says_so_and_lets_go(met, database):
    with pytest.raises(KeyboardInterrupt):
        run(met, FakeBroker(KeyboardInterrupt()))
    assert log(met)[-1] == (ACCOUNT, "failed")
    assert met.read.last_error()["errors"][0]["error"].startswith("KeyboardInterrupt")
    with Store(database) as other:
        assert only(run(other, FakeBroker(capture(HELD)))).outcome == "unchanged"


def test_the_steps_of_a_pass_do_what_is_lacking_and_nothing_twice(store):
    broker = FakeBroker(capture(HELD, fills=(buy(KO, 1, 61, at=10),)))
    with SyncPass(store, broker, trigger="manual", timeout=5) as one:
        one.reconcile()
        for step in (one.capture, one.record, one.reconcile):
            step()
    assert (broker.asked, only(one.results).fills) == ([None], 1)
    with SyncPass(store, FakeBroker(UNREACHABLE), trigger="manual", timeout=5) as one:
        one.capture()
        one.reconcile()
    assert only(one.results).outcome == "failed"


def test_a_database_that_goes_away_on_the_way_is_named(met, server):
    class Cutter(FakeBroker):
        def capture(self, accounts, timeout):
            query(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'position_pipeline'")
            return super().capture(accounts, timeout)

    with pytest.raises(DatabaseUnavailable, match="is gone") as told:
        run(met, Cutter(capture(HELD)))
    assert server.split(":")[2].partition("@")[0] not in str(told.value)


# Which accounts


def test_named_accounts_alone_are_asked_for(met):
    run(met, FakeBroker(capture(HELD, OTHERS)))
    broker = FakeBroker(capture(HELD, OTHERS))
    assert [r.account for r in run(met, broker, accounts=[OTHER_ACCOUNT])] == [OTHER_ACCOUNT]
    assert broker.asked == [[OTHER_ACCOUNT]]


def test_several_brokers_are_passed_over_one_by_one(store):
    first, second = FakeBroker(capture(HELD), name="one"), FakeBroker(UNREACHABLE, capture(OTHERS), name="two")
    assert [(r.connection, r.account, r.outcome) for r in run(store, first, second)] == [
        ("one", ACCOUNT, "synced"),
        ("two", "two", "failed"),
    ]
    assert [(r.connection, r.account, r.outcome) for r in run(store, first, second)] == [
        ("one", ACCOUNT, "unchanged"),
        ("two", OTHER_ACCOUNT, "synced"),
    ]
    totals = store.read.totals()
    assert (totals["total_runs"], totals["successful_runs"], totals["failed_runs"]) == (4, 3, 1)


def test_a_named_account_is_asked_of_the_broker_that_has_it(store):
    first, second = FakeBroker(capture(HELD), name="one"), FakeBroker(capture(OTHERS), name="two")
    run(store, first, second)
    assert [(broker.name, accounts) for broker, accounts in shared_out(store, [first, second], [OTHER_ACCOUNT])] == [
        ("two", [OTHER_ACCOUNT])
    ]
    assert [(broker.name, accounts) for broker, accounts in shared_out(store, [first, second], ["NEW", ACCOUNT])] == [
        ("one", [ACCOUNT, "NEW"])
    ]


def test_where_a_listener_lives_its_client_id_is_left_to_the_stream(store):
    with Simulator(default_scenario(), speed=0) as sim:
        broker = IbkrBroker(name="ibkr", host=sim.host, port=sim.port, client_id=7)
        run(store, broker)
        store.streaming.begin("ibkr")
        run(store, broker)
        store.streaming.beat({**asdict(Health("ibkr")), "state": "stopped"})
        run(store, broker)
        used = [each.client_id for each in sim.requests]
    assert [client_id for client_id, _ in groupby(used)] == [7, 8, 7]


# One at a time


@contextmanager
def locked(database: str, account: str = ACCOUNT):
    """Another process is syncing the account."""
    with Store(database) as other, other.syncing(account, wait=False) as held:
        assert held
        yield


def test_an_account_that_is_being_synced_is_already_running(met, database):
    broker, rows_before = FakeBroker(capture(HELD)), log(met)
    with locked(database):
        assert met.read.totals()["is_running"]
        result = only(run(met, broker))
    assert (result.outcome, result.good, broker.asked) == ("already_running", False, [])
    assert log(met) == rows_before  # its row comes from the pass that runs
    assert not met.read.totals()["is_running"]
    assert only(run(met, broker)).outcome == "unchanged"


def test_other_accounts_are_synced_meanwhile(met, database):
    run(met, FakeBroker(capture(HELD, replace(OTHERS, holdings=()))))
    with locked(database):
        results = run(met, FakeBroker(capture(snapshot(at=3700), OTHERS)))
    assert [(r.account, r.outcome) for r in results] == [(ACCOUNT, "already_running"), (OTHER_ACCOUNT, "synced")]
    assert book_of(met) == {"AAPL": 10, "KO": 5}


def test_an_account_that_is_new_to_us_may_be_being_synced_too(store, database):
    with locked(database, OTHER_ACCOUNT):
        results = run(store, FakeBroker(capture(HELD, OTHERS)), wait=True)  # its answer would be old after a wait
    assert [(r.account, r.outcome) for r in results] == [(ACCOUNT, "synced"), (OTHER_ACCOUNT, "already_running")]


def test_who_waits_asks_the_broker_only_when_it_is_his_turn(met, database):
    broker = FakeBroker(capture(HELD))
    with Store(database) as waiting:
        thread = threading.Thread(target=run, args=(waiting, broker), kwargs={"wait": True})
        with locked(database):
            thread.start()
            waited_for(database, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            assert broker.asked == []
        thread.join(10)
    assert (broker.asked, log(met)[-1]) == ([None], (ACCOUNT, "unchanged"))


def waited_for(database: str, sql: str) -> None:
    until = time.monotonic() + 10
    while not query(database, sql):
        assert time.monotonic() < until, sql
        time.sleep(0.02)


def test_who_waits_too_long_is_told_and_everything_is_as_before(met, database):
    with locked(database):
        assert not syncing.lock(met._connection, ACCOUNT, wait=True, patience="50ms")
    settings = ("lock_timeout", "statement_timeout", "idle_session_timeout")
    assert [rows(met, f"SHOW {name}")[0][name] for name in settings] == ["1min", "1min", "0"]


def test_while_an_account_is_locked_a_process_that_hangs_does_not_keep_it_for_ever(met):
    with met.syncing(ACCOUNT, wait=True):
        assert rows(met, "SHOW idle_session_timeout")[0]["idle_session_timeout"] == "15min"
    assert rows(met, "SHOW idle_session_timeout")[0]["idle_session_timeout"] == "0"


@pytest.mark.parametrize("fault", [UNREACHABLE, RuntimeError("a bug"), KeyboardInterrupt()])
def test_the_lock_is_free_after_whatever_went_wrong(met, database, fault):
    with suppress(KeyboardInterrupt):
        run(met, FakeBroker(fault))
    with locked(database):
        pass


def test_the_lock_is_free_when_entering_failed(met, database):
    class Half(Store):
        def syncing(self, account, *, wait):
            if account == OTHER_ACCOUNT:
                raise RuntimeError("lost")
            return super().syncing(account, wait=wait)

    with Half(database) as half:
        with pytest.raises(RuntimeError), SyncPass(half, FakeBroker(capture(HELD)), [ACCOUNT, OTHER_ACCOUNT], trigger="manual", timeout=5):
            pass
        with locked(database):
            pass


def test_the_lock_is_free_after_kill_9(met, database):
    program = dedent("""
        import sys, time
        from position_pipeline.store import Store
        with Store(sys.argv[1]).syncing(sys.argv[2], wait=False) as held:
            print(held, flush=True)
            time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", program, database, ACCOUNT], stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout.readline() == "True\n"
        assert only(run(met, FakeBroker(capture(HELD)))).outcome == "already_running"
        victim.kill()
    assert only(run(met, FakeBroker(capture(HELD)), wait=True)).outcome == "unchanged"


def test_two_first_passes_at_once_meet_the_account_once(store, database):
    def first() -> None:
        with Store(database) as own:
            outcomes.append(only(run(own, FakeBroker(capture(HELD, fills=(buy(KO, 1, 61),))))).outcome)

    outcomes: list[str] = []
    threads = [threading.Thread(target=first) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(outcomes) == 3
    assert set(outcomes) <= {"synced", "unchanged", "already_running"}
    assert book_of(store) == {"AAPL": 10, "KO": 5}
    assert rows(store, "SELECT count(*) AS n FROM adjustments")[0]["n"] == 2


# To the last digit


@pytest.mark.parametrize("method", ["fifo", "average", "lifo", "hifo"])
def test_the_cash_is_right_after_everything(store, method):
    """Openings known and unknown, a flip, fees in other currencies, an assignment, an expiry, a late commission, a correction."""
    fills = [
        buy(AAPL, 3, "100.01", at=10, fee="0.35", name="a"),
        sell(TSLA, 7, 200, at=10, fee="0.5", fee_currency="CHF"),
        sell(CALL, 2, 3, at=20),
    ]
    held = [holding(AAPL, 10, "99.7777777"), holding(TSLA, -20, 210), holding(CALL, -2, 3), holding(SAP, 4), holding(KO, 9, "60.123456789")]
    steps = [
        (held, []),
        (
            [*held[:3], holding(SAP, -3, 201), holding(KO, 2, 60)],
            [sell(SAP, 7, "201.5", at=3650, fee="1.1"), sell(KO, 7, 61, at=3651, fee=None, name="k")],
        ),
        ([*held[:3], holding(SAP, -3, 201), holding(KO, 2, 60)], [sell(KO, 7, 61, at=3651, fee="0.333333333333", name="k")]),
        ([holding(AAPL, 10, 99), holding(KO, 2, 60)], [buy(TSLA, 20, 190, at=3700), buy(SAP, 3, 200, at=3700, fee="-0.1")]),
        ([holding(AAPL, 10, 99), holding(KO, 2, 60)], [buy(AAPL, 3, "100.02", at=10, fee="0.35", name="a", revision=2)]),
    ]
    for number, (holdings, more) in enumerate(steps):
        fills += more
        answer = snapshot(*holdings, at=3600 + 100 * number)
        run(store, FakeBroker(capture(answer, fills=tuple(fills))), cost_method=method)
        assert identities(store) == {}, number
    assigned = adjustment(AdjustmentKind.ASSIGNMENT, CALL, 1, at=4200, price=0, commission=0, name="assigned")
    expired = adjustment(AdjustmentKind.EXPIRY, CALL, 1, at=4300, price=0, commission="0.15", name="expired")
    leg = sell(AAPL, 100, 250, at=4200, fee=1, premium_from="assigned", source="flex", name="leg")
    store.record(ACCOUNT, [leg], [assigned, expired], EVERYTHING)
    assert identities(store) == {}
    assert book_of(store) == {"AAPL": -90, CALL.symbol: 0, "KO": 2, "SAP": 0, "TSLA": 0}
    assert {row["basis_quality"] for row in store.read.closes()} >= {Basis.UNKNOWN.value, Basis.FILLS.value}


# Over the wire


def held_by(simulator: Simulator, account: str) -> dict[str, Decimal]:
    return {f"ibkr:{con_id}": quantity for con_id, (quantity, _) in simulator.holdings(account).items()}


def ours(store: Store, account: str) -> dict[str, Decimal]:
    return {row["instrument"]: row["quantity"] for row in store.read.positions([account]) if row["quantity"]}


def test_an_hour_of_the_demo(store):
    """The scenario splits NVDA at 45 minutes, which no fill explains: two signs do, and the book follows at once. Book and broker are one."""
    with Simulator(default_scenario(), speed=0, executions_since="always") as simulator:
        broker = IbkrBroker(name="simulator", host=simulator.host, port=simulator.port)
        nvda = "ibkr:4815747"
        for minutes in range(0, 61, 5):
            results = run(store, broker, timeout=20)
            assert {r.account: r.outcome for r in results} == {"U1000001": "synced", "U1000002": "synced"}
            for account in ("U1000001", "U1000002"):
                assert ours(store, account) == held_by(simulator, account), minutes
            assert store.read.breaks() == []
            assert identities(store) == {}
            simulator.advance(300)
        believed = {(fill.account, fill.exec_id) for fill in simulator.executions()}
    stored = {(row["account"], f"{row['execution_id']}.{row['revision']:02}") for row in store.read.executions()}
    assert len(stored) > 40
    assert {(account, exec_id.rpartition(".")[0]) for account, exec_id in stored} <= {(a, e.rpartition(".")[0]) for a, e in believed}
    (row,) = store.read.breaks(all_=True)
    assert (row["symbol"], row["class"], row["status"], row["book_quantity"], row["broker_quantity"]) == (
        "NVDA",
        "split",
        "resolved",
        20,
        200,
    )
    assert [row["kind"] for row in store.read.adjustments() if row["instrument"] == nvda and row["held"] is not None] == ["split"]
    assert not [row for row in store.read.closes() if row["basis_quality"] == "unknown"]


def one_stock(quantity: str, average: str) -> Scenario:
    """An account that holds one stock since long ago. Nothing happens by itself."""
    stock = Instrument(con_id=265598, symbol="AAPL", price=D(230))
    account = Account(ACCOUNT, cash={"USD": D(100000)}, positions=(Opening(265598, D(quantity), D(average)),))
    return Scenario(instruments=(stock,), accounts=(account,))


@pytest.fixture
def simulator():
    with Simulator(one_stock("100", "200"), speed=0, executions_since="always") as simulator:
        yield simulator


@pytest.fixture
def broker(simulator):
    return IbkrBroker(name="simulator", host=simulator.host, port=simulator.port)


def test_a_correction_over_the_wire_takes_the_place_of_the_fill(store, simulator, broker):
    run(store, broker)
    fill = simulator.execute(ACCOUNT, "AAPL", "SELL", 40, "231")
    assert only(run(store, broker)).fills == 1
    simulator.correct(fill, quantity=50, price="232")
    assert (only(run(store, broker)).updated, ours(store, ACCOUNT)) == (("AAPL",), {"ibkr:265598": 50})
    (close,) = store.read.closes()
    assert (close["quantity"], close["gross_pnl"]) == (50, 1600)  # 50 x (232 - 200)
    assert (rows(store, "SELECT count(*) AS n FROM closes")[0]["n"], store.read.breaks(), identities(store)) == (2, [], {})


def test_a_bust_over_the_wire_takes_the_fill_out(store, simulator, broker):
    run(store, broker)
    fill = simulator.execute(ACCOUNT, "AAPL", "SELL", 40, "231")
    run(store, broker)
    simulator.bust(fill)
    run(store, broker)
    assert (ours(store, ACCOUNT), store.read.closes(), store.read.breaks()) == ({"ibkr:265598": 100}, [], [])


def test_a_late_commission_over_the_wire_completes_the_close(store, simulator, broker):
    run(store, broker)
    fill = simulator.execute(ACCOUNT, "AAPL", "SELL", 40, "231", commission=None)
    run(store, broker)
    assert (store.read.closes()[0]["gross_pnl"], store.read.closes()[0]["net_pnl"]) == (1240, None)  # 40 x (231 - 200)
    simulator.send_commission(fill, "1.25")
    result = only(run(store, broker))
    assert (result.outcome, result.updated) == ("synced", ("AAPL",))
    assert store.read.closes()[0]["net_pnl"] == D("1238.75")
    assert identities(store) == {}


def test_a_gateway_that_hangs_is_told_within_the_deadline_and_changes_nothing(store, simulator, broker):
    run(store, broker)
    before = versions(store, *TABLES)
    simulator.inject("hang:positions")
    began = time.monotonic()
    result = only(run(store, broker, timeout=1))
    assert time.monotonic() - began < 3
    assert (result.outcome in ("failed", "rejected"), result.errors[0][0]) == (True, "")
    assert versions(store, *TABLES) == before


def test_a_first_contact_in_the_middle_of_the_day_knows_what_was_there_before(store, simulator, broker):
    simulator.execute(ACCOUNT, "AAPL", "BUY", 20, "229")
    simulator.execute(ACCOUNT, "AAPL", "SELL", 50, "231")
    assert only(run(store, broker)).open_breaks == 0
    position = store.read.positions()[0]
    assert (position["quantity"], position["basis_quality"]) == (70, "broker")
    assert rows(store, "SELECT quantity FROM adjustments") == [{"quantity": 100}]  # 70 - 20 + 50
    assert identities(store) == {}
