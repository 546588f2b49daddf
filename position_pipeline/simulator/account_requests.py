"""Answers about accounts: their values, portfolio rows, summaries, profit and loss.

Here: requests 6, 17, 62, 76, 92, 94 and their cancels. Not here: how the totals are made (`values.py`), other requests
(`requests.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from position_pipeline.simulator import messages
from position_pipeline.simulator.broker import Broker
from position_pipeline.simulator.client import Client
from position_pipeline.simulator.ledger import ZERO
from position_pipeline.simulator.responses import Response, Row
from position_pipeline.simulator.values import Value


@dataclass
class AccountRequests:
    broker: Broker
    accounts: Callable[[], list[str]]

    def __post_init__(self) -> None:
        # Cleared with every change: many clients and subscriptions look at the same totals.
        self.values = lru_cache(maxsize=1000)(self._account_values)

    def managed_accounts(self, _client: Client, _fields: list[str]) -> Response:
        return Response("managed-accounts", end=messages.managed_accounts(self.accounts()))

    def account_updates(self, client: Client, fields: list[str]) -> Response:
        subscribe, account = fields[1], fields[2] if len(fields) > 2 else ""
        if subscribe not in ("1", "True"):
            client.account = ""
            return Response("account-updates-cancel")
        if not account and len(self.accounts()) == 1:
            account = self.accounts()[0]
        if account not in self.broker.book.accounts:
            problem = f"Error validating request:-'cW' : cause - Invalid account code '{account}'"
            return Response("account-updates", end=messages.notice(client.version, -1, 321, problem))
        client.account = account
        _start_anew(client, "updates", 0)
        rows = [*self.value_rows(client, account), Row(self._time(), account)]
        if not self.broker.faults.find("linked-account", account=account):
            rows += self.portfolio_rows(account)
        end = messages.account_download_end(account)
        return Response("account-updates", rows, end, account=account)

    def _time(self) -> bytes:
        return messages.account_time(f"{self.broker.now().astimezone(self.broker.zone):%H:%M}")

    def value_rows(self, client: Client, account: str) -> list[Row]:
        """The account values that this client has not been sent with their present value."""
        news = client.news("updates", 0, account, self.values(account, self.broker.today()))
        return [Row(messages.account_value(account, value), account) for value in news]

    def portfolio_rows(self, account: str, con_ids: tuple[int, ...] | None = None) -> list[Row]:
        """Portfolio rows of what is held, or of the given instruments, also where they are flat now."""
        book, today = self.broker.book, self.broker.today()
        wanted = [one.con_id for one, _ in book.held(account)] if con_ids is None else con_ids
        rows = []
        for con_id in wanted:
            one, ledger = book.instruments[con_id], book.ledger(account, con_id)
            figures = self.broker.valuer.figures(one, ledger.holding)
            realized = ledger.realized_on.get(today, ZERO)
            rows.append(Row(messages.portfolio(account, one, ledger.holding, figures, realized), account, one.symbol))
        return rows

    def _account_values(self, account: str, today: date) -> list[Value]:
        """Of an account of the book; an added empty account has nothing but its net liquidation."""
        if account in self.broker.book.accounts:
            return self.broker.valuer.values(account, today)
        return [Value("AccountCode", account, ""), Value("NetLiquidation", "0.00", "USD")]

    def account_updates_multi(self, client: Client, fields: list[str]) -> Response:
        request_id, account, model = int(fields[1]), fields[2], fields[3]
        if account and account not in self.accounts():
            problem = f"Error validating request:-'cW' : cause - Invalid account code '{account}'"
            return Response("account-updates-multi", end=messages.notice(client.version, request_id, 321, problem))
        client.multi[request_id] = (account, model)
        _start_anew(client, "multi", request_id)
        names = [account] if account else self.accounts()
        rows = [row for name in names for row in self.multi_rows(client, request_id, name, model)]
        end = messages.account_update_multi_end(request_id)
        return Response("account-updates-multi", rows, end, account=account, request_id=request_id)

    def multi_rows(self, client: Client, request_id: int, account: str, model: str) -> list[Row]:
        news = client.news("multi", request_id, account, self.values(account, self.broker.today()))
        return [Row(messages.account_update_multi(request_id, account, model, value), account) for value in news]

    def account_summary(self, client: Client, fields: list[str]) -> Response:
        request_id, tags = int(fields[1]), fields[3]
        if len(client.summaries) >= 2 and request_id not in client.summaries:
            problem = "Maximum number of account summary requests exceeded"
            return Response("account-summary", end=messages.notice(client.version, request_id, 322, problem))
        client.summaries[request_id] = tags
        _start_anew(client, "summary", request_id)
        rows = [row for name in self.accounts() for row in self.summary_rows(client, request_id, name, tags)]
        return Response("account-summary", rows, messages.account_summary_end(request_id), request_id=request_id)

    def summary_rows(self, client: Client, request_id: int, account: str, tags: str) -> list[Row]:
        """The asked tags of the account as a whole; with `$LEDGER`, the rows per currency too."""
        values, asked = self.values(account, self.broker.today()), set(tags.split(","))
        first_ledger = next((n for n, value in enumerate(values) if value.tag == "CashBalance"), len(values))
        wanted = [value for value in values[:first_ledger] if value.tag in asked]
        if any(tag.startswith("$LEDGER") for tag in asked):
            wanted += values[first_ledger:]
        news = client.news("summary", request_id, account, wanted)
        return [Row(messages.account_summary(request_id, account, value), account) for value in news]

    def pnl(self, client: Client, fields: list[str]) -> Response:
        request_id, account = int(fields[0]), fields[1]
        client.pnl[request_id] = account
        return Response("pnl", end=self.pnl_frame(request_id, account), account=account, request_id=request_id)

    def pnl_frame(self, request_id: int, account: str) -> bytes:
        if account not in self.broker.book.accounts:
            return b""
        total = self.broker.valuer.total(account, self.broker.today())
        return messages.pnl(request_id, self.broker.day_pnl(account), total.unrealized, total.realized)

    def pnl_single(self, client: Client, fields: list[str]) -> Response:
        request_id, account, con_id = int(fields[0]), fields[1], int(fields[3])
        client.pnl_single[request_id] = (account, con_id)
        end = self.pnl_single_frame(request_id, account, con_id)
        return Response("pnl-single", end=end, account=account, request_id=request_id)

    def pnl_single_frame(self, request_id: int, account: str, con_id: int) -> bytes:
        book = self.broker.book
        if account not in book.accounts or con_id not in book.instruments:
            return b""
        ledger, one = book.ledger(account, con_id), book.instruments[con_id]
        _, value, unrealized = self.broker.valuer.figures(one, ledger.holding)
        realized = ledger.realized_on.get(self.broker.today(), ZERO)
        return messages.pnl_single(request_id, ledger.holding.quantity, unrealized, realized, value)


def _start_anew(client: Client, kind: str, request_id: int) -> None:
    """A new subscription is sent every value, whatever an old one under the same id has been sent."""
    client.values_sent = {key: sent for key, sent in client.values_sent.items() if key[:2] != (kind, request_id)}
