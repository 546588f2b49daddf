"""The claims that every run proves anew, and those that are proven every night.

Belongs here: which claim is about which asset, how bad it is when it fails, and how the verdict is shown. Does not belong here: the
verdicts (verdicts, verdicts_of_answers).

Three severities. A book that contradicts itself (cash identity, lots, orphans) is a fault of ours: it blocks, fails the run, and nothing is
built on it. A broker that holds or counts something else than the book is an error of one position, and the other figures of the run
are right. What is only late or not provable is a warning.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import dagster as dg

from position_pipeline import verify
from position_pipeline.defs import verdicts, verdicts_of_answers
from position_pipeline.defs.metadata import of_verdict
from position_pipeline.defs.resources import told
from position_pipeline.defs.session import SyncSession
from position_pipeline.defs.verdicts import Verdict
from position_pipeline.market_hours import open_time, working_time

SNAPSHOT_IS_COMPLETE = dg.AssetCheckSpec(
    "snapshot_is_complete",
    asset="broker_snapshots",
    description="Every account's answer is proven complete. Runs with the asset, so that it is told even when no account answered.",
)


Decision = Callable[[SyncSession], Verdict]

SPECS: list[dg.AssetCheckSpec] = []
DECISIONS: dict[str, Decision] = {}


def claim(*, asset: str, blocking: bool = False) -> Callable[[Decision], Decision]:
    """A function that decides whether a claim about an asset holds; its name and docstring are those of the claim."""

    def kept(decide: Decision) -> Decision:
        SPECS.append(dg.AssetCheckSpec(decide.__name__, asset=asset, blocking=blocking, description=decide.__doc__))
        DECISIONS[decide.__name__] = decide
        return decide

    return kept


@claim(asset="reconciled_positions")
def quantities_match_broker(sync: SyncSession) -> Verdict:
    """The quantity of every position is exactly what the broker's last proven answer says."""
    read = sync.store.read
    return verdicts.quantities_match_broker(read.disagreements(), compared=len(read.positions()))


@claim(asset="reconciled_positions")
def positions_are_explained(sync: SyncSession) -> Verdict:
    """No position rests on the broker's list alone: what the book adopted from it has been explained since, or accepted by a person."""
    read = sync.store.read
    return verdicts.positions_are_explained([row for row in read.breaks() if row["adopted"]], compared=len(read.positions()))


@claim(asset="partial_close_pnl", blocking=True)
def cash_identity_holds(sync: SyncSession) -> Verdict:
    """Net realised P&L less remaining cost and commissions equals the cash received: exactly, for each account and instrument."""
    return verdicts.cash_identity_holds(sync.store.read.cash_flows())


@claim(asset="reconciled_positions", blocking=True)
def lots_sum_to_positions(sync: SyncSession) -> Verdict:
    """Quantity, cost and open commission of every position are the sums of its lots, to the last digit."""
    read = sync.store.read
    return verdicts.lots_sum_to_positions(sync.store.claims.positions_beside_their_lots(), read.row_counts()["positions"])


@claim(asset="partial_close_pnl", blocking=True)
def closes_have_openings(sync: SyncSession) -> Verdict:
    """Every close rests on an opening and a closing entry that are believed: none that was corrected, busted or taken back."""
    return verdicts.closes_have_openings(sync.store.claims.orphans(), sync.store.read.row_counts()["closes"])


@claim(asset="partial_close_pnl")
def realized_pnl_ties_to_broker(sync: SyncSession) -> Verdict:
    """Where the broker gives its own realised P&L of an execution, ours is the same, to two cents."""
    return verdicts_of_answers.realized_pnl_ties_to_broker(sync.store.claims.beside_the_brokers_pnl())


@claim(asset="reconciled_positions")
def broker_cost_is_explained(sync: SyncSession) -> Verdict:
    """Where the broker's average of a position is not ours, its method or its fees explain the difference."""
    claims = sync.store.claims
    return verdicts_of_answers.broker_cost_is_explained(claims.cost_breaks(), claims.compared_costs())


@claim(asset="reconciled_positions")
def portfolio_value_adds_up(sync: SyncSession) -> Verdict:
    """Cash and positions of every account come to the broker's own net liquidation value, to 2 % of the positions' value."""
    claims = sync.store.claims
    return verdicts_of_answers.portfolio_value_adds_up(claims.account_values(), claims.valued_positions())


@claim(asset="trade_executions")
def fills_have_commissions(sync: SyncSession) -> Verdict:
    """Every fill has its commission within a day."""
    late = sync.store.claims.without_commission(ago(days=1))
    return verdicts_of_answers.fills_have_commissions(late, sync.store.read.row_counts()["executions"])


@claim(asset="trade_executions")
def executions_have_no_gaps(sync: SyncSession) -> Verdict:
    """No part of a trading day of the last month is without its executions: the broker lists those of its own day only."""
    claims, after, limit = sync.store.claims, ago(days=30), timedelta(seconds=sync.stale_after)
    unlistened, covered = claims.unlistened(after, limit), claims.covered(after)
    return verdicts_of_answers.executions_have_no_gaps(unlistened, covered, claims.last_proven(), limit, open_time)


@claim(asset="trade_executions")
def streams_are_whole(sync: SyncSession) -> Verdict:
    """Every listener lives and hears its broker, and what it may have missed was made good; a moment's loss is none."""
    return verdicts_of_answers.streams_are_whole(sync.store.streaming.streams(), ago(), sync.stale_after)


@claim(asset="reconciled_positions")
def positions_are_fresh(sync: SyncSession) -> Verdict:
    """Every account's last proven answer is recent, by the broker's own clock: a run on last known data makes nothing fresh.

    While nothing that the account holds can be traded, and in the broker's nightly reset, silence is excused; never for more than 26 hours.
    """
    silence = partial(working_time, window=sync.reset_window)
    return verdicts_of_answers.positions_are_fresh(sync.store.claims.last_proven(), ago(), sync.stale_after, silence)


def ago(**how_long: float) -> datetime:
    return datetime.now(UTC) - timedelta(**how_long)


@dg.asset_check(asset="reconciled_positions")
def book_rebuilds_to_itself(sync: dg.ResourceParam[SyncSession]) -> dg.AssetCheckResult:
    """Every position, made anew from its first entry, is what is stored: quantities, lots, closes and events, to the last digit.

    The same as the command `position-pipeline verify`. It reads the whole history, so it runs once a night.
    """
    with told():
        return shown(verdicts.book_rebuilds_to_itself(verify.verify(sync.store)))


@dg.multi_asset_check(name="claims", specs=SPECS, can_subset=True)
def claims(context: dg.AssetCheckExecutionContext, sync: dg.ResourceParam[SyncSession]) -> Iterator[dg.AssetCheckResult]:
    """All of them in one step: each step costs a run a dozen events and the database as many rows."""
    wanted = {key.name for key in context.selected_asset_check_keys}
    for spec in (spec for spec in SPECS if spec.name in wanted):
        with told():
            yield shown(DECISIONS[spec.name](sync), spec)


def shown(verdict: Verdict, spec: dg.AssetCheckSpec | None = None) -> dg.AssetCheckResult:
    """A verdict as Dagster shows it; `spec` where a step has several results."""
    return dg.AssetCheckResult(
        check_name=spec.name if spec else None,
        asset_key=spec.asset_key if spec else None,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.WARN if verdict.mild else dg.AssetCheckSeverity.ERROR,
        description=verdict.says,
        metadata=of_verdict(verdict),
    )


NIGHTLY = [book_rebuilds_to_itself]
CHECKS = [claims, *NIGHTLY]
