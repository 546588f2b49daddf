"""Rows of the large tables as lines of PostgreSQL's COPY in text format, many thousand a second.

Belongs here: the columns of a bulk write, in order, and how a value is written. Does not belong here: which rows are written (bulk.py),
rows for statements (rows.py, which a test holds these to).

In a line columns are parted by a tab, NULL is \\N, and a backslash, tab, line feed or carriage return within a text has a backslash
before it. Numbers are written by `str`, which keeps every digit, in an exponent where a Decimal has one: PostgreSQL reads both.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import plain

if TYPE_CHECKING:
    from decimal import Decimal

    from position_pipeline.accounting.model import Close, Fees, Fill, Lot, PositionEvent
    from position_pipeline.store.rows import Revisions

EXECUTIONS = (
    "account, execution_id, revision, instrument, side, quantity, price, multiplier, currency, commission, commission_currency, time, "
    "order_id, source, sequence, premium_from, broker_pnl"
)
CLOSES = (
    "account, instrument, execution_id, execution_revision, execution_adjustment, opening_id, opening_revision, opening_adjustment, "
    "cycle, closed_at, opened_at, quantity, entry_price, exit_price, cost, gross_pnl, opening_commission, closing_commission, premium, "
    "fees, currency, method, basis, partial, believed_at"
)
EVENTS = "account, instrument, type, at, quantity_before, quantity_after, cycle, cause, believed_at"
LOTS = "account, instrument, opening_id, seq, opening_revision, opened_at, quantity, price, cost, commission, basis, fees"

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def escaped(text: str) -> str:
    """A text so that COPY reads the very same."""
    return text.translate(_ESCAPES)


def execution_line(fill: Fill) -> str:
    f = fill
    return (
        f"{escaped(f.account)}\t{escaped(f.execution_id)}\t{f.revision}\t{escaped(f.instrument)}\t{f.side._value_}\t{f.quantity}\t{f.price}"
        f"\t{f.multiplier}\t{escaped(f.currency)}\t{_known(f.commission)}\t{_text(f.commission_currency)}\t{f.time}\t{escaped(f.order_id)}"
        f"\t{escaped(f.source)}\t{_known(f.sequence)}\t{_text(f.premium_from)}\t{_known(f.broker_pnl)}\n"
    )


def close_line(close: Close, revisions: Revisions, believed_at: str) -> str:
    (
        account, instrument, execution_id, opening_id, cycle, closed_at, opened_at, quantity, entry_price, exit_price, cost, gross,
        opening_commission, closing_commission, currency, method, basis, partial, premium, fees,
    ) = close  # fmt: skip
    return (
        f"{escaped(account)}\t{escaped(instrument)}\t{_entry(execution_id, revisions)}\t{_entry(opening_id, revisions)}"
        f"\t{cycle}\t{closed_at}\t{opened_at}\t{quantity}\t{_known(entry_price)}\t{exit_price}\t{_known(cost)}\t{_known(gross)}"
        f"\t{_known(opening_commission)}\t{_known(closing_commission)}\t{premium}\t{_fees(fees)}\t{escaped(currency)}\t{method._value_}"
        f"\t{basis._value_}\t{'t' if partial else 'f'}\t{believed_at}\n"
    )


def event_line(event: PositionEvent, believed_at: str) -> str:
    account, instrument, type_, at, before, after, cycle, cause = event
    return (
        f"{escaped(account)}\t{escaped(instrument)}\t{type_._value_}\t{at}\t{before}\t{after}\t{cycle}\t{escaped(cause)}\t{believed_at}\n"
    )


def lot_line(account: str, instrument: str, seq: int, lot: Lot, revisions: Revisions) -> str:
    return (
        f"{escaped(account)}\t{escaped(instrument)}\t{escaped(lot.opening_id)}\t{seq}\t{_known(revisions[lot.opening_id])}\t{lot.opened_at}"
        f"\t{lot.quantity}\t{_known(lot.price)}\t{_known(lot.cost)}\t{_known(lot.commission)}\t{lot.basis._value_}\t{_fees(lot.fees)}\n"
    )


def _entry(id_: str, revisions: Revisions) -> str:
    """The three columns that tie a close to a fill, which has a revision, or to an adjustment, which has none."""
    name, revision = escaped(id_), revisions[id_]
    return f"{name}\t\\N\t{name}" if revision is None else f"{name}\t{revision}\t\\N"


def _known(number: Decimal | int | None) -> Decimal | int | str:
    return "\\N" if number is None else number


def _text(text: str | None) -> str:
    return "\\N" if text is None else escaped(text)


def _fees(fees: Fees) -> str:
    return escaped(json.dumps({currency: plain(amount) for currency, amount in fees})) if fees else "\\N"
