"""The tables, with what one row of each means: the one description that migrations are checked against.

Belongs here: columns, constraints, comments. Does not belong here: queries (queries/) and use cases (Store). Commands never
import this module, because importing SQLAlchemy would cost each a quarter of a second; migrations, tests and Dagster's processes do.

Numbers are NUMERIC without a scale: brokers send up to 24 decimals and none is cut. Times are timestamptz.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

Text, Numeric, Integer, BigInteger, Boolean = sa.Text, sa.Numeric, sa.Integer, sa.BigInteger, sa.Boolean
Time = sa.DateTime(timezone=True)
METHODS = "'average', 'fifo', 'lifo', 'hifo'"
EVENTS = (
    "'opened', 'increased', 'reduced', 'closed', 'flipped', 'split', 'transferred', 'adjusted', 'renamed', 'expired', 'assigned', "
    "'exercised'"
)
KINDS = (
    "'opening_balance', 'opening_lot', 'expiry', 'assignment', 'exercise', 'cash_settlement', 'split', 'transfer', 'conversion_out', "
    "'conversion_in', 'spin_off', 'return_of_capital', 'reinvestment', 'fee_in_kind'"
)
BASES = "'fills', 'statement', 'broker', 'unknown'"
NOW = sa.text("now()")


def column(name: str, kind: sa.types.TypeEngine[Any] | type, comment: str = "", **options: Any) -> sa.Column[Any]:
    """A column that is NOT NULL unless it says otherwise."""
    options.setdefault("nullable", False)
    return sa.Column(name, kind, comment=comment or None, **options)


def generated_id() -> sa.Column[Any]:
    return sa.Column("id", BigInteger, sa.Identity(always=True), primary_key=True)


def finite(*columns: str) -> sa.CheckConstraint:
    """NUMERIC takes NaN and infinities; the book does not. NaN counts as greater than everything."""
    return sa.CheckConstraint(
        " AND ".join(f"{name} > '-Infinity' AND {name} < 'Infinity'" for name in " ".join(columns).split()), name="finite"
    )


def account_key(**options: Any) -> sa.Column[Any]:
    return sa.Column("account", Text, sa.ForeignKey("accounts.account"), nullable=False, **options)


def instrument_key(**options: Any) -> sa.Column[Any]:
    return sa.Column("instrument", Text, sa.ForeignKey("instruments.instrument"), nullable=False, **options)


accounts = sa.Table(
    "accounts",
    metadata,
    column("account", Text, "the broker's own account id", primary_key=True),
    column("broker", Text, "ibkr, alpaca"),
    column(
        "connection",
        Text,
        "name of the connection that reads it; empty if it came by a statement only",
        server_default="",
    ),
    column("base_currency", Text, nullable=True),
    column("cost_method", Text, "which lots a closing fill consumes", server_default="fifo"),
    column("cost_methods", JSONB, "other methods than cost_method, by kind of instrument (sec_type)", server_default="{}"),
    column("earlier_methods", JSONB, "both as they were before, oldest first, each with until when", server_default="[]"),
    column("first_seen_at", Time, server_default=NOW),
    column("first_proven_at", Time, "when the first proven snapshot was reconciled (first contact)", nullable=True),
    column("last_synced_at", Time, "when the last proven snapshot was taken that was reconciled", nullable=True),
    sa.CheckConstraint(f"cost_method IN ({METHODS})", name="cost_method"),
    comment="One row is one account at one broker.",
)

instruments = sa.Table(
    "instruments",
    metadata,
    column("instrument", Text, "broker name, colon, the broker's own id", primary_key=True),
    column("symbol", Text, "a label; it may change"),
    column("sec_type", Text),
    column("currency", Text),
    column("multiplier", Numeric, "units of the underlying per contract"),
    column("exchange", Text, server_default=""),
    column("expiry", Text, server_default=""),
    column("strike", Numeric, nullable=True),
    column("right", Text, "C or P", server_default=""),
    column("underlying", Text, server_default=""),
    column("description", Text, server_default=""),
    column("first_seen_at", Time, server_default=NOW),
    sa.CheckConstraint("multiplier > 0", name="multiplier"),
    finite("multiplier strike"),
    sa.CheckConstraint("position(':' IN instrument) > 1", name="instrument"),
    comment="One row is one thing that is traded, as first seen: expired contracts cannot be asked for again.",
)

executions = sa.Table(
    "executions",
    metadata,
    generated_id(),
    account_key(),
    column("execution_id", Text, "the broker's id without its revision"),
    column("revision", Integer, "a correction has the same execution_id and a higher revision; the highest is believed"),
    instrument_key(),
    column("side", Text),
    column("quantity", Numeric, "unsigned; 0 is a bust"),
    column("price", Numeric),
    column("multiplier", Numeric),
    column("currency", Text),
    column("commission", Numeric, "positive when paid; NULL until it has come", nullable=True),
    column("commission_currency", Text, nullable=True),
    column("time", Time, "the broker's time of the fill"),
    column("order_id", Text, server_default=""),
    column("source", Text, "what delivered it: an API, or the statement that has the final word"),
    column("sequence", BigInteger, "the broker's rising number, where it gives one", nullable=True),
    column("premium_from", Text, "the assignment or exercise whose premium this share leg carries", nullable=True),
    column("broker_pnl", Numeric, "the broker's own realised P&L of this execution", nullable=True),
    column("closes_lots", JSONB, "lots that it names to close before others: pairs of opening id and quantity", nullable=True),
    column("recorded_at", Time, server_default=NOW),
    column("earlier", JSONB, "what it said before later deliveries completed it, oldest first, each with until when", nullable=True),
    sa.UniqueConstraint("account", "execution_id", "revision"),
    sa.CheckConstraint("side IN ('BUY', 'SELL')", name="side"),
    sa.CheckConstraint("execution_id <> ''", name="execution_id"),
    sa.CheckConstraint("quantity >= 0", name="quantity"),
    sa.CheckConstraint("multiplier > 0", name="multiplier"),
    sa.CheckConstraint("revision >= 0", name="revision"),
    finite("quantity price multiplier commission broker_pnl"),
    sa.CheckConstraint("(commission IS NULL) OR (commission_currency IS NOT NULL)", name="commission"),
    sa.Index(None, "account", "instrument", "time"),
    sa.Index(
        "executions_premium_from_idx",
        "account",
        "premium_from",
        postgresql_where=sa.text("premium_from IS NOT NULL"),
    ),
    comment="One row is one revision of one fill at the broker. Rows are never deleted.",
)

adjustments = sa.Table(
    "adjustments",
    metadata,
    account_key(primary_key=True),
    column("id", Text, "deterministic: the same cause gives the same id", primary_key=True),
    instrument_key(),
    column("kind", Text),
    column("time", Time, "when it takes its place in the book"),
    column("quantity", Numeric, "a change of the position; for an opening_balance what was held"),
    column("currency", Text),
    column("multiplier", Numeric),
    column("price", Numeric, "per unit; NULL: not known", nullable=True),
    column("cost", Numeric, "of a lot that comes in: the total, where it is known better than by the price", nullable=True),
    column("commission", Numeric, nullable=True),
    column("basis", Text),
    column("sequence", BigInteger, nullable=True),
    column("numerator", Numeric, "units after, for `denominator` units before", nullable=True),
    column("denominator", Numeric, "units before", nullable=True),
    column("amount", Numeric, "cash as the account sees it: positive is received", nullable=True),
    column("share", Numeric, "of a spin-off: the part of the cost that moves, 0 to 1", nullable=True),
    column("takes_from", Text, "the adjustment whose lots this one takes up", nullable=True),
    column("source", Text, server_default=""),
    column("evidence", Text, "why it is in the book, in words and figures", server_default=""),
    column("recorded_at", Time, server_default=NOW),
    sa.CheckConstraint(f"kind IN ({KINDS})", name="kind"),
    sa.CheckConstraint(f"basis IN ({BASES})", name="basis"),
    sa.CheckConstraint("kind IN ('opening_balance', 'opening_lot', 'transfer') OR cost IS NULL", name="cost"),
    sa.CheckConstraint("multiplier > 0", name="multiplier"),
    sa.CheckConstraint("numerator > 0 AND denominator > 0", name="ratio"),
    sa.CheckConstraint("share >= 0 AND share <= 1", name="share"),
    finite("quantity price multiplier cost commission numerator denominator amount"),
    sa.Index(None, "account", "instrument", "time"),
    sa.Index(
        "adjustments_takes_from_idx",
        "account",
        "takes_from",
        postgresql_where=sa.text("takes_from IS NOT NULL"),
    ),
    comment="One row is one entry of the book that is no fill.",
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
    comment="One row is one open part of a position.",
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
    column("exit_price", Numeric),
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
    sa.Index(None, "account", "closed_at"),
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

snapshots = sa.Table(
    "snapshots",
    metadata,
    generated_id(),
    column("account", Text, "not a key to accounts: a rejected answer may name one that is not known"),
    column("connection", Text),
    column("broker", Text),
    column("taken_at", Time),
    column("status", Text),
    column("reason", Text, "why it was rejected", server_default=""),
    column("holdings", Integer, "how many"),
    column(
        "digest",
        Text,
        "of quantities and averages; the same digest as before has its rows under holdings_of",
        server_default="",
    ),
    column("holdings_of", BigInteger, "the snapshot whose rows in holdings are these", nullable=True),
    column("values", JSONB, "the account's own totals, as text", server_default="{}"),
    column("errors", JSONB, "symbols that could not be read", server_default="{}"),
    column("unread", ARRAY(Text), "the instruments of those symbols, which keep their positions", server_default="{}"),
    sa.CheckConstraint("status IN ('complete', 'partial', 'rejected')", name="status"),
    sa.CheckConstraint("status <> 'rejected' OR reason <> ''", name="reason"),
    sa.CheckConstraint("status <> 'partial' OR errors <> '{}'", name="errors"),
    sa.Index(None, "account", "id"),
    comment="One row is one answer of a broker for one account; a rejected one never touches the book.",
)

holdings = sa.Table(
    "holdings",
    metadata,
    sa.Column("snapshot_id", BigInteger, sa.ForeignKey("snapshots.id", ondelete="CASCADE"), primary_key=True),
    instrument_key(primary_key=True),
    column("quantity", Numeric),
    column("average_price", Numeric, "per unit, multiplier taken out", nullable=True),
    column("raw_average_cost", Numeric, "as it came", nullable=True),
    column("market_price", Numeric, nullable=True),
    column("market_value", Numeric, nullable=True),
    column("unrealized_pnl", Numeric, nullable=True),
    finite("quantity average_price raw_average_cost market_price market_value unrealized_pnl"),
    comment="One row is what a broker said it holds of one instrument; written when quantities or averages change.",
)

syncs = sa.Table(
    "syncs",
    metadata,
    generated_id(),
    column("account", Text),
    column("connection", Text),
    column("trigger", Text, "schedule, manual, trade, start"),
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
    comment="One row is one attempt to sync one account, whatever came of it.",
)

breaks = sa.Table(
    "breaks",
    metadata,
    column("id", Text, primary_key=True),
    account_key(),
    instrument_key(),
    column("class", Text),
    column("status", Text, server_default="open"),
    column("book_quantity", Numeric),
    column("broker_quantity", Numeric),
    column("first_seen_at", Time),
    column("last_seen_at", Time),
    column("resolved_at", Time, nullable=True),
    column("proposal", Text, server_default=""),
    column("evidence", Text, server_default=""),
    sa.CheckConstraint("status IN ('open', 'resolved', 'dismissed')", name="status"),
    sa.CheckConstraint("(status = 'resolved') = (resolved_at IS NOT NULL)", name="resolved_at"),
    finite("book_quantity broker_quantity"),
    sa.Index("breaks_open_key", "account", "instrument", "class", unique=True, postgresql_where=sa.text("status = 'open'")),
    comment="One row is one difference between book and broker, from when it was first seen until it is gone.",
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
