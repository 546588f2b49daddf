"""What is told and what is not: decided from values alone, with the time given."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from position_pipeline.alerts import Alert, Kind, News, Severity, Trouble, decide
from position_pipeline.alerts_causes import Ended, Judged, of_accounts, of_checks, of_gaps, of_runs, told_elsewhere
from position_pipeline.alerts_differences import of_breaks
from position_pipeline.market_hours import working_time

NOON = datetime(2026, 11, 20, 17, tzinfo=UTC)  # in New York
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def silence(kinds, start, end):
    """The hours of New York's stock exchange without the reset from 23:45 to 01:45."""
    return working_time(kinds, start, end, (23 * 60 + 45, 105))


def difference(**other):
    """A row of a break: 5 AAPL of 190 USD are missing."""
    row = {
        "id": "ab12", "account": "U1", "instrument": "ibkr:265598", "symbol": "AAPL", "subject": "quantity", "class": "unknown",
        "status": "open", "cause": "", "book_quantity": Decimal(100), "broker_quantity": Decimal(95), "first_seen_at": NOON,
        "expected_clear_at": None, "impact": Decimal(950), "impact_currency": "USD", "proposal": "Import a statement.",
        "evidence": "No fill explains it.", "adopted": None,
    }  # fmt: skip
    return row | other


def troubles(*rows, at=NOON, least=Decimal(0), next_answer=timedelta(minutes=6)):
    return of_breaks(rows, at, least, next_answer)


class Memory:
    """What was told, kept as the store keeps it."""

    def __init__(self):
        self.standing: dict[str, Alert] = {}

    def hear(self, found, at=NOON):
        """The messages for what is wrong at a time."""
        told = decide(found, self.standing.values(), at)
        for item in (item for each in told for item in each.items):
            if item.trouble is None:
                del self.standing[item.alert.cause]
            else:
                t = item.trouble
                since = item.alert.since_at if item.alert else t.since_at
                self.standing[t.cause] = Alert(
                    1, t.cause, t.kind, t.accounts, item.severity, t.headline, t.digest, item.impact_class, item.age_class, since
                )  # fmt: skip
        return [each.message for each in told if each.message]

    def titles(self, found, at=NOON):
        return [message.title for message in self.hear(found, at)]


# -- a difference


def test_a_break_is_told_once_with_what_where_how_much_since_when_and_what_helps():
    memory = Memory()
    (message,) = memory.hear(troubles(difference()), NOON + timedelta(minutes=5))
    assert message.title == "New: AAPL in U1: book 100, broker 95"
    assert message.body.splitlines() == [
        "New: AAPL in U1: book 100, broker 95",
        "unknown, worth 950.00 USD. No fill explains it. Import a statement.",
        "Since 2026-11-20 17:00:00 UTC (5 min).",
        "What helps: position-pipeline breaks show ab12",
    ]
    assert message.severity is Severity.NOTICE
    assert memory.hear(troubles(difference()), NOON + timedelta(minutes=10)) == []


def test_a_position_that_is_traded_while_the_same_is_missing_is_not_told_again():
    """100 and 95 become 120 and 115: 5 are missing, as before. 4 missing are another matter."""
    memory = Memory()
    memory.hear(troubles(difference()))
    assert memory.hear(troubles(difference(book_quantity=Decimal(120), broker_quantity=Decimal(115)))) == []
    assert memory.titles(troubles(difference(book_quantity=Decimal(120), broker_quantity=Decimal(116)))) == [
        "Changed: AAPL in U1: book 120, broker 116"
    ]


def test_another_price_is_not_told_but_another_class_and_an_adoption_are():
    memory = Memory()
    memory.hear(troubles(difference()))
    assert memory.hear(troubles(difference(impact=Decimal("955.25"), evidence="Worth 955.25 now."))) == []
    assert memory.titles(troubles(difference(**{"class": "transfer"}))) == ["Changed: AAPL in U1: book 100, broker 95"]
    assert memory.titles(troubles(difference(**{"class": "transfer"}, adopted="adopted:1"))) == ["Changed: AAPL in U1: book 100, broker 95"]


def test_it_is_told_again_when_it_comes_to_ten_times_as_much_and_never_twice_for_one_class():
    """Of 999, 1,000, 1,001, 999, 1,000 and 10,000 the second and the last are worse than all before."""
    memory = Memory()
    sums = ("999", "1000", "1001", "999", "1000", "10000")
    heard = [memory.titles(troubles(difference(impact=Decimal(impact)))) for impact in sums]
    assert [bool(each) for each in heard] == [True, True, False, False, False, True]
    assert heard[1] == ["Worse: AAPL in U1: book 100, broker 95"]


def test_what_shrank_and_grew_again_is_held_against_the_worst_that_was_told():
    """1,000 is told; 500 of another class is told as changed; 1,000 of that class is no worse than what was told first."""
    memory = Memory()
    memory.hear(troubles(difference(impact=Decimal(1000))))
    transfer = {"class": "transfer"}
    assert len(memory.hear(troubles(difference(impact=Decimal(500), **transfer)))) == 1
    assert memory.hear(troubles(difference(impact=Decimal(1000), **transfer))) == []


def test_it_is_told_again_after_an_hour_a_day_and_a_week():
    memory, heard = Memory(), []
    for hours in (0, 0.9, 1, 2, 23, 24, 25, 167, 168, 400):
        at = NOON + hours * HOUR
        if memory.hear(troubles(difference(), at=at), at):
            heard.append(hours)
    assert heard == [0, 1, 24, 168]


def test_older_and_larger_ones_are_graver():
    def severity(at, impact):
        return Memory().hear(troubles(difference(impact=impact), at=at), at)[0].severity

    assert severity(NOON, Decimal(10)) is Severity.NOTICE
    assert severity(NOON + HOUR, Decimal(10)) is Severity.WARNING
    assert severity(NOON + DAY, Decimal(10)) is Severity.GRAVE
    assert severity(NOON, Decimal(1000)) is Severity.WARNING
    assert severity(NOON, Decimal(10_000)) is Severity.GRAVE
    assert severity(NOON, None) is Severity.WARNING  # what has no price is not taken for small


def test_when_it_is_gone_that_is_told_once():
    memory = Memory()
    memory.hear(troubles(difference()))
    (message,) = memory.hear([], NOON + 2 * HOUR)
    assert message.title == "Recovered: AAPL in U1: book 100, broker 95"
    assert message.body.splitlines()[1] == "It is over. It had been so since 2026-11-20 17:00:00 UTC (2 h)."
    assert message.severity is Severity.GOOD
    assert memory.hear([], NOON + 3 * HOUR) == []


def test_what_a_person_dismissed_is_over_without_a_word_and_told_anew_when_it_opens_again():
    memory = Memory()
    memory.hear(troubles(difference()))
    assert memory.hear(troubles(difference(status="dismissed"))) == []
    assert memory.standing == {}
    assert memory.hear(troubles(difference(status="dismissed"))) == []
    assert memory.titles(troubles(difference())) == ["New: AAPL in U1: book 100, broker 95"]


def test_a_timing_break_is_told_only_when_the_answer_after_its_time_is_overdue():
    """It should clear within 15 minutes, and after 6 more the answer that says what it is should be there."""
    memory = Memory()
    row = difference(**{"class": "timing"}, expected_clear_at=NOON + timedelta(minutes=15))
    assert memory.hear(troubles(row, at=NOON + timedelta(minutes=20)), NOON + timedelta(minutes=20)) == []
    assert len(memory.hear(troubles(row, at=NOON + timedelta(minutes=21)), NOON + timedelta(minutes=21))) == 1


def test_where_answers_come_once_an_hour_a_timing_break_is_told_when_the_next_of_them_is_overdue():
    """It should clear within 15 minutes; the next answer is there 61 minutes later at the latest."""
    memory, hourly = Memory(), timedelta(minutes=61)
    row = difference(**{"class": "timing"}, expected_clear_at=NOON + timedelta(minutes=15))
    early, late = NOON + timedelta(minutes=75), NOON + timedelta(minutes=76)
    assert memory.hear(troubles(row, at=early, next_answer=hourly), early) == []
    assert len(memory.hear(troubles(row, at=late, next_answer=hourly), late)) == 1


def test_what_is_taken_for_something_else_is_the_same_break_and_not_over():
    """The register keeps the id of a break while it learns more; its cause is another one then."""
    memory = Memory()
    memory.hear(troubles(difference(cause="timing:1", **{"class": "timing"})))
    titles = memory.titles(troubles(difference(cause="missing_fill:1", **{"class": "missing_fill"})))
    assert titles == ["Changed: AAPL in U1: book 100, broker 95"]
    assert memory.titles([]) == ["Recovered: AAPL in U1: book 100, broker 95"]


def test_two_breaks_that_turn_out_to_be_one_go_on_as_one():
    memory = Memory()
    rows = [difference(cause="a", impact=Decimal(90)), difference(id="cd34", symbol="AAPL C250", cause="b", impact=Decimal(90))]
    memory.hear(troubles(*rows))
    titles = memory.titles(troubles(*[row | {"cause": "c", "class": "option_event"} for row in rows]))
    assert titles == ["Changed: AAPL in U1: book 100, broker 95 (and 1 more break of the same cause)"]
    assert list(memory.standing) == ["break:ab12"]


def test_what_was_adopted_says_so():
    row = difference(adopted="adopted:1", book_quantity=Decimal(95))
    assert Memory().titles(troubles(row)) == ["New: AAPL in U1: the book follows the broker's 95 unexplained"]


def test_of_an_answer_from_which_too_much_is_gone_the_guard_alone_is_told():
    """Each of the positions that are gone has its break; 5 AAPL that are missing besides are another matter."""
    guard = difference(id="guard", instrument=None, symbol="", subject="snapshot", impact=None, book_quantity=None, broker_quantity=None)
    gone = [difference(id=name, symbol=name, broker_quantity=Decimal(0)) for name in ("KO", "XOM")]
    memory = Memory()
    memory.hear(troubles(guard, *gone, difference()))
    assert sorted(memory.standing) == ["break:ab12", "break:guard"]
    assert memory.titles(troubles(*gone, difference())) == ["New: KO in U1: book 100, broker 0, and 2 more"]  # XOM, and the guard is over


def test_what_clears_by_itself_in_time_is_never_told():
    memory = Memory()
    memory.hear(troubles(difference(**{"class": "timing"}, expected_clear_at=NOON + HOUR)))
    assert memory.hear([]) == []


def test_a_cost_that_no_method_explains_is_told():
    """What a method explains is no break."""
    row = difference(subject="cost", broker_quantity=Decimal(100), **{"class": "cost_method"})
    assert Memory().titles(troubles(row)) == ["New: AAPL in U1: cost differs"]


def test_what_is_worth_less_than_the_setting_is_not_told_and_what_has_no_price_is():
    assert Memory().hear(troubles(difference(impact=Decimal("99.99")), least=Decimal(100))) == []
    assert len(Memory().hear(troubles(difference(impact=Decimal(100)), least=Decimal(100)))) == 1
    assert len(Memory().hear(troubles(difference(impact=None, impact_currency=None), least=Decimal(100)))) == 1


def test_a_break_that_falls_below_the_setting_is_not_called_recovered():
    memory = Memory()
    memory.hear(troubles(difference(), least=Decimal(900)))
    assert memory.hear(troubles(difference(impact=Decimal(800)), least=Decimal(900))) == []
    assert len(memory.standing) == 1


# -- what is told together


def test_all_breaks_of_an_account_are_one_message_that_stays_readable():
    """40 breaks, the largest first as the store gives them: ten in full, and how many more; another account has a message of its own."""
    rows = [difference(id=f"b{n}", symbol=f"S{n}", instrument=f"ibkr:{n}", impact=Decimal(n)) for n in range(1951, 0, -50)]
    first, second = Memory().hear(troubles(*rows, difference(id="x", account="U2")))
    assert first.title == "New: S1951 in U1: book 100, broker 95, and 39 more"
    assert first.body.count("New: ") == 10
    assert first.body.endswith("And 30 more: position-pipeline alerts")
    assert second.title == "New: AAPL in U2: book 100, broker 95"


def test_breaks_of_one_cause_are_one_thing_even_across_accounts():
    """An assignment is a break in the option and one in the shares: 500 + 600 USD = 1,100 USD is a class of its own."""
    rows = [difference(cause="c", impact=Decimal(600)), difference(id="cd34", symbol="AAPL C250", cause="c", impact=Decimal(500))]
    (found,) = troubles(*rows)
    assert (found.impact_class, found.accounts) == (1, ("U1",))
    (message,) = Memory().hear([found])
    assert message.title == "New: AAPL in U1: book 100, broker 95 (and 1 more break of the same cause)"
    assert "worth 1,100.00 USD" in message.body
    (both,) = troubles(difference(cause="c"), difference(id="x", account="U2", cause="c"))
    assert both.accounts == ("U1", "U2")


def test_sums_of_several_currencies_are_never_added_up():
    rows = [difference(cause="c"), difference(id="x", cause="c", impact_currency="EUR")]
    (found,) = troubles(*rows)
    assert (found.impact_class, "worth 950.00 EUR, 950.00 USD" in found.says) == (0, True)


def test_a_guard_alarm_is_grave_and_one_message_with_the_breaks_of_its_account():
    alarm = difference(id="guard", instrument=None, symbol="", subject="snapshot", impact=None, impact_currency=None,
                       book_quantity=None, broker_quantity=None, evidence="8 of 10 positions vanished at once; nothing was closed.",
                       **{"class": "snapshot_incomplete"})  # fmt: skip
    (message,) = Memory().hear(troubles(difference(impact=Decimal(10)), alarm))
    assert message.severity is Severity.GRAVE
    assert message.title == "New: U1: the broker's answer as a whole is doubtful (snapshot_incomplete), and 1 more"
    assert "8 of 10 positions vanished at once" in message.body


def test_one_that_ends_and_one_that_begins_are_told_together():
    memory = Memory()
    memory.hear(troubles(difference()))
    (message,) = memory.hear(troubles(difference(id="new", symbol="KO")))
    assert message.title == "New: KO in U1: book 100, broker 95, and 1 more"
    assert "Recovered: AAPL" in message.body


# -- accounts


def account(name="U1", *, synced=timedelta(minutes=20), connection="ibkr"):
    return {
        "account": name, "connection": connection, "first_seen_at": NOON - DAY, "last_synced_at": NOON - synced,
        "last_outcome": "failed", "kinds": [["STK", "USD"]], "last_errors": [{"symbol": "", "error": "The gateway does not answer."}],
    }  # fmt: skip


def stale(*rows, at=NOON, connections=("ibkr",)):
    return of_accounts(rows, connections, 900, silence, at)


def test_the_stale_accounts_of_one_connection_are_one_message_that_says_why():
    (message,) = Memory().hear(stale(account(), account("U2")))
    assert message.title == "New: U1, U2: no proven answer of ibkr for too long; the figures are as they were"
    assert "U1: last proven answer 2026-11-20 16:40:00 UTC, last attempt failed: The gateway does not answer. U2: last" in message.body
    assert "What helps: position-pipeline doctor" in message.body


def test_an_account_is_stale_after_the_time_of_the_setting():
    assert stale(account(synced=timedelta(seconds=900))) == []
    assert len(stale(account(synced=timedelta(seconds=901)))) == 1


def test_accounts_that_are_stale_one_after_the_other_within_a_sync_are_told_at_once():
    (found,) = stale(
        account(synced=timedelta(seconds=901)), account("U2", synced=timedelta(seconds=890)), account("U3", synced=timedelta(0))
    )
    assert found.accounts == ("U1", "U2")


def test_the_brokers_nightly_reset_does_not_count():
    """Last answer at 23:40; at 01:50 in New York 130 minutes have passed, 120 of them in the reset: 10 are left. Bitcoin never rests."""
    last = datetime(2026, 11, 20, 4, 40, tzinfo=UTC)
    row = account() | {"last_synced_at": last, "kinds": [["CRYPTO", "USD"]]}
    assert stale(row, at=last + timedelta(minutes=130)) == []
    assert len(stale(row, at=last + timedelta(minutes=136))) == 1


def test_a_silence_while_nothing_can_be_traded_is_excused_but_not_for_more_than_26_hours():
    """From Friday 20:00 in New York to Saturday: no stock is traded."""
    last = datetime(2026, 11, 21, 1, tzinfo=UTC)
    row = account() | {"last_synced_at": last}
    assert stale(row, at=last + 26 * HOUR) == []
    assert len(stale(row, at=last + 26 * HOUR + timedelta(seconds=1))) == 1


def test_what_no_connection_reads_is_never_stale():
    assert stale(account(connection="gone")) == []
    assert stale(account(), connections=()) == []


def test_an_account_that_was_never_proven_is_stale_from_when_it_was_first_seen():
    (found,) = stale(account() | {"last_synced_at": None})
    assert found.since_at == NOON - DAY
    assert "never a proven answer" in found.says


def test_a_stale_account_is_told_again_after_an_hour_and_when_another_one_joins():
    memory = Memory()
    row = account(synced=timedelta(minutes=20))
    assert len(memory.hear(stale(row))) == 1
    assert memory.hear(stale(row, at=NOON + timedelta(minutes=30)), NOON + timedelta(minutes=30)) == []
    assert memory.titles(stale(row, at=NOON + timedelta(minutes=40)), NOON + timedelta(minutes=40))[0].startswith("Worse: U1: ")
    later = NOON + timedelta(minutes=45)
    assert memory.titles(stale(row, account("U2"), at=later), later)[0].startswith("Changed: U1, U2: ")


def test_a_gap_of_a_stream_is_told_when_no_sync_has_made_it_good_in_time():
    gap = {"connection": "ibkr", "opened_at": NOON, "cause": "The link was lost."}
    memory = Memory()
    assert memory.hear(of_gaps([gap], 900, NOON + timedelta(seconds=899)), NOON) == []
    later = NOON + timedelta(seconds=900)
    (message,) = memory.hear(of_gaps([gap], 900, later), later)
    assert message.title == "New: ibkr: the stream of fills has a gap that no sync has made good"
    assert memory.titles([], later)[0].startswith("Recovered: ibkr")


# -- runs and checks


def run(*, failed=True, steps=("broker_snapshots",), says="No account could be synced.", at=NOON):
    return Ended("position_sync", "0123456789abcdef", failed, at, steps, says)


def judged(
    name="snapshot_is_complete", *, passed=False, says="The answers for U1 cannot be used.", at=NOON, run_succeeded=True, error=True
):
    return Judged("broker_snapshots", name, passed, says, at, error, run_succeeded)


def test_a_failed_run_is_told_once_until_one_of_its_job_succeeds():
    memory = Memory()
    (message,) = memory.hear(of_runs([run()]))
    assert message.title == "New: the run position_sync failed at broker_snapshots"
    assert "No account could be synced." in message.body
    assert message.severity is Severity.GRAVE
    assert memory.hear(of_runs([run(at=NOON + timedelta(minutes=5), says="Another text.")]), NOON + timedelta(minutes=5)) == []
    assert memory.titles(of_runs([run(failed=False)])) == ["Recovered: the run position_sync failed at broker_snapshots"]


def test_a_run_that_fails_elsewhere_is_told_again():
    memory = Memory()
    memory.hear(of_runs([run()]))
    assert memory.titles(of_runs([run(steps=("book",))])) == ["Changed: the run position_sync failed at book"]


def test_a_run_that_keeps_failing_is_worse_after_an_hour_though_each_run_is_new():
    memory = Memory()
    memory.hear(of_runs([run()]))
    later = NOON + HOUR
    assert memory.titles(of_runs([run(at=later)]), later) == ["Worse: the run position_sync failed at broker_snapshots"]


def test_a_failed_check_of_a_successful_run_is_told_once_and_again_when_other_rows_break_it():
    memory = Memory()
    (message,) = memory.hear(of_checks([judged()]))
    assert message.title == "New: snapshot_is_complete failed (broker_snapshots)"
    assert "The answers for U1 cannot be used." in message.body
    assert memory.hear(of_checks([judged(at=NOON + timedelta(minutes=5))])) == []
    assert memory.titles(of_checks([judged(says="The answers for U1, U2 cannot be used.")])) == [
        "Changed: snapshot_is_complete failed (broker_snapshots)"
    ]
    assert memory.titles(of_checks([judged(passed=True)])) == ["Recovered: snapshot_is_complete failed (broker_snapshots)"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("KO in U1 is off by 12.34 USD since 2026-11-20.", "KO in U1 is off by 1,250.01 USD since 2026-11-21."),
        ("book 5, broker 6; book 1", "book 7, broker 8; book 2"),
    ],
)
def test_figures_that_move_with_every_run_do_not_make_another_message(before, after):
    memory = Memory()
    memory.hear(of_checks([judged(says=before)]))
    assert memory.hear(of_checks([judged(says=after)])) == []


def test_a_check_in_a_failed_run_is_told_by_the_run_alone():
    memory = Memory()
    messages = memory.hear([*of_runs([run()]), *of_checks([judged(run_succeeded=False)])])
    assert [message.title for message in messages] == ["New: the run position_sync failed at broker_snapshots"]


@pytest.mark.parametrize("unproven", [judged(run_succeeded=False), judged(passed=None)])
def test_a_check_that_did_not_get_its_turn_is_not_called_recovered(unproven):
    memory = Memory()
    memory.hear(of_checks([judged()]))
    assert memory.hear(of_checks([unproven])) == []
    assert len(memory.standing) == 1


def test_a_warning_is_told_as_one():
    assert Memory().hear(of_checks([judged(error=False)]))[0].severity is Severity.WARNING
    assert Memory().hear(of_checks([judged()]))[0].severity is Severity.GRAVE


@pytest.mark.parametrize(
    ("check", "rows", "silenced"),
    [
        ("quantities_match_broker", [difference()], True),
        ("portfolio_value_adds_up", [difference()], True),  # what is missing is missing in the value
        ("positions_are_explained", [difference(adopted="adopted:1", book_quantity=Decimal(95))], True),
        ("positions_are_explained", [difference()], False),
        ("broker_cost_is_explained", [difference()], False),
        ("broker_cost_is_explained", [difference(subject="cost")], True),
        ("quantities_match_broker", [difference(account="U2")], False),
        ("quantities_match_broker", [], False),
        ("portfolio_value_adds_up", [difference(broker_quantity=Decimal(100), adopted="a")], False),
        ("snapshot_is_complete", [difference()], False),
    ],
)
def test_a_check_whose_finding_is_a_break_of_its_accounts_is_told_by_the_break(check, rows, silenced):
    found = of_checks([replace(judged(check), accounts=("U1",))])
    assert told_elsewhere(found, rows, ())[0].quiet == silenced


def test_a_check_whose_finding_is_a_stale_account_is_told_by_that():
    found = of_checks([replace(judged("positions_are_fresh"), accounts=("U1",))])
    assert told_elsewhere(found, (), stale(account()))[0].quiet
    assert not told_elsewhere(found, (), stale(account("U2")))[0].quiet


# -- what happens at once


def test_a_long_text_is_cut():
    (message,) = Memory().hear([replace(troubles(difference())[0], says="x" * 5000)])
    assert len(message.body) < 1000


def test_every_kind_of_news_is_decided_in_one_look():
    memory = Memory()
    memory.hear(troubles(difference(id="a"), difference(id="b", symbol="B"), difference(id="c", symbol="C")))
    found = troubles(difference(id="b", symbol="B", impact=Decimal(5000)), difference(id="c", symbol="C", broker_quantity=Decimal(1)),
                     difference(id="d", symbol="D"))  # fmt: skip
    (told,) = decide(found, memory.standing.values(), NOON)
    assert sorted(item.news for item in told.items) == sorted([News.WORSE, News.CHANGED, News.NEW, News.RECOVERED])


def test_a_trouble_needs_no_more_than_its_words():
    bare = Trouble("x", Kind.GAP, (), "head", "", "help", NOON)
    assert Memory().hear([bare])[0].body == "New: head\nSince 2026-11-20 17:00:00 UTC (0 s).\nWhat helps: help"
