"""What came besides the entries: statements that were imported, cash that moved, and what had to be refused.

Belongs here: records of deliveries. Does not belong here: the entries that they brought (entries.py).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from position_pipeline.store.schema.columns import (
    NOW,
    Numeric,
    Text,
    Time,
    account_key,
    column,
    finite,
    generated_id,
    metadata,
)

statement_imports = sa.Table(
    "statement_imports",
    metadata,
    generated_id(),
    account_key(),
    column("file", Text, "its name, without the folder"),
    column("sha256", Text),
    column("from_at", Time),
    column("to_at", Time),
    column("counts", JSONB, "what was new and what was there already"),
    column("notes", JSONB, "what was passed over, counted"),
    column("imported_at", Time, server_default=NOW),
    comment="One row is one import of one account's part of a file.",
)

cash_rows = sa.Table(
    "cash_rows",
    metadata,
    account_key(primary_key=True),
    column("id", Text, "the broker's own id", primary_key=True),
    column("type", Text),
    column("currency", Text),
    column("amount", Numeric, "signed: positive is received"),
    column("time", Time),
    column("instrument", Text, server_default=""),
    column("description", Text, server_default=""),
    finite("amount"),
    comment="One row is one movement of cash that is no trade: dividends, interest, fees, deposits.",
)

rejects = sa.Table(
    "rejects",
    metadata,
    column("id", Text, "a digest of what was refused: the same row is kept once", primary_key=True),
    column("account", Text),
    column("symbol", Text),
    column("reason", Text),
    column("source", Text, "the broker or the file; `booking` where it does not fit what is held"),
    column("first_seen_at", Time, server_default=NOW),
    column("resolved_at", Time, "when it could be booked after all: what was missing had come", nullable=True),
    comment="One row is something that a broker or a file gave and that could not be booked.",
)
