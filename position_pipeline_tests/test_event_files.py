"""A file of fills is taken in line by line; what cannot be kept is refused by its number, and the others are booked."""

from __future__ import annotations

from position_pipeline.event_files import import_events
from position_pipeline_tests.store.tables import TABLES, rows, versions


def imported(store, tmp_path, text: str, name: str = "fills.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    told: list = []
    return import_events(store, path, "average", lambda *each: told.append(each)), told


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
        "U1,ACME,,BUY,1,1,0,2026-01-02",
        "U1,ACME,e3,BUY,1,1,0,",
        "U1,ACME,e4,HOLD,1,1,0,2026-01-02",
        "U1,ACME,e5,BUY,1,1,0,2026-01-02",
    ]
    taken, _ = imported(store, tmp_path, HEAD + "\n".join(lines) + "\n")
    assert taken.recorded["U1"].fills == 1
    assert [reason.partition(":")[0] for _, _, reason in taken.refused] == ["line 2", "line 3", "line 4", "line 5"]
    assert len(rows(store, "SELECT * FROM rejects")) == 4


def test_events_that_are_no_fills_and_terms_that_change_are_refused(store, tmp_path):
    text = (
        '{"account": "U1", "instrument": "x:1", "execution_id": "a", "side": "BUY", "quantity": 1, "price": 2, "time": "2026-01-02"}\n'
        '{"account": "U1", "instrument": "x:1", "execution_id": "b", "side": "BUY", "quantity": 1, "price": 2, "time": "2026-01-03", "currency": "EUR"}\n'
        '{"type": "split", "account": "U1", "instrument": "x:1", "execution_id": "c", "numerator": 2, "denominator": 1, "time": "2026-01-04"}\n'
    )
    taken, _ = imported(store, tmp_path, text, "events.jsonl")
    assert taken.recorded["U1"].fills == 1
    assert len(taken.refused) == 2
    assert {row["instrument"] for row in store.read.positions()} == {"x:1"}
