"""The doctor: every check when all is well, and when it is not, with what to do."""

from __future__ import annotations

import re
import socket
import sys
import zoneinfo
from contextlib import contextmanager

import psycopg2
import pytest

from position_pipeline import connections, doctor
from position_pipeline.settings import load
from position_pipeline_tests.command_line import CommandLine


@contextmanager
def listening():
    """A port that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def examined(tmp_path, database):
    """The report on settings like these, and its checks by name."""

    def examine(**environ):
        report = doctor.examine(load({"POSITION_SYNC_HOME": str(tmp_path / "home"), "DATABASE_URL": database, **environ}))
        return report, {check["name"]: check for check in report["checks"]}

    return examine


def test_all_is_well(examined, database):
    with listening() as port:
        report, checks = examined(POSITION_SYNC_IBKR_HOST="127.0.0.1", POSITION_SYNC_IBKR_PORT=str(port))
    assert report["database_url"] == database
    assert list(checks) == ["database", "tables", "time zones", "broker ibkr", "alerts", "data folder"]
    assert all(check["ok"] and check["detail"] and check["remedy"] == "" for check in checks.values())
    assert all(set(check) == {"name", "ok", "detail", "remedy"} for check in checks.values())
    assert doctor.usable(report)
    assert {"python", "position-pipeline", "dagster", "postgresql"} <= set(report["versions"])
    assert all(re.match(r"\d+\.", number) for number in report["versions"].values())


def test_the_database_url_can_be_used_as_it_is(examined):
    report, _ = examined()
    with psycopg2.connect(report["database_url"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM positions")
    connection.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:sesame@127.0.0.1:1/x", "127.0.0.1:1/x"),
        ("postgresql://u:sesame@no-such-host.invalid/x", "no-such-host.invalid"),
    ],
)
def test_a_database_that_does_not_answer_is_one_finding(examined, url, said):
    report, checks = examined(DATABASE_URL=url)
    assert "tables" not in checks  # there is nothing to say about them
    assert not checks["database"]["ok"]
    assert said in checks["database"]["detail"]
    assert "DATABASE_URL" in checks["database"]["remedy"]
    assert "sesame" not in str(report["checks"])
    assert not doctor.usable(report)


def test_an_empty_database_wants_an_upgrade(examined, empty_database):
    report, checks = examined(DATABASE_URL=empty_database)
    assert checks["database"]["ok"]
    assert not checks["tables"]["ok"]
    assert checks["tables"]["remedy"] == "Run: position-pipeline db upgrade"
    assert not doctor.usable(report)


@pytest.mark.parametrize(("revision", "remedy"), [("0000", "Run: position-pipeline db upgrade"), ("9999", "Update position_pipeline")])
def test_a_database_of_another_revision_is_told_which_way(examined, database, revision, remedy):
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE alembic_version SET version_num = %s", (revision,))
    connection.close()
    _, checks = examined()
    assert revision in checks["tables"]["detail"]
    assert checks["tables"]["remedy"].startswith(remedy)


def test_an_embedded_database_that_cannot_start_is_a_finding(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    report = doctor.examine(load({"POSITION_SYNC_HOME": str(tmp_path / "file" / "home")}))
    checks = {check["name"]: check for check in report["checks"]}
    assert report["database_url"] is None
    assert not checks["database"]["ok"]
    assert not checks["data folder"]["ok"]
    assert "POSITION_SYNC_HOME" in checks["data folder"]["remedy"]


def test_a_broker_that_does_not_answer_is_a_finding_but_the_figures_are_still_there(examined):
    report, checks = examined(POSITION_SYNC_IBKR_HOST="127.0.0.1", POSITION_SYNC_IBKR_PORT="1")
    broker = checks["broker ibkr"]
    assert (broker["ok"], broker["detail"]) == (False, "127.0.0.1:1 cannot be reached: Connection refused")
    assert "4001 live, 4002 paper" in broker["remedy"]
    assert doctor.usable(report)


def test_a_host_name_that_can_be_none_is_a_finding(examined):
    _, checks = examined(POSITION_SYNC_IBKR_HOST="a" * 300)
    assert not checks["broker ibkr"]["ok"]


def test_each_connection_of_the_file_is_looked_at(examined, tmp_path):
    file = tmp_path / "connections.toml"
    with listening() as port:
        tables = (f'[[ibkr]]\nname = "{name}"\nhost = "127.0.0.1"\nport = {each}\n' for name, each in (("good", port), ("bad", 1)))
        file.write_text("".join(tables), encoding="utf-8")
        _, checks = examined(POSITION_SYNC_CONFIG=str(file))
    assert (checks["broker good"]["ok"], checks["broker bad"]["ok"]) == (True, False)


def test_without_a_broker_it_says_how_to_get_one(examined):
    _, checks = examined()
    assert (checks["broker"]["ok"], checks["broker"]["detail"]) == (False, "none is configured")
    assert "POSITION_SYNC_IBKR_HOST" in checks["broker"]["remedy"]
    assert "position-pipeline up" in checks["broker"]["remedy"]


def test_the_simulated_broker_is_looked_at_where_it_stands_in(examined, tmp_path):
    file = connections.simulator_file(tmp_path / "home")
    file.parent.mkdir(parents=True)
    with listening() as port:
        file.write_text(f'{{"host": "127.0.0.1", "port": {port}}}', encoding="utf-8")
        assert examined()[1]["broker simulator"]["ok"]
    gone = examined()[1]["broker simulator"]
    assert not gone["ok"]
    assert "position-pipeline up" in gone["remedy"]


def test_a_machine_without_time_zones_is_told_what_to_install(examined):
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(())
    zoneinfo.ZoneInfo.clear_cache()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "tzdata", None)
            for name in [name for name in sys.modules if name.startswith("tzdata.")]:
                patch.delitem(sys.modules, name)
            _, checks = examined()
    finally:
        zoneinfo.reset_tzpath(before)
        zoneinfo.ZoneInfo.clear_cache()
    assert not checks["time zones"]["ok"]
    assert checks["time zones"]["remedy"] == "Install the package tzdata."


def test_the_command_tells_it_in_lines_and_ends_with_1_when_the_database_cannot_be_used(monkeypatch, tmp_path, database):
    command = CommandLine(monkeypatch, tmp_path, database)
    good = command("doctor")
    assert good.code == 0
    assert good.out.splitlines()[0] == f"Database: {database}"
    assert "ok    tables: revision" in good.out
    bad = command("doctor", DATABASE_URL="postgresql://u:sesame@127.0.0.1:1/x")
    assert bad.code == 1
    assert "FAIL  database: " in bad.out
    assert bad.err == ""
    assert command("doctor", "--json", DATABASE_URL="postgresql://u:p@127.0.0.1:1/x").json["checks"][0]["ok"] is False
