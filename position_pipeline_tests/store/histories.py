"""Invented histories of an account, and every way in which a broker may tell one: late, twice, corrected, busted, in pieces.

Belongs here: what happened and how it is told. Does not belong here: databases, expectations. A seed gives the same history for ever.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.model import AdjustmentKind, Basis, Fill, Side
from position_pipeline_tests.scenarios import AAPL, BTC, CALL, ES, SAP, adjustment, fill

if TYPE_CHECKING:
    from position_pipeline.accounting.model import Adjustment, Instrument

TRADED = (AAPL, SAP, ES, BTC, CALL)
LOTS = {AAPL.id: "10", SAP.id: "3", ES.id: "1", BTC.id: "0.12345678", CALL.id: "1"}


@dataclass(frozen=True, slots=True)
class History:
    """`told` are all deliveries, in the order in which things happened; `truth` is what the broker says in the end."""

    account: str
    method: str
    told: tuple[Fill | Adjustment, ...]
    truth: tuple[Fill, ...]


def history(seed: int, account: str) -> History:
    """Some 8 to 24 fills of a few instruments, with openings and an assignment in some."""
    draw = random.Random(f"{seed}/history")
    traded = draw.sample(TRADED, draw.randint(1, 3))
    told: list[Fill | Adjustment] = []
    truth: list[Fill] = []
    at = 0
    for number in range(draw.randint(8, 24)):
        at += draw.choice((0, 0, 1, 5))
        first = _fill(draw, account, draw.choice(traded), at, f"e{number:02}")
        versions = _versions(draw, first, number)
        truth += [version for version in versions[-1:] if version.quantity]
        told += [each for version in versions for each in _deliveries(draw, version, number, is_last=version is versions[-1])]
    told += _openings(draw, account, traded, [each for each in told if isinstance(each, Fill) and each.sequence is not None])
    if draw.random() < 0.4:
        legs = _assignment(draw, account, at + 1)
        told += legs
        truth += [leg for leg in legs if isinstance(leg, Fill)]
    return History(account, draw.choice(("fifo", "fifo", "average", "lifo", "hifo")), tuple(told), tuple(truth))


def long_history(seed: int, account: str, instrument: Instrument, fills: int = 60) -> History:
    """Many fills of one instrument, with all that a broker may do to a fill, and an opening balance in some."""
    draw = random.Random(f"{seed}/long")
    told: list[Fill | Adjustment] = []
    truth: list[Fill] = []
    at = 0
    for number in range(fills):
        at += draw.choice((0, 0, 1, 5))
        versions = _versions(draw, _fill(draw, account, instrument, at, f"e{number:02}"), number)
        truth += [version for version in versions[-1:] if version.quantity]
        told += [each for version in versions for each in _deliveries(draw, version, number, is_last=version is versions[-1])]
    if draw.random() < 0.3:
        more = {"price": "95.5", "basis": Basis.BROKER, "name": f"{account}-balance", "account": account}
        told.append(adjustment(AdjustmentKind.OPENING_BALANCE, instrument, 20, at=draw.choice((-1, 30)), **more))
    return History(account, draw.choice(("fifo", "fifo", "average", "lifo", "hifo")), tuple(told), tuple(truth))


def batches(seed: int, told: tuple[Fill | Adjustment, ...]) -> list[list[Fill | Adjustment]]:
    """The same deliveries in any order, some of them twice, cut into batches."""
    draw = random.Random(f"{seed}/batches")
    shuffled = [*told, *draw.sample(told, len(told) // 4)]
    draw.shuffle(shuffled)
    cuts = sorted(draw.sample(range(1, len(shuffled)), min(draw.choice((0, 1, 3, 6)), len(shuffled) - 1)))
    return [shuffled[start:end] for start, end in zip([0, *cuts], [*cuts, len(shuffled)], strict=True)]


def _fill(draw: random.Random, account: str, instrument: Instrument, at: int, name: str) -> Fill:
    quantity = Decimal(LOTS[instrument.id]) * draw.choice((1, 1, 2, 3))
    price = Decimal(draw.randint(9000, 11000)) / 100
    fee = Decimal(draw.randint(-30, 200)) / 100  # below zero is a rebate
    currency = draw.choice((instrument.currency,) * 4 + ("CHF",))
    return fill(
        instrument, draw.choice(tuple(Side)), quantity, price, at=at, name=name, fee=str(fee), fee_currency=currency, account=account
    )


def _versions(draw: random.Random, first: Fill, number: int) -> list[Fill]:
    """The fill, and perhaps a correction, and perhaps a bust of that."""
    versions = [first]
    if draw.random() < 0.2:
        changed = {"price": first.price + 1} if draw.random() < 0.5 else {"quantity": first.quantity * 2}
        versions.append(first._replace(revision=2, **changed, time=first.time + timedelta(seconds=draw.choice((0, 0, -1, 3)))))
    if draw.random() < 0.2:
        versions.append(versions[-1]._replace(revision=versions[-1].revision + 1, quantity=Decimal(0)))
    return versions


def _deliveries(draw: random.Random, version: Fill, number: int, *, is_last: bool) -> list[Fill]:
    """How one version is told: perhaps without its commission at first, perhaps by the statement once more."""
    told = [version]
    if draw.random() < 0.3:
        told.insert(0, version._replace(commission=None, commission_currency=None))
    if is_last and draw.random() < 0.4:
        final = {"source": "flex", "sequence": 1000 + number, "broker_pnl": Decimal(number), "order_id": f"o{number}"}
        told.append(version._replace(commission=(version.commission or Decimal(0)) + Decimal("0.01"), **final))
    return told


def _openings(draw: random.Random, account: str, traded: list[Instrument], numbered: list[Fill]) -> list[Adjustment]:
    """What was held before: as a balance, or as a lot, which gives way where it stands for one of the numbered fills."""
    openings = []
    for instrument in traded:
        held = Decimal(LOTS[instrument.id]) * draw.choice((-2, 2, 5))
        price = draw.choice(("95.5", None))
        basis = Basis.BROKER if price else Basis.UNKNOWN
        kind = draw.choice(("none", "balance", "lot", "gives way"))
        if kind == "balance":
            more = {"price": price, "basis": basis, "name": f"{account}-balance-{instrument.id}", "account": account}
            openings.append(adjustment(AdjustmentKind.OPENING_BALANCE, instrument, held, at=draw.choice((-1, 7)), **more))
        elif kind != "none":
            stands_for = [each.sequence for each in numbered if each.instrument == instrument.id]
            sequence = draw.choice(stands_for) if kind == "gives way" and stands_for else 999
            more = {"cost": str(held * 7), "sequence": sequence, "name": f"{account}-lot-{instrument.id}", "account": account}
            openings.append(adjustment(AdjustmentKind.OPENING_LOT, instrument, held, at=-5, commission="1.1", **more))
    return openings


def _assignment(draw: random.Random, account: str, at: int) -> list[Fill | Adjustment]:
    """A call that was written, in one or two fills, is assigned: its shares are sold at the strike with the premium in their price."""
    name = f"{account}-assigned"
    written = [fill(CALL, Side.SELL, 1, price, at=at, name=f"w{n}", fee="0.65", account=account) for n, price in enumerate(("3.1", "3.3"))]
    contracts = draw.randint(1, 2)
    more = {"price": 0, "commission": "0", "name": name, "account": account}
    assigned = adjustment(AdjustmentKind.ASSIGNMENT, CALL, contracts, at=at + 10, **more)
    leg = {"premium_from": name, "source": "flex", "fee": "0.5", "account": account}
    return [*written[:contracts], assigned, fill(AAPL, Side.SELL, 100 * contracts, 250, at=at + 10, name="leg", **leg)]
