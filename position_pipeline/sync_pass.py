"""One pass over one broker: capture, record, reconcile, and the sync log.

Belongs here: the order of things, and that a failure in one account ends that account's part alone. Does not belong here: how a broker is
spoken to (brokers), how the book is kept (store), what a result says (sync_results.py).

    with SyncPass(store, broker, trigger="manual", timeout=30) as one:   # takes the accounts' sync locks
        one.capture()       # one look at the broker; every answer is kept, proven or not
        one.record()        # fills into the book
        one.reconcile()     # proven snapshots against the book
    one.results             # one SyncResult an account, already in the sync log; a pass that was not finished is a failed one
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Self

from position_pipeline.accounting.circumstances import Policy
from position_pipeline.brokers import BrokerUnavailable, Capture
from position_pipeline.store import DatabaseUnavailable
from position_pipeline.sync_results import AccountPass, SyncResult, log_row, summed_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from position_pipeline.accounting.model import Fill, Holding, Instrument, Snapshot
    from position_pipeline.brokers import Broker
    from position_pipeline.store import Store


class SyncPass:
    """One pass over one broker for some accounts, or all that it has.

    A broker that cannot be used, a rejected answer or a failure in one account ends that account's part and is on record; the others go
    on. Nothing of it raises. With `wait` it waits for a pass that is running; without, such an account is `already_running`.
    """

    def __init__(
        self,
        store: Store,
        broker: Broker,
        accounts: Sequence[str] = (),
        *,
        trigger: str,
        timeout: float,
        cost_method: str = "fifo",
        policy: Policy = Policy(),  # noqa: B008 - immutable
        wait: bool = False,
    ) -> None:
        self.store, self.broker, self.trigger = store, broker, trigger
        self.timeout, self.cost_method, self.policy, self.wait = timeout, cost_method, policy, wait
        self.named = tuple(accounts) or broker.accounts
        self.started_at, self._clock = datetime.now(UTC), time.monotonic()
        self.captured: Capture | None = None
        self._known: dict[str, Instrument] = {}
        self.accounts: dict[str, AccountPass] = {}
        self.results: list[SyncResult] = []
        self._own = 0.0
        self._locks = ExitStack()

    def __enter__(self) -> Self:
        try:
            for account in sorted(self.named or self.store.accounts_of(self.broker.name)):
                # Once we have waited in vain, what holds one account hangs, and most likely holds the others too.
                self._enter_account(account, wait=self.wait and not any(part.busy for part in self.accounts.values()))
        except BaseException:
            self._locks.close()
            raise
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with self._locks:
            if error is not None:
                for part in self.accounts.values():
                    part.error = part.error or (_told(error) if part.unfinished else "")
            self._keep_answers()
            self._log()

    def capture(self) -> None:
        """Look at the broker once and keep every answer. Does nothing the second time."""
        free = [account for account, part in self.accounts.items() if not part.busy]
        if self.captured is not None or any(part.error for part in self.accounts.values()) or (self.accounts and not free):
            return
        try:
            self.captured = self.broker.capture(free if self.named else None, self.timeout)
        except Exception as error:  # noqa: BLE001  a fault of one adapter must not stop the other brokers
            for account in free or (self.broker.name,):
                self.accounts.setdefault(account, AccountPass(account)).error = _told(error)
            return
        self._own += max(0.0, (datetime.now(UTC) - self.captured.received_at).total_seconds())
        self._known = {instrument.id: instrument for instrument in self.captured.instruments}
        with self._at_work():
            for snapshot in self.captured.snapshots:
                self._each(snapshot.account, partial(self._take_in, snapshot))
            self._miss_accounts()
            self._keep_refused([(row.account, row.symbol, row.reason) for row in self.captured.refused])

    def record(self) -> None:
        """Store the captured fills and book them, an account at a time."""
        self.capture()
        with self._at_work():
            for part in [part for part in self.accounts.values() if part.alive and part.recorded is None]:
                self._each(part.account, self._record)

    def reconcile(self) -> None:
        """Hold each proven snapshot against the book, an account at a time."""
        self.record()
        with self._at_work():
            for part in [part for part in self.accounts.values() if part.alive and part.reconciled is None]:
                self._each(part.account, self._reconcile)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._own += time.monotonic() - began

    def _enter_account(self, account: str, *, wait: bool) -> AccountPass:
        if account not in self.accounts:
            free = self._locks.enter_context(self.store.syncing(account, wait=wait))
            self.accounts[account] = AccountPass(account, busy=not free)
            if free and self.captured is None:
                # What is recorded later than this moment, this pass may not have seen at the broker.
                self.accounts[account].known = self.store.verification.known(account)
        return self.accounts[account]

    def _each(self, account: str, step: Callable[[AccountPass], None]) -> None:
        # An account that the answer is the first to name is not waited for: after the wait the answer would be an old one.
        part = self._enter_account(account, wait=False)
        if part.busy:
            return
        try:
            step(part)
        except DatabaseUnavailable:
            raise  # there is nowhere left to write anything
        except Exception as error:  # noqa: BLE001  whatever it is, it must be told, and must not stop the other accounts
            part.error = _told(error)

    def _take_in(self, snapshot: Snapshot, part: AccountPass) -> None:
        part.snapshot = snapshot
        if snapshot.proven:
            self.store.add_account(
                snapshot.account,
                snapshot.broker,
                connection=self.broker.name,
                base_currency=_base_currency(snapshot),
                cost_method=self.cost_method,
            )
        part.kept = self.store.take_in(snapshot, self._instruments(snapshot.holdings), self.broker.name)

    def _miss_accounts(self) -> None:
        """An account that was there before and is not in the answer has not been sold out: say that it is missing."""
        for part in self.accounts.values():
            if part.snapshot is None and not part.busy and not part.error:
                part.error = (
                    f"{self.broker.where} no longer lists account {part.account}. Its positions stay as they were. "
                    "Check that the login still sees it, or name the accounts to sync with POSITION_SYNC_IBKR_ACCOUNTS."
                )

    def _record(self, part: AccountPass) -> None:
        assert self.captured is not None
        fills = [fill for fill in self.captured.fills if fill.account == part.account]
        part.recorded = self.store.record(part.account, fills, (), self._instruments(fills))
        self._keep_refused([(part.account, *row) for row in part.recorded.refused])

    def _reconcile(self, part: AccountPass) -> None:
        assert part.snapshot is not None
        assert self.captured is not None
        own = part.recorded.fills if part.recorded else 0
        instruments = self._instruments(part.snapshot.holdings)
        listed = {fill.execution_id for fill in self.captured.fills if fill.account == part.account}
        part.reconciled = self.store.reconcile(
            part.snapshot, instruments, self.policy, known=part.known, own=own, listed=listed, kept=part.kept
        )
        self._keep_refused([(part.account, *row) for row in part.reconciled.refused])

    def _instruments(self, rows: Sequence[Holding | Fill]) -> list[Instrument]:
        """The instruments that some holdings or fills name."""
        return [self._known[name] for name in dict.fromkeys(row.instrument for row in rows) if name in self._known]

    def _keep_refused(self, refused: Sequence[tuple[str, str, str]]) -> None:
        if refused:
            self.store.save_rejects(refused, self.broker.name)

    def _keep_answers(self) -> None:
        """An answer that repeats the last is on record once it was held against the book; where that did not happen, it is from here."""
        for part in self.accounts.values():
            if part.kept is not None and part.kept.repeats and part.reconciled is None and part.snapshot is not None:
                saved = self.store.save_snapshot(part.snapshot, self._instruments(part.snapshot.holdings), self.broker.name)
                part.kept = replace(part.kept, id=saved, repeats=False)

    def _log(self) -> None:
        """Every attempt is kept; an account that was being synced has its row by the pass that runs.

        Where nobody asked for more than a capture or a record, that was no sync, and there is nothing to log.
        """
        symbols = {instrument.id: instrument.symbol for instrument in self._known.values()}
        now = time.monotonic()
        own = round(self._own * 1000, 1)
        for part in (part for part in self.accounts.values() if not part.unfinished):
            result = replace(
                summed_up(part, self.broker.name, self.trigger, self.started_at, symbols),
                duration_ms=round((now - self._clock) * 1000),
                own_ms=own if part.alive else None,
            )
            self.results.append(result)
            if not part.busy:
                self.store.save_sync(**log_row(result))


def _told(error: BaseException) -> str:
    """What went wrong, on one line; the errors that are made for people need no name."""
    said = " ".join(str(error).split())[:1000]
    return said if isinstance(error, BrokerUnavailable) else f"{type(error).__name__}: {said}"


def _base_currency(snapshot: Snapshot) -> str | None:
    """The currency of NetLiquidation, which IBKR gives in the account's base currency."""
    found = [value.currency for value in snapshot.values if value.tag == "NetLiquidation" and value.currency not in ("", "BASE")]
    return found[0] if found else None
