"""Inferred entries in the tables: they give way to facts that come late, and are taken back; what was believed of them stays on record."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest

from position_pipeline.accounting.model import AdjustmentKind, Basis
from position_pipeline.explain import close_lines
from position_pipeline.verify import verify
from position_pipeline_tests.accounting.late_facts import late_facts
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, CALL, EVERYTHING, KO, TSLA, adjustment, buy, holding, sell, snapshot
from position_pipeline_tests.store.conftest import identities
from position_pipeline_tests.store.tables import believed, listening, rows
from position_pipeline_tests.store.test_kinds import in_tables

K = AdjustmentKind
D = Decimal
SEEN = 3600
"""When the snapshot was taken."""


def inferred(kind, instrument, held, quantity=0, *, name="", **more):
    decimals = ("numerator", "denominator", "share")
    figures = {field: D(value) if field in decimals else value for field, value in more.items()}
    return adjustment(
        kind, instrument, quantity, at=SEEN, name=name or f"{kind}-{instrument.symbol}", held=D(held), basis=Basis.BROKER, **figures
    )


def now(book):
    return rows(book.store, "SELECT clock_timestamp() AS at")[0]["at"]


@pytest.fixture
def proven(book):
    """The book; when the test is done it is what its entries make, and adds up."""
    yield book
    assert verify(book.store).differences == ()
    assert book.identities() == {}


# Giving way


def test_what_was_adopted_gives_way_to_a_late_fill_and_stays_on_record(proven):
    """40 of the 100 were bought, and half of all is sold: 20 x 12 realised nothing known, then 40 x (12 - 10) = 80."""
    adopted = inferred(K.ADOPTED, AAPL, 100, 100)
    proven.record(adopted)
    proven.record(sell(AAPL, 50, 12, at=7200, name="sale"))
    before = now(proven)
    assert (proven.position(AAPL)["basis_quality"], proven.position(AAPL)["realized_pnl_gross"]) == ("unknown", 0)
    recorded = proven.record(buy(AAPL, 40, 10, name="late"))
    assert recorded.refused == ()
    assert [(lot["opening_id"], lot["quantity"]) for lot in proven.lots(AAPL)] == [(adopted.id, 50)]
    assert [(c["opening_id"], c["quantity"], c["gross_pnl"]) for c in proven.closes()] == [("late", 40, 80), (adopted.id, 10, None)]
    assert [(c["opening_id"], c["quantity"], c["gross_pnl"]) for c in proven.store.read.closes([ACCOUNT], known_at=before)] == [
        (adopted.id, 50, None)
    ]
    proven.record(buy(AAPL, 60, 11, at=1, name="later"))
    assert [(lot["opening_id"], lot["quantity"]) for lot in proven.lots(AAPL)] == [("later", 50)]
    assert (proven.position(AAPL)["basis_quality"], proven.position(AAPL)["realized_pnl_gross"]) == ("fills", 90)
    assert [event[3] for event in proven.events(AAPL)] == ["late", "later", "sale"]
    assert proven.count("adjustments") == 1
    assert rows(proven.store, "SELECT count(*) AS n FROM closes WHERE superseded_at IS NOT NULL")[0]["n"] == 2


def test_an_inferred_assignment_gives_way_to_the_statements(proven):
    """The two calls had brought 600. By the statement one was assigned, and one expired."""
    proven.record(sell(CALL, 2, 3, name="written"))
    option = inferred(K.ASSIGNMENT, CALL, 0, 2, name="i-as")
    proven.record(option, inferred(K.DELIVERY, AAPL, -100, -100, name="i-de", price=250, takes_from="i-as"))
    # 100 of the 200 shares that two contracts would deliver, as the broker holds no more: all of the premium is theirs, until facts come.
    assert (proven.position(AAPL)["cost"], proven.position(CALL)["quantity"]) == (-25600, 0)
    proven.record(adjustment(K.EXPIRY, CALL, 1, at=1800, name="expired"))
    assert proven.position(AAPL)["cost"] is None
    proven.record(
        adjustment(K.ASSIGNMENT, CALL, 1, at=1800, name="assigned"), sell(AAPL, 100, 250, at=1800, name="leg", premium_from="assigned")
    )
    assert (proven.position(AAPL)["cost"], proven.position(CALL)["realized_pnl_gross"]) == (-25300, 300)
    assert {event[3] for event in proven.events(AAPL) + proven.events(CALL)} == {"leg", "written", "expired", "assigned"}


def test_a_fill_that_is_void_is_in_no_figure_and_one_that_is_told_again_neither(proven):
    proven.record(buy(AAPL, 10, 100, name="one"), buy(AAPL, 10, 100, name="two"), sell(AAPL, 4, 110, at=60))
    proven.record(adjustment(K.VOID, AAPL, 0, at=SEEN, name="v", takes_from="two"))
    assert (proven.position(AAPL)["quantity"], proven.position(AAPL)["cost"]) == (6, 600)
    proven.record(buy(AAPL, 10, 100, name="two"))
    proven.record(buy(AAPL, 10, 100, at=7200, name="two", revision=2))
    assert (proven.position(AAPL)["quantity"], proven.position(AAPL)["cost"]) == (6, 600)
    assert proven.store.reverse(ACCOUNT, ["v"], "a person", "both were real")[AAPL.id].after == 16


def test_a_void_may_come_before_its_fill(proven):
    proven.record(adjustment(K.VOID, AAPL, 0, at=SEEN, name="v", takes_from="two"), buy(AAPL, 10, 100, name="one"))
    proven.record(buy(AAPL, 10, 100, at=7200, name="two"))
    assert proven.position(AAPL)["quantity"] == 10


def test_a_void_fill_in_a_file_of_fills_is_in_no_figure_either(proven):
    proven.record(adjustment(K.VOID, AAPL, 0, at=SEEN, name="v", takes_from="two"))
    with proven.store.delivering() as delivery:
        delivery.add(ACCOUNT, [buy(AAPL, 10, 100, name="one"), buy(AAPL, 10, 100, at=60, name="two")], [AAPL])
        delivery.finish()
    assert (proven.position(AAPL)["quantity"], proven.count("executions")) == (10, 2)


# Taking back


def test_what_is_taken_back_is_as_if_it_had_never_been(proven, database):
    proven.record(buy(AAPL, 10, 100, name="b"))
    untouched = believed(proven.store)
    proven.record(inferred(K.ADOPTED, AAPL, 4, -6, name="x"), sell(AAPL, 1, 120, at=7200, name="s"))
    before = now(proven)
    with listening(database) as heard:
        changes = proven.store.reverse(ACCOUNT, ["x"], "M. Keller", "the broker corrected its list")
        assert [(note["account"], note["positions"]) for note in heard()] == [(ACCOUNT, 1)]
    assert [(c.symbol, c.before, c.after) for c in changes.values()] == [("AAPL", 3, 9)]
    (row,) = rows(proven.store, "SELECT reversed_at > recorded_at AS later, reversed_by, reversed_why FROM adjustments")
    assert row == {"later": True, "reversed_by": "M. Keller", "reversed_why": "the broker corrected its list"}
    assert [c["gross_pnl"] for c in proven.closes()] == [20]
    then = proven.store.read.positions_then([ACCOUNT], as_of=None, known_at=before, all_=True)
    assert [(p["quantity"], p["unknown_closes"]) for p in then] == [(3, 1)]
    assert [c["gross_pnl"] for c in proven.store.read.closes([ACCOUNT], known_at=before)] == [None, 20]
    proven.record(sell(AAPL, 0, 120, at=7200, name="s", revision=2))
    assert _figures(believed(proven.store)) == _figures(untouched)


def test_taking_back_twice_changes_nothing(proven, database):
    proven.record(buy(AAPL, 10, 100), inferred(K.ADOPTED, AAPL, 4, -6, name="x"))
    proven.store.reverse(ACCOUNT, ["x"], "one", "first")
    with listening(database) as heard:
        assert proven.store.reverse(ACCOUNT, ["x", "x"], "two", "again") == {}
        assert heard() == []
    assert rows(proven.store, "SELECT reversed_by, reversed_why FROM adjustments") == [{"reversed_by": "one", "reversed_why": "first"}]


def test_an_unknown_adjustment_is_named_and_nothing_is_taken_back(proven):
    proven.record(buy(AAPL, 10, 100, name="b"), inferred(K.ADOPTED, AAPL, 4, -6, name="x"))
    with pytest.raises(LookupError, match=rf"^account {ACCOUNT} has no adjustment b, y$"):
        proven.store.reverse(ACCOUNT, ["y", "x", "b"], "one", "why")
    assert proven.position(AAPL)["quantity"] == 4


@pytest.mark.parametrize("why", ["", " "])
def test_nothing_is_taken_back_without_a_reason(proven, why):
    proven.record(inferred(K.ADOPTED, AAPL, 4, 4, name="x"))
    with pytest.raises(ValueError, match="without a reason"):
        proven.store.reverse(ACCOUNT, ["x"], "one", why)
    assert proven.position(AAPL)["quantity"] == 4


def test_what_was_taken_back_stays_so_when_it_comes_again(proven):
    adopted = inferred(K.ADOPTED, AAPL, 4, 4, name="x")
    proven.record(adopted)
    proven.store.reverse(ACCOUNT, ["x"], "one", "it was a fault of the broker")
    assert proven.record(adopted).adjustments == 0
    assert proven.position(AAPL)["quantity"] == 0
    assert [row["reversed_by"] for row in rows(proven.store, "SELECT reversed_by FROM adjustments")] == ["one"]


def test_what_took_something_from_it_is_booked_anew_too(proven):
    """The lots go back to where they came from; the taker that is left stands there with nothing to take."""
    ratio = {"numerator": 3, "denominator": 1}
    proven.record(buy(AAPL, 10, 100), inferred(K.CONVERSION_OUT, AAPL, 0, -10, name="out", **ratio))
    proven.record(inferred(K.CONVERSION_IN, KO, 30, 30, name="in", takes_from="out", **ratio))
    assert proven.quantities() == {"AAPL": 0, "KO": 30}
    changes = proven.store.reverse(ACCOUNT, ["out"], "one", "there was no merger")
    assert {c.symbol: c.after for c in changes.values()} == {"AAPL": 10, "KO": 0}
    assert [row["reason"] for row in rows(proven.store, "SELECT reason FROM rejects WHERE resolved_at IS NULL")] == [
        "in: out hands over no lots"
    ]
    proven.store.reverse(ACCOUNT, ["in"], "one", "there was no merger")
    assert rows(proven.store, "SELECT reason FROM rejects WHERE resolved_at IS NULL") == []


def test_the_parent_of_a_spin_off_is_booked_anew_with_its_taker(proven):
    """The five of the other were bought: nothing was spun off, and the cost is where it was."""
    proven.record(buy(AAPL, 10, 100), inferred(K.SPIN_OFF, AAPL, 10, name="s", share="0.2"))
    proven.record(inferred(K.CONVERSION_IN, TSLA, 5, 5, name="c", takes_from="s", numerator=1, denominator=2))
    assert [proven.position(each)["cost"] for each in (AAPL, TSLA)] == [800, 200]
    proven.record(buy(TSLA, 5, 70, name="real"))
    assert [proven.position(each)["cost"] for each in (AAPL, TSLA)] == [1000, 350]


# What stands behind a figure


def test_a_close_by_a_delivery_is_explained_with_its_premium(proven):
    """100 bought for 24000, delivered at 250 with the premium of 300: 25300 - 24000 = 1300."""
    proven.record(buy(AAPL, 100, 240, name="b"), sell(CALL, 1, 3, name="w"), inferred(K.ASSIGNMENT, CALL, 0, 1, name="i-as"))
    proven.record(inferred(K.DELIVERY, AAPL, 0, -100, name="i-de", price=250, takes_from="i-as"))
    (explained,) = proven.store.read.explained("i-de")
    lines = close_lines(explained)
    assert "  option premium    = -300, moved here by the assignment or exercise (a cost if positive)" in lines
    assert "gross P&L           = 25000 - (-300) - (24000) = 1300 USD" in lines


def test_a_close_for_an_unknown_amount_says_so(proven):
    proven.record(buy(AAPL, 10, 100, name="b"), inferred(K.ADOPTED, AAPL, 4, -6, name="x", price="99"))
    (explained,) = proven.store.read.explained("x")
    lines = close_lines(explained)
    assert "  proceeds          = not known" in lines
    assert "gross P&L           = not known" in lines


# All of it at once


@pytest.mark.parametrize("seeds", [range(start, start + 20) for start in range(0, 40, 20)])
def test_late_facts_in_any_order_end_in_the_book_of_facts_in_time(store, seeds):
    """Eighty accounts with wrong inferences of every kind, against others that were told all facts at once."""
    superseded = 0
    for seed in seeds:
        draw = Random(seed)
        told = late_facts(draw.randbytes(480), draw)
        in_time, late = f"A{seed}", f"B{seed}"
        for account in (in_time, late):
            store.add_account(account, "ibkr", cost_method=told.method.value)
        in_tables(store, in_time, told.facts)
        answers = []
        in_tables(store, late, told.in_time)
        for batch in (told.inferred, *told.late):
            in_tables(store, late, batch)
            assert verify(store, [late]).differences == (), f"seed {seed}"  # which has the cash identity among its claims
            if not seed % 10:
                assert identities(store) == {}, f"seed {seed}"
            answers.append(_answer(store, late))
        assert _figures(believed(store, late)) == _figures(believed(store, in_time)), f"seed {seed}"
        for at, positions, closes in answers:
            assert _answer(store, late, at)[1:] == (positions, closes), f"seed {seed}: what was believed"
        held = rows(store, "SELECT id FROM adjustments WHERE account = %s AND held IS NOT NULL", [late])
        assert {row["id"] for row in held} == {entry.id for entry in told.inferred}
        if told.inferred:
            store.reverse(late, [entry.id for entry in told.inferred], "position_pipeline", "explained")
            assert _figures(believed(store, late)) == _figures(believed(store, in_time)), f"seed {seed}: taken back"
        superseded += rows(store, "SELECT count(*) AS n FROM position_events WHERE account = %s AND superseded_at IS NOT NULL", [late])[0][
            "n"
        ]
    assert identities(store) == {}
    assert superseded > 50


def _figures(tables):
    """What the book says, without what was told and without the last entry, which may be one that books nothing."""
    kept = {name: found for name, found in tables.items() if name not in ("executions", "adjustments")}
    kept["positions"] = [" ".join(word for word in row.split(" ") if not word.startswith("last_entry")) for row in kept["positions"]]
    return kept


def _answer(store, account, at=None):
    """What is believed, or was at a time; and when that was."""
    moment = at or rows(store, "SELECT clock_timestamp() AS at")[0]["at"]
    positions = store.read.positions_then([account], as_of=None, known_at=moment, all_=True)
    return moment, positions, store.read.closes([account], known_at=moment)


def test_what_comes_in_bulk_puts_in_doubt_what_was_inferred_before(book):
    """2 AAPL were adopted from an answer; a file brings the fill that bought them, with the time of the next second."""
    book.store.add_account(ACCOUNT, "ibkr", base_currency="USD")
    book.record(buy(AAPL, 10, 100, at=0))
    adopted = adjustment(AdjustmentKind.ADOPTED, AAPL, 2, at=3000, held=Decimal(12), basis=Basis.UNKNOWN, commission=None)
    book.record(adopted)
    met = snapshot(holding(AAPL, 12, 100), at=3600)
    kept = book.store.take_in(met, EVERYTHING, "ibkr")
    book.store.reconcile(met, EVERYTHING, kept=kept)
    with book.store.delivering() as delivery:
        delivery.add(ACCOUNT, [buy(AAPL, 2, 104, at=3001)], EVERYTHING)
        delivery.finish()
    assert book.quantities() == {"AAPL": 14}  # both, until an answer says what is held
    again = snapshot(holding(AAPL, 12, "100.66666667"), at=3700)
    kept = book.store.take_in(again, EVERYTHING, "ibkr")
    book.store.reconcile(again, EVERYTHING, kept=kept)
    assert book.quantities() == {"AAPL": 12}
