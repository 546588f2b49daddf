"""What is asked of a gateway over one long-lived connection, and when: subscriptions, executions again and again, signs of life.

Belongs here: timing, and noticing what does not come. Does not belong here: the thread (ibkr_stream.py), what is news (ibkr_heard.py).

A gateway tells an ordinary client nothing of an execution that another client or a person caused; it tells everybody that a position
changed. So a changed position that no execution explains makes us ask for the executions of its account at once, from the newest known
one on. The newest are asked for every few seconds in any case, and all of today's from time to time: ibkr_pacing has the figures.

Account values are not subscribed to: a gateway serves one subscriber, and that is the capture of a sync.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from position_pipeline.brokers import ibkr_trouble as trouble
from position_pipeline.brokers.ibkr_pacing import Allowance
from position_pipeline.brokers.ibkr_session import Filter, Session
from position_pipeline.brokers.ibkr_trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from position_pipeline.brokers.ibkr_answer import Notice
    from position_pipeline.brokers.ibkr_stream import IbkrStream

MARGIN = 1
"""Seconds before the newest known execution from which the newer ones are asked for: their times have whole seconds, and may come late."""

UNPAID = timedelta(minutes=1)
"""How much older than the newest an execution may be whose commission is asked for again with it; later the list of all brings it."""

LOST, RESTORED = frozenset({1100, 2110}), frozenset({1101, 1102})


@dataclass(slots=True)
class _Poll:
    """One outstanding question for an account's executions. `known` is what was told before it, None where it asks for the newest only."""

    account: str
    asked_at: float
    known: frozenset[str] | None
    seen: set[str] = field(default_factory=set)


class LiveSession(Session):
    """A session whose rows are told as they come. `told` is called after each piece of the stream, `linked` for notices about the link."""

    told: Callable[[], None]
    linked: Callable[[Notice], None]
    skip: Callable[[list[str]], bool]

    def _received(self, data: bytes) -> None:
        super()._received(data)
        if self._ready:
            try:
                self.told()
            except Trouble as ended:
                self._fail(ended)

    def interpret(self, fields: list[str]) -> None:
        if not (self._ready and self.skip(fields)):
            super().interpret(fields)

    def _noticed(self, notice: Notice) -> None:
        if self._ready and notice.code in LOST | RESTORED:
            self.linked(notice)
        else:
            super()._noticed(notice)

    def _lost(self, reason: str) -> None:
        if self._ready and not self._closing:
            self._fail(trouble.hung_up(reason))
            self._news.set()
        else:
            super()._lost(reason)

    @property
    def heard_at(self) -> float:
        return self._heard_at

    @property
    def news(self) -> asyncio.Event:
        return self._news

    @property
    def failure(self) -> Trouble | None:
        return self._failure

    @property
    def client(self) -> Any:
        return self._client


class Conversation:
    """What is asked of a gateway over one connection, and when."""

    def __init__(self, stream: IbkrStream, session: LiveSession) -> None:
        self._stream, self._session, self._pace = stream, session, stream.pace
        self._accounts = stream.accounts(session.answer.managed)
        self._polls: dict[str, _Poll] = {}
        self._due: dict[str, float] = {}
        self._all_due: dict[str, float] = {}
        self._quick: dict[str, float] = {}
        self._allowance = Allowance()
        self._explained: dict[tuple[str, str], float] = {}
        self._unlisted: set[str] = set()
        self._positions_asked_at = self._next_poll_at = 0.0
        self._asked_time_at: float | None = None
        self._linked = self._listing = True
        self._newest: dict[str, datetime] = {}

    async def hold(self, stop: asyncio.Event) -> None:
        """Listen until `stop` is set. Raises Trouble when the connection ends or says nothing any more."""
        session = self._session
        session.told, session.linked, session.skip = self._told, self._link, self._skip
        self._subscribe()
        self._stream.connected(session.client.clientId)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                session.news.clear()
                pause = self._tend(monotonic())
                if session.failure:
                    raise session.failure
                waking = asyncio.ensure_future(session.news.wait())
                await asyncio.wait((waking, stopping), timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
        finally:
            stopping.cancel()

    # -- asking

    def _subscribe(self) -> None:
        """Ask for everything: positions, and all executions of each account. Whole again when all of it has come."""
        now = monotonic()
        self._session.answer.positions_ended, self._listing = False, True
        self._session.client.reqPositions()
        self._positions_asked_at = now
        self._unlisted = set(self._accounts)
        self._due = dict.fromkeys(self._accounts, now)
        self._all_due = dict(self._due)
        self._next_poll_at = 0.0

    def _tend(self, now: float) -> float:
        """Do what is due; seconds until something will be."""
        waits = [self._heartbeat(now)]
        if self._linked:
            waits += [self._poll(now), self._ask_quickly(now)]
        released = self._stream.release()
        if released is not None:
            waits.append(released - now)
        self._look_at_deadlines(now)
        return max(min(waits), 0.0)

    def _heartbeat(self, now: float) -> float:
        """Silence may be a socket that is open at our end only."""
        silent = now - self._session.heard_at
        if silent < self._pace.heartbeat:
            self._asked_time_at = None
            return self._pace.heartbeat - silent
        if self._asked_time_at is None:
            self._asked_time_at = now
            self._session.client.reqCurrentTime()
        left = self._asked_time_at + self._pace.deadline - now
        if left <= 0:
            raise trouble.silent(silent)
        return left

    def _poll(self, now: float) -> float:
        """Ask for the executions of the account whose turn it is: the newest, or all of them."""
        asked = {poll.account for poll in self._polls.values()}
        account = min((each for each in self._due if each not in asked), key=self._due.__getitem__, default=None)
        if account is None:
            return 60.0
        # Accounts that have not been listed yet do not wait for their turn; 45 messages a second is what the library lets through.
        due = self._due[account] if account in self._unlisted else max(self._due[account], self._next_poll_at)
        if due > now:
            return due - now
        self._next_poll_at = now + self._pace.between
        self._ask(account, now, everything=self._all_due[account] <= now)
        return 0.0

    def _ask_quickly(self, now: float) -> float:
        """Ask for the newest executions of accounts in which a position changed that no execution explains."""
        asked = {poll.account for poll in self._polls.values()}
        ready = sorted((at, account) for account, at in self._quick.items() if account not in asked)
        for at, account in ready:
            wait = max(at - now, self._allowance.wait(now))
            if wait > 0:
                return wait
            del self._quick[account]
            self._ask(account, now, everything=False)
        return 60.0

    def _ask(self, account: str, now: float, *, everything: bool) -> None:
        self._allowance.use()
        request, newest = self._session.client.getReqId(), self._newest.get(account)
        since = "" if everything or newest is None else f"{self._open_since(account, newest):%Y%m%d-%H:%M:%S}"
        self._polls[str(request)] = _Poll(account, now, None if since else self._stream.memory.told_of(account))
        self._session.client.reqExecutions(request, Filter(account, time=since))

    def _open_since(self, account: str, newest: datetime) -> datetime:
        """From when on there may be something new: commissions of other clients' fills come with lists only."""
        unpaid = (at for at in self._stream.memory.unpaid(account) if at > newest - UNPAID)
        return min(unpaid, default=newest) - timedelta(seconds=MARGIN)

    def _look_at_deadlines(self, now: float) -> None:
        patience = self._stream.patience
        notices = self._session.answer.notices
        if self._listing and now > self._positions_asked_at + patience:
            raise trouble.unanswered("the positions list", patience, 0, notices)
        for poll in self._polls.values():
            if now > poll.asked_at + patience:
                raise trouble.unanswered(f"the executions of {poll.account}", patience, len(poll.seen), notices)

    # -- hearing, called by the session

    def _skip(self, fields: list[str]) -> bool:
        """Whether a message is no news: an execution or a commission that was told. Lists of all of today's are mostly these."""
        if fields[0] == "11" and len(fields) > 20:
            poll = self._polls.get(fields[1])
            if poll is not None:
                poll.seen.add(fields[14])
            elif fields[1] == "-1":
                self._explained[fields[16], f"ibkr:{fields[3]}"] = monotonic()
            return self._stream.memory.is_told(fields[14])
        return fields[0] == "59" and len(fields) > 2 and self._stream.memory.is_told(fields[2])

    def _link(self, notice: Notice) -> None:
        if notice.code in LOST:
            if self._linked:  # repeated during a reset
                self._linked = False
                self._stream.state(whole=False, lost=f"the gateway {trouble.LINK[notice.code]} ({trouble.told(notice)})")
        else:
            said = "" if not self._linked else f"the gateway {trouble.LINK[notice.code]} ({trouble.told(notice)})"
            self._linked = True
            self._polls.clear()
            self._stream.state(whole=False, lost=said)
            self._subscribe()

    def _told(self) -> None:
        answer, now = self._session.answer, monotonic()
        for notice in answer.notices:
            self._refused(notice)
        for account, rows in answer.accounts.items():
            for row in rows.executions.values():
                self._newest[account] = max(row.at, self._newest.get(account, row.at))
        moved = self._stream.heard(self._session)
        if not self._listing:
            self._wonder(moved, now)
        self._listing = not answer.positions_ended
        for request in answer.executions_ended:
            self._listed(request, now)
        answer.executions_ended.clear()
        if self._linked and not self._unlisted and answer.positions_ended:
            self._stream.state(whole=True)

    def _wonder(self, moved: Sequence[tuple[str, str]], now: float) -> None:
        """Ask for the executions of accounts in which a position changed and no execution of it was heard in the last second."""
        for account, instrument in moved:
            if account in self._accounts and self._explained.get((account, instrument), 0.0) < now - 1.0:
                self._quick.setdefault(account, now)

    def _listed(self, request: str, now: float) -> None:
        poll = self._polls.pop(request, None)
        if poll is None:
            return
        took = now - poll.asked_at
        if poll.account in self._quick:
            self._quick[poll.account] = now + took  # a slow gateway has as much time to itself
        self._due[poll.account] = now + self._pace.poll
        if poll.known is not None:
            self._all_due[poll.account] = now + max(self._pace.all, took / self._pace.share)
            self._unlisted.discard(poll.account)
            self._stream.memory.listed(poll.account, poll.seen, poll.known)

    def _refused(self, notice: Notice) -> None:
        poll = self._polls.get(str(notice.request))
        if poll is not None and not notice.is_warning:
            raise trouble.refused(f"the executions of {poll.account}", trouble.told(notice))
        if notice.code == trouble.REFUSED and notice.request <= 0 and not self._session.answer.positions_ended:
            raise trouble.refused("the positions list", trouble.told(notice))
