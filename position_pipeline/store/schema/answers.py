"""What the brokers answered: snapshots, the holdings in them, and what is known of the last one of each account.

Belongs here: answers as they came. Does not belong here: what differs between them and the book (breaks.py), attempts to sync (syncs.py).
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
    finite,
    generated_id,
    instrument_key,
    metadata,
)

snapshots = sa.Table(
    "snapshots",
    metadata,
    generated_id(),
    column("account", Text, "not a key to accounts: a rejected answer may name one that is not known"),
    column("connection", Text),
    column("broker", Text),
    column("first_at", Time, "when it was given first, as taken_at", server_default=NOW),
    column("taken_at", Time, "when it was given last: by our clock, or by the broker's where the two differ by more than some seconds"),
    column("source_at", Time, "the same by the broker's clock, in whole seconds, where it told it", nullable=True),
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
