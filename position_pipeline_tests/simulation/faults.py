"""What may be wrong with one answer of the broker, as functions from a true answer to a false one.

Belongs here: each fault. Does not belong here: when it happens (plan.py), what the true answer is (world.py). Only what a broker does: a
list that is cut short and does not add up to the account's own total is rejected by the adapter, so it comes rejected here.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

from position_pipeline.accounting.model import SnapshotStatus
from position_pipeline.brokers import BrokerUnavailable

if TYPE_CHECKING:
    from position_pipeline.accounting.model import Snapshot
    from position_pipeline.brokers import Capture
    from position_pipeline_tests.simulation.world import World

ANSWERS = ("away", "rejected", "empty", "cut", "unread", "forgot", "stale", "late_fills", "no_fills", "cut_fills", "doubled", "killed")
"""`killed` is not the broker's fault: the process ends between recording and reconciling."""

UNTRUE = frozenset({"forgot"})
"""Answers that say what is not so, and that nothing proves wrong."""

UNPROVEN = frozenset({"away", "rejected", "empty", "cut"})
"""Answers that must not touch anything."""


def answer(world: World, fault: str, choice: int) -> Capture:  # noqa: PLR0911  one return a fault
    """The answer of this moment with a fault, or as it is."""
    draw = Random(f"{world.plan.seed}/{choice}/{fault}")
    if fault == "away":
        raise BrokerUnavailable("The broker cannot be reached.")
    if fault == "stale":
        return replace(world.capture(holdings_at=world.now - timedelta(seconds=draw.choice((20, 200, 900)))))
    true = world.capture()
    if fault in ("rejected", "empty", "cut"):
        return replace(true, snapshots=tuple(_rejected(each, fault) for each in true.snapshots), fills=())
    if fault in ("unread", "forgot"):
        return replace(true, snapshots=tuple((_unread if fault == "unread" else _forgot)(each, draw) for each in true.snapshots))
    if fault == "late_fills":
        since = world.now - timedelta(seconds=draw.choice((60, 600, 7200)))
        return replace(true, fills=tuple(fill for fill in true.fills if fill.time <= since))
    if fault == "no_fills":
        return replace(true, fills=())
    if fault == "cut_fills":
        return replace(true, fills=tuple(fill for fill in true.fills if draw.random() < 0.5))
    if fault == "doubled":
        return replace(true, fills=tuple(draw.sample(true.fills * 2, 2 * len(true.fills))))
    return true


def _rejected(snapshot: Snapshot, fault: str) -> Snapshot:
    return replace(snapshot, status=SnapshotStatus.REJECTED, holdings=(), values=(), reason=f"The list of positions was {fault}.")


def _unread(snapshot: Snapshot, draw: Random) -> Snapshot:
    """One row could not be read."""
    if not snapshot.holdings:
        return snapshot
    lost = draw.choice(snapshot.holdings)
    kept = tuple(each for each in snapshot.holdings if each is not lost)
    errors = {lost.instrument: "its row could not be read"}
    return replace(snapshot, status=SnapshotStatus.PARTIAL, holdings=kept, errors=errors, unread=frozenset({lost.instrument}))


def _forgot(snapshot: Snapshot, draw: Random) -> Snapshot:
    """One holding, too small for the account's total to show it, is not in a list that looks complete."""
    small = [each for each in snapshot.holdings if abs(each.market_value or 0) < 1_000]
    lost = draw.choice(small) if small else None
    return replace(snapshot, holdings=tuple(each for each in snapshot.holdings if each is not lost))
