"""The claims, decided from rows alone."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from position_pipeline.accounting.model import Snapshot, SnapshotStatus
from position_pipeline.defs.verdicts import (
    cash_identity_holds,
    closes_have_openings,
    lots_sum_to_positions,
    positions_are_explained,
    quantities_match_broker,
    snapshot_is_complete,
)
from position_pipeline.sync_results import AccountPass

AT = datetime(2026, 11, 20, 15, tzinfo=UTC)


def answer(account, status="complete", reason="", errors=(), error=""):
    snapshot = Snapshot(account, "ibkr", AT, SnapshotStatus(status), reason=reason, errors=dict(errors))
    return AccountPass(account, snapshot=snapshot, error=error)


def difference(symbol, book, broker, evidence="It says so.", proposal="Import a statement."):
    return {
        "account": "U1", "symbol": symbol, "quantity": Decimal(book), "broker_quantity": Decimal(broker), "first_seen_at": AT,
        "evidence": evidence, "proposal": proposal,
    }  # fmt: skip


def flow(**sums):
    names = ("realized", "cost", "open_commission", "traded", "contributed", "handed_over", "taken_up", "unknown")
    row = {"account": "U1", "symbol": "AAPL", "currency": "USD", **dict.fromkeys(names, Decimal(0))}
    return {**row, **{name: Decimal(value) for name, value in sums.items()}}


def test_complete_answers_of_all_accounts_pass():
    verdict = snapshot_is_complete([answer("U1"), answer("U2")])
    assert verdict.passed
    assert (verdict.actual, verdict.expected) == ("2 of 2 accounts gave a complete answer",) * 2
    assert (verdict.offending, verdict.evidence) == ((), ())


def test_a_rejected_answer_is_an_error_that_names_the_account_and_the_reason():
    verdict = snapshot_is_complete([answer("U1"), answer("U2", "rejected", "U2: cut off.")])
    assert not verdict.passed
    assert not verdict.mild
    assert verdict.actual == "1 of 2 accounts gave a complete answer"
    assert verdict.offending == ({"account": "U2", "status": "rejected"},)
    assert verdict.evidence == ("U2: cut off.",)
    assert verdict.says == "The answers for U2 cannot be used; the positions stay as they were."


def test_an_answer_that_lacks_a_symbol_is_a_warning_that_names_the_symbol():
    verdict = snapshot_is_complete([answer("U1"), answer("U2", "partial", "one symbol", {"ESZ7": "unreadable"})])
    assert (verdict.passed, verdict.mild) == (False, True)
    assert verdict.evidence == ("U2: ESZ7: unreadable",)


def test_one_rejected_answer_beside_a_partial_one_is_an_error():
    assert not snapshot_is_complete([answer("U1", "partial", "x", {"A": "b"}), answer("U2", "rejected", "no")]).mild


def test_an_account_that_no_answer_came_for_failed():
    verdict = snapshot_is_complete([AccountPass("U1", error="The gateway is down. Start it.")])
    assert verdict.offending == ({"account": "U1", "status": "failed"},)
    assert verdict.evidence == ("U1: The gateway is down. Start it.",)


def test_an_account_that_is_being_synced_elsewhere_is_not_complete():
    verdict = snapshot_is_complete([answer("U1"), AccountPass("U2", busy=True)])
    assert verdict.offending == ({"account": "U2", "status": "already_running"},)


def test_no_account_at_all_does_not_pass():
    verdict = snapshot_is_complete([])
    assert not verdict.passed
    assert (verdict.expected, verdict.actual) == ("at least one account", "no account")


def test_equal_quantities_pass():
    verdict = quantities_match_broker([], compared=12)
    assert verdict.passed
    assert verdict.says == "Book and broker hold the same (12 open positions)."


def test_a_difference_shows_both_quantities_with_all_their_digits_and_its_way_out():
    verdict = quantities_match_broker([difference("BTC", "0.12345678", "0.12345679")], compared=12)
    assert not verdict.passed
    (row,) = verdict.offending
    assert (row["book"], row["broker"]) == ("0.12345678", "0.12345679")
    assert verdict.evidence == ("BTC in U1: It says so. Import a statement.",)
    assert verdict.says == "Book and broker differ: BTC in U1: book 0.12345678, broker 0.12345679."


def test_many_differences_are_counted_and_the_first_are_named():
    verdict = quantities_match_broker([difference(name, 1, 2) for name in "ABCDE"], compared=9)
    assert verdict.says.startswith("Book and broker differ: A in U1: book 1, broker 2; B")
    assert verdict.says.endswith(" and 2 more.")
    assert len(verdict.offending) == 5


def test_a_difference_whose_break_is_not_there_yet_is_told_too():
    verdict = quantities_match_broker([difference("A", 1, 2, None, None)], compared=1)
    assert verdict.evidence == ("A in U1: There is no open break yet: the next sync looks into it.",)


def test_what_was_adopted_is_a_warning_with_the_break_that_tells_more():
    row = {**difference("XOM", 50, 50), "id": "ab12", "book_quantity": Decimal(50), "class": "missing_fill", "adopted": "adopted:1"}
    verdict = positions_are_explained([row], compared=3)
    assert (verdict.passed, verdict.mild, verdict.actual) == (False, True, "positions that rest on the broker's list alone: 1")
    assert [(each["symbol"], each["book"], each["class"]) for each in verdict.offending] == [("XOM", "50", "missing_fill")]
    assert verdict.evidence == ("XOM in U1: It says so. Import a statement. position-pipeline breaks show ab12",)
    assert positions_are_explained([], compared=3).passed


def test_a_book_that_adds_up_passes():
    # bought 10 at 100 with a fee of 1, sold 4 at 110 with a fee of 1: traded -1001 + 439 = -562
    # realised 4 * (110 - 100) - 0.4 - 1 = 38.6; left cost 600 and fee 0.6; 38.6 - 600 - 0.6 - (-562) = 0
    verdict = cash_identity_holds([flow(realized="38.6", cost="600", open_commission="0.6", traded="-562")])
    assert verdict.passed
    assert verdict.actual == "exactly 0 for each"


def test_a_hair_of_a_cent_is_a_failure_that_says_by_how_much():
    verdict = cash_identity_holds([flow(), flow(cost="600.0000000001", traded="-600")])
    assert not verdict.passed
    assert verdict.actual == "1 of 2 are not 0"
    assert verdict.offending == ({"account": "U1", "symbol": "AAPL", "off_by": "-0.0000000001 USD"},)
    assert verdict.evidence == ("AAPL in U1: cost 600.0000000001, traded -600 (USD)",)


def test_a_position_that_is_not_the_sum_of_its_lots_is_shown_figure_by_figure():
    row = {
        "account": "U1", "symbol": "AAPL", "quantity": Decimal(6), "lots_quantity": Decimal(7), "cost": Decimal(600), "lots_cost": None,
        "open_commission": Decimal(1), "lots_commission": Decimal(1),
    }  # fmt: skip
    verdict = lots_sum_to_positions([row], positions=3)
    assert (verdict.passed, verdict.mild) == (False, False)
    assert verdict.actual == "positions that are not the sum of their lots: 1"
    assert [(each["figure"], each["position"], each["lots"]) for each in verdict.offending] == [
        ("quantity", "6", "7"),
        ("cost", "600", "unknown"),
    ]
    assert lots_sum_to_positions([], positions=3).says == "Every position is the sum of its lots (3 positions)."


def test_a_close_without_its_entries_is_named_with_both():
    orphan = {"account": "U1", "symbol": "AAPL", "id": 7, "closed_at": AT, "execution_id": "e2", "opening_id": "e1"}
    verdict = closes_have_openings([orphan], closes=9)
    assert (verdict.passed, verdict.mild, verdict.looked_at) == (False, False, 9)
    assert verdict.says == "Closes rest on entries that are not believed: AAPL in U1, close 7."
    assert verdict.evidence == ("close 7: closed by e2, opened by e1.",)
    assert closes_have_openings([], closes=9).passed
