"""Interactive Brokers, listened to: one long-lived connection to TWS or IB Gateway that tells fills and holdings as they happen.

Belongs here: the thread in which the connection lives, and handing over what it heard. Does not belong here: what is asked, and when
(ibkr_conversation.py), what is news (ibkr_heard.py), the handshake (ibkr_session.py), connecting again (listener).
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from position_pipeline.brokers import BrokerUnavailable, News
from position_pipeline.brokers import ibkr_trouble as trouble
from position_pipeline.brokers.ibkr_conversation import Conversation, LiveSession
from position_pipeline.brokers.ibkr_heard import Heard
from position_pipeline.brokers.ibkr_session import Deadline, Route, open_session
from position_pipeline.brokers.ibkr_trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from position_pipeline.brokers.ibkr_pacing import Pace

GRACE = 1.0
"""Seconds beyond its deadline after which a thread that does not end is left behind."""


class IbkrStream:
    """See `brokers.Stream`. Made connected; `where` is for messages."""

    def __init__(self, open_: Callable[[], Route], client_class: Callable[[], Any], wanted: Sequence[str], pace: Pace, **more: Any) -> None:
        self.client_id = -1
        self._where, self._zone, self._most = more["where"], more["time_zone"], more["most"]
        self._timeout: float = more["timeout"]
        self._open, self._client_class, self._wanted, self._pace = open_, client_class, tuple(wanted), pace
        self._heard = Heard(wanted)
        self._changed = threading.Condition()
        self._whole, self._lost, self._said_whole = False, "", False
        self.heard_at = datetime.now(UTC)
        self._trouble: Trouble | None = None
        self._connected = self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="ibkr-stream", daemon=True)
        self._thread.start()
        self._await_connection()

    # -- for the one who listens, in any thread

    def take(self, timeout: float) -> News | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_news() or self._ended, timeout)
            if self._is_news():
                return self._news()
            if self._ended:
                raise self._unavailable()
        return None

    def close(self) -> None:
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
        self._thread.join(GRACE)

    def _is_news(self) -> bool:
        return self._heard.any or bool(self._lost) or self._whole != self._said_whole

    def _news(self) -> News:
        fills, instruments, held, refused = self._heard.hand_over()
        lost, self._lost, self._said_whole = self._lost, "", self._whole
        return News(self.heard_at, self._whole, lost, fills, instruments, held, refused)

    def _unavailable(self) -> BrokerUnavailable:
        ended = self._trouble or Trouble("the stream was closed", "")
        return BrokerUnavailable(f"{self._where}: {ended}.", ended.remedy)

    def _await_connection(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._connected or self._ended, self._timeout + GRACE)
            if self._connected:
                return
            if not self._ended:
                self._trouble = trouble.unanswered_connection(self._timeout)
        self.close()
        raise self._trouble or Trouble("the stream was closed", "")

    # -- the thread

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                # What blocks (importing the library, which needs the thread's loop, and looking up the host) before the loop runs.
                client_class, route = self._client_class(), self._open()
                runner.run(self._listen(client_class, route))
        except Trouble as ended:
            self._trouble = ended
        except BaseException as error:  # noqa: BLE001 - told where the stream is taken from
            self._trouble = Trouble(f"the stream broke ({type(error).__name__}: {error})", "")
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    async def _listen(self, client_class: Callable[[Any], Any], route: Route) -> None:
        self._stop = asyncio.Event()
        deadline = Deadline(monotonic() + self._timeout, self._timeout)
        session = await open_session(client_class, route, deadline, self._zone, LiveSession)
        assert isinstance(session, LiveSession)
        try:
            if len(session.answer.managed) > self._most:
                raise trouble.too_many_accounts(len(session.answer.managed), self._most)
            await Conversation(self, session).hold(self._stop)
        finally:
            with suppress(Exception):
                session.client.cancelPositions()
            await session.close()

    # -- what the conversation tells, in the thread's loop

    def connected(self, client_id: int) -> None:
        with self._changed:
            self.client_id, self._connected = client_id, True
            self._changed.notify_all()

    def heard(self, session: LiveSession) -> list[tuple[str, str]]:
        """Take in what came; the (account, instrument) of changed holdings that no fill of the same moment explains."""
        with self._changed:
            self.heard_at = session.received_at
            moved = self._heard.take_in(session.answer, session.heard_at)
            if self._heard.any:
                self._changed.notify_all()
        session.answer.notices.clear()
        return moved

    def release(self) -> float | None:
        """Tell executions that waited long enough for their commission; when the next will have."""
        if self._heard.due_at is None:
            return None
        with self._changed:
            self._heard.release(monotonic())
            if self._heard.any:
                self._changed.notify_all()
        return self._heard.due_at

    def state(self, *, whole: bool, lost: str = "") -> None:
        if whole == self._whole and not lost:
            return
        with self._changed:
            self._whole, self._lost = whole, lost or self._lost
            self._changed.notify_all()

    @property
    def memory(self) -> Heard:
        return self._heard

    @property
    def pace(self) -> Pace:
        return self._pace

    @property
    def patience(self) -> float:
        """Seconds that any list may take."""
        return self._timeout

    def accounts(self, managed: Sequence[str]) -> tuple[str, ...]:
        return tuple(each for each in managed if not self._wanted or each in self._wanted)
