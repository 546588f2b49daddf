"""What was told, to whom it is on its way, and the rows from which that is decided.

Belongs here: SQL around `alerts` and `alerts_delivery`. Does not belong here: what is told (alerts, alerts_causes), and sending it.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from position_pipeline.store import queries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from position_pipeline.store.connection import Connection, Row

SQL = queries.load("alerts")

GIVE_UP_AFTER = timedelta(days=1)
"""For how long the delivery of a message is tried; after that it would be history."""

MOST_AT_ONCE = 10
"""Messages that one channel gets in one go; the rest waits for the next."""


class Alerting:
    """Alerts over one connection. Times are given by the caller, so that one moment stands in all rows of one telling."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def telling(self) -> Iterator[bool]:
        """Be the only process that tells; yields False where another one is at it."""
        row = self._connection.one(SQL["teller_lock"])
        held = bool(row and row["held"])
        try:
            yield held
        finally:
            if held and not self._connection.raw.closed:
                self._connection.execute(SQL["teller_unlock"])

    def breaks(self) -> list[Row]:
        """Standing breaks, dismissed ones too, the largest first."""
        return self._connection.rows(SQL["breaks"])

    def accounts(self) -> list[Row]:
        """How fresh the accounts are that a connection reads."""
        return self._connection.rows(SQL["accounts"])

    def gaps(self) -> list[Row]:
        """Gaps of the streams that nothing has made good yet."""
        return self._connection.rows(SQL["gaps"])

    def standing(self) -> list[Row]:
        """The alerts that are not over."""
        return self._connection.rows(SQL["standing"])

    def listed(self, *, all_: bool, limit: int = 200) -> list[Row]:
        """What was told, newest first; with `all_` also what is over."""
        return self._connection.rows(SQL["listed"], {"all": all_, "limit": limit})

    def save(self, groups: Sequence[Row], channels: Sequence[str], at: datetime) -> None:
        """Keep what is told, one message a group, all or nothing; `channels` are those that it shall go to.

        A group has `message` (title, body, severity; None where nothing is said) and `alerts`, each with `news` (new, again, recovered,
        dismissed) and the columns of its row; `id` but for new ones.
        """
        with self._connection.transaction():
            for group in groups:
                ids = [self._save_alert(alert, at) for alert in group["alerts"]]
                if group["message"] is None:
                    continue
                row = self._connection.one(SQL["add_message"], {**group["message"], "alerts": ids, "at": at})
                assert row is not None
                ends = all(alert["news"] == "recovered" for alert in group["alerts"])
                values = {"message": row["id"], "channels": list(channels), "alerts": ids, "ends": ends, "at": at}
                self._connection.execute(SQL["add_deliveries"], values)

    def _save_alert(self, alert: Row, at: datetime) -> int:
        news = alert["news"]
        if news == "new":
            row = self._connection.one(SQL["open_alert"], {**alert, "at": at})
            assert row is not None
            return int(row["id"])
        if news == "again":
            self._connection.execute(SQL["tell_again"], {**alert, "at": at})
        else:
            self._connection.execute(SQL["end_alert"], {"id": alert["id"], "ending": news, "told": int(news == "recovered"), "at": at})
        return int(alert["id"])

    def begin_attempts(self, channels: Sequence[str], at: datetime) -> list[Row]:
        """What is to be sent now: (id, channel, severity, title, body). Each counts as attempted from here on."""
        with self._connection.transaction():
            self._connection.execute(SQL["give_up"], {"at": at, "made_before": at - GIVE_UP_AFTER})
            values = {"channels": list(channels), "at": at, "most": MOST_AT_ONCE}
            return sorted(self._connection.rows(SQL["begin_attempts"], values), key=lambda row: row["id"])

    def end_attempt(self, id_: int, at: datetime, error: str | None) -> None:
        """What came of one attempt; `error` None: it was taken."""
        name = "delivered" if error is None else "not_delivered"
        self._connection.execute(SQL[name], {"id": id_, "at": at, "error": error})
