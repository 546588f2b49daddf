"""The register of breaks: what differs between book and broker, from when it was first seen until it is gone.

Belongs here: differences, and what people decided about them. Does not belong here: what is told of them (alerts.py).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from position_pipeline.store.schema.columns import (
    NOW,
    BigInteger,
    Integer,
    Numeric,
    Text,
    Time,
    account_key,
    column,
    finite,
    metadata,
)

BREAKS = (
    "'timing', 'missing_fill', 'duplicate_fill', 'correction', 'split', 'symbol_change', 'spin_off', 'merger', 'option_event', 'transfer', "
    "'fee_in_kind', 'cost_method', 'opening_balance', 'snapshot_incomplete', 'unknown'"
)

breaks = sa.Table(
    "breaks",
    metadata,
    column("id", Text, primary_key=True),
    account_key(),
    sa.Column("instrument", Text, sa.ForeignKey("instruments.instrument"), nullable=True, comment="NULL: the account as a whole"),
    column("subject", Text, "what differs: one open break for each instrument and subject, whatever its class becomes"),
    column("class", Text, "what it is taken for; it may change as more is known"),
    column("status", Text, server_default="open"),
    column("cause", Text, "the same for all breaks of one cause: an option and the shares that it became", server_default=""),
    column("book_quantity", Numeric, nullable=True),
    column("broker_quantity", Numeric, nullable=True),
    column("first_seen_at", Time, "taken_at of the snapshot that showed it first"),
    column("noted_at", Time, "when it was written down, by the database's clock, as gaps are", server_default=NOW),
    column("last_seen_at", Time),
    column("changed_at", Time, "when its class, its difference or its proposal last changed"),
    column("differs_since", Time, "when the difference between both quantities became what it is"),
    column("seen", Integer, "in how many proven snapshots in a row with the same difference", server_default="1"),
    column("seen_whole", Integer, "how many of these were complete: a partial one closes nothing", server_default="0"),
    sa.Column(
        "agreed_snapshot",
        BigInteger,
        sa.ForeignKey("snapshots.id", ondelete="SET NULL"),
        nullable=True,
        comment="the last proven one before the difference",
    ),
    column("expected_clear_at", Time, "until when it may clear by itself", nullable=True),
    column("resolved_at", Time, nullable=True),
    column("impact", Numeric, "what it is worth, in impact_currency; NULL: no price is known", nullable=True),
    column("impact_currency", Text, "the account's base currency, or the instrument's where no rate is known", nullable=True),
    column("signs", JSONB, "what speaks for the class, each in words", server_default="[]"),
    column("proposal", Text, "in words", server_default=""),
    column("proposed", JSONB, "the adjustments that accepting it writes", server_default="[]"),
    column("evidence", Text, server_default=""),
    column("adopted", Text, "the adjustment by which the book follows the broker until a fact explains it", nullable=True),
    column("accepted_at", Time, nullable=True),
    column("accepted_by", Text, nullable=True),
    column("accepted_why", Text, nullable=True),
    column("seconded_by", Text, "the second name, where the impact needs one", nullable=True),
    column("dismissed_at", Time, nullable=True),
    column("dismissed_by", Text, nullable=True),
    column("dismissed_reason", Text, nullable=True),
    column("history", JSONB, "what became of it, oldest first: pairs of when and what", server_default="[]"),
    sa.CheckConstraint("status IN ('open', 'resolved', 'dismissed')", name="status"),
    sa.CheckConstraint("subject IN ('quantity', 'cost', 'snapshot')", name="subject"),
    sa.CheckConstraint(f"class IN ({BREAKS})", name="class"),
    sa.CheckConstraint("(status = 'resolved') = (resolved_at IS NOT NULL)", name="resolved_at"),
    sa.CheckConstraint("status <> 'dismissed' OR coalesce(dismissed_reason, '') <> ''", name="dismissed_reason"),
    sa.CheckConstraint("(impact IS NULL) = (impact_currency IS NULL)", name="impact"),
    sa.CheckConstraint("seconded_by <> accepted_by", name="seconded_by"),
    sa.CheckConstraint("seen_whole BETWEEN 0 AND seen", name="seen_whole"),
    sa.CheckConstraint(
        "(accepted_at IS NULL) = (accepted_by IS NULL) AND (seconded_by IS NULL OR accepted_by IS NOT NULL)", name="accepted"
    ),
    sa.CheckConstraint(
        "(dismissed_at IS NULL) = (dismissed_by IS NULL) AND (dismissed_at IS NULL) = (dismissed_reason IS NULL)", name="dismissed"
    ),
    sa.CheckConstraint("instrument IS NOT NULL OR subject = 'snapshot'", name="instrument"),
    finite("book_quantity broker_quantity impact"),
    sa.Index(
        "breaks_standing_key",
        "account",
        sa.text("coalesce(instrument, '')"),
        "subject",
        unique=True,
        postgresql_where=sa.text("status IN ('open', 'dismissed')"),
    ),
    sa.Index(None, "account", "first_seen_at"),
    comment="One row is one difference between book and broker, from when it was first seen until it is gone.",
)
