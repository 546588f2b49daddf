"""Values that the tests of every room share: accounts, instruments, and short ways to write fills, adjustments, holdings and answers.

Belongs here: values. Does not belong here: databases, fixtures, expectations.

Numbers are written as text or whole numbers; `at` is seconds after the opening of the market on the DAY.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from position_pipeline.accounting.model import (
    AccountValue,
    Adjustment,
    AdjustmentKind,
    Basis,
    Entry,
    Fill,
    Holding,
    Instrument,
    Side,
    Snapshot,
    SnapshotStatus,
)
from position_pipeline.brokers import Capture

ACCOUNT, OTHER_ACCOUNT = "U1000001", "U1000002"
BROKER = "ibkr"
DAY = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)

AAPL = Instrument("ibkr:265598", "AAPL", "STK", "USD")
KO = Instrument("ibkr:8894", "KO", "STK", "USD")
SAP = Instrument("ibkr:14204", "SAP", "STK", "EUR")
TSLA = Instrument("ibkr:76792991", "TSLA", "STK", "USD")
CALL = Instrument(
    "ibkr:712940105",
    "AAPL  280121C00250000",
    "OPT",
    "USD",
    Decimal(100),
    expiry="20280121",
    strike=Decimal(250),
    right="C",
    underlying="AAPL",
)
ES = Instrument("ibkr:649180678", "ESZ7", "FUT", "USD", Decimal(50), expiry="20271217")
BTC = Instrument("ibkr:479624278", "BTC", "CRYPTO", "USD")
EURUSD = Instrument("ibkr:12087792", "EUR.USD", "CASH", "USD")
EVERYTHING = (AAPL, KO, SAP, TSLA, CALL, ES, BTC, EURUSD)


def moment(at: float) -> datetime:
    return DAY + timedelta(seconds=at)


def number(value: str | int | Decimal | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def fill(
    instrument: Instrument, side: Side, quantity, price, *, at=0, name="", fee="0", fee_currency=None, account=ACCOUNT, **more
) -> Fill:
    """One execution. Without a `name` its id says when and what; `fee` None is a commission that has not come."""
    fee_currency = fee_currency or instrument.currency
    return Fill(
        account=account,
        instrument=instrument.id,
        execution_id=name or f"{instrument.symbol}-{at}-{side.value}",
        side=side,
        quantity=Decimal(quantity),
        price=Decimal(price),
        currency=instrument.currency,
        time=moment(at),
        multiplier=instrument.multiplier,
        commission=number(fee),
        commission_currency=None if fee is None else fee_currency,
        **{"source": "ibkr-api", **more},
    )


def buy(instrument: Instrument, quantity, price, **more) -> Fill:
    return fill(instrument, Side.BUY, quantity, price, **more)


def sell(instrument: Instrument, quantity, price, **more) -> Fill:
    return fill(instrument, Side.SELL, quantity, price, **more)


def adjustment(kind: AdjustmentKind, instrument: Instrument, quantity, *, at=0, name="", account=ACCOUNT, **more) -> Adjustment:
    for figure in ("price", "cost", "commission"):
        if figure in more:
            more[figure] = number(more[figure])
    return Adjustment(
        id=name or f"{kind.value}-{instrument.symbol}-{at}",
        account=account,
        instrument=instrument.id,
        kind=kind,
        time=moment(at),
        quantity=Decimal(quantity),
        currency=instrument.currency,
        multiplier=instrument.multiplier,
        **{"basis": Basis.STATEMENT, "source": "flex", **more},
    )


def of_account(entry: Entry, account: str) -> Entry:
    """The same fill or adjustment in another account."""
    return entry._replace(account=account) if isinstance(entry, Fill) else replace(entry, account=account)


def holding(instrument: Instrument, quantity, average=None, price=None) -> Holding:
    average = number(average)
    raw = None if average is None else average * instrument.multiplier
    return Holding(instrument.id, Decimal(quantity), average, raw, number(price))


def snapshot(*holdings: Holding, at: float = 3600, account: str = ACCOUNT, **more) -> Snapshot:
    """A complete answer, unless `status` or `errors` say otherwise."""
    status = SnapshotStatus.PARTIAL if "errors" in more else SnapshotStatus.COMPLETE
    values = (AccountValue("NetLiquidation", "100000.00", "USD"),)
    return Snapshot(account, BROKER, moment(at), **{"status": status, "holdings": holdings, "values": values, **more})


def rejected(reason: str = "the list of positions has no end", *, at: float = 3600, account: str = ACCOUNT) -> Snapshot:
    return Snapshot(account, BROKER, moment(at), SnapshotStatus.REJECTED, reason=f"{account}: {reason}")


def capture(*snapshots: Snapshot, fills: tuple[Fill, ...] = (), refused=(), instruments: tuple[Instrument, ...] = EVERYTHING) -> Capture:
    return Capture(BROKER, datetime.now(UTC), snapshots, fills, instruments, refused)
