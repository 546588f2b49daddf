"""What the steps of one run share: one open store, and one pass over each broker.

Belongs here: opening late, so that what goes wrong is told by the step that needed it, and closing surely. Does not belong here: Dagster,
and what a pass does (sync).
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from position_pipeline import connections, show_syncs
from position_pipeline.store import DatabaseUnavailable, WrongRevision
from position_pipeline.store.embedded import EmbeddedServerError
from position_pipeline.sync import shared_out
from position_pipeline.sync_pass import SyncPass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from position_pipeline.brokers import Broker
    from position_pipeline.settings import Settings
    from position_pipeline.store import Store
    from position_pipeline.store.streaming import Request
    from position_pipeline.sync_results import AccountPass, SyncResult

EXPECTED = (connections.NoBroker, DatabaseUnavailable, WrongRevision, EmbeddedServerError)
"""What can be wrong around a run; each has a text for the person who reads it."""

TRIGGER, ACCOUNTS = "position_sync/trigger", "position_sync/accounts"
"""The run tags that say who asked for the sync, and for which accounts (separated by commas; absent: all)."""

REQUESTED = "request"
"""The trigger of a run that carries out what stands in `sync_requests`."""

WORST_FIRST = ("failed", "rejected", "already_running", "partial", "synced", "unchanged")


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
        run_id: str = "",
    ) -> None:
        self.run_id = run_id
        self.trigger, self.accounts = trigger, tuple(accounts)
        self._settings, self._brokers = settings, brokers
        self._opened, self._running = ExitStack(), ExitStack()
        self._store: Store | None = None
        self._passes: list[SyncPass] = []
        self._requests: list[Request] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._opened:
            self._end()

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = self._opened.enter_context(connections.store(self._settings))
            if self.run_id:
                self._store.running(self.run_id)
        return self._store

    @property
    def stale_after(self) -> float:
        return self._settings.stale_after

    @property
    def reset_window(self) -> tuple[int, int]:
        """When the broker restarts every day, in minutes of New York's day."""
        return self._settings.reset_minutes

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
        return self._end()

    def _end(self) -> list[SyncResult]:
        """End the passes; what came of them is in the sync log then, and in the requests that were carried out."""
        self._running.close()
        ended, self._passes = self._passes, []
        results = [result for one in ended for result in one.results]
        while results and self._requests:
            self._finish(self._requests.pop(), results)
        return results

    def _parts(self) -> list[AccountPass]:
        return [part for one in self._passes for part in one.accounts.values()]

    def _begun(self) -> list[SyncPass]:
        if not self._passes:
            store, brokers = self.store, self._brokers()
            if self.trigger == REQUESTED:
                self._pick([broker.name for broker in brokers])
            shares = shared_out(store, brokers, self.accounts)
            self._passes = [self._begin(broker, accounts) for broker, accounts in shares]
        return self._passes

    def _pick(self, connections: Sequence[str]) -> None:
        """Every open request becomes ours before the brokers are asked, and only its accounts are."""
        while request := self.store.streaming.pick_sync(connections, "a run", besides=[mine.id for mine in self._requests]):
            self._requests.append(request)
        named = {request.account for request in self._requests}
        if named and None not in named:
            self.accounts = tuple(sorted(account for account in named if account))

    def _finish(self, request: Request, results: Sequence[SyncResult]) -> None:
        mine = [result for result in results if request.account in (None, result.account)]
        outcome = min((result.outcome for result in mine), key=WORST_FIRST.index, default="failed")
        self.store.streaming.finish_sync(request, outcome, [show_syncs.sync_row(result) for result in mine])

    def _begin(self, broker: Broker, accounts: Sequence[str]) -> SyncPass:
        settings = self._settings
        one = SyncPass(
            self.store,
            broker,
            accounts,
            trigger=self.trigger,
            timeout=settings.broker_timeout,
            cost_method=settings.cost_method,
            policy=connections.policy(settings),
            wait=True,
        )
        return self._running.enter_context(one)
