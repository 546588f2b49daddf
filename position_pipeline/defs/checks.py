"""The claims about the book that every run proves anew, and the one that is proven every night.

Belongs here: which claim is about which asset, how bad it is when it fails, and how the verdict is shown. Does not belong here: the
verdicts (verdicts).

Only a blocking check fails its run: the cash identity, because a book that does not add up is a fault of ours. A broker that answered
in part, or that holds something else than the book, is a finding, and the other accounts' figures of the run are right.
"""

import dagster as dg

from position_pipeline import verify
from position_pipeline.defs import verdicts
from position_pipeline.defs.metadata import of_verdict
from position_pipeline.defs.resources import told
from position_pipeline.defs.session import SyncSession
from position_pipeline.defs.verdicts import Verdict

SNAPSHOT_IS_COMPLETE = dg.AssetCheckSpec(
    "snapshot_is_complete",
    asset="broker_snapshots",
    description="Every account's answer is proven complete. Runs with the asset, so that it is told even when no account answered.",
)


@dg.asset_check(asset="reconciled_positions")
def quantities_match_broker(sync: dg.ResourceParam[SyncSession]) -> dg.AssetCheckResult:
    """The quantity of every position is exactly what the broker's last proven answer says."""
    with told():
        read = sync.store.read
        return shown(verdicts.quantities_match_broker(read.disagreements(), compared=len(read.positions())))


@dg.asset_check(asset="partial_close_pnl", blocking=True)
def cash_identity_holds(sync: dg.ResourceParam[SyncSession]) -> dg.AssetCheckResult:
    """Net realised P&L less remaining cost and commissions equals the cash received: exactly, for each account and instrument."""
    with told():
        return shown(verdicts.cash_identity_holds(sync.store.read.cash_flows()))


@dg.asset_check(asset="reconciled_positions")
def book_rebuilds_to_itself(sync: dg.ResourceParam[SyncSession]) -> dg.AssetCheckResult:
    """Every position, made anew from its first entry, is what is stored: quantities, lots, closes and events, to the last digit.

    The same as the command `position-pipeline verify`. It reads the whole history, so it runs once a night.
    """
    with told():
        return shown(verdicts.book_rebuilds_to_itself(verify.verify(sync.store)))


def shown(verdict: Verdict, name: str | None = None) -> dg.AssetCheckResult:
    """A verdict as Dagster shows it; `name` where a step has several outputs."""
    return dg.AssetCheckResult(
        check_name=name,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.WARN if verdict.mild else dg.AssetCheckSeverity.ERROR,
        description=verdict.says,
        metadata=of_verdict(verdict),
    )


NIGHTLY = [book_rebuilds_to_itself]
CHECKS = [quantities_match_broker, cash_identity_holds, *NIGHTLY]
