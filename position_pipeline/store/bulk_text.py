r"""Rows of the large tables as lines of PostgreSQL's COPY in text format, many thousand a second.

Belongs here: the columns of a bulk write, in order, and how a value is written. Does not belong here: which rows are written (bulk.py),
rows for statements (rows.py, which a test holds these to).

In a line columns are parted by a tab, NULL is \N, and a backslash, tab, line feed or carriage return within a text has a backslash
before it. Numbers are written by `str`, which keeps every digit, in an exponent where a Decimal has one: PostgreSQL reads both.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import plain
from position_pipeline.store import checkpoints

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Close, Fees, Fill, Lot, Position, PositionEvent
    from position_pipeline.store.rows import Revisions

EXECUTIONS = (
    "account, execution_id, revision, instrument, side, quantity, price, multiplier, currency, commission, commission_currency, time, "
    "order_id, source, sequence, premium_from, broker_pnl, closes_lots, recorded_at"
)
CLOSES = (
    "account, instrument, execution_id, execution_revision, execution_adjustment, opening_id, opening_revision, opening_adjustment, "
    "cycle, closed_at, opened_at, quantity, entry_price, exit_price, cost, gross_pnl, opening_commission, closing_commission, premium, "
    "fees, currency, method, basis, partial, believed_at"
)
EVENTS = "account, instrument, type, at, quantity_before, quantity_after, cycle, cause, believed_at"
CHECKPOINTS = "account, instrument, until_at, state"
LOTS = "account, instrument, opening_id, seq, opening_revision, opened_at, quantity, price, cost, commission, basis, fees"

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_special = re.compile(r"[\\\t\n\r]").search


def escaped(text: str) -> str:
    """A text so that COPY reads the very same."""
    return text.translate(_ESCAPES) if _special(text) else text


class _Texts(dict[str | None, str]):
    """Escaped texts: a fill's id is in several rows."""

    def __missing__(self, text: str | None) -> str:
        found = self[text] = _text(text)
        return found


class _Times(dict["datetime", str]):
    """Times as text, which takes as long as booking them."""

    def __missing__(self, time: datetime) -> str:
        found = self[time] = str(time)
        return found


class Lines:
    """The lines of one batch, all written `at` one moment; what they have in common is made once and dropped with the batch."""

    def __init__(self, at: datetime, revisions: Revisions) -> None:
        self._at, self._revisions = str(at), revisions
        self._texts, self._times = _Texts(), _Times()

    def execution(self, fill: Fill) -> str:
        (
            account, instrument, execution_id, side, quantity, price, currency, time, multiplier, commission, commission_currency, revision,
            sequence, premium_from, order_id, source, broker_pnl, closes_lots,
        ) = fill  # fmt: skip
        text = self._texts
        return (
            f"{text[account]}\t{text[execution_id]}\t{revision}\t{text[instrument]}\t{side._value_}\t{quantity!s}\t{price!s}"
            f"\t{multiplier!s}\t{text[currency]}\t{_known(commission)!s}\t{text[commission_currency]}\t{self._times[time]}"
            f"\t{text[order_id]}\t{text[source]}\t{_known(sequence)!s}\t{text[premium_from]}\t{_known(broker_pnl)!s}"
            f"\t{_named(closes_lots)}\t{self._at}\n"
        )

    def close(self, close: Close) -> str:
        (
            account, instrument, execution_id, opening_id, cycle, closed_at, opened_at, quantity, entry_price, exit_price, cost, gross,
            opening_commission, closing_commission, currency, method, basis, partial, premium, fees,
        ) = close  # fmt: skip
        text, times = self._texts, self._times
        return (
            f"{text[account]}\t{text[instrument]}\t{self._entry(execution_id)}\t{self._entry(opening_id)}\t{cycle}\t{times[closed_at]}"
            f"\t{times[opened_at]}\t{quantity!s}\t{_known(entry_price)!s}\t{_known(exit_price)!s}\t{_known(cost)!s}\t{_known(gross)!s}"
            f"\t{_known(opening_commission)!s}\t{_known(closing_commission)!s}\t{premium!s}\t{_fees(fees)}\t{text[currency]}"
            f"\t{method._value_}\t{basis._value_}\t{'t' if partial else 'f'}\t{self._at}\n"
        )

    def event(self, event: PositionEvent) -> str:
        account, instrument, type_, at, before, after, cycle, cause = event
        text = self._texts
        return (
            f"{text[account]}\t{text[instrument]}\t{type_._value_}\t{self._times[at]}\t{before!s}\t{after!s}\t{cycle}\t{text[cause]}"
            f"\t{self._at}\n"
        )

    def checkpoint(self, position: Position) -> str:
        account, instrument, until_at, state = checkpoints.row(position, self._revisions)
        return f"{self._texts[account]}\t{self._texts[instrument]}\t{until_at}\t{escaped(json.dumps(state))}\n"

    def _entry(self, id_: str) -> str:
        """The three columns that tie a close to a fill, which has a revision, or to an adjustment, which has none."""
        name, revision = self._texts[id_], self._revisions[id_]
        return f"{name}\t\\N\t{name}" if revision is None else f"{name}\t{revision}\t\\N"


def lot_line(account: str, instrument: str, seq: int, lot: Lot, revisions: Revisions) -> str:
    return (
        f"{escaped(account)}\t{escaped(instrument)}\t{escaped(lot.opening_id)}\t{seq}\t{_known(revisions[lot.opening_id])}\t{lot.opened_at}"
        f"\t{lot.quantity}\t{_known(lot.price)}\t{_known(lot.cost)}\t{_known(lot.commission)}\t{lot.basis._value_}\t{_fees(lot.fees)}\n"
    )


def _known(number: Decimal | int | None) -> Decimal | int | str:
    return "\\N" if number is None else number


def _text(text: str | None) -> str:
    return "\\N" if text is None else escaped(text)


def _named(lots: tuple[tuple[str, Decimal], ...]) -> str:
    return escaped(json.dumps([[name, plain(quantity)] for name, quantity in lots])) if lots else "\\N"


def _fees(fees: Fees) -> str:
    return escaped(json.dumps({currency: plain(amount) for currency, amount in fees})) if fees else "\\N"
