"""The listener's streams: how each is, and when one may have missed something.

Belongs here: what the listener writes of itself. Does not belong here: the fills that it hears (entries.py).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from position_pipeline.store.schema.columns import (
    BigInteger,
    Integer,
    Text,
    Time,
    column,
    generated_id,
    metadata,
)

streams = sa.Table(
    "streams",
    metadata,
    column("connection", Text, "its name in the settings", primary_key=True),
    column("state", Text, "waiting: not connected, tries again; link_lost: the gateway has lost its broker"),
    column("detail", Text, "why it is not connected, in words", server_default=""),
    column("client_id", Integer, "the client id that it holds at the gateway", nullable=True),
    column("pid", Integer, "the process that writes this row"),
    column("started_at", Time, "when that process began to listen"),
    column("connected_at", Time, "when it last connected", nullable=True),
    column("disconnected_at", Time, "when it last lost the connection", nullable=True),
    column("last_event_at", Time, "when the broker last told of a fill or of a holding", nullable=True),
    column("last_heard_at", Time, "when the last byte of the broker came", nullable=True),
    column("last_heartbeat_at", Time, "the listener's own sign of life"),
    column("events", BigInteger, "fills and holdings that it was told of, since started_at", server_default="0"),
    column("fills", BigInteger, "new in executions by this stream, since started_at", server_default="0"),
    column(
        "triggers", BigInteger, "syncs that it asked for because a holding differed from the book, since started_at", server_default="0"
    ),
    sa.CheckConstraint("state IN ('waiting', 'connected', 'link_lost', 'stopped')", name="state"),
    sa.CheckConstraint("state <> 'connected' OR connected_at IS NOT NULL", name="connected_at"),
    comment="One row is the stream of one connection, as the listener last wrote it: its health.",
)

stream_gaps = sa.Table(
    "stream_gaps",
    metadata,
    generated_id(),
    column("connection", Text, "whose stream it is"),
    column("opened_at", Time, "the last moment at which the stream was known to be whole"),
    column("cause", Text, "why nothing was heard, in words"),
    column("healed_at", Time, "when a sync after it had read the broker whole", nullable=True),
    column("closed_at", Time, "when positions and executions agreed over it", nullable=True),
    column("found", JSONB, "what healing it found", server_default="{}"),
    sa.CheckConstraint("cause <> ''", name="cause"),
    sa.CheckConstraint("healed_at >= opened_at", name="healed_at"),
    sa.CheckConstraint("closed_at IS NULL OR (healed_at IS NOT NULL AND closed_at >= healed_at)", name="closed_at"),
    sa.Index("stream_gaps_open_key", "connection", unique=True, postgresql_where=sa.text("closed_at IS NULL")),
    comment="One row is a time in which a stream may have missed something.",
)
