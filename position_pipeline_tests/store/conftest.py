"""What the tests of the store share: a book that knows two accounts, and short ways to record and to look."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from position_pipeline.accounting.invariants import CashFlow, cash_identity
from position_pipeline.accounting.model import Adjustment, Fill
from position_pipeline_tests.scenarios import ACCOUNT, EVERYTHING, OTHER_ACCOUNT
from position_pipeline_tests.store.tables import rows

if TYPE_CHECKING:
    from decimal import Decimal

    from position_pipeline.accounting.model import Instrument
    from position_pipeline.store import Recorded, Store


class Book:
    """A store, as the tests of the store write to it and look at it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def record(self, *entries: Fill | Adjustment, account: str = ACCOUNT) -> Recorded:
        fills = [entry for entry in entries if isinstance(entry, Fill)]
        adjustments = [entry for entry in entries if isinstance(entry, Adjustment)]
        return self.store.record(account, fills, adjustments, EVERYTHING)

    def position(self, instrument: Instrument, account: str = ACCOUNT) -> dict:
        (found,) = [row for row in self.store.read.positions([account], all_=True) if row["instrument"] == instrument.id]
        return found

    def quantities(self, account: str = ACCOUNT) -> dict[str, Decimal]:
        return {row["symbol"]: row["quantity"] for row in self.store.read.positions([account], all_=True)}

    def closes(self, account: str = ACCOUNT) -> list[dict]:
        return self.store.read.closes([account])

    def lots(self, instrument: Instrument, account: str = ACCOUNT) -> list[dict]:
        sql = "SELECT * FROM lots WHERE account = %(account)s AND instrument = %(instrument)s ORDER BY seq"
        return rows(self.store, sql, {"account": account, "instrument": instrument.id})

    def events(self, instrument: Instrument) -> list[tuple]:
        sql = "SELECT * FROM position_events WHERE instrument = %(instrument)s AND superseded_at IS NULL ORDER BY at, id"
        found = rows(self.store, sql, {"instrument": instrument.id})
        return [(row["type"], row["quantity_before"], row["quantity_after"], row["cause"]) for row in found]

    def count(self, table: str) -> int:
        return rows(self.store, f"SELECT count(*) AS n FROM {table}")[0]["n"]

    def identities(self) -> dict[tuple[str, str], Decimal]:
        """What is not 0, by (account, symbol)."""
        return identities(self.store)


def identities(store: Store) -> dict[tuple[str, str], Decimal]:
    """The cash identities that do not hold, by (account, symbol)."""
    found = {
        (row["account"], row["symbol"]): cash_identity(CashFlow(**{each.name: row[each.name] for each in fields(CashFlow)}))
        for row in store.read.cash_flows()
    }
    return {key: value for key, value in found.items() if value}


@pytest.fixture
def book(store: Store) -> Book:
    store.add_account(ACCOUNT, "ibkr")
    store.add_account(OTHER_ACCOUNT, "ibkr", cost_method="average")
    return Book(store)
