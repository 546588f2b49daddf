"""The views: the life of positions without a row a sync.

Revision ID: 0002
Revises: 0001

Their text is in queries/views.sql. A view that changes after a release gets a revision of its own, with the text in it.
"""

from __future__ import annotations

from alembic import op

from position_pipeline.store import queries

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, select in queries.load("views").items():
        op.execute(f"CREATE VIEW {name} AS {select}")


def downgrade() -> None:
    for name in queries.load("views"):
        op.execute(f"DROP VIEW {name}")
