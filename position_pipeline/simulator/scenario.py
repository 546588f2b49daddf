"""What a simulated broker starts with and what happens to it: plain frozen values.

Here: instruments, accounts, opening positions, events, and `many_positions` for measuring. Not here: reading a file
(`scenario_file.py`), arithmetic (`book.py`), time (`play.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

FUTURES = ("FUT",)
OPTIONS = ("OPT", "FOP")
SEC_TYPES = ("STK", "OPT", "FOP", "FUT", "CRYPTO", "CASH", "BOND", "FUND", "WAR", "CFD", "BAG")


@dataclass(frozen=True)
class Instrument:
    """Something that can be traded. `multiplier` is None where the broker leaves the field empty (it counts as 1)."""

    con_id: int
    symbol: str
    sec_type: str = "STK"
    currency: str = "USD"
    exchange: str = "SMART"
    primary_exchange: str = ""
    multiplier: Decimal | None = None
    expiry: str = ""
    strike: Decimal = Decimal(0)
    right: str = ""
    local_symbol: str = ""
    trading_class: str = ""
    long_name: str = ""
    under_con_id: int = 0
    tick: Decimal = Decimal("0.01")
    price: Decimal = Decimal(100)
    volatility: Decimal = Decimal(0)

    @property
    def factor(self) -> Decimal:
        return self.multiplier if self.multiplier is not None else Decimal(1)


@dataclass(frozen=True)
class Opening:
    """A position bought before the scenario starts; `average_cost` as IBKR gives it, multiplier and fees in it."""

    con_id: int
    quantity: Decimal
    average_cost: Decimal


@dataclass(frozen=True)
class Account:
    id: str
    currency: str = "USD"
    cash: Mapping[str, Decimal] = field(default_factory=dict)
    positions: tuple[Opening, ...] = ()


@dataclass(frozen=True)
class Event:
    """One thing that happens `at` seconds of play time. `price` None is the market price of that moment."""

    at: Decimal
    type: str = "fill"
    account: str = ""
    con_id: int = 0
    side: str = ""
    quantity: Decimal | None = None
    price: Decimal | None = None
    commission: Decimal | None = None
    late_commission: bool = False
    order_known: bool = False
    client_id: int = 0
    numerator: int = 1
    denominator: int = 1
    code: int = 0
    name: str = ""
    of: str = ""


@dataclass(frozen=True)
class Rounds:
    """Events that come again for ever: round n starts at `starts + n * every`."""

    starts: Decimal = Decimal(0)
    every: Decimal = Decimal(0)
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Scenario:
    instruments: tuple[Instrument, ...]
    accounts: tuple[Account, ...]
    events: tuple[Event, ...] = ()
    rounds: Rounds = Rounds()
    name: str = "scenario"
    seed: int = 1
    time_zone: str = "US/Eastern"
    price_every: Decimal = Decimal(5)
    rates: Mapping[str, Decimal] = field(default_factory=lambda: {"USD": Decimal(1)})

    def instrument(self, symbol_or_con_id: str | int) -> Instrument:
        """By conId or by symbol; a local symbol too, so that an option can be told from its stock."""
        for instrument in self.instruments:
            if symbol_or_con_id in (instrument.con_id, instrument.local_symbol, instrument.symbol):
                return instrument
        raise KeyError(f"no instrument {symbol_or_con_id!r} in scenario {self.name!r}")


def many_positions(accounts: int = 2, positions: int = 500, executions: int = 0) -> Scenario:
    """A big quiet scenario for measuring: prices stand still, nothing happens by itself.

    With `executions`, that many fills of one share each happen in the first second of play time.
    """
    instruments = tuple(
        Instrument(
            con_id=100_000 + n,
            symbol=f"S{n:05d}",
            primary_exchange="NYSE",
            local_symbol=f"S{n:05d}",
            trading_class=f"S{n:05d}",
            long_name=f"SIMULATED COMPANY {n}",
            price=Decimal(20 + n % 400) + Decimal(n % 100) / 100,
        )
        for n in range(positions)
    )
    openings = tuple(
        Opening(one.con_id, Decimal(-(10 + n % 90) if n % 10 == 9 else 10 + n % 90), one.price - Decimal(n % 7))
        for n, one in enumerate(instruments)
    )
    names = [f"U{2_000_001 + n}" for n in range(accounts)]
    return Scenario(
        name=f"{accounts} accounts x {positions} positions",
        instruments=instruments,
        accounts=tuple(Account(name, cash={"USD": Decimal(1_000_000)}, positions=openings) for name in names),
        events=tuple(_one_share(n, names[n % accounts], instruments[n % positions]) for n in range(executions)),
        price_every=Decimal(0),
    )


def _one_share(n: int, account: str, instrument: Instrument) -> Event:
    side = "BUY" if n % 2 == 0 else "SELL"
    return Event(at=Decimal(1), account=account, con_id=instrument.con_id, side=side, quantity=Decimal(1))
