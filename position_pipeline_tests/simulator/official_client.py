"""The official client with its own threads: what it was called with, in order. Needs the ibapi package."""
# ruff: noqa: N802 - the names are those of the official client

import threading
from typing import Any

from ibapi.client import EClient
from ibapi.wrapper import EWrapper


class OfficialClient(EWrapper, EClient):  # type: ignore[misc]
    def __init__(self, port: int, client_id: int) -> None:
        EClient.__init__(self, self)
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._condition = threading.Condition()
        self.connect("127.0.0.1", port, client_id)
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self.disconnect()
        self.has_ended()

    def has_ended(self) -> None:
        """Wait until its reading loop has come to an end."""
        self._thread.join(5)
        assert not self._thread.is_alive()

    def _note(self, name: str, *values: Any) -> None:
        with self._condition:
            self.calls.append((name, values))
            self._condition.notify_all()

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [values for each, values in self.calls if each == name]

    def wait_for(self, name: str, count: int = 1, timeout: float = 5) -> list[tuple[Any, ...]]:
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.of(name)) >= count, timeout), (name, self.calls[-5:])
        return self.of(name)

    def nextValidId(self, order_id: int) -> None:
        self._note("nextValidId", order_id)

    def managedAccounts(self, accounts: str) -> None:
        self._note("managedAccounts", accounts)

    def error(self, request_id: int, code: int, text: str) -> None:
        self._note("error", request_id, code, text)

    def position(self, account: str, contract: Any, quantity: float, average_cost: float) -> None:
        self._note("position", account, contract.localSymbol, quantity, average_cost)

    def positionEnd(self) -> None:
        self._note("positionEnd")

    def openOrder(self, order_id: int, contract: Any, order: Any, state: Any) -> None:
        self._note("openOrder", contract.symbol, order.action, order.totalQuantity, order.permId, state.status)

    def orderStatus(self, *values: Any) -> None:
        self._note("orderStatus", values[1], values[2])

    def execDetails(self, request_id: int, contract: Any, execution: Any) -> None:
        self._note("execDetails", request_id, contract.conId, execution)

    def execDetailsEnd(self, request_id: int) -> None:
        self._note("execDetailsEnd", request_id)

    def commissionReport(self, report: Any) -> None:
        self._note("commissionReport", report)

    def contractDetails(self, request_id: int, details: Any) -> None:
        self._note("contractDetails", details)

    def contractDetailsEnd(self, request_id: int) -> None:
        self._note("contractDetailsEnd", request_id)

    def updatePortfolio(self, contract: Any, *values: Any) -> None:
        self._note("updatePortfolio", contract.localSymbol, *values)

    def updateAccountValue(self, *values: Any) -> None:
        self._note("updateAccountValue", *values)

    def accountDownloadEnd(self, account: str) -> None:
        self._note("accountDownloadEnd", account)

    def accountSummary(self, *values: Any) -> None:
        self._note("accountSummary", *values)

    def accountSummaryEnd(self, request_id: int) -> None:
        self._note("accountSummaryEnd", request_id)

    def positionMulti(self, request_id: int, account: str, model: str, contract: Any, *values: Any) -> None:
        self._note("positionMulti", account, contract.localSymbol, *values)

    def positionMultiEnd(self, request_id: int) -> None:
        self._note("positionMultiEnd", request_id)

    def historicalData(self, request_id: int, bar: Any) -> None:
        self._note("historicalData", bar)

    def historicalDataEnd(self, *values: Any) -> None:
        self._note("historicalDataEnd", *values)

    def pnlSingle(self, *values: Any) -> None:
        self._note("pnlSingle", *values)
