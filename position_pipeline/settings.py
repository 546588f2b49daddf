"""Every environment variable of the product, once, typed. The only module that reads the environment.

Belongs here: names, types, defaults, and the errors for wrong ones. Does not belong here: what is done with a value.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "POSITION_SYNC_"
LARGEST_CLIENT_ID = 2**31 - 1 - 16
"""A gateway reads it as a 32-bit integer, and the next few are tried where one is taken."""

BOOKING = 30
"""Seconds in which a sync books what has come, at the most."""

INTERVALS = tuple([60 * n for n in range(1, 60) if 60 % n == 0] + [3600 * n for n in range(1, 25) if 24 % n == 0])
"""The seconds between two syncs that a schedule can keep: parts of an hour and parts of a day."""

SIMULATED = "simulator"
"""The connection name of the simulated broker: its accounts are told from real ones by it."""

Word = Annotated[str, Field(min_length=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
ClientId = Annotated[int, Field(ge=0, le=LARGEST_CLIENT_ID)]


class SettingsError(Exception):
    """A setting is unknown or has a bad value; the text names it, and what would be right."""


class IbkrConnection(BaseModel):
    """One TWS or IB Gateway. `accounts` empty: all that it manages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Word = "ibkr"
    host: Word
    port: Port = 4001
    client_id: ClientId = 17
    accounts: tuple[str, ...] = ()


class Settings(BaseModel):
    """The settings of one process, made by `load`. Secrets are `SecretStr`, so that they never print."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    database_url: SecretStr | None = None
    home: Path = Path("~/.position_pipeline")
    config: Path | None = None

    enabled: bool = True
    sync_interval: int = Field(300, description="seconds")
    sync_on_trade: bool = True
    sync_on_position_update: bool = True
    mark_missing_as_closed: bool = False
    calculate_realized_pnl: bool = True
    default_account_id: str | None = None
    debounce: float = Field(5, ge=0, description="seconds")
    broker_timeout: float = Field(30, gt=0, le=600, description="seconds")
    stale_after: float = Field(900, gt=0, description="seconds")
    keep_runs_days: int = Field(14, ge=1, le=3650, description="days")
    keep_snapshots_days: int = Field(30, ge=2, le=3650, description="days")
    reset_window: str = Field("23:45-01:45", description="New York time")
    on_unexplained: Literal["adopt", "ask"] = "adopt"
    timing_window: float = Field(900, ge=0, description="seconds")
    vanished_share: Decimal = Field(Decimal("0.5"), ge=0, le=1)
    second_name_above: Decimal | None = Field(None, ge=0, description="in the account's base currency")
    cost_method: Literal["average", "fifo", "lifo", "hifo"] = "fifo"
    alerts: SecretStr | None = None
    alert_min_impact: Decimal = Field(Decimal(0), ge=0, description="in the currency of the impact")
    api_token: SecretStr | None = None
    web_port: Port = 8787

    ibkr_host: str | None = None
    ibkr_port: Port = 4001
    ibkr_client_id: ClientId = 17
    ibkr_accounts: str = ""

    alpaca_api_key: SecretStr | None = None
    alpaca_secret_key: SecretStr | None = None
    alpaca_paper: bool = True
    alpaca_url: str | None = None
    flex_token: SecretStr | None = None
    flex_query_id: str | None = None
    flex_url: str | None = None

    @field_validator("home", "config")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        try:
            return None if path is None else path.expanduser().absolute()
        except (RuntimeError, OSError):
            raise ValueError("names a home directory that is not known; give the whole path") from None

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        scheme, _, rest = url.get_secret_value().partition("://")
        if scheme.partition("+")[0] not in ("postgresql", "postgres") or not rest:
            raise ValueError("must look like postgresql://user:password@host:5432/database")
        return SecretStr(f"postgresql://{rest}")

    @field_validator("sync_interval")
    @classmethod
    def _cron_can_say_it(cls, seconds: int) -> int:
        if seconds not in INTERVALS:
            near = min(INTERVALS, key=lambda possible: abs(possible - seconds))
            raise ValueError(f"must be whole minutes that divide an hour, or whole hours that divide a day, in seconds, such as {near}")
        return seconds

    @property
    def next_answer(self) -> timedelta:
        """How long it takes at most until a scheduled answer of the broker after any moment is there and booked."""
        return timedelta(seconds=self.sync_interval + self.broker_timeout + BOOKING)

    @field_validator("reset_window")
    @classmethod
    def _two_times_of_day(cls, window: str) -> str:
        if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", window):
            raise ValueError("must be two times of day in New York, such as 23:45-01:45")
        return window

    @property
    def reset_minutes(self) -> tuple[int, int]:
        """The broker's nightly reset as minutes of the day in New York; the second may be smaller, past midnight."""
        begins, ends = (int(time[:2]) * 60 + int(time[3:]) for time in self.reset_window.split("-"))
        return begins, ends

    @model_validator(mode="after")
    def _gateway_has_a_host(self) -> Self:
        """Without a host the simulated broker would stand in, which nobody wants who names a port or an account."""
        given = sorted({"ibkr_port", "ibkr_accounts"} & self.model_fields_set)
        if given and not self.ibkr_host:
            name = PREFIX + given[0].upper()
            raise ValueError(f"{name} is set, but {PREFIX}IBKR_HOST is not: name the host too (127.0.0.1 for a gateway on this machine)")
        return self

    @property
    def default_accounts(self) -> tuple[str, ...]:
        """The accounts to sync when none are named; empty means all."""
        return _names(self.default_account_id or "")

    def ibkr_connections(self) -> tuple[IbkrConnection, ...]:
        """The configured connections to Interactive Brokers; none means that the simulated broker stands in."""
        found = list(_from_file(self.config)) if self.config else []
        if self.ibkr_host:
            accounts = _names(self.ibkr_accounts)
            own = IbkrConnection(host=self.ibkr_host, port=self.ibkr_port, client_id=self.ibkr_client_id, accounts=accounts)
            found.insert(0, own)
        names = [connection.name for connection in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SettingsError(f"{PREFIX}CONFIG: two connections are named {twice[0]!r}; give each its own `name`")
        return tuple(found)


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of this process; raises `SettingsError` for an unknown name or a bad value. What is empty counts as not set."""
    environ = os.environ if environ is None else environ
    _refuse_unknown(environ)
    try:
        settings = Settings(**_of(environ))
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem) for problem in error.errors())) from None
    settings.ibkr_connections()
    return settings


def _of(environ: Mapping[str, str]) -> dict[str, Any]:
    return {field: environ[name] for name, field in _variables().items() if environ.get(name)}


def _variables() -> dict[str, str]:
    """Every variable that is known, and the field that it fills."""
    return {"DATABASE_URL" if field == "database_url" else PREFIX + field.upper(): field for field in Settings.model_fields}


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    unknown = [name for name in environ if name.upper().startswith(PREFIX) and name not in _variables()]
    if unknown:
        raise SettingsError("\n".join(f"Unknown setting {name}. {_hint(name)}" for name in sorted(unknown)))


def _hint(name: str) -> str:
    """The known variable that was most likely meant. What all names share says nothing, so it is not compared."""
    known = {variable.removeprefix(PREFIX): variable for variable in _variables()}
    given = name.upper().removeprefix(PREFIX)
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    part = [word for word in known if len(given) > 3 and (given in word or word in given)]
    meant = [known[word] for word in (close or part)[:1]]
    return f"Did you mean {meant[0]}?" if meant else "The README lists all settings."


def _explain(problem: Any) -> str:
    """One problem in a line. What was given is repeated, unless it is a secret."""
    said = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return f"Bad setting: {said}"
    field = str(problem["loc"][0])
    name = next(name for name, known in _variables().items() if known == field)
    secret = "SecretStr" in str(Settings.model_fields[field].annotation)
    given = "" if secret else f"={str(problem['input'])[:80]!r}"
    return f"Bad setting {name}{given}: {said[0].lower()}{said[1:]}"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _from_file(path: Path) -> tuple[IbkrConnection, ...]:
    """Connections of a TOML file: one `[[ibkr]]` table each."""
    where = f"{PREFIX}CONFIG: {path}"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{where} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{where} is not TOML: {error}") from None
    unknown = sorted(set(tables) - {"ibkr"})
    if unknown:
        raise SettingsError(f"{where} has an unknown table {unknown[0]!r}; each connection is a table [[ibkr]]")
    found = tables.get("ibkr", [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise SettingsError(f"{where}: write each connection as a table [[ibkr]], with double brackets")
    return tuple(_connection(table, f"{where}, [[ibkr]] number {number}") for number, table in enumerate(found, 1))


def _connection(table: dict[str, Any], where: str) -> IbkrConnection:
    try:
        connection = IbkrConnection(**table)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise SettingsError(f"{where}: unknown key {key!r}; known are {', '.join(IbkrConnection.model_fields)}") from None
        raise SettingsError(f"{where}: {key}: {problem['msg'][0].lower()}{problem['msg'][1:]}") from None
    if connection.name == SIMULATED:
        raise SettingsError(f"{where}: the name {SIMULATED!r} is kept for the simulated broker; choose another one")
    return connection
