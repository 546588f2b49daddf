"""The commands around differences and the life of positions, as people and programs meet them: breaks, adjustments, events.

Each test has a database of its own. Where a broker is needed, it is the simulator on a real socket; the break with a proposal is made by
answers that the tests of the store use too.
"""

from __future__ import annotations

import getpass
import re
from datetime import timedelta

import pytest

from position_pipeline.accounting.circumstances import Policy
from position_pipeline.store import Store
from position_pipeline_tests.command_line import MORNING, CommandLine, gateway, trade
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, EVERYTHING, KO, buy, holding, snapshot
from position_pipeline_tests.test_cli import check_types

ASK = {"POSITION_SYNC_ON_UNEXPLAINED": "ask", "POSITION_SYNC_TIMING_WINDOW": "0"}
ADOPT = {"POSITION_SYNC_TIMING_WINDOW": "0"}


@pytest.fixture
def command(monkeypatch, tmp_path, database):
    """The command line on a database of this test's own."""
    return CommandLine(monkeypatch, tmp_path / "home", database)


@pytest.fixture
def differing(command):
    """A broker that has 10 KO more than it tells the fills of: they were bought yesterday, when nobody looked."""
    with gateway() as broker:
        command.with_broker(broker)
        command("sync")
        broker.execute("U1", "KO", "BUY", "10.37", "60", time=MORNING - timedelta(days=2))
        yield command


@pytest.fixture
def proposed(command, database):
    """10 AAPL became 20 at an average that does not fit: a split with one sign, which waits for a person; its id."""
    with Store(database) as store:
        store.add_account(ACCOUNT, "ibkr", base_currency="USD")
        store.record(ACCOUNT, [buy(AAPL, 10, 100)], (), EVERYTHING)
        for at, quantity, average, price in ((3600, 10, 100, 105), (3700, 20, 93, None), (4700, 20, 93, None)):
            answer = snapshot(holding(AAPL, quantity, average, price), at=at)
            store.save_snapshot(answer, EVERYTHING, "ibkr")
            store.reconcile(answer, EVERYTHING, Policy(adopts=False))
        (row,) = store.read.breaks()
    assert row["class"] == "split"
    return row["id"]


# Breaks


def test_a_difference_is_a_break_with_evidence_and_closes_when_its_cause_does(differing):
    synced = differing("sync", "--json", **ASK)
    (found,) = differing("breaks", "--json").json
    (held,) = [row for row in differing("positions", "--json").json if row["symbol"] == "KO"]
    shown = differing("breaks").out
    check_types(
        [found],
        numbers=("book_quantity", "broker_quantity"),
        times=("first_seen_at", "last_seen_at", "changed_at"),
        texts=("id", "account", "symbol", "class", "status", "proposal", "evidence"),
    )
    assert (found["account"], found["symbol"], found["class"], found["status"]) == ("U1", "KO", "timing", "open")
    assert (found["book_quantity"], found["broker_quantity"]) == ("0", "10.37")
    assert (held["quantity"], held["broker_quantity"]) == ("0", "10.37")
    assert {"0", "10.37"} <= set(re.findall(r"\d+(?:\.\d+)?", found["evidence"]))
    assert synced.json[0]["open_breaks"] == 1
    assert found["evidence"] in shown
    assert found["proposal"] in shown
    assert found["age_seconds"] >= 0


def test_what_nothing_explains_is_adopted_or_left_as_the_setting_says(differing):
    for settings, quantity in ((ASK, "0"), (ASK, "0"), (ADOPT, "10.37")):
        differing("sync", **settings)
        (held,) = [row for row in differing("positions", "--json").json if row["symbol"] == "KO"]
        assert held["quantity"] == quantity
    (found,) = differing("breaks", "--json").json
    assert (found["status"], bool(found["adopted"])) == ("open", True)
    done = differing("breaks", "accept", found["id"][:6], "--why", "bought before the pipeline ran", "--json")
    assert (done.code, done.json["adjustments"], done.json["by"]) == (0, [found["adopted"]], getpass.getuser())
    assert differing("breaks", "--json").json == []
    synced = differing("sync", "--json", **ADOPT)
    assert (synced.code, synced.json[0]["outcome"], synced.json[0]["open_breaks"]) == (0, "unchanged", 0)


def test_a_break_shows_all_that_is_known_of_it(command, proposed):
    row = command("breaks", "show", proposed, "--json").json
    assert (row["id"], row["class"], row["same_cause"]) == (proposed, "split", [])
    assert [entry["kind"] for entry in row["proposed"]] == ["split"]
    assert len(row["history"]) == 2
    shown = command("breaks", "show", proposed[:5])
    assert shown.code == 0
    for words in (
        row["evidence"],
        row["proposal"],
        "It would write: split",
        "First seen: timing",
        "1,050.00 USD",
        f"breaks accept {proposed}",
    ):
        assert words in shown.out, words


def test_a_break_is_accepted_with_a_name_and_a_reason(command, proposed):
    done = command("breaks", "accept", proposed, "--by", "ada", "--why", "announced on Monday")
    assert (done.code, done.err) == (0, "")
    assert "Accepted by ada" in done.out
    (position,) = command("positions", "--json").json
    assert (position["quantity"], position["cost"]) == ("20", "1000")
    (entry,) = command("adjustments", "--json").json
    assert (entry["kind"], entry["accepted_by"]) == ("split", "ada")
    shown = command("breaks", "show", proposed).out
    assert "announced on Monday" in shown
    assert "breaks accept" not in shown


def test_above_the_setting_a_second_name_has_to_run_the_same_command(command, proposed):
    limit = {"POSITION_SYNC_SECOND_NAME_ABOVE": "1000"}  # it is worth 1,050
    first = command("breaks", "accept", proposed, "--by", "ada", **limit)
    assert (first.code, "a second person" in first.out) == (0, True)
    again = command("breaks", "accept", proposed, "--by", "ada", **limit)
    assert (again.code, "another person" in again.err) == (1, True)
    assert command("positions", "--json").json[0]["quantity"] == "10"
    second = command("breaks", "accept", proposed, "--by", "bob", **limit)
    assert (second.code, command("positions", "--json").json[0]["quantity"]) == (0, "20")


def test_a_break_without_a_proposal_is_refused_with_what_to_do(differing):
    differing("sync", **ASK)
    (found,) = differing("breaks", "--json").json
    done = differing("breaks", "accept", found["id"])
    assert (done.code, done.out) == (1, "")
    assert "position-pipeline import FILE" in done.err
    assert f"position-pipeline breaks dismiss {found['id']}" in done.err


def test_a_dismissed_break_is_listed_only_with_all(command, proposed):
    done = command("breaks", "dismiss", proposed, "--reason", "a test account", "--by", "ada")
    assert (done.code, command("breaks", "--json").json) == (0, [])
    (row,) = command("breaks", "--all", "--json").json
    assert (row["status"], row["dismissed_by"], row["dismissed_reason"]) == ("dismissed", "ada", "a test account")
    assert command("status", "--json").json["accounts"][0]["open_breaks"] == 0


def test_a_break_of_the_account_as_a_whole_is_shown_without_a_symbol(command, database):
    with Store(database) as store:
        store.add_account(ACCOUNT, "ibkr", base_currency="USD")
        store.record(ACCOUNT, [buy(AAPL, 10, 100), buy(KO, 5, 60)], (), EVERYTHING)
        for at, held in ((3600, (holding(AAPL, 10, 100), holding(KO, 5, 60))), (3700, ())):
            answer = snapshot(*held, at=at)
            store.save_snapshot(answer, EVERYTHING, "ibkr")
            store.reconcile(answer, EVERYTHING)
    (row,) = [row for row in command("breaks", "--json").json if row["instrument"] is None]
    assert (row["symbol"], row["subject"], row["book_quantity"]) == (None, "snapshot", None)
    assert f"{row['id']} {ACCOUNT}: 2 of 2 positions" in command("breaks").out
    assert f"The account as a whole in {ACCOUNT}." in command("breaks", "show", row["id"]).out
    assert command("breaks", "accept", row["id"]).code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("breaks", "show", "nonsense"), "There is no break 'nonsense'"),
        (("breaks", "show", ""), "There is no break ''"),
        (("breaks", "accept", "nonsense"), "There is no break 'nonsense'"),
        (("breaks", "accept"), "Missing argument"),
        (("breaks", "nonsense"), "No such command"),
        (("breaks", "dismiss", "x"), "--reason"),
        (("breaks", "dismiss", "x", "--reason", " "), "--reason is empty"),
        (("breaks", "accept", "x", "--by", " "), "--by is empty"),
        (("adjustments", "reverse", "x", "--why", "so"), "There is no adjustment 'x'"),
        (("adjustments", "reverse", "x", "--why", " "), "--why is empty"),
        (("adjustments", "reverse", "x"), "--why"),
    ],
)
def test_bad_use_ends_with_2_and_says_what_is_wrong(command, words, said):
    done = command(*words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


# adjustments


def test_an_adjustment_is_taken_back_and_stays_on_record(command):
    with gateway() as broker:
        command.with_broker(broker)
        command("sync")
        (entry,) = command("adjustments", "--json").json
        assert (entry["kind"], entry["symbol"], entry["quantity"], entry["reversed_at"]) == ("opening_balance", "AAPL", "100", None)
        done = command("adjustments", "reverse", entry["id"], "--why", "the statement comes", "--by", "ada")
        assert done.code == 0
        assert "AAPL 100 -> 0" in done.out
        assert command("adjustments", "--json").json == []
        (row,) = command("adjustments", "--all", "--json").json
        assert (row["reversed_by"], row["reversed_why"]) == ("ada", "the statement comes")
        again = command("adjustments", "reverse", entry["id"], "--why", "again")
        assert (again.code, "taken back already, by ada" in again.err) == (2, True)
        synced = command("sync", "--json").json[0]
        assert synced["open_breaks"] == 1
    (row,) = command("breaks", "--json").json
    assert (row["book_quantity"], row["broker_quantity"]) == ("0", "100")


# events


def test_events_have_every_field_and_tell_how_long_a_position_was_held(command):
    with gateway() as broker:
        trade(broker)
        command.with_broker(broker)("sync")
    rows = command("events", "--json").json
    check_types(
        rows,
        numbers=("quantity_before", "quantity_after"),
        times=("at", "opened_at"),
        texts=("account", "symbol", "instrument", "type", "cause"),
    )
    told = {row["symbol"]: [] for row in rows}
    for row in rows:
        told[row["symbol"]].append((row["type"], row["quantity_before"], row["quantity_after"], row["cycle"], row["held_seconds"]))
    assert told["KO"] == [("opened", "0", "10", 1, 0.0), ("closed", "10", "0", 1, 60.0)]  # a minute later
    assert told["TSLA"] == [("opened", "0", "-30", 1, 0.0), ("closed", "-30", "0", 1, 60.0), ("flipped", "0", "20", 2, 0.0)]


def test_cycles_have_entry_and_exit_prices(command):
    with gateway() as broker:
        trade(broker)
        command.with_broker(broker)("sync")
    rows = {(row["symbol"], row["cycle"]): row for row in command("events", "--cycles", "--json").json}
    ko, short, flipped = rows["KO", 1], rows["TSLA", 1], rows["TSLA", 2]
    names = ("side", "peak_quantity", "entry_price", "exit_price", "gross_pnl", "net_pnl", "held_seconds")
    assert [ko[name] for name in names] == ["long", "10", "60", "61", "10", "8", 60.0]  # 10 x 1, less 2 x 1.00
    assert [short[name] for name in names] == ["short", "30", "250", "240", "300", "298.4", 60.0]
    assert [flipped[name] for name in names[:-1]] == ["long", "20", "240", None, None, None]
    assert (ko["closed_at"], flipped["closed_at"]) == ("2026-11-20T14:57:00+00:00", None)
    assert "61" in command("events", "--cycles").out


# statistics


def test_status_adds_up_what_all_syncs_did(command):
    with gateway() as broker:
        command.with_broker(broker)("sync")
        trade(broker)
        command("sync")
        command("sync")
    found = command("status", "--json").json
    # AAPL at first contact; then four that stay, one that came and went, and SAP in the other account
    assert (found["created"], found["closed"], found["triggers"]) == (7, 1, {"manual": 3})
    assert found["total_runs"] == 3
