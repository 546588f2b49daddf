"""What a pass did to an account: how far it came, and the result that is made of that.

Belongs here: `SyncResult` with its row in the sync log. Does not belong here: the pass itself (sync_pass.py), how results are shown
(show_syncs.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from position_pipeline.accounting.model import Snapshot, SnapshotStatus
from position_pipeline.store import Reconciled, Recorded, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from position_pipeline.store.syncing import Kept


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What one pass did to one account; the names are those of `sync --json`.

    `outcome` is one of synced, unchanged, partial, rejected, failed, already_running; `errors` are (symbol, error), the symbol empty
    where the whole account is meant. A position that was opened and closed between two syncs is in `created` and in `closed`. `own_ms`
    is our own work, from the broker's last byte on, for all accounts of the pass.
    """

    account: str
    connection: str
    trigger: str
    started_at: datetime
    outcome: str
    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    unchanged: int = 0
    fills: int = 0
    errors: tuple[tuple[str, str], ...] = ()
    snapshot_status: str | None = None
    snapshot_id: int | None = None
    open_breaks: int = 0
    duration_ms: int = 0
    own_ms: float | None = None

    @property
    def good(self) -> bool:
        """Whether the account is in step with its broker now."""
        return self.outcome in ("synced", "unchanged")


@dataclass(slots=True)
class AccountPass:
    """How far one account has come in a pass; `error` ends it."""

    account: str
    busy: bool = False
    known: int = 0
    snapshot: Snapshot | None = None
    kept: Kept | None = None
    recorded: Recorded | None = None
    reconciled: Reconciled | None = None
    error: str = ""

    @property
    def snapshot_id(self) -> int | None:
        """Where the answer is on record."""
        if self.reconciled is not None:
            return self.reconciled.snapshot_id
        return None if self.kept is None else self.kept.id

    @property
    def unfinished(self) -> bool:
        """Whether the pass ended on the way: nothing is wrong with the account, and its book was not held against the answer."""
        return not self.busy and not self.error and (self.snapshot is None or (self.alive and self.reconciled is None))

    @property
    def alive(self) -> bool:
        return not self.busy and not self.error and self.snapshot is not None and self.snapshot.proven


def summed_up(part: AccountPass, connection: str, trigger: str, started_at: datetime, symbols: Mapping[str, str]) -> SyncResult:
    """What a pass did to one account, as far as it came; without how long it took."""
    result = SyncResult(part.account, connection, trigger, started_at, "failed", snapshot_id=part.snapshot_id)
    if part.busy:
        return replace(result, outcome="already_running", errors=(("", "A sync of this account is already running."),))
    if part.snapshot is not None:
        result = replace(result, snapshot_status=part.snapshot.status.value)
    if part.error or part.snapshot is None:
        return replace(result, errors=(("", part.error),))
    if not part.snapshot.proven:
        return replace(result, outcome="rejected", errors=(("", part.snapshot.reason),))
    return _done(result, part.snapshot, part.recorded or Recorded(), part.reconciled or Reconciled(), symbols)


def _done(result: SyncResult, snapshot: Snapshot, recorded: Recorded, reconciled: Reconciled, symbols: Mapping[str, str]) -> SyncResult:
    changes = joined(recorded.changes, reconciled.changes)
    created = {i for i, change in changes.items() if not change.before and change.after}
    closed = {i for i, change in changes.items() if change.before and not change.after}
    came_and_went = {i for i, change in recorded.changes.items() if change.opened and not change.before and not change.after}
    created |= came_and_went - set(reconciled.changes)
    closed |= came_and_went - set(reconciled.changes)
    updated = (set(changes) | set(reconciled.marked)) - created - closed
    names = {**symbols, **{i: change.symbol for i, change in changes.items()}}
    changed = bool(created or closed or updated or recorded.fills or recorded.completed)
    good = "synced" if changed else "unchanged"
    return replace(
        result,
        outcome="partial" if snapshot.status is SnapshotStatus.PARTIAL else good,
        created=_labels(created, names),
        updated=_labels(updated, names),
        closed=_labels(closed, names),
        unchanged=len(reconciled.held - created - updated - closed),
        fills=recorded.fills,
        errors=(*snapshot.errors.items(), *recorded.refused, *reconciled.refused),
        open_breaks=reconciled.open_breaks,
    )


def _labels(instruments: Iterable[str], names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(names.get(instrument, instrument) for instrument in instruments))


def log_row(result: SyncResult) -> dict[str, Any]:
    """The result as a row of the sync log, which ends now."""
    names = (
        "account",
        "connection",
        "trigger",
        "started_at",
        "outcome",
        "unchanged",
        "fills",
        "snapshot_id",
        "snapshot_status",
    )
    return {
        **{name: getattr(result, name) for name in (*names, "duration_ms", "own_ms")},
        "created": list(result.created),
        "updated": list(result.updated),
        "closed": list(result.closed),
        "errors": [{"symbol": symbol, "error": error} for symbol, error in result.errors],
        "finished_at": datetime.now(UTC),
    }
