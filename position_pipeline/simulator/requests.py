"""What the server answers to each request: a table from message id to the function that builds the answer.

Here: reading a request's fields and collecting the rows of its answer. Not here: the fields of a row (`messages.py`),
faults (`responses.py`), what is sent without being asked (`pushes.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from position_pipeline.simulator import messages
from position_pipeline.simulator.account_requests import AccountRequests
from position_pipeline.simulator.broker import Broker
from position_pipeline.simulator.client import Client
from position_pipeline.simulator.contracts import contract_details, matches
from position_pipeline.simulator.executions import ExecutionRows, Filter
from position_pipeline.simulator.ledger import Holding
from position_pipeline.simulator.responses import Response, Row

ORDER_REQUESTS = (3, 4, 21, 58)
READ_ONLY = "The API interface is currently in Read-Only mode."


class Request(NamedTuple):
    """One request as it came; `fields` without the message id."""

    client_id: int
    message_id: int
    fields: tuple[str, ...]


Handler = Callable[[Client, list[str]], Response | None]


@dataclass
class Requests:
    broker: Broker
    accounts: Callable[[], list[str]]

    def __post_init__(self) -> None:
        self.executions = ExecutionRows(self.broker)
        self.account = AccountRequests(self.broker, self.accounts)
        self._table: dict[int, Handler] = {
            1: self._market_data,
            5: partial(self._orders, "open-orders", messages.OPEN_ORDER_END),
            6: self.account.account_updates,
            7: self._executions,
            8: self._next_id,
            9: self._contract_details,
            16: partial(self._orders, "open-orders", messages.OPEN_ORDER_END),
            17: self.account.managed_accounts,
            20: self._history,
            49: self._current_time,
            61: self._positions,
            62: self.account.account_summary,
            63: lambda client, fields: _forget(client.summaries, fields[1]),
            64: self._cancel_positions,
            74: self._positions_multi,
            75: lambda client, fields: _forget(client.positions_multi, fields[1]),
            76: self.account.account_updates_multi,
            77: lambda client, fields: _forget(client.multi, fields[1]),
            92: self.account.pnl,
            93: lambda client, fields: _forget(client.pnl, fields[0]),
            94: self.account.pnl_single,
            95: lambda client, fields: _forget(client.pnl_single, fields[0]),
            99: partial(self._orders, "completed-orders", messages.COMPLETED_ORDERS_END),
            104: self._user_info,
        }
        for message_id in ORDER_REQUESTS:
            self._table[message_id] = partial(self._refuse_order, message_id)

    def answer(self, client: Client, message_id: int, fields: list[str]) -> Response | None:
        """The answer; None where there is none, or where the request is not known."""
        handler = self._table.get(message_id)
        return handler(client, fields) if handler else None

    # -- positions

    def _positions(self, client: Client, _fields: list[str]) -> Response:
        client.positions = True
        rows = [row for account in self.broker.book.accounts for row in self.position_rows(account)]
        if self.broker.faults.take("zero-row"):
            rows.append(self._zero_row())
        return Response("positions", rows, messages.POSITION_END)

    def position_rows(self, account: str) -> list[Row]:
        held = self.broker.book.held(account)
        return [Row(messages.position(account, one, holding), account, one.symbol) for one, holding in held]

    def _zero_row(self) -> Row:
        """Of something that was closed if there is such a thing, else of something that is not held at all."""
        account = next(iter(self.broker.book.accounts))
        for name in self.broker.book.accounts:
            for one in self.broker.book.closed(name):
                return Row(messages.position(name, one, Holding()), name, one.symbol)
        held = {one.con_id for one, _ in self.broker.book.held(account)}
        free = [one for one in self.broker.scenario.instruments if one.con_id not in held]
        one = free[0] if free else self.broker.scenario.instruments[0]
        return Row(messages.position(account, one, Holding()), account, one.symbol)

    def _cancel_positions(self, client: Client, _fields: list[str]) -> None:
        client.positions = False

    def _positions_multi(self, client: Client, fields: list[str]) -> Response:
        request_id, account, model = int(fields[1]), fields[2], fields[3]
        client.positions_multi[request_id] = (account, model)
        rows = [
            Row(messages.position_multi(request_id, name, one, holding, model), name, one.symbol)
            for name in ([account] if account else self.broker.book.accounts)
            for one, holding in self.broker.book.held(name)
        ]
        end = messages.position_multi_end(request_id)
        return Response("positions-multi", rows, end, account=account, request_id=request_id)

    # -- executions and orders

    def _next_id(self, _client: Client, _fields: list[str]) -> Response:
        return Response("ids", end=messages.next_valid_id(1))

    def _executions(self, client: Client, fields: list[str]) -> Response:
        request_id = int(fields[1])
        try:
            wanted = Filter.of(fields[2:], self.broker.zone)
        except ValueError:
            problem = "Error validating request:-'cR' : cause - Invalid time format"
            return Response("executions", end=messages.notice(client.version, request_id, 321, problem))
        return self.executions.response(client, request_id, wanted)

    def _orders(self, target: str, end: bytes, client: Client, _fields: list[str]) -> Response:
        """There are never open or completed orders; with the Read-Only switch the request itself is refused."""
        if self.broker.options.read_only:
            return Response(target, end=messages.notice(client.version, -1, 321, READ_ONLY))
        return Response(target, end=end)

    def _refuse_order(self, message_id: int, client: Client, fields: list[str]) -> Response:
        """This broker takes no orders. The id of the order is where the request has it, or -1."""
        place = {3: 0, 4: 1, 21: 1}.get(message_id)
        order_id = fields[place] if place is not None and place < len(fields) else "-1"
        read_only = self.broker.options.read_only
        code, problem = (321, READ_ONLY) if read_only else (201, "Order rejected - simulated broker")
        return Response("orders", end=messages.notice(client.version, int(order_id), code, problem))

    # -- the rest

    def _current_time(self, _client: Client, _fields: list[str]) -> Response:
        return Response("current-time", end=messages.current_time(int(self.broker.now().timestamp())))

    def _user_info(self, _client: Client, fields: list[str]) -> Response:
        return Response("user-info", end=messages.user_info(int(fields[0])))

    def _contract_details(self, client: Client, fields: list[str]) -> Response:
        request_id, asked = int(fields[1]), _contract(fields[2:14])
        fitting = [one for one in self.broker.scenario.instruments if matches(one, asked)]
        if not fitting:
            problem = "No security definition has been found for the request"
            return Response("contract-details", end=messages.notice(client.version, request_id, 200, problem))
        zone = self.broker.scenario.time_zone
        rows = [Row(contract_details(client.version, request_id, one, zone), symbol=one.symbol) for one in fitting]
        end = messages.contract_details_end(request_id)
        return Response("contract-details", rows, end, request_id=request_id)

    def _history(self, client: Client, fields: list[str]) -> Response:
        """Daily bars only."""
        request_id, asked = int(fields[0]), _contract(fields[1:13])
        end_text, bar_size, duration = fields[14], fields[15], fields[16]
        fitting = [one for one in self.broker.scenario.instruments if matches(one, asked)]
        days = _days(duration)
        if len(fitting) != 1 or bar_size != "1 day" or not days:
            problem = "Historical Market Data Service error message:simulated broker has daily bars of known contracts"
            return Response("history", end=messages.notice(client.version, request_id, 162, problem))
        last = _last_day(end_text) or self.broker.today()
        bars = self.broker.market.daily_bars(fitting[0].con_id, last, days)
        data = messages.historical_data(request_id, last - timedelta(days=days - 1), last, bars)
        return Response("history", [Row(data)], request_id=request_id)

    def _market_data(self, client: Client, fields: list[str]) -> Response:
        """Last price and close once; no stream follows."""
        request_id, asked = int(fields[1]), _contract(fields[2:14])
        fitting = [one for one in self.broker.scenario.instruments if matches(one, asked)]
        if len(fitting) != 1:
            problem = "No security definition has been found for the request"
            return Response("market-data", end=messages.notice(client.version, request_id, 200, problem))
        price = self.broker.market.prices[fitting[0].con_id]
        ticks = [Row(messages.tick_price(request_id, tick, price)) for tick in (4, 9)]
        return Response("market-data", ticks, messages.tick_snapshot_end(request_id), request_id=request_id)


def _forget(subscriptions: dict[int, Any], request_id: str) -> None:
    subscriptions.pop(int(request_id), None)


_CONTRACT = ("con_id", "symbol", "sec_type", "expiry", "strike", "right", "multiplier", "exchange", "primary_exchange")


def _contract(fields: list[str]) -> dict[str, str]:
    """The twelve contract fields of a request by name."""
    return dict(zip((*_CONTRACT, "currency", "local_symbol", "trading_class"), fields, strict=True))


def _days(duration: str) -> int:
    """Calendar days of `30 D`, `2 W`, `6 M` or `1 Y`; 0 for anything else."""
    number, _, unit = duration.partition(" ")
    return int(number) * {"D": 1, "W": 7, "M": 30, "Y": 365}.get(unit, 0) if number.isdigit() else 0


def _last_day(end: str) -> date | None:
    digits = end.replace("-", " ").split(" ")[0]
    return datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC).date() if digits else None
