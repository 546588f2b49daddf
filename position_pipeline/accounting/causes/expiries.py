"""When an option's last day is over, in the exchange's own day.

Belongs here: dates and closing times. Does not belong here: what the end of an option means (options.py). Holidays are not known here: a
day that is closed makes us wait longer, never too short.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from position_pipeline.accounting.model import Instrument

_CLOSES = {
    "USD": ("America/New_York", time(16, 15)),
    "CAD": ("America/Toronto", time(16, 15)),
    "EUR": ("Europe/Berlin", time(17, 45)),
    "CHF": ("Europe/Zurich", time(17, 45)),
    "GBP": ("Europe/London", time(16, 45)),
    "JPY": ("Asia/Tokyo", time(16, 0)),
    "HKD": ("Asia/Hong_Kong", time(16, 30)),
    "AUD": ("Australia/Sydney", time(16, 30)),
}
_ANYWHERE = ("Etc/GMT+12", time(23, 59, 59))
"""Where a day is over last, for a currency that we know no exchange of."""
_OPENS = time(10, 0)


def closing_of(instrument: Instrument) -> datetime | None:
    """When trading of an instrument ends for ever; None where it tells no day."""
    text = instrument.expiry[:8]
    if len(text) != 8 or not text.isdigit():
        return None
    zone, closes = _CLOSES.get(instrument.currency, _ANYWHERE)
    try:
        day = date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None
    return datetime.combine(day, closes, ZoneInfo(zone)).astimezone(UTC)


def next_opening_after(closing: datetime, currency: str) -> datetime:
    """When the next weekday's trading has begun: until then the shares of an assignment may not have come."""
    zone, _ = _CLOSES.get(currency, _ANYWHERE)
    day = closing.astimezone(ZoneInfo(zone)).date() + timedelta(days=1)
    while day.weekday() > 4:
        day += timedelta(days=1)
    return datetime.combine(day, _OPENS, ZoneInfo(zone)).astimezone(UTC)
