"""What every room's tests share: one PostgreSQL server a session, one database a test.

Belongs here: fixtures. Scenarios as values are in scenarios.py.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from position_pipeline.store import Store

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server of this session's own, with a migrated database `template_book` to copy."""
    from position_pipeline.store import embedded, upgrade

    with embedded.running(tmp_path_factory.mktemp("server")) as url:
        _run(url, "CREATE DATABASE template_book")
        upgrade(_of(url, "template_book"))
        yield url


@pytest.fixture
def empty_database(server: str) -> Iterator[str]:
    """A database with nothing in it."""
    yield from _database(server, "template1")


@pytest.fixture
def database(server: str) -> Iterator[str]:
    """A migrated database of this test's own."""
    yield from _database(server, "template_book")


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    from position_pipeline.store import Store

    with Store(database) as opened:
        yield opened


def _database(server: str, template: str) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _run(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _of(server, name)
    _end_sessions_in(server, name)
    _run(server, f"DROP DATABASE {name}")


def _end_sessions_in(server: str, name: str) -> None:
    """What a test left connected is ended; PostgreSQL itself sends its autovacuum away when the database is dropped.

    DROP DATABASE ... WITH (FORCE) is refused while an autovacuum worker is in the database, because our role may not
    end a process of the superuser: it failed one run in some dozens.
    """
    _run(
        server,
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}' AND backend_type = 'client backend'",
    )


def _of(url: str, name: str) -> str:
    return f"{url.rpartition('/')[0]}/{name}"


def _run(url: str, sql: str) -> None:
    import psycopg2

    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql)
    connection.close()
