"""The simulator as others use it: in a background thread for tests, in the foreground as a program.

Here: `Simulator` and `serve`, and carrying calls into the loop. Not here: anything that happens in the loop.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from position_pipeline.simulator.broker import Broker, Change, Options
from position_pipeline.simulator.faults import Fault, Faults
from position_pipeline.simulator.ledger import Execution
from position_pipeline.simulator.play import Clock
from position_pipeline.simulator.requests import Request
from position_pipeline.simulator.responses import CLOSE
from position_pipeline.simulator.scenario import Scenario
from position_pipeline.simulator.server import Server

if TYPE_CHECKING:
    from position_pipeline.simulator.values import Value

LONGEST_CALL = 60
Number = Decimal | int | str
T = TypeVar("T")


def exact(value: Number) -> Decimal:
    """A number as Decimal. A float has lost its digits already, so it is refused."""
    if isinstance(value, float):
        raise TypeError(f"give {value!r} as text or Decimal, not as float")
    return Decimal(value)


class Simulator:
    """A broker in a background thread, as a context manager. Every method may be called from any thread."""

    def __init__(
        self,
        scenario: Scenario,
        port: int = 0,
        faults: Iterable[Fault | str] = (),
        speed: float = 1,
        executions_since: str = "midnight",
        *,
        host: str = "127.0.0.1",
        state_file: str | Path | None = None,
        starts_at: datetime | None = None,
        **options: Any,
    ) -> None:
        self._broker = Broker(
            scenario,
            Clock(speed, starts_at),
            Faults(faults),
            Options(executions_since=executions_since, **options),
            Path(state_file) if state_file else None,
        )
        self._address = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="simulated-broker", daemon=True)
        self._started: Future[None] = Future()
        self._stop = asyncio.Event()
        self._server: Server

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.result(LONGEST_CALL)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, as leaving the `with` block does; once more does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(LONGEST_CALL)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        try:
            self._server = Server(self._broker, *self._address)
            await self._server.start()
        except Exception as error:  # noqa: BLE001 - it is raised where the simulator was started
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        await self._stop.wait()
        await self._server.stop()

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(LONGEST_CALL)

    def _call(self, function: Callable[[], T]) -> T:
        """Run in the loop, which alone touches the broker."""

        async def in_loop() -> T:
            return function()

        return self._await(in_loop())

    def _change(self, function: Callable[[], list[Change]]) -> list[Change]:
        """Change the broker, save, then tell the clients."""

        def change() -> list[Change]:
            changes = function()
            self._broker.save()
            self._server.publish(changes)
            return changes

        return self._call(change)

    @property
    def host(self) -> str:
        return self._server.host

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request seen, oldest first (the last 100,000)."""
        return self._call(lambda: tuple(self._server.seen))

    @property
    def order_requests(self) -> tuple[Request, ...]:
        """Requests to place, cancel, exercise or globally cancel: a read-only client leaves this empty."""
        return self._call(lambda: tuple(self._server.orders_seen))

    @property
    def clients(self) -> tuple[int, ...]:
        """The ids of the clients that are connected."""
        return self._call(lambda: tuple(sorted(client.id for client in self._server.clients)))

    @property
    def now(self) -> datetime:
        return self._call(self._broker.now)

    def advance(self, seconds: Number) -> None:
        """Let play time pass (with speed 0 it passes no other way) and push what happened."""
        self._call(lambda: self._server.advance(exact(seconds)))

    def execute(
        self,
        account: str,
        symbol: str | int,
        side: str,
        quantity: Number,
        price: Number | None = None,
        *,
        commission: Number | None = "schedule",
        **details: Any,
    ) -> str:
        """A fill now; returns its execution id. With commission None the report waits for `send_commission`.

        Details: exec_id, time, order_known, client_id, order_id, perm_id, exchange, cumulative, average_price,
        order_ref, pending_price_revision.
        """
        charged = commission if commission is None or commission == "schedule" else exact(commission)
        made: list[Execution] = []

        def act() -> list[Change]:
            cost = None if price is None else exact(price)
            fill, changes = self._broker.execute(
                account, symbol, side, exact(quantity), cost, commission=charged, **_exact_details(details)
            )
            made.append(fill)
            return changes

        self._change(act)
        return made[0].exec_id

    def correct(self, exec_id: str, **changes: Any) -> str:
        """A corrected version of a fill: a new execution with the next suffix; returns its id."""
        told = self._change(lambda: self._broker.correct(exec_id, _exact_details(changes)))
        assert told[0].execution is not None
        return told[0].execution.exec_id

    def bust(self, exec_id: str, how: str = "zero") -> None:
        """Take a fill back: `zero` sends a correction to 0 shares, `removed` makes it vanish from the list."""
        self._change(lambda: self._broker.bust(exec_id, how=how))

    def split(self, symbol: str | int, numerator: int, denominator: int = 1) -> None:
        """`numerator` new units for `denominator` old ones, in every account; no execution explains it."""
        self._change(lambda: self._broker.split(symbol, numerator, denominator))

    def transfer(self, account: str, symbol: str | int, quantity: Number, cost: Number | None = None) -> None:
        """Units come (at a total `cost`) or go, with no execution and no cash."""
        amount = None if cost is None else exact(cost)
        self._change(lambda: self._broker.transfer(account, symbol, exact(quantity), amount))

    def expire(self, symbol: str | int) -> None:
        """An instrument ends worthless in every account."""
        self._change(lambda: self._broker.expire(symbol))

    def deliver(self, account: str, option: str | int, contracts: Number, shares: str | int, *, listed: bool = False) -> None:
        """Exercise what is held of an option, or have it assigned if it was sold: shares at the strike, with the premium."""
        self._change(lambda: self._broker.deliver(account, option, exact(contracts), shares, listed=listed)[1])

    def convert(self, symbol: str | int, into: str | int, numerator: int = 1, denominator: int = 1) -> None:
        """All of an instrument becomes another, in every account: a new conId, with as many units or a ratio of them."""
        self._change(lambda: self._broker.convert(symbol, into, numerator, denominator))

    def set_price(self, symbol: str | int, price: Number) -> None:
        self._change(lambda: self._broker.set_price(symbol, exact(price)))

    def price(self, symbol: str | int) -> Decimal:
        return self._call(lambda: self._broker.market.prices[self._broker.instrument(symbol).con_id])

    def send_commission(self, exec_id: str, commission: Number | None = None) -> None:
        """The commission report that was held back; `commission` if it differs from the schedule."""
        amount = None if commission is None else exact(commission)
        self._change(lambda: self._broker.send_commission(exec_id, amount))

    def holdings(self, account: str) -> dict[int, tuple[Decimal, Decimal]]:
        """By conId: (quantity, average cost with multiplier and commissions); what is flat is left out."""
        book = self._broker.book
        held = self._call(lambda: list(book.held(book.account(account).id)))
        return {one.con_id: (holding.quantity, holding.average_cost) for one, holding in held}

    def executions(self, account: str = "") -> list[Execution]:
        """Every execution of an account in every version, oldest first, whatever a request would list."""
        return self._call(lambda: [one for one in self._broker.book.executions() if account in ("", one.account)])

    def realized(self, exec_id: str) -> Decimal | None:
        """Realised P&L of one execution, net of the commissions of both sides; None where it only opened."""
        return self._call(lambda: self._broker.book.realized(self._broker.book.execution(exec_id)))

    def account_values(self, account: str) -> dict[tuple[str, str], str]:
        """(tag, currency) -> value, as it is sent; the later row where one tag occurs twice for a currency."""
        values: list[Value] = self._call(lambda: self._broker.valuer.values(account, self._broker.today()))
        return {(value.tag, value.currency): value.value for value in values}

    def inject(self, fault: Fault | str) -> None:
        self._await(self._server.inject(fault))

    def heal(self) -> None:
        """Switch all faults off and make up for them: open the port, restore the link, send held reports."""
        self._await(self._server.heal())

    def disconnect_clients(self, how: str = CLOSE) -> None:
        """Close every connection: `close` by FIN, `reset` by RST."""
        self._call(lambda: self._server.disconnect(how))

    def notify(self, code: int) -> None:
        """Send a notice to every client, and nothing else."""
        self._call(lambda: self._server.pushes.notify(code, list(self._server.clients)))


def _exact_details(details: dict[str, Any]) -> dict[str, Any]:
    """Numbers of an execution as Decimal, whatever they were given as."""
    numbers = ("quantity", "price", "commission", "cumulative", "average_price")
    return {key: exact(value) if key in numbers else value for key, value in details.items()}


def serve(
    scenario: Scenario,
    *,
    host: str = "127.0.0.1",
    port: int,
    state_file: str | Path | None = None,
    faults: Iterable[Fault | str] = (),
    speed: float = 1,
    on_ready: Callable[[int], object] = print,
    **options: Any,
) -> None:
    """Run in the foreground until SIGTERM or SIGINT, then end cleanly. `on_ready` is given the port."""
    place = Path(state_file) if state_file else None
    broker = Broker(scenario, Clock(speed), Faults(faults), Options(**options), place)
    asyncio.run(_serve(broker, host, port, on_ready))


async def _serve(broker: Broker, host: str, port: int, on_ready: Callable[[int], object]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError, RuntimeError):  # no signals outside the main thread
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, stop.set)
    server = Server(broker, host, port)
    await server.start()
    try:
        on_ready(server.port)
        await stop.wait()
    finally:
        await server.stop()
