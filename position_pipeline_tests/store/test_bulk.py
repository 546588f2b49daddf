"""A large delivery writes the same rows as recording does, whatever the file is like, and all of them or none."""

from __future__ import annotations

import random
import re
from decimal import Decimal

import psycopg2
import pytest

from position_pipeline.accounting.booking import fold, in_order
from position_pipeline.accounting.faults import faults
from position_pipeline.accounting.model import Fill, Instrument, Method, Position
from position_pipeline.store import Store, bulk, bulk_text, queries
from position_pipeline.store.bulk_arrivals import Seen, is_plainly_sound
from position_pipeline.store.bulk_kernel import fold_sorted
from position_pipeline.store.turns import BookBusy
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, BTC, ES, EURUSD, EVERYTHING, KO, OTHER_ACCOUNT, SAP, buy, moment, sell
from position_pipeline_tests.store.histories import history
from position_pipeline_tests.store.tables import BELIEVED, TABLES, believed, listening, rows, versions

D = Decimal
METHODS = ("fifo", "average", "lifo", "hifo")


def deliver(store: Store, fills, account=ACCOUNT, *, at_a_time=7, instruments=EVERYTHING):
    """As an import does: batch by batch, each with the instruments that are new in it."""
    met: set[str] = set()
    with store.delivering() as delivery:
        for start in range(0, len(fills), at_a_time):
            batch = fills[start : start + at_a_time]
            new = {fill.instrument for fill in batch} - met
            met |= new
            delivery.add(account, batch, [each for each in instruments if each.id in new])
        return delivery.finish().get(account)


def invented(seed: int, account: str, count: int = 60) -> list[Fill]:
    """Fills of a few instruments, long and short, with flips, fees in other currencies, none yet, and some at the same moment."""
    draw = random.Random(f"{seed}/bulk")
    traded = draw.sample((AAPL, SAP, ES, BTC, KO, EURUSD), 4)
    found, at = [], 0
    for number in range(count):
        at += draw.choice((0, 1, 1, 60))
        instrument = draw.choice(traded)
        fee = draw.choice(("0", "1.25", "-0.3", None))
        more = {"fee": fee, "fee_currency": draw.choice((None, None, "CHF")), "account": account, "name": f"e{number}"}
        trade = draw.choice((buy, sell))
        found.append(trade(instrument, D(draw.randint(1, 40)) / 4, D(draw.randint(900, 1100)) / 10, at=at, **more))
    return found


def twins(store: Store, method: str = "fifo") -> None:
    for account in (ACCOUNT, OTHER_ACCOUNT):
        store.add_account(account, "ibkr", cost_method=method)


def both_ways(store: Store, fills: list[Fill], *, before: list[Fill] = (), at_a_time: int = 7):
    """The same fills recorded for one account and delivered for the other, `before` being known already; what each said."""
    mirrored = [fill._replace(account=OTHER_ACCOUNT) for fill in fills]
    if before:
        store.record(ACCOUNT, before, (), EVERYTHING)
        store.record(OTHER_ACCOUNT, [fill._replace(account=OTHER_ACCOUNT) for fill in before], (), EVERYTHING)
    recorded = store.record(ACCOUNT, fills, (), EVERYTHING)
    delivered = deliver(store, mirrored, OTHER_ACCOUNT, at_a_time=at_a_time)
    assert believed(store, OTHER_ACCOUNT) == believed(store, ACCOUNT)
    assert delivered.changes == recorded.changes
    assert (delivered.fills, delivered.completed) == (recorded.fills, recorded.completed)
    assert sorted(delivered.refused) == sorted(recorded.refused)
    return delivered


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("at_a_time", [1, 7, 1000])
def test_sorted_fills_come_to_the_same_rows(store, method, at_a_time):
    twins(store, method)
    both_ways(store, invented(1, ACCOUNT), at_a_time=at_a_time)


@pytest.mark.parametrize("seed", range(6))
def test_fills_in_any_order_with_repetitions_come_to_the_same_rows(store, seed):
    draw = random.Random(f"{seed}/order")
    twins(store, draw.choice(METHODS))
    fills = invented(seed, ACCOUNT)
    fills += draw.sample(fills, 10)
    known = draw.sample(fills, 12) if seed % 2 else []
    if seed % 3:
        draw.shuffle(fills)
    both_ways(store, fills, before=known)


@pytest.mark.parametrize("seed", range(8))
def test_corrections_busts_and_completions_within_a_file_come_to_the_same_rows(store, seed):
    for account in (ACCOUNT, OTHER_ACCOUNT):
        told = history(seed, account)
        store.add_account(account, "ibkr", cost_method=told.method)
        fills = [entry for entry in told.told if isinstance(entry, Fill)]
        if account == ACCOUNT:
            recorded = store.record(account, fills, (), EVERYTHING)
        else:
            delivered = deliver(store, fills, account)
    assert believed(store, OTHER_ACCOUNT) == believed(store, ACCOUNT)
    assert (delivered.fills, delivered.changes) == (recorded.fills, recorded.changes)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_delivery_meets_in_the_book_comes_to_the_same_rows(store, seed):
    """Opening balances and lots, assignments with premiums: recorded first, then the fills of the same history."""
    for account in (ACCOUNT, OTHER_ACCOUNT):
        told = history(seed + 100, account)
        store.add_account(account, "ibkr", cost_method=told.method)
        store.record(account, (), [entry for entry in told.told if not isinstance(entry, Fill)], EVERYTHING)
        fills = [entry for entry in told.told if isinstance(entry, Fill)]
        if account == ACCOUNT:
            store.record(account, fills, (), EVERYTHING)
        else:
            deliver(store, fills, account)
    assert believed(store, OTHER_ACCOUNT) == believed(store, ACCOUNT)


def test_delivering_again_changes_nothing(store):
    twins(store)
    fills = invented(3, ACCOUNT)
    deliver(store, fills)
    before = versions(store, *TABLES)
    again = deliver(store, fills)
    assert (again.fills, again.changes, again.refused) == (0, {}, ())
    assert versions(store, *TABLES) == before


def test_recording_goes_on_where_a_delivery_ended(store):
    twins(store)
    fills = invented(4, ACCOUNT)
    store.record(ACCOUNT, fills, (), EVERYTHING)
    mirrored = [fill._replace(account=OTHER_ACCOUNT) for fill in fills]
    deliver(store, mirrored[:20], OTHER_ACCOUNT)
    store.record(OTHER_ACCOUNT, mirrored[20:40], (), EVERYTHING)
    deliver(store, mirrored[40:], OTHER_ACCOUNT)
    assert believed(store, OTHER_ACCOUNT) == believed(store, ACCOUNT)


def test_nothing_is_superseded_that_nobody_has_seen(store):
    """A late fill takes back what the same delivery wrote before; rows of earlier transactions stay, marked."""
    twins(store)
    seen, *later = [buy(AAPL, 1, 10, at=100, name="seen"), sell(AAPL, 1, 12, at=300, name="s"), buy(AAPL, 1, 9, at=50, name="late")]
    store.record(ACCOUNT, [seen], (), EVERYTHING)
    deliver(store, later, at_a_time=1)
    assert [row["opening_id"] for row in rows(store, "SELECT opening_id FROM closes")] == ["late"]
    assert [row["cause"] for row in rows(store, "SELECT cause FROM position_events WHERE superseded_at IS NOT NULL")] == ["seen"]


def test_fills_of_one_moment_that_two_batches_share_are_not_late(store, monkeypatch):
    twins(store)
    monkeypatch.setattr(bulk.book, "book_entries", None)  # the slower way is not gone
    fills = [buy(AAPL, 1, 10, at=0, name="e2"), buy(AAPL, 2, 11, at=5, name="e9"), sell(AAPL, 1, 12, at=5, name="e10")]
    assert deliver(store, fills, at_a_time=2).changes[AAPL.id].after == 2


def test_a_delivery_of_many_accounts_is_told_and_kept_together(store, database):
    twins(store)
    with listening(database) as heard:
        with store.delivering() as delivery:
            delivery.add(ACCOUNT, [buy(AAPL, 1, 10)], [AAPL])
            delivery.add(OTHER_ACCOUNT, [sell(AAPL, 1, 10, account=OTHER_ACCOUNT)])
            delivery.finish()
        assert [(note["account"], note["fills"], note["positions"]) for note in heard()] == [(ACCOUNT, 1, 1), (OTHER_ACCOUNT, 1, 1)]


def test_a_delivery_that_fails_leaves_nothing(store):
    twins(store)
    before = versions(store, *TABLES)
    with pytest.raises(LookupError, match="NOBODY"):
        deliver_to_somebody_and_nobody(store)
    assert versions(store, *TABLES) == before
    assert len(keys(store)) > 5


def deliver_to_somebody_and_nobody(store):
    with store.delivering() as delivery:
        delivery.add(ACCOUNT, invented(1, ACCOUNT), EVERYTHING)
        delivery.add("NOBODY", invented(1, "NOBODY"))


def test_lots_that_a_fill_names_are_closed_first_and_wrong_names_are_kept_as_refused(store):
    twins(store)
    fills = [buy(AAPL, 1, 10, name="b1"), buy(AAPL, 1, 11, at=1, name="b2"), buy(KO, 1, 5, name="k")]
    fills.append(sell(AAPL, 1, 12, at=2, name="s")._replace(closes_lots=(("b2", D(1)),)))
    fills.append(sell(KO, 1, 12, at=2, name="t")._replace(closes_lots=(("nothing", D(1)),)))
    assert len(both_ways(store, fills, at_a_time=2).refused) == 1


def test_a_fill_that_is_wrong_by_itself_is_refused_and_the_others_are_booked(store):
    twins(store)
    wrong = [buy(AAPL, 1, 10, name="nan")._replace(price=D("NaN")), buy(AAPL, 1, 10, name="minus")._replace(quantity=D(-1))]
    assert len(both_ways(store, [*wrong, *invented(5, ACCOUNT)]).refused) == 2


@pytest.mark.parametrize("name", ["quantity", "price", "multiplier", "commission"])
@pytest.mark.parametrize(
    "number", ["NaN", "-NaN", "sNaN", "Infinity", "-Infinity", "-1", "0", "1E+50", "1E-90", "1" * 45, "0." + "1" * 45, "7.5"]
)
def test_what_is_plainly_sound_has_no_faults(name, number):
    fill = buy(AAPL, 1, 10)._replace(**{name: D(number)})
    assert not (is_plainly_sound(fill) and faults(fill))
    assert is_plainly_sound(buy(AAPL, 1, 10))
    assert not is_plainly_sound(fill._replace(currency=""))


def test_what_postgresql_refuses_in_its_own_time_is_raised_and_leaves_nothing(store):
    """The keys are checked at the end: what refers to nothing is found then."""
    twins(store)
    before, foreign = versions(store, *TABLES), keys(store)
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        deliver_what_nobody_described(store)
    assert versions(store, *TABLES) == before
    assert keys(store) == foreign


def deliver_what_nobody_described(store):
    with store.delivering() as delivery:
        delivery._writer.copy("executions", bulk_text.EXECUTIONS, [bulk_text.Lines(moment(0), {}).execution(buy(AAPL, 1, 10))])
        delivery.finish()


def test_a_line_that_postgresql_cannot_read_is_raised_by_a_later_call(store):
    with pytest.raises(psycopg2.DataError):
        deliver_nonsense(store)
    assert query_one(store)


def deliver_nonsense(store):
    with store.delivering() as delivery:
        delivery._writer.copy("executions", bulk_text.EXECUTIONS, ["nonsense\n"])
        delivery.settle()


def query_one(store):
    return rows(store, "SELECT 1 AS one") == [{"one": 1}]


# Keys


def keys(store: Store) -> list:
    sql = "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE contype = 'f' ORDER BY 1, 2"
    return [tuple(row.values()) for row in rows(store, sql)]


def test_all_foreign_keys_are_there_again_and_checked(store):
    twins(store)
    before = keys(store)
    deliver(store, invented(2, ACCOUNT))
    assert keys(store) == before


def test_tables_with_rows_keep_their_keys_all_the_time(store):
    twins(store)
    store.record(ACCOUNT, [buy(KO, 1, 10)], (), EVERYTHING)
    before = keys(store)
    with store.delivering() as delivery:
        delivery.add(ACCOUNT, [buy(AAPL, 1, 10)], [AAPL])
        delivery.settle()
        assert keys(store) == before
        delivery.finish()


def test_who_is_reading_is_not_waited_for(store, database):
    twins(store)
    with psycopg2.connect(database) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM positions")
        assert deliver(store, [buy(AAPL, 1, 10)]).fills == 1
    reader.close()


def test_who_waits_for_the_book_in_vain_is_told_what_is_going_on(store, database):
    twins(store)
    with store.delivering() as delivery, Store(database) as other:
        delivery.add(ACCOUNT, [buy(AAPL, 1, 10)], [AAPL])
        other._connection.execute("SET lock_timeout = '100ms'")
        with pytest.raises(BookBusy, match=f"the book of account {ACCOUNT} .* an import of a large file"):
            other.record(ACCOUNT, [sell(AAPL, 1, 12, at=5)], (), EVERYTHING)
        assert delivery.finish()[ACCOUNT].fills == 1
    assert store.record(ACCOUNT, [sell(AAPL, 1, 12, at=5)], (), EVERYTHING).fills == 1


# Lines


def test_the_columns_of_lines_are_those_of_statements():
    sql = queries.load("book")
    executions, closes, events, lots = bulk_text.EXECUTIONS, bulk_text.CLOSES, bulk_text.EVENTS, bulk_text.LOTS
    for statement, columns in {"add_executions": executions, "add_closes": closes, "add_events": events, "add_lots": lots}.items():
        assert " ".join(re.search(r"\(([^)]*)\)", sql[statement])[1].split()) == columns


@pytest.mark.parametrize("text", ["\\", "\\N", "a\tb", "a\nb", "a\r\nb", "\\.", "ä\u2028\x0b\x85", "'\"%s{}", " ", "\\\\t", "\x01\x7f"])
def test_any_text_arrives_as_it_is(store, text):
    strange = Instrument(f"x:{text}", text or "-", "STK", "USD")
    twins(store)
    fills = [
        buy(strange, "1E+3", "1E-20", name=f"i{text}", order_id=text, source=text),
        sell(strange, "5E+2", "2", at=1, name=f"j{text}", fee_currency=text),
    ]
    store.record(ACCOUNT, fills, (), [strange])
    deliver(store, [fill._replace(account=OTHER_ACCOUNT) for fill in fills], OTHER_ACCOUNT, at_a_time=1, instruments=[strange])
    assert believed(store, OTHER_ACCOUNT) == believed(store, ACCOUNT)
    assert {row["order_id"] for row in rows(store, BELIEVED["executions"])} == {text, ""}


# The seam


@pytest.mark.parametrize("method", list(Method))
def test_the_kernel_has_the_digits_of_the_book_however_it_is_cut(method):
    for seed in range(20):
        told = invented(seed, ACCOUNT)
        fills = [fill for fill in told if fill.instrument == told[0].instrument]
        history_, flat = in_order(fills), Position(ACCOUNT, fills[0].instrument, "USD", fills[0].multiplier, method)
        whole = fold(flat, history_)
        cut = random.Random(seed).randint(1, len(history_) - 1)
        first = fold_sorted(flat, history_[:cut])
        second = fold_sorted(first.position, history_[cut:])
        assert repr(second.position) == repr(whole.position)
        assert repr((*first.closes, *second.closes)) == repr(whole.closes)
        assert repr((*first.events, *second.events)) == repr(whole.events)


def test_an_id_that_was_there_is_always_found_and_others_hardly_ever():
    seen = Seen()
    assert seen.found(["a", "b", "a"]) == {"a"}
    assert seen.found(["c", "b"]) == {"b"}
    assert len(seen.found(f"e{number}" for number in range(20_000))) < 5
    assert len(seen.found(f"e{number}" for number in range(20_000))) == 20_000
