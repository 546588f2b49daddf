"""The store: PostgreSQL, and nothing that decides about positions. `Store` is its public face.

Belongs here: one method for one use case, which is one transaction. Does not belong here: booking and verdicts (accounting), brokers,
Dagster.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from psycopg2.extras import Json

from position_pipeline.accounting.circumstances import Policy
from position_pipeline.store import book, queries, rebuilding, reconciling, recording, register, reversing, syncing, withdrawing
from position_pipeline.store.accepting import Accepted, Decisions, NotPossible
from position_pipeline.store.alerting import Alerting
from position_pipeline.store.book import Change
from position_pipeline.store.bulk import Delivery
from position_pipeline.store.bulk_keys import checked_at_the_end
from position_pipeline.store.claims import Claims
from position_pipeline.store.connection import Connection, DatabaseUnavailable
from position_pipeline.store.housekeeping import Housekeeping
from position_pipeline.store.migrate import WrongRevision, require_revision, upgrade
from position_pipeline.store.reading import Reading
from position_pipeline.store.reconciling import Reconciled, joined
from position_pipeline.store.recording import Recorded
from position_pipeline.store.refusals import reject_id
from position_pipeline.store.riding import RidingConnection
from position_pipeline.store.streaming import Streaming
from position_pipeline.store.turns import lock_account
from position_pipeline.store.verification import Verification

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from position_pipeline.accounting.model import Adjustment, Fill, Instrument, Method, Snapshot
    from position_pipeline.store.rebuilding import Group
    from position_pipeline.store.syncing import Kept

__all__ = [
    "Accepted",
    "Change",
    "DatabaseUnavailable",
    "NotPossible",
    "Reading",
    "Reconciled",
    "Recorded",
    "Store",
    "WrongRevision",
    "joined",
    "upgrade",
]


class Store:
    """One process's way to the database. Not for sharing among threads; open one each.

    `in_a_hurry` sends what nobody waits for together with the next statement (riding.py). Opening raises `DatabaseUnavailable` or
    `WrongRevision`.
    """

    def __init__(self, url: str, *, in_a_hurry: bool = False) -> None:
        self._connection = RidingConnection(url) if in_a_hurry else Connection(url)
        try:
            require_revision(self._connection.raw)
        except BaseException:
            self._connection.close()
            raise
        self.read = Reading(self._connection)
        self.decisions = Decisions(self._connection)
        self.alerting = Alerting(self._connection)
        self.claims = Claims(self._connection)
        self.streaming = Streaming(self._connection)
        self.verification = Verification(self._connection)
        self.housekeeping = Housekeeping(self._connection)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def syncing(self, account: str, *, wait: bool) -> Iterator[bool]:
        """Hold the account's sync lock; yields False where another pass holds it, with `wait` only when it does so for minutes."""
        held = syncing.lock(self._connection, account, wait=wait)
        try:
            yield held
        finally:
            if held and not self._connection.raw.closed:
                syncing.unlock(self._connection, account)

    def running(self, run_id: str) -> None:
        """From now on this connection is the sign of life of a run."""
        self._connection.execute(queries.load("sync")["run_lock"], {"run": run_id})

    def is_running(self, run_id: str) -> bool:
        """Whether a process lives that called `running` for it."""
        row = self._connection.one(queries.load("sync")["run_is_running"], {"run": run_id})
        return bool(row and row["running"])

    def rebuilding(self, account: str) -> Iterator[Group]:
        """Each group of instruments of an account, made anew and as it is stored, all at one moment. Nothing is written."""
        with self._connection.one_moment():
            yield from rebuilding.side_by_side(self._connection, account)

    def add_account(
        self,
        account: str,
        broker: str,
        *,
        connection: str = "",
        base_currency: str | None = None,
        cost_method: str = "fifo",
    ) -> bool:
        """Take an account in; True if it was not known. What is known already is completed, its cost method stays."""
        values = {
            "account": account,
            "broker": broker,
            "connection": connection,
            "base_currency": base_currency,
            "cost_method": cost_method,
        }
        sql = queries.load("book")
        with self._connection.transaction():
            known = self._connection.one(sql["account"], {"account": account})
            # Also a row that stays as it is would be locked: whoever writes much to the account's book would be waited for.
            if known is None or connection not in ("", known["connection"]) or (base_currency and known["base_currency"] is None):
                self._connection.execute(sql["add_account"], values)
        return known is None

    def set_cost_method(self, account: str, method: Method, sec_type: str | None = None) -> int:
        """Use another method from the first entry on, for all of an account or for one kind of instrument; how many positions changed.

        What the book said until now stays on record as superseded.
        """
        with self._connection.transaction():
            at = lock_account(self._connection, account)
            known = self._connection.one(queries.load("book")["account"], {"account": account})
            if known is None:
                raise LookupError(f"account {account} is not known")
            default = known["cost_method"] if sec_type else method.value
            others = {**known["cost_methods"], sec_type: method.value} if sec_type else known["cost_methods"]
            if (default, others) == (known["cost_method"], known["cost_methods"]):
                return 0
            values = {"account": account, "cost_method": default, "cost_methods": Json(others), "at": at}
            self._connection.execute(queries.load("book")["set_methods"], values)
            groups = rebuilding.groups(self._connection, account)
            changed = sum(len(book.rebook(self._connection, account, group, at)) for group in groups)
            self._notify(account, 0, changed)
        return changed

    def accounts_of(self, connection: str) -> tuple[str, ...]:
        """The accounts that a connection has delivered so far."""
        found = self._connection.rows(queries.load("sync")["accounts_of_connection"], {"connection": connection})
        return tuple(row["account"] for row in found)

    def record(
        self,
        account: str,
        fills: Sequence[Fill],
        adjustments: Sequence[Adjustment] = (),
        instruments: Sequence[Instrument] = (),
    ) -> Recorded:
        """Store fills and adjustments of one account and book them, all or nothing. Doing it again changes nothing."""
        with self._connection.transaction():
            recorded = recording.record(self._connection, account, fills, adjustments, instruments)
            if recorded.new:  # not all of `fills`: every sync brings the fills of its whole day once more
                withdrawing.doubt(self._connection, account, recorded.new)
                recorded = withdrawing.told_apart(self._connection, account, recorded)
            if recorded.fills or recorded.changes:
                register.settle(self._connection, account, recorded.new, recorded.changes)
                self._notify(account, recorded.fills, len(recorded.changes))
        return recorded

    def reverse(self, account: str, ids: Sequence[str], by: str, why: str) -> Mapping[str, Change]:
        """Take adjustments back, as if they had never been; they stay on record. The positions that changed, by instrument.

        LookupError names the ids that are not known, and then nothing is done; one that was taken back before stays as it was.
        """
        with self._connection.transaction():
            at = lock_account(self._connection, account)
            changes = reversing.reverse(self._connection, account, ids, by=by, why=why, at=at)
            if changes:
                self._notify(account, 0, len(changes))
        return changes

    def _notify(self, account: str, fills: int, positions: int) -> None:
        # A wake-up, not a store: NOTIFY carries 8000 bytes, so it says that there is news and not which.
        payload = json.dumps({"account": account, "fills": fills, "positions": positions})
        self._connection.execute(queries.load("book")["notify"], {"payload": payload})

    @contextmanager
    def whole_import(self) -> Iterator[None]:
        """What is recorded and saved within is kept all together or not at all: a file is never half imported."""
        with self._connection.transaction():
            yield

    def save_snapshot(self, snapshot: Snapshot, instruments: Sequence[Instrument], connection: str) -> int:
        """Keep one answer of a broker, whatever it is worth, and what it says of its instruments; returns its id."""
        with self._connection.transaction():
            return syncing.keep_answer(self._connection, snapshot, instruments, connection, may_wait=False).id

    def take_in(self, snapshot: Snapshot, instruments: Sequence[Instrument], connection: str) -> Kept:
        """The same for an answer that is about to be reconciled: one that repeats the last is written down there, or by `save_snapshot`."""
        with self._connection.transaction():
            return syncing.keep_answer(self._connection, snapshot, instruments, connection, may_wait=True)

    def reconcile(
        self,
        snapshot: Snapshot,
        instruments: Sequence[Instrument],
        policy: Policy = Policy(),  # noqa: B008 - immutable
        *,
        known: int = 0,
        own: int = 0,
        listed: Collection[str] | None = None,
        kept: Kept | None = None,
    ) -> Reconciled:
        """Hold a proven snapshot against the book: marks, adjustments, breaks.

        `kept` is the answer of `take_in`; without it everything is compared. `known` was read by `verification.known` before the broker
        was asked; `own` fills of the same answer were recorded since; `listed` are the ids of all that came with it.
        """
        with self._connection.transaction():
            reconciled = reconciling.reconcile_account(self._connection, snapshot, instruments, policy, listed=listed, kept=kept)
            self.verification.advance(snapshot.account, known, own)
            if reconciled.is_news:
                self._notify(snapshot.account, 0, len(reconciled.marked | set(reconciled.changes)))
        return reconciled

    def save_sync(self, **values: Any) -> None:
        """Keep one attempt in the sync log; the names are the columns of `syncs`."""
        syncing.save_sync(self._connection, values)

    def save_rejects(self, refused: Sequence[tuple[str, str, str]], source: str) -> int:
        """Keep what could not be taken, as (account, symbol, reason); how many of them are new."""
        found = {reject_id(*row): row for row in refused}
        values = [(digest, *row, source) for digest, row in found.items()]
        return len(self._connection.many(queries.load("book")["add_rejects"], values, fetch=True))

    def save_cash(self, cash: Sequence[Sequence[Any]]) -> int:
        """Keep cash rows, in the order of the table's columns; how many of them are new."""
        return len(self._connection.many(queries.load("book")["add_cash_rows"], cash, fetch=True))

    def save_import(self, values: Mapping[str, Any]) -> None:
        """Keep one import of one account's part of a file."""
        counts, notes = Json(values["counts"]), Json(values["notes"])
        self._connection.execute(queries.load("book")["add_import"], {**values, "counts": counts, "notes": notes})

    @contextmanager
    def delivering(self) -> Iterator[Delivery]:
        """Take in very many fills, of any accounts, all together or not at all (see bulk.py); `Delivery.finish` ends it."""
        with self._connection.transaction():
            self._connection.execute(queries.load("bulk")["take_time"])
            with checked_at_the_end(self._connection), Delivery.opened(self._connection) as delivery:
                yield delivery
            for account, recorded in delivery.recorded.items():
                if recorded.fills or recorded.changes:
                    self._notify(account, recorded.fills, len(recorded.changes))
