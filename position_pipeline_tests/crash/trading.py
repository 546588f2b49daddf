"""Fills that stream in at the broker: drawn from a seed, at random moments, from a thread of their own.

Belongs here: what is traded. Does not belong here: what is killed meanwhile (rounds.py).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from random import Random

    from position_pipeline.simulator import Simulator

ACCOUNTS = ("U1", "U2")
SYMBOLS = ("AAPL", "MSFT", "KO", "AAPL  280121C00250000")
LONGEST_PAUSE = 0.15
CORRECTED, LATE = 0.05, 0.15
"""Shares of fills that are corrected later, and whose commission comes later."""


class Trading:
    """Trades for as long as the block lasts; every commission has come at its end."""

    def __init__(self, broker: Simulator, random: Random) -> None:
        self._broker, self._random = broker, random
        self._over = threading.Event()
        self._owed: list[str] = []
        self._thread = threading.Thread(target=self._run, name="trading", daemon=True)
        self._trouble: Exception | None = None
        self.fills = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_for(self, more: int) -> None:
        """Until so many more fills have happened."""
        until = self.fills + more
        while self.fills < until and self._thread.is_alive():
            self._over.wait(0.02)

    def stop(self) -> None:
        """Trade no more, and let every commission come that has not. Once more does nothing."""
        self._over.set()
        self._thread.join()
        while self._owed:
            self._broker.send_commission(self._owed.pop())
        if self._trouble is not None:
            raise self._trouble

    def _run(self) -> None:
        try:
            while not self._over.wait(self._random.uniform(0, LONGEST_PAUSE)):
                self._trade()
        except Exception as error:  # noqa: BLE001  raised where the block ends
            self._trouble = error

    def _trade(self) -> None:
        random = self._random
        account, symbol, side = random.choice(ACCOUNTS), random.choice(SYMBOLS), random.choice(("BUY", "SELL"))
        late = random.random() < LATE
        exec_id = self._broker.execute(account, symbol, side, random.randint(1, 30), commission=None if late else "schedule")
        self.fills += 1
        if late:
            self._owed.append(exec_id)
        elif random.random() < CORRECTED:
            self._broker.correct(exec_id, quantity=random.randint(1, 30))
        if self._owed and random.random() < LATE:
            self._broker.send_commission(self._owed.pop(0))
