"""Deleting what is past its time, so that the database does not grow for ever.

Belongs here: which rows may go, and what that freed. Does not belong here: Dagster's runs, which go through Dagster (defs.housekeeping),
and how long each kind is kept (settings).

Executions, adjustments, closes, position events and statement rows are never deleted, by nobody. What Dagster keeps of checks and of
events without a run has no way out through Dagster, so these two tables of its schema are cut here, in our common database.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg2 import sql

from position_pipeline.store import queries
from position_pipeline.store.connection import SESSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from position_pipeline.store.connection import Connection

SQL = queries.load("housekeeping")

BATCH = 2000
"""Rows a statement: each is its own transaction, so that nobody waits long for a lock."""

HISTORY = ("drop_requests", "drop_gaps", "drop_deliveries", "drop_messages", "drop_alerts")

VACUUMED = ("snapshots", "holdings", "syncs")
DAGSTERS = ("event_logs", "asset_check_executions", "runs", "run_tags", "job_ticks")


class Housekeeping:
    """Deletions over one connection; each method says how many rows of which table went."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def drop_history(self, before: datetime) -> Counter[str]:
        """Snapshots, holdings, sync log, requests, gaps and alerts from before; a thin history of the snapshots stays."""
        freed: Counter[str] = Counter()
        for row in self._connection.rows(SQL["accounts_with_snapshots"]):
            freed += self._in_batches("drop_snapshots", before, account=row["account"])
            freed += self._drop("drop_holdings", before, account=row["account"])
        freed += self._in_batches("drop_syncs", before)
        for name in HISTORY:
            freed += self._drop(name, before)
        return freed

    def drop_dagster_leftovers(self, before: datetime) -> Counter[str]:
        """What deleting Dagster's runs leaves behind; nothing where Dagster keeps its tables elsewhere."""
        here = self._connection.one(SQL["dagster_is_here"])
        if here is None or not here["here"]:
            return Counter()
        return self._drop("drop_check_history", before) + self._drop("drop_runless_events", before)

    def sizes(self) -> dict[str, int]:
        """Bytes on disk, with indexes, by schema: ours and Dagster's."""
        return {row["schema"]: row["bytes"] for row in self._connection.rows(SQL["sizes"])}

    def make_room(self) -> None:
        """Make the space of deleted rows usable again at once; autovacuum would come later."""
        here = self._connection.one(SQL["dagster_is_here"])
        names = [sql.Identifier(name) for name in VACUUMED]
        if here is not None and here["here"]:
            names += [sql.Identifier("dagster", name) for name in DAGSTERS]
        with self._unhurried():
            for name in names:
                self._connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(name).as_string(self._connection.raw))

    def _in_batches(self, name: str, before: datetime, **values: str) -> Counter[str]:
        freed: Counter[str] = Counter()
        while more := self._drop(name, before, batch=BATCH, **values):
            freed += more
        return freed

    def _drop(self, name: str, before: datetime, **values: str | int) -> Counter[str]:
        """Rows by table; an empty counter is false."""
        with self._unhurried():
            row = self._connection.one(SQL[name], {"before": before, **values}) or {}
        return +Counter(row)

    @contextmanager
    def _unhurried(self) -> Iterator[None]:
        self._connection.execute(SQL["statement_limit"], {"limit": "0"})
        try:
            yield
        finally:
            if not self._connection.raw.closed:
                self._connection.execute(SQL["statement_limit"], {"limit": SESSION["statement_timeout"]})
