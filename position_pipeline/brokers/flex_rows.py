"""One row of a Flex file, read by what its columns mean: numbers, times, instruments.

Belongs here: turning texts into values, or saying why not. Does not belong here: what to do with a row.

Times carry no offset: they are New York wall time, for European accounts too. The hour that occurs twice in autumn is taken as the first
one (summer time), unless the text names EST or EDT.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from position_pipeline.accounting import exact
from position_pipeline.accounting.model import Instrument
from position_pipeline.brokers.flex_document import StatementError, quoted
from position_pipeline.brokers.flex_words import DERIVATIVES, OPTIONS, PERCENT_PRICED, UNIT_MULTIPLIER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NEW_YORK = ZoneInfo("America/New_York")
MIDNIGHT = time(0)
_NOTHING = frozenset({"", "-", "--"})
_MONTHS = {name: n for n, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)}
_OFFSETS = {"EST": timezone(timedelta(hours=-5)), "EDT": timezone(timedelta(hours=-4))}
_YEAR = r"(?P<year>20\d\d|19\d\d|\d\d)"
_DAYS = (
    r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)",
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)",
    rf"(?P<day>\d\d?)-(?P<month>[A-Za-z]{{3}})-{_YEAR}",
    rf"(?P<first>\d\d?)/(?P<second>\d\d?)/{_YEAR}",
)
_CLOCK = r"(?:(?:[;,T ]\s*(?P<clock>\d\d:?\d\d(?::?\d\d)?)|(?P<joined>\d\d:?\d\d:?\d\d))(?:\s+(?P<zone>[A-Z]{3}))?)?"
_MOMENTS = tuple(re.compile(day + _CLOCK, re.ASCII) for day in _DAYS)
_SLASHES = re.compile(r"(\d\d?)/(\d\d?)/\d", re.ASCII)
_STRIKE = re.compile(r"(?P<strike>\d+(?:\.\d+)?) (?P<right>[CP])$", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9._-]{1,40}", re.ASCII)


class RowError(ValueError):
    """What is wrong with one row; the row is refused and the others are taken."""


def day_first(texts: Iterable[str]) -> bool | None:
    """Whether dates with slashes in these texts start with the day; None when nothing tells."""
    pairs = [(int(m[1]), int(m[2])) for m in map(_SLASHES.match, texts) if m]
    if any(first > 12 for first, _ in pairs):
        return True
    return False if any(second > 12 for _, second in pairs) else None


def moment(text: str, *, slashes_start_with_day: bool | None = None) -> tuple[date, time | None, timezone | None]:
    """(day, time of day if given, offset if given) of a text in any format that a Flex query can be set to. Raises RowError."""
    match = next((m for m in (pattern.fullmatch(text) for pattern in _MOMENTS) if m), None)
    if match is None:
        raise RowError(f"{quoted(text)!r} is not a date")
    found = match.groupdict()
    if "first" in found:
        if slashes_start_with_day is None:
            raise RowError(f"{quoted(text)!r} may be day/month or month/day: choose the date format yyyyMMdd in the Flex query")
        found["day"], found["month"] = found["first"], found["second"]
        if not slashes_start_with_day:
            found["day"], found["month"] = found["month"], found["day"]
    return _built(text, found)


def _built(text: str, found: Mapping[str, str | None]) -> tuple[date, time | None, timezone | None]:
    year, month, day = (str(found[key]) for key in ("year", "month", "day"))
    digits = (found["clock"] or found["joined"] or "").replace(":", "")
    zone = found["zone"]
    if zone is not None and zone not in _OFFSETS:
        raise RowError(f"{quoted(text)!r} names a time zone that Flex statements do not use")
    if len(year) == 4 and not 1980 <= int(year) <= 2200:
        raise RowError(f"{quoted(text)!r} is not a date of our time")
    try:
        on = date(int(year) + (2000 if len(year) == 2 else 0), _MONTHS.get(month.lower()) or int(month), int(day))
        at = time(int(digits[:2]), int(digits[2:4]), int(digits[4:6] or 0)) if digits else None
    except ValueError:
        raise RowError(f"{quoted(text)!r} is not a date") from None
    return on, at, _OFFSETS[zone] if zone else None


def in_utc(day: date, clock: time, offset: timezone | None = None) -> datetime:
    """New York wall time (or at a given offset) as UTC; of an hour that occurs twice, the first."""
    return datetime.combine(day, clock, tzinfo=offset or NEW_YORK).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of one account. Empty, `-` and `--` mean that there is nothing, which is not zero."""

    tag: str
    line: int
    values: Mapping[str, str]
    account: str
    part: int
    slashes_start_with_day: bool | None = None

    def text(self, name: str) -> str:
        value = self.values.get(name, "").strip()
        return "" if value in _NOTHING else value

    def words(self, name: str) -> tuple[str, ...]:
        """The codes of a list column."""
        return tuple(word for word in re.split(r"[;,\s]+", self.text(name)) if word)

    def number(self, name: str) -> Decimal | None:
        """The number in a column, None when there is nothing. Raises RowError."""
        text = self.text(name)
        if not text:
            return None
        try:
            return exact.number(text)
        except ValueError as error:
            raise RowError(f"{name} {quoted(text)!r} {error}") from None

    def needed(self, name: str) -> Decimal:
        value = self.number(name)
        if value is None:
            raise RowError(f"{name} is missing")
        return value

    def id(self, name: str) -> str:
        """A broker's id, which is kept only when it looks like one; `0` stands for none. Raises RowError."""
        text = self.text(name)
        if text and not _ID.fullmatch(text):
            raise RowError(f"{name} {quoted(text)!r} is not an id")
        return "" if text == "0" else text

    def label(self, name: str) -> str:
        """An id that nothing depends on: empty when it does not look like one."""
        try:
            return self.id(name)
        except RowError:
            return ""

    def serial(self, name: str) -> int | None:
        """A broker's id as a number, None when there is none or it is no number."""
        text = self.id(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None

    def time(self, *names: str, clock: time = MIDNIGHT) -> tuple[datetime, bool]:
        """(UTC time of the first column that has one, whether the time of day was given); `clock` is taken where it was not."""
        for name in names:
            if text := self.text(name):
                day, at, offset = moment(text, slashes_start_with_day=self.slashes_start_with_day)
                return in_utc(day, clock if at is None else at, offset), at is not None
        raise RowError(f"{' and '.join(names)} are missing")

    @property
    def symbol(self) -> str:
        """The label, with the padding of option symbols folded as the API adapter does, so that it does not change with the source."""
        return quoted(" ".join(self.text("symbol").split()) or self.text("conid"), 40)

    @property
    def instrument_id(self) -> str:
        """Raises RowError when the row names no instrument."""
        conid = self.text("conid")
        if not (conid.isascii() and conid.isdigit() and len(conid) <= 18) or not int(conid):
            raise RowError(f"conid {quoted(conid)!r} is not a contract id" if conid else "conid is missing")
        return f"ibkr:{int(conid)}"

    @property
    def asset(self) -> str:
        return quoted(self.text("assetCategory"), 10)

    @property
    def currency(self) -> str:
        """Raises RowError when it is missing; a currency that we do not know is kept as it is."""
        text = self.text("currency")
        if not (text.isascii() and text.isalnum() and 2 <= len(text) <= 8):
            raise RowError(f"currency {quoted(text)!r} is not a currency" if text else "currency is missing")
        return text

    @property
    def multiplier(self) -> Decimal:
        """Units of the underlying per contract; 0.01 for what is priced in percent of its face value. Raises RowError."""
        value = self.number("multiplier") or None
        if value is None and self.asset not in UNIT_MULTIPLIER | PERCENT_PRICED:
            raise RowError("multiplier is missing")
        if value is not None and value < 0:
            raise RowError(f"multiplier {value} is negative")
        return (value or Decimal(1)) * (Decimal("0.01") if self.asset in PERCENT_PRICED else 1)

    @property
    def strike(self) -> Decimal | None:
        """The strike; where there is no such column, from a description like `SA 19SEP25 17 C`."""
        written = _STRIKE.search(self.text("description"))
        return self.number("strike") or (exact.number(written["strike"]) if written and self.asset in OPTIONS else None)

    @property
    def right(self) -> str:
        """C, P, or nothing."""
        if self.asset not in OPTIONS:
            return ""
        text = self.text("putCall") or self.text("subCategory")
        return text if text in ("C", "P") else ""

    def instrument(self) -> Instrument:
        """Raises RowError when the row does not say enough."""
        return Instrument(
            id=self.instrument_id,
            symbol=self.symbol,
            sec_type=self.asset,
            currency=self.currency,
            multiplier=self.multiplier,
            exchange=quoted(self.text("listingExchange") or self.text("exchange"), 20),
            expiry=self._expiry(),
            strike=self.strike,
            right=self.right,
            underlying=quoted(self.text("underlyingSymbol"), 40) if self.asset in DERIVATIVES else "",
            description=quoted(self.text("description"), 120),
        )

    def _expiry(self) -> str:
        text = self.text("expiry")
        if not text:
            return ""
        return moment(text, slashes_start_with_day=self.slashes_start_with_day)[0].strftime("%Y%m%d")


__all__ = ["MIDNIGHT", "NEW_YORK", "Row", "RowError", "StatementError", "day_first", "in_utc", "moment"]
