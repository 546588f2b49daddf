"""How a contract is written: the three blocks that messages carry, and the full details.

Here: field order of contracts. Not here: the messages around them (`messages.py`).
"""

from functools import cache

from position_pipeline.simulator.scenario import FUTURES, OPTIONS, Instrument
from position_pipeline.simulator.wire import ascii_text, decimal_text, frame


def _strike(one: Instrument) -> str:
    return decimal_text(one.strike) if one.strike else "0.0"


def _multiplier(one: Instrument) -> str:
    return "" if one.multiplier is None else decimal_text(one.multiplier)


@cache
def position_block(one: Instrument) -> tuple[str, ...]:
    """In position rows a stock names its listing exchange and a future names none."""
    exchange = "" if one.sec_type in FUTURES else (one.primary_exchange or one.exchange)
    return _block(one, _strike(one), one.right, exchange)


@cache
def portfolio_block(one: Instrument) -> tuple[str, ...]:
    """In portfolio rows the right of what is no option is `0`, and the exchange is the primary one."""
    right = one.right if one.sec_type in OPTIONS else "0"
    return _block(one, decimal_text(one.strike), right, one.primary_exchange or one.exchange)


@cache
def execution_block(one: Instrument, exchange: str) -> tuple[str, ...]:
    return _block(one, _strike(one), one.right, exchange)


@cache
def order_block(one: Instrument) -> tuple[str, ...]:
    right = one.right if one.sec_type in OPTIONS else "?"
    return _block(one, decimal_text(one.strike), right, one.exchange)


def _block(one: Instrument, strike: str, right: str, exchange: str) -> tuple[str, ...]:
    return (
        str(one.con_id),
        one.symbol,
        one.sec_type,
        one.expiry,
        strike,
        right,
        _multiplier(one),
        exchange,
        one.currency,
        one.local_symbol,
        one.trading_class,
    )


def contract_details(version: int, request_id: int, one: Instrument, zone: str) -> bytes:
    """All that is known of one contract; the server version decides over four places."""
    old = version < 164
    fields: list[object] = [10]
    if old:
        fields.append(8)
    fields += [request_id, one.symbol, one.sec_type, one.expiry, decimal_text(one.strike), one.right, one.exchange]
    fields += [one.currency, one.local_symbol, one.trading_class, one.trading_class, one.con_id, one.tick]
    if old:
        fields.append(1)  # mdSizeMultiplier
    fields += [_multiplier(one), "LMT,MKT", "SMART," + (one.primary_exchange or one.exchange), 1, one.under_con_id]
    fields += [ascii_text(one.long_name, version), one.primary_exchange, one.expiry[:6], "", "", ""]
    fields += [zone, "", "", "", 0, 0]  # trading hours, liquid hours, evRule, evMultiplier, number of security ids
    fields += [1, one.symbol if one.under_con_id else "", "STK" if one.sec_type == "OPT" else "", "26", one.expiry]
    if version >= 152:
        fields.append("COMMON" if one.sec_type == "STK" else "")
    if version == 163:
        fields.append(100)
    if version >= 164:
        smallest = "0.00000001" if one.sec_type == "CRYPTO" else "1"
        fields += [smallest, smallest, "100"]
    return frame(*fields)


def matches(one: Instrument, asked: dict[str, str]) -> bool:
    """Whether a contract fits what a request named; an empty field or a 0 fits everything."""
    if asked["con_id"] not in ("", "0"):
        return asked["con_id"] == str(one.con_id)
    mine = {
        "symbol": one.symbol,
        "sec_type": one.sec_type,
        "currency": one.currency,
        "local_symbol": one.local_symbol,
        "trading_class": one.trading_class,
        "right": one.right,
    }
    same = all(asked[key] in ("", mine[key]) for key in mine)
    expiry = asked["expiry"] == "" or one.expiry.startswith(asked["expiry"])
    strike = asked["strike"] in ("", "0", "0.0") or float(asked["strike"]) == float(one.strike)
    named = asked["symbol"] or asked["local_symbol"]
    return bool(named) and same and expiry and strike
