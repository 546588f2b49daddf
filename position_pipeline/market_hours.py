"""When what an account holds can be traded, and when its broker rests: how much of a silence means something.

Belongs here: calendars of exchanges, by kind of instrument and currency, and the brokers' nightly resets. Does not belong here: what
follows from a silence (defs.verdicts_of_answers). The calendars take half a second to load, so nobody asks for them while all is well.
"""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Span = tuple[datetime, datetime]
    Silence = Callable[[Sequence[tuple[str, str]], datetime, datetime], timedelta]
    """How much of the time between two moments counts, for what an account holds."""

NEW_YORK = ZoneInfo("America/New_York")

LONGEST_SILENCE = timedelta(hours=26)
"""However closed the markets are: a schedule that runs around the clock is never silent for so long."""

EXCHANGES = {
    "USD": "XNYS", "EUR": "XETR", "GBP": "XLON", "CHF": "XSWX", "CAD": "XTSE", "JPY": "XTKS", "HKD": "XHKG", "AUD": "XASX", "SEK": "XSTO",
    "NOK": "XOSL", "DKK": "XCSE", "SGD": "XSES", "KRW": "XKRX", "INR": "XBOM", "MXN": "XMEX", "PLN": "XWAR", "BRL": "BVMF",
}  # fmt: skip
"""The exchange whose hours stand for a currency's stocks and options. What is not listed counts as always open: it is never excused."""

FUTURES = frozenset({"FUT", "FOP", "CONTFUT"})
ALWAYS = frozenset({"CRYPTO", "CASH", "CMDTY", "CFD"})

Kind = tuple[str, str]
"""(sec_type, currency)"""


def open_time(kinds: Iterable[Kind], start: datetime, end: datetime) -> timedelta:
    """For how long between two moments some of the kinds could be traded; all of it where one of them has no calendar."""
    if end <= start:
        return timedelta(0)
    calendars = {_calendar_of(kind) for kind in kinds}
    if not calendars:
        return timedelta(0)
    if None in calendars:
        return end - start
    spans = [span for name in sorted(filter(None, calendars)) for span in _sessions(name, start, end)]
    return sum((upto - since for since, upto in merged(spans)), timedelta(0))


def working_time(kinds: Iterable[Kind], start: datetime, end: datetime, window: tuple[int, int]) -> timedelta:
    """For how long some of the kinds could be traded and the broker did not rest, at the least."""
    return max(open_time(kinds, start, end) - resting_time(start, end, window), timedelta(0))


def resting_time(start: datetime, end: datetime, window: tuple[int, int]) -> timedelta:
    """How much of the time between two moments falls into the broker's daily reset, given as minutes of the day in New York."""
    begins, ends = window
    lasts = timedelta(minutes=(ends - begins) % 1440)
    day = start.astimezone(NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None) - timedelta(days=1)
    rest = timedelta(0)
    while day <= end.astimezone(NEW_YORK).replace(tzinfo=None):
        since = (day + timedelta(minutes=begins)).replace(tzinfo=NEW_YORK).astimezone(UTC)
        rest += max(min(since + lasts, end) - max(since, start), timedelta(0))
        day += timedelta(days=1)
    return rest


def merged(spans: Iterable[Span]) -> list[Span]:
    """The spans without overlaps, in order."""
    found: list[Span] = []
    for since, upto in sorted(spans):
        if found and since <= found[-1][1]:
            found[-1] = (found[-1][0], max(upto, found[-1][1]))
        else:
            found.append((since, upto))
    return found


def _calendar_of(kind: Kind) -> str | None:
    sec_type, currency = kind
    if sec_type in ALWAYS:
        return None
    return "CMES" if sec_type in FUTURES else EXCHANGES.get(currency)


def _sessions(name: str, start: datetime, end: datetime) -> Sequence[Span]:
    """The trading hours of one exchange that touch the time between two moments."""
    import exchange_calendars

    # A session is named by its day there, and one of futures begins on the evening before.
    first, last = (start - timedelta(days=4)).date(), (end + timedelta(days=4)).date()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pandas tells its callers of later versions
        schedule = exchange_calendars.get_calendar(name, start=str(first), end=str(last)).schedule
    spans = ((row.open.to_pydatetime(), row.close.to_pydatetime()) for row in schedule.itertuples())
    return [(max(since, start), min(upto, end)) for since, upto in spans if upto > start and since < end]
