"""Syncs: those that were made, and those that were asked for.

Belongs here: attempts and requests. Does not belong here: the answers that they brought (answers.py).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from position_pipeline.store.schema.columns import (
    NOW,
    BigInteger,
    Integer,
    Numeric,
    Text,
    Time,
    column,
    generated_id,
    metadata,
)

syncs = sa.Table(
    "syncs",
    metadata,
    generated_id(),
    column("account", Text),
    column("connection", Text),
    column("trigger", Text, "schedule, manual, trade, start, request, reconnect"),
    column("started_at", Time),
    column("finished_at", Time),
    column("outcome", Text),
    column("created", ARRAY(Text), server_default="{}"),
    column("updated", ARRAY(Text), server_default="{}"),
    column("closed", ARRAY(Text), server_default="{}"),
    column("unchanged", Integer, server_default="0"),
    column("fills", Integer, "new in executions", server_default="0"),
    column("errors", JSONB, server_default="[]"),
    sa.Column("snapshot_id", BigInteger, sa.ForeignKey("snapshots.id"), nullable=True),
    column("snapshot_status", Text, nullable=True),
    column("duration_ms", Integer),
    column("own_ms", Numeric, "our own work, from the broker's last byte to the end", nullable=True),
    sa.CheckConstraint("outcome IN ('synced', 'unchanged', 'partial', 'rejected', 'failed', 'already_running')", name="outcome"),
    sa.Index(None, "account", "id"),
    sa.Index(None, "snapshot_id"),
    comment="One row is one attempt to sync one account, whatever came of it.",
)

sync_requests = sa.Table(
    "sync_requests",
    metadata,
    generated_id(),
    column("account", Text, "NULL: all", nullable=True),
    column("requested_at", Time, "when it was asked for", server_default=NOW),
    column("requested_by", Text, "a page, a person, a stream"),
    column("picked_at", Time, "when somebody last began to carry it out", nullable=True),
    column("picked_by", Text, "who began", nullable=True),
    column("finished_at", Time, "NULL: it is open", nullable=True),
    column("outcome", Text, "the worst of its accounts", nullable=True),
    column("result", JSONB, "one entry an account, as `sync --json` prints them", nullable=True),
    sa.CheckConstraint("requested_by <> ''", name="requested_by"),
    sa.CheckConstraint("(picked_at IS NULL) = (picked_by IS NULL)", name="picked"),
    sa.CheckConstraint("(finished_at IS NULL) = (outcome IS NULL) AND (finished_at IS NULL) = (result IS NULL)", name="finished"),
    sa.CheckConstraint("finished_at IS NULL OR picked_at IS NOT NULL", name="finished_at"),
    sa.CheckConstraint("outcome IN ('synced', 'unchanged', 'partial', 'rejected', 'failed', 'already_running')", name="outcome"),
    sa.Index("sync_requests_open_key", sa.text("coalesce(account, '')"), unique=True, postgresql_where=sa.text("finished_at IS NULL")),
    comment="One row is a sync that was asked for, by a page or by a stream; whoever is awake carries it out once.",
)
