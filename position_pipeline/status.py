"""The answer to "does it run, and is it fresh?": one value for the command line and, later, the page.

Belongs here: putting settings, the sync log and ages together. Does not belong here: reading rows (store), drawing (show).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from position_pipeline import show

if TYPE_CHECKING:
    from collections.abc import Mapping

    from position_pipeline.settings import Settings
    from position_pipeline.store import Store

ZONE = ZoneInfo("America/New_York")
"""The schedule's time zone: the one in which the exchanges' day is counted."""

REACHED = frozenset({"synced", "unchanged", "partial", "rejected"})


def status(settings: Settings, store: Store, now: datetime) -> dict[str, Any]:
    """The fields of `status --json`; `accounts` has one row an account."""
    totals, last, error = store.read.totals(), store.read.last_sync(), store.read.last_error()
    beats = store.read.scheduler_beat()
    alive = beats is not None and (now - beats).total_seconds() < 120
    streams = [stream(row) for row in store.streaming.streams()]
    hearing = {row["connection"]: row["connected"] for row in streams if row["listening"]}
    return {
        "enabled": settings.enabled,
        "schedule": f"every {_spoken(settings.sync_interval)}, {ZONE.key} time",
        "scheduler_running": alive,
        "is_running": totals["is_running"],
        "last_run_time": max((row["finished_at"] for row in last), default=None),
        "last_run_duration_ms": max((row["duration_ms"] for row in last), default=None),
        "next_run_time": next_run(now, settings.sync_interval) if settings.enabled and alive else None,
        **{name: totals[name] for name in ("total_runs", "successful_runs", "failed_runs", "rejects", "waiting")},
        **{name: totals[name] for name in ("created", "updated", "closed", "triggers")},
        "last_error": _error(error),
        "last_result": {row["account"]: row["outcome"] for row in last} or None,
        "streams": streams,
        "accounts": [_account(settings, row, now, hearing) for row in store.read.accounts()],
    }


def next_run(now: datetime, interval: int) -> datetime:
    """The next tick of the schedule: parts of an hour, or parts of New York's day. Always later than `now`."""
    if interval <= 3600:  # New York is whole hours from UTC, in summer and in winter, so parts of an hour are the same everywhere
        passed = int(now.timestamp()) // interval
        return datetime.fromtimestamp((passed + 1) * interval, UTC)
    midnight = now.astimezone(ZONE).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    ticks = ((midnight + timedelta(seconds=n * interval)).astimezone(UTC) for n in range(2 * 86400 // interval + 1))
    return next(tick for tick in ticks if tick > now)


def _spoken(seconds: int) -> str:
    hours, minutes = divmod(seconds // 60, 60)
    return show.counted(hours, "hour") if hours else show.counted(minutes, "minute")


def _account(settings: Settings, row: show.Row, now: datetime, hearing: Mapping[str, bool]) -> show.Row:
    """`connected`: by the stream of its connection where one is listened to, else by the last sync."""
    connected = hearing.get(row["connection"], row["last_outcome"] in REACHED)
    return {**show.with_age(row, settings.stale_after, now), "connected": connected}


def stream(row: show.Row) -> show.Row:
    """One stream's health. `listening`: its listener lives; what it said last counts only then."""
    listening = row["alive"]
    shown = ("connection", "detail", "client_id", "connected_at", "disconnected_at", "last_event_at", "last_heartbeat_at")
    return {
        **{name: row[name] for name in (*shown, "fills", "triggers")},
        "listening": listening,
        "connected": listening and row["state"] == "connected",
        "gap_open": row["gap_opened_at"] is not None,
        "gap_opened_at": row["gap_opened_at"],
        "gap_cause": row["gap_cause"],
        "gap_healed_at": row["gap_healed_at"],
    }


def _error(row: show.Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    text = "; ".join(" ".join(filter(None, (error["symbol"], error["error"]))) for error in row["errors"])
    return {"account": row["account"], "error": text, "at": row["finished_at"]}


def lines(found: dict[str, Any]) -> list[str]:
    """The answer in sentences."""
    text = [_last(found), _next(found), *map(_hears, found["streams"])]
    if found["is_running"]:
        text.append("A sync is running now.")
    if found["waiting"]:
        text.append(
            f"{show.counted(found['waiting'], 'fact')} of before the last answer: kept, and not booked yet, because something was inferred "
            "in the same place. The next complete answer decides: position-pipeline sync"
        )
    if found["rejects"]:
        text.append(f"{show.counted(found['rejects'], 'row')} could not be taken so far; the table rejects says why.")
    if found["last_error"]:
        error = found["last_error"]
        text.append(f"Last error, {show.moment(error['at'])} UTC, {error['account']}: {error['error']}")
    return text


def _last(found: dict[str, Any]) -> str:
    if not found["last_run_time"]:
        return "Never synced."
    runs = f"{show.counted(found['total_runs'], 'sync', 'syncs')} so far: {found['successful_runs']} good, {found['failed_runs']} failed."
    return f"Last sync: {show.moment(found['last_run_time'])} UTC. {runs}"


def _hears(row: show.Row) -> str:
    name = row["connection"]
    if not row["listening"]:
        return f"Nobody listens to {name}: position-pipeline up does, position-pipeline listen alone."
    gap = _gap(row) if row["gap_open"] else ""
    if not row["connected"]:
        return f"Not connected to {name}. {row['detail']}{gap}"
    heard = f"last event {show.moment(row['last_event_at'])} UTC" if row["last_event_at"] else "no event yet"
    return f"Listening to {name}: {heard}.{gap}"


def _gap(row: show.Row) -> str:
    """A gap that a sync has made good stays open while a difference that was found then does."""
    since = show.moment(row["gap_opened_at"])
    if row["gap_healed_at"] is None:
        return f" A gap is open since {since} UTC: {row['gap_cause']}"
    return f" A sync has looked for what was missed since {since} UTC, and a difference that it found is open: position-pipeline breaks"


def _next(found: dict[str, Any]) -> str:
    if found["next_run_time"]:
        return f"Next sync: {show.moment(found['next_run_time'])} UTC ({found['schedule']})."
    if not found["enabled"]:
        return "Scheduled syncs are off (POSITION_SYNC_ENABLED is false)."
    return "No scheduler is running: position-pipeline up starts one; position-pipeline sync syncs once."
