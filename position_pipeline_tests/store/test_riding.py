"""Statements that ride together do what they did alone: the same book, and all of a transaction or nothing of it."""

from __future__ import annotations

import psycopg2
import pytest

from position_pipeline.store import Store
from position_pipeline.store.connection import Connection
from position_pipeline.store.riding import RidingConnection
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, KO, OTHER_ACCOUNT, buy, sell


@pytest.fixture
def riding(database):
    connection = RidingConnection(database)
    connection.execute("CREATE TABLE kept (n integer PRIMARY KEY)")
    yield connection
    connection.close()


def kept(connection) -> list[int]:
    return [row["n"] for row in connection.rows("SELECT n FROM kept ORDER BY n")]


def insert(connection, *numbers) -> None:
    with connection.transaction():
        for number in numbers:
            connection.execute(f"INSERT INTO kept VALUES ({number + 0})")


def insert_twice(connection, number) -> None:
    with connection.transaction():
        insert(connection, number)
        insert(connection, number)


def history(account):
    return [
        [buy(AAPL, 10, 100, at=0, fee="1", account=account), buy(KO, 5, 60, at=1, account=account)],
        [sell(AAPL, 4, 110, at=2, fee=None, account=account, name="late")],
        [sell(AAPL, 10, 105, at=4, account=account), buy(AAPL, 1, 99, at=3, account=account)],  # through zero, and one that is late
        [sell(AAPL, 4, 110, at=2, fee="1.25", account=account, name="late")],
    ]


def test_the_book_is_the_same(database):
    told = []
    for account, hurry in ((ACCOUNT, False), (OTHER_ACCOUNT, True)):
        with Store(database, in_a_hurry=hurry) as store:
            store.add_account(account, "ibkr")
            for fills in history(account):
                store.record(account, fills, (), [AAPL, KO])
            rows = [*store.read.positions([account], all_=True), *store.read.closes([account]), *store.read.executions([account])]
        told.append([{name: value for name, value in row.items() if name not in ("account", "id")} for row in rows])
    assert told[0] == told[1]
    assert len(told[0]) > 5


def test_half_of_the_ways_to_postgresql_are_saved(database, monkeypatch):
    ways = []
    cursor = Connection._cursor
    monkeypatch.setattr(Connection, "_cursor", lambda self: ways.append(1) or cursor(self))
    monkeypatch.setattr(RidingConnection, "execute", _uncounted(RidingConnection.execute, ways))
    monkeypatch.setattr(RidingConnection, "many", _uncounted(RidingConnection.many, ways))
    counts = []
    for account, hurry in ((ACCOUNT, False), (OTHER_ACCOUNT, True)):
        with Store(database, in_a_hurry=hurry) as store:
            store.add_account(account, "ibkr")
            store.record(account, history(account)[0], (), [AAPL, KO])
            ways.clear()
            store.record(account, history(account)[1], (), [AAPL, KO])
            counts.append(len(ways))
    assert counts[1] <= 0.65 * counts[0], counts


def _uncounted(method, ways):
    """What only waits is no way."""

    def counted(self, *words, **more):
        before = len(ways)
        result = method(self, *words, **more)
        if self._inside and self._waiting:
            del ways[before:]
        return result

    return counted


def test_what_was_not_read_is_there_after_the_transaction(riding):
    with riding.transaction():
        riding.execute("INSERT INTO kept VALUES (%(n)s)", {"n": 1})
        riding.many("INSERT INTO kept VALUES %s", [(2,), (3,)])
        assert kept(riding) == [1, 2, 3], "who reads sees what was written before"
        riding.execute("INSERT INTO kept VALUES (4) -- a comment at the end")
    assert kept(riding) == [1, 2, 3, 4]


def test_an_error_is_raised_within_the_transaction_and_nothing_of_it_stays(riding):
    with pytest.raises(psycopg2.errors.UniqueViolation):
        insert(riding, 1, 1, 2)
    assert kept(riding) == []
    with riding.transaction():
        riding.execute("INSERT INTO kept VALUES (5)")
    assert kept(riding) == [5]


def test_what_raises_in_the_block_sends_nothing(riding):
    with pytest.raises(TypeError):
        insert(riding, 1, None)
    assert kept(riding) == []


def test_a_block_within_a_block_is_part_of_it(riding):
    with pytest.raises(psycopg2.errors.UniqueViolation):
        insert_twice(riding, 1)
    assert kept(riding) == []
