"""Alerts on their way: kept in PostgreSQL, sent to a real webhook and a real mail server, which may hang, refuse and come back."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import SecretStr

from position_pipeline.alerts_delivery import Channel, channels, pieces, send, tell, understood
from position_pipeline.settings import Settings, load
from position_pipeline.store import Store
from position_pipeline_tests.alert_receivers import TOKEN, mail_server, webhook
from position_pipeline_tests.command_line import CommandLine
from position_pipeline_tests.store.tables import query

NOON = datetime(2026, 11, 20, 17, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MESSAGE = {"id": 1, "title": "Title", "body": "Body", "severity": "notice"}


def write(database, sql, values=None):
    query(database, f"{sql} RETURNING 1", values)


@pytest.fixture
def book(database, store):
    """A book with an account whose connection is not read, so that it is never stale, and a way to open and end breaks in it."""
    store.add_account("U1", "ibkr", connection="old")
    write(
        database,
        "INSERT INTO instruments (instrument, symbol, sec_type, currency, multiplier) VALUES ('ibkr:265598', 'AAPL', 'STK', 'USD', 1)",
    )

    class Book:
        def open(self, id_="ab12", **other):
            row = {
                "id": id_, "account": "U1", "instrument": "ibkr:265598", "subject": "quantity", "class": "unknown", "book_quantity": 100,
                "broker_quantity": 95, "first_seen_at": NOON, "last_seen_at": NOON, "changed_at": NOON, "differs_since": NOON, "impact": 950,
                "impact_currency": "USD", "evidence": "No fill explains it.",
            } | other  # fmt: skip
            write(database, f"INSERT INTO breaks ({', '.join(row)}) VALUES ({', '.join(f'%({name})s' for name in row)})", row)

        def change(self, **other):
            write(database, f"UPDATE breaks SET {', '.join(f'{name} = %({name})s' for name in other)} WHERE id = 'ab12'", other)

        def resolve(self):
            self.change(status="resolved", resolved_at=NOON)

    return Book()


@pytest.fixture
def hook():
    with webhook() as receiver:
        yield receiver


@pytest.fixture
def teller(store, tmp_path):
    """Tell what is wrong at a time, with the channels of some URLs."""

    def run(*urls, at=NOON, given=store, **settings):
        alerts = SecretStr(", ".join(urls)) if urls else None
        return tell(given, Settings(home=tmp_path, alerts=alerts, **settings), list, at)

    return run


def deliveries(database):
    return query(database, "SELECT * FROM alert_deliveries ORDER BY id")


# -- told once


def test_a_new_break_reaches_the_channel_once_and_its_end_once(book, hook, teller):
    book.open()
    assert teller(hook.url) == "1 new message. 1 delivery, 0 failed."
    assert teller(hook.url, at=NOON + MINUTE) == "There is nothing new to tell."
    (message,) = hook.messages
    assert message["title"] == "New: AAPL in U1: book 100, broker 95"
    assert "position-pipeline breaks show ab12" in message["message"]
    book.resolve()
    teller(hook.url, at=NOON + 2 * MINUTE)
    teller(hook.url, at=NOON + 3 * MINUTE)
    assert hook.titles() == ["New: AAPL in U1: book 100, broker 95", "Recovered: AAPL in U1: book 100, broker 95"]


def test_after_a_restart_nothing_is_told_again(book, hook, teller, database):
    book.open()
    teller(hook.url)
    with Store(database) as restarted:
        teller(hook.url, given=restarted, at=NOON + MINUTE)
    assert hook.requests == 1


def test_worse_and_changed_are_told_again(book, hook, teller):
    book.open()
    teller(hook.url)
    book.change(impact=9500)
    teller(hook.url, at=NOON + MINUTE)
    book.change(broker_quantity=90)
    teller(hook.url, at=NOON + 2 * MINUTE)
    teller(hook.url, at=NOON + 61 * MINUTE)
    assert [title.partition(":")[0] for title in hook.titles()] == ["New", "Worse", "Changed", "Worse"]


def test_two_processes_that_tell_at_once_send_one_message(book, hook, teller, database):
    """The second one comes while the first one waits for the channel."""
    book.open()
    hook.answers = ["hang"]
    first = threading.Thread(target=teller, args=(hook.url,))
    first.start()
    wait_for(lambda: hook.requests)
    with Store(database) as other:
        assert teller(hook.url, given=other) == "Another process is telling."
    hook.over.set()
    first.join()
    assert hook.requests == 1


KILLED = """
import sys
from datetime import datetime
from pydantic import SecretStr
from position_pipeline.alerts_delivery import tell
from position_pipeline.settings import Settings
from position_pipeline.store import Store
with Store(sys.argv[1]) as store:
    tell(store, Settings(alerts=SecretStr(sys.argv[2])), list, datetime.fromisoformat(sys.argv[3]))
"""


def test_a_process_that_is_killed_while_it_sends_leaves_the_message_to_the_next(book, hook, teller, database):
    """Its attempt is on record and its lock is free; the message goes out when the pause is over: at least once."""
    book.open()
    hook.answers = ["hang"]
    process = subprocess.Popen([sys.executable, "-c", KILLED, database, hook.url, NOON.isoformat()])
    wait_for(lambda: hook.requests)
    process.kill()
    process.wait()
    wait_for(lambda: teller(hook.url, at=NOON + timedelta(seconds=29)) == "There is nothing new to tell.")
    assert teller(hook.url, at=NOON + timedelta(seconds=30)) == "0 new messages. 1 delivery, 0 failed."
    assert len(hook.messages) == 1
    assert [(row["attempts"], row["delivered_at"]) for row in deliveries(database)] == [(2, NOON + timedelta(seconds=30))]


def test_a_stale_account_of_a_connection_that_is_synced_is_told(store, hook, teller):
    store.add_account("U9", "ibkr", connection="simulator")
    later = datetime.now(UTC) + timedelta(hours=27)
    assert teller(at=later, enabled=False) == "There is nothing new to tell."
    teller(hook.url, at=later)
    assert hook.titles() == ["New: U9: no proven answer of simulator for too long; the figures are as they were"]


def test_a_gap_of_a_stream_is_told_when_no_sync_has_made_it_good(database, hook, teller):
    write(database, "INSERT INTO stream_gaps (connection, opened_at, cause) VALUES ('ibkr', %s, 'The link was lost.')", (NOON,))
    teller(hook.url, at=NOON + 14 * MINUTE)
    teller(hook.url, at=NOON + 15 * MINUTE)
    assert hook.titles() == ["New: ibkr: the stream of fills has a gap that no sync has made good"]
    assert "The link was lost." in hook.messages[0]["message"]


# -- no channel, more channels


def test_without_a_channel_alerts_are_kept_and_switching_it_on_does_not_send_the_past(book, hook, teller, store):
    book.open()
    assert teller() == "1 new message. POSITION_SYNC_ALERTS is not set, so nothing is sent: position-pipeline alerts lists them."
    teller(hook.url, at=NOON + MINUTE)
    assert hook.requests == 0
    (alert,) = store.alerting.listed(all_=False)
    assert (alert["headline"], alert["told"], alert["deliveries"]) == ("AAPL in U1: book 100, broker 95", 1, [])
    book.resolve()
    teller(hook.url, at=NOON + 2 * MINUTE)
    assert hook.requests == 0  # the channel never heard of it
    assert store.alerting.listed(all_=False) == []
    assert [row["ending"] for row in store.alerting.listed(all_=True)] == ["recovered"]


def test_what_gets_worse_after_a_channel_was_added_is_told_there_and_so_is_its_end(book, hook, teller):
    book.open()
    teller()
    teller(hook.url, at=NOON + 61 * MINUTE)
    book.resolve()
    teller(hook.url, at=NOON + 62 * MINUTE)
    assert [title.partition(":")[0] for title in hook.titles()] == ["Worse", "Recovered"]


def test_mail_arrives_whole(book, teller):
    book.open()
    with mail_server() as box:
        assert teller(box.url) == "1 new message. 1 delivery, 0 failed."
        (mail,) = box.mails
    assert (mail["subject"], mail["to"]) == ("New: AAPL in U1: book 100, broker 95", "desk@example.com")
    assert "What helps: position-pipeline breaks show ab12" in mail.as_string()


def test_a_broken_channel_does_not_keep_the_others_waiting(book, hook, teller, database):
    book.open()
    with mail_server() as box:
        assert teller(hook.url, "json://127.0.0.1:1/x", box.url) == "1 new message. 3 deliveries, 1 failed.".replace("3", "2")
        assert (len(hook.messages), len(box.mails)) == (1, 1)
    states = {row["channel"]: (row["delivered_at"] is not None, row["error"]) for row in deliveries(database)}
    assert states["json-1"] == states["mailto-1"] == (True, None)
    assert states["json-2"] == (False, "A Connection error occurred sending JSON notification to ....")


# -- retries


def test_what_was_not_taken_is_tried_again_after_a_pause_and_on_record(book, hook, teller, database):
    book.open()
    hook.answers = [500]
    assert teller(hook.url) == "1 new message. 0 deliveries, 1 failed."
    (row,) = deliveries(database)
    assert (row["attempts"], row["error"]) == (1, "Failed to send JSON POST notification: Internal server error., error=500.")
    teller(hook.url, at=NOON + timedelta(seconds=29))
    assert hook.requests == 1
    assert teller(hook.url, at=NOON + timedelta(seconds=30)) == "0 new messages. 1 delivery, 0 failed."
    (row,) = deliveries(database)
    assert (row["attempts"], row["error"], row["delivered_at"]) == (2, None, NOON + timedelta(seconds=30))
    assert len(hook.messages) == 1


def test_the_pauses_double_up_to_an_hour_and_a_day_later_it_is_given_up(book, teller, database, store):
    """30 s, 1, 2, 4, 8, 16, 32, 60, 60 minutes: nothing is sent here, the attempts alone are counted."""
    book.open()
    teller()
    write(database, "INSERT INTO alert_deliveries (message_id, channel, next_attempt_at) SELECT id, 'json-1', made_at FROM alert_messages")
    pauses, at = [], NOON
    for _ in range(9):
        assert len(store.alerting.begin_attempts(["json-1"], at)) == 1
        (row,) = deliveries(database)
        pauses.append((row["next_attempt_at"] - at) / MINUTE)
        at = row["next_attempt_at"]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert store.alerting.begin_attempts(["json-1"], NOON + timedelta(days=1, seconds=1)) == []
    (row,) = deliveries(database)
    assert row["given_up_at"] == NOON + timedelta(days=1, seconds=1)
    (alert,) = store.alerting.listed(all_=False)
    assert alert["deliveries"] == [{"channel": "json-1", "attempts": 9, "error": None, "state": "given_up"}]


def test_a_channel_that_was_taken_out_gets_nothing_and_another_of_its_kind_in_its_place_does(book, hook, teller, database):
    book.open()
    teller("json://127.0.0.1:1/wrong")
    teller("xml://127.0.0.1:1/x", at=NOON + MINUTE)
    assert [row["attempts"] for row in deliveries(database)] == [1]
    teller(hook.url, at=NOON + 2 * MINUTE)  # the corrected URL
    assert len(hook.messages) == 1


def test_a_channel_gets_at_most_ten_messages_at_once(book, hook, teller, database):
    book.open()
    teller(hook.url)
    write(
        database,
        "INSERT INTO alert_deliveries (message_id, channel, next_attempt_at) SELECT m.id, 'xml-' || n, made_at FROM alert_messages m, generate_series(1, 1) n",
    )
    write(
        database,
        "INSERT INTO alert_messages (alerts, severity, title, body, made_at) SELECT alerts, severity, 'T' || n, body, made_at FROM alert_messages, generate_series(1, 15) n",
    )
    write(
        database,
        "INSERT INTO alert_deliveries (message_id, channel, next_attempt_at) SELECT id, 'json-1', made_at FROM alert_messages WHERE title ~ '^T'",
    )
    teller(hook.url, at=NOON + MINUTE)
    assert hook.requests == 11
    teller(hook.url, at=NOON + 2 * MINUTE)
    assert hook.titles()[1:] == [f"T{n}" for n in range(1, 16)]


# -- deadlines


@pytest.mark.parametrize("way", ["hang", "drip"])
def test_a_channel_that_never_comes_to_an_end_is_ended(hook, way):
    hook.answers = [way]
    begun = time.monotonic()
    assert send(Channel("json-1", hook.url), [MESSAGE, {**MESSAGE, "id": 2}], deadline=1) == {
        1: "no answer within 1 s",
        2: "no answer within 1 s",
    }
    assert time.monotonic() - begun < 5


def test_what_was_taken_before_the_deadline_counts_as_taken(hook):
    hook.answers = [200, "drip"]
    assert send(Channel("json-1", hook.url), [MESSAGE, {**MESSAGE, "id": 2}], deadline=5) == {1: None, 2: "no answer within 5 s"}


def test_a_sender_whose_starter_is_gone_ends_all_the_same(hook):
    """The kernel ends it when its time is over: nobody has to be there for that."""
    hook.answers = ["drip"]
    sender = subprocess.Popen([sys.executable, "-m", "position_pipeline.alerts_sender"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    sender.communicate(json.dumps({"url": hook.url, "seconds": 1, "messages": [MESSAGE]}).encode(), timeout=10)
    assert sender.returncode == -14  # SIGALRM


# -- channels and secrets


def test_channels_are_named_by_scheme_and_number():
    text = f"slack://{TOKEN}/B/C/#a, mailto://u:p@h?to=a@x,b@y;json://h json://g\n"
    found = channels(Settings(alerts=SecretStr(text)))
    assert [(channel.name, channel.url) for channel in found] == [
        ("slack-1", f"slack://{TOKEN}/B/C/#a"),
        ("mailto-1", "mailto://u:p@h?to=a@x,b@y"),
        ("json-1", "json://h"),
        ("json-2", "json://g"),
    ]
    assert TOKEN not in repr(found)
    assert channels(Settings()) == ()
    assert [channel.name for channel in channels(Settings(alerts=SecretStr(TOKEN)))] == ["unknown-1"]


def test_a_url_that_means_nothing_is_known_before_anything_is_sent(hook):
    assert understood(Channel("json-1", hook.url)) == ""
    for url in (f"nonsense://{TOKEN}", TOKEN, f"slack://{TOKEN}"):
        assert understood(Channel("x-1", url)) == "no service of apprise is addressed like this"
        assert send(Channel("x-1", url), [MESSAGE]) == {1: "no service of apprise is addressed like this"}
    assert hook.requests == 0


def test_every_part_of_a_url_is_taken_for_a_secret():
    assert pieces("slack://TokenA/Tok%20B?key=value9", 5) >= {"TokenA", "Tok%20B", "Tok B", "value9"}


def test_no_secret_is_in_any_row_or_output(book, hook, teller, database, capfd, caplog):  # noqa: PLR0917
    """Delivered, refused, not understood and not reachable; and a failure whose text repeats the password of the database."""
    caplog.set_level(0)
    book.open(evidence=f"could not connect to postgresql://u:{TOKEN}pw@h/d with hooks/{TOKEN}")
    hook.answers = [500]
    urls = (hook.url, f"json://127.0.0.1:1/{TOKEN}", f"nonsense://{TOKEN}", f"jsons://u:{TOKEN}@127.0.0.1:1/x?token={TOKEN}")
    said = teller(*urls, database_url=SecretStr(f"postgresql://u:{TOKEN}pw@h/d"))
    teller(*urls, at=NOON + MINUTE)
    assert said == "1 new message. 0 deliveries, 4 failed."
    everything = [query(database, f"SELECT * FROM {table}") for table in ("alerts", "alert_messages", "alert_deliveries")]
    assert [len(rows) for rows in everything] == [1, 1, 4]
    assert TOKEN not in f"{everything} {capfd.readouterr()} {caplog.text} {said}"
    assert TOKEN not in str(hook.messages)
    assert "could not connect to" in hook.messages[0]["message"]


# -- the command line


@pytest.fixture
def command(monkeypatch, tmp_path, database):
    return CommandLine(monkeypatch, tmp_path, database)


def test_the_command_lists_what_was_told_and_to_whom(book, hook, teller, command):
    assert "Nothing is wrong that was told." in command("alerts").out
    book.open()
    hook.answers = [500]
    teller(hook.url)
    listed = command("alerts").out
    assert "AAPL in U1: book 100, broker 95" in listed
    assert "json-1 waiting after 1 attempt: Failed to send JSON POST notification" in listed
    teller(hook.url, at=NOON + MINUTE)
    assert "json-1 taken" in command("alerts").out
    book.resolve()
    teller(at=NOON + 2 * MINUTE)
    assert command("alerts", "--json").json == []
    (row,) = command("alerts", "--all", "--json").json
    assert (row["kind"], row["told"], row["ending"], row["accounts"]) == ("break", 2, "recovered", ["U1"])
    assert row["recovered_at"] == "2026-11-20T17:02:00+00:00"


def test_a_test_message_goes_to_each_channel_and_says_what_came_of_it(hook, command):
    with mail_server() as box:
        good = command("alerts", "test", POSITION_SYNC_ALERTS=f"{hook.url} {box.url}")
        assert (good.code, good.out.splitlines()) == (0, ["json-1: taken", "mailto-1: taken"])
        assert (hook.titles(), len(box.mails)) == (["A test of position-pipeline"], 1)
    hook.answers = [404]
    bad = command("alerts", "test", "--json", POSITION_SYNC_ALERTS=hook.url)
    assert bad.code == 1
    assert bad.json == [{"channel": "json-1", "ok": False, "error": "Failed to send JSON POST notification: Page not found., error=404."}]
    none = command("alerts", "test")
    assert (none.code, "POSITION_SYNC_ALERTS is not set" in none.err) == (2, True)


def test_the_doctor_says_whether_the_channels_are_understood_and_shows_none(command):
    def alerts(**settings):
        return next(check for check in command("doctor", "--json", **settings).json["checks"] if check["name"] == "alerts")

    assert alerts()["detail"] == "no channel is set, so alerts are only listed: position-pipeline alerts"
    good = alerts(POSITION_SYNC_ALERTS=f"json://h/{TOKEN} mailto://u:{TOKEN}@example.com")
    assert (good["ok"], good["detail"]) == (True, "json-1, mailto-1 are understood")
    bad = alerts(POSITION_SYNC_ALERTS=f"json://h/{TOKEN} nonsense://{TOKEN}")
    assert (bad["ok"], bad["detail"]) == (False, "nonsense-1: no service of apprise is addressed like this")
    assert "position-pipeline alerts test" in bad["remedy"]
    assert TOKEN not in f"{good} {bad}"


def test_the_least_impact_is_a_setting(book, teller):
    assert load({"POSITION_SYNC_ALERT_MIN_IMPACT": "1000.50"}).alert_min_impact == Decimal("1000.50")
    book.open()
    assert teller(alert_min_impact=Decimal(951)) == "There is nothing new to tell."
    assert teller(alert_min_impact=Decimal(950)).startswith("1 new message.")


def wait_for(what):
    for _ in range(500):
        if what():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within ten seconds")
