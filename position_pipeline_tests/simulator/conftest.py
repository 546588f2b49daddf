"""Fixtures: a small broker that stands still, and clients that are closed again."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from position_pipeline.simulator import Account, Instrument, Opening, Scenario, Simulator

from .raw_client import RawClient

NOON = datetime(2026, 3, 4, 17, 0, tzinfo=UTC)  # 12:00 in New York, a Wednesday

AAPL = Instrument(265598, "AAPL", primary_exchange="NASDAQ", local_symbol="AAPL", trading_class="NMS", price=Decimal("230.10"))
SAP = Instrument(
    14204,
    "SAP",
    currency="EUR",
    primary_exchange="IBIS",
    local_symbol="SAP",
    price=Decimal(200),
    long_name="SAP Spółka",
)
OPTION = Instrument(
    712940105,
    "AAPL",
    "OPT",
    multiplier=Decimal(100),
    expiry="20280121",
    strike=Decimal(250),
    right="C",
    local_symbol="AAPL  280121C00250000",
    trading_class="AAPL",
    price=Decimal(40),
)
ES = Instrument(
    649180678,
    "ES",
    "FUT",
    exchange="CME",
    multiplier=Decimal(50),
    expiry="20271217",
    local_symbol="ESZ7",
    price=Decimal(6000),
)
BTC = Instrument(479624278, "BTC", "CRYPTO", exchange="PAXOS", local_symbol="BTC.USD", price=Decimal(64000))
KO = Instrument(8894, "KO", primary_exchange="NYSE", local_symbol="KO", price=Decimal(60))

# Five positions in two accounts: a long, a short, an option, a fraction, and one in another currency.
SMALL = Scenario(
    name="small",
    instruments=(AAPL, SAP, OPTION, ES, BTC, KO),
    accounts=(
        Account(
            "U1",
            "USD",
            {"USD": Decimal(100000)},
            (
                Opening(AAPL.con_id, Decimal(100), Decimal("180.01")),
                Opening(KO.con_id, Decimal(-40), Decimal("61.5")),
                Opening(OPTION.con_id, Decimal(2), Decimal("3501.05")),
                Opening(BTC.con_id, Decimal("0.12345678"), Decimal("61344.79")),
            ),
        ),
        Account("U2", "EUR", {"EUR": Decimal(5000)}, (Opening(SAP.con_id, Decimal(10), Decimal("172.125")),)),
    ),
    rates={"USD": Decimal(1), "EUR": Decimal("1.25")},
    price_every=Decimal(0),
)


@pytest.fixture
def start() -> Iterator[Callable[..., Simulator]]:
    """Start a broker with what a test needs; it ends with the test."""
    running: list[Simulator] = []

    def start_one(scenario: Scenario = SMALL, **options: Any) -> Simulator:
        options = {"speed": 0, "starts_at": NOON, **options}
        running.append(Simulator(scenario, **options).__enter__())
        return running[-1]

    yield start_one
    for each in running:
        each.stop()


@pytest.fixture
def broker(start: Callable[..., Simulator]) -> Simulator:
    return start()


@pytest.fixture
def raw(broker: Simulator) -> Iterator[RawClient]:
    """A raw client that is past its start."""
    with RawClient(broker.port) as client:
        yield client.ready()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@pytest.fixture
def connect() -> Iterator[Callable[..., Any]]:
    """Connect the library; `timeout` is short because some tests wait for it."""
    # Its blocking calls need a loop in this thread. Any asyncio.run() of another test takes the thread's loop away, which is then
    # collected unclosed in the middle of some innocent third test: so there is one that stays.
    asyncio.set_event_loop(_loop())
    from .ib_library import library

    connected: list[Any] = []

    def connect_one(broker: Simulator, **options: Any) -> Any:
        ib = library.IB()
        connected.append(ib)
        ib.connect(broker.host, broker.port, **{"clientId": 1, "timeout": 5, "readonly": True, **options})
        return ib

    yield connect_one
    for ib in connected:
        ib.disconnect()
