"""What is sent without being asked: the consequences of a change, for each client that should hear of it.

Here: who hears what, in which order. Not here: what changed (`broker.py`), answers (`requests.py`).

Of a fill made elsewhere, only client id 0, the master client and the ordering client hear the execution; every client
hears that a position changed. While the link to the broker is lost, nobody hears anything, and it is not told later.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from position_pipeline.simulator import messages
from position_pipeline.simulator.broker import Broker, Change
from position_pipeline.simulator.client import Client
from position_pipeline.simulator.ledger import Execution
from position_pipeline.simulator.orders import open_order, order_status
from position_pipeline.simulator.requests import Requests

LINK_FAULTS = {"1100": 1102, "1101": 1101, "2110": 1102}
NOTICES = {
    1100: "Connectivity between IB and Trader Workstation has been lost.",
    1101: "Connectivity between IB and Trader Workstation has been restored - data lost.",
    1102: "Connectivity between IB and Trader Workstation has been restored - data maintained.",
    1300: "TWS socket port has been reset and this connection is being dropped.",
    2103: "Market data farm connection is broken:usfarm",
    2104: "Market data farm connection is OK:usfarm",
    2105: "HMDS data farm connection is broken:ushmds",
    2106: "HMDS data farm connection is OK:ushmds",
    2110: "Connectivity between Trader Workstation and server is broken. It will be restored automatically.",
    2158: "Sec-def data farm connection is OK:secdefil",
}


def notice_text(code: int) -> str:
    return NOTICES.get(code, f"simulated notice {code}")


@dataclass
class Pushes:
    broker: Broker
    requests: Requests

    def publish(self, changes: Iterable[Change], clients: Iterable[Client]) -> None:
        listening = [client for client in clients if client.ready]
        for change in changes:
            for client in listening:
                self._tell(client, change)

    def notify(self, code: int, clients: Iterable[Client]) -> None:
        for client in clients:
            if client.ready:
                client.send(messages.notice(client.version, -1, code, notice_text(code)))

    def _tell(self, client: Client, change: Change) -> None:
        if change.kind == "notice":
            self.notify(change.code, [client])
        elif change.kind == "disconnect":
            client.end()
        elif not self._deaf(client):
            frames = self._frames(client, change)
            if frames:
                client.stream(frames)

    def _deaf(self, client: Client) -> bool:
        faults = self.broker.faults
        return any(faults.find(each, client=client.id) for each in ("mute", *LINK_FAULTS))

    def _frames(self, client: Client, change: Change) -> list[bytes]:
        if change.kind == "prices":
            return self._account_frames(client, client.account, change.con_ids, held_only=True)
        if change.kind == "commission":
            assert change.execution is not None
            return self._commission(client, change.execution)
        frames = [] if change.execution is None else self._execution(client, change.execution)
        if client.positions:
            frames.append(self._position(change))
        frames += self._positions_multi(client, change)
        return frames + self._account_frames(client, change.account, (change.con_id,))

    def _hears(self, client: Client, fill: Execution) -> bool:
        return client.id in (0, self.broker.options.master_client_id, fill.client_id)

    def _execution(self, client: Client, fill: Execution) -> list[bytes]:
        if not self._hears(client, fill):
            return []
        one = self.broker.book.instruments[fill.con_id]
        told = [self.requests.executions.row(client, -1, fill).frame]
        if fill.order_known:
            before, after = (open_order(client.version, one, fill, each) for each in ("PreSubmitted", "Filled"))
            told = [before, order_status(fill, "PreSubmitted"), *told, after, order_status(fill, "Filled"), after]
        commission = self._commission(client, fill)
        return commission + told if self.broker.faults.find("early-commission") else told + commission

    def _commission(self, client: Client, fill: Execution) -> list[bytes]:
        if not self._hears(client, fill):
            return []
        return [row.frame for row in self.requests.executions.commission_rows(fill)]

    def _position(self, change: Change) -> bytes:
        one = self.broker.book.instruments[change.con_id]
        return messages.position(change.account, one, self.broker.book.holding(change.account, change.con_id))

    def _positions_multi(self, client: Client, change: Change) -> list[bytes]:
        one = self.broker.book.instruments[change.con_id]
        holding = self.broker.book.holding(change.account, change.con_id)
        return [
            messages.position_multi(request_id, change.account, one, holding, model)
            for request_id, (account, model) in client.positions_multi.items()
            if account in ("", change.account)
        ]

    def _account_frames(self, client: Client, account: str, con_ids: tuple[int, ...], *, held_only: bool = False) -> list[bytes]:
        """P&L and values for who asked for them; portfolio rows for the client that subscribed to this account."""
        frames = self._pnl(client) + self._values(client)
        if not account or client.account != account:
            return frames
        if held_only:
            held = {one.con_id for one, _ in self.broker.book.held(account)}
            con_ids = tuple(each for each in con_ids if each in held)
        if not self.broker.faults.find("linked-account", account=account):
            frames += [row.frame for row in self.requests.account.portfolio_rows(account, con_ids)]
        return frames + [row.frame for row in self.requests.account.value_rows(client, account)]

    def _values(self, client: Client) -> list[bytes]:
        """What changed for the subscriptions that have a request id."""
        rows = [
            row
            for number, (account, model) in client.multi.items()
            for name in ([account] if account else self.requests.accounts())
            for row in self.requests.account.multi_rows(client, number, name, model)
        ]
        for number, tags in client.summaries.items():
            for name in self.requests.accounts():
                rows += self.requests.account.summary_rows(client, number, name, tags)
        return [row.frame for row in rows]

    def _pnl(self, client: Client) -> list[bytes]:
        frames = [self.requests.account.pnl_frame(number, account) for number, account in client.pnl.items()]
        for number, (account, con_id) in client.pnl_single.items():
            frames.append(self.requests.account.pnl_single_frame(number, account, con_id))
        return [each for each in frames if each]
