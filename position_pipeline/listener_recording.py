"""From what a stream told to the book: what waits is recorded together, an account at a time, and stays waiting until that succeeded.

Belongs here: batches, and what becomes of one that cannot be recorded. Does not belong here: what a fill does (store), streams
(listener_hearing).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from psycopg2 import DataError, Error, IntegrityError, NotSupportedError, ProgrammingError

from position_pipeline.listener_errands import Backoff
from position_pipeline.store import DatabaseUnavailable

if TYPE_CHECKING:
    from position_pipeline.accounting.model import Fill, Instrument
    from position_pipeline.brokers import News, RefusedRow
    from position_pipeline.listener_errands import House
    from position_pipeline.store import Store

log = logging.getLogger(__name__)

FOR_GOOD = (DataError, IntegrityError, ProgrammingError, NotSupportedError)
"""Errors of PostgreSQL that lie in what is written. Any other (a lock, a disk that is full) may be over a moment later."""


@dataclass(slots=True)
class Recording:
    """What one connection told and is not in the book yet. `recorded` counts the fills that were new there."""

    connection: str
    house: House
    recorded: int = 0
    trouble: Backoff = field(default_factory=lambda: Backoff(0.5, 15))
    _fills: dict[str, list[Fill]] = field(default_factory=dict)
    _instruments: dict[str, Instrument] = field(default_factory=dict)
    _refused: list[RefusedRow] = field(default_factory=list)
    _heard_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def waiting(self) -> bool:
        return bool(self._fills or self._refused)

    def add(self, news: News) -> None:
        for fill in news.fills:
            if self.house.wants(fill.account):
                self._fills.setdefault(fill.account, []).append(fill)
        self._instruments.update({each.id: each for each in news.instruments})
        self._refused += news.refused
        self._heard_at = news.heard_at

    def record(self, store: Store) -> None:
        """Record what is waiting. Raises `DatabaseUnavailable`; after any other error that may pass it goes on waiting."""
        try:
            for account in list(self._fills):
                self._record(store, account, self._fills[account])
                del self._fills[account]
            if self._refused:
                store.save_rejects([(row.account, row.symbol, row.reason) for row in self._refused], self.connection)
                self._refused.clear()
        except Error as error:
            log.warning("%s: %s", self.connection, " ".join(str(error).split()))
            self.trouble.fail()
            return
        self._instruments.clear()
        self.trouble.reset()

    def _record(self, store: Store, account: str, fills: list[Fill]) -> None:
        try:
            self._record_together(store, account, fills)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            if isinstance(error, Error) and not isinstance(error, FOR_GOOD):
                raise
            if len(fills) > 1:  # one that cannot be recorded may not keep the others out
                for fill in fills:
                    self._record(store, account, [fill])
                return
            log.exception("%s: %s: a fill cannot be recorded", self.connection, account)
            reason = f"{fills[0].execution_id}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            store.save_rejects([(account, self._instruments[fills[0].instrument].symbol, reason)], self.connection)

    def _record_together(self, store: Store, account: str, fills: list[Fill]) -> None:
        named = [self._instruments[each] for each in dict.fromkeys(fill.instrument for fill in fills)]
        if account not in self.house.known:
            broker, method = fills[0].instrument.partition(":")[0], self.house.settings.cost_method
            store.add_account(account, broker, connection=self.connection, cost_method=method)
            self.house.known.add(account)
        recorded = store.record(account, fills, (), named)
        self.recorded += recorded.fills
        if recorded.refused:
            store.save_rejects([(account, *row) for row in recorded.refused], self.connection)
        if recorded.fills or recorded.completed:
            late = (datetime.now(UTC) - self._heard_at).total_seconds()
            self.house.reports.booked(recorded.fills, len(recorded.changes), late)
