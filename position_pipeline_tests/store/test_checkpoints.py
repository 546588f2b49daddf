"""Replays begin at checkpoints: the rows are those of a replay from the first entry, and no more is read than what comes after."""

from __future__ import annotations

import random
from decimal import Decimal
from itertools import pairwise

import pytest

from position_pipeline.accounting.booking import fold
from position_pipeline.accounting.model import AdjustmentKind, Fill, Method, Position
from position_pipeline.store import book as booking
from position_pipeline.store import checkpoints
from position_pipeline.store.checkpoints import fold_on, parts, restored, state
from position_pipeline.verify import verify
from position_pipeline_tests.accounting.histories import read
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, CALL, EVERYTHING, OTHER_ACCOUNT, adjustment, buy, moment, sell
from position_pipeline_tests.store.histories import batches, history, long_history
from position_pipeline_tests.store.tables import believed, query, rows
from position_pipeline_tests.store.test_kinds import in_tables
from position_pipeline_tests.store.test_record import deliver

ALL = "SELECT instrument, until_at FROM checkpoints WHERE account = %(account)s ORDER BY instrument, until_at"
NEVER = 1 << 40


@pytest.fixture
def often(monkeypatch):
    """One entry in three calls for a checkpoint."""
    monkeypatch.setattr(checkpoints, "EVERY", 3)


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """How many entries each replay has read."""
    found: list[int] = []
    read_all = booking.Pages.histories

    def histories(self, since):
        read = read_all(self, since)
        found.append(sum(map(len, read.values())))
        return read

    monkeypatch.setattr(booking.Pages, "histories", histories)
    return found


def kept(store, account: str = ACCOUNT) -> list:
    return [row["until_at"] for row in rows(store, ALL, {"account": account})]


def many(number: int = 40, account: str = ACCOUNT) -> list[Fill]:
    """One fill a minute: three purchases of 10, a sale of 20, and so on."""
    return [
        (sell(AAPL, 20, 100 + n, at=60 * n, name=f"f{n}", fee=1, account=account) if n % 4 == 3 else buy(AAPL, 10, 100 + n, at=60 * n, name=f"f{n}", fee=1, account=account))
        for n in range(number)
    ]  # fmt: skip


def with_and_without(store, monkeypatch, tell) -> None:
    """What `tell` does to an account with checkpoints, and to one without, which ends in the same rows."""
    for account, every in ((ACCOUNT, 3), (OTHER_ACCOUNT, NEVER)):
        monkeypatch.setattr(checkpoints, "EVERY", every)
        tell(account)
    assert believed(store, ACCOUNT) == believed(store, OTHER_ACCOUNT)
    assert kept(store, OTHER_ACCOUNT) == []
    monkeypatch.setattr(checkpoints, "EVERY", 3)
    assert verify(store).differences == ()


# The same rows, whatever happens


@pytest.mark.parametrize("seed", range(24))
def test_a_long_history_told_in_any_order_ends_in_the_rows_of_one_without_checkpoints(store, monkeypatch, seed):
    """Late fills, corrections, busts and commissions that come later, in batches of any size."""
    seen: list[int] = []

    def tell(account: str) -> None:
        told = long_history(seed, account, AAPL)
        store.add_account(account, "ibkr", cost_method=told.method)
        for number, batch in enumerate(batches(seed, told.told)):
            deliver(store, account, batch)
            if account == ACCOUNT and number % 3 == 0:
                assert verify(store).differences == ()
        draw = random.Random(seed)
        for entry in draw.sample(told.told, 10):
            if isinstance(entry, Fill):
                late = entry._replace(execution_id=f"late-{entry.execution_id}", revision=1, quantity=Decimal(3))
                deliver(store, account, [late])
                deliver(store, account, [late._replace(revision=2, quantity=Decimal(draw.choice((0, 5))))])
        seen.append(len(kept(store, account)))

    with_and_without(store, monkeypatch, tell)
    assert seen[0] > 0


@pytest.mark.parametrize("seed", range(5000, 5020))
def test_histories_with_openings_and_assignments_end_in_the_same_rows(store, monkeypatch, seed):
    def tell(account: str) -> None:
        told = history(seed, account)
        store.add_account(account, "ibkr", cost_method=told.method)
        for batch in batches(seed, told.told):
            deliver(store, account, batch)

    with_and_without(store, monkeypatch, tell)


@pytest.mark.parametrize("seeds", [range(start, start + 10) for start in range(700, 730, 10)])
def test_histories_of_all_kinds_end_in_the_same_rows(store, monkeypatch, seeds):
    """Splits, conversions, transfers, spin-offs, and entries that are refused until what they need has come."""
    for seed in seeds:
        story = read(random.Random(seed).randbytes(480))
        for account, every in ((f"A{seed}", 2), (f"B{seed}", NEVER)):
            monkeypatch.setattr(checkpoints, "EVERY", every)
            store.add_account(account, "ibkr", cost_method=story.method.value)
            shuffled = random.Random(seed).sample(story.entries, len(story.entries))
            for start in range(0, len(shuffled), 4):
                in_tables(store, account, shuffled[start : start + 4])
        assert believed(store, f"A{seed}") == believed(store, f"B{seed}"), f"seed {seed}"
        assert verify(store).differences == (), f"seed {seed}"
    assert rows(store, "SELECT count(*) AS n FROM checkpoints")[0]["n"] > 0


@pytest.mark.parametrize("method", list(Method))
def test_another_method_makes_all_checkpoints_anew(book, monkeypatch, method):
    def tell(account: str) -> None:
        book.record(*many(account=account), account=account)
        book.store.set_cost_method(account, Method.HIFO)
        book.store.set_cost_method(account, method)
        book.record(buy(AAPL, 1, 90, at=60 * 30 + 1, name="late", account=account), account=account)

    book.store.set_cost_method(OTHER_ACCOUNT, Method.FIFO)
    with_and_without(book.store, monkeypatch, tell)


# Where they are, and that they are used


def test_extending_leaves_checkpoints_behind(book, often):
    for each in many():
        book.record(each)
    assert len(kept(book.store)) > 5
    assert verify(book.store).differences == ()


def test_however_a_history_is_told_its_checkpoints_are_the_same(book, often):
    book.store.set_cost_method(OTHER_ACCOUNT, Method.FIFO)
    entries = many()
    book.record(*entries)
    first = kept(book.store)
    assert first
    book.record(*(each._replace(account=OTHER_ACCOUNT) for each in entries[:7]), account=OTHER_ACCOUNT)
    for each in entries[7:]:
        book.record(each._replace(account=OTHER_ACCOUNT), account=OTHER_ACCOUNT)
    assert kept(book.store, OTHER_ACCOUNT) == first


def test_a_late_fill_reads_what_comes_after_the_last_checkpoint_before_it(book, often, reads):
    book.record(*many())
    before = kept(book.store)
    book.record(buy(AAPL, 1, 90, at=60 * 36 + 1, name="late"))
    last = max(each for each in before if each < moment(60 * 36 + 1))
    after = [each for each in many() if each.time > last]
    assert reads == [len(after) + 1]
    assert len(after) < 15


def test_a_late_fill_supersedes_nothing_before_it(book, often):
    book.record(*many())
    old = rows(book.store, "SELECT ctid, xmin, id FROM closes WHERE closed_at <= %(at)s ORDER BY id", {"at": moment(60 * 35)})
    book.record(buy(AAPL, 1, 90, at=60 * 36 + 1, name="late"))
    assert rows(book.store, "SELECT ctid, xmin, id FROM closes WHERE closed_at <= %(at)s ORDER BY id", {"at": moment(60 * 35)}) == old
    assert rows(book.store, "SELECT count(*) AS n FROM closes WHERE superseded_at IS NOT NULL") == [{"n": 0}]  # FIFO sells older lots


@pytest.mark.parametrize(
    "change",
    [
        buy(AAPL, 1, 90, at=60 * 20, name="late"),
        buy(AAPL, 11, 120, at=60 * 20, name="f20", fee=1, revision=2),
        buy(AAPL, 0, 120, at=60 * 20, name="f20", revision=2),
        buy(AAPL, 10, 120, at=60 * 20, name="f20", fee=2, source="flex"),
    ],
)
def test_what_is_not_after_a_checkpoint_drops_it(book, often, change):
    """A late fill at the very moment of one, a correction, a bust, a commission."""
    book.record(*many())
    before = kept(book.store)
    states = "SELECT until_at, state::text AS state, made_at FROM checkpoints WHERE until_at {} %(at)s ORDER BY until_at"
    early, late = (rows(book.store, states.format(side), {"at": moment(60 * 20)}) for side in ("<", ">="))
    book.record(change)
    assert rows(book.store, states.format("<"), {"at": moment(60 * 20)}) == early
    assert early
    assert all(
        one["state"] != other["state"]
        for one, other in zip(late, rows(book.store, states.format(">="), {"at": moment(60 * 20)}), strict=False)
    )
    assert len(kept(book.store)) >= len(before) - 1
    assert verify(book.store).differences == ()


def test_a_fill_at_the_moment_of_the_last_one_comes_after_no_checkpoint(book, often):
    """All that came after a checkpoint is busted, the last first, and then another fill comes at the very moment of the checkpoint."""
    book.record(*many())
    last = kept(book.store)[-1]
    for each in reversed([each for each in many() if each.time > last]):
        book.record(each._replace(quantity=Decimal(0), revision=2))
    book.record(buy(AAPL, 1, 90, name="z")._replace(time=last))
    assert kept(book.store)[-1] < last
    assert verify(book.store).differences == ()


def test_no_checkpoint_ends_in_the_middle_of_a_moment(book, often):
    for number in range(30):
        book.record((sell if number % 2 else buy)(AAPL, 1, 90, name=f"z{number:02}"))
    assert kept(book.store) == []


@pytest.mark.parametrize("at", [60 * 10 + 1, 60 * 30 + 1])
def test_a_correction_of_the_time_reaches_from_the_earlier_to_the_end(book, often, at):
    book.record(*many())
    book.record(buy(AAPL, 10, 120, at=at, name="f20", fee=1, revision=2))
    assert verify(book.store).differences == ()


def test_what_hands_over_to_another_instrument_has_no_checkpoints(book, often):
    book.record(*many(), *((buy if n % 2 else sell)(CALL, 1, 3, at=n, name=f"c{n}") for n in range(25)))
    assert {row["instrument"] for row in rows(book.store, ALL, {"account": ACCOUNT})} == {AAPL.id, CALL.id}
    assigned = adjustment(AdjustmentKind.ASSIGNMENT, CALL, 1, at=5000, price=0, commission="0", name="assigned")
    book.record(assigned, sell(AAPL, 100, 250, at=5000, name="leg", premium_from="assigned"))
    assert kept(book.store) == []
    book.record(*(buy(AAPL, 1, 90, at=6000 + n, name=f"x{n}") for n in range(12)))
    assert kept(book.store) == []
    assert verify(book.store).differences == ()


def test_what_gives_way_to_later_entries_has_no_checkpoints(book, often):
    book.record(*many())
    book.record(adjustment(AdjustmentKind.OPENING_LOT, AAPL, 5, at=-5, cost="500", sequence=77, name="lot"))
    assert kept(book.store) == []
    book.record(buy(AAPL, 5, 90, at=60 * 39 + 5, name="real", sequence=77))
    assert verify(book.store).differences == ()


def test_what_stands_refused_is_told_by_a_replay_from_the_first_entry(book, often, reads):
    """A refusal stands until what was missing has come, and a replay of what is after it does not take it back."""
    refused = adjustment(AdjustmentKind.EXPIRY, AAPL, -5, at=-5, price=0, name="x")
    book.record(refused)
    book.record(*many())
    book.record(buy(AAPL, 1, 90, at=60 * 36 + 1, name="late"))
    assert reads[-1] == 42
    assert rows(book.store, "SELECT count(*) AS n FROM rejects WHERE resolved_at IS NULL") == [{"n": 1}]


def test_a_position_of_many_lots_is_kept_more_rarely(often):
    """Lots that are never closed would else be kept again and again: of 400 purchases no checkpoint has as many lots as there are entries."""
    fills = [buy(AAPL, 1, 10, at=n, name=f"{n}") for n in range(400)]
    _, positions = fold_on(Position(ACCOUNT, AAPL.id, "USD"), fills)
    assert positions
    assert sum(len(each.lots) for each in positions) < 3 * len(fills)


# The pieces


@pytest.mark.parametrize("method", list(Method))
def test_the_parts_of_a_history_come_to_what_the_whole_does(often, method):
    fills = [each._replace(commission_currency="CHF") if n % 5 == 0 else each for n, each in enumerate(many())]
    start = Position(ACCOUNT, AAPL.id, "USD", method=method)
    booked, positions = fold_on(start, fills)
    assert booked == fold(start, fills)
    assert [entry for part in parts(fills) for entry in part.entries] == fills
    for position in positions:
        revisions = {lot.opening_id: None if lot.opening_id == "f0" else 7 for lot in position.lots}
        again = restored(start, position.last_key[0], state(position, revisions))
        assert again == (position.last_key[0], position, revisions)


def test_no_part_begins_in_the_middle_of_a_moment(often):
    fills = [buy(AAPL, 1, 10, at=n // 7, name=f"{n}") for n in range(100)]
    cuts = list(parts(fills))
    assert len(cuts) > 5
    assert all(one.entries[-1].time < other.entries[0].time for one, other in pairwise(cuts))


def test_about_one_entry_in_a_thousand_calls():
    fills = [buy(AAPL, 1, 10, at=n, name=f"0000e0d5.{n:08x}.01.01") for n in range(50_000)]
    assert 35 < len(list(parts(fills))) < 65


# What somebody changed


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE checkpoints SET state = jsonb_set(state, '{realized_gross}', '\"1\"')",
        "UPDATE checkpoints SET state = jsonb_set(state, '{lots,0,4}', '\"1\"') WHERE state -> 'lots' <> '[]'",
        "UPDATE checkpoints SET until_at = until_at + interval '1 s'",
        f"UPDATE checkpoints SET until_at = until_at + interval '1 day', instrument = '{AAPL.id}'",
        "UPDATE checkpoints SET state = '{}'",
    ],
)
def test_a_checkpoint_that_somebody_changed_is_found(book, often, database, sql):
    book.record(*many())
    query(database, sql)
    found = verify(book.store).differences
    assert {each.table for each in found} == {"checkpoints"}
    assert len({each.row for each in found}) == len(kept(book.store))


# A delivery of very many


@pytest.mark.parametrize("seed", range(8))
def test_a_delivery_leaves_checkpoints_as_a_recording_does(store, often, seed):
    """In batches of 25, some of them with fills that are late: those that are in order are kept as `record` keeps them."""
    told = long_history(seed, ACCOUNT, AAPL, 120)
    fills = list({each.execution_id: each for each in told.told if isinstance(each, Fill) and each.revision == 1}.values())
    if seed % 2:
        fills.append(fills[40]._replace(execution_id="late"))
    for account in (ACCOUNT, OTHER_ACCOUNT):
        store.add_account(account, "ibkr")
    store.record(ACCOUNT, fills, (), EVERYTHING)
    with store.delivering() as delivery:
        for start in range(0, len(fills), 25):
            delivery.add(OTHER_ACCOUNT, [each._replace(account=OTHER_ACCOUNT) for each in fills[start : start + 25]], EVERYTHING)
        delivery.finish()
    assert kept(store, OTHER_ACCOUNT)
    assert set(kept(store, OTHER_ACCOUNT)) <= set(kept(store))
    for account in (ACCOUNT, OTHER_ACCOUNT):
        deliver(store, account, [fills[100]._replace(execution_id="later", account=account)])
    assert believed(store, OTHER_ACCOUNT) == believed(store, ACCOUNT)
    assert verify(store).differences == ()
