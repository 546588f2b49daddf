"""What asks for a sync because of fills and requests: facts in the database, so that nothing is passed over and nothing done twice."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest
from pydantic import SecretStr

from position_pipeline.brokers.ibkr import IbkrBroker
from position_pipeline.definitions import build_defs
from position_pipeline.defs.sensors import LONGEST_LIST, executions_sensor, sync_requests_sensor
from position_pipeline.settings import Settings
from position_pipeline.store import Store
from position_pipeline_tests.defs.test_position_sync import execute, held
from position_pipeline_tests.scenarios import AAPL, buy

FIRST, SECOND = "U1000001", "U1000002"
STOPPED = dg.DefaultSensorStatus.STOPPED


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def here(settings, database):
    return settings.model_copy(update={"database_url": SecretStr(database)})


@pytest.fixture
def look(here, defs, instance):
    """One tick of a sensor that does not wait: (run requests, cursor)."""

    def tick(cursor=None, make=executions_sensor, given=here, watch=0.0):
        context = dg.build_sensor_context(instance=instance, cursor=cursor, definitions=defs)
        result = make(given, watch).evaluate_tick(context)
        return result.run_requests, result.cursor

    return tick


@pytest.fixture
def met(sync, store):
    """A store whose two accounts have met their broker."""
    assert sync().success
    return store


def asked(request):
    """Our tags; Dagster adds its own."""
    return {name: value for name, value in request.tags.items() if name.startswith("position_sync/")}


def trade(store, account=FIRST, name="t1"):
    store.record(account, [buy(AAPL, 1, 200, name=name, account=account)], (), [AAPL])


def waiting(store):
    return [row.account for row in store.verification.outstanding()]


def test_a_recorded_fill_asks_for_a_sync_of_its_account_alone(look, met):
    assert look()[0] == []
    trade(met, SECOND)
    (request,), _ = look()
    assert asked(request) == {"position_sync/trigger": "trade", "position_sync/accounts": SECOND}
    assert request.run_key.startswith("trade:")


def test_the_same_fills_are_not_asked_for_again_at_once_and_never_under_another_key_by_a_second_daemon(look, met):
    trade(met)
    (request,), cursor = look()
    (of_another_daemon,), _ = look()
    assert of_another_daemon.run_key == request.run_key
    assert look(cursor)[0] == []


def test_a_sync_verifies_what_was_recorded_before_it(look, met, sync):
    trade(met)
    trade(met, SECOND, "t2")
    sync(accounts=FIRST, trigger="trade")
    assert waiting(met) == [SECOND]
    sync(accounts=SECOND, trigger="trade")
    assert waiting(met) == []
    assert look()[0] == []


def test_the_fills_that_a_sync_brings_itself_are_verified_by_it(sim, met, sync):
    sim.execute(FIRST, "AAPL", "BUY", 5)
    assert sync().made["trade_executions"]["new_fills"] == 1
    assert waiting(met) == []


def test_a_sync_that_failed_leaves_its_fills_to_the_next_try_which_has_another_key(look, met, sync, sim, here):
    trade(met)
    quick = here.model_copy(update={"debounce": 0.0})
    (first,), cursor = look(given=quick)
    sim.inject("refuse")
    assert not sync(accounts=FIRST, trigger="trade").success
    assert waiting(met) == [FIRST]
    requests = []
    while not requests:  # the shortest wait after a try, where no debounce is wanted, is a second
        requests, _ = look(cursor, given=quick)
    (second,) = requests
    assert second.run_key != first.run_key
    assert asked(second) == asked(first)


def test_a_rejected_answer_verifies_nothing(met, sync, sim):
    trade(met)
    sim.inject(f"error:account-updates:code=321:account={FIRST}")
    sync()
    assert waiting(met) == [FIRST]


def test_a_fill_that_comes_while_the_broker_is_asked_is_verified_by_the_next_sync(met, settings, sim, database, sync):
    class Interrupted(IbkrBroker):
        def capture(self, accounts, timeout):
            found = super().capture(accounts, timeout)
            with Store(database) as listener:
                trade(listener, name="in between")
            return found

    def interrupted():
        return [Interrupted(name="simulator", host=sim.host, port=sim.port)]

    assert sync(given=build_defs(settings=settings, brokers=interrupted, database_url=database)).success
    assert waiting(met) == [FIRST]
    sync()
    assert waiting(met) == []


def test_a_fill_that_is_committed_late_under_a_lower_number_is_not_passed_over(met, database, sync):
    """Numbers are given before the commit: whoever remembers only the highest that was seen would never see this one."""
    with Store(database) as slow:
        with slow.whole_import():
            trade(slow, SECOND, "late")
            trade(met, FIRST, "early")
            sync(accounts=FIRST, trigger="trade")
            assert waiting(met) == []
        assert waiting(met) == [SECOND]


def test_it_waits_for_the_end_of_a_sync_that_is_under_way(look, met, instance):
    instance.add_run(dg.DagsterRun(job_name="position_sync", run_id="0" * 32, status=dg.DagsterRunStatus.STARTED))
    trade(met)
    assert look()[0] == []


def test_a_tick_that_waits_is_woken_by_the_fill(look, met):
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        tick = pool.submit(look, watch=20.0)
        threading.Event().wait(0.5)  # it listens by now, or sees the fill at its first look
        trade(met)
        requests, _ = tick.result()
    assert len(requests) == 1
    assert time.monotonic() - began < 5


def test_a_tick_that_waits_ends_when_everything_is_to_stop(look, met):
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        tick = pool.submit(look, watch=20.0)
        while not tick.done() and time.monotonic() - began < 15:
            met.verification.stop_waiting()
            threading.Event().wait(0.1)
        assert tick.result()[0] == []
    assert time.monotonic() - began < 10


def test_it_keeps_to_the_accounts_of_the_settings(look, met, here):
    trade(met)
    assert look(given=here.model_copy(update={"default_account_id": SECOND}))[0] == []
    assert len(look(given=here.model_copy(update={"default_account_id": FIRST}))[0]) == 1


def test_very_many_accounts_are_not_named_but_all_synced(look, store):
    for number in range(LONGEST_LIST + 1):
        store.add_account(f"U{number}", "ibkr", connection="simulator")
        trade(store, f"U{number}")
    (request,), _ = look()
    assert asked(request) == {"position_sync/trigger": "trade"}


def test_an_account_that_came_by_a_statement_only_has_no_broker_to_be_verified_by(look, store):
    store.add_account("U7", "ibkr")
    trade(store, "U7")
    assert look()[0] == []


def test_a_fill_of_an_account_that_was_never_synced_is_verified_too(look, store, sync):
    store.add_account(FIRST, "ibkr", connection="simulator")
    trade(store)
    assert len(look()[0]) == 1
    sync()
    assert waiting(store) == []


@pytest.mark.parametrize(
    ("wish", "stopped"),
    [({}, set()), ({"sync_on_trade": False}, {"executions_sensor"}), ({"enabled": False}, {"executions_sensor", "sync_requests_sensor"})],
)
def test_the_settings_turn_it_off(tmp_path, wish, stopped):
    settings = Settings(home=tmp_path, **wish)
    made = [executions_sensor(settings), sync_requests_sensor(settings)]
    assert {sensor.name for sensor in made if sensor.default_status is STOPPED} == stopped


def request_row(store, asked):
    (row,) = store.streaming._connection.rows("SELECT * FROM sync_requests WHERE id = %(id)s", {"id": asked.id})
    return row


def test_a_request_is_carried_out_by_a_run_where_no_listener_lives(look, met, sync):
    wish = met.streaming.ask_sync(SECOND, "a test")
    (request,), cursor = look(make=sync_requests_sensor)
    assert asked(request) == {"position_sync/trigger": "request", "position_sync/accounts": SECOND}
    assert look(cursor, sync_requests_sensor)[0] == []
    ran = sync(trigger="request", accounts=SECOND)
    assert ran.made["broker_snapshots"]["accounts"] == 1
    row = request_row(met, wish)
    assert (row["outcome"], [entry["account"] for entry in row["result"]]) == ("unchanged", [SECOND])
    assert look(make=sync_requests_sensor)[0] == []


def test_a_request_for_all_accounts_names_none(look, met, sync):
    wish = met.streaming.ask_sync(None, "a test")
    (request,), _ = look(make=sync_requests_sensor)
    assert asked(request) == {"position_sync/trigger": "request"}
    sync(trigger="request")
    assert len(request_row(met, wish)["result"]) == 2


def test_a_request_that_meets_a_broker_that_is_away_has_failed_and_says_why(met, sync, sim):
    wish = met.streaming.ask_sync(FIRST, "a test")
    sim.inject("refuse")
    sync(trigger="request", accounts=FIRST)
    row = request_row(met, wish)
    assert row["outcome"] == "failed"
    assert str(sim.port) in row["result"][0]["errors"][0]["error"]


def test_a_request_is_left_to_a_listener_that_lives(look, met, database):
    met.streaming.ask_sync(FIRST, "a test")
    met.streaming.begin("simulator")
    assert look(make=sync_requests_sensor)[0] == []
    execute(database, "UPDATE streams SET last_heartbeat_at = now() - interval '1 minute'")
    assert len(look(make=sync_requests_sensor)[0]) == 1


def test_two_daemons_on_one_database_sync_each_account_one_after_the_other_and_store_every_fill_once(settings, database, sim, met):
    """The Dagster pool of one does not reach over to the other daemon; the account's lock in the database does."""
    inside, most = [], []

    class Watched(IbkrBroker):
        def capture(self, accounts, timeout):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.1)  # long enough for the other to come in between, if it could
            found = super().capture(accounts, timeout)
            inside.pop()
            return found

    def watched():
        return [Watched(name="simulator", host=sim.host, port=sim.port)]

    sim.execute(FIRST, "AAPL", "BUY", 5)
    sim.execute(SECOND, "SAP", "SELL", 5)

    def daemon():
        made = build_defs(settings=settings, brokers=watched, database_url=database)
        with dg.DagsterInstance.ephemeral() as own:
            return made.resolve_job_def("position_sync").execute_in_process(instance=own, raise_on_error=False).success

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(daemon) for _ in range(2)]
        assert [one.result() for one in both] == [True, True]
    assert max(most) == 1
    assert len(met.read.executions()) == 2
    found = {int(row["instrument"].partition(":")[2]): row["quantity"] for row in met.read.positions([FIRST])}
    assert found == held(sim, FIRST)
