"""How tests give commands: in this process where speed counts, as a process of its own where streams and signals do.

Belongs here: running `position-pipeline` and a small broker with everything in it. Does not belong here: what is expected of either.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from position_pipeline import cli
from position_pipeline.settings import PREFIX
from position_pipeline.simulator import Simulator, load_scenario

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

MORNING = datetime(2026, 11, 20, 15, tzinfo=UTC)

SCENARIO = """
name = "one of each"
price_every = 0
rates = { EUR = 1.10 }
instruments = [
    { symbol = "AAPL", con_id = 712940105, sec_type = "OPT", multiplier = 100, local_symbol = "AAPL  280121C00250000", right = "C", strike = 250, expiry = "20280121", price = 44 },
    { symbol = "AAPL", con_id = 265598, price = 200 },
    { symbol = "MSFT", con_id = 272093, price = 430 },
    { symbol = "TSLA", con_id = 76792991, price = 241 },
    { symbol = "KO", con_id = 8894, price = 61 },
    { symbol = "SAP", con_id = 14204, currency = "EUR", price = 212.60 },
    { symbol = "BTC", con_id = 479624278, sec_type = "CRYPTO", exchange = "PAXOS", local_symbol = "BTC.USD", tick = 0.25, price = 64210 },
]
[[accounts]]
id = "U1"
cash = { USD = 100000 }
positions = [{ symbol = "AAPL", quantity = 100, average_cost = 150.25 }]
[[accounts]]
id = "U2"
currency = "EUR"
cash = { EUR = 5000 }
"""

TRADES = (
    # account, symbol, side, quantity, price, commission
    ("U1", "AAPL  280121C00250000", "BUY", "2", "40", "1.30"),
    ("U1", "AAPL  280121C00250000", "SELL", "1", "45", "1.00"),
    ("U1", "TSLA", "SELL", "30", "250", "1.00"),
    ("U1", "TSLA", "BUY", "50", "240", "1.00"),
    ("U1", "MSFT", "SELL", "5", "429.50", "1.00"),
    ("U1", "KO", "BUY", "10", "60", "1.00"),
    ("U1", "KO", "SELL", "10", "61", "1.00"),
    ("U1", "BTC.USD", "BUY", "0.01234567", "64000", "1.75"),
    ("U2", "SAP", "BUY", "20", "212.60", "2.126"),
)


@contextmanager
def gateway(*faults: str, scenario: str = SCENARIO, starts_at: datetime = MORNING, **options: Any) -> Iterator[Simulator]:
    """A simulated broker in which time stands still."""
    with Simulator(load_scenario(scenario), faults=faults, speed=0, starts_at=starts_at, **options) as broker:
        yield broker


def trade(broker: Simulator) -> list[str]:
    """Do the trades of `TRADES`, a minute apart; the ids that the broker gave them."""
    ids = []
    for number, (account, symbol, side, quantity, price, commission) in enumerate(TRADES):
        time = MORNING - timedelta(minutes=len(TRADES) - number)
        ids.append(broker.execute(account, symbol, side, quantity, price, commission=commission, time=time))
    return ids


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """`position-pipeline` with settings of its own; nothing of the outer environment comes in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path, database: str | None = None) -> None:
        self._monkeypatch = monkeypatch
        self.settings = {"POSITION_SYNC_HOME": str(home), "POSITION_SYNC_BROKER_TIMEOUT": "2"}
        if database is not None:
            self.settings["DATABASE_URL"] = database

    def with_broker(self, broker: Simulator) -> CommandLine:
        """The same, connected to a running simulator."""
        self.settings |= {"POSITION_SYNC_IBKR_HOST": broker.host, "POSITION_SYNC_IBKR_PORT": str(broker.port)}
        return self

    def __call__(self, *words: object, **settings: str) -> Outcome:
        """Run in this process."""
        with self._monkeypatch.context() as patch, redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            for name in [name for name in os.environ if name.startswith(PREFIX) or name == "DATABASE_URL"]:
                patch.delenv(name)
            for name, value in (self.settings | settings).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["position-pipeline", *map(str, words)])
            code = cli.run()
        return Outcome(int(code or 0), out.getvalue(), err.getvalue())

    def environment(self, **settings: str) -> dict[str, str]:
        outer = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX) and name != "DATABASE_URL"}
        return {**outer, **self.settings, **settings}

    def process(self, *words: object, **settings: str) -> Outcome:
        """Run as a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "position_pipeline.cli", *map(str, words)],
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)
