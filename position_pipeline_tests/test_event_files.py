"""A file of events is taken in line by line; what cannot be kept is refused by its number, and the others are booked as a replay does."""

from __future__ import annotations

import io
import json
import random
from contextlib import redirect_stderr, redirect_stdout
from decimal import Decimal
from typing import Any

import pytest

from position_pipeline.accounting.exact import plain
from position_pipeline.event_files import import_events
from position_pipeline.imports import take_in
from position_pipeline.replay import run
from position_pipeline_tests.store.conftest import identities
from position_pipeline_tests.store.tables import TABLES, rows, versions


def imported(store, tmp_path, text: str, name: str = "fills.csv", method: str = "average"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    told: list = []
    return import_events(store, path, method, lambda *each: told.append(each)), told


HEAD = "account,instrument,execution_id,side,quantity,price,commission,time\n"


def test_a_file_of_fills_is_taken_in_and_again_changes_nothing(store, tmp_path):
    text = (
        HEAD
        + "U1,ACME,e1,BUY,10,100,1,2026-01-02T15:00:00Z\nU2,ACME,e1,SELL,3,101,0,2026-01-02T15:00:01Z\nU1,ACME,e2,SELL,4,110,1,2026-01-03\n"
    )
    taken, told = imported(store, tmp_path, text)
    assert {account: each.fills for account, each in taken.recorded.items()} == {"U1": 2, "U2": 1}
    held = {(row["account"], row["instrument"]): row["quantity"] for row in store.read.positions()}
    assert held == {("U1", "file:ACME"): 6, ("U2", "file:ACME"): -3}
    assert told[-1] == ("Booked fills.csv", len(text), len(text))
    before = versions(store, *TABLES)
    again, _ = imported(store, tmp_path, text)
    assert [each.fills for each in again.recorded.values()] == [0, 0]
    assert versions(store, *TABLES) == before


def test_lines_that_cannot_be_kept_are_refused_by_number_and_the_others_are_taken(store, tmp_path):
    lines = [
        ",ACME,e1,BUY,1,1,0,2026-01-02",
        "U1,ACME,e2,BUY,-1,1,0,2026-01-02",
        "U1,ACME,e3,BUY,1,1,0,",
        "U1,ACME,e4,HOLD,1,1,0,2026-01-02",
        "U1,ACME,e5,BUY,1,1,0,2026-01-02",
    ]
    taken, _ = imported(store, tmp_path, HEAD + "\n".join(lines) + "\n")
    assert taken.recorded["U1"].fills == 1
    assert [reason.partition(":")[0] for _, _, reason in taken.refused] == ["line 2", "line 3", "line 4", "line 5"]
    assert len(rows(store, "SELECT * FROM rejects")) == 4


def test_terms_that_change_are_refused_as_a_replay_refuses_them(store, tmp_path):
    fill = '{{"account": "U1", "instrument": "x:1", "execution_id": "{0}", "side": "BUY", "quantity": 1, "price": 2, "time": "2026-01-0{0}"{1}}}\n'
    text = fill.format(1, ', "currency": "EUR"') + fill.format(2, "") + fill.format(3, ', "currency": "EUR", "multiplier": 10')
    taken, _ = imported(store, tmp_path, text, "events.jsonl")
    assert taken.recorded["U1"].fills == 1
    assert {row["instrument"] for row in store.read.positions()} == {"x:1"}
    assert [f"{reason}" for _, _, reason in taken.refused] == replayed(tmp_path / "events.jsonl", "fifo")[1]


def test_lines_without_an_id_are_told_apart_and_again_add_nothing(store, tmp_path):
    """Two of one text are two; the id of a line is what it says, so that the same file has the same ids."""
    text = HEAD + "U1,ACME,,BUY,1,10,0,2026-01-02\n" * 2 + "U1,ACME,,BUY,1,11,0,2026-01-02\n"
    taken, _ = imported(store, tmp_path, text)
    assert taken.recorded["U1"].fills == 3
    before = versions(store, *TABLES)
    imported(store, tmp_path, text, "again.csv")
    assert versions(store, *TABLES) == before


# Events that are no fills: what `replay` prints for the same file, to the last digit

FIELDS = (  # noqa: SIM905  words are read most easily as words
    "type account instrument side quantity price multiplier commission commission_currency time execution_id numerator denominator "
    "cash_in_lieu amount return_of_capital underlying strike right"
).split()


def text_of(*events: dict[str, Any]) -> str:
    lines = [",".join(FIELDS), *(",".join(str(event.get(name, "")) for name in FIELDS) for event in events)]
    return "\n".join(lines) + "\n"


def replayed(path, method: str) -> tuple[dict[str, Any], list[str]]:
    """(what a replay of the file prints, what it refuses)."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        run(path, method, json=True)
    found = json.loads(out.getvalue())
    return found, [f"line {each['line']}: {each['reason']}" for each in found.get("refused", [])]


def number(value: Any) -> str | None:
    return None if value is None else plain(Decimal(value))


POSITION = ("quantity", "cost", "open_commission", "realized_pnl", "realized_pnl_gross")
CLOSE = ("quantity", "entry_price", "exit_price", "gross_pnl", "opening_commission", "closing_commission", "net_pnl")


def comes_to_the_same(store, tmp_path, text: str, method: str = "fifo"):
    """Import and replay of a file say the same, and importing it again does nothing."""
    taken, _ = imported(store, tmp_path, text, method=method)
    printed, refused = replayed(tmp_path / "fills.csv", method)
    positions = {row["symbol"]: {name: number(row[name]) for name in POSITION} for row in store.read.positions(all_=True)}
    expected = {row["symbol"]: {name: number(row[name]) for name in POSITION} for row in printed["positions"]}
    assert positions == expected
    closes = sorted((row["symbol"], *(number(row[name]) or "" for name in CLOSE)) for row in store.read.closes())
    assert closes == sorted((row["symbol"], *(number(row[name]) or "" for name in CLOSE)) for row in printed["closes"])
    assert [reason for _, _, reason in taken.refused] == refused
    assert set(printed["identity"].values()) <= {"0"}
    assert not identities(store)
    before = versions(store, *TABLES)
    imported(store, tmp_path, text, method=method)
    assert versions(store, *TABLES) == before
    return taken


ACME = {"account": "U1", "instrument": "ACME"}
CALL = {"account": "U1", "instrument": "ACME 50C", "multiplier": 100}
MIXED = (
    {**ACME, "side": "BUY", "quantity": 101, "price": "10.05", "commission": 1, "time": "2026-01-02T15:00Z", "execution_id": "a1"},
    {**ACME, "side": "BUY", "quantity": 100, "price": "11.2", "commission": "1.1", "commission_currency": "CHF", "time": "2026-01-03"},
    {**ACME, "type": "split", "numerator": 1, "denominator": 3, "time": "2026-01-04"},
    {**ACME, "side": "SELL", "quantity": 30, "price": 40, "commission": "0.7", "time": "2026-01-05", "execution_id": "a3"},
    {**ACME, "type": "dividend", "amount": "12.5", "time": "2026-01-06"},
    {**ACME, "type": "dividend", "amount": 20, "return_of_capital": "7.77", "time": "2026-01-07"},
    {**ACME, "type": "return_of_capital", "amount": "3.33", "time": "2026-01-08"},
    {**CALL, "side": "SELL", "quantity": 3, "price": "2.5", "commission": "1.95", "time": "2026-01-09", "execution_id": "o1"},
    {**CALL, "type": "assign", "quantity": 1, "commission": 1, "underlying": "ACME", "strike": 50, "right": "C", "time": "2026-01-20"},
    {**CALL, "type": "expire", "time": "2026-01-21"},
    {**ACME, "type": "split", "numerator": 3, "denominator": 2, "cash_in_lieu": "-0.4", "time": "2026-01-22"},
    {**ACME, "side": "BUY", "quantity": 70, "price": 31, "time": "2026-01-23", "execution_id": "a9"},
)


@pytest.mark.parametrize("method", ["fifo", "average", "lifo", "hifo"])
def test_a_file_of_every_kind_of_event_comes_to_what_a_replay_prints(store, tmp_path, method):
    taken = comes_to_the_same(store, tmp_path, text_of(*MIXED), method)
    # 201 shares become 67, 30 are sold, 100 are called away: a short of 63, then of 94 and a half, the half paid, 70 bought: 24 short.
    held = {row["symbol"]: row["quantity"] for row in store.read.positions()}
    assert held == {"ACME": -24}
    assert (taken.recorded["U1"].fills, taken.recorded["U1"].adjustments, taken.cash["U1"]) == (6, 6, 2)
    paid = rows(store, "SELECT type, amount FROM cash_rows ORDER BY time")
    assert [(row["type"], row["amount"]) for row in paid] == [("Dividends", Decimal("12.5")), ("Dividends", Decimal("12.23"))]


PUT = {"account": "U1", "instrument": "PUT", "multiplier": 100, "time": "2026-01-20"}
OTHER = {"account": "U1", "instrument": "OTHER", "time": "2026-01-20"}


def test_lines_of_one_moment_are_booked_in_their_order(store, tmp_path):
    """All of one date: the book has adjustments before fills, and ids in the order of the alphabet."""
    comes_to_the_same(
        store,
        tmp_path,
        text_of(
            {**PUT, "side": "BUY", "quantity": 2, "price": "1.5", "commission": "1.3", "execution_id": "z"},
            {**PUT, "type": "exercise", "quantity": -1, "underlying": "OTHER", "strike": 50, "right": "P", "execution_id": "y"},
            {**OTHER, "type": "split", "numerator": 3, "denominator": 2, "execution_id": "x"},
            {**OTHER, "side": "BUY", "quantity": 10, "price": 60, "commission": 1, "execution_id": "w"},
            {**OTHER, "side": "BUY", "quantity": 10, "price": 61, "commission": 1, "execution_id": "v"},
            {**PUT, "type": "expire", "commission": "0.2", "execution_id": "u"},
            {**OTHER, "type": "split", "numerator": 2, "denominator": 1, "execution_id": "t"},
        ),
    )


def test_what_cannot_have_happened_is_refused_by_the_line_as_a_replay_refuses_it(store, tmp_path):
    at = {"time": "2026-01-20"}
    taken = comes_to_the_same(
        store,
        tmp_path,
        text_of(
            {**ACME, **at, "side": "BUY", "quantity": 10, "price": 10, "execution_id": "a"},
            {**CALL, **at, "type": "expire"},
            {**CALL, **at, "type": "assign", "quantity": 1, "underlying": "ACME", "strike": 50, "right": "C"},
            {**ACME, **at, "type": "expire", "quantity": 11},
            {**ACME, **at, "type": "split", "numerator": 2, "denominator": 1, "cash_in_lieu": -1},
            {**ACME, **at, "type": "split", "numerator": 0, "denominator": 1},
            {**ACME, **at, "type": "return_of_capital", "amount": -5},
            {**ACME, **at, "type": "split", "numerator": 2, "denominator": 1, "execution_id": "b"},
            {**ACME, **at, "type": "split", "numerator": 3, "denominator": 1, "execution_id": "b"},
            {**ACME, **at, "type": "exercise", "quantity": -1, "underlying": "ACME", "strike": 5, "right": "C"},
            {**ACME, **at, "type": "merger"},
        ),
    )
    assert [int(reason.split()[1].rstrip(":")) for _, _, reason in taken.refused] == [3, 4, 5, 6, 7, 8, 10, 11, 12]


@pytest.mark.parametrize("seed", range(6))
def test_invented_files_come_to_what_a_replay_prints(store, tmp_path, seed):
    comes_to_the_same(store, tmp_path, text_of(*invented(random.Random(seed))), ("fifo", "average", "lifo")[seed % 3])


def invented(draw: random.Random) -> list[dict[str, Any]]:
    """Fills of shares and options of a few days each, with events that fit what is held and some that do not."""
    found: list[dict[str, Any]] = []
    for line in range(80):
        time = f"2026-01-{2 + line // 8:02}"
        if draw.random() < 0.7:
            name, multiplier = draw.choice((("ACME", 1), ("OTHER", 1), ("C", 100), ("P", 100)))
            event = {"side": draw.choice(("BUY", "SELL")), "quantity": draw.randint(1, 9), "price": draw.randint(100, 900) / 8}
            event |= {"instrument": name, "multiplier": multiplier, "commission": draw.choice((0, "0.35", "-0.1"))}
        else:
            event = dict(draw.choice(EVENTS))
        found.append({"account": "U1", "time": time, "execution_id": draw.choice(("", f"e{99 - line}")), **event})
    return found


EVENTS = (
    {"type": "split", "instrument": "ACME", "numerator": 3, "denominator": 2},
    {"type": "split", "instrument": "OTHER", "numerator": 1, "denominator": 7},
    {"type": "return_of_capital", "instrument": "ACME", "amount": "1.11"},
    {"type": "expire", "instrument": "C", "multiplier": 100},
    {"type": "expire", "instrument": "P", "multiplier": 100, "quantity": 1, "commission": "0.05"},
    {"type": "assign", "instrument": "C", "multiplier": 100, "quantity": 1, "underlying": "ACME", "strike": 40, "right": "C"},
    {"type": "assign", "instrument": "P", "multiplier": 100, "quantity": 2, "underlying": "ACME", "strike": 30, "right": "P"},
    {"type": "exercise", "instrument": "P", "multiplier": 100, "quantity": -1, "underlying": "OTHER", "strike": 30, "right": "P"},
    {"type": "exercise", "instrument": "C", "multiplier": 100, "quantity": -1, "underlying": "OTHER", "strike": 30, "right": "C"},
)


def test_a_later_file_of_events_finds_what_an_earlier_one_left(store, tmp_path):
    """The first file says what the instrument is; the second needs neither its multiplier nor its fills."""
    imported(store, tmp_path, text_of({**CALL, "side": "SELL", "quantity": 2, "price": 3, "time": "2026-01-02", "execution_id": "o"}))
    later = {**CALL, "multiplier": "", "time": "2026-01-20"}
    assign = {**later, "type": "assign", "quantity": 1, "underlying": "ACME", "strike": 50, "right": "C", "execution_id": "x"}
    text = text_of(assign, {**later, "type": "expire"}, {**later, "type": "expire", "time": "2026-01-21"})
    taken, _ = imported(store, tmp_path, text, "later.csv")
    assert [reason for _, _, reason in taken.refused] == ["line 4: no ACME 50C is held"]
    (held,) = store.read.positions()
    # 100 shares sold at 50 with the premium of 300 that came with the option.
    assert (held["symbol"], held["quantity"], held["cost"]) == ("ACME", -100, -5300)
    before = versions(store, *TABLES)
    imported(store, tmp_path, text, "later.csv")
    assert versions(store, *TABLES) == before
    other = text_of({**assign, "quantity": 2})
    taken, _ = imported(store, tmp_path, other, "other.csv")
    assert [reason for _, _, reason in taken.refused] == [
        "line 2: execution_id x is known in the book with something else: two under one id"
    ]
    assert versions(store, *(name for name in TABLES if name != "rejects")) == {k: v for k, v in before.items() if k != "rejects"}


def test_an_event_whose_id_is_that_of_a_fill_is_refused_whole(store, tmp_path):
    """The shares that an option delivers are a fill with the line's id: without them the option must not end either."""
    fill = {**CALL, "side": "SELL", "quantity": 1, "price": 3, "time": "2026-01-02", "execution_id": "one"}
    assign = {**CALL, "type": "assign", "quantity": 1, "underlying": "ACME", "strike": 50, "right": "C", "time": "2026-01-03"}
    taken, _ = imported(store, tmp_path, text_of(fill, {**assign, "execution_id": "one"}))
    assert [reason for _, _, reason in taken.refused] == ["line 3: execution_id one is that of a fill: two under one id"]
    assert [(row["symbol"], row["quantity"]) for row in store.read.positions()] == [("ACME 50C", -1)]


def test_what_an_import_of_events_did_is_told_in_rows_and_sentences(store, tmp_path):
    path = tmp_path / "mixed.csv"
    path.write_text(text_of(*MIXED), encoding="utf-8")
    report = take_in(store, path, "fifo", lambda *_: None)
    (row,) = report.rows
    assert {name: row[name] for name in ("fills", "adjustments", "cash_rows", "positions_changed")} == {
        "fills": 6, "adjustments": 6, "cash_rows": 2, "positions_changed": 2,
    }  # fmt: skip
    assert report.lines == ["mixed.csv: 12 lines", "  Account U1: 6 new fills, 6 book entries, 2 cash rows. 2 positions changed."]
