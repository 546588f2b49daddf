"""What the broker says, in the product's values: holdings, fills, rows of a statement, instruments.

Belongs here: turning one thing of the simulated broker, or one fact, into one value. Does not belong here: which of them are told (world.py).
"""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis, Fill, Holding, Instrument, Side

if TYPE_CHECKING:
    from position_pipeline.simulator.ledger import Execution
    from position_pipeline.simulator.ledger import Holding as Held
    from position_pipeline.simulator.scenario import Instrument as Listed
    from position_pipeline.simulator.values import Figures
    from position_pipeline_tests.simulation.facts import Fact

K = AdjustmentKind
_KINDS = {
    "open": K.OPENING_LOT, "split": K.SPLIT, "in": K.TRANSFER, "out": K.TRANSFER, "expiry": K.EXPIRY, "gave": K.CONVERSION_OUT,
    "took": K.CONVERSION_IN,
}  # fmt: skip
_FOR_NOTHING = (K.EXPIRY, K.EXERCISE, K.ASSIGNMENT)


def instrument(one: Listed) -> Instrument:
    return Instrument(
        name(one.con_id),
        one.local_symbol,
        one.sec_type,
        one.currency,
        one.factor,
        expiry=one.expiry,
        strike=one.strike if one.right else None,
        right=one.right,
        underlying=one.symbol if one.right else "",
    )


def name(con_id: int) -> str:
    return f"ibkr:{con_id}"


def holding(one: Listed, held: Held, at_market: Figures) -> Holding:
    average = held.average_cost
    return Holding(name(one.con_id), held.quantity, average / one.factor, average, at_market.price, at_market.value, at_market.unrealized)


def listed_fill(one: Execution, factor: Decimal) -> Fill:
    """A fill as the list of executions shows it: without its commission until that is reported."""
    return Fill(
        account=one.account,
        instrument=name(one.con_id),
        execution_id=one.family,
        side=Side.BUY if one.side == "BOT" else Side.SELL,
        quantity=one.quantity,
        price=one.price,
        currency="USD",
        time=one.time.astimezone(UTC),
        multiplier=factor,
        commission=one.commission if one.reported else None,
        commission_currency="USD" if one.reported else None,
        revision=one.revision,
        source="ibkr-api",
    )


def stated_fill(fact: Fact, factor: Decimal) -> Fill:
    """A fill as a statement tells it: in its last revision, with its commission, and the option whose premium it carries."""
    assert fact.price is not None
    return Fill(
        account=fact.account,
        instrument=name(fact.con_id),
        execution_id=fact.id,
        side=fact.side,
        quantity=abs(fact.quantity),
        price=fact.price,
        currency="USD",
        time=fact.time,
        multiplier=factor,
        commission=fact.commission,
        commission_currency="USD",
        revision=fact.revision,
        premium_from=fact.takes_from or None,
        source="flex",
    )


def stated_adjustment(fact: Fact, factor: Decimal) -> Adjustment:
    """Everything else that a statement tells."""
    kind = _KINDS.get(fact.kind) or (K.ASSIGNMENT if fact.quantity > 0 else K.EXERCISE)
    has_ratio = fact.kind in ("split", "gave", "took")
    return Adjustment(
        id=fact.id,
        account=fact.account,
        instrument=name(fact.con_id),
        kind=kind,
        time=fact.time,
        quantity=fact.quantity,
        currency="USD",
        multiplier=factor,
        price=Decimal(0) if kind in _FOR_NOTHING else fact.price,
        basis=Basis.STATEMENT,
        numerator=Decimal(fact.numerator) if has_ratio else None,
        denominator=Decimal(fact.denominator) if has_ratio else None,
        takes_from=fact.takes_from or None,
        source="flex",
    )
