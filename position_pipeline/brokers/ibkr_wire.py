"""Bytes, fields and numbers of the TWS protocol, as far as a reader of positions needs them.

Belongs here: cutting the stream into messages, and what one field or one contract block means. Does not belong here: what a message
says about an account (ibkr_answer.py), sockets (ibkr_session.py).

We read the text on the wire and not the library's objects, because those hold floats: a crypto position of 12345678.123456789012
comes out of them as 12345678.12345679.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from position_pipeline.accounting.exact import MAX_DIGITS
from position_pipeline.accounting.model import Instrument

LONGEST_MESSAGE = 1 << 16
"""Bytes. Nothing that we ask for comes near it; text of another protocol, read as a length, is always above it."""

DERIVATIVES = frozenset({"OPT", "FOP", "FUT", "CONTFUT", "WAR", "IOPT"})
LABELLED_BY_SYMBOL = frozenset({"STK", "CRYPTO", "FUND", "IND", "CMDTY"})

_UNSET = frozenset({"", "nan", "inf", "-inf", "infinity", "-infinity", "infinite"})
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?").fullmatch
_PLAIN = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,19})?").fullmatch
_LONGEST_NUMBER = 400
_NO_NUMBER = Decimal("1e300")
_TIME = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(-| +)([0-9]{2}):([0-9]{2}):([0-9]{2})(?: +(\S.*))?").fullmatch


class NotTws(Exception):
    """What came is not the TWS protocol, or the stream is out of step: nothing that follows can be trusted."""


def clean(text: str, longest: int = 160) -> str:
    """Text of a broker as it may be shown and stored: one line, printable characters only, bounded. A terminal would obey the rest."""
    shown = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * longest]).split())
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


class Frames:
    """Cuts the byte stream into messages: four bytes of length, big-endian, then the fields."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> tuple[list[bytes], Exception | None]:
        """The messages (without their length) that are whole now, and what is wrong with the bytes after them, if anything."""
        buffer = self._rest + data if self._rest else data
        messages: list[bytes] = []
        at, end = 0, len(buffer)
        while end - at >= 4:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if not 0 < size <= LONGEST_MESSAGE:
                return messages, NotTws(f"a message of {size} bytes was announced ({clean(repr(buffer[at : at + 24]))})")
            if end - at - 4 < size:
                break
            messages.append(buffer[at + 4 : at + 4 + size])
            at += 4 + size
        self._rest = buffer[at:]
        return messages, None


def fields_of(message: bytes) -> list[str]:
    """The fields of a message; each is followed by NUL, also the last."""
    fields = message.decode(errors="backslashreplace").split("\0")
    fields.pop()
    return fields


def number(text: str) -> Decimal | None:
    """The exact number that stands there; None where the protocol says "unset" (empty, nan, infinite, 1.797e308).

    Raises ValueError for anything else, and for more digits than the product lets in.
    """
    if _PLAIN(text):
        return Decimal(text)
    if text.lower() in _UNSET:
        return None
    if len(text) > _LONGEST_NUMBER or not _NUMBER(text):
        raise ValueError(f"{clean(text, 40)!r} is not a number")
    value = Decimal(text)
    if value.copy_abs() >= _NO_NUMBER:
        return None
    exponent = int(value.as_tuple().exponent)
    if max(len(value.as_tuple().digits) + max(exponent, 0), -exponent) > MAX_DIGITS:
        raise ValueError(f"{clean(text, 40)!r} has more than {MAX_DIGITS} digits")
    return value


def needed(text: str, what: str) -> Decimal:
    """A number that must be there: an empty quantity read as 0 would be a position sold."""
    value = number(text)
    if value is None:
        raise ValueError(f"the {what} is missing")
    return value


def con_id(text: str) -> str:
    """IBKR's id of a contract, checked. Raises ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text)):
        raise ValueError(f"{clean(text, 40)!r} is not a contract id")
    return str(int(text))


def moment(text: str, zone: str) -> datetime:
    """The UTC time of an execution. `zone` counts where the text names none; the form with a hyphen and no zone is UTC by definition.

    Raises ValueError for another form and for a zone that this machine does not know.
    """
    match = _TIME(text)
    if not match:
        raise ValueError(f"{clean(text, 40)!r} is not an execution time")
    year, month, day, gap, hour, minute, second, named = match.groups()
    known = _zone((named or ("UTC" if gap == "-" else zone)).strip())
    local = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=known)
    return local.astimezone(UTC)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        # The library loses such an execution without a word; here it becomes a refused row that names the zone.
        raise ValueError(f"the time zone {clean(name, 40)!r} is not known on this machine") from None


@lru_cache(maxsize=8192)
def instrument(block: tuple[str, ...]) -> Instrument:
    """The contract that eleven fields describe: conId symbol secType expiry strike right multiplier exchange currency local class.

    Raises ValueError where the id or the multiplier cannot be read.
    """
    conid, symbol, sec_type, expiry, strike, right, multiplier, exchange, currency, local, _ = block
    kind = clean(sec_type, 16)
    return Instrument(
        id=f"ibkr:{con_id(conid)}",
        symbol=_label(clean(symbol, 64), kind, clean(currency, 16), clean(local, 64)) or conid,
        sec_type=kind,
        currency=clean(currency, 16),
        multiplier=_multiplier(multiplier, kind),
        exchange=clean(exchange, 32),
        expiry=clean(expiry, 32),
        strike=number(strike) or None,
        right={"C": "C", "CALL": "C", "P": "P", "PUT": "P"}.get(right.upper(), ""),
        underlying=clean(symbol, 64) if kind in DERIVATIVES else "",
    )


def _multiplier(text: str, sec_type: str) -> Decimal:
    """Units of price per contract; an empty field is 1, and so is a 0 where the kind knows no multiplier."""
    value = number(text)
    if value is None or (not value and sec_type not in DERIVATIVES):
        return Decimal(1)
    if value <= 0:
        raise ValueError(f"the multiplier {clean(text, 40)!r} is not above zero")
    return value


def _label(symbol: str, sec_type: str, currency: str, local: str) -> str:
    """What people call it: AAPL, `AAPL 261218C00250000`, ESZ6, EUR.USD."""
    if sec_type == "CASH":
        return f"{symbol}.{currency}"
    return symbol or local if sec_type in LABELLED_BY_SYMBOL else local or symbol
