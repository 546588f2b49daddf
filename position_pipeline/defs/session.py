"""What the steps of one run share: one open store, and one pass over each broker.

Belongs here: opening late, so that what goes wrong is told by the step that needed it, and closing surely. Does not belong here: Dagster,
and what a pass does (sync).
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from position_pipeline import connections
from position_pipeline.store import DatabaseUnavailable, WrongRevision
from position_pipeline.store.embedded import EmbeddedServerError
from position_pipeline.sync import SyncPass, shared_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from position_pipeline.brokers import Broker
    from position_pipeline.settings import Settings
    from position_pipeline.store import Store
    from position_pipeline.sync import AccountPass, SyncResult

EXPECTED = (connections.NoBroker, DatabaseUnavailable, WrongRevision, EmbeddedServerError)
"""What can be wrong around a run; each has a text for the person who reads it."""

TRIGGER, ACCOUNTS = "position_sync/trigger", "position_sync/accounts"
"""The run tags that say who asked for the sync, and for which accounts (separated by commas; absent: all)."""


def wishes(tags: Mapping[str, str], default_accounts: Sequence[str] = ()) -> tuple[str, tuple[str, ...]]:
    """What a run's tags ask for: (trigger, accounts); no accounts means all."""
    named = tuple(name.strip() for name in tags.get(ACCOUNTS, "").split(",") if name.strip())
    return tags.get(TRIGGER) or "manual", named or tuple(default_accounts)


class SyncSession:
    """Each step does what it lacks: `reconciled` alone captures and records too; after `captured` it goes on from there.

    An account that is being synced elsewhere is waited for. Raises one of `EXPECTED`.
    """

    def __init__(
        self,
        settings: Settings,
        brokers: Callable[[], Sequence[Broker]],
        *,
        trigger: str = "manual",
        accounts: Sequence[str] = (),
    ) -> None:
        self.trigger, self.accounts = trigger, tuple(accounts)
        self._settings, self._brokers = settings, brokers
        self._opened, self._running = ExitStack(), ExitStack()
        self._store: Store | None = None
        self._passes: list[SyncPass] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._opened:
            self._running.close()

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = self._opened.enter_context(connections.store(self._settings))
        return self._store

    @property
    def stale_after(self) -> float:
        return self._settings.stale_after

    def captured(self) -> list[AccountPass]:
        """Ask the brokers, unless this run has; how far each account has come."""
        for one in self._begun():
            one.capture()
        return self._parts()

    def recorded(self) -> list[AccountPass]:
        """Book the captured fills, unless this run has."""
        for one in self._begun():
            one.record()
        return self._parts()

    def reconciled(self) -> list[SyncResult]:
        """Hold the snapshots against the book and end the passes: their results are in the sync log then, and their locks free."""
        for one in self._begun():
            one.reconcile()
        self._running.close()
        ended, self._passes = self._passes, []
        return [result for one in ended for result in one.results]

    def _parts(self) -> list[AccountPass]:
        return [part for one in self._passes for part in one.accounts.values()]

    def _begun(self) -> list[SyncPass]:
        if not self._passes:
            shares = shared_out(self.store, self._brokers(), self.accounts)
            self._passes = [self._begin(broker, accounts) for broker, accounts in shares]
        return self._passes

    def _begin(self, broker: Broker, accounts: Sequence[str]) -> SyncPass:
        settings = self._settings
        one = SyncPass(
            self.store,
            broker,
            accounts,
            trigger=self.trigger,
            timeout=settings.broker_timeout,
            cost_method=settings.cost_method,
            wait=True,
        )
        return self._running.enter_context(one)
