"""`position-pipeline listen`: the long-lived process that hears the brokers and has their fills in the book within milliseconds.

Belongs here: which threads there are, and how they begin and end. Does not belong here: hearing one connection (listener_hearing), syncs
that heal or were asked for (listener_errands), telling Dagster (listener_reports).

    per connection   connect -> stream (its own thread in the adapter) -> hear: take, record, keep the gap, show life
                     heal: a sync after each gap
    once             requests: syncs that are asked for     reports: to Dagster, beside the work
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

from position_pipeline import connections
from position_pipeline.listener_errands import House, Requests
from position_pipeline.listener_hearing import Hearing
from position_pipeline.listener_reports import Reports

if TYPE_CHECKING:
    from collections.abc import Callable

    from position_pipeline.brokers import StreamingBroker
    from position_pipeline.settings import Settings

log = logging.getLogger(__name__)

ALREADY_RUNNING = 75
PATIENCE = 10.0
"""Seconds that the streams may take to end."""


def listen(settings: Settings, *, stand_by: bool = False, report_to: str = "") -> int:
    """Hear all connections until SIGINT or SIGTERM; the exit code.

    Where another listener hears one of them: 75, or with `stand_by` wait until it is gone. Raises `NoBroker`, `DatabaseUnavailable` and
    `WrongRevision` where it cannot even begin.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    with connections.store(settings):
        pass  # what is wrong with the database is told before anything begins
    listener = Listener(settings, stand_by=stand_by, report_to=report_to)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: listener.house.stop.set())
    # Python collects the garbage of connections, which stand in circles, only when it has grown by a quarter of everything that is alive:
    # without the modules in it, that is soon, and takes no time.
    gc.collect()
    gc.freeze()
    return listener.run()


class Listener:
    """The threads of one listener. `finds` gives each connection's broker, by name."""

    def __init__(
        self, settings: Settings, *, stand_by: bool, report_to: str, finds: dict[str, Callable[[], StreamingBroker]] | None = None
    ) -> None:
        self._finds = brokers(settings) if finds is None else finds
        self.house = House(settings, partial(connections.store, settings), Reports(report_to), tuple(self._finds))
        self.hearings = [Hearing(name, find, self.house, stand_by=stand_by) for name, find in self._finds.items()]
        self._requests = Requests(self._finds, self.house)

    def run(self) -> int:
        """Until `house.stop` is set."""
        self.house.reports.start()
        for hearing in self.hearings:
            hearing.start()
        self._requests.start()
        log.info("Listening to %s", ", ".join(self._finds))
        self.house.stop.wait()
        self.house.reports.stop()
        for hearing in self.hearings:
            hearing.join(PATIENCE)
        self._requests.join(1.0)
        taken = [hearing.health.connection for hearing in self.hearings if hearing.taken]
        if taken:
            log.error("Another listener hears %s already; there can be only one for a connection.", ", ".join(taken))
            return ALREADY_RUNNING
        log.info("Stopped")
        return 0


def brokers(settings: Settings) -> dict[str, Callable[[], StreamingBroker]]:
    """How to find each connection's broker. A configured one stays what it is; the simulated one may come back elsewhere."""
    if not settings.ibkr_connections():
        return {connections.SIMULATED: lambda: connections.brokers(settings)[0]}
    return {broker.name: partial(_same, broker) for broker in connections.brokers(settings)}


def _same(broker: StreamingBroker) -> StreamingBroker:
    return broker
