"""Bringing a database to the revision that this version of the product needs.

Belongs here: running Alembic, and the word for a database of another revision. Alembic and SQLAlchemy are imported only when a
migration really runs; asking which revision a database has is one query.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config
    from psycopg2.extensions import connection as Connection  # noqa: N812  it is a class

REVISION = "0003"
"""The newest revision in migrations/versions (a test compares them)."""


class WrongRevision(Exception):
    """The database is not at the revision that this version needs; the text says which way and what to do.

    `empty` says that it never had our tables.
    """

    def __init__(self, message: str, *, empty: bool = False) -> None:
        super().__init__(message)
        self.empty = empty


def revision(connection: Connection) -> str | None:
    """The revision of the database, None if it was never set up."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
        (exists,) = cursor.fetchone() or (False,)
        if not exists:
            return None
        cursor.execute("SELECT version_num FROM alembic_version")
        row = cursor.fetchone()
        return row[0] if row else None


def require_revision(connection: Connection) -> None:
    """Raise `WrongRevision` unless the database is at `REVISION`."""
    found = revision(connection)
    if found == REVISION:
        return
    if found is None:
        raise WrongRevision("The database has no tables of position_pipeline yet. Run: position-pipeline db upgrade", empty=True)
    if found < REVISION:
        raise WrongRevision(f"The database is at revision {found}, this version needs {REVISION}. Run: position-pipeline db upgrade")
    raise WrongRevision(
        f"The database is at revision {found}, which is newer than this version's {REVISION}. "
        "Update position_pipeline; an older version must not write to it."
    )


def upgrade(url: str) -> tuple[str | None, str]:
    """Migrate the database to `REVISION` in one transaction; (revision before, revision after). Two at once wait for each other."""
    import sqlalchemy as sa
    from alembic import command

    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg2://", 1), poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended('position_pipeline:upgrade', 0))"))
        before = _raw_revision(connection)
        if before is not None and before > REVISION:
            raise WrongRevision(
                f"The database is at revision {before}, which is newer than this version's {REVISION}. Update position_pipeline."
            )
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS dagster"))
    engine.dispose()
    return before, REVISION


def alembic_config() -> Config:
    """Alembic's settings, without a file: the folder beside this module."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _raw_revision(connection: object) -> str | None:
    raw = connection.connection.dbapi_connection  # type: ignore[attr-defined]
    return revision(raw)
