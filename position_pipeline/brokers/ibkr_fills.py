"""Today's executions and their commissions as fills. Pure.

Belongs here: joining an execution with its commission report, and what its id says. Does not belong here: which executions a snapshot
needs (ibkr_proof.py).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from position_pipeline.accounting.model import Fill, Instrument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from position_pipeline.brokers.ibkr_answer import CommissionRow, ExecutionRow

SOURCE = "ibkr-api"
_REVISED = re.compile(r"(.+)\.([0-9]{1,4})").fullmatch


def identity(exec_id: str) -> tuple[str, int]:
    """Id and revision. A correction repeats the id and raises the part after the last period: `0000e0d5.65.01.02` is (`0000e0d5.65.01`, 2).

    An id of another form is its own first revision.
    """
    match = _REVISED(exec_id)
    return (match[1], int(match[2])) if match else (exec_id, 1)


def fill(row: ExecutionRow, report: CommissionRow | None, instrument: Instrument) -> Fill:
    """The fill; its commission is None until the report has come, which says nothing about what it will be."""
    execution_id, revision = identity(row.exec_id)
    return Fill(
        account=row.account,
        instrument=instrument.id,
        execution_id=execution_id,
        side=row.side,
        quantity=row.quantity,
        price=row.price,
        currency=instrument.currency,
        time=row.at,
        multiplier=instrument.multiplier,
        commission=report.commission if report else None,
        commission_currency=(report.currency or None) if report else None,
        revision=revision,
        order_id=row.perm_id,
        source=SOURCE,
        broker_pnl=report.realized_pnl if report else None,
    )


def fills(rows: Mapping[str, ExecutionRow], reports: Mapping[str, CommissionRow], instruments: Mapping[str, Instrument]) -> list[Fill]:
    """All of an account's, oldest first; those of one second stay in the order in which they were listed."""
    made = [fill(row, reports.get(exec_id), instruments[row.instrument.id]) for exec_id, row in rows.items()]
    return sorted(made, key=lambda each: each.time)
