"""The command line as programs and people meet it: the JSON that is promised, exit codes, bad input, streams and signals.

Each test has a database of its own; the broker is the simulator on a real socket.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import psycopg2
import pytest

from position_pipeline.store import Store
from position_pipeline_tests.command_line import CommandLine, gateway, trade
from position_pipeline_tests.conftest import _database

READS = ("positions", "closes", "executions", "breaks", "adjustments", "events", "accounts", "status")


@pytest.fixture
def command(monkeypatch, tmp_path, database):
    """The command line on a database of this test's own."""
    return CommandLine(monkeypatch, tmp_path / "home", database)


@pytest.fixture
def unconnected(monkeypatch, tmp_path):
    """The command line where no command comes as far as a database."""
    return CommandLine(monkeypatch, tmp_path / "home")


@pytest.fixture(scope="module")
def shared(server, tmp_path_factory):
    """One of each, synced before the trades and after them: for what changes nothing. `broker` is healthy again after each test."""
    with pytest.MonkeyPatch.context() as patch, contextmanager(_database)(server, "template_book") as database, gateway() as broker:
        command = CommandLine(patch, tmp_path_factory.mktemp("home"), database).with_broker(broker)
        command.broker = broker
        command.syncs = [command("sync", "--json")]
        command.ids = trade(broker)
        command.syncs += [command("sync", "--json"), command("sync", "--json")]
        yield command


@pytest.fixture
def traded(shared):
    yield shared
    shared.broker.heal()


def by(rows, *names):
    return {tuple(row[name] for name in names) if len(names) > 1 else row[names[0]]: row for row in rows}


def check_types(rows, *, numbers=(), times=(), texts=(), nullable=()):
    """Money, prices and quantities are strings with all digits, times are ISO 8601 in UTC."""
    assert rows
    for row in rows:
        for name in (*numbers, *times, *texts):
            value = row[name]  # the field is there
            if value is None:
                assert name in nullable, (name, row)
                continue
            assert isinstance(value, str), (name, value)
            if name in numbers:
                assert re.fullmatch(r"-?\d+(\.\d*[1-9])?", value), (name, value)
            if name in times:
                assert datetime.fromisoformat(value).utcoffset().total_seconds() == 0
                assert value.endswith("+00:00")


# -- the JSON that is promised


def test_sync_tells_what_it_did_to_each_account(traded):
    first, second, third = (done.json for done in traded.syncs)
    assert [done.code for done in traded.syncs] == [0, 0, 0]
    assert [(row["account"], row["outcome"], row["created"]) for row in first] == [("U1", "synced", ["AAPL"]), ("U2", "unchanged", [])]
    u1, u2 = second
    assert (u1["outcome"], u1["created"]) == ("synced", ["AAPL 280121C00250000", "BTC", "KO", "MSFT", "TSLA"])
    assert (u1["closed"], u1["unchanged"], u1["fills"]) == (["KO"], 1, 8)  # KO came and went; AAPL, the share, is as it was
    assert (u2["outcome"], u2["created"], u2["fills"]) == ("synced", ["SAP"], 1)
    assert [(row["outcome"], row["unchanged"]) for row in third] == [("unchanged", 5), ("unchanged", 1)]
    for row in (*first, *second, *third):
        assert row["errors"] == []
        assert row["snapshot_status"] == "complete"
        assert isinstance(row["duration_ms"], int)
        assert all(isinstance(row[name], list) for name in ("created", "updated", "closed", "errors"))


POSITION_NUMBERS = (
    "multiplier", "quantity", "broker_quantity", "average_price", "cost", "open_commission", "broker_average_price", "market_price",
    "market_value", "unrealized_pnl", "realized_pnl", "realized_pnl_gross",
)  # fmt: skip


def test_positions_have_every_field_with_its_type(traded):
    open_ones, all_ones = traded("positions", "--json").json, traded("positions", "--all", "--json").json
    texts = ("account", "broker", "symbol", "instrument", "sec_type", "currency", "status", "basis_quality")
    check_types(open_ones, numbers=POSITION_NUMBERS, times=("opened_at", "last_synced_at"), texts=texts)
    flat = ("average_price", "broker_average_price", "market_price", "market_value", "unrealized_pnl")
    check_types(all_ones, numbers=POSITION_NUMBERS, times=("opened_at", "closed_at"), texts=texts, nullable=(*flat, "closed_at"))
    assert {row["stale"] for row in all_ones} == {False}
    assert {row["broker"] for row in all_ones} == {"ibkr"}
    assert len(all_ones) == len(open_ones) + 1


def test_positions_are_what_was_traded_to_the_last_digit(traded):
    found = by(traded("positions", "--json").json, "instrument")

    def figures(instrument, *names):
        return tuple(found[instrument][name] for name in names)

    share, call, coin, short, flipped, euro = (
        "ibkr:265598",
        "ibkr:712940105",
        "ibkr:479624278",
        "ibkr:272093",
        "ibkr:76792991",
        "ibkr:14204",
    )
    assert set(found) == {share, call, coin, short, flipped, euro}
    value = ("quantity", "average_price", "cost", "open_commission", "market_value", "unrealized_pnl")
    # Held before the first sync at the broker's average: 100 x 150.25 = 15025; 100 x 200 = 20000.
    assert figures(share, *value, "basis_quality") == ("100", "150.25", "15025", "0", "20000", "4975", "broker")
    # 2 x 40 x 100 bought, 1 sold at 45: one stays at 4000 with half of the 1.30; (45 - 40) x 100 - 0.65 - 1.00 = 498.35.
    assert figures(call, *value, "multiplier") == ("1", "40", "4000", "0.65", "4400", "400", "100")
    assert figures(call, "realized_pnl_gross", "realized_pnl", "sec_type") == ("500", "498.35", "OPT")
    # 0.01234567 x 64000 = 790.12288; at 64210 it is 792.7154707.
    assert figures(coin, *value) == ("0.01234567", "64000", "790.12288", "1.75", "792.7154707", "2.5925907")
    # A short: quantity, cost and value are negative; -5 x 430 - (-5 x 429.50) = -2.50.
    assert figures(short, *value) == ("-5", "429.5", "-2147.5", "1", "-2150", "-2.5")
    # Through zero: 30 of the 50 close the short at (250 - 240) x 30 = 300 less 1.00 and 0.60 of the 1.00; 20 open with the other 0.40.
    assert figures(flipped, *value) == ("20", "240", "4800", "0.4", "4820", "20")
    assert figures(flipped, "realized_pnl_gross", "realized_pnl") == ("300", "298.4")
    assert figures(euro, "account", "currency", "cost", "open_commission") == ("U2", "EUR", "4252", "2.126")  # 20 x 212.60
    assert all(row["quantity"] == row["broker_quantity"] and row["status"] == "open" for row in found.values())


def test_realised_profit_is_not_shown_where_the_setting_is_off_and_booked_all_the_same(traded):
    shown = traded("positions", "--all", "--json", POSITION_SYNC_CALCULATE_REALIZED_PNL="false").json
    assert {(row["realized_pnl"], row["realized_pnl_gross"]) for row in shown} == {(None, None)}
    assert traded("closes", "--json", POSITION_SYNC_CALCULATE_REALIZED_PNL="false").json == traded("closes", "--json").json != []


def test_closed_positions_are_listed_only_when_all_are_asked_for(traded):
    (closed,) = [row for row in traded("positions", "--all", "--json").json if row["status"] == "closed"]
    assert (closed["symbol"], closed["quantity"], closed["cost"], closed["average_price"]) == ("KO", "0", "0", None)
    # 10 x (61 - 60) = 10, less 1.00 twice.
    assert (closed["realized_pnl_gross"], closed["realized_pnl"], closed["open_commission"]) == ("10", "8", "0")
    assert closed["closed_at"] == "2026-11-20T14:57:00+00:00"


def test_an_account_can_be_picked(traded):
    assert {row["account"] for row in traded("positions", "--account", "U2", "--json").json} == {"U2"}
    assert {row["account"] for row in traded("executions", "-a", "U1", "-a", "U2", "--json").json} == {"U1", "U2"}


def test_closes_have_every_field_and_the_sign_of_what_they_closed(traded):
    rows = traded("closes", "--json").json
    numbers = ("quantity", "entry_price", "exit_price", "gross_pnl", "opening_commission", "closing_commission", "net_pnl")
    texts = ("account", "symbol", "instrument", "currency", "method", "execution_id")
    check_types(rows, numbers=numbers, times=("opened_at", "closed_at"), texts=texts)
    found = by(rows, "symbol")
    assert {symbol: [row[name] for name in numbers] for symbol, row in found.items()} == {
        "AAPL 280121C00250000": ["1", "40", "45", "500", "0.65", "1", "498.35"],
        "TSLA": ["-30", "250", "240", "300", "1", "0.6", "298.4"],
        "KO": ["10", "60", "61", "10", "1", "1", "8"],
    }
    assert {symbol: row["partial"] for symbol, row in found.items()} == {"AAPL 280121C00250000": True, "TSLA": False, "KO": False}
    assert {row["method"] for row in rows} == {"fifo"}
    closing = [traded.ids[number] for number in (1, 3, 6)]
    assert [row["execution_id"] for row in rows] == [fill["execution_id"] for fill in _executions(traded, closing)]


def _executions(command, broker_ids):
    """Our rows of the broker's ids, whose last part is the revision."""
    rows = command("executions", "--json").json
    return [row for broker_id in broker_ids for row in rows if broker_id.startswith(row["execution_id"])]


def test_executions_have_every_field_and_are_listed_once(traded):
    rows = traded("executions", "--json").json
    numbers = ("quantity", "price", "multiplier", "commission")
    texts = ("execution_id", "account", "symbol", "instrument", "side", "currency", "commission_currency", "order_id", "source")
    check_types(rows, numbers=numbers, times=("time",), texts=texts)
    assert len(rows) == len({row["execution_id"] for row in rows}) == 9
    assert {row["revision"] for row in rows} == {1}
    option, *_, euro = rows
    assert [option[name] for name in ("side", "quantity", "price", "multiplier", "commission")] == ["BUY", "2", "40", "100", "1.3"]
    assert [euro[name] for name in ("symbol", "price", "commission", "commission_currency")] == ["SAP", "212.6", "2.126", "EUR"]


def test_a_corrected_fill_is_listed_once_in_its_latest_revision(command):
    with gateway() as broker:
        command.with_broker(broker)
        fill = broker.execute("U1", "KO", "BUY", 10, "60", commission="1")
        command("sync")
        broker.correct(fill, price="59")
        command("sync")
        (row,) = command("executions", "--json").json
        (position,) = [row for row in command("positions", "--json").json if row["symbol"] == "KO"]
    assert (row["revision"], row["price"]) == (2, "59")
    assert (position["cost"], position["average_price"]) == ("590", "59")  # 10 x 59


def test_accounts_tell_how_fresh_they_are(traded):
    rows = traded("accounts", "--json").json
    check_types(rows, times=("last_synced_at", "last_attempt_at"), texts=("account", "broker", "base_currency", "last_outcome"))
    assert [(row["account"], row["base_currency"], row["positions"], row["open_breaks"]) for row in rows] == [
        ("U1", "USD", 5, 0),
        ("U2", "EUR", 1, 0),
    ]
    assert all(0 <= row["age_seconds"] < 60 and row["stale"] is False for row in rows)


def test_status_counts_the_runs_and_shows_each_account(command):
    assert command("status", "--json").json["last_result"] is None
    with gateway() as broker:
        command.with_broker(broker)
        command("sync")
        command("sync")
    found = command("status", "--json").json
    assert (found["enabled"], found["is_running"], found["next_run_time"]) == (True, False, None)
    assert (found["total_runs"], found["successful_runs"], found["failed_runs"], found["last_error"]) == (2, 2, 0, None)
    assert found["last_result"] == {"U1": "unchanged", "U2": "unchanged"}
    assert "5 minutes" in found["schedule"]
    assert isinstance(found["last_run_duration_ms"], int)
    check_types([found], times=("last_run_time",))
    for row in found["accounts"]:
        assert (row["connected"], row["stale"], row["open_breaks"]) == (True, False, 0)
        assert row["age_seconds"] < 60
        assert row["last_synced_at"]
    assert datetime.fromisoformat(found["last_run_time"]) <= datetime.now(UTC)


@pytest.mark.parametrize("words", [(name,) for name in READS] + [("sync",), ("doctor",), ("positions", "--all"), ("breaks", "--all")])
def test_json_is_all_that_json_prints(traded, words):
    done = traded(*words, "--json")
    assert done.code == 0
    assert done.json is not None
    assert done.err == ""


@pytest.mark.parametrize("name", [name for name in READS if name != "status"])
def test_a_list_is_an_array_even_when_it_is_empty(command, name):
    assert command(name, "--json").json == []


def test_reading_needs_no_broker_and_shows_the_age_of_what_it_shows(traded):
    done = traded("positions", "--json", POSITION_SYNC_STALE_AFTER="0.001", POSITION_SYNC_IBKR_PORT="1")
    assert done.code == 0
    assert {row["stale"] for row in done.json} == {True}
    assert "(stale)" in traded("positions", POSITION_SYNC_STALE_AFTER="0.001").out


def test_a_small_number_is_written_out_and_a_big_one_keeps_its_digits(command):
    coin = '{ symbol = "SHIB", con_id = 7, sec_type = "CRYPTO", exchange = "PAXOS", price = 0.00000851 }'
    scenario = f'instruments = [{coin}]\nprice_every = 0\n[[accounts]]\nid = "U1"\ncash = {{ USD = 1 }}\n'
    with gateway(scenario=scenario) as broker:
        command.with_broker(broker)
        broker.execute("U1", "SHIB", "BUY", "12345678901.123456789012", "0.00000851", commission="0")
        command("sync")
        (row,) = command("positions", "--json").json
    assert row["quantity"] == "12345678901.123456789012"
    assert row["average_price"] == "0.00000851"
    assert Decimal(row["cost"]) == Decimal("12345678901.123456789012") * Decimal("0.00000851")


# -- exit codes


def test_an_account_that_is_being_synced_is_answered_with_75_and_the_others_are_synced(command, database):
    with gateway() as broker:
        command.with_broker(broker)
        command("sync")
        with Store(database) as other, other.syncing("U1", wait=False) as held:
            assert held
            assert command("status", "--json").json["is_running"] is True
            done = command("sync", "--json")
            said = command("sync").err
        assert done.code == 75
        assert {row["account"]: row["outcome"] for row in done.json} == {"U1": "already_running", "U2": "unchanged"}
        assert "U1" in said
        assert "already running" in said
        assert command("sync").code == 0
        assert command("status", "--json").json["is_running"] is False


def test_failed_weighs_more_than_already_running(command, database):
    with gateway() as broker:
        command.with_broker(broker)
        command("sync")
        with Store(database) as other, other.syncing("U1", wait=False):
            broker.inject("refuse")
            assert command("sync").code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("synk",), "No such command 'synk'"),
        (("sync", "--acount", "U1"), "--acount"),
        (("import",), "FILE"),
        (("positions", "extra"), "extra"),
        (("simulator", "--port", "70000"), "--port"),
        (("simulator", "--speed", "-1"), "--speed"),
        (("simulator", "--fault", "nonsense"), "unknown fault 'nonsense'"),
        (("simulator", "--scenario", "/nowhere.toml"), "/nowhere.toml"),
        (("simulator", "--executions-since", "noon"), "midnight"),
    ],
)
def test_bad_use_ends_with_2_and_names_what_is_wrong(unconnected, words, said):
    done = unconnected(*words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize("words", [(name,) for name in (*READS, "sync", "doctor")] + [("db", "upgrade"), ("import", "x.xml")])
def test_an_unknown_setting_stops_every_command_and_suggests_the_right_one(unconnected, words):
    done = unconnected(*words, POSITION_SYNC_BROKER_TIMOUT="3")
    assert (done.code, done.out) == (2, "")
    assert "Unknown setting POSITION_SYNC_BROKER_TIMOUT. Did you mean POSITION_SYNC_BROKER_TIMEOUT?" in done.err


@pytest.mark.parametrize("name", ["positions", "closes", "executions", "breaks", "adjustments", "events", "verify"])
def test_an_account_that_is_not_known_is_bad_use_and_not_an_empty_list(traded, name):
    """An empty list would read as: this account holds nothing."""
    done = traded(name, "--account", "U3", "--json")
    assert (done.code, done.out) == (2, "")
    assert "Account U3 is not known. Known are: U1, U2." in done.err


def test_every_command_explains_itself(unconnected):
    for words in ((name,) for name in (*READS, "sync", "up", "import", "simulator", "doctor", "db", "verify", "explain", "replay")):
        done = unconnected(*words, "--help")
        assert done.code == 0
        assert "Usage: position-pipeline" in done.out


# -- the past, proofs and reasons


def test_positions_of_another_time_have_the_same_fields_without_the_market(traded):
    today, then = traded("positions", "--json").json, traded("positions", "--as-of", "2100-01-01", "--json").json
    assert {tuple(row) for row in today} == {tuple(today[0])}
    assert {frozenset(row) for row in then} == {frozenset(today[0])}
    same = ("account", "symbol", "quantity", "average_price", "cost", "open_commission", "realized_pnl", "opened_at", "status")
    assert by(then, *same).keys() == by(today, *same).keys()
    assert {(row["market_price"], row["unrealized_pnl"], row["last_synced_at"], row["stale"]) for row in then} == {
        (None, None, None, False)
    }


@pytest.mark.parametrize("option", ["--as-of", "--known-at"])
def test_long_ago_nothing_was_held_and_nothing_closed(traded, option):
    assert traded("positions", option, "2001-01-01T00:00:00-05:00", "--json").json == []
    assert traded("closes", option, "2001-01-01T00:00:00-05:00", "--json").json == []
    assert traded("positions", option, "2001-01-01").out == "No open positions then.\n"
    assert len(traded("closes", option, "2100-01-01", "--json").json) == len(traded("closes", "--json").json) > 0


def test_a_method_is_set_for_an_account_or_a_kind_and_shown(command, tmp_path):
    file = tmp_path / "fills.csv"
    file.write_text(FILLS)
    command("import", file)
    (row,) = command("accounts", "--method", "U9=LIFO", "--method", "U9:crypto=average", "--json").json
    assert (row["cost_method"], row["cost_methods"]) == ("lifo", {"CRYPTO": "average"})
    assert "lifo, CRYPTO average" in command("accounts").out
    assert [row["method"] for row in command("closes", "--json").json] == ["lifo"]
    assert command("verify").code == 0
    for wrong in ("U9", "U9=best", "=fifo"):
        assert command("accounts", "--method", wrong).code == 2
    assert command("accounts", "--method", "U8=fifo").code == 2


@pytest.mark.parametrize("name", ["positions", "closes"])
def test_what_is_no_time_is_bad_use(unconnected, name):
    done = unconnected(name, "--as-of", "yesterday")
    assert (done.code, done.out) == (2, "")
    assert "--as-of 'yesterday' is no time. Give ISO 8601, such as 2026-03-02 or 2026-03-02T14:30:00Z." in " ".join(done.err.split())


def test_verify_finds_a_good_book_good_and_a_bad_one_bad(command, database):
    with gateway() as broker:
        command.with_broker(broker)("sync")
        trade(broker)
        command("sync")
        done = command("verify", "--json")
        assert (done.code, done.json["good"], done.json["differences"]) == (0, True, [])
        assert done.json["positions"] > 0
        with psycopg2.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE closes SET gross_pnl = gross_pnl + 1 RETURNING id")
            changed = len(cursor.fetchall())
        done = command("verify", "--json")
        assert (done.code, done.json["good"], done.json["found"]) == (1, False, changed)
        assert {(row["table"], row["column"]) for row in done.json["differences"]} == {("closes", "gross_pnl")}
        done = command("verify")
        assert done.code == 1
        assert "The book is not what its entries make" in done.out


def test_a_close_is_explained_by_its_id_and_by_its_execution(traded):
    close = traded("closes", "--json").json[0]
    by_id, by_execution = traded("explain", close["id"]), traded("explain", close["execution_id"], "-a", close["account"])
    assert by_id.code == 0
    assert by_id.out.startswith(f"Close {close['id']}: {close['symbol']} ({close['instrument']}) in {close['account']}")
    assert by_id.out in by_execution.out
    assert f" = {close['net_pnl']} {close['currency']}" in by_id.out


def test_a_position_is_explained_by_its_symbol(traded):
    position = traded("positions", "--json").json[0]
    (found,) = traded("explain", position["instrument"], "-a", position["account"], "--json").json
    assert found["position"]["quantity"] == position["quantity"]
    assert traded("explain", position["symbol"], "-a", position["account"]).out.splitlines() == found["lines"]


def test_what_cannot_be_explained_is_bad_use(traded):
    done = traded("explain", "nonsense")
    assert (done.code, done.out) == (2, "")
    assert "'nonsense' is no close, no execution that closed anything, and no position." in " ".join(done.err.split())


FILLS = """type,account,instrument,side,quantity,price,commission,time,execution_id
fill,U9,ACME,BUY,10,100,1,2026-01-05T15:00:00Z,e1
fill,U9,ACME,SELL,4,110,1,2026-01-06T15:00:00Z,e2
fill,U9,ACME,SELL,-4,110,1,2026-01-06T15:00:00Z,e3
"""


def test_a_file_of_fills_is_replayed_without_a_database_and_imported_with_one(command, unconnected, tmp_path):
    file = tmp_path / "fills.csv"
    file.write_text(FILLS)
    replayed = unconnected("replay", file, "--json")
    assert (replayed.code, replayed.json["identity"]) == (1, {"USD": "0"})
    imported = command("import", file, "--json")
    (row,) = [row for row in imported.json if row["account"] == "U9"]
    assert (imported.code, row["fills"], row["positions_changed"]) == (0, 2, 1)
    reasons = [each["reason"] for row in imported.json for each in row["refused_rows"]]
    assert len(reasons) == 1
    assert reasons[0].startswith("line 4: ")
    (held,) = command("positions", "--json").json
    assert (held["quantity"], held["realized_pnl"]) == ("6", replayed.json["positions"][0]["realized_pnl"]) == ("6", "38.6")
    assert command("verify").code == 0
    assert [row["fills"] for row in command("import", file, "--json").json if row["account"]] == [0]
    assert "0 new fills" in command("import", file).out


# -- a broker that fails


def book(command):
    """What the book says, without its age."""
    aged = ("age_seconds", "stale")
    return [{name: value for name, value in row.items() if name not in aged} for row in command("positions", "--all", "--json").json]


FAULTS = [
    ("hang:positions", "no complete answer within"),
    ("hang:handshake", "handshake"),
    ("hang:executions", "executions"),
    ("hang:account-updates", "account values"),
    ("missing-end:positions", "no complete answer within"),
    ("truncate:positions:after=1", "U1"),
    ("empty:positions", "U1"),
    ("omit:positions:symbol=MSFT", "U1"),
    ("drop:positions:after=1", "positions"),
    ("reset:positions:after=1", "positions"),
    ("garbage-length:positions", "positions"),
    ("silent", "handshake"),
    ("refuse", "nothing listens there"),
    ("client-id-taken", "client id"),
    ("error:positions", "refused"),
]


@pytest.mark.parametrize(("fault", "said"), FAULTS, ids=[fault for fault, _ in FAULTS])
def test_a_broker_that_fails_changes_no_position_and_is_told_in_words(traded, fault, said):
    before, runs = book(traded), traded("status", "--json").json
    traded.broker.inject(fault)
    began = time.monotonic()
    done = traded("sync", "--account", "U1", POSITION_SYNC_BROKER_TIMEOUT="0.5")
    took = time.monotonic() - began
    assert done.code == 1
    assert took < 0.5 + 1.5  # the deadline, the grace to hang up, and our own work
    assert book(traded) == before
    assert done.err.startswith("U1")
    assert said in done.err
    assert "Traceback" not in done.err + done.out
    assert len(done.err.splitlines()) == 1
    found = traded("status", "--json").json
    (account,) = [row for row in found["accounts"] if row["account"] == "U1"]
    assert [found[name] - runs[name] for name in ("total_runs", "successful_runs", "failed_runs")] == [1, 0, 1]
    assert account["last_outcome"] in ("failed", "rejected")
    assert found["last_result"] == {"U1": account["last_outcome"]}
    assert found["last_error"]["account"] == "U1"
    assert said in found["last_error"]["error"]


def test_a_gateway_that_hangs_is_left_at_the_deadline(traded):
    traded.broker.inject("hang:positions")
    began = time.monotonic()
    assert traded("sync", POSITION_SYNC_BROKER_TIMEOUT="2").code == 1
    assert 2 <= time.monotonic() - began < 4


def test_one_bad_row_leaves_its_symbol_as_it_was_and_the_others_are_synced(command):
    with gateway() as broker:
        command.with_broker(broker)
        trade(broker)
        command("sync")
        broker.execute("U1", "MSFT", "BUY", 5, "430", commission="1")
        broker.inject("garble:positions:row=1")
        done = command("sync", "--json")
    row = by(done.json, "account")["U1"]
    assert done.code == 1
    assert row["outcome"] in ("partial", "rejected")
    assert row["errors"]
    assert all({"symbol", "error"} == set(error) for error in row["errors"])


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("127.0.0.1", "1", "nothing listens there"),
        ("no-such-host.invalid", "4001", "the host name 'no-such-host.invalid' is not known"),
    ],
)
def test_a_wrong_host_or_port_before_anything_is_known_says_what_to_correct(command, host, port, said):
    done = command("sync", "--json", POSITION_SYNC_IBKR_HOST=host, POSITION_SYNC_IBKR_PORT=port)
    (row,) = done.json
    assert done.code == 1
    assert (row["outcome"], row["created"], row["snapshot_status"]) == ("failed", [], None)
    assert said in row["errors"][0]["error"]
    assert f"{host}:{port}" in row["errors"][0]["error"]
    assert command("status", "--json").json["failed_runs"] == 1
    assert command("positions").code == 0


def test_one_error_of_several_accounts_is_told_once(traded):
    traded.broker.inject("refuse")
    done = traded("sync")
    (line,) = done.err.splitlines()
    assert line.startswith("U1, U2: Interactive Brokers at 127.0.0.1:")


def test_a_mistyped_account_is_told_with_those_that_there_are(command):
    with gateway() as broker:
        command.with_broker(broker)
        done = command("sync", "--account", "U3")
    assert done.code == 1
    assert "U3: this login has no such account; it has U1, U2" in done.err
    assert command("accounts", "--json").json == []


def test_without_a_broker_sync_says_how_to_get_one(command):
    done = command("sync")
    assert (done.code, done.out) == (1, "")
    assert "POSITION_SYNC_IBKR_HOST" in done.err
    assert "position-pipeline up" in done.err


def test_what_answers_with_another_protocol_is_no_broker(command):
    """A web server on the port, for instance."""
    with _answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as port:
        done = command("sync", POSITION_SYNC_IBKR_HOST="127.0.0.1", POSITION_SYNC_IBKR_PORT=str(port))
    assert done.code == 1
    assert f"127.0.0.1:{port}" in done.err
    assert "Traceback" not in done.err


@contextmanager
def _answering(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


# -- a database that fails

SECRET = "sesame-open-wide"


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        (f"nonsense {SECRET}", 2, "Bad setting DATABASE_URL: must look like postgresql://user:password@host:5432/database"),
        (f"mysql://root:{SECRET}@127.0.0.1/x", 2, "must look like"),
        (f"postgresql://owner:{SECRET}@127.0.0.1:1/x", 1, "PostgreSQL at 127.0.0.1:1/x"),
        (f"postgresql://owner:{SECRET}@127.0.0.1:five/x", 1, "PostgreSQL at"),
        (f"postgresql://owner:{SECRET}@no-such-host.invalid/x", 1, "no-such-host.invalid"),
        (f"postgresql://127.0.0.1:1/x?password={SECRET}&nonsense=1", 1, "PostgreSQL at"),
    ],
)
def test_a_database_that_cannot_be_had_is_told_without_its_password(unconnected, url, code, said):
    for words in (("positions",), ("sync",), ("status", "--json"), ("import", "x.xml"), ("db", "upgrade")):
        done = unconnected(*words, DATABASE_URL=url)
        assert (words, done.code, done.out) == (words, code, "")
        assert said in done.err
        assert SECRET not in done.err
        assert "Traceback" not in done.err


def test_a_wrong_password_is_told_and_not_shown(unconnected, server):
    url = re.sub(r":[^:@]+@", f":{SECRET}@", server)
    done = unconnected("positions", DATABASE_URL=url)
    assert done.code == 1
    assert "password authentication failed" in done.err
    assert SECRET not in done.err


def test_an_empty_database_of_ones_own_waits_for_db_upgrade(monkeypatch, tmp_path, empty_database):
    command = CommandLine(monkeypatch, tmp_path, empty_database)
    for words in (("positions", "--json"), ("sync",), ("import", "x.xml")):
        done = command(*words)
        assert (done.code, done.out) == (1, "")
        assert "position-pipeline db upgrade" in done.err
    assert command("db", "upgrade").out.startswith("The database went from nothing to revision ")
    assert "already" in command("db", "upgrade").out
    assert command("positions", "--json").json == []


@pytest.mark.parametrize(("revision", "said"), [("0000", "Run: position-pipeline db upgrade"), ("9999", "Update position_pipeline")])
def test_a_database_of_another_revision_is_refused_with_what_to_do(command, database, revision, said):
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE alembic_version SET version_num = %s", (revision,))
    connection.close()
    for words in (("positions",), ("sync",), ("status",)):
        done = command(*words)
        assert (done.code, done.out) == (1, "")
        assert revision in done.err
        assert said in done.err


def test_up_refuses_a_database_of_another_revision_and_starts_nothing(command, database):
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    done = command.process("up")
    assert (done.code, done.out) == (1, "")
    assert "newer than this version's" in done.err
    assert not (Path(command.settings["POSITION_SYNC_HOME"]) / "run" / "supervisord.conf").exists()


def test_a_database_that_may_only_be_read_is_told_in_words(command, database):
    with gateway() as broker:
        done = command.with_broker(broker)("sync", DATABASE_URL=f"{database}?options=-cdefault_transaction_read_only%3Don")
    assert done.code == 1
    assert "read-only" in done.err
    assert "Traceback" not in done.err


# -- the embedded database, as a process of its own


def embedded_processes(home):
    """Processes whose command line names this home."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if str(home).encode() in words and int(pid) != os.getpid():
            found.append(int(pid))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_fresh_home_gets_its_database_by_itself_and_keeps_no_process(monkeypatch, tmp_path):
    command = CommandLine(monkeypatch, tmp_path / "new" / "home")
    done = command.process("accounts", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json == []
    assert (tmp_path / "new" / "home" / "postgres").exists()
    assert embedded_processes(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_sigterm_in_the_middle_of_a_sync_leaves_no_server_behind(monkeypatch, tmp_path):
    command = CommandLine(monkeypatch, tmp_path / "home")
    with gateway("hang:positions") as broker:
        command.with_broker(broker)
        words = [sys.executable, "-m", "position_pipeline.cli", "sync"]
        environment = command.environment(POSITION_SYNC_BROKER_TIMEOUT="60")
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + 30
            while not broker.clients and time.monotonic() < deadline:
                time.sleep(0.02)
            connected = bool(broker.clients)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
    assert connected
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in said
    assert embedded_processes(tmp_path) == []


def test_a_home_that_cannot_be_is_told_in_words(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = CommandLine(monkeypatch, tmp_path / "file" / "home")("positions")
    assert (done.code, done.out) == (1, "")
    assert "POSITION_SYNC_HOME" in done.err
    assert "Traceback" not in done.err


# -- streams


def test_a_reader_that_goes_away_is_no_fault(traded):
    """`position-pipeline executions --json | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "position_pipeline.cli", "executions", "--json"]
    with subprocess.Popen(words, env=traded.environment(), stdout=writing, stderr=subprocess.PIPE, text=True) as process:
        os.close(writing)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_in_words(traded):
    words = [sys.executable, "-m", "position_pipeline.cli", "executions", "--json"]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(words, env=traded.environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_standard_output_it_works_in_silence(traded):
    words = ["sh", "-c", f"exec '{sys.executable}' -m position_pipeline.cli positions >&-"]
    done = subprocess.run(words, env=traded.environment(), capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)


def test_a_fault_of_ours_is_one_line_and_its_details_are_kept(command, database, tmp_path):
    """A time that Python cannot hold stands for whatever nobody thought of."""
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO accounts (account, broker, last_synced_at) VALUES ('U1', 'ibkr', '9999-12-31 23:00:00-12')")
    connection.close()
    done = command("accounts")
    (line,) = done.err.splitlines()
    file = tmp_path / "home" / "logs" / "faults.log"
    assert (done.code, done.out) == (1, "")
    assert line.startswith("This is a fault in position-pipeline (")
    assert line.endswith(f" The details are in {file}.")
    assert "Traceback" in file.read_text(encoding="utf-8")


def test_a_table_that_is_not_as_it_should_be_is_told_in_the_words_of_the_database(command, database):
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE accounts RENAME COLUMN account TO gone")
    connection.close()
    done = command("accounts")
    (line,) = done.err.splitlines()
    assert (done.code, done.out) == (1, "")
    assert line.startswith("PostgreSQL refused: column a.account does not exist")


# -- the simulated broker


def test_the_simulated_broker_says_where_it_listens_and_ends_when_it_is_told(unconnected, tmp_path):
    address = tmp_path / "there" / "address.json"
    words = [sys.executable, "-m", "position_pipeline.cli", "simulator", "--address-file", str(address)]
    with subprocess.Popen(words, env=unconnected.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            written = json.loads(address.read_text(encoding="utf-8"))
            taken = unconnected("simulator", "--port", written["port"])
        finally:
            process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert line == f"The simulated broker listens on 127.0.0.1:{written['port']}. Ctrl-C stops it.\n"
    assert (process.returncode, said) == (0, "")
    assert (taken.code, taken.err) == (1, "The simulated broker cannot run: Address already in use\n")
