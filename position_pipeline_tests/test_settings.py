"""Every environment variable: its name, its default, what it takes, and the words for what it does not take."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from position_pipeline.settings import INTERVALS, PREFIX, IbkrConnection, Settings, SettingsError, load

ROOT = Path(__file__).parent.parent
SECRET = "sesame-open-wide"


def refused(**environ) -> str:
    """The words for settings that are refused."""
    with pytest.raises(SettingsError) as caught:
        load(environ)
    return str(caught.value)


DEFAULTS = {
    "enabled": True,
    "sync_interval": 300,
    "sync_on_trade": True,
    "sync_on_position_update": True,
    "mark_missing_as_closed": False,
    "calculate_realized_pnl": True,
    "default_account_id": None,
    "debounce": 5,
    "broker_timeout": 30,
    "stale_after": 900,
    "on_unexplained": "adopt",
    "cost_method": "fifo",
    "alerts": None,
    "api_token": None,
    "database_url": None,
    "config": None,
    "ibkr_host": None,
    "alpaca_api_key": None,
    "alpaca_secret_key": None,
    "alpaca_paper": True,
    "alpaca_url": None,
    "flex_token": None,
    "flex_query_id": None,
    "flex_url": None,
}


def test_without_any_variable_everything_has_its_default():
    settings = load({})
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    assert settings.default_accounts == ()
    assert settings.ibkr_connections() == ()
    assert settings.home == Path("~/.position_pipeline").expanduser()


GIVEN = {
    "POSITION_SYNC_ENABLED": ("false", False),
    "POSITION_SYNC_SYNC_INTERVAL": ("600", 600),
    "POSITION_SYNC_SYNC_ON_TRADE": ("0", False),
    "POSITION_SYNC_SYNC_ON_POSITION_UPDATE": ("no", False),
    "POSITION_SYNC_MARK_MISSING_AS_CLOSED": ("true", True),
    "POSITION_SYNC_CALCULATE_REALIZED_PNL": ("off", False),
    "POSITION_SYNC_DEFAULT_ACCOUNT_ID": ("U1", "U1"),
    "POSITION_SYNC_DEBOUNCE": ("0.5", 0.5),
    "POSITION_SYNC_BROKER_TIMEOUT": ("2", 2.0),
    "POSITION_SYNC_STALE_AFTER": ("60", 60.0),
    "POSITION_SYNC_RESET_WINDOW": ("22:00-23:30", "22:00-23:30"),
    "POSITION_SYNC_KEEP_RUNS_DAYS": ("3", 3),
    "POSITION_SYNC_KEEP_SNAPSHOTS_DAYS": ("60", 60),
    "POSITION_SYNC_ON_UNEXPLAINED": ("ask", "ask"),
    "POSITION_SYNC_TIMING_WINDOW": ("60", 60.0),
    "POSITION_SYNC_VANISHED_SHARE": ("0.25", Decimal("0.25")),
    "POSITION_SYNC_SECOND_NAME_ABOVE": ("10000.50", Decimal("10000.50")),
    "POSITION_SYNC_COST_METHOD": ("average", "average"),
    "POSITION_SYNC_ALERTS": ("json://x", SecretStr("json://x")),
    "POSITION_SYNC_ALERT_MIN_IMPACT": ("250.5", Decimal("250.5")),
    "POSITION_SYNC_API_TOKEN": ("t", SecretStr("t")),
    "POSITION_SYNC_WEB_PORT": ("9000", 9000),
    "POSITION_SYNC_HOME": ("/data", Path("/data")),
    "POSITION_SYNC_IBKR_HOST": ("tws", "tws"),
    "POSITION_SYNC_IBKR_PORT": ("7497", 7497),
    "POSITION_SYNC_IBKR_CLIENT_ID": ("0", 0),
    "POSITION_SYNC_IBKR_ACCOUNTS": ("U1,U2", "U1,U2"),
    "POSITION_SYNC_ALPACA_API_KEY": ("k", SecretStr("k")),
    "POSITION_SYNC_ALPACA_SECRET_KEY": ("s", SecretStr("s")),
    "POSITION_SYNC_ALPACA_PAPER": ("false", False),
    "POSITION_SYNC_ALPACA_URL": ("http://a", "http://a"),
    "POSITION_SYNC_FLEX_TOKEN": ("t", SecretStr("t")),
    "POSITION_SYNC_FLEX_QUERY_ID": ("1", "1"),
    "POSITION_SYNC_FLEX_URL": ("http://f", "http://f"),
    "DATABASE_URL": ("postgresql://u:p@h:5432/d", SecretStr("postgresql://u:p@h:5432/d")),
}


def test_every_variable_is_read():
    settings = load({name: text for name, (text, _) in GIVEN.items()})
    for name, (_, value) in GIVEN.items():
        assert getattr(settings, name.removeprefix(PREFIX).lower()) == value, name
    read = {name.removeprefix(PREFIX).lower() for name in GIVEN}
    assert set(Settings.model_fields) == read | {"config"}  # which has its own tests


def test_an_empty_variable_counts_as_not_set():
    """As `VARIABLE=${VARIABLE:-}` in a compose file makes them."""
    assert load(dict.fromkeys([*GIVEN, "POSITION_SYNC_CONFIG"], "")) == load({})


def test_variables_of_others_are_none_of_our_business():
    assert load({"PATH": "/bin", "POSITION": "1", "SYNC_INTERVAL": "x"}) == load({})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("POSITION_SYNC_ENABLED", "perhaps"),
        ("POSITION_SYNC_SYNC_INTERVAL", "5m"),
        ("POSITION_SYNC_SYNC_INTERVAL", "420"),
        ("POSITION_SYNC_SYNC_INTERVAL", "30"),
        ("POSITION_SYNC_SYNC_INTERVAL", "0"),
        ("POSITION_SYNC_BROKER_TIMEOUT", "0"),
        ("POSITION_SYNC_BROKER_TIMEOUT", "601"),
        ("POSITION_SYNC_BROKER_TIMEOUT", "nan"),
        ("POSITION_SYNC_STALE_AFTER", "inf"),
        ("POSITION_SYNC_RESET_WINDOW", "23:45"),
        ("POSITION_SYNC_RESET_WINDOW", "23:45-24:10"),
        ("POSITION_SYNC_DEBOUNCE", "-1"),
        ("POSITION_SYNC_ON_UNEXPLAINED", "guess"),
        ("POSITION_SYNC_TIMING_WINDOW", "-1"),
        ("POSITION_SYNC_VANISHED_SHARE", "1.5"),
        ("POSITION_SYNC_SECOND_NAME_ABOVE", "NaN"),
        ("POSITION_SYNC_COST_METHOD", "filo"),
        ("POSITION_SYNC_WEB_PORT", "65536"),
        ("POSITION_SYNC_IBKR_CLIENT_ID", "-1"),
        ("POSITION_SYNC_IBKR_CLIENT_ID", "2147483647"),
        ("POSITION_SYNC_HOME", "~no-such-user/data"),
    ],
)
def test_a_bad_value_is_named_and_repeated(name, text):
    said = refused(**{name: text})
    assert said.startswith(f"Bad setting {name}={text!r}: ")
    assert "\n" not in said
    assert "pydantic" not in said


def test_a_reset_window_is_minutes_of_the_day_and_may_pass_midnight():
    assert load({}).reset_minutes == (23 * 60 + 45, 60 + 45)
    assert load({"POSITION_SYNC_RESET_WINDOW": "06:25-07:45"}).reset_minutes == (385, 465)


def test_every_bad_value_is_told_at_once():
    said = refused(POSITION_SYNC_WEB_PORT="x", POSITION_SYNC_ENABLED="perhaps").splitlines()
    assert [line.split("=")[0] for line in said] == ["Bad setting POSITION_SYNC_ENABLED", "Bad setting POSITION_SYNC_WEB_PORT"]


def test_an_interval_that_no_schedule_can_keep_is_answered_with_the_nearest():
    assert "such as 360" in refused(POSITION_SYNC_SYNC_INTERVAL="420")  # 7 minutes do not divide an hour, 6 do
    assert {60, 300, 3600, 7200, 86400} <= set(INTERVALS)
    for interval in INTERVALS:
        assert 86400 % interval == 0
        assert load({"POSITION_SYNC_SYNC_INTERVAL": str(interval)}).sync_interval == interval


def test_the_next_answer_is_waited_for_as_long_as_the_schedule_and_the_broker_take():
    assert load({}).next_answer == timedelta(seconds=300 + 30 + 30)
    hourly = load({"POSITION_SYNC_SYNC_INTERVAL": "3600", "POSITION_SYNC_BROKER_TIMEOUT": "90"})
    assert hourly.next_answer == timedelta(seconds=3600 + 90 + 30)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("POSITION_SYNC_BROKER_TIMOUT", "POSITION_SYNC_BROKER_TIMEOUT"),
        ("POSITION_SYNC_INTERVAL", "POSITION_SYNC_SYNC_INTERVAL"),
        ("POSITION_SYNC_ON_TRADE", "POSITION_SYNC_SYNC_ON_TRADE"),
        ("POSITION_SYNC_IBKR_CLIENTID", "POSITION_SYNC_IBKR_CLIENT_ID"),
        ("POSITION_SYNC_IBKR_ACCOUNT", "POSITION_SYNC_IBKR_ACCOUNTS"),
        ("POSITION_SYNC_TIMEOUT", "POSITION_SYNC_BROKER_TIMEOUT"),
        ("POSITION_SYNC_DATABASE_URL", "DATABASE_URL"),
        ("POSITION_SYNC_ibkr_host", "POSITION_SYNC_IBKR_HOST"),
        ("position_sync_home", "POSITION_SYNC_HOME"),
    ],
)
def test_an_unknown_name_is_an_error_that_suggests_the_right_one(name, meant):
    assert refused(**{name: "1"}) == f"Unknown setting {name}. Did you mean {meant}?"


def test_a_name_that_is_like_no_other_is_not_taken_for_one():
    assert refused(POSITION_SYNC_XYZZY="1") == "Unknown setting POSITION_SYNC_XYZZY. The README lists all settings."


# -- secrets


@pytest.mark.parametrize(
    "url", [f"{SECRET}", f"mysql://u:{SECRET}@h/d", f"postgresql:/u:{SECRET}@h/d", "postgresql://", f"u:{SECRET}@h:5432/d"]
)
def test_a_database_url_that_is_none_is_named_and_not_repeated(url):
    assert refused(DATABASE_URL=url) == "Bad setting DATABASE_URL: must look like postgresql://user:password@host:5432/database"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg"])
def test_a_database_url_of_any_driver_is_understood(scheme):
    url = load({"DATABASE_URL": f"{scheme}://u:p@h/d"}).database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql://u:p@h/d"


def test_secrets_never_print_and_never_stand_in_an_error():
    secrets = [name for name in GIVEN if isinstance(GIVEN[name][1], SecretStr)]
    assert len(secrets) == 6
    environ = dict.fromkeys(secrets, f"postgresql://u:{SECRET}@h/d")
    settings = load(environ)
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert SECRET not in refused(**environ, POSITION_SYNC_WEB_PORT="x", POSITION_SYNC_ENABLED="y")
    assert SECRET not in refused(**environ, POSITION_SYNC_ALPACA_SECRET=SECRET)


# -- accounts and connections


def test_accounts_are_a_list_with_commas():
    settings = load(
        {"POSITION_SYNC_DEFAULT_ACCOUNT_ID": " U1, U2,,", "POSITION_SYNC_IBKR_HOST": "h", "POSITION_SYNC_IBKR_ACCOUNTS": "U3 ,U4"}
    )
    assert settings.default_accounts == ("U1", "U2")
    assert settings.ibkr_connections() == (IbkrConnection(host="h", accounts=("U3", "U4")),)


@pytest.mark.parametrize(("name", "text"), [("POSITION_SYNC_IBKR_PORT", "4002"), ("POSITION_SYNC_IBKR_ACCOUNTS", "U1")])
def test_a_gateway_without_a_host_is_not_replaced_by_the_simulated_one(name, text):
    said = refused(**{name: text})
    assert f"{name} is set, but POSITION_SYNC_IBKR_HOST is not" in said
    assert "127.0.0.1" in said


@pytest.fixture
def config(tmp_path):
    """Connections from a TOML file of this text, with other settings beside it."""
    file = tmp_path / "connections.toml"

    def read(text, **environ):
        file.write_text(text, encoding="utf-8")
        return load({"POSITION_SYNC_CONFIG": str(file), **environ}).ibkr_connections()

    return read


TWO = """
[[ibkr]]
name = "live"
host = "10.0.0.5"
accounts = ["U1", "U2"]

[[ibkr]]
name = "paper"
host = "127.0.0.1"
port = 4002
client_id = 3
"""


def test_several_connections_stand_in_a_file(config):
    live, paper = config(TWO)
    assert (live.name, live.host, live.port, live.client_id, live.accounts) == ("live", "10.0.0.5", 4001, 17, ("U1", "U2"))
    assert (paper.name, paper.host, paper.port, paper.client_id, paper.accounts) == ("paper", "127.0.0.1", 4002, 3, ())


def test_the_connection_of_the_environment_comes_before_those_of_the_file(config):
    assert [each.name for each in config(TWO, POSITION_SYNC_IBKR_HOST="h")] == ["ibkr", "live", "paper"]


def test_a_file_without_connections_has_none(config):
    assert config("# none yet") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[ibkr]\n", "is not TOML"),
        ("[ibkr]\nhost = 'h'\n", "write each connection as a table [[ibkr]], with double brackets"),
        ("ibkr = 5\n", "with double brackets"),
        ("ibkr = ['h']\n", "with double brackets"),
        ("[[tws]]\nhost = 'h'\n", "unknown table 'tws'"),
        ("[[ibkr]]\nport = 4001\n", "[[ibkr]] number 1: host: field required"),
        ("[[ibkr]]\nhost = ''\n", "number 1: host: "),
        ("[[ibkr]]\nhost = 'h'\nport = 70000\n", "number 1: port: input should be less than or equal to 65535"),
        ("[[ibkr]]\nhost = 'h'\nclientid = 3\n", "number 1: unknown key 'clientid'; known are name, host, port, client_id, accounts"),
        ("[[ibkr]]\nhost = 'h'\naccounts = 'U1'\n", "number 1: accounts: "),
        ("[[ibkr]]\nhost = 'h'\nname = 'simulator'\n", "the name 'simulator' is kept for the simulated broker"),
        ("[[ibkr]]\nhost = 'a'\n[[ibkr]]\nhost = 'b'\n", "two connections are named 'ibkr'; give each its own `name`"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(config, text, said):
    with pytest.raises(SettingsError) as caught:
        config(text)
    assert str(caught.value).startswith("POSITION_SYNC_CONFIG: ")
    assert said in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_two_connections_of_one_name_are_refused_wherever_they_come_from(config):
    with pytest.raises(SettingsError, match="two connections are named 'ibkr'"):
        config("[[ibkr]]\nhost = 'b'\n", POSITION_SYNC_IBKR_HOST="a")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    assert refused(POSITION_SYNC_CONFIG="/nowhere.toml") == "POSITION_SYNC_CONFIG: /nowhere.toml cannot be read: No such file or directory"
    assert "Is a directory" in refused(POSITION_SYNC_CONFIG=str(tmp_path))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "is not TOML" in refused(POSITION_SYNC_CONFIG=str(tmp_path / "binary.toml"))


# -- the README


def test_the_readme_lists_every_setting_and_no_other():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^\| *Setting *\|.*\n\|[-| :]+\n((?:\|.*\n?)+)", text, re.MULTILINE)
    if table is None:
        pytest.skip("the README has no table headed Setting yet")
    listed = {name for row in table[1].splitlines() for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    assert listed == {"DATABASE_URL" if name == "database_url" else PREFIX + name.upper() for name in Settings.model_fields}
