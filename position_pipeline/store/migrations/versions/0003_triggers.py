"""The triggers: whoever writes to a position, by us or by hand, has it compared with the broker by the next sync.

Revision ID: 0003
Revises: 0002

Their text is in queries/triggers.sql. A trigger that changes after a release gets a revision of its own, with the text in it.
"""

from __future__ import annotations

from alembic import op

from position_pipeline.store import queries

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in queries.load("triggers").values():
        op.execute(statement)


def downgrade() -> None:
    for written in ("inserted", "updated", "deleted"):
        op.execute(f"DROP TRIGGER positions_{written} ON positions")
        op.execute(f"DROP TRIGGER adjustments_{written} ON adjustments")
    for name in ("touch_positions", "touch_written", "touch_deleted", "touch"):
        op.execute(f"DROP FUNCTION {name}")
