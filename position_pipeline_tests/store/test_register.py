"""The break register, through real PostgreSQL: a difference has one row from when it is seen until its cause is gone, and people decide about it.

Times are seconds after the opening of the market; the book met its broker at 3600 and agreed. Windows are 15 minutes (900 s).
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from position_pipeline.accounting.circumstances import Policy
from position_pipeline.accounting.model import AccountValue, AdjustmentKind
from position_pipeline.store import NotPossible, Store, recent
from position_pipeline.store.recording import record
from position_pipeline_tests.scenarios import (
    AAPL,
    ACCOUNT,
    CALL,
    EVERYTHING,
    KO,
    OTHER_ACCOUNT,
    SAP,
    TSLA,
    adjustment,
    buy,
    holding,
    moment,
    of_account,
    sell,
    snapshot,
)
from position_pipeline_tests.store.tables import believed, query, rows, versions

D = Decimal
HELD = (holding(AAPL, 10, 100, price=105), holding(KO, 5, 60, price=62), holding(SAP, 3, 200, price=210))
ASK = Policy(adopts=False)


@pytest.fixture
def met(book):
    """A book that has met its broker: 10 AAPL, 5 KO and 3 SAP, bought here."""
    book.store.add_account(ACCOUNT, "ibkr", base_currency="USD")
    book.record(buy(AAPL, 10, 100), buy(KO, 5, 60), buy(SAP, 3, 200))
    see(book)
    return book


def see(book, *holdings, at=3600, policy=None, account=ACCOUNT, store=None, **more):
    """What a sync does with one answer: everything as it was, but for the given holdings; one of 0 is not listed."""
    held = {each.instrument: each for each in (*HELD, *holdings)}
    answer = snapshot(*(each for each in held.values() if each.quantity), at=at, account=account, **more)
    store = store or book.store
    kept = store.take_in(answer, EVERYTHING, "ibkr")
    return store.reconcile(answer, EVERYTHING, policy or Policy(), kept=kept)


def standing(book) -> list[dict]:
    return [row for row in book.store.read.breaks(all_=True) if row["status"] != "resolved"]


def only(book) -> dict:
    (row,) = standing(book)
    return row


def of_id(book, id_) -> dict:
    (row,) = book.store.read.breaks_of_id(id_)
    return row


def said(book, id_) -> list[str]:
    return [what for _, what in of_id(book, id_)["history"]]


# One row from the first sight to the end


def test_a_difference_is_one_row_that_is_seen_again_and_its_class_follows_what_is_known(met):
    (id_,) = see(met, holding(AAPL, "12.37", price=110), at=3700, policy=ASK).opened
    row = only(met)
    assert (row["class"], row["subject"], row["seen"], row["expected_clear_at"]) == ("timing", "quantity", 1, moment(3700 + 900))
    assert (row["impact"], row["impact_currency"]) == (D("260.70"), "USD")  # 2.37 x 110
    found = see(met, holding(AAPL, "12.37", price=110), at=4000, policy=ASK)
    assert (found.opened, found.changed, found.resolved, found.open_breaks) == ((), (), (), 1)
    assert (only(met)["id"], only(met)["seen"], only(met)["changed_at"]) == (id_, 2, moment(3700))
    found = see(met, holding(AAPL, "12.37", price=110), at=4700, policy=ASK)  # the window is over
    assert (found.opened, found.changed) == ((), (id_,))
    row = only(met)
    assert (row["class"], row["first_seen_at"], row["changed_at"], row["last_seen_at"]) == (
        "unknown",
        moment(3700),
        moment(4700),
        moment(4700),
    )
    assert said(met, id_)[0].startswith("First seen: timing, book 10, broker 12.37")
    assert "unknown instead of timing" in said(met, id_)[1]


def test_a_break_survives_a_restart(met, database):
    (id_,) = see(met, holding(AAPL, 12, 100), at=3700).opened
    with Store(database) as again:
        found = see(met, holding(AAPL, 12, 100), at=3800, store=again)
    assert (found.opened, found.changed, found.open_breaks) == ((), (), 1)
    assert (only(met)["id"], only(met)["seen"]) == (id_, 2)


def test_a_break_that_stays_as_it_is_is_no_news(met):
    see(met, holding(AAPL, 12, 100), at=3700, policy=ASK)
    see(met, holding(AAPL, 12, 100), at=4700, policy=ASK)
    before = {name: value for name, value in of_id(met, only(met)["id"]).items() if name not in ("seen", "seen_whole", "last_seen_at")}
    for at in (4800, 4900, 5000):
        assert not see(met, holding(AAPL, 12, 100), at=at, policy=ASK).is_news
    after = {name: value for name, value in of_id(met, only(met)["id"]).items() if name not in ("seen", "seen_whole", "last_seen_at")}
    assert after == before


def test_both_sides_may_trade_on_while_a_difference_stays_the_same(met):
    see(met, holding(AAPL, 12, 100), at=3700, policy=ASK)
    met.record(buy(AAPL, 5, 101, at=3750))
    assert see(met, holding(AAPL, 17, 100), at=3900, policy=ASK).changed == ()
    row = only(met)
    assert (row["book_quantity"], row["broker_quantity"], row["changed_at"], row["seen"]) == (15, 17, moment(3700), 2)


def test_a_difference_that_becomes_another_is_news_and_is_counted_anew(met):
    (id_,) = see(met, holding(AAPL, 12, 100), at=3700).opened
    see(met, holding(AAPL, 12, 100), at=3800)
    assert see(met, holding(AAPL, 14, 100), at=3900).changed == (id_,)
    row = only(met)
    assert (row["id"], row["changed_at"], row["seen"], row["first_seen_at"]) == (id_, moment(3900), 1, moment(3700))


def test_a_fill_of_before_the_answer_ends_the_break_as_soon_as_it_is_recorded(met):
    (id_,) = see(met, holding(AAPL, 12, 100), at=3700).opened
    met.record(buy(AAPL, 2, 106, at=3650))
    assert standing(met) == []
    assert said(met, id_)[-1] == "An entry explains it."
    assert see(met, holding(AAPL, 12, "101"), at=3800).resolved == ()


def test_a_fill_of_after_the_answer_does_not_explain_it(met):
    (id_,) = see(met, holding(AAPL, 12, 100), at=3700, policy=ASK).opened
    met.record(buy(AAPL, 2, 106, at=3800))
    assert only(met)["id"] == id_
    see(met, holding(AAPL, 14, 100), at=3900, policy=ASK)
    assert (only(met)["id"], only(met)["book_quantity"], only(met)["broker_quantity"]) == (id_, 12, 14)


def test_what_could_not_be_read_keeps_its_break(met):
    (id_,) = see(met, holding(AAPL, 12, 100), at=3700).opened
    see(met, holding(AAPL, 0), at=3800, errors={"AAPL": "garbled"}, unread=frozenset({AAPL.id}))
    assert [(row["subject"], row["seen"]) for row in standing(met) if row["id"] == id_] == [("quantity", 1)]
    see(met, at=3900)
    assert standing(met) == []


def test_a_cost_that_nothing_explains_is_a_break_of_its_own_and_ends_by_itself(met):
    see(met, holding(AAPL, 10, 120), at=3700)
    row = only(met)
    assert (row["subject"], row["class"], row["impact"]) == ("cost", "cost_method", 200)  # 10 x 120 - 10 x 100
    assert see(met, holding(AAPL, 10, 120), at=3800).open_breaks == 1
    assert only(met)["id"] == row["id"]
    see(met, at=3900)
    assert standing(met) == []


# What stays unexplained


def test_after_the_window_the_book_follows_the_broker_and_the_break_stays_open(met):
    for at in (3700, 4100):
        see(met, holding(AAPL, 12, "101", price=110), at=at)
        assert met.position(AAPL)["quantity"] == 10
    found = see(met, holding(AAPL, 12, "101", price=110), at=4700)
    assert [(change.before, change.after) for change in found.changes.values()] == [(10, 12)]
    row = only(met)
    (entry,) = met.store.read.adjustments()
    assert (row["status"], row["adopted"]) == ("open", entry["id"])
    assert (entry["kind"], entry["quantity"], entry["held"]) == ("adopted", 2, 12)
    assert f"the book follows the broker by {entry['id']}" in said(met, row["id"])[-1]
    assert see(met, holding(AAPL, 12, "101", price=110), at=5000).open_breaks == 1
    assert not see(met, holding(AAPL, 12, "101", price=110), at=5300).is_news
    assert only(met)["id"] == row["id"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_facts_that_come_after_it_was_adopted_leave_the_book_as_if_it_had_never_been(met, store, order):
    """10 were held; the fills of 2 more come an hour late, after the book has followed the broker."""
    facts = (buy(AAPL, 5, 104, at=3640), sell(AAPL, 3, 106, at=3660))
    for at in (3700, 4100, 4700):
        see(met, holding(AAPL, 12, "101"), at=at)
    adopted = only(met)["adopted"]
    for number in order:
        met.record(facts[number])
    assert standing(met) == []
    see(met, holding(AAPL, 12, "101"), at=4800)  # what stands for nothing now is taken back beside the next answer
    (entry,) = met.store.read.adjustments(all_=True)
    assert (entry["id"], entry["reversed_by"]) == (adopted, "position_pipeline")
    assert met.position(AAPL)["quantity"] == 12
    never = {**facts_alone(store, *facts)}
    now = believed(met.store, ACCOUNT)
    assert {table: now[table] for table in never} == never
    assert not met.identities()


def facts_alone(store, *facts) -> dict:
    """What a book says that has had the facts in time, of one other account."""
    early = [of_account(each, OTHER_ACCOUNT) for each in (buy(AAPL, 10, 100), buy(KO, 5, 60), buy(SAP, 3, 200), *facts)]
    store.add_account(OTHER_ACCOUNT, "ibkr")
    query_methods = "UPDATE accounts SET cost_method = 'fifo' WHERE account = %(account)s"
    store._connection.execute(query_methods, {"account": OTHER_ACCOUNT})
    store.record(OTHER_ACCOUNT, early, (), EVERYTHING)
    found = believed(store, OTHER_ACCOUNT)
    return {table: found[table] for table in ("lots", "closes", "position_events")}


def test_facts_that_came_by_another_way_are_seen_at_the_next_answer(met):
    """As a bulk import brings them: booked, and nothing else is looked at."""
    for at in (3700, 4100, 4700):
        see(met, holding(AAPL, 12, "101"), at=at)
    with met.store._connection.transaction():
        record(met.store._connection, ACCOUNT, [buy(AAPL, 2, 104, at=3650)], (), EVERYTHING)
    assert len(standing(met)) == 1
    assert see(met, holding(AAPL, 12, "100.67"), at=5000).open_breaks == 0
    (entry,) = met.store.read.adjustments(all_=True)
    assert entry["reversed_by"] == "position_pipeline"


def test_a_part_of_the_facts_leaves_the_rest_adopted(met):
    for at in (3700, 4100, 4700):
        see(met, holding(AAPL, 15, "101"), at=at)
    met.record(buy(AAPL, 2, 104, at=3650))
    assert met.position(AAPL)["quantity"] == 15
    assert see(met, holding(AAPL, 15, "101"), at=5000).open_breaks == 1
    assert only(met)["adopted"] is not None
    met.record(buy(AAPL, 3, 104, at=3655))
    assert standing(met) == []
    assert see(met, holding(AAPL, 15, "101.13"), at=5300).open_breaks == 0  # (10 x 100 + 5 x 104) / 15 = 101.33


def test_what_was_adopted_goes_when_the_broker_says_again_what_the_book_had(met):
    for at in (3700, 4100, 4700):
        see(met, holding(AAPL, 12, "101"), at=at)
    found = see(met, at=5000)
    assert met.position(AAPL)["quantity"] == 10
    assert (found.open_breaks, [(c.before, c.after) for c in found.changes.values()]) == (0, [(12, 10)])
    (entry,) = met.store.read.adjustments(all_=True)
    assert entry["reversed_why"].startswith("Without it both agree")


def test_with_ask_a_difference_stays_a_break_however_old_it_is(met):
    for at in (3700, 4100, 4700, 90000):
        see(met, holding(AAPL, "12.37"), at=at, policy=ASK)
    assert met.position(AAPL)["quantity"] == 10
    assert (only(met)["class"], only(met)["adopted"], met.count("adjustments")) == ("unknown", None, 0)


def test_a_position_that_is_gone_is_closed_only_where_that_is_wanted(met):
    for at in (3700, 4000, 5000):
        see(met, holding(AAPL, 0), at=at)
    assert met.position(AAPL)["quantity"] == 10
    closes = Policy(closes_missing=True)
    assert see(met, holding(AAPL, 0), at=5300, policy=closes).changes[AAPL.id].after == 0
    row = only(met)
    assert (row["status"], row["adopted"] is not None) == ("open", True)
    met.record(sell(AAPL, 10, 120, at=3690))
    assert standing(met) == []
    assert met.closes()[0]["gross_pnl"] == 200  # 10 x (120 - 100)


def test_a_position_that_is_gone_once_is_not_closed_even_where_that_is_wanted(met):
    closes = Policy(closes_missing=True)
    assert see(met, holding(AAPL, 0), at=3700, policy=closes).changes == {}
    assert see(met, holding(AAPL, 0), at=4700, policy=closes).changes[AAPL.id].after == 0


def test_an_answer_that_was_read_in_part_is_none_of_the_two_that_close_what_is_gone(met):
    closes, garbled = Policy(closes_missing=True), {"errors": {"SAP": "garbled"}, "unread": frozenset({SAP.id})}
    assert see(met, holding(AAPL, 0), holding(SAP, 0), at=3700, policy=closes, **garbled).changes == {}
    assert see(met, holding(AAPL, 0), at=4700, policy=closes).changes == {}
    assert see(met, holding(AAPL, 0), at=5000, policy=closes).changes[AAPL.id].after == 0


def test_when_too_much_vanishes_nothing_is_closed_and_one_alarm_stands_until_it_is_back(met):
    gone = (holding(AAPL, 0), holding(KO, 0))
    policy = Policy(closes_missing=True)
    for at in (3700, 4000, 5000):
        see(met, *gone, at=at, policy=policy)
    assert met.quantities() == {"AAPL": 10, "KO": 5, "SAP": 3}
    whole = [row for row in standing(met) if row["instrument"] is None]
    assert [(row["subject"], row["class"], row["symbol"], row["seen"]) for row in whole] == [("snapshot", "snapshot_incomplete", None, 3)]
    assert "2 of 3 positions" in whole[0]["evidence"]
    see(met, at=5300)
    assert standing(met) == []


def test_the_share_that_may_vanish_is_a_setting(met):
    policy = Policy(closes_missing=True, vanishing=D("0.9"))
    for at in (3700, 4700):
        see(met, holding(AAPL, 0), holding(KO, 0), at=at, policy=policy)
    assert met.quantities() == {"AAPL": 0, "KO": 0, "SAP": 3}


# What statements of other accounts tell

QUADRUPLED = holding(AAPL, 40, 93)
"""Four times as many, at an average that does not fit: one sign of a split, and no second."""


def told_elsewhere(met, *entries):
    """The statement of the other account tells of what happened to its units: the owner holds the same in both."""
    met.store.record(OTHER_ACCOUNT, [buy(AAPL, 7, 90, at=-86400, account=OTHER_ACCOUNT)], entries, EVERYTHING)


def a_split(numerator, *, at, account=OTHER_ACCOUNT, name="split"):
    figures = {"numerator": D(numerator), "denominator": D(1), "source": "flex"}
    return adjustment(AdjustmentKind.SPLIT, AAPL, 0, at=at, name=name, account=account, **figures)


def test_a_split_that_another_accounts_statement_tells_is_the_second_sign(met):
    """10 AAPL for 1000 are 40 for 1000, as the other account's statement of the same hour has it."""
    see(met, QUADRUPLED, at=3700, policy=ASK)
    assert met.position(AAPL)["quantity"] == 10
    told_elsewhere(met, a_split(4, at=3650))
    assert see(met, QUADRUPLED, at=4000, policy=ASK).open_breaks == 0
    assert (met.position(AAPL)["quantity"], met.position(AAPL)["cost"]) == (40, 1000)
    (entry,) = [row for row in met.store.read.adjustments() if row["account"] == ACCOUNT]
    assert (entry["kind"], entry["time"]) == ("split", moment(3650))
    assert f"the statement of account {OTHER_ACCOUNT} has 4 for 1 for 2026-03-02" in entry["evidence"]
    assert see(met, QUADRUPLED, at=4300, policy=ASK).changes == {}


@pytest.mark.parametrize(
    ("numerator", "at", "why"),
    [(3, 3650, "another ratio"), (4, 3600 - 2 * 86400, "long before the sides agreed"), (4, 5000, "not in effect yet")],
)
def test_what_another_accounts_statement_tells_is_no_sign_of_anything_else(met, numerator, at, why):
    told_elsewhere(met, a_split(numerator, at=at))
    for seen in (3700, 4000):
        assert see(met, QUADRUPLED, at=seen, policy=ASK).changes == {}, why


def test_a_split_that_the_book_has_explains_no_second_one(met):
    told_elsewhere(met, a_split(4, at=3650))
    see(met, QUADRUPLED, at=3700)
    assert met.position(AAPL)["quantity"] == 40
    assert see(met, holding(AAPL, 160, 93), at=4000).changes == {}
    assert met.position(AAPL)["quantity"] == 40


def test_what_an_inference_says_in_another_account_is_no_sign(met):
    """It rests on the same broker's list, and may be wrong in both."""
    told_elsewhere(met, replace(a_split(4, at=3650), held=D(28), source="ibkr snapshot"))
    for at in (3700, 4000):
        assert see(met, QUADRUPLED, at=at, policy=ASK).changes == {}


def test_a_new_name_that_another_accounts_statement_tells_is_the_second_sign(met):
    """KO is TSLA now: 5 went and 5 came, at an average that was not carried over."""
    gone = adjustment(AdjustmentKind.CONVERSION_OUT, KO, -3, at=3651, name="gave", account=OTHER_ACCOUNT, source="flex", **ONE_FOR_ONE)
    came = adjustment(
        AdjustmentKind.CONVERSION_IN, TSLA, 0, at=3651, name="took", account=OTHER_ACCOUNT, source="flex", takes_from="gave", **ONE_FOR_ONE
    )
    renamed = (holding(KO, 0), holding(TSLA, 5, 71))
    assert see(met, *renamed, at=3700, policy=ASK).changes == {}
    met.store.record(OTHER_ACCOUNT, [buy(KO, 3, 60, at=-86400, account=OTHER_ACCOUNT, name="k")], [gone, came], EVERYTHING)
    see(met, *renamed, at=4000, policy=ASK)
    assert (met.position(KO)["quantity"], met.position(TSLA)["quantity"], met.position(TSLA)["cost"]) == (0, 5, 300)


ONE_FOR_ONE = {"numerator": D(1), "denominator": D(1)}

# What people decide

SPLIT = (holding(AAPL, 20, "93"),)
"""Twice as many, at an average that does not fit: one sign of a split, and no second."""


@pytest.fixture
def proposed(met):
    """A break with a proposal that waits for a person."""
    for at in (3700, 4700):
        see(met, *SPLIT, at=at, policy=ASK)
    row = of_id(met, only(met)["id"])
    assert row["class"] == "split"
    assert row["proposed"]
    return met, row


def test_accepting_carries_the_proposal_out_with_who_and_why(proposed):
    met, row = proposed
    done = met.store.decisions.accept(row["id"], by="ada", why="the company said so")
    assert (done.breaks, done.waits_for_second) == ((row["id"],), False)
    position = met.position(AAPL)
    assert (position["quantity"], position["cost"]) == (20, 1000)
    (entry,) = met.store.read.adjustments()
    assert (entry["kind"], entry["accepted_by"], done.adjustments) == ("split", "ada", (entry["id"],))
    assert entry["evidence"].endswith("Accepted by ada: the company said so")
    row = of_id(met, row["id"])
    assert (row["status"], row["accepted_by"], row["accepted_why"], row["seconded_by"]) == ("resolved", "ada", "the company said so", None)
    assert see(met, holding(AAPL, 20, 50), at=5000, policy=ASK).open_breaks == 0
    assert not met.identities()


def test_accepting_twice_is_told(proposed):
    met, row = proposed
    met.store.decisions.accept(row["id"], by="ada")
    with pytest.raises(NotPossible, match="resolved already"):
        met.store.decisions.accept(row["id"], by="ada")
    with pytest.raises(NotPossible, match="resolved already"):
        met.store.decisions.dismiss(row["id"], by="ada", reason="no matter")


def test_above_a_limit_a_second_name_has_to_accept_too(proposed):
    met, row = proposed
    limit = {"second_name_above": D(100)}
    assert met.store.decisions.accept(row["id"], by="ada", why="announced", **limit).waits_for_second
    assert met.position(AAPL)["quantity"] == 10
    with pytest.raises(NotPossible, match="another person"):
        met.store.decisions.accept(row["id"], by=" Ada ", **limit)
    see(met, *SPLIT, at=5000, policy=ASK)  # which changes nothing of what was accepted
    done = met.store.decisions.accept(row["id"], by="bob", **limit)
    assert (done.waits_for_second, met.position(AAPL)["quantity"]) == (False, 20)
    row = of_id(met, row["id"])
    assert (row["accepted_by"], row["accepted_why"], row["seconded_by"], row["status"]) == ("ada", "announced", "bob", "resolved")
    assert met.store.read.adjustments()[0]["accepted_by"] == "ada and bob"


def test_a_first_acceptance_is_void_when_the_break_changes(proposed):
    met, row = proposed
    met.store.decisions.accept(row["id"], by="ada", second_name_above=D(100))
    see(met, holding(AAPL, 30, "93"), at=5000, policy=ASK)
    assert of_id(met, row["id"])["accepted_by"] is None
    see(met, holding(AAPL, 30, "93"), at=6000, policy=ASK)
    assert met.store.decisions.accept(row["id"], by="bob", second_name_above=D(100)).waits_for_second


def test_below_the_limit_one_name_is_enough(proposed):
    met, row = proposed
    assert not met.store.decisions.accept(row["id"], by="ada", second_name_above=D(10**6)).waits_for_second


def test_what_nobody_can_value_needs_a_second_name_whatever_the_limit(proposed):
    met, row = proposed
    query_ = "UPDATE breaks SET impact = NULL, impact_currency = NULL"
    met.store._connection.execute(query_)
    assert met.store.decisions.accept(row["id"], by="ada", second_name_above=D(10**9)).waits_for_second


def test_a_break_without_a_proposal_is_refused_with_what_to_do(met):
    for at in (3700, 4700):
        see(met, holding(AAPL, "12.37", "101"), at=at, policy=ASK)
    row = only(met)
    assert row["can_be_accepted"] is False
    with pytest.raises(NotPossible, match=r"no proposal.*import FILE.*dismiss"):
        met.store.decisions.accept(row["id"], by="ada")


def test_an_adopted_break_that_is_accepted_is_resolved_and_the_adjustment_stays(met):
    for at in (3700, 4100, 4700):
        see(met, holding(AAPL, "12.37", "101"), at=at)
    row = only(met)
    done = met.store.decisions.accept(row["id"], by="ada", why="seen at the broker")
    assert (done.adjustments, standing(met), met.position(AAPL)["quantity"]) == ((row["adopted"],), [], D("12.37"))
    assert see(met, holding(AAPL, "12.37", "101"), at=5000).open_breaks == 0
    (entry,) = met.store.read.adjustments()
    assert (entry["accepted_by"], entry["reversed_at"]) == ("ada", None)
    met.record(buy(AAPL, "2.37", 104, at=3650))  # and it gives way to facts all the same
    assert met.position(AAPL)["quantity"] == D("12.37")
    assert met.position(AAPL)["basis_quality"] == "fills"


def test_what_has_changed_since_is_not_accepted_and_nothing_of_it_is_kept(proposed):
    met, row = proposed
    met.record(buy(AAPL, 1, 100, at=4900))
    before = versions(met.store, "positions", "adjustments", "breaks", "lots")
    with pytest.raises(NotPossible, match=r"would hold .* of AAPL, and the broker held 20: something has changed since"):
        met.store.decisions.accept(row["id"], by="ada")
    assert versions(met.store, "positions", "adjustments", "breaks", "lots") == before


def test_an_id_that_is_not_there_is_told(met):
    with pytest.raises(LookupError):
        met.store.decisions.accept("nonsense", by="ada")


def test_a_dismissed_break_is_quiet_until_its_difference_changes(proposed):
    met, row = proposed
    met.store.decisions.dismiss(row["id"], by="ada", reason="a test account")
    assert met.store.read.breaks() == []
    found = see(met, *SPLIT, at=5000)  # by now the book would follow the broker: not where a person has said that it is no matter
    assert (found.opened, found.changed, found.open_breaks, found.is_news) == ((), (), 0, False)
    assert (only(met)["status"], only(met)["dismissed_reason"]) == ("dismissed", "a test account")
    met.record(buy(AAPL, 5, 100, at=5100))
    assert see(met, holding(AAPL, 25, "93"), at=5300).open_breaks == 0  # both sides trade on
    assert only(met)["adopted"] is None
    found = see(met, holding(AAPL, 27, "93"), at=5600)
    assert (found.changed, found.open_breaks) == ((row["id"],), 1)
    assert (only(met)["status"], only(met)["dismissed_by"]) == ("open", None)
    assert any("Dismissed by ada: a test account" in what for what in said(met, row["id"]))


def test_a_dismissed_break_ends_when_its_cause_does(proposed):
    met, row = proposed
    met.store.decisions.dismiss(row["id"], by="ada", reason="a test account")
    see(met, at=5000)
    assert of_id(met, row["id"])["status"] == "resolved"


def test_what_has_two_signs_is_booked_at_once_and_is_on_record(met):
    found = see(met, holding(AAPL, 20, 50, price="52.5"), at=3700)
    (entry,) = met.store.read.adjustments()
    assert (entry["kind"], met.position(AAPL)["quantity"], met.position(AAPL)["cost"], standing(met)) == ("split", 20, 1000, [])
    (row,) = met.store.read.breaks(all_=True)
    assert (row["class"], row["status"], row["resolved_at"], found.resolved) == ("split", "resolved", moment(3700), (row["id"],))
    assert len(row["signs"]) >= 2


def test_where_a_person_has_taken_something_back_we_book_nothing_until_both_agree_again(met):
    for at in (3700, 4700):
        see(met, holding(AAPL, "12.37"), at=at)
    (entry,) = met.store.read.adjustments()
    met.store.reverse(ACCOUNT, [entry["id"]], "ada", "the broker is wrong")
    met.store._connection.execute("UPDATE adjustments SET recorded_at = %(at)s, reversed_at = %(at)s", {"at": moment(4800)})
    for at, quantity in ((5000, "12.37"), (6000, "12.37"), (9000, 20), (9900, 20)):
        see(met, holding(AAPL, quantity), at=at)
        assert met.position(AAPL)["quantity"] == 10
        assert only(met)["adopted"] is None
    assert "ada took adopted:" in only(met)["evidence"]
    assert "back: the broker is wrong" in only(met)["evidence"]
    assert not see(met, holding(AAPL, 20), at=10200).is_news
    see(met, at=10500)
    assert standing(met) == []
    for at in (10800, 11700):
        see(met, holding(AAPL, "12.37"), at=at)
    assert met.position(AAPL)["quantity"] == D("12.37")


def test_what_would_explain_it_can_be_accepted_after_the_book_has_followed_the_broker(met):
    for at in (3700, 4700, 5000):
        see(met, *SPLIT, at=at)
    row = only(met)
    assert (row["class"], met.position(AAPL)["quantity"], met.position(AAPL)["basis_quality"]) == ("split", 20, "broker")
    met.record(buy(AAPL, 5, 50, at=5100))
    done = met.store.decisions.accept(row["id"], by="ada", why="announced")
    position = met.position(AAPL)
    assert (position["quantity"], position["cost"], position["basis_quality"]) == (25, 1250, "fills")  # 10 x 100 + 5 x 50
    assert [
        (entry["kind"], entry["reversed_by"]) for entry in met.store.read.adjustments(all_=True) if entry["id"] not in done.adjustments
    ] == [("adopted", "ada")]
    assert standing(met) == []


def test_what_we_took_back_ourselves_may_come_again(met):
    for at in (3700, 4700, 5000, 5300, 6300):
        see(met, *([] if at == 5000 else [holding(AAPL, "12.37")]), at=at)
    assert met.position(AAPL)["quantity"] == D("12.37")
    assert [row["reversed_by"] for row in met.store.read.adjustments(all_=True)] == ["position_pipeline", None]


# Two at once


def test_accepting_waits_for_a_sync_that_is_writing_and_finds_what_it_left(proposed, database):
    met, row = proposed
    began, done = threading.Event(), []

    def accept() -> None:
        with Store(database) as other:
            began.set()
            try:
                other.decisions.accept(row["id"], by="ada")
            except NotPossible as refused:
                done.append(str(refused))

    with met.store._connection.transaction():
        see(met, at=5000)  # the split was none: the broker has 10 again, and nothing of it is committed yet
        thread = threading.Thread(target=accept)
        thread.start()
        assert began.wait(10)
        wait_for_a_lock(database)
    thread.join(10)
    assert len(done) == 1
    assert "resolved already" in done[0]
    assert met.position(AAPL)["quantity"] == 10


def wait_for_a_lock(database) -> None:
    """Until some session waits for an advisory lock."""
    for _ in range(2000):
        if query(database, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            return
        threading.Event().wait(0.005)
    raise AssertionError("nobody waits")


def test_differences_of_other_accounts_are_known_and_none_of_our_business(met):
    see(met, holding(AAPL, 12, 100), at=3700)
    met.store.record(OTHER_ACCOUNT, [buy(TSLA, 1, 200)._replace(account=OTHER_ACCOUNT)], (), EVERYTHING)
    answer = snapshot(holding(TSLA, 1, 200), at=3700, account=OTHER_ACCOUNT)
    kept = met.store.take_in(answer, EVERYTHING, "ibkr")
    assert met.store.reconcile(answer, EVERYTHING, kept=kept).open_breaks == 0
    assert [row["account"] for row in standing(met)] == [ACCOUNT]


def test_cash_that_moved_is_known_from_the_answer_before_the_difference(met):
    """The values of the last answer before the difference are what cash is compared with, however old the break is."""
    values = (AccountValue("NetLiquidation", "100000.00", "USD"), AccountValue("CashBalance", "5000", "USD"))
    see(met, at=3650, values=values)
    later = (AccountValue("NetLiquidation", "100000.00", "USD"), AccountValue("CashBalance", "4790", "USD"))
    for at in (3700, 4000, 4700):
        see(met, holding(AAPL, 12, "100.83", price=105), at=at, values=later, policy=ASK)
    row = of_id(met, only(met)["id"])
    assert row["class"] == "missing_fill"  # 2 x 105 = 210 less
    (agreed,) = rows(met.store, "SELECT s.taken_at FROM breaks b JOIN snapshots s ON s.id = b.agreed_snapshot WHERE b.status = 'open'")
    assert agreed["taken_at"] == moment(3650)


def test_a_new_difference_is_held_against_the_answer_before_it(met):
    values = (AccountValue("NetLiquidation", "100000.00", "USD"), AccountValue("CashBalance", "5000", "USD"))
    see(met, at=3650, values=values)
    fills = (buy(AAPL, 1, 100, at=3655, name="early"), buy(AAPL, 1, 101, at=3655, name="early", revision=2), buy(KO, 1, 60, at=3656))
    met.record(*fills)
    now = snapshot(holding(AAPL, 12), at=3700)
    connection = met.store._connection
    before = recent.answer_before(connection, now)
    found = recent.load(connection, now, recent.related(connection, [AAPL.id]), [], before)
    assert (found.values, found.proven_before) == (values, moment(3650))
    assert {(fill.execution_id, fill.revision) for fill in found.fills} == {("early", 2), ("AAPL-0-BUY", 1), ("KO-3656-BUY", 1)}
    assert [(one.revision, other.revision) for one, other in found.corrected] == [(1, 2)]
    assert found.prices == {AAPL.id: 105}
    assert recent.related(connection, [CALL.id]) == sorted(recent.related(connection, [AAPL.id])) == sorted([AAPL.id, CALL.id])


def test_the_window_is_a_setting(met):
    policy = Policy(window=timedelta(0))
    see(met, holding(AAPL, 12, "101"), at=3700, policy=policy)
    assert see(met, holding(AAPL, 12, "101"), at=3800, policy=policy).changes[AAPL.id].after == 12


CASH = (AccountValue("NetLiquidation", "100000.00", "USD"), AccountValue("CashBalance", "5000", "USD"))


def see_other(book, quantity, at):
    answer = snapshot(*([holding(AAPL, quantity, 100, price=105)] if quantity else []), at=at, account=OTHER_ACCOUNT, values=CASH)
    kept = book.store.take_in(answer, EVERYTHING, "ibkr")
    return book.store.reconcile(answer, EVERYTHING, kept=kept)


def test_what_moves_from_one_account_to_another_is_booked_in_both_though_they_are_looked_at_one_after_the_other(met):
    """4 of 10 AAPL go over; the cash of neither account moves."""
    met.store.add_account(OTHER_ACCOUNT, "ibkr", base_currency="USD")
    see_other(met, 0, at=3640)
    see(met, at=3650, values=CASH)
    for at in (3700, 4000):
        see(met, holding(AAPL, 6, 100, price=105), at=at, values=CASH)
        see_other(met, 4, at=at + 1)
    assert standing(met) == []
    assert (met.quantities()["AAPL"], met.quantities(OTHER_ACCOUNT)["AAPL"]) == (6, 4)
    assert [row["class"] for row in met.store.read.breaks(all_=True)] == ["transfer", "transfer"]


def test_cash_that_another_instruments_fill_moved_is_no_sign_of_a_missing_one(met):
    """3 KO are bought for 180 in the same minutes in which 2 AAPL appear: the cash that went is that of the KO."""
    see(met, at=3650, values=CASH)
    met.record(buy(KO, 3, 60, at=3660))
    later = (CASH[0], AccountValue("CashBalance", "4820", "USD"))  # 5000 - 3 x 60
    for at in (3730, 4000, 4700):
        see(met, holding(KO, 8, 60), holding(AAPL, 12, "98.33333333", price=90), at=at, values=later, policy=ASK)
    assert only(met)["class"] != "missing_fill"  # 2 x 90 = 180 would have been paid for it


# Late facts that stand behind what was inferred of them


def test_a_statement_that_dates_an_event_later_than_it_was_taken_for_replaces_it(met):
    """The split was seen at 4000 and is taken to be of 3600; by the statement it was at 3900. Done twice it would make 40."""
    see(met, holding(AAPL, 20, 50, price="52.5"), at=4000)
    (inferred,) = met.store.read.adjustments(all_=True)
    assert (inferred["kind"], met.position(AAPL)["quantity"]) == ("split", 20)
    met.record(adjustment(AdjustmentKind.SPLIT, AAPL, 0, at=300 + 3600, name="stated", numerator=D(2), denominator=D(1)))
    see(met, holding(AAPL, 20, 50, price="52.5"), at=4300)
    assert (met.position(AAPL)["quantity"], standing(met)) == (20, [])
    assert [event[3] for event in met.events(AAPL) if event[0] == "split"] == ["stated"]


def test_an_expiry_of_a_statement_takes_the_place_of_the_one_that_was_inferred(met):
    """Nothing differs while the fact waits behind the inferred expiry, which left it nothing to do: the next answer decides all the same."""
    met.record(sell(CALL, 1, 3, at=10, name="written"))
    see(met, holding(CALL, -1, 3, price=1), at=3700)
    met.record(replace(adjustment(AdjustmentKind.EXPIRY, CALL, 1, at=3800, name="inferred", price=0), held=D(0)))
    see(met, at=4000)
    met.record(adjustment(AdjustmentKind.EXPIRY, CALL, 1, at=3900, name="stated", price=0))
    assert [close["execution_id"] for close in met.closes()] == ["inferred"]
    see(met, at=4300)
    assert [close["execution_id"] for close in met.closes()] == ["stated"]
    assert [row["reversed_by"] for row in met.store.read.adjustments(all_=True) if row["id"] == "inferred"] == ["position_pipeline"]


def test_a_fact_of_after_the_last_answer_puts_nothing_in_doubt(met):
    see(met, holding(AAPL, 20, 50, price="52.5"), at=4000)
    met.record(buy(AAPL, 5, 52, at=4100))
    assert rows(met.store, "SELECT id FROM adjustments WHERE doubted_at IS NOT NULL") == []


def test_what_other_methods_cost_is_worked_out_anew_for_another_history(met):
    """By fifo the 10 of 120 are left either way; their average is 110 with a first purchase at 100, and 95 with one at 70."""
    met.record(buy(TSLA, 10, 100, at=5, name="first"), buy(TSLA, 10, 120, at=6), sell(TSLA, 10, 130, at=7))
    assert see(met, holding(TSLA, 10, 110, price=130), at=3700).open_breaks == 0
    met.record(buy(TSLA, 10, 70, at=5, name="first")._replace(revision=2))
    assert see(met, holding(TSLA, 10, 95, price=130), at=4000).open_breaks == 0
