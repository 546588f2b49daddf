"""Executions as rows: which ones a request asks for, and how each is written.

Here: the filter, the time text, the order of executions and commission reports. Not here: who is told of a live fill
(`pushes.py`).
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from position_pipeline.simulator import messages
from position_pipeline.simulator.broker import SIDES, Broker
from position_pipeline.simulator.client import Client
from position_pipeline.simulator.ledger import Execution
from position_pipeline.simulator.responses import Response, Row

if TYPE_CHECKING:
    from decimal import Decimal

MOST_CACHED = 250_000
NO_SUCH_ZONE = "US/Nowhere"


@dataclass(frozen=True)
class Filter:
    """An execution filter. Empty fields and client id 0 fit everything; the rest matches exactly."""

    client_id: int = 0
    account: str = ""
    since: datetime | None = None
    symbol: str = ""
    sec_type: str = ""
    exchange: str = ""
    side: str = ""

    @classmethod
    def of(cls, fields: list[str], zone: tzinfo) -> "Filter":
        client_id, account, since, symbol, sec_type, exchange, side = (*fields, *[""] * 7)[:7]
        number = int(client_id) if client_id not in ("", "2147483647") else 0
        return cls(number, account, parse_time(since, zone), symbol, sec_type, exchange, side)

    def fits(self, fill: Execution, broker: Broker) -> bool:
        one = broker.book.instruments[fill.con_id]
        return (
            self.client_id in (0, fill.client_id)
            and self.account in ("", fill.account)
            and (self.since is None or fill.time >= self.since)
            and self.symbol in ("", one.symbol)
            and self.sec_type in ("", one.sec_type)
            and self.exchange in ("", fill.exchange)
            and (not self.side or SIDES.get(self.side) == fill.side)
        )


def parse_time(text: str, zone: tzinfo) -> datetime | None:
    """`yyyymmdd-hh:mm:ss` is UTC, `yyyymmdd hh:mm:ss` the login zone, a third word names a zone."""
    if not text.strip():
        return None
    if "-" in text and " " not in text:
        return datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
    day, clock, *named = text.split()
    named_zone = ZoneInfo(named[0]) if named else zone
    return datetime.strptime(f"{day} {clock}", "%Y%m%d %H:%M:%S").replace(tzinfo=named_zone)


@dataclass
class ExecutionRows:
    broker: Broker

    def __post_init__(self) -> None:
        self._bodies: dict[tuple[str, int, str], bytes] = {}
        self._reports: dict[str, tuple[Execution, Decimal | None, bytes]] = {}

    def response(self, client: Client, request_id: int, wanted: Filter) -> Response:
        fitting = (fill for fill in self.broker.listed() if wanted.fits(fill, self.broker))
        fills = [fill for fill in fitting if self._may_see(client, fill)]
        end = messages.executions_end(request_id)
        answer = Response("executions", end=end, account=wanted.account, request_id=request_id)
        if self.broker.faults.find("second-id"):
            fills = [each for fill in fills for each in (fill, _under_another_id(fill))]
        if self.broker.faults.take("wrong-order"):
            newest = fills[::-1]
            answer.rows = [self.row(client, request_id, fill) for fill in newest]
            answer.after_end = [row for fill in newest for row in self.commission_rows(fill)]
        elif self.broker.faults.find("early-commission"):
            answer.rows = [r for f in fills for r in (*self.commission_rows(f), self.row(client, request_id, f))]
        else:
            answer.rows = [r for f in fills for r in (self.row(client, request_id, f), *self.commission_rows(f))]
        return answer

    def _may_see(self, client: Client, fill: Execution) -> bool:
        options = self.broker.options
        return options.executions_for == "all" or client.id in (0, options.master_client_id, fill.client_id)

    def row(self, client: Client, request_id: int, fill: Execution) -> Row:
        content = self._body(client.version, fill)
        symbol = self.broker.book.instruments[fill.con_id].symbol
        return Row(messages.execution(request_id, content), fill.account, symbol)

    def _body(self, version: int, fill: Execution) -> bytes:
        form = self._time_form(fill.account)
        key = (fill.exec_id, max(version, 177), form)
        if key not in self._bodies:
            if len(self._bodies) >= MOST_CACHED:
                self._bodies.clear()
            one = self.broker.book.instruments[fill.con_id]
            self._bodies[key] = messages.execution_body(version, one, fill, self.time_text(fill.time, form))
        return self._bodies[key]

    def _time_form(self, account: str) -> str:
        forms = ("unknown-zone", "no-zone", "utc-form")
        return next((form for form in forms if self.broker.faults.find(form, account=account)), "")

    def time_text(self, moment: datetime, form: str) -> str:
        local = moment.astimezone(self.broker.zone)
        match form:
            case "unknown-zone":
                return f"{local:%Y%m%d %H:%M:%S} {NO_SUCH_ZONE}"
            case "no-zone":
                return f"{local:%Y%m%d  %H:%M:%S}"
            case "utc-form":
                return f"{moment.astimezone(UTC):%Y%m%d-%H:%M:%S}"
            case _:
                return f"{local:%Y%m%d %H:%M:%S} {self.broker.scenario.time_zone}"

    def commission_rows(self, fill: Execution) -> tuple[Row, ...]:
        """The commission report as one row, or none while it is held back."""
        if not fill.reported or self.broker.faults.find("no-commission", account=fill.account):
            return ()
        return (Row(self._report(fill), fill.account, self.broker.book.instruments[fill.con_id].symbol),)

    def _report(self, fill: Execution) -> bytes:
        """Built once, and again when a correction elsewhere changed what the fill realised."""
        realized = self.broker.book.realized(fill)
        known = self._reports.get(fill.exec_id)
        if known is None or known[0] is not fill or known[1] is not realized:
            if len(self._reports) >= MOST_CACHED:
                self._reports.clear()
            known = (fill, realized, messages.commission_report(fill, realized))
            self._reports[fill.exec_id] = known
        return known[2]


def _under_another_id(fill: Execution) -> Execution:
    """The same fill under another id, as gateways have been seen to report it."""
    return replace(fill, exec_id=f"f{fill.exec_id[1:]}", reported=False)
