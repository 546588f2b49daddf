"""What a stream of TWS or IB Gateway has heard and not told yet: fills joined with their commissions, and holdings. Pure.

Belongs here: which executions are news, and waiting a moment for commissions. Does not belong here: asking (ibkr_conversation.py), the
meaning of a row (ibkr_answer.py), what a fill does (the book).

The same execution is heard several times: as it happens, in each list of today's executions, and once more with its commission. It is
told when it is complete, or when its commission has not come in `GRACE`, and then once more when it has. Everything here is bounded; what
finds no room is not told, is not counted as told either, and comes again with the next list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from position_pipeline.brokers import RefusedRow
from position_pipeline.brokers.ibkr_fills import fill

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Fill, Instrument
    from position_pipeline.brokers.ibkr_answer import Answer, CommissionRow, ExecutionRow, PositionRow, Unreadable

GRACE = 0.005
"""Seconds that an execution waits for its commission, which mostly comes with it: told without, its instrument is booked twice."""

MOST = 50_000
"""Fills that wait to be taken, commissions without an execution, and executions without a commission: no more of each."""

MOST_REFUSED = 1000


@dataclass(slots=True)
class _Waiting:
    row: ExecutionRow
    since: float


class Heard:
    """Collects; `hand_over` empties it. `wanted` are the accounts that count, none: all. Times are of one monotonic clock."""

    def __init__(self, wanted: Iterable[str] = ()) -> None:
        self._wanted = frozenset(wanted)
        self._told: dict[str, bool] = {}
        self._ids: dict[str, set[str]] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._without: dict[str, ExecutionRow] = {}
        self._orphans: dict[str, CommissionRow] = {}
        self._contracts: dict[str, Instrument] = {}
        self._refused: dict[RefusedRow, None] = {}
        self._new_refused: list[RefusedRow] = []
        self._fills: dict[str, Fill] = {}
        self._instruments: dict[str, Instrument] = {}
        self._held: dict[tuple[str, str], Decimal] = {}

    @property
    def any(self) -> bool:
        return bool(self._fills or self._held or self._new_refused)

    @property
    def due_at(self) -> float | None:
        """When the first execution has waited long enough for its commission."""
        return next((each.since + GRACE for each in self._waiting.values()), None)

    def is_told(self, exec_id: str) -> bool:
        """Whether an execution was told together with its commission: hearing it again is no news."""
        return self._told.get(exec_id, False)

    def take_in(self, answer: Answer, now: float) -> list[tuple[str, str]]:
        """Move everything out of the answer; returns the (account, instrument) of the holdings that were told of."""
        moved = []
        for account, rows in answer.accounts.items():
            if self._wanted and account not in self._wanted:
                rows.positions.clear()
                rows.executions.clear()
                continue
            if rows.positions:
                moved += self._hold(account, rows.positions)
            for row in rows.executions.values():
                self._executed(row, now)
            rows.positions.clear()
            rows.executions.clear()
        for exec_id, report in answer.commissions.items():
            self._paid(exec_id, report)
        answer.commissions.clear()
        self._refuse(answer.unreadable)
        answer.unreadable.clear()
        return moved

    def release(self, now: float) -> None:
        """Tell the executions that have waited long enough."""
        for exec_id, waiting in list(self._waiting.items()):
            if waiting.since + GRACE > now:
                break  # they stand in the order in which they came
            del self._waiting[exec_id]
            if len(self._without) < MOST and self._tell(waiting.row, None):
                self._without[exec_id] = waiting.row

    def listed(self, account: str, exec_ids: set[str], before: frozenset[str]) -> None:
        """A whole list of an account's executions came: of those told `before` it was asked for, only what it has stays known.

        Else what is known would grow for as long as the connection lasts; the lists begin anew every day.
        """
        gone = before - exec_ids
        self._ids.get(account, set()).difference_update(gone)
        for exec_id in gone:
            self._told.pop(exec_id, None)
            self._without.pop(exec_id, None)

    def told_of(self, account: str) -> frozenset[str]:
        """The ids of the executions of an account that were told."""
        return frozenset(self._ids.get(account, ()))

    def unpaid(self, account: str) -> Iterator[datetime]:
        """When the executions of an account were that have been told without a commission."""
        return (row.at for row in self._without.values() if row.account == account)

    def hand_over(self) -> tuple[tuple[Fill, ...], tuple[Instrument, ...], dict[tuple[str, str], Decimal], tuple[RefusedRow, ...]]:
        """All that is to be told: fills, the instruments that they name, holdings, refused rows."""
        told = (tuple(self._fills.values()), tuple(self._instruments.values()), self._held, tuple(self._new_refused))
        self._fills, self._instruments, self._held, self._new_refused = {}, {}, {}, []
        return told

    # -- rows

    def _hold(self, account: str, rows: Mapping[str, PositionRow]) -> list[tuple[str, str]]:
        for row in rows.values():
            self._contracts[row.instrument.id] = row.instrument
            self._held[account, row.instrument.id] = row.quantity
        return [(account, instrument) for instrument in rows]

    def _executed(self, row: ExecutionRow, now: float) -> None:
        exec_id = row.exec_id
        report = self._orphans.pop(exec_id, None)
        if report is not None:
            self._complete(row, report)
        elif exec_id in self._told:
            return  # it waits for its commission, or it has it
        elif exec_id not in self._waiting and len(self._waiting) < MOST:
            self._waiting[exec_id] = _Waiting(row, now)

    def _paid(self, exec_id: str, report: CommissionRow) -> None:
        waiting = self._waiting.get(exec_id)
        row = waiting.row if waiting else self._without.get(exec_id)
        if row is not None:
            self._complete(row, report)
        elif len(self._orphans) < MOST and exec_id not in self._told:
            self._orphans[exec_id] = report

    def _complete(self, row: ExecutionRow, report: CommissionRow) -> None:
        if self._tell(row, report):
            self._waiting.pop(row.exec_id, None)
            self._without.pop(row.exec_id, None)

    def _tell(self, row: ExecutionRow, report: CommissionRow | None) -> bool:
        """Put a fill with what is to be told; False where there is no room."""
        if len(self._fills) >= MOST:
            return False
        # The exchange of an execution is where that fill happened, not where the contract is listed.
        named = self._contracts.get(row.instrument.id) or replace(row.instrument, exchange="")
        self._fills[row.exec_id] = fill(row, report, named)
        self._instruments[named.id] = named
        self._told[row.exec_id] = report is not None
        self._ids.setdefault(row.account, set()).add(row.exec_id)
        return True

    def _refuse(self, unreadable: Iterable[Unreadable]) -> None:
        for lost in unreadable:
            row = RefusedRow(lost.account, lost.symbol, f"{lost.what} that could not be read: {lost.why}")
            if row not in self._refused and len(self._refused) < MOST_REFUSED:
                self._refused[row] = None
                self._new_refused.append(row)
