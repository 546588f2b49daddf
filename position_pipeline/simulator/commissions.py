"""What the simulated broker charges: a simple schedule in the order of magnitude of IBKR's fixed prices.

Here: the amount. Not here: when a client hears of it (`server.py`).
"""

from decimal import ROUND_HALF_EVEN, Decimal

from position_pipeline.simulator.scenario import FUTURES, OPTIONS, Instrument

_CENT_OF_A_CENT = Decimal("0.0001")


def commission_for(instrument: Instrument, quantity: Decimal, price: Decimal) -> Decimal:
    """Positive when paid; 0 for a fill of nothing."""
    if not quantity:
        return Decimal(0)
    amount = _amount(instrument, quantity, quantity * price * instrument.factor)
    return amount.quantize(_CENT_OF_A_CENT, ROUND_HALF_EVEN)


def _amount(instrument: Instrument, quantity: Decimal, value: Decimal) -> Decimal:
    if instrument.sec_type in OPTIONS:
        return max(Decimal("1.00"), quantity * Decimal("0.65"))
    if instrument.sec_type in FUTURES:
        return quantity * Decimal("2.25")
    if instrument.sec_type == "CRYPTO":
        return min(max(Decimal("1.75"), value * Decimal("0.0018")), value / 100)
    if instrument.currency != "USD":
        return max(Decimal("1.25"), value * Decimal("0.0005"))
    return min(max(Decimal("1.00"), quantity * Decimal("0.005")), value / 100)
