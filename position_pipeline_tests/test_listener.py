"""The listener against a broker and a database that are really there, and really go away: sockets, processes, PostgreSQL.

Belongs here: what is in the database after each. Does not belong here: the wire (brokers/test_ibkr_stream.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, Self

import psycopg2
import pytest

from position_pipeline import listener_errands, listener_hearing, listener_reports, settings
from position_pipeline.brokers.ibkr import IbkrBroker
from position_pipeline.brokers.ibkr_pacing import Pace
from position_pipeline.listener import Listener
from position_pipeline.store import Store
from position_pipeline_tests.command_line import gateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from position_pipeline.simulator import Simulator

PATIENCE = 20
RARELY = Pace(heartbeat=0.3, deadline=0.5, poll=600)
"""All executions are asked for once, after each connection; everything else has to be heard."""


def eventually(found: Callable[[], Any], why: str = "it happens", patience: float = PATIENCE) -> Any:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.01)
    pytest.fail(f"{why} within {patience} s")


class Database:
    """What is in it, as it is now."""

    def __init__(self, url: str) -> None:
        self.url = url

    def rows(self, sql: str, **values: object) -> list[dict[str, Any]]:
        connection = psycopg2.connect(self.url)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                return [dict(zip([c.name for c in cursor.description or ()], row, strict=True)) for row in cursor.fetchall()]
        finally:
            connection.close()

    def one(self, sql: str, **values: object) -> dict[str, Any] | None:
        return next(iter(self.rows(sql, **values)), None)

    def stream(self) -> dict[str, Any]:
        return self.one("SELECT * FROM streams") or {"state": "none"}

    def gaps(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM stream_gaps ORDER BY id")

    def whole(self) -> bool:
        """The stream hears, and no gap is open."""
        return self.stream()["state"] == "connected" and bool(self.gaps()) and all(gap["closed_at"] for gap in self.gaps())

    def executions(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM executions ORDER BY id")

    def quantity(self, instrument: str, account: str = "U1") -> Decimal | None:
        row = self.one("SELECT quantity FROM positions WHERE account = %(a)s AND instrument = %(i)s", a=account, i=instrument)
        return row["quantity"] if row else None

    def holds(self, broker: Simulator, account: str = "U1") -> bool:
        """Whether the book holds exactly what the broker does."""
        rows = self.rows("SELECT instrument, quantity FROM positions WHERE account = %(a)s AND quantity <> 0", a=account)
        ours = {int(row["instrument"].partition(":")[2]): row["quantity"] for row in rows}
        return ours == {con_id: quantity for con_id, (quantity, _) in broker.holdings(account).items() if quantity}


class Quick(IbkrBroker):
    """The adapter with a pace for tests."""

    pace = RARELY

    def stream(self, timeout: float, pace: Pace | None = None):
        return super().stream(timeout, pace or self.pace)


@pytest.fixture
def book(database: str) -> Database:
    return Database(database)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds in life waits less here."""
    monkeypatch.setattr(listener_errands, "AGAIN", 0.2)
    monkeypatch.setattr(listener_errands, "LOOK", 0.2)
    monkeypatch.setattr(listener_errands, "SETTLE", 0.2)
    monkeypatch.setattr(listener_hearing, "BEAT", 0.1)
    monkeypatch.setattr(listener_hearing, "STAND_BY", 0.1)


@contextmanager
def listening(
    url: str, broker: Simulator, client_id: int = 0, *, pace: Pace = RARELY, report_to: str = "", **given: str
) -> Iterator[Listener]:
    """A listener in a thread of this process."""
    environ = {"DATABASE_URL": url, "POSITION_SYNC_BROKER_TIMEOUT": "3", **{f"POSITION_SYNC_{name.upper()}": given[name] for name in given}}
    made = Quick(host=broker.host, port=broker.port, client_id=client_id)
    made.pace = pace
    listener = Listener(settings.load(environ), stand_by=False, report_to=report_to, finds={"ibkr": lambda: made})
    thread = threading.Thread(target=listener.run)
    thread.start()
    try:
        yield listener
    finally:
        listener.house.stop.set()
        thread.join(PATIENCE)


class Process:
    """`position-pipeline listen` as it runs in life."""

    def __init__(self, url: str, broker: Simulator, home: Path, *words: str, client_id: int = 0) -> None:
        self.environ = environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POSITION_SYNC_")},
            "DATABASE_URL": url,
            "POSITION_SYNC_HOME": str(home),
            "POSITION_SYNC_IBKR_HOST": broker.host,
            "POSITION_SYNC_IBKR_PORT": str(broker.port),
            "POSITION_SYNC_IBKR_CLIENT_ID": str(client_id),
        }
        command = [sys.executable, "-m", "position_pipeline.cli", "listen", *words]
        self.process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        if self.process.stdout:
            self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def says(self) -> str:
        assert self.process.stdout
        return self.process.stdout.read()


# -- a fill is in the book


def test_a_fill_that_is_pushed_is_booked_with_its_commission_at_once(book):
    with gateway() as broker, listening(book.url, broker):
        eventually(book.whole)
        broker.execute("U1", "MSFT", "BUY", 10, "430", commission="1.25")
        eventually(lambda: book.quantity("ibkr:272093") == 10)
        assert [(row["quantity"], row["commission"]) for row in book.executions()] == [(10, Decimal("1.25"))]
        assert eventually(lambda: book.stream()["fills"]) == 1
        assert broker.order_requests == ()


def test_a_fill_of_an_order_placed_elsewhere_is_booked_because_its_position_changed(book):
    """The gateway tells client id 17 nothing of it but the new position; the next list of all executions is ten minutes away."""
    with gateway() as broker, listening(book.url, broker, client_id=17):
        eventually(book.whole)
        broker.execute("U1", "MSFT", "BUY", 10, "430", commission="1.25")
        eventually(lambda: book.quantity("ibkr:272093") == 10)
        assert [row["commission"] for row in book.executions()] == [Decimal("1.25")]


def test_a_fill_that_changes_no_position_row_is_found_by_asking_again(book):
    with gateway("mute") as broker, listening(book.url, broker, client_id=17, pace=RARELY._replace(poll=0.1)):
        eventually(book.whole)
        broker.execute("U1", "MSFT", "BUY", 10, "430")
        eventually(lambda: book.quantity("ibkr:272093") == 10)


def test_a_commission_that_comes_late_completes_the_fill(book):
    with gateway() as broker, listening(book.url, broker):
        eventually(book.whole)
        exec_id = broker.execute("U1", "MSFT", "BUY", 10, "430", commission=None)
        eventually(lambda: book.quantity("ibkr:272093") == 10)
        assert [row["commission"] for row in book.executions()] == [None]
        broker.send_commission(exec_id, "1.25")
        eventually(lambda: [row["commission"] for row in book.executions()] == [Decimal("1.25")])


def test_a_correction_replaces_the_fill(book):
    with gateway() as broker, listening(book.url, broker):
        eventually(book.whole)
        exec_id = broker.execute("U1", "MSFT", "BUY", 10, "430")
        eventually(lambda: book.quantity("ibkr:272093") == 10)
        broker.correct(exec_id, quantity=12)
        eventually(lambda: book.quantity("ibkr:272093") == 12)
        assert [(row["revision"], row["quantity"]) for row in book.executions()] == [(1, 10), (2, 12)]


def test_of_a_burst_no_fill_is_lost_and_none_is_booked_twice(book):
    with gateway() as broker, listening(book.url, broker):
        eventually(book.whole)
        for number in range(300):
            broker.execute("U1", ("MSFT", "KO")[number % 2], ("BUY", "BUY", "SELL")[number % 3], 1 + number % 5, "100")
        eventually(lambda: len(book.executions()) == 300)
        assert book.holds(broker)


def test_accounts_that_are_not_configured_are_not_booked(book):
    with gateway() as broker:
        made = Quick(host=broker.host, port=broker.port, client_id=0, accounts=("U2",))
        stream = made.stream(3)
        broker.execute("U1", "MSFT", "BUY", 10, "430")
        broker.execute("U2", "MSFT", "BUY", 3, "430")
        fills = []
        eventually(lambda: fills.extend(news.fills if (news := stream.take(1)) else ()) or fills)
        assert {fill.account for fill in fills} == {"U2"}
        stream.close()


def test_a_fill_waits_while_somebody_else_writes_to_the_accounts_book(book):
    with gateway() as broker, listening(book.url, broker):
        eventually(book.whole)
        writer = psycopg2.connect(book.url)
        with writer.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('position_pipeline:book:U1', 0))")
            broker.execute("U1", "MSFT", "BUY", 10, "430")
            eventually(lambda: book.rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
            assert book.executions() == []
            writer.rollback()
        writer.close()
        eventually(lambda: book.quantity("ibkr:272093") == 10)


def test_accounts_that_are_not_to_be_synced_are_not_booked_either(book):
    """Fills without a snapshot would be half a book."""
    with gateway() as broker, listening(book.url, broker, default_account_id="U2"):
        eventually(book.whole)
        broker.execute("U1", "MSFT", "BUY", 10, "430")
        broker.execute("U2", "MSFT", "BUY", 3, "430")
        eventually(lambda: book.quantity("ibkr:272093", "U2") == 3)
        assert {row["account"] for row in book.rows("SELECT account FROM accounts")} == {"U2"}
        assert list(book.gaps()[0]["found"]) == ["U2"]


# -- what is missed is known to be missed, and made up for


def test_the_first_start_is_a_gap_that_a_sync_closes(book):
    with gateway() as broker:
        broker.execute("U1", "MSFT", "BUY", 10, "430")
        with listening(book.url, broker):
            eventually(book.whole)
        (gap,) = book.gaps()
        assert gap["cause"] == "it was never listened to before"
        assert {account: found["outcome"] for account, found in gap["found"].items()} == {"U1": "synced", "U2": "unchanged"}
        assert [row["trigger"] for row in book.rows("SELECT trigger FROM syncs")] == ["reconnect"] * 2
        assert book.holds(broker)


@pytest.mark.parametrize(("lost", "restored"), [("1100", "1102"), ("1101", "1101"), ("2110", "1102")])
def test_a_lost_link_is_a_gap_and_what_happened_in_it_is_found_afterwards(book, lost, restored):
    with gateway() as broker, listening(book.url, broker):
        eventually(book.whole)
        broker.inject(lost)
        eventually(lambda: book.stream()["state"] == "link_lost")
        broker.execute("U1", "MSFT", "BUY", 10, "430")
        assert [gap["closed_at"] for gap in book.gaps()][1:] == [None]
        assert book.quantity("ibkr:272093") is None, "nobody was told"
        broker.heal()
        eventually(book.whole)
        gap = book.gaps()[-1]
        assert "lost its link" in gap["cause"]
        assert gap["found"]["U1"]["open_breaks"] == 0
        assert book.quantity("ibkr:272093") == 10


def test_a_notice_of_restored_data_without_one_of_its_loss_is_a_gap_too(book):
    with gateway() as broker, listening(book.url, broker):
        eventually(book.whole)
        broker.notify(1101)
        eventually(lambda: len(book.gaps()) == 2 and book.whole())
        assert "1101" in book.gaps()[1]["cause"]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_dropped_connection_is_made_again_and_its_gap_closed(book, how):
    with gateway() as broker, listening(book.url, broker):
        eventually(book.whole)
        broker.inject("refuse")
        broker.disconnect_clients(how)
        eventually(lambda: book.stream()["state"] == "waiting")
        broker.execute("U1", "MSFT", "BUY", 10, "430")
        broker.heal()
        eventually(lambda: len(book.gaps()) == 2 and book.whole())
        assert "the connection was dropped" in book.gaps()[1]["cause"]
        assert book.quantity("ibkr:272093") == 10
        broker.execute("U1", "MSFT", "SELL", 4, "430")
        eventually(lambda: book.quantity("ibkr:272093") == 6, "it is subscribed to again")


def test_a_connection_that_is_open_at_our_end_only_is_noticed(book):
    with gateway() as broker, listening(book.url, broker):
        eventually(book.whole)
        broker.inject("half-open:client=0")
        eventually(lambda: book.stream()["state"] == "waiting")
        assert "not even the time that was asked for" in book.gaps()[1]["cause"]
        broker.execute("U1", "MSFT", "BUY", 10, "430")
        broker.heal()
        eventually(book.whole)
        assert book.quantity("ibkr:272093") == 10


def test_a_broker_that_is_down_at_the_start_is_waited_for(book):
    with gateway("refuse") as broker, listening(book.url, broker):
        eventually(lambda: "refused" in book.stream().get("detail", ""))
        broker.heal()
        eventually(book.whole)


def test_a_gap_stays_open_while_the_sync_after_it_proves_nothing(book):
    with gateway("empty:positions") as broker, listening(book.url, broker):
        eventually(lambda: len(book.rows("SELECT 1 FROM syncs WHERE outcome = 'rejected'")) >= 2)
        assert [gap["closed_at"] for gap in book.gaps()] == [None]
        broker.heal()
        eventually(book.whole)


def test_a_gap_stays_open_while_a_difference_that_was_first_seen_in_it_does(book):
    with gateway() as broker, listening(book.url, broker):
        eventually(book.whole)
        broker.inject("1100")
        eventually(lambda: book.stream()["state"] == "link_lost")
        exec_id = broker.execute("U1", "MSFT", "BUY", 10, "430")
        broker.inject("empty:executions")
        broker.notify(1102)
        eventually(lambda: book.gaps()[-1]["healed_at"])
        assert [row["status"] for row in book.rows("SELECT status FROM breaks")] == ["open"]
        assert book.gaps()[-1]["closed_at"] is None
        assert exec_id
        broker.heal()  # sends 1102 once more: the execution is listed now
        eventually(book.whole)
        assert book.quantity("ibkr:272093") == 10


def test_a_gap_that_only_a_fact_from_elsewhere_can_close_is_not_synced_again_and_again(book, monkeypatch):
    """The broker holds 10 MSFT of which its lists say nothing: the book follows, and waits for a fact. The fact comes with another sync."""
    monkeypatch.setattr(listener_errands, "LATEST", 0.2)
    monkeypatch.setattr(listener_errands, "LOOK", 0.05)
    healing = "SELECT count(*) AS n FROM syncs WHERE trigger = 'reconnect'"
    # By a clock of long ago that stands still all answers would be one and the same moment's; nothing is adopted after one alone.
    with gateway(starts_at=datetime.now(UTC)) as broker, listening(book.url, broker, timing_window="0"):
        eventually(book.whole)
        broker.inject("1100")
        eventually(lambda: book.stream()["state"] == "link_lost")
        broker.execute("U1", "MSFT", "BUY", 10, "430")
        broker.inject("omit:executions:symbol=MSFT")
        broker.notify(1102)
        eventually(lambda: book.one("SELECT 1 FROM breaks WHERE status = 'open' AND adopted IS NOT NULL"), "the book follows the broker")
        before = book.one(healing)["n"]
        time.sleep(1)
        assert book.one(healing)["n"] <= before + 2, "of each of two accounts one may have been on its way"
        assert book.gaps()[-1]["healed_at"]
        assert book.gaps()[-1]["closed_at"] is None
        broker.heal()
        with Store(book.url) as store:
            assert store.streaming.ask_sync("U1", "a test")
        eventually(book.whole)
        assert book.quantity("ibkr:272093") == 10


# -- our own end goes away


def test_after_kill_9_in_the_middle_of_a_burst_every_fill_is_there_exactly_once(book, tmp_path):
    with gateway() as broker:
        with Process(book.url, broker, tmp_path) as first:
            eventually(book.whole)
            for number in range(200):
                broker.execute("U1", "MSFT", "BUY", 1 + number % 3, "430")
                if number == 100:
                    eventually(book.executions)
                    first.kill()
        with Process(book.url, broker, tmp_path) as second:
            eventually(lambda: len(book.executions()) == 200 and book.whole())
            assert second.stop() == 0
        assert len({(row["account"], row["execution_id"]) for row in book.executions()}) == 200
        assert book.holds(broker)
        assert book.gaps()[-1]["cause"] == "the listener ended without a word"


def test_a_clean_stop_frees_the_client_id_and_says_so(book, tmp_path):
    with gateway() as broker, Process(book.url, broker, tmp_path) as listener:
        eventually(book.whole)
        assert broker.clients == (0,)
        assert listener.stop() == 0
        assert broker.clients == ()
        assert 64 in [request.message_id for request in broker.requests], "the positions were unsubscribed from"
        assert book.stream()["state"] == "stopped"
        assert book.rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'") == []
        assert broker.order_requests == ()


def test_a_second_listener_exits_with_75_and_the_first_goes_on(book, tmp_path):
    with gateway() as broker, listening(book.url, broker):
        eventually(book.whole)
        with Process(book.url, broker, tmp_path) as second:
            assert second.process.wait(PATIENCE) == 75
            assert "Another listener hears ibkr already" in second.says()
        broker.execute("U1", "MSFT", "BUY", 10, "430")
        eventually(lambda: book.quantity("ibkr:272093") == 10)


def test_a_listener_that_stands_by_takes_over_when_the_first_is_killed(book, tmp_path):
    with gateway() as broker, Process(book.url, broker, tmp_path) as first:
        eventually(book.whole)
        pid = book.stream()["pid"]
        with Process(book.url, broker, tmp_path, "--stand-by") as second:
            time.sleep(0.5)
            assert second.process.poll() is None
            first.kill()
            broker.execute("U1", "MSFT", "BUY", 10, "430")
            eventually(lambda: book.stream()["pid"] != pid and book.whole())
            assert book.quantity("ibkr:272093") == 10
            assert second.stop() == 0


def test_a_postgresql_that_is_killed_and_comes_back_costs_no_fill(tmp_path):
    """The server is one of this home's own; whoever opens the next store starts it again."""
    from position_pipeline.store import embedded, upgrade

    given = settings.load({"POSITION_SYNC_HOME": str(tmp_path)})
    with embedded.running(tmp_path) as url:
        upgrade(url)
        book = Database(url)
        with gateway() as broker:
            made = Quick(host=broker.host, port=broker.port, client_id=0)
            listener = Listener(given, stand_by=False, report_to="", finds={"ibkr": lambda: made})
            thread = threading.Thread(target=listener.run)
            thread.start()
            try:
                eventually(book.whole)
                broker.execute("U1", "MSFT", "BUY", 1, "430")
                eventually(lambda: book.quantity("ibkr:272093") == 1)
                os.kill(int((tmp_path / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0]), signal.SIGKILL)
                for _ in range(20):
                    broker.execute("U1", "MSFT", "BUY", 1, "430")

                def all_there() -> bool:
                    try:
                        return book.quantity("ibkr:272093") == 21
                    except psycopg2.OperationalError:
                        return False

                eventually(all_there)
                assert len(book.executions()) == 21
                assert len(book.gaps()) == 1, "the stream itself missed nothing"
            finally:
                listener.house.stop.set()
                thread.join(PATIENCE)


# -- syncs that are asked for


def test_a_sync_that_is_asked_for_is_carried_out_at_once(book):
    with gateway() as broker, listening(book.url, broker), Store(book.url) as store:
        eventually(book.whole)
        first = store.streaming.ask_sync("U1", "page")
        assert first is not None
        assert first.new
        row = eventually(lambda: book.one("SELECT * FROM sync_requests WHERE finished_at IS NOT NULL"))
        assert (row["account"], row["outcome"]) == ("U1", "unchanged")
        assert [(one["account"], one["outcome"]) for one in row["result"]] == [("U1", "unchanged")]
        assert (row["finished_at"] - row["requested_at"]).total_seconds() < 3
        store.streaming.ask_sync(None, "page")
        everything = eventually(lambda: book.one("SELECT * FROM sync_requests WHERE account IS NULL AND finished_at IS NOT NULL"))
        assert {one["account"] for one in everything["result"]} == {"U1", "U2"}


def test_an_account_has_one_open_request(store):
    first, again, other = (store.streaming.ask_sync(account, "page") for account in ("U1", "U1", None))
    assert (first.new, again.new, other.new) == (True, False, True)
    assert again.id == first.id != other.id
    picked = store.streaming.pick_sync(["ibkr"], "test")
    assert picked.id == first.id
    assert store.streaming.ask_sync("U1", "page").picked
    store.streaming.finish_sync(picked, "unchanged", [])
    assert store.streaming.ask_sync("U1", "page").new


def test_a_request_whose_worker_died_is_picked_again_and_one_that_lives_keeps_it(database):
    with Store(database) as asking, Store(database) as other:
        asking.streaming.ask_sync("U1", "page")
        with Store(database) as dying:
            assert dying.streaming.pick_sync(["ibkr"], "dying") is not None
            assert other.streaming.pick_sync(["ibkr"], "other") is None
        eventually(lambda: other.streaming.pick_sync(["ibkr"], "other"), "the lock of the dead one is free")


def test_a_request_for_an_account_of_another_connection_is_left_to_others(store):
    store.add_account("U9", "ibkr", connection="elsewhere")
    store.streaming.ask_sync("U9", "page")
    assert store.streaming.pick_sync(["ibkr"], "test") is None
    assert store.streaming.pick_sync(["elsewhere"], "test") is not None


def test_a_holding_that_the_book_does_not_have_makes_it_ask_for_a_sync_once(book):
    """A fill that is taken back and not listed any more changes the position, and leaves nothing that says so."""
    with gateway() as broker, listening(book.url, broker, debounce="0.1"):
        exec_id = broker.execute("U1", "MSFT", "BUY", 10, "430")
        eventually(book.whole)
        broker.bust(exec_id, how="removed")
        row = eventually(lambda: book.one("SELECT * FROM sync_requests WHERE finished_at IS NOT NULL"))
        assert (row["account"], row["requested_by"]) == ("U1", "position update")
        assert [found["status"] for found in book.rows("SELECT status FROM breaks")] == ["open"]
        broker.execute("U1", "KO", "BUY", 1, "61")
        time.sleep(0.6)  # three times what a difference may settle in
        assert len(book.rows("SELECT 1 FROM sync_requests")) == 1, "it is as different as it was"
        assert eventually(lambda: book.stream()["triggers"]) == 1


def test_a_holding_that_a_fill_explains_asks_for_nothing(book):
    with gateway() as broker, listening(book.url, broker, debounce="0.1"):
        eventually(book.whole)
        broker.execute("U1", "MSFT", "BUY", 10, "430")
        eventually(lambda: book.quantity("ibkr:272093") == 10)
        time.sleep(0.6)
        assert book.rows("SELECT 1 FROM sync_requests") == []


def test_the_setting_turns_asking_for_holdings_off(book):
    with gateway() as broker, listening(book.url, broker, debounce="0.1", sync_on_position_update="false"):
        exec_id = broker.execute("U1", "MSFT", "BUY", 10, "430")
        eventually(book.whole)
        broker.bust(exec_id, how="removed")
        time.sleep(0.6)
        assert book.rows("SELECT 1 FROM sync_requests") == []


# -- Dagster is told, and waited for by nobody


class _Webserver(BaseHTTPRequestHandler):
    told: list[tuple[str, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.told.append((self.path, body["metadata"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_dagster_is_told_what_was_recorded_and_that_the_listener_lives(book, monkeypatch):
    monkeypatch.setattr(listener_reports, "EVERY", 0.1)
    told: list[tuple[str, dict[str, Any]]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Webserver", (_Webserver,), {"told": told}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with gateway() as broker, listening(book.url, broker, report_to=f"http://127.0.0.1:{server.server_port}"):
            eventually(book.whole)
            broker.execute("U1", "MSFT", "BUY", 10, "430")
            eventually(lambda: "/report_asset_materialization/position_events" in [path for path, _ in told])
            eventually(lambda: "/report_asset_observation/trade_executions" in [path for path, _ in told])
    finally:
        server.shutdown()
        server.server_close()
    recorded = [metadata for path, metadata in told if path == "/report_asset_observation/trade_executions" and "fills" in metadata]
    assert 1 in [metadata["fills"] for metadata in recorded]
    # What is materialized has no checks: those of the last run would be shown as not evaluated.
    assert {path for path, _ in told if "materialization" in path} == {"/report_asset_materialization/position_events"}


def test_reports_that_nobody_takes_are_summed_up_and_sent_later(monkeypatch):
    monkeypatch.setattr(listener_reports, "LONGEST_CALL", 0.2)
    reports = listener_reports.Reports("http://127.0.0.1:9")
    for _ in range(3):
        reports.booked(2, 1, 0.004)
        reports._report_recorded()
    told = []
    monkeypatch.setattr(reports, "_send", lambda kind, asset, metadata: told.append((asset, metadata["fills"])) or True)
    reports._report_recorded()
    assert told == [("trade_executions", 6), ("position_events", 6)]
