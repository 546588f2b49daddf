"""The use case `sync`: one pass over each broker for the accounts that are asked for.

Belongs here: what schedule, sensor, command line and listener all call, and which broker is asked for which accounts. Does not belong
here: what one pass does (sync_pass.py), how results are shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.circumstances import Policy
from position_pipeline.sync_pass import SyncPass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from position_pipeline.brokers import Broker
    from position_pipeline.store import Store
    from position_pipeline.sync_results import SyncResult


def sync(
    store: Store,
    brokers: Sequence[Broker],
    accounts: Sequence[str] = (),
    *,
    trigger: str,
    timeout: float,
    cost_method: str = "fifo",
    policy: Policy = Policy(),  # noqa: B008 - immutable
    wait: bool = False,
) -> list[SyncResult]:
    """Capture, record and reconcile the named accounts, or all, over several brokers; one result an account."""
    results: list[SyncResult] = []
    for broker, mine in shared_out(store, brokers, accounts):
        with SyncPass(store, broker, mine, trigger=trigger, timeout=timeout, cost_method=cost_method, policy=policy, wait=wait) as one:
            one.reconcile()
        results += one.results
    return results


def shared_out(store: Store, brokers: Sequence[Broker], accounts: Sequence[str]) -> list[tuple[Broker, Sequence[str]]]:
    """Which broker is asked for which accounts; one that nobody has delivered yet is asked of the first.

    Where a listener lives, the stream alone has the configured client id: a sync would be refused it, or keep the stream from it.
    """
    brokers = [broker.beside_a_stream() if store.streaming.is_listened_to(broker.name) else broker for broker in brokers]
    if not accounts:
        return [(broker, ()) for broker in brokers]
    known = {broker.name: set(store.accounts_of(broker.name)) for broker in brokers}
    new = [account for account in accounts if not any(account in mine for mine in known.values())]
    shares = [[account for account in accounts if account in known[broker.name]] for broker in brokers]
    shares[0] += new
    return [(broker, share) for broker, share in zip(brokers, shares, strict=True) if share]
