"""How the lots of a position are read and written: as few as will do, and what need not be written again is not."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from position_pipeline.accounting.model import AdjustmentKind, Side
from position_pipeline.store import pages
from position_pipeline.store.connection import Connection
from position_pipeline.store.pages import numbered
from position_pipeline.verify import verify
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, EVERYTHING, OTHER_ACCOUNT, adjustment, buy, fill, sell
from position_pipeline_tests.store.tables import believed, versions


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([], []),
        ([None, None], [0, 1]),
        ([0, 1, None], [0, 1, 2]),  # an opening
        ([1, 2, 7], [1, 2, 7]),  # the oldest was closed: nobody moves
        ([None, 3, 4], [2, 3, 4]),  # an opening balance, older than all
        ([None, 0, 5, None, None], [-1, 0, 5, 6, 7]),
        ([0, None, 1], [0, 1, 2]),  # between two: all anew
        ([4, 2], [0, 1]),  # another order: all anew
    ],
)
def test_lots_keep_their_numbers_as_long_as_they_rise(places, expected):
    assert list(numbered(places)) == expected


@pytest.fixture
def lots_read(monkeypatch) -> list[int]:
    """How many rows of lots were read, each time."""
    found: list[int] = []
    read = Connection.tuples

    def tuples(self, sql, values):
        rows = read(self, sql, values)
        found.append(len(rows))
        return rows

    monkeypatch.setattr(Connection, "tuples", tuples)
    return found


def held(book, number: int) -> None:
    book.record(*(buy(AAPL, 1, 100 + n, at=n, name=f"b{n:04}", fee="0.1") for n in range(number)))


@pytest.mark.parametrize("news", [buy(AAPL, 3, 90, at=900, name="x"), sell(AAPL, 5, 90, at=900, name="x", fee=1)])
def test_the_lots_that_a_fill_leaves_alone_are_neither_read_nor_written(book, lots_read, news):
    held(book, 300)
    lots_read.clear()
    before = set(versions(book.store, "lots")["lots"])
    book.record(news)
    assert lots_read == [pages.FIRST_LOTS]
    left = before & set(versions(book.store, "lots")["lots"])
    assert len(left) == (300 if news.side is Side.BUY else 295)
    assert verify(book.store).differences == ()


def test_where_the_first_lots_are_not_enough_all_are_read(book, lots_read):
    held(book, 300)
    lots_read.clear()
    book.record(sell(AAPL, 320, 90, at=900, name="x", fee=1))
    assert lots_read == [pages.FIRST_LOTS, 300]
    assert book.position(AAPL)["quantity"] == -20
    assert verify(book.store).differences == ()


@pytest.mark.parametrize(
    "news",
    [
        sell(AAPL, 1, 90, at=900, name="x", closes_lots=(("b0200", Decimal(1)),)),
        adjustment(AdjustmentKind.SPLIT, AAPL, 0, at=900, name="x", numerator=Decimal(2), denominator=Decimal(1)),
        adjustment(AdjustmentKind.FEE_IN_KIND, AAPL, -1, at=900, name="x"),
    ],
)
def test_what_may_touch_any_lot_reads_all(book, lots_read, news):
    held(book, 300)
    lots_read.clear()
    book.record(news)
    assert lots_read == [300]
    assert verify(book.store).differences == ()


@pytest.mark.parametrize("seed", range(12))
def test_with_few_lots_read_the_book_is_the_same(store, monkeypatch, seed):
    """Three hundred fills, some without their commission or with one in francs, a few at a time."""
    for account, few in ((ACCOUNT, 2), (OTHER_ACCOUNT, 10_000)):
        store.add_account(account, "ibkr")
        monkeypatch.setattr(pages, "FIRST_LOTS", few)
        draw = random.Random(seed)
        side = Side.BUY if seed % 2 else Side.SELL
        fills = [
            fill(
                AAPL, side if draw.random() < 0.6 else draw.choice(tuple(Side)), draw.randint(1, 9), f"{draw.randint(90, 110)}.07", at=n,
                name=f"e{n:03}", fee=draw.choice((None, "0.35", "1", "-0.2")), fee_currency=draw.choice(("USD", "USD", "CHF")),
            )
            for n in range(300)
        ]  # fmt: skip
        while fills:
            number = draw.choice((1, 1, 2, 5, 20))
            store.record(account, [each._replace(account=account) for each in fills[:number]], (), EVERYTHING)
            del fills[:number]
    assert believed(store, ACCOUNT) == believed(store, OTHER_ACCOUNT)
    assert verify(store).differences == ()
