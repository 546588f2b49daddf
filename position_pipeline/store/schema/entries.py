"""What the book is made from: accounts and instruments, and the fills and adjustments that are its entries.

Belongs here: facts, which nothing can make anew. Does not belong here: what follows from them (book.py).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from position_pipeline.store.schema.columns import (
    BASES,
    METHODS,
    NOW,
    BigInteger,
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

KINDS = (
    "'opening_balance', 'opening_lot', 'expiry', 'assignment', 'exercise', 'cash_settlement', 'split', 'transfer', 'conversion_out', "
    "'conversion_in', 'spin_off', 'return_of_capital', 'reinvestment', 'fee_in_kind', 'adopted', 'delivery', 'void'"
)

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
    column("last_synced_at", Time, "when the last proven snapshot came that was reconciled, by our clock", nullable=True),
    column("answered_at", Time, "the same by the clock of the fills: its taken_at", nullable=True),
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
