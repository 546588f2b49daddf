"""Every environment variable of the product, once, typed. The only module that reads the environment.

Belongs here: names, types, defaults, and the errors for wrong ones. Does not belong here: what is done with a value.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "POSITION_SYNC_"


class SettingsError(Exception):
    """A setting is unknown or has a bad value; the text names it, and what would be right."""


class IbkrConnection(BaseModel):
    """One TWS or IB Gateway. `accounts` empty: all that it manages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "ibkr"
    host: str
    port: int = Field(4001, ge=1, le=65535)
    client_id: int = Field(17, ge=0)
    accounts: tuple[str, ...] = ()


class Settings(BaseSettings):
    """The settings of one process. Money and secrets never print: secrets are `SecretStr`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", populate_by_name=True)

    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    home: Path = Path("~/.position_pipeline")
    config: Path | None = None

    enabled: bool = True
    sync_interval: int = Field(300, ge=60, le=86400, description="seconds")
    sync_on_trade: bool = True
    sync_on_position_update: bool = True
    mark_missing_as_closed: bool = False
    calculate_realized_pnl: bool = True
    default_account_id: str | None = None
    debounce: float = Field(5, ge=0, description="seconds")
    broker_timeout: float = Field(30, gt=0, le=600, description="seconds")
    stale_after: float = Field(900, gt=0, description="seconds")
    on_unexplained: Literal["adopt", "ask"] = "adopt"
    cost_method: Literal["average", "fifo", "lifo", "hifo"] = "fifo"
    alerts: SecretStr | None = None
    api_token: SecretStr | None = None
    web_port: int = Field(8787, ge=1, le=65535)

    ibkr_host: str | None = None
    ibkr_port: int = Field(4001, ge=1, le=65535)
    ibkr_client_id: int = Field(17, ge=0)
    ibkr_accounts: str = ""

    alpaca_api_key: SecretStr | None = None
    alpaca_secret_key: SecretStr | None = None
    alpaca_paper: bool = True
    alpaca_url: str | None = None
    flex_token: SecretStr | None = None
    flex_query_id: str | None = None
    flex_url: str | None = None

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None or not url.get_secret_value():
            return None
        scheme, _, rest = url.get_secret_value().partition("://")
        if scheme.partition("+")[0] not in ("postgresql", "postgres") or not rest:
            raise ValueError("must look like postgresql://user:password@host:5432/database")
        return SecretStr(f"postgresql://{rest}")

    @property
    def default_accounts(self) -> tuple[str, ...]:
        """The accounts to sync when none are named; empty means all."""
        return _names(self.default_account_id or "")

    def ibkr_connections(self) -> tuple[IbkrConnection, ...]:
        """The configured connections to Interactive Brokers; none means that the simulated broker stands in."""
        configured = _from_file(self.config) if self.config else ()
        if self.ibkr_host:
            own = IbkrConnection(
                host=self.ibkr_host,
                port=self.ibkr_port,
                client_id=self.ibkr_client_id,
                accounts=_names(self.ibkr_accounts),
            )
            return (own, *configured)
        return configured


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of this process; raises `SettingsError` for an unknown name or a bad value."""
    environ = os.environ if environ is None else environ
    _refuse_unknown(environ)
    try:
        return Settings(**_of(environ))
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def _of(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {name[len(PREFIX) :].lower(): value for name, value in environ.items() if name.startswith(PREFIX)}
    if "DATABASE_URL" in environ:
        values["database_url"] = environ["DATABASE_URL"]
    return values


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    known = [PREFIX + name.upper() for name in Settings.model_fields if name != "database_url"]
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"Did you mean {close[0]}?" if close else "The README lists all settings."
            raise SettingsError(f"Unknown setting {name}. {hint}")


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        field = str(problem["loc"][0]) if problem["loc"] else "settings"
        name = "DATABASE_URL" if field in ("database_url", "DATABASE_URL") else PREFIX + field.upper()
        secret = name == "DATABASE_URL" or any(word in name for word in ("KEY", "TOKEN", "ALERTS"))
        given = "" if secret else f" (it is {str(problem['input'])[:80]!r})"
        lines.append(f"{name}: {problem['msg']}{given}")
    return "Bad setting " + "; ".join(lines)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _from_file(path: Path) -> tuple[IbkrConnection, ...]:
    """Connections of a TOML file: one `[[ibkr]]` table each."""
    try:
        tables = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{PREFIX}CONFIG: cannot read {path}: {error}") from None
    unknown = set(tables) - {"ibkr"}
    if unknown:
        raise SettingsError(f"{PREFIX}CONFIG: {path} has unknown tables {sorted(unknown)}; known: [[ibkr]]")
    try:
        connections = tuple(IbkrConnection(**table) for table in tables.get("ibkr", ()))
    except (ValidationError, TypeError) as error:
        raise SettingsError(f"{PREFIX}CONFIG: {path}: {error}") from None
    names = [connection.name for connection in connections]
    if len(set(names)) != len(names):
        raise SettingsError(f"{PREFIX}CONFIG: {path}: two connections have the same name; give each its own `name`")
    return connections
