"""Alerts: what was wrong, the messages that told it, and their way to each channel.

Belongs here: what was told to people. Does not belong here: what is wrong now (breaks.py, syncs.py, streams.py).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from position_pipeline.store.schema.columns import (
    BigInteger,
    Integer,
    Text,
    Time,
    column,
    generated_id,
    metadata,
)

alerts = sa.Table(
    "alerts",
    metadata,
    generated_id(),
    column("cause", Text, "what is wrong, as a key: one alert stands for each"),
    column("kind", Text),
    column("accounts", ARRAY(Text), "whom it concerns; empty: all, or none in particular", server_default="{}"),
    column("severity", Text, "as it was last told"),
    column("headline", Text, "as it was last told, in one line"),
    column("digest", Text, "of what makes it another matter when it changes"),
    column("impact_class", Integer, "the highest that was told: 0, and 1 more for each step of ten times the money"),
    column("age_class", Integer, "the highest that was told: 0, then 1 from an hour on, 2 from a day on, 3 from a week on"),
    column("since_at", Time, "when it began to be wrong"),
    column("first_told_at", Time, "when it was put into words first, whether or not there was a channel"),
    column("last_told_at", Time, "when last, its end included"),
    column("told", Integer, "how often, with what was told of its end"),
    column("recovered_at", Time, "when it was found to be over; NULL: it stands", nullable=True),
    column("ending", Text, "how it ended", nullable=True),
    sa.CheckConstraint("kind IN ('break', 'guard', 'stale', 'run', 'check', 'gap')", name="kind"),
    sa.CheckConstraint("severity IN ('notice', 'warning', 'grave')", name="severity"),
    sa.CheckConstraint("ending IN ('recovered', 'dismissed')", name="ending"),
    sa.CheckConstraint("(recovered_at IS NULL) = (ending IS NULL)", name="recovered_at"),
    sa.CheckConstraint("told > 0 AND last_told_at >= first_told_at", name="told"),
    sa.Index("alerts_standing_key", "cause", unique=True, postgresql_where=sa.text("recovered_at IS NULL")),
    comment="One row is one thing that was wrong, from when it was told until it was over; kept whether or not there is a channel.",
)

alert_messages = sa.Table(
    "alert_messages",
    metadata,
    generated_id(),
    column("alerts", ARRAY(BigInteger), "the alerts that it tells of: those of one account are told together"),
    column("severity", Text, "of the worst that it tells; good: of the end of something"),
    column("title", Text, "one line"),
    column("body", Text, "plain text, a paragraph for each thing that it tells, without secrets"),
    column("made_at", Time, "when it was worded; deliveries are tried from then on"),
    sa.CheckConstraint("severity IN ('good', 'notice', 'warning', 'grave')", name="severity"),
    sa.CheckConstraint("cardinality(alerts) > 0", name="alerts"),
    sa.Index("alert_messages_alerts_idx", "alerts", postgresql_using="gin"),
    comment="One row is one message as it was worded.",
)

alert_deliveries = sa.Table(
    "alert_deliveries",
    metadata,
    generated_id(),
    sa.Column("message_id", BigInteger, sa.ForeignKey("alert_messages.id"), nullable=False, comment="what is on its way"),
    column("channel", Text, "scheme and number of the URL in POSITION_SYNC_ALERTS, never the URL, which holds secrets"),
    column("attempts", Integer, "each is counted before it is made", server_default="0"),
    column("attempted_at", Time, "when the last attempt was made", nullable=True),
    column("next_attempt_at", Time, "before that it is not tried again"),
    column("error", Text, "why the last attempt failed, without secrets", nullable=True),
    column("delivered_at", Time, "when the channel took it", nullable=True),
    column("given_up_at", Time, "when it was too old to be news", nullable=True),
    sa.UniqueConstraint("message_id", "channel"),
    sa.CheckConstraint("delivered_at IS NULL OR (given_up_at IS NULL AND error IS NULL AND attempts > 0)", name="delivered_at"),
    sa.CheckConstraint("(attempts = 0) = (attempted_at IS NULL)", name="attempts"),
    sa.CheckConstraint("channel ~ '^[a-z0-9.+-]+-[0-9]+$'", name="channel"),
    sa.Index("alert_deliveries_waiting_idx", "next_attempt_at", postgresql_where=sa.text("delivered_at IS NULL AND given_up_at IS NULL")),
    comment="One row is one message on its way to one channel.",
)
