"""Interactive Brokers through TWS or IB Gateway: one capture of positions, account values, prices and today's executions.

Belongs here: the order in which things are asked, the thread they are asked in, and the one place that names the library. Does not
belong here: the wire (ibkr_wire.py, ibkr_answer.py), the connection (ibkr_session.py), the rules of proof (ibkr_proof.py).

It reads and never trades. To use ib_async instead of ib_insync, install it in place of ib_insync (the two cannot share an environment):
`_client_class` takes whichever is there, and is the only line that names either.

A capture runs in a thread of its own, with a loop of its own and a connection of its own: it works from a Dagster step, a worker thread
and inside a running loop, because it uses nothing that they have.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from position_pipeline.brokers import BrokerUnavailable, Capture, RefusedRow
from position_pipeline.brokers.ibkr_fills import fills
from position_pipeline.brokers.ibkr_proof import contradiction, judge
from position_pipeline.brokers.ibkr_session import Deadline, Route, Session, open_session
from position_pipeline.brokers.ibkr_trouble import IdsTaken, Trouble, Unanswered, no_library, too_many_accounts, unknown_host

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from position_pipeline.accounting.model import Fill, Instrument
    from position_pipeline.brokers import Stream
    from position_pipeline.brokers.ibkr_answer import Answer
    from position_pipeline.brokers.ibkr_pacing import Pace

CLIENT_IDS = 4
"""How many client ids are tried, from the configured one upwards: after a nightly restart the old one may still be held."""

MOST_ACCOUNTS = 50
"""IBKR gives no list of positions to a login with more sub-accounts than this."""

ID_PATIENCE = 60.0
"""Seconds that a stream waits for the configured client id before it takes another: no sync keeps it longer."""

GRACE = 1.0
"""Seconds after its deadline in which a capture may still close its connection before its caller goes on without it."""


class IbkrBroker:
    """One connection to TWS or IB Gateway. `accounts` are those it is asked for by default; none: all of the login.

    `time_zone` is that of execution times that name none.
    """

    def __init__(
        self,
        name: str = "ibkr",
        host: str = "127.0.0.1",
        port: int = 4002,
        client_id: int = 17,
        accounts: Sequence[str] = (),
        *,
        time_zone: str = "UTC",
    ) -> None:
        self.name = name
        self.where = f"Interactive Brokers at {host}:{port}, client id {client_id}"
        self._host, self._port, self._client_id = host, port, client_id
        self.accounts = tuple(accounts)
        self._time_zone = time_zone
        self._first = 0
        self._taken_since: float | None = None

    def capture(self, accounts: Sequence[str] | None, timeout: float) -> Capture:
        """Read the named accounts, or those configured, or all, within `timeout` seconds.

        An account that is not proven is a rejected snapshot with its reason. Raises `BrokerUnavailable` when the connection gave
        nothing that could be used for any account.
        """
        wanted = tuple(dict.fromkeys(accounts or self.accounts))
        deadline = Deadline(monotonic() + timeout, timeout)
        try:
            session = _Attempt(lambda: self._prepared(wanted, deadline)).result(timeout + GRACE)
        except Trouble as trouble:
            raise BrokerUnavailable(f"{self.where}: {trouble}.", trouble.remedy) from None
        except _Wedged:
            message = f"{self.where}: no answer within {timeout:g} s, and the attempt itself hangs, most likely at the host name."
            raise BrokerUnavailable(message, "Check the name server, or give the host as an address.") from None
        try:
            return self._taken(session, wanted or session.answer.managed)
        finally:
            session.answer.clear()

    def stream(self, timeout: float, pace: Pace | None = None) -> Stream:
        """Connect within `timeout` seconds and listen, to the accounts that are configured or to all. Raises `BrokerUnavailable`.

        Of other clients' executions only client id 0 and the Master Client ID are told, so it is the stream that has the configured id,
        and waits for it where a sync has it for a moment. Where it stays taken, ids after those of the syncs are tried too.
        """
        from position_pipeline.brokers.ibkr_pacing import Pace
        from position_pipeline.brokers.ibkr_stream import IbkrStream

        more = {"where": self.where, "time_zone": self._time_zone, "timeout": timeout, "most": MOST_ACCOUNTS}
        try:
            stream = IbkrStream(self._stream_route, _client_class, self.accounts, pace or Pace(), **more)
        except Trouble as trouble:
            if isinstance(trouble, IdsTaken):
                self._taken_since = self._taken_since or monotonic()
            raise BrokerUnavailable(f"{self.where}: {trouble}.", trouble.remedy) from None
        self._taken_since = None
        return stream

    def _stream_route(self) -> Route:
        own = self._client_id
        late = self._taken_since is not None and monotonic() - self._taken_since > ID_PATIENCE
        more = range(own + CLIENT_IDS, own + 2 * CLIENT_IDS) if late else ()
        return Route(_addresses(self._host, self._port), self._port, (own, *more))

    def beside_a_stream(self) -> IbkrBroker:
        """The same broker for captures while a stream has the configured id: they begin with the one after it."""
        beside = IbkrBroker(self.name, self._host, self._port, self._client_id, self.accounts, time_zone=self._time_zone)
        beside._first = 1
        return beside

    def _prepared(self, wanted: Sequence[str], deadline: Deadline) -> Coroutine[Any, Any, Session]:
        """What blocks (importing the library, looking up the host) before the loop runs, and then what is to run in it."""
        client_class = _client_class()
        route = Route(
            addresses=_addresses(self._host, self._port),
            port=self._port,
            client_ids=range(self._client_id + self._first, self._client_id + CLIENT_IDS),
        )
        return self._read(client_class, route, wanted, deadline)

    async def _read(self, client_class: Callable[[Any], Any], route: Route, wanted: Sequence[str], deadline: Deadline) -> Session:
        session = await open_session(client_class, route, deadline, self._time_zone)
        try:
            await _ask(session, wanted)
        finally:
            await session.close()
        return session

    def _taken(self, session: Session, accounts: Sequence[str]) -> Capture:
        """What was read, as the rest of the house knows it."""
        answer = session.answer
        snapshots = tuple(judge(account, answer, "ibkr", session.received_at) for account in accounts)
        known = _instruments(answer)
        made = tuple(each for account in accounts for each in _fills(answer, account, known))
        named = {each.instrument for each in made} | {held.instrument for shot in snapshots for held in shot.holdings}
        return Capture(
            broker=self.name,
            received_at=session.received_at,
            snapshots=snapshots,
            fills=made,
            instruments=tuple(known[each] for each in sorted(named)),
            refused=tuple(_refused(answer, accounts)),
        )


async def _ask(session: Session, wanted: Sequence[str]) -> None:
    """Everything that is asked of a gateway, in order. Accounts that contradict themselves are asked once more."""
    answer = session.answer
    if len(answer.managed) > MOST_ACCOUNTS:
        raise too_many_accounts(len(answer.managed), MOST_ACCOUNTS)
    accounts = [account for account in wanted or answer.managed if account in answer.managed]
    await _ask_about(session, accounts)
    # A trade between the two lists makes them differ; the second time they agree.
    doubts = {account: why for account in accounts if (why := contradiction(account, answer))}
    for account, why in doubts.items():
        answer.doubt(account, why)
    with suppress(Unanswered):  # then the doubt stands, and the other accounts are proven all the same
        await _ask_about(session, list(doubts))


async def _ask_about(session: Session, accounts: Sequence[str]) -> None:
    if not accounts:
        return
    await session.positions()
    for done, account in enumerate(accounts):
        # An account that says nothing may not eat the time of the others.
        await session.account(account, session.remaining / (len(accounts) - done + 1))
    await session.executions(accounts, session.remaining)


# -- from rows to the words of the house


def _instruments(answer: Answer) -> dict[str, Instrument]:
    """Every contract that was named. Position rows know it best; those of futures lack the exchange, which portfolio rows have."""
    found: dict[str, Instrument] = {}
    everyone = answer.accounts.values()
    for executed in (row.instrument for rows in everyone for row in rows.executions.values()):
        # The exchange of an execution is where that fill happened, not where the contract is listed.
        found.setdefault(executed.id, replace(executed, exchange=""))
    for shown in (row.instrument for rows in everyone for row in rows.portfolio.values()):
        found[shown.id] = shown
    for listed in (row.instrument for rows in everyone for row in rows.positions.values()):
        exchange = found[listed.id].exchange if listed.id in found and not listed.exchange else ""
        found[listed.id] = replace(listed, exchange=exchange) if exchange else listed
    return found


def _fills(answer: Answer, account: str, known: Mapping[str, Instrument]) -> list[Fill]:
    return fills(answer.of(account).executions, answer.commissions, known) if account in answer.managed else []


def _refused(answer: Answer, accounts: Sequence[str]) -> Iterable[RefusedRow]:
    for lost in answer.unreadable:
        if not lost.account or lost.account in accounts:
            yield RefusedRow(lost.account, lost.symbol, f"{lost.what} that could not be read: {lost.why}")


# -- the library, the network and the thread


def _client_class() -> Callable[[Any], Any]:
    """The client of whichever library is installed; imported late, because it takes 0.3 s and needs the loop of its thread."""
    try:
        try:
            import ib_insync as library
        except ImportError:
            import ib_async as library  # type: ignore[no-redef]
    except ImportError:
        raise no_library() from None
    for logger in map(logging.getLogger, (library.__name__, "eventkit")):
        # What they have to say reaches people through our own words; as log lines on the terminal it only frightens them.
        logger.propagate = False
        logger.handlers = logger.handlers or [logging.NullHandler()]  # one for all captures: a listener makes hundreds a day
    client_class: Callable[[Any], Any] = library.Client
    return client_class


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError, OverflowError) as error:
        raise unknown_host(host, error) from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class _Wedged(Exception):
    """The thread of an attempt did not end in time."""


class _Attempt:
    """A session read in a thread and a loop of its own, whatever thread and loop the caller has."""

    def __init__(self, read: Callable[[], Coroutine[Any, Any, Session]]) -> None:
        self._read = read
        self._session: Session | None = None
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="ibkr-capture", daemon=True)
        self._thread.start()

    def result(self, seconds: float) -> Session:
        """The session, closed. Raises what reading it raised, or _Wedged when even closing took more than `seconds`."""
        try:
            self._thread.join(seconds)
        except BaseException:
            self._abandon()
            raise
        if self._error is not None:
            raise self._error
        if self._session is None:
            self._abandon()
            raise _Wedged
        return self._session

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._session = runner.run(self._read())
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            self._error = error

    def _abandon(self) -> None:
        """The caller goes on without the answer (interrupted, or out of time): close the connection and end the thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
        self._thread.join(GRACE)
