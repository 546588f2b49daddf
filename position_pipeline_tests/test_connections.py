"""From settings to what they name: which database, which brokers, and what stands in where nothing is configured."""

from __future__ import annotations

import pytest

from position_pipeline import connections
from position_pipeline.settings import load
from position_pipeline.store import WrongRevision


@pytest.fixture
def settings(tmp_path):
    def of(**environ):
        return load({"POSITION_SYNC_HOME": str(tmp_path / "home"), **environ})

    return of


def test_a_database_url_is_used_as_it_is_and_nothing_is_started(settings, database, tmp_path):
    with connections.database(settings(DATABASE_URL=database)) as url:
        assert url == database
    assert not (tmp_path / "home").exists()


def test_a_migrated_database_opens(settings, database):
    with connections.store(settings(DATABASE_URL=database)) as store:
        assert store.read.positions() == []


def test_an_empty_database_that_is_not_ours_is_left_to_its_owner(settings, empty_database):
    with pytest.raises(WrongRevision, match="db upgrade"), connections.store(settings(DATABASE_URL=empty_database)):
        pass
    assert connections.upgrade(settings(DATABASE_URL=empty_database))[0] is None
    with connections.store(settings(DATABASE_URL=empty_database)) as store:
        assert store.read.positions() == []


def test_a_new_embedded_database_gets_its_tables_once(settings):
    for _ in range(2):
        with connections.store(settings()) as store:
            assert store.read.accounts() == []


def test_each_connection_is_a_broker_with_its_own_name(settings, tmp_path):
    file = tmp_path / "connections.toml"
    file.write_text('[[ibkr]]\nname = "paper"\nhost = "h2"\nport = 4002\nclient_id = 3\n', encoding="utf-8")
    own, paper = connections.brokers(settings(POSITION_SYNC_IBKR_HOST="h1", POSITION_SYNC_CONFIG=str(file)))
    assert (own.name, own.where) == ("ibkr", "Interactive Brokers at h1:4001, client id 17")
    assert (paper.name, paper.where) == ("paper", "Interactive Brokers at h2:4002, client id 3")


def test_the_simulated_broker_stands_in_and_is_told_from_a_real_one_by_its_name(settings, tmp_path):
    file = connections.simulator_file(tmp_path / "home")
    file.parent.mkdir(parents=True)
    file.write_text('{"host": "127.0.0.1", "port": 7777}', encoding="utf-8")
    (stand_in,) = connections.brokers(settings())
    assert (stand_in.name, stand_in.where) == (connections.SIMULATED, "Interactive Brokers at 127.0.0.1:7777, client id 17")
    (real,) = connections.brokers(settings(POSITION_SYNC_IBKR_HOST="h1"))
    assert real.name == "ibkr"


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"host": "h"}', '{"host": "h", "port": "x"}', "\x00"])
def test_an_address_that_is_not_there_or_not_whole_says_how_to_get_a_broker(settings, tmp_path, text):
    if text is not None:
        file = connections.simulator_file(tmp_path / "home")
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf-8")
    with pytest.raises(connections.NoBroker, match=r"POSITION_SYNC_IBKR_HOST.*position-pipeline up"):
        connections.brokers(settings())
