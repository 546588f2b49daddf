"""The files of production/ say nothing that is not so: every command is there, every setting is known, and the daemon is one."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from position_pipeline import settings as settings_module

FOLDER = Path(__file__).parents[1] / "production"
ENV = [line for line in (FOLDER / "production.env.example").read_text().splitlines() if line and not line.startswith("#")]
GIVEN = dict(line.split("=", 1) for line in ENV)
DAGSTERS = {"DAGSTER_HOME", "DAGSTER_POSTGRES_URL", "DAGSTER_COMPUTE_LOGS"}
OF_THE_IMAGE = {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "TZ"}
SCRIPTS = Path(sys.executable).parent


class Unit(configparser.ConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def unit():
    parsed = Unit(strict=True, interpolation=None)
    parsed.read(FOLDER / "position-pipeline.service")
    return parsed


def is_there(command):
    """Whether the program has the subcommand, with every option that is given."""
    program, *words = command
    named = [word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)][:2]
    help_ = []
    for depth in range(len(named), -1, -1):
        done = subprocess.run(
            [SCRIPTS / program, *named[:depth], "--help"], capture_output=True, text=True, env={"COLUMNS": "200"}, check=False
        )
        if done.returncode == 0 and (depth or not named):
            help_ = [done.stdout]
            break
    options = [word for word in words if re.fullmatch(r"--?[a-z-]+", word)]
    return bool(help_) and [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", help_[0])] == []


def test_it_has_the_five_processes_of_production(compose):
    assert {"database", "code", "webserver", "daemon", "listener"} <= set(compose["services"])


def test_the_daemon_is_one_and_the_file_says_why(compose):
    daemons = [service for service in compose["services"].values() if service.get("command", [""])[0] == "dagster-daemon"]
    assert len(daemons) == 1
    assert daemons[0]["container_name"]
    for name in ("compose.yaml", "position-pipeline.service"):
        assert "exactly one daemon" in (FOLDER / name).read_text()


@pytest.mark.parametrize("service", ["tables", "code", "webserver", "daemon", "listener"])
def test_every_command_of_a_container_exists(compose, service):
    assert is_there(compose["services"][service]["command"])


def test_the_command_of_the_unit_exists(unit):
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert is_there([Path(program).name, *words])


def test_a_command_that_is_not_there_would_be_found():
    assert not is_there(["position-pipeline", "listne"])
    assert not is_there(["position-pipeline", "listen", "--standby"])


def test_every_variable_is_a_setting_or_one_that_dagster_yaml_or_the_image_reads(compose, unit):
    known = settings_module._variables()
    named = set(GIVEN) | {unit["Service"]["Environment"].split("=")[0]}
    for service in compose["services"].values():
        named |= set(service.get("environment", {}))
    assert named - set(known) - DAGSTERS - OF_THE_IMAGE == set()
    assert DAGSTERS - named == set()
    assert settings_module.load({name: value for name, value in GIVEN.items() if name in known}).ibkr_host == "host.docker.internal"


def test_secrets_come_by_the_env_file_only(compose, unit):
    for name, service in compose["services"].items():
        assert service["env_file"] == "production.env", name
        assert {"DATABASE_URL", "POSTGRES_PASSWORD"}.isdisjoint(service.get("environment", {}))
    assert unit["Service"]["EnvironmentFile"].endswith("production.env")
    assert "production.env" in (FOLDER.parent / ".gitignore").read_text().split()


def test_dagster_finds_its_schema_in_our_database_by_a_driver_that_works():
    ours, dagsters = urlsplit(GIVEN["DATABASE_URL"]), urlsplit(GIVEN["DAGSTER_POSTGRES_URL"])
    assert dagsters.scheme == "postgresql+psycopg2"
    assert (ours.netloc, ours.path) == (dagsters.netloc, dagsters.path)
    assert unquote(dagsters.query) == "options=-csearch_path=dagster"
    assert (ours.hostname, ours.username, ours.password) == ("database", GIVEN["POSTGRES_USER"], GIVEN["POSTGRES_PASSWORD"])


def test_webserver_and_daemon_look_where_the_code_server_listens(compose):
    (place,) = yaml.safe_load((FOLDER / "workspace.yaml").read_text())["load_from"]
    command = compose["services"]["code"]["command"]
    assert place["grpc_server"]["host"] in compose["services"]
    assert command[command.index("-p") + 1] == str(place["grpc_server"]["port"])


def test_a_stop_is_given_more_time_than_it_takes(compose, unit):
    assert int(unit["Service"]["TimeoutStopSec"]) > 60
    assert unit["Service"]["KillMode"] == "mixed"
    assert all(service["stop_grace_period"] == "60s" for service in compose["services"].values())


def test_nothing_is_reachable_from_other_machines(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_understands_every_line_of_the_unit():
    done = subprocess.run(["systemd-analyze", "verify", FOLDER / "position-pipeline.service"], capture_output=True, text=True, check=False)
    # Its programs are not installed where the tests run.
    told = [line for line in done.stderr.splitlines() if "position-pipeline.service" in line and "not executable" not in line]
    assert told == []
