"""A sync that looks only at what is new comes to the same tables as one that looks at everything, whatever happens in between.

Two databases live through the same history: in the one syncs look at what is new, in the other they are made to look at everything.
"""

from __future__ import annotations

import random
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from position_pipeline.accounting.circumstances import Policy
from position_pipeline.accounting.model import AdjustmentKind, Method
from position_pipeline.brokers import Capture
from position_pipeline.store import Store, comparing, schema
from position_pipeline.store.syncing import Kept
from position_pipeline.sync_pass import SyncPass
from position_pipeline_tests import conftest
from position_pipeline_tests.scenarios import (
    AAPL,
    ACCOUNT,
    BROKER,
    CALL,
    EVERYTHING,
    KO,
    SAP,
    TSLA,
    adjustment,
    buy,
    holding,
    moment,
    rejected,
    sell,
    snapshot,
)
from position_pipeline_tests.store.tables import believed, rows, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from position_pipeline.accounting.model import Fill, Holding, Instrument, Snapshot
    from position_pipeline.sync_results import SyncResult

D = Decimal
DAY = 24 * 3600
FOUR = (AAPL, KO, SAP, TSLA)

# What both have to come to besides what is believed. Ids that the database gives, and times of its own clock, differ.
SEEN = {
    "breaks": """SELECT b.*, s.taken_at AS agreed_at FROM breaks b LEFT JOIN snapshots s ON s.id = b.agreed_snapshot""",
    "reversed": "SELECT id, reversed_by, reversed_why, doubted_at IS NULL AS certain FROM adjustments",
    "accounts": "SELECT account, base_currency, cost_method, first_proven_at, last_synced_at, answered_at FROM accounts",
    "instruments": "SELECT instrument, symbol, exchange FROM instruments",
    "last": """SELECT DISTINCT ON (account) account, taken_at, source_at, status, "values", errors FROM snapshots ORDER BY account, id DESC""",
    "holdings": "SELECT instrument, quantity, average_price, raw_average_cost FROM holdings WHERE until_id IS NULL",
    "said": """SELECT h.instrument, h.quantity, h.average_price, s.first_at, e.first_at AS until FROM holdings h
               JOIN snapshots s ON s.id = h.snapshot_id LEFT JOIN snapshots e ON e.id = h.until_id""",
    "given": "SELECT sum(times) AS answers FROM snapshots",
}
BY_OUR_CLOCK = {"noted_at", "agreed_snapshot", "accepted_at", "dismissed_at", "resolved_at", "history", "cause"}


class Whole(Store):
    """A store in which every sync looks at everything."""

    def take_in(self, snapshot, instruments, connection):
        return Kept(self.save_snapshot(snapshot, instruments, connection))


@dataclass
class World:
    """A broker, and two stores that hear the same of it."""

    quick: Store
    whole: Store
    url: str
    at: int = 3600
    held: dict[Instrument, Holding] = field(default_factory=dict)
    listed: list[Fill] = field(default_factory=list)
    known: list[Fill] = field(default_factory=list)
    names: dict[str, Instrument] = field(default_factory=lambda: {each.id: each for each in EVERYTHING})
    policy: Policy = field(default_factory=Policy)
    worth: int = 100000
    number: int = 0

    def both(self, what: Callable[[Store], object]) -> None:
        for store in (self.quick, self.whole):
            what(store)

    def buys(self, instrument: Instrument, quantity: int, price: int = 100, *, after: int = 30, listed: bool = True) -> Fill:
        """One more fill at the broker, which lists it or does not, and what it then holds."""
        self.number += 1
        side = buy if quantity > 0 else sell
        one = side(instrument, abs(quantity), price, at=self.at + after, name=f"fill-{self.number}", fee="1")
        self.known.append(one)
        if listed:
            self.listed.append(one)
        self.holds(instrument, quantity)
        return one

    def holds(self, instrument: Instrument, more: Decimal | int, average: str | None = None) -> None:
        before = self.held.get(instrument, holding(instrument, 0, 100, 105))
        now = replace(before, quantity=before.quantity + D(more))
        if average is not None:
            now = replace(now, average_price=D(average), raw_average_cost=D(average) * instrument.multiplier)
        self.held[instrument] = now
        if not now.quantity:
            del self.held[instrument]

    def answer(self, **more) -> Snapshot:
        given = snapshot(*self.held.values(), at=self.at, source_at=moment(self.at), **more)
        return replace(given, values=(replace(given.values[0], value=f"{self.worth}"),))

    def sync(self, answer: Snapshot | None = None, **more) -> tuple[SyncResult, SyncResult]:
        self.at += 300
        answer = answer or self.answer(**more)
        capture = Capture(BROKER, datetime.now(UTC), (answer,), tuple(self.listed), tuple(self.names.values()), ())
        return tuple(self._passes(store, capture) for store in (self.quick, self.whole))

    def _passes(self, store: Store, capture: Capture) -> SyncResult:
        with SyncPass(store, Answering(capture), trigger="schedule", timeout=5, policy=self.policy) as one:
            one.reconcile()
        (result,) = one.results
        return replace(result, snapshot_id=None, started_at=None, duration_ms=0, own_ms=None)


@dataclass
class Answering:
    """A broker that gives one answer."""

    given: Capture
    name: str = BROKER
    where: str = "here"
    accounts: tuple[str, ...] = ()

    def capture(self, accounts, timeout):
        del accounts, timeout
        return replace(self.given, received_at=datetime.now(UTC))


def tables(store: Store) -> dict[str, list]:
    found = {name: rows(store, sql) for name, sql in SEEN.items()}
    seen = {
        name: sorted(str({n: v for n, v in row.items() if n not in BY_OUR_CLOCK}) for row in several) for name, several in found.items()
    }
    return {**believed(store), **seen}


def assert_same(world: World) -> None:
    quick, whole = tables(world.quick), tables(world.whole)
    assert {name: (quick[name], whole[name]) for name in quick if quick[name] != whole[name]} == {}


@pytest.fixture
def twins(server: str) -> Iterator[World]:
    """Both have met the broker, and agree with it: 10 AAPL, 5 KO, 3 SAP and 20 TSLA."""
    with ExitStack() as stack:
        urls = [stack.enter_context(contextmanager(conftest._database)(server, "template_book")) for _ in range(2)]
        world = World(stack.enter_context(Store(urls[0])), stack.enter_context(Whole(urls[1])), urls[0])
        world.held = {each: holding(each, n, 100, 105) for each, n in zip(FOUR, (10, 5, 3, 20), strict=True)}
        for _ in range(3):
            world.sync()
        assert agreed(world), "the history begins with an agreement"
        yield world


def agreed(world: World) -> bool:
    """Whether the next sync would look only at what is new."""
    last = "SELECT max(id) FROM snapshots WHERE status <> 'rejected'"
    return rows(world.quick, f"SELECT agreed_to = ({last}) AS agreed FROM last_answers") == [{"agreed": True}]


# What may happen


def a_fill(world: World) -> None:
    world.buys(AAPL, 2)


def a_sale_of_everything(world: World) -> None:
    if AAPL in world.held:
        world.buys(AAPL, -int(world.held[AAPL].quantity))


def a_fill_in_something_new(world: World) -> None:
    world.buys(CALL, 1)


def a_fill_that_the_stream_heard_first(world: World) -> None:
    before = dict(world.held)
    one = world.buys(KO, 1, listed=False)
    world.both(lambda store: store.record(ACCOUNT, [one], (), [KO]))
    world.held = before
    world.sync()  # the answer does not show it yet
    world.holds(KO, 1)


def a_late_fill(world: World) -> None:
    """Of before the first answer: what was there then was bought so."""
    world.number += 1
    late = buy(AAPL, 1, 90, at=100 + world.number, name=f"late-{world.number}")
    world.both(lambda store: store.record(ACCOUNT, [late], (), [AAPL]))


def a_correction_of_the_price(world: World) -> None:
    if world.known:
        one = world.known[-1]._replace(price=D(101), revision=world.known[-1].revision + 1)
        world.known[-1] = one
        world.listed.append(one)


def a_bust(world: World) -> None:
    if world.known and world.known[-1].quantity:
        one = world.known[-1]._replace(quantity=D(0), revision=world.known[-1].revision + 1)
        world.known[-1] = one
        world.both(lambda store: store.record(ACCOUNT, [one], (), EVERYTHING))


def a_commission_that_comes_later(world: World) -> None:
    one = world.buys(SAP, 1, listed=False)._replace(commission=None, commission_currency=None)
    world.listed.append(one)
    world.sync()
    world.listed[-1] = one._replace(commission=D("1.50"), commission_currency="EUR")


def a_fill_from_a_large_file(world: World) -> None:
    one = world.buys(AAPL, 1, listed=False)

    def deliver(store: Store) -> None:
        with store.delivering() as delivery:
            delivery.add(ACCOUNT, [one], EVERYTHING)

    world.both(deliver)


def a_split_by_a_statement(world: World) -> None:
    if AAPL in world.held:
        world.number += 1
        split = adjustment(AdjustmentKind.SPLIT, AAPL, 0, at=world.at, name=f"split-{world.number}", numerator=D(2), denominator=D(1))
        world.both(lambda store: store.record(ACCOUNT, [], [split], [AAPL]))
        world.holds(AAPL, world.held[AAPL].quantity, str(world.held[AAPL].average_price / 2))


def a_transfer_that_is_taken_back(world: World) -> None:
    world.number += 1
    came = adjustment(AdjustmentKind.TRANSFER, KO, 4, at=world.at, name=f"in-{world.number}", price="60")
    world.both(lambda store: store.record(ACCOUNT, [], [came], [KO]))
    world.sync()
    world.both(lambda store: store.reverse(ACCOUNT, [came.id], by="Ada", why="not ours"))


def a_quantity_that_nothing_explains(world: World) -> None:
    world.holds(TSLA, "0.37")


def an_adoption(world: World) -> None:
    world.holds(SAP, 2)
    for _ in range(4):
        world.sync()


def an_adoption_that_a_late_fill_explains(world: World) -> None:
    an_adoption(world)
    late = world.buys(SAP, 2, after=-1500, listed=False)
    world.holds(SAP, -2)
    world.both(lambda store: store.record(ACCOUNT, [late], (), [SAP]))


def a_break_that_is_dismissed(world: World) -> None:
    a_quantity_that_nothing_explains(world)
    world.sync()
    for store in (world.quick, world.whole):
        for row in store.read.breaks():
            store.decisions.dismiss(row["id"], by="Ada", reason="known")


def a_break_that_goes_by_itself(world: World) -> None:
    world.holds(KO, 1)
    world.sync()
    world.holds(KO, -1)


def the_other_setting(world: World) -> None:
    world.policy = Policy(adopts=not world.policy.adopts)


def another_cost_method(world: World) -> None:
    world.number += 1
    method = (Method.LIFO, Method.AVERAGE, Method.FIFO)[world.number % 3]
    world.both(lambda store: store.set_cost_method(ACCOUNT, method))


def a_price(world: World) -> None:
    for each in [each for each in FOUR if each in world.held][:1]:
        world.held[each] = replace(world.held[each], market_price=world.held[each].market_price + 1)


def every_price(world: World) -> None:
    world.held = {each: replace(it, market_price=it.market_price + 1) for each, it in world.held.items()}


def a_price_that_is_not_told(world: World) -> None:
    for each in [each for each in FOUR if each in world.held][-1:]:
        world.held[each] = replace(world.held[each], market_price=None)
        world.sync()
        world.held[each] = replace(world.held[each], market_price=D(99))


def an_average_a_little(world: World) -> None:
    world.holds(AAPL, 0, "100.01")


def an_average_by_far(world: World) -> None:
    world.holds(TSLA, 0, "150")


def the_accounts_worth(world: World) -> None:
    world.worth += 1


def another_symbol(world: World) -> None:
    world.names[KO.id] = replace(KO, symbol="KO.NEW", exchange="NYSE")


def a_holding_that_is_gone(world: World) -> None:
    world.held.pop(KO, None)


def half_an_answer(world: World) -> None:
    before = dict(world.held)
    world.held = dict(list(before.items())[:1])
    world.sync()
    world.held = before


def an_empty_answer(world: World) -> None:
    before, world.held = world.held, {}
    world.sync()
    world.held = before


def an_answer_with_a_row_that_cannot_be_read(world: World) -> None:
    before = dict(world.held)
    world.held.pop(KO, None)
    world.sync(errors={"KO": "garbled"}, unread=frozenset({KO.id}))
    world.held = before


def an_answer_that_is_rejected(world: World) -> None:
    world.sync(rejected(at=world.at + 300))


def a_row_that_somebody_edits(world: World) -> None:
    sql = "UPDATE positions SET broker_quantity = 77, broker_average_price = 1, sync_error = 'odd' WHERE instrument = %(id)s"
    world.both(lambda store: store._connection.execute(sql, {"id": AAPL.id}))


def a_look_that_ends_before_the_book(world: World) -> None:
    world.at += 300
    capture = Capture(BROKER, datetime.now(UTC), (world.answer(),), tuple(world.listed), tuple(world.names.values()), ())
    for store in (world.quick, world.whole):
        with SyncPass(store, Answering(capture), trigger="schedule", timeout=5) as one:
            one.capture()


def the_next_day(world: World) -> None:
    world.at += DAY
    world.listed.clear()


def half_an_hour(world: World) -> None:
    for _ in range(5):
        world.sync()


EVENTS = [
    a_fill, a_sale_of_everything, a_fill_in_something_new, a_fill_that_the_stream_heard_first, a_late_fill, a_correction_of_the_price, a_bust,
    a_commission_that_comes_later, a_fill_from_a_large_file, a_split_by_a_statement, a_transfer_that_is_taken_back,
    a_quantity_that_nothing_explains, an_adoption, an_adoption_that_a_late_fill_explains, a_break_that_is_dismissed,
    a_break_that_goes_by_itself, the_other_setting, another_cost_method, a_price, every_price, a_price_that_is_not_told, an_average_a_little,
    an_average_by_far, the_accounts_worth, another_symbol, a_holding_that_is_gone, half_an_answer, an_empty_answer,
    an_answer_with_a_row_that_cannot_be_read, an_answer_that_is_rejected, a_row_that_somebody_edits, a_look_that_ends_before_the_book,
    the_next_day, half_an_hour,
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_whatever_happens_looking_at_what_is_new_comes_to_the_same_as_looking_at_everything(twins, event):
    event(twins)
    for _ in range(3):
        quick, whole = twins.sync()
        assert quick == whole
        assert_same(twins)
    half_an_hour(twins)
    assert_same(twins)


@pytest.mark.parametrize("seed", range(6))
def test_so_it_is_after_many_things_in_any_order(twins, seed):
    chance, told = random.Random(seed), []
    for _ in range(14):
        event = chance.choice(EVENTS)
        told.append(event.__name__)
        event(twins)
        quick, whole = twins.sync()
        assert quick == whole, told
    assert_same(twins)


# What a sync does not do


def all_versions(world: World) -> dict[str, list]:
    return versions(world.quick, *schema.metadata.tables)


def changed_rows(before: dict[str, list], after: dict[str, list]) -> dict[str, tuple[int, int]]:
    """By table: (rows more, rows written), where any were."""
    found = {name: (len(after[name]) - len(before[name]), len(set(after[name]) - set(before[name]))) for name in before}
    return {name: counts for name, counts in found.items() if counts != (0, 0)}


def test_a_sync_without_news_adds_one_row_and_writes_two_again(twins):
    before = all_versions(twins)
    quick, _ = twins.sync()
    assert changed_rows(before, all_versions(twins)) == {"syncs": (1, 1), "snapshots": (0, 1), "accounts": (0, 1)}
    assert (quick.outcome, quick.unchanged) == ("unchanged", 4)


def test_it_looks_at_no_position_and_one_price_makes_it_look_at_few(twins, monkeypatch):
    looked = []
    read = comparing.read_sides
    monkeypatch.setattr(comparing, "read_sides", lambda one, account, some=None: looked.append(some) or read(one, account, some))
    twins.whole = twins.quick
    twins.sync()
    assert looked == []
    a_price(twins)
    before = all_versions(twins)
    twins.sync()
    assert looked == [{AAPL.id}], "no other of the four is in its slice"
    written = changed_rows(before, all_versions(twins))
    assert written["positions"] == (0, 1)
    assert "holdings" not in written


def test_a_list_that_repeats_the_fills_of_its_day_makes_it_look_at_the_new_ones_alone(twins, monkeypatch):
    """What the day before the last answer brought is known: it puts nothing in doubt that was inferred from the answers since."""
    twins.whole = twins.quick
    twins.buys(AAPL, 1)
    twins.sync()
    looked = []
    read = comparing.read_sides
    monkeypatch.setattr(comparing, "read_sides", lambda one, account, some=None: looked.append(some) or read(one, account, some))
    twins.buys(KO, 1)
    twins.sync()
    assert looked == [{KO.id}]


def test_one_changed_quantity_is_one_row_more_of_holdings_and_one_that_ended(twins):
    before = all_versions(twins)
    a_fill(twins)
    twins.sync()
    assert changed_rows(before, all_versions(twins))["holdings"] == (1, 2)
    assert agreed(twins), "its fill explains it, so that nothing else is looked at the next time"


def test_an_answer_that_is_repeated_is_one_row_with_the_times_of_the_first_and_the_last(twins):
    sql = "SELECT first_at, taken_at, source_at, times FROM snapshots ORDER BY id"
    before = rows(twins.quick, sql)
    twins.sync()
    twins.sync()
    (*earlier, last), now = before, moment(twins.at)
    assert rows(twins.quick, sql) == [*earlier, {**last, "taken_at": now, "source_at": now, "times": last["times"] + 2}]


@pytest.mark.parametrize("event", [the_accounts_worth, the_next_day, an_answer_that_is_rejected])
def test_what_is_new_of_the_account_or_the_day_begins_a_row_of_its_own(twins, event):
    event(twins)
    answers = "SELECT count(*) AS n FROM snapshots WHERE status <> 'rejected'"
    before = rows(twins.quick, answers)[0]["n"]
    twins.sync()
    assert rows(twins.quick, answers) == [{"n": before + 1}]


def test_the_first_answer_of_a_day_is_held_against_everything(twins):
    """What an older version wrote, or nobody thought of, does not stay unseen: here somebody turns the triggers off."""
    twins.quick._connection.execute("ALTER TABLE positions DISABLE TRIGGER USER")
    twins.quick._connection.execute("UPDATE positions SET quantity = 11 WHERE instrument = %(id)s", {"id": AAPL.id})
    twins.quick._connection.execute("ALTER TABLE positions ENABLE TRIGGER USER")
    assert twins.sync()[0].open_breaks == 0
    the_next_day(twins)
    assert twins.sync()[0].open_breaks == 1


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE positions SET quantity = 11 WHERE instrument = %(id)s",
        "DELETE FROM lots WHERE instrument = %(id)s; DELETE FROM positions WHERE instrument = %(id)s",
    ],
)
def test_a_position_that_somebody_edits_is_seen_by_the_next_sync_though_the_broker_says_nothing_new(twins, sql):
    twins.both(lambda store: store._connection.execute(sql, {"id": AAPL.id}))
    quick, whole = twins.sync()
    assert (quick.open_breaks, quick) == (1, whole)
    assert_same(twins)


def test_where_very_much_was_written_everything_is_looked_at(twins):
    names = [f"ibkr:{n}" for n in range(1001)]
    for several, left in ((names[:1000], (True, 1000)), (names[1000:], (None, 0))):
        twins.quick._connection.execute("SELECT touch(%(account)s, %(names)s)", {"account": ACCOUNT, "names": several})
        found = rows(twins.quick, "SELECT agreed_to = snapshot_id AS agreed, cardinality(touched) AS touched FROM last_answers")
        assert [tuple(row.values()) for row in found] == [left]


def test_a_break_that_is_found_beside_a_repeated_answer_began_after_the_last_agreement(twins):
    """The answer says the same and the book has changed: it is a row of its own, so that both times stay on record."""
    last = moment(twins.at)
    twins.both(lambda store: store.record(ACCOUNT, [buy(AAPL, 1, 100, at=twins.at + 10, name="stray")], (), [AAPL]))
    assert agreed(twins), "though something is to be looked at"
    twins.sync()
    (row,) = rows(twins.quick, "SELECT s.taken_at FROM breaks b JOIN snapshots s ON s.id = b.agreed_snapshot")
    assert row == {"taken_at": last}
    assert_same(twins)


def test_somebody_who_writes_to_the_book_for_long_does_not_keep_an_answer_from_being_kept(twins):
    """A large import has touched what is known of the last answer and has not ended: the next is on record, and compared in full."""
    with Store(twins.url) as other:
        other._connection.execute("BEGIN")
        other._connection.execute("UPDATE positions SET cost = cost + 1 WHERE instrument = %(id)s", {"id": AAPL.id})
        twins.at += 300
        a_price(twins)
        kept = twins.quick.take_in(twins.answer(), EVERYTHING, BROKER)
        assert (kept.changed, kept.repeats) == (None, False)
        other._connection.execute("ROLLBACK")
    assert not agreed(twins)
    for _ in range(2):
        twins.sync()
    assert agreed(twins)
