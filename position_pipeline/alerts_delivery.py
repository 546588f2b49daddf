"""Telling: the one use case that decides what is due, keeps it, and hands it to the channels.

Belongs here: channels, the process that sends, what becomes of an attempt. Does not belong here: what is told (alerts, alerts_causes), the
library that knows the channels (alerts_sender, which runs apprise in a process of its own).

A channel gets a process and `DEADLINE` seconds, whatever it does: a socket that drips, a library that hangs or dies, memory that it eats
are all ended with it. What is sent is recorded after it was sent, so that a process that is killed in between sends it once more:
at least once, and not twice by two processes, because one at a time tells.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from position_pipeline import alerts, alerts_causes, alerts_differences, show
from position_pipeline.market_hours import working_time
from position_pipeline.settings import SIMULATED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from position_pipeline.alerts import Trouble
    from position_pipeline.settings import Settings
    from position_pipeline.store import Store

Row = dict[str, Any]

DEADLINE = 20
"""Seconds that a channel may take for all that it is given at once; then its process is killed."""

SPARE = 5
"""Seconds for the process to start and to be gone; only a machine that is very busy needs them."""

LONGEST_ERROR = 300


@dataclass(frozen=True, slots=True)
class Channel:
    """Where alerts go. `name` (`slack-1`) is for people and rows; `url` holds secrets and is never shown."""

    name: str
    url: str = field(repr=False)


def channels(settings: Settings) -> tuple[Channel, ...]:
    """The URLs of POSITION_SYNC_ALERTS, separated by commas, semicolons or blanks, in the order in which they stand there."""
    text = settings.alerts.get_secret_value() if settings.alerts else ""
    urls = [url for url in re.split(r"[\s,;]+(?=[a-zA-Z][\w.+-]*://)", text.strip(" \t\n,;")) if url]
    seen: Counter[str] = Counter()
    found = []
    for url in urls:
        scheme = (re.match(r"([a-zA-Z][a-zA-Z0-9.+-]{0,20})://", url) or ("", "unknown"))[1].lower()
        seen[scheme] += 1
        found.append(Channel(f"{scheme}-{seen[scheme]}", url))
    return tuple(found)


# -- telling


def tell(store: Store, settings: Settings, seen: Callable[[], Sequence[Trouble]], now: datetime) -> str:
    """Keep and send what is due, and say in a sentence what that was. `seen` gives the troubles that are in no table of ours.

    Nothing is sent to a channel that was not configured when something was told: switching alerts on does not send the past.
    """
    with store.alerting.telling() as mine:
        if not mine:
            return "Another process is telling."
        told = alerts.decide(_troubles(store, settings, seen(), now), _standing(store), now)
        where = channels(settings)
        store.alerting.save(_rows(told, settings), [channel.name for channel in where], now)
        sent, failed = _deliver(store, where, now)
    return _in_words(told, where, sent, failed)


def _troubles(store: Store, settings: Settings, seen: Sequence[Trouble], now: datetime) -> list[Trouble]:
    rows, patience, silence = store.alerting.breaks(), settings.stale_after, partial(working_time, window=settings.reset_minutes)
    breaks = alerts_differences.of_breaks(rows, now, settings.alert_min_impact, settings.next_answer)
    stale = alerts_causes.of_accounts(store.alerting.accounts(), _read(settings), patience, silence, now)
    gaps = alerts_causes.of_gaps(store.alerting.gaps(), patience, now)
    return [*alerts_causes.told_elsewhere(seen, rows, stale), *breaks, *stale, *gaps]


def _read(settings: Settings) -> frozenset[str]:
    """The connections that are synced by the clock: nothing else is expected to be fresh."""
    if not settings.enabled:
        return frozenset()
    return frozenset(connection.name for connection in settings.ibkr_connections()) or frozenset({SIMULATED})


def _standing(store: Store) -> list[alerts.Alert]:
    typed = {"kind": alerts.Kind, "severity": alerts.Severity, "accounts": tuple}
    rows = store.alerting.standing()
    return [alerts.Alert(**{name: typed.get(name, _same)(value) for name, value in row.items()}) for row in rows]


def _same(value: Any) -> Any:
    return value


def _in_words(told: Sequence[alerts.Told], where: Sequence[Channel], sent: int, failed: int) -> str:
    messages = sum(each.message is not None for each in told)
    if not messages and not sent and not failed:
        return "There is nothing new to tell."
    words = [f"{show.counted(messages, 'new message')}.", f"{show.counted(sent, 'delivery', 'deliveries')}, {failed} failed."]
    if not where:
        words[1] = "POSITION_SYNC_ALERTS is not set, so nothing is sent: position-pipeline alerts lists them."
    return " ".join(words)


# -- sending


def _deliver(store: Store, where: Sequence[Channel], now: datetime) -> tuple[int, int]:
    """Send what waits, all channels side by side: (delivered, failed)."""
    waiting = store.alerting.begin_attempts([channel.name for channel in where], now) if where else []
    if not waiting:
        return 0, 0
    work = [(channel, [row for row in waiting if row["channel"] == channel.name]) for channel in where]
    work = [(channel, rows) for channel, rows in work if rows]
    with ThreadPoolExecutor(len(work)) as pool:
        errors = {id_: error for found in pool.map(lambda each: send(*each), work) for id_, error in found.items()}
    for id_, error in errors.items():
        store.alerting.end_attempt(id_, now, error)
    failed = sum(error is not None for error in errors.values())
    return len(errors) - failed, failed


def send(channel: Channel, messages: Sequence[Row], deadline: int = DEADLINE) -> dict[Any, str | None]:
    """Hand messages (id, title, body, severity) to a channel: by id None, or why it was not taken, in words without secrets."""
    answers = _answers(channel, messages, deadline)
    missing = answers.get("url") or (f"no answer within {deadline} s" if "late" in answers else "the sending process ended by itself")
    errors = {row["id"]: answers.get(str(row["id"]), missing) for row in messages}
    return {id_: None if error == "" else _cut(scrubbed(error, pieces(channel.url, 3))) for id_, error in errors.items()}


def understood(channel: Channel) -> str:
    """Empty if the channel's URL means something to the library, else why not. Nothing is sent."""
    return _answers(channel, (), DEADLINE).get("url", "the process that sends gave no answer")


def _answers(channel: Channel, messages: Sequence[Row], deadline: int) -> dict[str, str]:
    """What the sending process says: by `url` and by message an empty text or an error; `late` if it had to be ended."""
    work = {"url": channel.url, "seconds": deadline, "messages": [{**row, "id": str(row["id"])} for row in messages]}
    try:
        # The URL goes through a pipe: what stands on a command line can be read by everybody on the machine.
        sender = subprocess.run(
            [sys.executable, "-m", "position_pipeline.alerts_sender"],
            input=json.dumps(work, default=str),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=deadline + SPARE,
            check=False,
        )
        said, late = sender.stdout, sender.returncode == -signal.SIGALRM
    except subprocess.TimeoutExpired as error:
        said, late = _text(error.stdout), True
    answers = dict(json.loads(line) for line in said.splitlines() if line.endswith("]"))
    return {**answers, "late": "yes"} if late else answers


def _text(output: str | bytes | None) -> str:
    """What a process that was killed had said; Python gives it as bytes, whatever was asked for."""
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


# -- secrets


def _secrets(settings: Settings) -> set[str]:
    """What no message may hold, even where an error repeats it: every secret of the settings, and what is in their URLs."""
    values = [value.get_secret_value() for name in type(settings).model_fields if isinstance(value := getattr(settings, name), SecretStr)]
    database = settings.database_url.get_secret_value() if settings.database_url else ""
    password = _password(database)
    urls = [piece for channel in channels(settings) for piece in pieces(channel.url, 8) if not _is_here(piece)]
    return {secret for secret in (*values, *urls, password, unquote(password)) if len(secret) > 2}


def _is_here(name: str) -> bool:
    """A number of a machine is no secret, and a gateway may have the same."""
    return name == "localhost" or re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", name) is not None


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""


def pieces(url: str, shortest: int) -> set[str]:
    """Everything in a URL that may be secret: each service keeps its tokens somewhere else, so all but the scheme is taken for one."""
    rest = url.partition("://")[2] or url
    parts = {part for text in (rest, unquote(rest)) for part in re.split(r"[/:@?&=#,;]+", text)}
    return {part for part in (*parts, rest, url) if len(part) >= shortest}


def scrubbed(text: str, secrets: Iterable[str]) -> str:
    """The text without any of the secrets, longest first, so that no piece of one is left."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "...")
    return text


def _rows(told: Sequence[alerts.Told], settings: Settings) -> list[Row]:
    """What is kept and sent, with no secret in any of its texts."""
    secrets, groups = _secrets(settings), alerts.rows(told)
    for row in (row for group in groups for row in (group["message"], *group["alerts"]) if row):
        row.update({name: scrubbed(row[name], secrets) for name in ("title", "body", "headline") if name in row})
    return groups


def _cut(text: str) -> str:
    return " ".join(text.split())[:LONGEST_ERROR]
