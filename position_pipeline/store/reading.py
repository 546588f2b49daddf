"""What people and programs read: rows with the names that DESIGN fixes, from named SQL, as the book believes them now.

Belongs here: reads that change nothing. Does not belong here: formatting, ages, what is stale.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Literal

from position_pipeline.store import explaining, flows, past, queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from position_pipeline.store.connection import Connection, Row

SQL = queries.load("read")


class Reading:
    """Reads over one connection. `accounts` None or empty means all."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _rows(self, name: str, accounts: Sequence[str] | None = None, **values: object) -> list[Row]:
        return self._connection.rows(SQL[name], {"accounts": list(accounts) if accounts else None, **values})

    def positions(self, accounts: Sequence[str] | None = None, *, all_: bool = False) -> list[Row]:
        """Open positions, and those that only the broker has; with `all_` the closed ones too."""
        return self._rows("positions", accounts, all=all_)

    def positions_then(
        self, accounts: Sequence[str] | None = None, *, as_of: datetime | None, known_at: datetime | None, all_: bool = False
    ) -> list[Row]:
        """Positions from the entries until `as_of`, as they were known at `known_at`; the broker's side of them is not known."""
        with self._connection.one_moment():
            return past.positions(self._connection, accounts, as_of=as_of, known_at=known_at, all_=all_)

    def closes(
        self, accounts: Sequence[str] | None = None, *, as_of: datetime | None = None, known_at: datetime | None = None
    ) -> list[Row]:
        """What was closed until `as_of`, as the book says now, or as it said at `known_at`."""
        return self._rows("closes", accounts, as_of=as_of, known_at=known_at)

    def explained(self, id_: str, accounts: Sequence[str] | None = None) -> list[explaining.Explained]:
        """What stands behind a close (by its id, or that of the closing entry) or a position (by its instrument's id or symbol)."""
        with self._connection.one_moment():
            return explaining.explained(self._connection, id_, accounts)

    def executions(self, accounts: Sequence[str] | None = None) -> list[Row]:
        """The latest revision of each fill, once."""
        return self._rows("executions", accounts)

    def breaks(self, accounts: Sequence[str] | None = None, *, all_: bool = False) -> list[Row]:
        """Open breaks; with `all_` the dismissed and the resolved ones too. One of an account as a whole has no instrument."""
        return self._rows("breaks", accounts, all=all_)

    def breaks_of_id(self, id_: str) -> list[Row]:
        """The breaks whose id begins so, with their history, signs and proposed adjustments."""
        return self._rows("break_of_id", id=id_)

    def adjustments(self, accounts: Sequence[str] | None = None, *, all_: bool = False) -> list[Row]:
        """The entries of the book that are no fills; with `all_` those that were taken back too."""
        return self._rows("adjustments", accounts, all=all_)

    def events(self, accounts: Sequence[str] | None = None) -> list[Row]:
        """The steps in the life of positions, oldest first; `held_for` is how long the cycle had lasted then."""
        return self._rows("events", accounts)

    def cycles(self, accounts: Sequence[str] | None = None) -> list[Row]:
        """The lives of positions, from flat to flat, with entry and exit prices (the view position_cycles)."""
        return self._rows("cycles", accounts)

    def history(self, accounts: Sequence[str] | None = None, *, at: datetime | None = None) -> list[Row]:
        """What was held when, as intervals (the view position_history); only those that are valid `at` a moment, if one is given."""
        return self._rows("history", accounts, at=at)

    def accounts(self) -> list[Row]:
        return self._rows("accounts")

    def latest_snapshots(self) -> list[Row]:
        return self._rows("snapshots_latest")

    def last_sync(self) -> list[Row]:
        """The attempts that started together last, one per account."""
        return self._rows("last_sync")

    def totals(self) -> Row:
        """total_runs, successful_runs, failed_runs, rejects, waiting, is_running; created, updated, closed over all; runs by trigger."""
        (runs,), (rejects,), (running,) = (
            self._rows("sync_totals"),
            self._rows("rejects"),
            self._rows("sync_is_running"),
        )
        sums = self._rows("sync_sums")
        made = {name: sum(row[name] for row in sums) for name in ("created", "updated", "closed")}
        return {**runs, **rejects, **running, **made, "triggers": {row["trigger"]: row["runs"] for row in sums}}

    def last_error(self) -> Row | None:
        found = self._rows("last_error")
        return found[0] if found else None

    def cash_flows(self) -> list[Row]:
        """Per account and instrument, the sums that `accounting.invariants.CashFlow` is made of."""
        with self._connection.one_moment():
            return flows.cash_flows(self._connection)

    def disagreements(self) -> list[Row]:
        """Positions whose quantity is not what the broker's last proven snapshot says."""
        return self._rows("disagreements")

    def row_counts(self) -> Row:
        """How many rows snapshots, executions, positions, closes and position_events have."""
        return self._rows("row_counts")[0]

    def position_sums(self) -> list[Row]:
        """Per currency: positions, unpriced, market_value, unrealized_pnl."""
        return self._rows("position_sums")

    def close_sums(self) -> list[Row]:
        """Per currency: closes, unknown (their basis or a commission is not known), net_pnl of the others."""
        return self._rows("close_sums")

    def event_counts(self) -> list[Row]:
        """Per type, how many steps in the life of positions."""
        return self._rows("event_counts")

    def newest(self, what: Literal["executions", "closes", "events"], limit: int) -> list[Row]:
        """The last rows of one history, newest first."""
        return self._rows(f"newest_{what}", limit=limit)

    def scheduler_beat(self) -> datetime | None:
        """When Dagster's scheduler last said that it lives, None if it never ran on this database."""
        if not self._rows("has_scheduler")[0]["has"]:
            return None
        beat = self._rows("scheduler_beat")[0]["beat"]
        return None if beat is None else beat.replace(tzinfo=UTC)
