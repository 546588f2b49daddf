"""What a listener tells Dagster: materializations of what it recorded, and that it lives. Without a run, and beside the work.

Belongs here: the one thread that talks to Dagster's webserver, over its HTTP interface for reports of external assets. Does not belong
here: anything that booking waits for. Dagster may be away for as long as it likes: what is told is summed up until it is back.

    POST /report_asset_materialization/<asset>, /report_asset_observation/<asset>

An asset with checks is observed, never materialized: a materialization is newer than the checks of the last run, which Dagster's pages then
show as not evaluated until the next one.
"""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two reports of what was recorded; each is a row of one or two kilobytes in Dagster's event log, kept for good."""

ALIVE = 300.0
"""Seconds between two observations that say that the listener lives."""

LONGEST_CALL = 10.0


@dataclass(slots=True)
class _Sum:
    """What was recorded since the last report."""

    fills: int = 0
    positions: int = 0
    batches: int = 0
    slowest: float = 0.0


@dataclass
class Reports:
    """Sums up and sends. `url` is that of Dagster's webserver; empty: nothing is told."""

    url: str = ""
    _sum: _Sum = field(default_factory=_Sum)
    _lock: Lock = field(default_factory=Lock)
    _health: dict[str, dict[str, Any]] = field(default_factory=dict)
    _stop: Event = field(default_factory=Event)
    _thread: Thread | None = None

    def start(self) -> None:
        if self.url:
            self._thread = Thread(target=self._run, name="reports", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Told at once; what was not sent by then is in the database all the same."""
        self._stop.set()

    def booked(self, fills: int, positions: int, seconds: float) -> None:
        """Some fills were committed, changing so many positions, so long after they were heard."""
        with self._lock:
            told = self._sum
            told.fills += fills
            told.positions += positions
            told.batches += 1
            told.slowest = max(told.slowest, seconds)

    def health(self, values: Mapping[str, Any]) -> None:
        """What a stream's row says now."""
        with self._lock:
            self._health[values["connection"]] = dict(values)

    def _run(self) -> None:
        alive_at = -ALIVE
        while not self._stop.wait(EVERY):
            self._report_recorded()
            if monotonic() - alive_at >= ALIVE and self._send("observation", "trade_executions", self._alive()):
                alive_at = monotonic()

    def _report_recorded(self) -> None:
        with self._lock:
            told, self._sum = self._sum, _Sum()
        if not told.batches:
            return
        metadata = {"source": "listener", "fills": told.fills, "batches": told.batches, "slowest_ms": round(told.slowest * 1000, 1)}
        sent = self._send("observation", "trade_executions", metadata)
        positions = {"source": "listener", "positions_changed": told.positions, "fills": told.fills}
        if sent and (not told.positions or self._send("materialization", "position_events", positions)):
            return
        with self._lock:
            self._sum.fills += told.fills
            self._sum.positions += told.positions
            self._sum.batches += told.batches
            self._sum.slowest = max(self._sum.slowest, told.slowest)

    def _alive(self) -> dict[str, Any]:
        with self._lock:
            streams = [dict(each) for each in self._health.values()]
        return {"source": "listener", "streams": json.loads(json.dumps(streams, default=str))}

    def _send(self, kind: str, asset: str, metadata: Mapping[str, Any]) -> bool:
        address = f"{self.url.rstrip('/')}/report_asset_{kind}/{asset}"
        body = json.dumps({"metadata": metadata}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310  the address is given by us
        try:
            with urllib.request.urlopen(request, timeout=LONGEST_CALL):  # noqa: S310
                return True
        except (urllib.error.URLError, OSError, ValueError) as error:
            log.info("Dagster does not take reports at the moment: %s", error)
            return False
