"""Databases to play in: one that many histories share, and fresh ones for playing one history again and again.

Belongs here: making them on a running server. Does not belong here: the server (embedded, or the one of the tests).
"""

from __future__ import annotations

import psycopg2

from position_pipeline.store import upgrade


class Databases:
    """On the server whose URL is given; the first is made when it is asked for."""

    def __init__(self, server: str) -> None:
        self._server, self._made, self._template = server, 0, ""
        self._shared = ""

    def shared(self) -> str:
        """One database for all histories."""
        self._shared = self._shared or self.fresh()
        return self._shared

    def fresh(self) -> str:
        """A database in which nothing was played yet."""
        if not self._template:
            self._template = "template_of_histories"
            self._run(f"CREATE DATABASE {self._template}")
            upgrade(self._url(self._template))
        self._made += 1
        name = f"histories_{self._made}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return self._url(name)

    def drop(self, url: str) -> None:
        self._run(f"DROP DATABASE {url.rpartition('/')[2]}")

    def _url(self, name: str) -> str:
        return f"{self._server.rpartition('/')[0]}/{name}"

    def _run(self, sql: str) -> None:
        connection = psycopg2.connect(self._server)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
        connection.close()
