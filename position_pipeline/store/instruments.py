"""The instruments that are known, as they are kept.

Belongs here: writing down what is new of them, and reading them. Does not belong here: what is held of them (pages.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.store import queries, rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from position_pipeline.accounting.model import Instrument
    from position_pipeline.store.connection import Connection

SQL = queries.load("book")


def add_instruments(connection: Connection, instruments: Sequence[Instrument]) -> None:
    """Keep what is new of them. In one order, because two accounts may bring the same at the same time."""
    by_id = {instrument.id: instrument for instrument in sorted(instruments, key=lambda each: each.id)}
    if not by_id:
        return
    found = connection.rows(SQL["known_instruments"], {"instruments": list(by_id)})
    known = {(row["instrument"], row["symbol"]): row["exchange"] for row in found}
    new = [each for each in by_id.values() if (each.id, each.symbol) not in known]
    changed = new + [each for each in by_id.values() if each.exchange and known.get((each.id, each.symbol)) == ""]
    if changed:
        connection.many(SQL["add_instruments"], map(rows.instrument_row, changed))
        connection.execute(SQL["rename_positions"], {"instruments": [each.id for each in changed]})


def described(connection: Connection, instruments: Iterable[str]) -> dict[str, Instrument]:
    """Instruments as they are kept."""
    found = connection.rows(SQL["instruments"], {"instruments": sorted(instruments)})
    return {row["instrument"]: rows.instrument(row) for row in found}
