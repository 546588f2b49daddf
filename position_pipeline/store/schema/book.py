"""The book: positions and their lots, what was closed, what became of each position, and checkpoints.

Belongs here: what is folded from the entries, and can be made anew from them. Does not belong here: the entries (entries.py).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from position_pipeline.store.schema.columns import (
    BASES,
    METHODS,
    NOW,
    Boolean,
    Integer,
    Numeric,
    Text,
    Time,
    account_key,
    column,
    finite,
    generated_id,
    instrument_key,
    metadata,
)

EVENTS = (
    "'opened', 'increased', 'reduced', 'closed', 'flipped', 'split', 'transferred', 'adjusted', 'renamed', 'expired', 'assigned', "
    "'exercised'"
)

positions = sa.Table(
    "positions",
    metadata,
    account_key(primary_key=True),
    instrument_key(primary_key=True),
    column("symbol", Text),
    column("currency", Text),
    column("multiplier", Numeric),
    column("quantity", Numeric, "signed, from the book"),
    column("broker_quantity", Numeric, "what the broker's last proven snapshot says", nullable=True),
    column("average_price", Numeric, "cost per unit without fees; NULL when flat or unknown", nullable=True),
    column("cost", Numeric, "signed, without fees; NULL when the basis is unknown", nullable=True),
    column("open_commission", Numeric, "paid on the open lots, as far as it has come"),
    column(
        "broker_average_price",
        Numeric,
        "the broker's average per unit, its own convention (IBKR: fees inside)",
        nullable=True,
    ),
    column("market_price", Numeric, nullable=True),
    column("priced_at", Time, "when the broker gave market_price", nullable=True),
    column("realized_gross", Numeric, "sum of the closes, before commissions"),
    column("relieved_commission", Numeric, "opening commissions of what was closed"),
    column("closing_commission", Numeric),
    column("unknown_closes", Integer, "closes whose basis is unknown: in no P&L"),
    column("basis_quality", Text),
    column("method", Text),
    column("cycle", Integer, "how many times it was opened from flat"),
    column("opened_at", Time, nullable=True),
    column("closed_at", Time, nullable=True),
    column(
        "last_entry_at",
        Time,
        "place of the last booked entry in the history, with the three columns below",
        nullable=True,
    ),
    column("last_entry_rank", Integer, nullable=True),
    column("last_entry_sequence", sa.Double, nullable=True),
    column("last_entry_id", Text, nullable=True),
    column("last_synced_at", Time, "of the last sync that changed the row; accounts.last_synced_at is later", nullable=True),
    column("sync_error", Text, "why the last sync could not read this symbol; the row is as it was before", nullable=True),
    column(
        "other_costs",
        JSONB,
        "what a quantity of such a cost would cost by other methods, to compare with the broker's average",
        nullable=True,
    ),
    sa.Column("market_value", Numeric, sa.Computed("quantity * market_price * multiplier", persisted=True)),
    sa.Column("unrealized_pnl", Numeric, sa.Computed("quantity * market_price * multiplier - cost", persisted=True)),
    sa.Column(
        "realized_pnl",
        Numeric,
        sa.Computed("realized_gross - relieved_commission - closing_commission", persisted=True),
    ),
    sa.Column("status", Text, sa.Computed("CASE WHEN quantity = 0 THEN 'closed' ELSE 'open' END", persisted=True)),
    sa.CheckConstraint(f"method IN ({METHODS})", name="method"),
    sa.CheckConstraint(f"basis_quality IN ({BASES})", name="basis_quality"),
    sa.CheckConstraint("(cost IS NULL) = (basis_quality = 'unknown')", name="cost"),
    sa.CheckConstraint("quantity <> 0 OR (cost = 0 AND open_commission = 0 AND average_price IS NULL)", name="flat"),
    finite(
        "quantity broker_quantity average_price cost open_commission broker_average_price market_price",
        "realized_gross relieved_commission closing_commission",
    ),
    comment="One row is what the book says we hold, or held, of one instrument in one account.",
)

lots = sa.Table(
    "lots",
    metadata,
    column("account", Text, primary_key=True),
    column("instrument", Text, primary_key=True),
    column("opening_id", Text, "the fill or adjustment that opened it", primary_key=True),
    column("seq", Integer, "sorts the position's lots; there may be gaps"),
    column("opening_revision", Integer, "of the fill; NULL: opened by an adjustment", nullable=True),
    column("opened_at", Time),
    column("quantity", Numeric),
    column("price", Numeric, nullable=True),
    column("cost", Numeric, nullable=True),
    column("commission", Numeric, "NULL until it has come", nullable=True),
    column("basis", Text),
    column("fees", JSONB, "commissions in other currencies than the trade's", nullable=True),
    sa.ForeignKeyConstraint(["account", "instrument"], ["positions.account", "positions.instrument"]),
    sa.ForeignKeyConstraint(
        ["account", "opening_id", "opening_revision"],
        ["executions.account", "executions.execution_id", "executions.revision"],
        name="lots_opening_fill_fkey",
    ),
    sa.CheckConstraint("quantity <> 0", name="quantity"),
    finite("quantity price cost commission"),
    sa.CheckConstraint("(cost IS NULL) = (basis = 'unknown')", name="cost"),
    sa.Index(None, "account", "instrument", "seq"),
    comment="One row is one open part of a position.",
)

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    account_key(primary_key=True),
    instrument_key(primary_key=True),
    column("until_at", Time, "it contains all entries until then, and those of that moment too", primary_key=True),
    column("state", JSONB, "sums and lots of the position as they were then, numbers as text"),
    column("made_at", Time, "when it was written", server_default=NOW),
    comment="One row is a position as it stood after a moment: a late entry is booked from the last one before it. Wrong ones are dropped.",
)


def _entry(name: str) -> list[sa.schema.SchemaItem]:
    """The three columns that tie a row to the fill or the adjustment that it rests on: exactly one of them exists."""
    return [
        column(f"{name}_id", Text),
        column(f"{name}_revision", Integer, "of the fill", nullable=True),
        column(f"{name}_adjustment", Text, "set where it was an adjustment", nullable=True),
        sa.ForeignKeyConstraint(
            ["account", f"{name}_id", f"{name}_revision"],
            ["executions.account", "executions.execution_id", "executions.revision"],
            name=f"closes_{name}_fill_fkey",
        ),
        sa.ForeignKeyConstraint(
            ["account", f"{name}_adjustment"],
            ["adjustments.account", "adjustments.id"],
            name=f"closes_{name}_adjustment_fkey",
        ),
        sa.CheckConstraint(f"num_nonnulls({name}_revision, {name}_adjustment) = 1", name=f"{name}_exists"),
        sa.CheckConstraint(f"{name}_adjustment = {name}_id", name=f"{name}_adjustment"),
    ]


closes = sa.Table(
    "closes",
    metadata,
    generated_id(),
    account_key(),
    instrument_key(),
    *_entry("execution"),
    *_entry("opening"),
    column("cycle", Integer),
    column("closed_at", Time),
    column("opened_at", Time),
    column("quantity", Numeric, "signed as the position that it closed"),
    column("entry_price", Numeric, nullable=True),
    column("exit_price", Numeric, "NULL: it is not known what was paid", nullable=True),
    column("cost", Numeric, "what the closed part had cost, signed, without fees; NULL: not known", nullable=True),
    column("gross_pnl", Numeric, "NULL: the basis is unknown", nullable=True),
    column("opening_commission", Numeric, nullable=True),
    column("closing_commission", Numeric, nullable=True),
    column("premium", Numeric, "option premium that moved with an assignment or exercise", server_default="0"),
    column("fees", JSONB, "commissions in other currencies than the trade's", nullable=True),
    column("currency", Text),
    column("method", Text),
    column("basis", Text),
    column("partial", Boolean, "the position stayed open"),
    column("believed_at", Time, "when the book began to say so", server_default=NOW),
    column("superseded_at", Time, "when the book ceased to say so; NULL: it says so now", nullable=True),
    sa.Column("net_pnl", Numeric, sa.Computed("gross_pnl - opening_commission - closing_commission", persisted=True)),
    sa.CheckConstraint("quantity <> 0", name="quantity"),
    sa.CheckConstraint("gross_pnl IS NOT NULL OR basis = 'unknown'", name="gross_pnl"),
    sa.CheckConstraint("cost IS NOT NULL OR basis = 'unknown'", name="cost"),
    sa.CheckConstraint("exit_price IS NOT NULL OR basis = 'unknown'", name="exit_price"),
    sa.CheckConstraint("superseded_at >= believed_at", name="superseded_at"),
    finite("quantity entry_price exit_price cost gross_pnl opening_commission closing_commission premium"),
    sa.CheckConstraint(f"basis IN ({BASES})", name="basis"),
    sa.CheckConstraint("closed_at >= opened_at OR basis <> 'fills'", name="closed_at"),
    sa.CheckConstraint(f"method IN ({METHODS})", name="method"),
    sa.Index(
        "closes_believed_key",
        "account",
        "instrument",
        "execution_id",
        "opening_id",
        unique=True,
        postgresql_where=sa.text("superseded_at IS NULL"),
    ),
    sa.Index(None, "account", "instrument", "closed_at"),
    comment="One row is one realised part: one closing entry against one lot. Superseded rows stay.",
)

position_events = sa.Table(
    "position_events",
    metadata,
    generated_id(),
    account_key(),
    instrument_key(),
    column("type", Text),
    column("at", Time),
    column("quantity_before", Numeric),
    column("quantity_after", Numeric),
    column("cycle", Integer),
    column("cause", Text, "the fill or adjustment"),
    column("believed_at", Time, server_default=NOW),
    column("superseded_at", Time, nullable=True),
    sa.CheckConstraint(f"type IN ({EVENTS})", name="type"),
    sa.CheckConstraint("superseded_at >= believed_at", name="superseded_at"),
    finite("quantity_before quantity_after"),
    sa.Index(
        "position_events_believed_key",
        "account",
        "instrument",
        "cause",
        "type",
        unique=True,
        postgresql_where=sa.text("superseded_at IS NULL"),
    ),
    sa.Index(None, "account", "instrument", "at"),
    comment="One row is one step in the life of a position. Superseded rows stay.",
)
