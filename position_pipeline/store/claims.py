"""What the claims about the book are decided from: rows that break one, and figures to hold against each other.

Belongs here: reads for the asset checks. Does not belong here: the verdicts (defs), reads for people (reading.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.store import queries

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from position_pipeline.store.connection import Connection, Row

SQL = queries.load("claims")

BROKERS_ZONE = "America/New_York"
"""Whose midnight ends the day of which IBKR lists executions."""


class Claims:
    """Reads over one connection; each returns rows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def positions_beside_their_lots(self) -> list[Row]:
        return self._connection.rows(SQL["positions_beside_their_lots"])

    def orphans(self) -> list[Row]:
        """Believed closes without a believed opening or closing entry."""
        return self._connection.rows(SQL["orphans"])

    def without_commission(self, before: datetime) -> list[Row]:
        """Fills from before a time whose commission has not come."""
        return self._connection.rows(SQL["without_commission"], {"before": before})

    def beside_the_brokers_pnl(self) -> list[Row]:
        """Executions with the broker's realised P&L and ours, both net of commissions."""
        return self._connection.rows(SQL["beside_the_brokers_pnl"])

    def last_proven(self) -> list[Row]:
        """Per account that a connection reads: when it last gave a proven answer, and the kinds that it holds."""
        return self._connection.rows(SQL["last_proven"])

    def unlistened(self, after: datetime, tolerance: timedelta) -> list[Row]:
        """Spans whose executions the broker no longer listed when it was asked again, as account, since, upto."""
        values = {"after": after, "tolerance": tolerance.total_seconds(), "zone": BROKERS_ZONE}
        return self._connection.rows(SQL["unlistened"], values)

    def covered(self, after: datetime) -> list[Row]:
        """Spans that imported statements cover."""
        return self._connection.rows(SQL["covered"], {"after": after})

    def cost_breaks(self) -> list[Row]:
        return self._connection.rows(SQL["cost_breaks"])

    def compared_costs(self) -> int:
        """How many open positions have a broker's average beside our cost."""
        return int(self._connection.rows(SQL["compared_costs"])[0]["positions"])

    def account_values(self) -> list[Row]:
        """`values` are (tag, currency, value) as text."""
        return self._connection.rows(SQL["account_values"])

    def valued_positions(self) -> list[Row]:
        return self._connection.rows(SQL["valued_positions"])
