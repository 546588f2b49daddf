"""What a listener does beside hearing: syncs that heal a gap, syncs that somebody asked for, and asking for one itself.

Belongs here: when a sync is due. Does not belong here: what a sync does (sync), hearing (listener_hearing).
"""

from __future__ import annotations

import logging
import os
import random
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from position_pipeline import connections, show_syncs
from position_pipeline.store import DatabaseUnavailable
from position_pipeline.sync import sync

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from decimal import Decimal

    from position_pipeline.brokers import Broker, StreamingBroker
    from position_pipeline.listener_reports import Reports
    from position_pipeline.settings import Settings
    from position_pipeline.store import Store
    from position_pipeline.store.streaming import Request
    from position_pipeline.sync_results import SyncResult

log = logging.getLogger(__name__)

SETTLE = 1.0
"""Seconds that a fill may come after the holding that it changed, before the difference counts."""

AGAIN, LATEST = 5.0, 300.0
"""Seconds between two attempts to heal: after the first, and at most."""

LOOK = 5.0
"""Seconds between two looks whether the differences of a healed gap are gone."""

POLL = 5.0
"""Seconds between two looks for requests: the notice of one may be lost with a connection."""

SEVERITY = ("unchanged", "synced", "partial", "already_running", "rejected", "failed")


class Backoff:
    """When to try again: soon, then ever later, with some chance in it so that many do not come at the same moment. Seconds."""

    def __init__(self, first: float, most: float) -> None:
        self._first, self._most = first, most
        self._failures, self._due = 0, 0.0

    def fail(self) -> None:
        pause = min(self._most, self._first * 2 ** min(self._failures, 30))
        self._failures += 1
        self._due = monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311  no secret

    def reset(self) -> None:
        self._failures, self._due = 0, 0.0

    @property
    def left(self) -> float:
        return max(self._due - monotonic(), 0.0)


@dataclass(slots=True)
class House:
    """What the threads of one listener share. `connections` are those that it hears, `known` the accounts that are in the database."""

    settings: Settings
    open_store: Callable[..., AbstractContextManager[Store]]
    reports: Reports
    connections: tuple[str, ...] = ()
    stop: Event = field(default_factory=Event)
    known: set[str] = field(default_factory=set)

    def wants(self, account: str) -> bool:
        """Whether an account is one of those that are synced: fills alone, without a snapshot, would be half a book."""
        return not self.settings.default_accounts or account in self.settings.default_accounts


class Errands:
    """A thread with a store of its own, opened again whenever PostgreSQL was away."""

    def __init__(self, name: str, house: House) -> None:
        self._house = house
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._house.stop.is_set():
            try:
                with ExitStack() as inside:
                    self._work(inside.enter_context(self._house.open_store()))
            except DatabaseUnavailable as error:
                log.warning("%s: %s", self._thread.name, error)
            except Exception:
                log.exception("%s: a fault in position-pipeline; it goes on", self._thread.name)
            self._house.stop.wait(1.0)

    def _work(self, store: Store) -> None:
        """Until told to stop. Raises what it cannot go on after."""
        raise NotImplementedError


class Healing(Errands):
    """Reads a broker whole after its stream may have missed something, until that succeeded, and closes the gap.

    A gap is healed by the first such sync, and stays open while a difference is that was first seen until then. One of timing is gone
    with the next sync, so there are more of them, ever more rarely, for as long as one may end it. What was adopted stays until a fact
    comes from elsewhere: then it is only looked whether it has.
    """

    def __init__(self, name: str, find: Callable[[], StreamingBroker], house: House) -> None:
        super().__init__(f"heal-{name}", house)
        self._name, self._find = name, find
        self._losses = self._healed = self._closed = 0
        self._whole = Event()
        self._backoff = Backoff(AGAIN, LATEST)

    def lost(self) -> None:
        """The stream has missed something: what was read before proves nothing any more."""
        self._losses += 1
        self._whole.clear()
        self._backoff.reset()

    def heal(self) -> None:
        """The stream is whole, and its gap, if there is one, is in the database."""
        if self._closed != self._losses:
            self._whole.set()

    def _work(self, store: Store) -> None:
        while not self._house.stop.is_set():
            if not self._whole.wait(0.5):
                continue
            losses = self._losses
            if self._healed == losses and store.streaming.close_gap(self._name):
                self._close(losses)  # a sync of somebody else may have made the difference go
            elif self._backoff.left or (self._healed == losses and not store.streaming.gap_may_close(self._name)):
                self._house.stop.wait(min(self._backoff.left or LOOK, LOOK))
            elif self._read(store, losses) and store.streaming.close_gap(self._name):
                self._close(losses)
            else:
                self._backoff.fail()

    def _close(self, losses: int) -> None:
        self._closed = losses
        self._whole.clear()  # should something have been lost in this moment, `heal` comes again
        log.info("%s: the gap is closed", self._name)

    def _read(self, store: Store, losses: int) -> bool:
        """One sync of all accounts of the connection; whether all of them are in step and nothing was missed meanwhile."""
        settings = self._house.settings
        broker = self._find().beside_a_stream()
        elsewhere = {each for name in self._house.connections if name != self._name for each in store.accounts_of(name)}
        wanted = [each for each in settings.default_accounts if each not in elsewhere]
        nothing = bool(settings.default_accounts) and not wanted
        results = [] if nothing else _sync(store, settings, [broker], wanted, "reconnect")
        if not all(result.good for result in results) or self._losses != losses:
            for said in show_syncs.sync_errors(results):
                log.warning("%s: not healed yet: %s", self._name, said)
            return False
        if self._healed != losses:
            store.streaming.heal_gap(self._name, {result.account: _found(result) for result in results})
            self._healed = losses
        return True


def _sync(store: Store, settings: Settings, brokers: Sequence[Broker], accounts: Sequence[str], trigger: str) -> list[SyncResult]:
    return sync(
        store,
        brokers,
        accounts,
        trigger=trigger,
        timeout=settings.broker_timeout,
        cost_method=settings.cost_method,
        policy=connections.policy(settings),
        wait=True,
    )


def _found(result: SyncResult) -> dict[str, Any]:
    names = ("outcome", "fills", "created", "updated", "closed", "open_breaks")
    return {name: getattr(result, name) for name in names}


class Requests(Errands):
    """Carries out the syncs that are asked for in the database, one after the other, as soon as they are."""

    def __init__(self, finds: Mapping[str, Callable[[], StreamingBroker]], house: House) -> None:
        super().__init__("requests", house)
        self._finds = finds

    def _work(self, store: Store) -> None:
        store.streaming.listen_for_requests()
        looked_at = 0.0
        while not self._house.stop.is_set():
            if store.streaming.wait(0.5) or monotonic() - looked_at >= POLL:
                looked_at = monotonic()
                while not self._house.stop.is_set():
                    request = store.streaming.pick_sync(list(self._finds), f"listener {os.getpid()}")
                    if request is None:
                        break
                    self._carry_out(store, request)

    def _carry_out(self, store: Store, request: Request) -> None:
        settings = self._house.settings
        accounts = (request.account,) if request.account else settings.default_accounts
        try:
            brokers = [find().beside_a_stream() for find in self._finds.values()]
            results = _sync(store, settings, brokers, accounts, "request")
        except DatabaseUnavailable:
            raise  # whoever is there when PostgreSQL is back picks it again
        except Exception as error:
            log.exception("sync request %s", request.id)
            failed = {
                "account": request.account,
                "outcome": "failed",
                "errors": [{"symbol": "", "error": f"{type(error).__name__}: {error}"}],
            }
            store.streaming.finish_sync(request, "failed", [failed])
            return
        outcome = max((result.outcome for result in results), key=SEVERITY.index, default="unchanged")
        store.streaming.finish_sync(request, outcome, [show_syncs.sync_row(result) for result in results])


class Holdings:
    """Asks for a sync where the broker tells of a holding that the book does not have, a moment after it told.

    The first difference after a quiet time is asked about at once, then at most once in `debounce` seconds an account; the last one never
    stays unasked. A holding that stays as different as it was asked about is not asked about again.
    """

    def __init__(self, debounce: float) -> None:
        self._debounce = debounce
        self._heard: dict[tuple[str, str], tuple[Decimal, float]] = {}
        self._asked: dict[tuple[str, str], Decimal] = {}
        self._wanted: set[str] = set()
        self._last: dict[str, float] = {}

    def hear(self, held: Mapping[tuple[str, str], Decimal]) -> None:
        now = monotonic()
        for key, quantity in held.items():
            if self._asked.get(key) != quantity:
                self._heard[key] = (quantity, now)

    def forget(self) -> None:
        """A sync looks at everything that was heard until now."""
        self._heard.clear()
        self._wanted.clear()

    def ask(self, store: Store) -> int:
        """Ask for what is due; how many syncs were asked for."""
        now = monotonic()
        due = {key: quantity for key, (quantity, at) in self._heard.items() if at + SETTLE <= now}
        if due:
            for key in store.streaming.differing(due):
                self._asked[key] = due[key]
                self._wanted.add(key[0])
            for key, quantity in due.items():
                del self._heard[key]
                if self._asked.get(key) != quantity:
                    self._asked.pop(key, None)
        return sum(self._ask(store, account, now) for account in sorted(self._wanted))

    def _ask(self, store: Store, account: str, now: float) -> bool:
        if now < self._last.get(account, 0.0) + self._debounce:
            return False
        asked = store.streaming.ask_sync(account, "position update")
        if asked is None or asked.picked:
            return False  # the one that runs may have looked before this; ask again when it is finished
        self._wanted.discard(account)
        self._last[account] = now
        return asked.new


class _Deaf(Holdings):
    """Where the setting is off."""

    def hear(self, held: Mapping[tuple[str, str], Decimal]) -> None:
        pass


def holdings_asker(settings: Settings) -> Holdings:
    return Holdings(settings.debounce) if settings.sync_on_position_update else _Deaf(settings.debounce)
