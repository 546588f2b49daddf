"""One connection, listened to: what its stream tells is in the book within milliseconds, and what it may have missed is written down.

Belongs here: the thread that takes news from a stream, connects again, and keeps the stream's row and its gap. Does not belong here: the
wire (brokers), recording (listener_recording), reading the broker whole after a gap (listener_errands).

    waiting --connect--> connected --link lost--> link_lost
       ^                     |                        |
       +------ ended --------+------------------------+

A gap is open from the last moment at which the stream was whole. It is healed by a sync that began after the stream was whole again.

While PostgreSQL is away nothing is taken from the stream, which keeps what it hears, within bounds, and asks again for what found no room.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

from position_pipeline.brokers import BrokerUnavailable
from position_pipeline.listener_errands import Backoff, Healing, holdings_asker
from position_pipeline.listener_recording import Recording
from position_pipeline.store import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from position_pipeline.brokers import News, Stream, StreamingBroker
    from position_pipeline.listener_errands import House
    from position_pipeline.store import Store

log = logging.getLogger(__name__)

TICK = 0.5
"""Seconds after which a quiet stream is left for a moment, to look whether anything else is due."""

BEAT = 2.0
"""Seconds between two writes of the stream's row."""

STAND_BY = 5.0
"""Seconds between two looks whether another listener has gone."""

LASTED = 60.0
"""Seconds after which a connection counts as a good one: the next loss is answered at once."""


@dataclass(slots=True)
class Health:
    """What the row of a stream says; the names are its columns. Counts are since the listener started."""

    connection: str
    state: str = "waiting"
    detail: str = ""
    client_id: int | None = None
    connected_at: datetime | None = None
    disconnected_at: datetime | None = None
    last_event_at: datetime | None = None
    last_heard_at: datetime | None = None
    events: int = 0
    fills: int = 0
    triggers: int = 0


class Hearing:
    """See above. `find` gives the broker, anew for each attempt to connect: a simulated one may have moved."""

    def __init__(self, name: str, find: Callable[[], StreamingBroker], house: House, *, stand_by: bool) -> None:
        self.health = Health(name)
        self.taken = False
        """Another listener has the connection, and this one does not stand by."""
        self._name, self._find, self._house, self._stand_by = name, find, house, stand_by
        self._healing = Healing(name, find, house)
        self._thread = Thread(target=self._run, name=f"hear-{name}", daemon=True)
        self._inside = ExitStack()
        self._store: Store | None = None
        self._stream: Stream | None = None
        self._opening: SimpleQueue[Stream | BaseException] | None = None
        self._database, self._broker = Backoff(0.1, 5), Backoff(0.5, 60)
        self._holdings = holdings_asker(house.settings)
        self._recording = Recording(name, house)
        self._gap: tuple[datetime, str] | None = None
        self._whole = self._begun = False
        self._up_since = self._beaten_at = 0.0
        self._written: Health | None = None

    def start(self) -> None:
        self._thread.start()
        self._healing.start()

    def join(self, seconds: float) -> None:
        """Wait until the stream is closed and its row says so."""
        self._thread.join(seconds)
        self._healing.join(0.5)

    # -- the thread

    def _run(self) -> None:
        stop = self._house.stop
        while not stop.is_set():
            try:
                self._step()
            except DatabaseUnavailable as error:
                self._leave(str(error))
            except Exception:
                # A fault of ours must not end the hearing of this connection for good.
                log.exception("%s: a fault in position-pipeline; the connection is made anew", self._name)
                self._lose("a fault in position-pipeline")
                stop.wait(1)
        self._end()

    def _step(self) -> None:
        if self._store is None and not self._enter():
            self._house.stop.wait(min(self._database.left, TICK))
            return
        if self._stream is None:
            self._connect()
        self._hear()
        self._write()

    def _enter(self) -> bool:
        """Open the database and become the connection's only listener; False where that has to wait."""
        if self._database.left:
            return False
        try:
            store = self._inside.enter_context(self._house.open_store(in_a_hurry=True))
            free = store.streaming.take(self._name)
        except Exception as error:  # noqa: BLE001  whatever it is, the stream goes on and the next attempt comes
            self._database.fail()
            self._inside.close()
            log.warning("%s: %s", self._name, " ".join(str(error).split()))
            return False
        if not free:
            self._inside.close()
            self._stand_aside()
            return False
        self._store = store
        self._database.reset()
        if not self._begun:
            self._begin(store)
        return True

    def _stand_aside(self) -> None:
        # Once it has begun, the lock may well be its own, of a connection that PostgreSQL does not know to be gone yet.
        if not self._stand_by and not self._begun:
            self.taken = True
            self._house.stop.set()
            return
        if self.health.detail != "stand-by":
            log.info("%s: another listener hears this connection; standing by", self._name)
            self.health.detail = "stand-by"
        self._lose("another listener has taken over")
        self._house.stop.wait(STAND_BY)

    def _begin(self, store: Store) -> None:
        before = store.streaming.begin(self._name)
        since = datetime.now(UTC) if before is None else before["last_heartbeat_at"]
        self._begun = True
        self._miss(since, _why(before["state"] if before else None))

    def _leave(self, why: str) -> None:
        """PostgreSQL is gone. The stream stays, and what it hears waits in it."""
        log.warning("%s: %s", self._name, why)
        self._store, self._written = None, None
        self._inside.close()
        self._database.fail()

    # -- the stream

    def _connect(self) -> None:
        """Connect in a thread of its own: it may take as long as a broker may, and the row has to show life meanwhile."""
        if self._opening is None:
            if self._broker.left:
                return
            self._opening = SimpleQueue()
            Thread(target=self._open, args=(self._opening,), name=f"connect-{self._name}", daemon=True).start()
        if self._opening.empty():
            return
        opened, self._opening = self._opening.get(), None
        if isinstance(opened, BaseException):
            self._broker.fail()
            self._say_waiting(str(opened))
            return
        self._stream, self._up_since = opened, monotonic()
        health = self.health
        health.state, health.detail, health.client_id = "connected", "", opened.client_id
        health.connected_at = health.last_heard_at = opened.heard_at
        log.info("%s: connected with client id %s", self._name, opened.client_id)

    def _open(self, result: SimpleQueue[Stream | BaseException]) -> None:
        try:
            result.put(self._find().stream(self._house.settings.broker_timeout))
        except Exception as error:  # noqa: BLE001  told by who waits for it
            result.put(error)

    def _say_waiting(self, why: str) -> None:
        if self.health.detail != why:
            log.warning("%s: %s", self._name, why)
        self.health.state, self.health.detail = "waiting", why

    def _hear(self) -> None:
        """Take what the stream has, and record it. Nothing is taken while something waits to be recorded."""
        assert self._store is not None
        recording = self._recording
        if recording.waiting and recording.trouble.left:
            self._house.stop.wait(min(recording.trouble.left, TICK))
        elif not recording.waiting and self._stream is None:
            self._house.stop.wait(0.02 if self._opening else min(self._broker.left + 0.01, TICK))
        elif not recording.waiting and self._stream is not None:
            self._take(self._stream, TICK)
        if recording.waiting and not recording.trouble.left:
            recording.record(self._store)
            self.health.fills = recording.recorded

    def _take(self, stream: Stream, seconds: float) -> None:
        try:
            news = stream.take(seconds)
        except BrokerUnavailable as ended:
            self._lose(str(ended))
            return
        if news is not None:
            self._note(news)
        self.health.last_heard_at = stream.heard_at

    def _note(self, news: News) -> None:
        health = self.health
        self._recording.add(news)
        if news.lost:
            log.warning("%s: %s", self._name, news.lost)
            self._miss(health.last_heard_at or news.heard_at, news.lost)
        if news.fills or news.held:
            health.last_event_at = news.heard_at
            health.events += len(news.fills) + len(news.held)
        self._holdings.hear({key: quantity for key, quantity in news.held.items() if self._house.wants(key[0])})
        if news.whole:
            health.state, health.detail = "connected", ""
        elif news.lost:
            health.state, health.detail = "link_lost", news.lost
        if news.whole and not self._whole:
            # What is held now is looked at by the sync that heals.
            self._holdings.forget()
        self._whole = news.whole

    def _lose(self, why: str) -> None:
        """The connection is gone: whatever happens now is not heard."""
        stream, self._stream, self._whole = self._stream, None, False
        if stream is None:
            return
        if monotonic() - self._up_since > LASTED:
            self._broker.reset()
        self._broker.fail()
        self._miss(self.health.last_heard_at or stream.heard_at, why)
        self.health.disconnected_at, self.health.client_id = datetime.now(UTC), None
        self._say_waiting(why)
        stream.close()

    def _miss(self, since: datetime, why: str) -> None:
        self._gap = min(self._gap or (since, why), (since, why))
        self._healing.lost()

    # -- the rows

    def _write(self) -> None:
        """Keep the gap, ask for what heals it, look at the holdings, show life."""
        store = self._store
        if store is None:
            return
        if self._gap is not None:
            store.streaming.open_gap(self._name, *self._gap)
            self._gap = None
        if self._whole and not self._recording.waiting:
            self._healing.heal()
            self.health.triggers += self._holdings.ask(store)
        now = monotonic()
        if now - self._beaten_at >= BEAT or self._written is None or self._written.state != self.health.state:
            store.streaming.beat(asdict(self.health))
            self._beaten_at, self._written = now, Health(**asdict(self.health))
            self._house.reports.health(asdict(self.health))

    def _end(self) -> None:
        """Record what is waiting, unsubscribe, free the client id and the lock, and say so."""
        try:
            if self._store is not None and self._stream is not None:
                self._take(self._stream, 0)
                self._recording.record(self._store)
                self.health.fills = self._recording.recorded
        except Exception as error:  # noqa: BLE001  it is listed again when we are back
            log.warning("%s: %s", self._name, error)
        if self._stream is not None:
            self._stream.close()
            self.health.disconnected_at = datetime.now(UTC)
        try:
            if self._store is not None:
                self.health.state, self.health.detail, self.health.client_id = "stopped", "", None
                self._store.streaming.beat(asdict(self.health))
            self._inside.close()
        except Exception as error:  # noqa: BLE001  the next start finds a row that is too old
            log.warning("%s: %s", self._name, error)


def _why(state: str | None) -> str:
    """Why nobody listened until now, from what the stream's row said."""
    if state is None:
        return "it was never listened to before"
    return "the listener was stopped" if state == "stopped" else "the listener ended without a word"
