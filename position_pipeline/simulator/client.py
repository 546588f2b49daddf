"""One connected client: what it subscribed to, and the ordered stream of bytes to it.

Here: the queue and the task that empties it. Not here: what is put in (`requests.py`, `pushes.py`).
"""

import asyncio
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from position_pipeline.simulator.faults import Faults
from position_pipeline.simulator.responses import CLOSE, RESET, Response
from position_pipeline.simulator.values import Value
from position_pipeline.simulator.wire import PIECE

LONGEST_QUEUE = 20_000


def pieces(frames: Iterable[bytes], size: int = PIECE) -> Iterator[bytes]:
    """Frames joined to pieces of about `size` bytes, so that a long answer is neither one write nor a million."""
    waiting: list[bytes] = []
    length = 0
    for each in frames:
        waiting.append(each)
        length += len(each)
        if length >= size:
            yield b"".join(waiting)
            waiting, length = [], 0
    if waiting:
        yield b"".join(waiting)


@dataclass(eq=False)
class Client:
    writer: asyncio.StreamWriter
    faults: Faults
    version: int = 0
    id: int = -1
    ready: bool = False
    positions: bool = False
    account: str = ""
    values_sent: dict[tuple[str, int, str, str, str], str] = field(default_factory=dict)
    multi: dict[int, tuple[str, str]] = field(default_factory=dict)
    positions_multi: dict[int, tuple[str, str]] = field(default_factory=dict)
    summaries: dict[int, str] = field(default_factory=dict)
    pnl: dict[int, str] = field(default_factory=dict)
    pnl_single: dict[int, tuple[str, int]] = field(default_factory=dict)
    _queue: asyncio.Queue[Iterable[bytes] | str] = field(default_factory=asyncio.Queue)

    def news(self, kind: str, request_id: int, account: str, values: Iterable[Value]) -> list[Value]:
        """The account values that this subscription has not been sent with their present value; they count as sent."""
        fresh = []
        for value in values:
            key = (kind, request_id, account, value.tag, value.currency)
            if self.values_sent.get(key) != value.value:
                self.values_sent[key] = value.value
                fresh.append(value)
        return fresh

    def send(self, *frames: bytes) -> None:
        self.stream(frames)

    def stream(self, frames: Iterable[bytes]) -> None:
        """Put frames at the end of the stream. A client that has long stopped reading is dropped, as TWS does."""
        if self._queue.qsize() > LONGEST_QUEUE:
            self.writer.transport.abort()
            return
        self._queue.put_nowait(frames)

    def answer(self, response: Response) -> None:
        self.stream(response.frames())
        if response.close:
            self.end(response.close)

    def end(self, how: str = CLOSE) -> None:
        """Close after what is queued: by FIN, or by RST."""
        self._queue.put_nowait(how)

    async def pump(self) -> None:
        """Empty the queue for as long as the client lives."""
        while True:
            item = await self._queue.get()
            if isinstance(item, str):
                self._close(item)
                return
            for piece in pieces(item):
                await self._write(piece)

    async def _write(self, piece: bytes) -> None:
        if self.faults.find("half-open", client=self.id):
            return
        slow = self.faults.find("slow", client=self.id)
        if slow is None:
            self.writer.write(piece)
            await self.writer.drain()
            return
        for start in range(0, len(piece), slow.chunk):
            self.writer.write(piece[start : start + slow.chunk])
            await self.writer.drain()
            await asyncio.sleep(0)

    def _close(self, how: str) -> None:
        if how == RESET:
            plain = self.writer.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()
