"""One connection to TWS or IB Gateway, from the first byte to the last: asking, waiting, and noticing every way in which it can end.

Belongs here: requests, end markers and deadlines. Does not belong here: the meaning of rows (ibkr_answer.py) and of their absence
(ibkr_proof.py), the words for failures (ibkr_trouble.py).

The library brings the socket, the handshake, the pacing of requests and their wire form. Its decoder is replaced: it loses rows that it
cannot read, its results are floats, a lost end marker leaves a request waiting for ever, and two requests share one key. Rows that
follow the handshake do not pass through it at all.

Requests that carry no id (positions, account updates) are asked one at a time, so that an error without an id has an owner.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from position_pipeline.brokers import ibkr_trouble as trouble
from position_pipeline.brokers.ibkr_answer import Answer
from position_pipeline.brokers.ibkr_trouble import ClientIdTaken, Trouble
from position_pipeline.brokers.ibkr_wire import Frames, fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from position_pipeline.brokers.ibkr_answer import Notice

QUIET = 1.0
"""Seconds of silence after which account values that came count as all there are: the end marker of a linked account may never come."""

COMMISSION_WAIT, COMMISSION_QUIET = 1.0, 0.3
"""Seconds given to commission reports that follow the executions, in all and since the last byte. They may be minutes late."""


class Deadline(NamedTuple):
    """The moment (of `time.monotonic()`) at which a capture ends, and how many seconds it was given."""

    at: float
    seconds: float


class Route(NamedTuple):
    """Where a gateway may be found, and the client ids that may be used there, best first."""

    addresses: Sequence[str]
    port: int
    client_ids: Sequence[int]


class Filter(NamedTuple):
    """Which executions are asked for, with the names that the library reads. One without an account may never be answered."""

    acctCode: str  # noqa: N815
    clientId: int = 0  # noqa: N815
    time: str = ""
    symbol: str = ""
    secType: str = ""  # noqa: N815
    exchange: str = ""
    side: str = ""


class Session:
    """One connection and what came over it. Never used twice: an object that reconnects keeps positions that are gone.

    `client_class` is the library's. To the library this object is its wrapper and its decoder: it calls `interpret`, `connectAck`,
    `setEventsDone` and `connectionClosed`.
    """

    def __init__(self, client_class: Callable[[Any], Any], deadline: Deadline, zone: str = "UTC") -> None:
        self.answer = Answer(zone)
        self.deadline = deadline
        self.received_at = datetime.now(UTC)
        self._phase = "the connection"
        self._failure: Trouble | None = None
        self._ready = self._closing = False
        self._frames = Frames()
        self._heard_at = monotonic()
        self._news = asyncio.Event()
        self._client = client_class(self)
        self._client.decoder = self
        # In place of the library's reader, which copies the rest of its buffer for every message: seconds for 100,000 executions.
        self._client.conn.hasData.clear()
        self._client.conn.hasData += self._received
        self._client.conn.disconnected += self._lost

    @property
    def remaining(self) -> float:
        """Seconds to the deadline."""
        return max(self.deadline.at - monotonic(), 0.0)

    # -- steps

    async def connect(self, host: str, port: int, client_id: int) -> None:
        """Connect and wait until the gateway has named its accounts. Raises Trouble, or OSError where nothing is reached."""
        task = asyncio.ensure_future(self._client.connectAsync(host, port, client_id, None))
        task.add_done_callback(lambda _: self._news.set())
        try:
            done = await self._until(task.done)
        finally:
            connected = self._client.conn.transport is not None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if not done and connected:
            raise trouble.unanswered_handshake(self.deadline.seconds, self.answer.notices)
        if not done:
            raise trouble.unanswered_connection(self.deadline.seconds)
        task.result()
        self._ready = True

    async def positions(self) -> None:
        """Ask for the positions of all accounts. Raises Trouble when the request is refused or its end marker does not come."""
        self.answer.positions_ended = self.answer.settled = False
        refusal = self._ask("the positions list", self._client.reqPositions)
        ended = await self._until(lambda: self.answer.positions_ended or bool(refusal()))
        if refusal():
            raise trouble.refused(self._phase, refusal())
        if not ended:
            raise trouble.unanswered(self._phase, self.deadline.seconds, self.answer.rows, self.answer.notices)
        for account in self.answer.managed:
            self.answer.of(account).listed = True

    async def account(self, account: str, patience: float) -> None:
        """Ask for the values and the portfolio of one account, giving up after `patience` seconds without a word."""
        rows = self.answer.of(account)
        self.answer.asked = account
        refusal = self._ask(f"the account values of {account}", lambda: self._client.reqAccountUpdates(True, account))

        def quiet() -> float:
            # A linked account never ends its download: values that came and then silence are its answer.
            return min(QUIET, patience) if rows.values else patience

        await self._until(lambda: rows.downloaded or bool(refusal()), quiet)
        rows.refusal = refusal()

    async def executions(self, accounts: Sequence[str], patience: float) -> None:
        """Ask for today's executions, account by account, all at once: these requests carry ids. Then wait a little for commissions."""
        if self._failure:
            raise self._failure
        requests = {account: self._client.getReqId() for account in accounts}
        known = len(self.answer.notices)

        def refused(request: int) -> str:
            return next((trouble.told(each) for each in self.answer.notices[known:] if each.request == request), "")

        def finished() -> bool:
            return all(str(each) in self.answer.executions_ended or refused(each) for each in requests.values())

        def send() -> None:
            self._client.reqCurrentTime()
            for account, request in requests.items():
                self._client.reqExecutions(request, Filter(account))

        self._ask(f"the executions of {', '.join(accounts)}", send)
        await self._until(finished, lambda: patience)
        self.answer.settled = True
        for account, request in requests.items():
            rows = self.answer.of(account)
            rows.executed = str(request) in self.answer.executions_ended
            rows.refusal = rows.refusal or refused(request)
        await self._commissions()

    async def close(self) -> None:
        """End the connection, whatever state it is in, so that the client id is free again. Never raises for a broken socket."""
        self._closing = True
        connection = self._client.conn
        transport = connection.transport
        with suppress(Exception):
            self._client.disconnect()
        for pause in (0, 0, 0.005, 0.01, 0.02, 0.05):
            if connection.transport is None:
                return
            await asyncio.sleep(pause)
        if transport is not None:
            transport.abort()
            await asyncio.sleep(0)

    # -- waiting

    def _ask(self, phase: str, send: Callable[[], None]) -> Callable[[], str]:
        """Send a request; the returned function gives the refusal that came for one without an id, or ''."""
        if self._failure:
            raise self._failure
        self._phase, self._heard_at, known = phase, monotonic(), len(self.answer.notices)
        send()

        def refusal() -> str:
            # 321 is what a gateway answers to a request that it does not accept; ib_async takes it for a warning and waits on.
            fresh = self.answer.notices[known:]
            return next((trouble.told(each) for each in fresh if each.code == trouble.REFUSED and each.request <= 0), "")

        return refusal

    async def _until(self, done: Callable[[], bool], quiet: Callable[[], float] | None = None) -> bool:
        """Wait until `done()`; False at the deadline, or after `quiet()` seconds without a byte. Raises the failure of the connection."""
        while self._failure is None and not done():
            limit = self.deadline.at if quiet is None else min(self.deadline.at, self._heard_at + quiet())
            left = limit - monotonic()
            if left <= 0:
                return False
            self._news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)
        if self._failure:
            raise self._failure
        return True

    async def _commissions(self) -> None:
        started = monotonic()
        missing = {exec_id for rows in self.answer.accounts.values() for exec_id in rows.executions}

        def complete() -> bool:
            missing.difference_update(self.answer.commissions)
            return not missing

        await self._until(complete, lambda: min(COMMISSION_QUIET, started + COMMISSION_WAIT - self._heard_at))

    # -- what the socket and the library tell

    def _received(self, data: bytes) -> None:
        """Every byte of the broker comes through here. Never raises: the library would log it and go on."""
        self.received_at, self._heard_at = datetime.now(UTC), monotonic()
        messages, wrong = self._frames.feed(data)
        try:
            for message in messages:
                self._message(message)
        except Exception as error:  # noqa: BLE001 - whatever bytes do to the decoder or to the library's handshake, it is garbage
            wrong = error
        if wrong:
            self._fail(trouble.garbage(wrong, self._phase, greeted=bool(self.answer.version)))
        self._news.set()

    def _message(self, message: bytes) -> None:
        fields = fields_of(message)
        if self._client.isReady():
            self.interpret(fields)
            return
        if not self._client.serverVersion() and len(fields) == 2:
            self._greeted(int(fields[0]))
        # The library's handshake: it answers the greeting, and is ready when accounts and an order id have come.
        self._client._onSocketHasData(len(message).to_bytes(4, "big") + message)  # noqa: SLF001 - its socket's listener, as it is

    def _greeted(self, version: int) -> None:
        self.answer.version = version
        if version < self._client.MinClientVersion:
            self._fail(trouble.too_old(version, self._client.MinClientVersion))

    def interpret(self, fields: list[str]) -> None:
        """One message, whole and in order; called by us and, during the handshake, by the library."""
        before = len(self.answer.notices)
        self.answer.take(fields)
        for notice in self.answer.notices[before:]:
            self._noticed(notice)

    def _noticed(self, notice: Notice) -> None:
        if notice.code == trouble.CLIENT_ID_TAKEN:
            # The library reports this only after the whole time-out.
            self._fail(ClientIdTaken(f"the client id is in use ({trouble.told(notice)})", ""))
        elif notice.code in trouble.LINK:
            self._fail(trouble.link_lost(notice))

    def _lost(self, reason: str) -> None:
        if not self._closing:
            ready = self._ready or bool(self.answer.managed)
            self._fail(trouble.dropped(reason, self._phase) if ready else trouble.closed_early(reason))
            self._news.set()

    def _fail(self, failure: Trouble) -> None:
        """The first failure is the one that is told; what follows it is its consequence."""
        self._failure = self._failure or failure

    def connectAck(self) -> None:  # noqa: N802 - the library's name
        """Called by the library when the greeting was answered."""

    def setEventsDone(self) -> None:  # noqa: N802 - the library's name
        """Called by the library when the socket is gone."""

    def connectionClosed(self) -> None:  # noqa: N802 - the library's name
        """Called by the library when the socket is gone. Its own wrapper would cancel other connections of this process here."""


async def open_session(
    client_class: Callable[[Any], Any], route: Route, deadline: Deadline, zone: str, kind: type[Session] = Session
) -> Session:
    """A session that is ready to be asked. Tries each address, and the next client id where one is taken. Raises Trouble."""
    for client_id in route.client_ids:
        with suppress(ClientIdTaken):
            return await _open_one(route, client_id, partial(kind, client_class, deadline, zone))
    raise trouble.all_ids_taken(route.client_ids)


async def _open_one(route: Route, client_id: int, make: Callable[[], Session]) -> Session:
    problem: Exception | None = None
    for address in route.addresses:
        session = make()
        try:
            await session.connect(address, route.port, client_id)
        except (OSError, OverflowError) as error:  # the second for a port above 65535
            problem = error
        except BaseException:
            await session.close()
            raise
        else:
            return session
        await session.close()
    raise trouble.unreachable(problem)
