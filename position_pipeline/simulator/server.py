"""The listening socket: one task per client, from its greeting to its end.

Here: connections. Not here: answers (`requests.py`), what is sent unasked (`pushes.py`).
"""

import asyncio
import ipaddress
import logging
import socket
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal

from position_pipeline.simulator import messages
from position_pipeline.simulator.broker import Broker, Change
from position_pipeline.simulator.client import Client
from position_pipeline.simulator.faults import Fault
from position_pipeline.simulator.pushes import LINK_FAULTS, Pushes, notice_text
from position_pipeline.simulator.requests import ORDER_REQUESTS, Request, Requests
from position_pipeline.simulator.responses import CLOSE, Response, misbehave
from position_pipeline.simulator.wire import WireError, read_frame, read_greeting

HIGHEST_VERSION = 178
LOWEST_VERSION = 100
START_API = 71
TAKEN = "Unable to connect as the client id is already in use. Retry with a unique client id."
_GONE = (asyncio.IncompleteReadError, ConnectionError, WireError)
_log = logging.getLogger(__name__)


class Server:
    def __init__(self, broker: Broker, host: str, port: int) -> None:
        self.broker = broker
        self.host, self.port = _loopback(host), port
        self.requests = Requests(broker, self.accounts)
        self.pushes = Pushes(broker, self.requests)
        self.clients: set[Client] = set()
        self._connections: dict[Client, asyncio.Task[None]] = {}
        self.seen: deque[Request] = deque(maxlen=100_000)
        self.orders_seen: list[Request] = []
        self._held_ids: set[int] = set()
        self._listener: asyncio.Server | None = None
        self._playing: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def accounts(self) -> list[str]:
        """The accounts that are listed; a fault adds empty ones."""
        accounts = list(self.broker.book.accounts)
        if fault := self.broker.faults.find("many-accounts"):
            accounts += [f"U{9_000_001 + n}" for n in range(fault.count - len(accounts))]
        return accounts

    # -- life

    async def start(self) -> None:
        await self._open()
        self._playing = asyncio.create_task(self._play_for_ever())

    async def _open(self) -> None:
        """Listen, or only hold the port while it is to refuse: a bound socket that does not listen refuses."""
        self._socket = _bound(self.host, self.port)
        self.port = self._socket.getsockname()[1]
        if not self.broker.faults.find("refuse"):
            self._listener = await asyncio.start_server(self._accept, sock=self._socket, backlog=100)

    async def _close_port(self) -> None:
        if self._listener:
            self._listener.close()
            self._listener = None
        self._socket.close()

    async def stop(self) -> None:
        await self._close_port()
        if self._playing:
            self._playing.cancel()
            await asyncio.gather(self._playing, return_exceptions=True)
        for client in list(self._connections):
            client.writer.transport.abort()
        if self._connections:  # each ends by itself when its transport has gone
            await asyncio.wait(list(self._connections.values()))
        self.broker.save()

    async def _play_for_ever(self) -> None:
        """Wait for whatever is due next, play it, tell it. With speed 0 there is only waiting."""
        while True:
            self._wake.clear()
            due, speed = self.broker.next_due(), self.broker.clock.speed
            seconds = None if due is None or not speed else max(float(due - self.broker.clock.elapsed) / speed, 0)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 60 if seconds is None else seconds + 0.001)
            if speed:
                self.publish(self.broker.play())

    def publish(self, changes: Iterable[Change]) -> None:
        self.requests.account.values.cache_clear()
        self.pushes.publish(changes, list(self.clients))
        self._wake.set()

    # -- one client

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(writer, self.broker.faults)
        task = asyncio.current_task()
        assert task is not None
        self._connections[client] = task
        pump = asyncio.create_task(client.pump())
        try:
            await self._converse(reader, client)
        except _GONE as error:
            _log.debug("client %s: %r", client.id, error)
        finally:
            self._forget(client)
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            writer.close()
            del self._connections[client]

    async def _converse(self, reader: asyncio.StreamReader, client: Client) -> None:
        if self.broker.faults.take("silent"):
            while await reader.read(4096):
                pass
            return
        lowest, highest = await read_greeting(reader)
        client.version = min(highest, HIGHEST_VERSION)
        if client.version < max(lowest, LOWEST_VERSION):
            return
        now = self.broker.now().astimezone(self.broker.zone)
        client.send(messages.greeting(client.version, f"{now:%Y%m%d %H:%M:%S %Z}"))
        while True:
            message_id, *fields = await read_frame(reader)
            self._receive(client, int(message_id), fields)

    def _receive(self, client: Client, message_id: int, fields: list[str]) -> None:
        if message_id == START_API and not client.ready:
            self._start_api(client, int(fields[1]))
            return
        request = Request(client.id, message_id, tuple(fields))
        self.seen.append(request)
        if message_id in ORDER_REQUESTS:
            self.orders_seen.append(request)
        if not client.ready:
            return
        try:
            answer = self.requests.answer(client, message_id, fields)
        except (ValueError, IndexError) as error:
            _log.warning("client %s: request %s %s: %r", client.id, message_id, fields, error)
            client.send(messages.notice(client.version, -1, 320, f"Error reading request: {error}"))
            return
        if answer is not None:
            self._answer(client, answer)

    def _answer(self, client: Client, answer: Response) -> None:
        answer.version = client.version
        answer = misbehave(answer, self.broker.faults)
        if answer.delay is None:
            client.answer(answer)
        else:
            asyncio.get_running_loop().call_later(float(answer.delay), client.answer, answer)

    def _start_api(self, client: Client, client_id: int) -> None:
        taken = client_id in self._held_ids or any(other.id == client_id for other in self.clients)
        if taken or self.broker.faults.take("client-id-taken", client=client_id):
            client.send(messages.notice(client.version, -1, 326, TAKEN))
            client.end(CLOSE)
            return
        client.id = client_id
        self.clients.add(client)
        if self.broker.faults.take("hang", "handshake"):
            return
        client.ready = True
        client.send(messages.managed_accounts(self.accounts()), messages.next_valid_id(1))
        codes = (2104, 2106, 2158)
        client.send(*(messages.notice(client.version, -1, code, notice_text(code)) for code in codes))

    def _forget(self, client: Client) -> None:
        if client in self.clients:
            self.clients.discard(client)
            if self.broker.faults.find("lingering-id", client=client.id):
                self._held_ids.add(client.id)

    # -- trouble on purpose

    async def inject(self, fault: Fault | str) -> None:
        made = self.broker.faults.add(fault)
        if made.action == "refuse":
            await self._close_port()
            await self._open()
        if made.action in LINK_FAULTS:
            self.pushes.notify(int(made.action) if made.action != "1101" else 1100, self.clients)

    async def heal(self) -> None:
        """Switch all faults off: the port opens, the link is restored, held commission reports are sent."""
        gone = {fault.action for fault in self.broker.faults.clear()}
        self._held_ids.clear()
        if "refuse" in gone:
            await self._close_port()
            await self._open()
        for action, restored in LINK_FAULTS.items():
            if action in gone:
                self.pushes.notify(restored, self.clients)
        self.publish(self.broker.release_commissions())

    def disconnect(self, how: str = CLOSE) -> None:
        for client in list(self.clients):
            client.end(how)

    def advance(self, seconds: Decimal) -> None:
        self.publish(self.broker.advance(seconds))


def _loopback(host: str) -> str:
    """The simulator speaks without any login, so it never leaves this machine."""
    address = "127.0.0.1" if host == "localhost" else host
    if not ipaddress.ip_address(address).is_loopback:
        raise ValueError(f"the simulator listens on loopback only, not on {host}")
    return address


def _bound(host: str, port: int) -> socket.socket:
    # With the protocol named asyncio sets TCP_NODELAY on accepted sockets; without it small answers wait 40 ms for an acknowledgement.
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    made.setblocking(False)
    return made
