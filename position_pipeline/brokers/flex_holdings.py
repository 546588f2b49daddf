"""What was held before the period: the end of the period less everything that changed it.

Belongs here: OpenPositions, and the opening balances and lots that follow from it. Does not belong here: what trades mean.

    held at the start = position at the end - fills - expiries, assignments, exercises - corporate actions - transfers

An opening balance is an assertion: it books only what earlier fills do not explain. Lots that OpenPositions dates before the period, and
whose fills are not in the file, are known at the cost that the statement gives, which has IBKR's commissions inside; what is beyond them
has an unknown basis.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, ZERO, plain, total
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis
from position_pipeline.brokers.flex_booking import SOURCE
from position_pipeline.brokers.flex_rows import NEW_YORK, RowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Instrument
    from position_pipeline.brokers.flex_log import Log
    from position_pipeline.brokers.flex_rows import Row

NOT_HELD = frozenset({"CASH", "BAG"})
"""Asset categories that OpenPositions never lists: currency conversions and combinations."""


class Holdings:
    """The OpenPositions rows of the end of a period. `unread` are instruments whose rows could not be read."""

    def __init__(self, rows: Iterable[Row], log: Log) -> None:
        self._totals: defaultdict[str, list[Decimal]] = defaultdict(list)
        self._lots: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            try:
                quantity = row.needed("position")
                lot = row.text("levelOfDetail").upper() == "LOT"
                if lot:
                    self._lots[row.instrument_id].append(row)
                else:
                    self._totals[row.instrument_id].append(quantity)
            except RowError as error:
                log.refuse(row, f"open position not read: {error}")
                log.taint(row)

    def instruments(self) -> set[str]:
        return {*self._totals, *self._lots}

    def quantity(self, instrument: str) -> Decimal:
        """The position: the sum of the summary rows, or of the lots where there are none, or 0."""
        if instrument in self._totals:
            return total(self._totals[instrument])
        return total(row.needed("position") for row in self._lots.get(instrument, ()))

    def lots(self, instrument: str) -> Sequence[Row]:
        return self._lots.get(instrument, ())


@dataclass(frozen=True, slots=True)
class Period:
    """What a statement covers: an account from a moment on; `transactions` are the ids of its trades."""

    account: str
    from_at: datetime
    transactions: frozenset[int]


def openings(
    holdings: Holdings, changes: Mapping[str, Decimal], instruments: Mapping[str, Instrument], period: Period, log: Log
) -> list[Adjustment]:
    """Opening lots and balances at the start of a period, from its end and the changes of quantity in between."""
    made: list[Adjustment] = []
    for name in sorted(holdings.instruments() | set(changes)):
        held = EXACT.subtract(holdings.quantity(name), changes.get(name, ZERO))
        if not held or name not in instruments or instruments[name].sec_type in NOT_HELD:
            continue
        if {"", name} & log.tainted:
            log.note("instruments whose opening position is not told, because a row was refused")
            continue
        made += _opening_lots(holdings.lots(name), held, instruments[name], period, log)
        made.append(_balance(held, instruments[name], period))
    return made


def _balance(held: Decimal, instrument: Instrument, period: Period) -> Adjustment:
    day = period.from_at.astimezone(NEW_YORK).date().isoformat()
    return Adjustment(
        id=f"flex-opening-{period.account}-{instrument.id.rpartition(':')[2]}-{day}",
        account=period.account,
        instrument=instrument.id,
        kind=AdjustmentKind.OPENING_BALANCE,
        time=period.from_at,
        quantity=held,
        currency=instrument.currency,
        multiplier=instrument.multiplier,
        basis=Basis.UNKNOWN,
        source=SOURCE,
        evidence=f"at its end the statement from {day} has {plain(held)} more than what it lists explains",
    )


def _opening_lots(rows: Sequence[Row], held: Decimal, instrument: Instrument, period: Period, log: Log) -> list[Adjustment]:
    """Lots opened before the period, as far as they fit into what was held then: a lot that came by transfer was not held."""
    lots: list[Adjustment] = []
    for row in rows:
        try:
            if (lot := _opening_lot(row, instrument, period)) is not None:
                lots.append(lot)
        except RowError as error:
            log.refuse(row, f"lot not read: {error}")
    known = total(lot.quantity for lot in lots)
    if any((lot.quantity > 0) != (held > 0) for lot in lots) or abs(known) > abs(held):
        log.note("instruments with lots older than the period that were not held at its start: their cost is not taken")
        return []
    return lots


def _opening_lot(row: Row, instrument: Instrument, period: Period) -> Adjustment | None:
    serial, cost = row.serial("originatingTransactionID"), row.number("costBasisMoney")
    if serial is None or serial in period.transactions or cost is None or not row.text("openDateTime"):
        return None
    opened_at, _ = row.time("openDateTime")
    if opened_at >= period.from_at:
        return None
    return Adjustment(
        id=f"flex-lot-{period.account}-{serial}",
        account=period.account,
        instrument=instrument.id,
        kind=AdjustmentKind.OPENING_LOT,
        time=opened_at,
        quantity=row.needed("position"),
        currency=instrument.currency,
        multiplier=instrument.multiplier,
        cost=cost,
        basis=Basis.STATEMENT,
        sequence=serial,
        source=SOURCE,
        evidence=f"the statement: lot opened by transaction {serial}, cost with commissions inside",
    )
