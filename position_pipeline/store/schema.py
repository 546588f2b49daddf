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
    "'conversion_in', 'spin_off', 'return_of_capital', 'reinvestment', 'fee_in_kind', 'adopted', 'delivery', 'void'"
)
BREAKS = (
    "'timing', 'missing_fill', 'duplicate_fill', 'correction', 'split', 'symbol_change', 'spin_off', 'merger', 'option_event', 'transfer', "
    "'fee_in_kind', 'cost_method', 'opening_balance', 'snapshot_incomplete', 'unknown'"
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
    column(
        "verified_to",
        BigInteger,
        "executions.id up to which a proven snapshot, asked for later, was held against the fills",
        server_default="0",
    ),
    sa.CheckConstraint("verified_to >= 0", name="verified_to"),
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
    column(
        "takes_from", Text, "the adjustment whose lots or premium this one takes up; of a void the fill that it takes out", nullable=True
    ),
    column("held", Numeric, "inferred: what is held after it; what other entries explain of that, it does not book", nullable=True),
    column("source", Text, server_default=""),
    column("evidence", Text, "why it is in the book, in words and figures", server_default=""),
    column("recorded_at", Time, server_default=NOW),
    column("accepted_by", Text, "who wanted it, where a person did", nullable=True),
    column("reversed_at", Time, "when it was taken back: the book is as if it had never been", nullable=True),
    column("reversed_by", Text, "the person who took it back; position_pipeline where facts did", nullable=True),
    column("reversed_why", Text, "in words", nullable=True),
    column(
        "doubted_at", Time, "inferred: since when late facts are there that may explain it; the next proven answer decides", nullable=True
    ),
    sa.CheckConstraint(f"kind IN ({KINDS})", name="kind"),
    sa.CheckConstraint(f"basis IN ({BASES})", name="basis"),
    sa.CheckConstraint("kind IN ('opening_balance', 'opening_lot', 'transfer') OR cost IS NULL", name="cost"),
    sa.CheckConstraint("multiplier > 0", name="multiplier"),
    sa.CheckConstraint("numerator > 0 AND denominator > 0", name="ratio"),
    sa.CheckConstraint("share >= 0 AND share <= 1", name="share"),
    finite("quantity price multiplier cost commission numerator denominator amount held"),
    sa.CheckConstraint("(reversed_at IS NULL) = (reversed_why IS NULL)", name="reversed_why"),
    sa.CheckConstraint("reversed_at >= recorded_at", name="reversed_at"),
    sa.CheckConstraint("(kind = 'adopted') <= (held IS NOT NULL)", name="adopted"),
    sa.CheckConstraint("(kind IN ('conversion_in', 'delivery', 'void')) <= (takes_from IS NOT NULL)", name="takes_from"),
    sa.Index(None, "account", "instrument", "time"),
    sa.Index(
        "adjustments_doubted_idx",
        "account",
        postgresql_where=sa.text("doubted_at IS NOT NULL"),
    ),
    sa.Index(
        "adjustments_actions_idx",
        "time",
        postgresql_where=sa.text("kind IN ('split', 'conversion_out', 'spin_off') AND held IS NULL AND reversed_at IS NULL"),
    ),
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

snapshots = sa.Table(
    "snapshots",
    metadata,
    generated_id(),
    column("account", Text, "not a key to accounts: a rejected answer may name one that is not known"),
    column("connection", Text),
    column("broker", Text),
    column("first_at", Time, "when it was given first, by our clock", server_default=NOW),
    column("taken_at", Time, "when it was given last, by our clock"),
    column("source_at", Time, "the same by the broker's clock, where it told it", nullable=True),
    column("times", Integer, "how often it was given, one time after the other", server_default="1"),
    column("status", Text),
    column("reason", Text, "why it was rejected", server_default=""),
    column("holdings", Integer, "how many"),
    column("values", JSONB, "the account's own totals, as text", server_default="{}"),
    column("errors", JSONB, "symbols that could not be read", server_default="{}"),
    column("unread", ARRAY(Text), "the instruments of those symbols, which keep their positions", server_default="{}"),
    sa.CheckConstraint("status IN ('complete', 'partial', 'rejected')", name="status"),
    sa.CheckConstraint("status <> 'rejected' OR reason <> ''", name="reason"),
    sa.CheckConstraint("status <> 'partial' OR errors <> '{}'", name="errors"),
    sa.CheckConstraint("times > 0", name="times"),
    sa.Index(None, "account", "id"),
    comment="One row is one answer of a broker for one account, however often it is repeated; a rejected one never touches the book.",
)

holdings = sa.Table(
    "holdings",
    metadata,
    column("account", Text, primary_key=True),
    instrument_key(primary_key=True),
    column("snapshot_id", BigInteger, "the first snapshot that says so; housekeeping may have dropped it", primary_key=True),
    column("until_id", BigInteger, "the first proven snapshot that says otherwise; NULL: the last one says so", nullable=True),
    column("quantity", Numeric),
    column("average_price", Numeric, "per unit, multiplier taken out", nullable=True),
    column("raw_average_cost", Numeric, "as it came", nullable=True),
    column("market_price", Numeric, "in the first snapshot that says so, as the two below", nullable=True),
    column("market_value", Numeric, nullable=True),
    column("unrealized_pnl", Numeric, nullable=True),
    sa.CheckConstraint("until_id > snapshot_id", name="until_id"),
    finite("quantity average_price raw_average_cost market_price market_value unrealized_pnl"),
    sa.Index("holdings_last_key", "account", "instrument", unique=True, postgresql_where=sa.text("until_id IS NULL")),
    comment=(
        "One row is what a broker says it holds of one instrument, from one snapshot until another says otherwise: what a proven snapshot "
        "says is in the rows of its account with snapshot_id <= its id < until_id."
    ),
)

last_answers = sa.Table(
    "last_answers",
    metadata,
    column("account", Text, primary_key=True),
    column("snapshot_id", BigInteger, "the last proven snapshot"),
    column("prints", sa.LargeBinary, "digests of everything that it says of instruments, slice by slice (store/prints.py)"),
    column("named", sa.LargeBinary, "digest of the instruments that it names"),
    column(
        "agreed_to",
        BigInteger,
        "the snapshot in which book and broker agreed in everything, and nothing was waiting; NULL: in none that counts",
        nullable=True,
    ),
    column("touched", ARRAY(Text), "the instruments whose positions were written since then", server_default="{}"),
    sa.CheckConstraint("agreed_to <= snapshot_id", name="agreed_to"),
    comment="One row is what is known of an account's last proven answer, so that the next is compared only where something is new.",
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
    column("first_seen_at", Time),
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
