"""IBKR's Activity Flex statements: the full history, and the second book beside the API.

Belongs here: what one file says of each account. The siblings hold the document (flex_document), its columns (flex_rows) and
known words (flex_words), trades (flex_trades, flex_options, flex_booking), corporate actions and transfers (flex_actions,
flex_movements), what was held before (flex_holdings), cash (flex_cash) and what was not taken (flex_log). Does not belong here: fetching
a statement, storing it.

One element `FlexStatement` is one account and one period; several of one account (Breakout by Day) are joined. Trades are taken as
executions, or as whole orders where there are no executions. A corporate action whose rows do not say what it does is refused with its
reason, and so are the later fills of the instruments that it changed, because a fill in units that the book does not have is wrong.
What a statement does not say is not guessed: its absence is a note, a refused row, or a StatementError that says what to tick.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, ZERO
from position_pipeline.brokers import Statement
from position_pipeline.brokers.flex_booking import Trades, book_trades
from position_pipeline.brokers.flex_cash import REQUIRED as CASH_COLUMNS
from position_pipeline.brokers.flex_cash import base_currency, detailed, read_cash
from position_pipeline.brokers.flex_document import Document, RawPart, StatementError, quoted, read_document
from position_pipeline.brokers.flex_holdings import Holdings, Period
from position_pipeline.brokers.flex_holdings import openings as openings_of
from position_pipeline.brokers.flex_log import Log
from position_pipeline.brokers.flex_movements import Movements, read_movements
from position_pipeline.brokers.flex_options import Endings
from position_pipeline.brokers.flex_rows import MIDNIGHT, NEW_YORK, Row, RowError, day_first, in_utc, moment
from position_pipeline.brokers.flex_trades import REQUIRED as TRADE_COLUMNS
from position_pipeline.brokers.flex_trades import Trade, executions, read_trades
from position_pipeline.brokers.flex_words import ATTRIBUTES, DERIVATIVES, TRADE_TAGS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from position_pipeline.accounting.model import Adjustment, Instrument

__all__ = ["StatementError", "read_statements"]

BROKER = "ibkr"
INSTRUMENT_TAGS = ("OptionEAE", "CashTransaction", "CorporateAction", "Transfer", "Trade", "OpenPosition")
DATES = ("dateTime", "tradeDate", "reportDate", "settleDate", "settleDateTarget", "openDateTime", "orderTime", "date", "expiry")


def read_statements(source: Path | bytes, *, name: str = "") -> tuple[Statement, ...]:
    """What a Flex file says, one statement per account, in the order of the file. `name` is for messages; a path brings its own.

    Raises StatementError when the file is no usable statement, and OSError when it cannot be read; then nothing of it counts.
    """
    document = read_document(source, name or (source.name if isinstance(source, Path) else "statement"))
    periods = _periods(document)
    rows = _rows(document, periods)
    for account in rows:
        if account not in periods.of:
            periods.of[account] = list(range(len(document.parts)))
    return tuple(_Reader(document, periods, account, rows.get(account, [])).statement() for account in periods.of)


@dataclass(slots=True)
class _Periods:
    """The parts of a file: start and end (exclusive) of each, and which belong to an account."""

    bounds: list[tuple[datetime, datetime]]
    of: dict[str, list[int]]
    slashes_start_with_day: bool | None


def _periods(document: Document) -> _Periods:
    dates = [part.values.get(key, "") for part in document.parts for key in ("fromDate", "toDate")]
    dates += [row.values.get(key, "") for row in document.rows for key in DATES]
    periods = _Periods([], {}, day_first(dates))
    for number, part in enumerate(document.parts):
        start, end = (_bound(document, part, key, periods.slashes_start_with_day) for key in ("fromDate", "toDate"))
        periods.bounds.append((start, _next_midnight(end)))
        account = part.values.get("accountId", "").strip()
        if account not in ("", "-"):
            periods.of.setdefault(quoted(account, 40), []).append(number)
    return periods


def _bound(document: Document, part: RawPart, key: str, slashes_start_with_day: bool | None) -> datetime:
    text = part.values.get(key, "").strip()
    try:
        return in_utc(moment(text, slashes_start_with_day=slashes_start_with_day)[0], MIDNIGHT)
    except RowError as error:
        raise document.refuse(part.line, f"<FlexStatement> has no usable {key}: {error}. Download the statement anew.") from None


def _next_midnight(start: datetime) -> datetime:
    return in_utc(start.astimezone(NEW_YORK).date() + timedelta(days=1), MIDNIGHT)


def _rows(document: Document, periods: _Periods) -> dict[str, list[Row]]:
    """The rows by account: a row's own accountId counts, else that of its statement, else the only account there is."""
    rows: dict[str, list[Row]] = defaultdict(list)
    owner = {number: account for account, numbers in periods.of.items() for number in numbers}
    only = next(iter(periods.of)) if len(periods.of) == 1 else ""
    for raw in document.rows:
        own = raw.values.get("accountId", "").strip()
        account = quoted(own, 40) if own not in ("", "-") else owner.get(raw.part if raw.part is not None else -1, only)
        if not account:
            raise document.refuse(raw.line, f"<{raw.tag}> names no account. Tick Account ID in this section of the Flex query.")
        part = raw.part if raw.part is not None else periods.of.get(account, [0])[0]
        rows[account].append(Row(raw.tag, raw.line, raw.values, account, part, periods.slashes_start_with_day))
    if not rows and not periods.of:
        raise document.refuse(document.parts[0].line, "<FlexStatement> names no account. Select at least one in the Flex query.")
    return dict(rows)


class _Reader:
    """One account of a file."""

    def __init__(self, document: Document, periods: _Periods, account: str, rows: Sequence[Row]) -> None:
        self.document, self.periods, self.account, self.parts = document, periods, account, periods.of[account]
        self.from_at = min(periods.bounds[number][0] for number in self.parts)
        self.to_at = max(periods.bounds[number][1] for number in self.parts)
        self.rows: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            self.rows["Trade" if row.tag in TRADE_TAGS else row.tag].append(row)
        self.log = Log(account, document.notes)

    def statement(self) -> Statement:
        for tag, rows in self.rows.items():
            if tag != "AccountInformation":
                self.log.attributes(rows, ATTRIBUTES)
        instruments = self._instruments()
        movements = read_movements(self.rows["CorporateAction"], self.rows["Transfer"], self.log)
        trades = self._trades()
        taken = book_trades(movements.keep_out(trades, self.log), Endings(self.rows["OptionEAE"], self.log), self.log)
        openings = self._openings(taken, movements, trades, instruments)
        self._check_columns("CashTransaction", CASH_COLUMNS)
        return Statement(
            account=self.account,
            base_currency=base_currency(self.rows),
            broker=BROKER,
            from_at=self.from_at,
            to_at=self.to_at,
            fills=tuple(sorted(taken.fills, key=lambda each: (each.time, each.sequence or 0, each.execution_id, each.revision))),
            adjustments=tuple(sorted((*openings, *taken.adjustments, *movements.adjustments), key=lambda each: (each.time, each.id))),
            instruments=tuple(instruments[name] for name in sorted(instruments)),
            cash=read_cash(detailed(self.rows["CashTransaction"], self.log), self.log),
            refused=tuple(self.log.refused),
            notes=self.log.notes(),
        )

    def _trades(self) -> list[Trade]:
        rows = executions(self.rows["Trade"], self.log)
        self._check_columns("Trade", TRADE_COLUMNS, rows)
        if any(row.asset in DERIVATIVES for row in rows):
            self._check_columns("Trade", ("multiplier",), rows)
        if not any("tradeDate" in row.values for row in rows):
            self._check_columns("Trade", ("dateTime",), rows)
        return read_trades(rows, self.log)

    def _check_columns(self, tag: str, columns: Sequence[str], rows: Sequence[Row] | None = None) -> None:
        """Refuse the file when a column that every row needs is in none of them: then it is not ticked in the query."""
        rows = self.rows[tag] if rows is None else rows
        for column in columns:
            if rows and not any(column in row.values for row in rows):
                raise self.document.refuse(
                    rows[0].line, f"<{tag}> has no column {column} in any row. Tick it in the Flex query and export the statement again."
                )

    def _openings(
        self, taken: Trades, movements: Movements, trades: Sequence[Trade], instruments: Mapping[str, Instrument]
    ) -> list[Adjustment]:
        """What was held before the period. It needs the positions of the period's end."""
        last = max(self.parts, key=lambda number: self.periods.bounds[number][1])
        listed = {row.part for row in self.rows["OpenPosition"]}
        if last not in listed and "OpenPositions" not in self.document.parts[last].sections:
            self.log.note("no OpenPositions at the end of the period: what was held before it is not told")
            return []
        self._check_columns("OpenPosition", ("conid", "position"))
        holdings = Holdings((row for row in self.rows["OpenPosition"] if row.part == last), self.log)
        changes = dict(taken.changes())
        for instrument, quantity in movements.changes.items():
            changes[instrument] = EXACT.add(changes.get(instrument, ZERO), quantity)
        listed_trades = frozenset(number for trade in trades if (number := trade.row.serial("transactionID")) is not None)
        return openings_of(holdings, changes, instruments, Period(self.account, self.from_at, listed_trades), self.log)

    def _instruments(self) -> dict[str, Instrument]:
        """Every instrument that a row names, as the latest row names it. Rows that do not say enough are refused where they are read."""
        found: dict[str, Instrument] = {}
        for row in (row for tag in INSTRUMENT_TAGS for row in self.rows[tag]):
            with suppress(RowError):
                instrument = row.instrument()
                found[instrument.id] = instrument
        return found
