"""What is told, once: from what is wrong now and what was told before to the messages that are due.

Belongs here: what a trouble and an alert are, when one is told again, what is told together, the wording of a message. Pure: no database,
no clock, no network. Does not belong here: what counts as wrong (alerts_causes), sending (alerts_delivery).

    wrong now, not told            -> new
    wrong now, other data          -> changed
    wrong now, more money or older -> worse      each class once: it is held against the worst that was told
    told, not wrong any more       -> recovered
    told, dismissed by a person    -> over, and nothing is said
    told, part of another one now  -> over, and nothing is said
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from position_pipeline import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

AGES = (timedelta(hours=1), timedelta(days=1), timedelta(days=7))
"""What has been wrong for so long is worse than before, and told again."""

MOST_ITEMS = 10
"""Things that one message tells in full; of the rest it says how many."""

LONGEST_SENTENCE = 400
"""Characters of one explanation: channels cut or refuse what is very long."""


class Kind(StrEnum):
    """What kind of thing is wrong; a failed check and a failed run are known from Dagster, the rest from our tables."""

    BREAK = "break"
    GUARD = "guard"
    STALE = "stale"
    RUN = "run"
    CHECK = "check"
    GAP = "gap"


class Severity(StrEnum):
    """How bad a message is; channels that know colours use them."""

    GOOD = "good"
    NOTICE = "notice"
    WARNING = "warning"
    GRAVE = "grave"


class News(StrEnum):
    """Why something is told."""

    NEW = "new"
    CHANGED = "changed"
    WORSE = "worse"
    RECOVERED = "recovered"
    DISMISSED = "dismissed"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong now, under the key of its cause.

    `headline` says what and where in a line, `says` how much and why, `helps` is the command that helps. `digest` is of what makes it
    another matter when it changes: of nothing that moves by itself, such as prices and ages. `quiet`: it may pass by itself, is
    told under another cause, or is not proven either way, so that it begins no alert and ends none. `covers`: keys under which parts of it
    may have been told before they were known to be one.
    """

    cause: str
    kind: Kind
    accounts: tuple[str, ...]
    headline: str
    says: str
    helps: str
    since_at: datetime
    digest: str = ""
    impact_class: int = 0
    grave: bool = False
    quiet: bool = False
    dismissed: bool = False
    covers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that was told and is not over, as it was last told; the classes are the worst that were told."""

    id: int
    cause: str
    kind: Kind
    accounts: tuple[str, ...]
    severity: Severity
    headline: str
    digest: str
    impact_class: int
    age_class: int
    since_at: datetime


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of news: about what is wrong, what was told of it before, or both."""

    news: News
    trouble: Trouble | None
    alert: Alert | None
    impact_class: int = 0
    age_class: int = 0

    @property
    def headline(self) -> str:
        known = self.trouble or self.alert
        assert known is not None
        return known.headline

    @property
    def severity(self) -> Severity:
        if self.news in (News.RECOVERED, News.DISMISSED) or self.trouble is None:
            return Severity.GOOD
        worst = max(self.impact_class, self.age_class)
        if self.trouble.grave or worst > 1:
            return Severity.GRAVE
        return Severity.WARNING if worst or self.trouble.kind is not Kind.BREAK else Severity.NOTICE


@dataclass(frozen=True, slots=True)
class Message:
    """What is told together."""

    title: str
    body: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Told:
    """One message with the news that it tells; `message` None: the news are only kept."""

    message: Message | None
    items: tuple[Item, ...]


def decide(troubles: Iterable[Trouble], standing: Iterable[Alert], now: datetime) -> list[Told]:
    """What is to be told now; nothing where everything has been."""
    known = {alert.cause: alert for alert in standing}
    groups: dict[str, list[Item]] = {}
    for trouble in troubles:
        item = _news_of(trouble, known.pop(trouble.cause, None), now)
        parts = [known.pop(cause) for cause in trouble.covers if cause in known]
        items = [Item(News.DISMISSED, None, part) for part in parts if not trouble.quiet] + ([item] if item else [])
        if items:
            groups.setdefault(_group(trouble), []).extend(items)
    for alert in known.values():
        groups.setdefault(_group(alert), []).append(Item(News.RECOVERED, None, alert))
    return [_told(items, now) for items in groups.values()]


def _group(what: Trouble | Alert) -> str:
    """What is told in one message: the differences of an account, what runs and their checks found, what is amiss with the connections."""
    if what.kind in (Kind.BREAK, Kind.GUARD):
        return f"accounts:{','.join(what.accounts)}"
    return "runs" if what.kind in (Kind.RUN, Kind.CHECK) else "connections"


def age_class(since: datetime, now: datetime) -> int:
    """0 for what is recent, and 1 more for each of `AGES` that has passed."""
    return sum(now - since >= age for age in AGES)


def _news_of(trouble: Trouble, alert: Alert | None, now: datetime) -> Item | None:
    if trouble.dismissed:
        return Item(News.DISMISSED, None, alert) if alert else None
    if trouble.quiet:
        return None
    # An alert may know of an earlier beginning: a check is evaluated anew with every run.
    age = age_class(min(trouble.since_at, alert.since_at) if alert else trouble.since_at, now)
    if alert is None:
        return Item(News.NEW, trouble, None, trouble.impact_class, age)
    worse = trouble.impact_class > alert.impact_class or age > alert.age_class
    if not worse and trouble.digest == alert.digest:
        return None
    impact_class, age = max(trouble.impact_class, alert.impact_class), max(age, alert.age_class)
    return Item(News.WORSE if worse else News.CHANGED, trouble, alert, impact_class, age)


# -- words


_ORDER = (Severity.GRAVE, Severity.WARNING, Severity.NOTICE, Severity.GOOD)
_WORDS = {News.NEW: "New", News.CHANGED: "Changed", News.WORSE: "Worse", News.RECOVERED: "Recovered"}


def _told(items: Sequence[Item], now: datetime) -> Told:
    spoken = sorted((item for item in items if item.news is not News.DISMISSED), key=_rank)
    if not spoken:
        return Told(None, tuple(items))
    paragraphs = [_paragraph(item, now) for item in spoken[:MOST_ITEMS]]
    if len(spoken) > MOST_ITEMS:
        paragraphs.append(f"And {len(spoken) - MOST_ITEMS} more: position-pipeline alerts")
    return Told(Message(_title(spoken), "\n\n".join(paragraphs), spoken[0].severity), tuple(items))


def _rank(item: Item) -> tuple[int, int]:
    return (_ORDER.index(item.severity), -item.impact_class)


def _title(items: Sequence[Item]) -> str:
    """The worst in words, and how many more there are."""
    first = f"{_WORDS[items[0].news]}: {items[0].headline}"
    return first if len(items) == 1 else f"{first}, and {len(items) - 1} more"


def _paragraph(item: Item, now: datetime) -> str:
    line = f"{_WORDS[item.news]}: {item.headline}"
    if item.trouble is None:
        since = item.alert.since_at if item.alert else now
        return f"{line}\nIt is over. It had been so since {_since(since, now)}."
    trouble = item.trouble
    since = min(trouble.since_at, item.alert.since_at) if item.alert else trouble.since_at
    return "\n".join(filter(None, (line, cut(trouble.says), f"Since {_since(since, now)}.", f"What helps: {trouble.helps}")))


def _since(at: datetime, now: datetime) -> str:
    return f"{show.moment(at)} UTC ({show.age(max((now - at).total_seconds(), 0))})"


def cut(text: str) -> str:
    return text if len(text) <= LONGEST_SENTENCE else f"{text[:LONGEST_SENTENCE]} ..."


def rows(told: Sequence[Told]) -> list[dict[str, Any]]:
    """What was decided, as the store keeps it."""
    return [{"message": _message_row(each.message), "alerts": [_alert_row(item) for item in each.items]} for each in told]


def _message_row(message: Message | None) -> dict[str, str] | None:
    return None if message is None else {"title": message.title, "body": message.body, "severity": message.severity.value}


def _alert_row(item: Item) -> dict[str, Any]:
    if item.trouble is None:
        assert item.alert is not None
        return {"news": item.news.value, "id": item.alert.id}
    trouble = item.trouble
    return {
        "news": "new" if item.alert is None else "again",
        "id": item.alert.id if item.alert else None,
        "cause": trouble.cause,
        "kind": trouble.kind.value,
        "accounts": list(trouble.accounts),
        "severity": item.severity.value,
        "headline": trouble.headline,
        "digest": trouble.digest,
        "impact_class": item.impact_class,
        "age_class": item.age_class,
        "since_at": trouble.since_at,
    }
