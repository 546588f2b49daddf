"""Sending lines to PostgreSQL in a thread of its own, while the next ones are being made.

Belongs here: COPY and the thread. Does not belong here: what the lines say (bulk_text.py), which are sent (bulk.py).

PostgreSQL checks and indexes what was sent in a process of its own; with a second core that takes place while Python books. All is of
the caller's transaction: whoever wants to use the connection otherwise calls `wait` first.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future

    from position_pipeline.store.connection import Connection

MOST_WAITING = 4
"""Pieces that wait to be sent: more would only fill the memory."""


class Writer:
    """One connection's COPY statements, one after the other."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="copy")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of ours uses the connection any more, however it ended."""
        for each in self._waiting:
            each.cancel()
        self._thread.shutdown(wait=True)

    def copy(self, table: str, columns: str, lines: Iterable[str]) -> None:
        """Have lines sent. What goes wrong is raised by a later call, or by `wait`."""
        content = "".join(lines).encode()
        while len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft().result()
        if content:
            self._waiting.append(self._thread.submit(self._connection.copy, f"COPY {table} ({columns}) FROM STDIN", BytesIO(content)))

    def wait(self) -> None:
        """Until all has been sent and taken."""
        while self._waiting:
            self._waiting.popleft().result()
