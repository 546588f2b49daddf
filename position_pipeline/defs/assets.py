"""The assets: each is a table, and its materialization says what one sync did to it.

Belongs here: which tables there are, what one row of each is, and in which order a run makes them. Does not belong here: the work
(sync), what is shown of it (metadata), claims about it (checks).

    broker_snapshots --> trade_executions --> reconciled_positions, partial_close_pnl, position_events

The three steps of a run share one pass over each broker, so the broker is asked once. A step that is materialised alone does what it
lacks itself. An account that failed is shown and does not hold up the others; a step fails only when no account is left.
"""

from collections.abc import Iterable, Iterator

import dagster as dg

from position_pipeline.defs import metadata, verdicts
from position_pipeline.defs.checks import SNAPSHOT_IS_COMPLETE, shown
from position_pipeline.defs.resources import told
from position_pipeline.defs.session import SyncSession

POOL = "broker"
"""One run at a time asks the brokers. A courtesy: what keeps two syncs of one account apart is the account's lock in the database."""

KINDS = {"postgres"}

Made = dg.MaterializeResult[None]
"""No asset hands a value on: the next one reads the database."""


@dg.asset(
    group_name="capture",
    kinds=KINDS,
    pool=POOL,
    metadata=metadata.about_table("snapshots"),
    check_specs=[SNAPSHOT_IS_COMPLETE],
)
def broker_snapshots(sync: dg.ResourceParam[SyncSession]) -> Iterator[dg.AssetCheckResult | Made]:
    """One row is one answer of a broker for one account, proven complete, partial or rejected.

    A rejected answer never touches the book; it is kept with the reason.
    """
    with told():
        parts = sync.captured()
        verdict = shown(verdicts.snapshot_is_complete(parts), SNAPSHOT_IS_COMPLETE)
        if not any(part.alive for part in parts):
            yield verdict
            raise no_account_left((part.account, verdicts.reason_of(part)) for part in parts)
        yield dg.MaterializeResult(metadata=metadata.of_snapshots(sync, parts), check_results=[verdict])


@dg.asset(group_name="capture", kinds=KINDS, pool=POOL, deps=[broker_snapshots], metadata=metadata.about_table("executions"))
def trade_executions(sync: dg.ResourceParam[SyncSession]) -> Made:
    """One row is one revision of one fill at the broker; the highest revision is believed, none is ever deleted.

    New fills are booked into positions, closes and events in the same transaction.
    """
    with told():
        parts = sync.recorded()
        if not any(part.alive for part in parts):
            raise no_account_left((part.account, verdicts.reason_of(part)) for part in parts)
        return dg.MaterializeResult(metadata=metadata.of_executions(sync, parts))


@dg.multi_asset(
    pool=POOL,
    specs=[
        dg.AssetSpec(
            "reconciled_positions",
            deps=[trade_executions],
            group_name="book",
            kinds=KINDS,
            metadata=metadata.about_table("positions"),
            description="One row is what the book says we hold, or held, of one instrument in one account.\n\n"
            "The broker's quantity stands beside ours. Ours comes from fills and adjustments alone: an answer of the broker never edits "
            "it. Where the two differ there is a break, with its evidence.",
        ),
        dg.AssetSpec(
            "partial_close_pnl",
            deps=[trade_executions],
            group_name="book",
            kinds=KINDS,
            metadata=metadata.about_table("closes"),
            description="One row is one realised part: one closing fill against one lot, with its P&L gross and net of commissions.",
        ),
        dg.AssetSpec(
            "position_events",
            deps=[trade_executions],
            group_name="book",
            kinds=KINDS,
            metadata=metadata.about_table("position_events"),
            description="One row is one step in the life of a position: opened, increased, reduced, closed, flipped, split, expired, ...",
        ),
    ],
)
def book(sync: dg.ResourceParam[SyncSession]) -> Iterator[Made]:
    """Positions, closes and events: held against the brokers' answers and shown together, because one transaction writes them."""
    with told():
        results = sync.reconciled()
        if all(result.outcome in ("failed", "rejected", "already_running") for result in results):
            raise no_account_left((r.account, "; ".join(error for _, error in r.errors)) for r in results)
        yield dg.MaterializeResult("reconciled_positions", metadata=metadata.of_positions(sync, results))
        yield dg.MaterializeResult("partial_close_pnl", metadata=metadata.of_closes(sync))
        yield dg.MaterializeResult("position_events", metadata=metadata.of_events(sync))


def no_account_left(reasons: Iterable[tuple[str, str]]) -> dg.Failure:
    """The end of a step in which every account failed: which, what happened, what to do. A retry within the run would meet the same."""
    nobody = "The brokers list no account. Check the login, and its rights."
    accounts: dict[str, list[str]] = {}
    for account, reason in reasons:
        accounts.setdefault(reason, []).append(account)
    lines = [verdicts.named(", ".join(each), reason) for reason, each in accounts.items()] or [nobody]
    return dg.Failure(
        description="No account could be synced; every position stays as it was. " + " ".join(lines),
        metadata={"accounts": dg.MetadataValue.md("\n".join(f"- {metadata.cut(line)}" for line in lines))},
        allow_retries=False,
    )


ASSETS = [broker_snapshots, trade_executions, book]
