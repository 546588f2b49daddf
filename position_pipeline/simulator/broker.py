"""The simulated broker without its sockets: what happens to it, and what each happening changed.

Here: playing events, executing, correcting, splitting; every method says what changed. Not here: who is told
(`pushes.py`), the arithmetic (`ledger.py`).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zlib import crc32
from zoneinfo import ZoneInfo

from position_pipeline.simulator import state
from position_pipeline.simulator.book import Book, BookError
from position_pipeline.simulator.commissions import commission_for
from position_pipeline.simulator.faults import Faults
from position_pipeline.simulator.ledger import Execution
from position_pipeline.simulator.market import Market
from position_pipeline.simulator.play import Clock, Due, Timeline
from position_pipeline.simulator.scenario import Instrument, Scenario
from position_pipeline.simulator.values import Valuer

_log = logging.getLogger(__name__)
SIDES = {"BUY": "BOT", "BOT": "BOT", "SELL": "SLD", "SLD": "SLD"}
KEEP = timedelta(days=8)
SAVE_EVERY = Decimal(5)
FORGET_EVERY = Decimal(3600)


@dataclass(frozen=True)
class Options:
    """How the broker is set up, where real ones differ or no source says how they behave."""

    executions_since: str = "midnight"  # or "week" (TWS with a seven-day Trade Log), or "always"
    executions_for: str = "all"  # or "own": a client lists only what its own id executed, but 0 and the master
    corrections: str = "both"  # or "latest": a corrected execution is listed in its last version only
    read_only: bool = False  # the Read-Only API switch
    master_client_id: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in (
            ("executions_since", ("midnight", "week", "always")),
            ("executions_for", ("all", "own")),
            ("corrections", ("both", "latest")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")


@dataclass(frozen=True)
class Change:
    """Something a client may hear of. `kind`: fill, commission, position, prices, notice, disconnect."""

    kind: str
    account: str = ""
    con_id: int = 0
    execution: Execution | None = None
    con_ids: tuple[int, ...] = ()
    code: int = 0


@dataclass
class Broker:
    scenario: Scenario
    clock: Clock
    faults: Faults
    options: Options = Options()
    state_file: Path | None = None
    _executed: int = 0
    _next_price: Decimal = Decimal(0)
    _saved_at: Decimal = Decimal(0)
    _forget_at: Decimal = Decimal(0)
    _commissions_due: list[tuple[Decimal, str]] = field(default_factory=list)
    _held_back: list[str] = field(default_factory=list)
    _day_start: dict[str, tuple[date, Decimal]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.zone = ZoneInfo(self.scenario.time_zone)
        self.book = Book(self.scenario, self.zone)
        self.market = Market(self.scenario)
        self.timeline = Timeline(self.scenario)
        self.valuer = Valuer(self.book, self.market, dict(self.scenario.rates))
        self._next_price = self.scenario.price_every
        self._moving = bool(self.scenario.price_every) and any(one.volatility for one in self.scenario.instruments)
        if self.state_file and self.state_file.exists():
            self._restore(state.load(self.state_file))

    # -- time

    def now(self) -> datetime:
        return self.clock.now()

    def today(self) -> date:
        return self.now().astimezone(self.zone).date()

    def next_due(self) -> Decimal | None:
        """The play time at which something happens by itself."""
        due = self.timeline.peek()
        times = [due.at] if due else []
        times += [moment for moment, _ in self._commissions_due]
        if self._moving:
            times.append(self._next_price)
        return min(times, default=None)

    def play(self) -> list[Change]:
        """Everything that is due by now, in order; saved before anybody is told of it."""
        changes, elapsed = [], self.clock.elapsed
        while (moment := self.next_due()) is not None and moment <= elapsed:
            try:
                changes += self._play_one(moment)
            except BookError:  # a scenario may ask for what the book does not allow; the demo goes on
                _log.exception("an event of scenario %r could not be played", self.scenario.name)
        told = any(change.kind != "prices" for change in changes)
        if told or elapsed - self._saved_at >= SAVE_EVERY:
            self.save()
        return changes

    def advance(self, seconds: Decimal) -> list[Change]:
        """Let time pass by hand, stopping at each event so that it is stamped with its own moment."""
        end, changes = self.clock.elapsed + seconds, []
        while (moment := self.next_due()) is not None and moment <= end:
            self.clock.advance(max(moment - self.clock.elapsed, Decimal(0)))
            changes += self._play_one(moment)
        self.clock.advance(max(end - self.clock.elapsed, Decimal(0)))
        self.save()
        return changes

    def _play_one(self, moment: Decimal) -> list[Change]:
        for place, (due_at, exec_id) in enumerate(self._commissions_due):
            if due_at <= moment:
                del self._commissions_due[place]
                return self.send_commission(exec_id)
        due = self.timeline.peek()
        if due is not None and due.at <= moment:
            self.timeline.pop()
            return self._happen(due)
        self._next_price = moment + self.scenario.price_every
        moved = tuple(self.market.step())
        return [Change("prices", con_ids=moved)] if moved else []

    def _happen(self, due: Due) -> list[Change]:
        event = due.event
        play: dict[str, Callable[[], list[Change]]] = {
            "fill": lambda: self._play_fill(due),
            "split": lambda: self.split(event.con_id, event.numerator, event.denominator),
            "price": lambda: self.set_price(event.con_id, event.price or self.market.prices[event.con_id]),
            "correction": lambda: self._play_correction(due),
            "bust": lambda: self.bust(self._id_of(due)),
            "commission": lambda: self.send_commission(self._id_of(due), event.commission),
            "notice": lambda: [Change("notice", code=event.code)],
            "disconnect": lambda: [Change("disconnect")],
        }
        return play[event.type]()

    def _play_correction(self, due: Due) -> list[Change]:
        event = due.event
        changes = {"quantity": event.quantity, "price": event.price, "commission": event.commission}
        return self.correct(self._id_of(due), {key: value for key, value in changes.items() if value is not None})

    def _id_of(self, due: Due) -> str:
        return self._event_id(due.round, self.timeline.number_of(due.event.of, due.round))

    def _event_id(self, round_number: int, number: int) -> str:
        """The same in every run; it carries the round, so that rounds never repeat an id."""
        return f"{0x10000 + self.scenario.seed:08x}.{round_number:08x}.{number:02d}.01"

    def _play_fill(self, due: Due) -> list[Change]:
        event = due.event
        assert event.quantity is not None
        return self.execute(
            event.account,
            event.con_id,
            event.side,
            event.quantity,
            event.price,
            exec_id=self._event_id(due.round, due.number),
            commission=event.commission if event.commission is not None else "schedule",
            late=event.late_commission,
            order_known=event.order_known,
            client_id=event.client_id,
        )[1]

    # -- what can happen

    def instrument(self, symbol: str | int) -> Instrument:
        found = self.book.instruments.get(symbol) if isinstance(symbol, int) else None
        return found or self.scenario.instrument(symbol)

    def execute(
        self,
        account: str,
        symbol: str | int,
        side: str,
        quantity: Decimal,
        price: Decimal | None,
        *,
        exec_id: str = "",
        commission: Decimal | str | None = "schedule",
        late: bool = False,
        time: datetime | None = None,
        **details: Any,
    ) -> tuple[Execution, list[Change]]:
        """A fill now. `commission` None: by the schedule, but reported only when it is sent."""
        one = self.instrument(symbol)
        if side not in SIDES:
            raise BookError(f"side must be BUY or SELL, not {side!r}")
        if quantity <= 0:
            raise BookError(f"quantity must be above zero, not {quantity}")
        price = self.market.prices[one.con_id] if price is None else price
        charged = commission if isinstance(commission, Decimal) else commission_for(one, quantity, price)
        late = late or commission is None or self.faults.find("late-commission", account=account) is not None
        self._executed += not exec_id
        exec_id = exec_id or f"{0x20000 + self.scenario.seed:08x}.{self._executed:08x}.01.01"
        fill = Execution(
            exec_id=exec_id,
            account=account,
            con_id=one.con_id,
            side=SIDES[side],
            quantity=quantity,
            price=price,
            time=(time or self.now()).replace(microsecond=0),
            commission=charged,
            currency=one.currency,
            **{
                "exchange": one.primary_exchange or one.exchange,
                "perm_id": 1 + (crc32(exec_id.rpartition(".")[0].encode()) & 0x7FFFFFF0),
                "cumulative": quantity,
                "average_price": price,
                "reported": not late,
                **details,
            },
        )
        fill = self.book.record(fill)
        self._hold_back(fill, account)
        return fill, [Change("fill", account, one.con_id, fill)]

    def _hold_back(self, fill: Execution, account: str) -> None:
        fault = self.faults.take("late-commission", account=account)
        if fault and fault.seconds is not None:
            self._commissions_due.append((self.clock.elapsed + fault.seconds, fill.exec_id))
        elif fault:
            self._held_back.append(fill.exec_id)

    def correct(self, exec_id: str, changes: Mapping[str, Any]) -> list[Change]:
        fill = self.book.correct(exec_id, changes)
        return [Change("fill", fill.account, fill.con_id, fill)]

    def bust(self, exec_id: str, *, how: str = "zero") -> list[Change]:
        """`zero`: a correction to 0 shares. `removed`: the execution is no longer listed, and nobody is told of it."""
        if how == "removed":
            gone = self.book.remove(exec_id)
            return [Change("position", gone.account, gone.con_id)]
        return self.correct(exec_id, {"quantity": Decimal(0), "commission": Decimal(0)})

    def split(self, symbol: str | int, numerator: int, denominator: int) -> list[Change]:
        one = self.instrument(symbol)
        ratio = Decimal(numerator) / Decimal(denominator)
        self.market.split(one.con_id, ratio)
        holders = self.book.split(one.con_id, ratio, self.now())
        moved = [Change("position", account, one.con_id) for account in holders]
        return [*moved, Change("prices", con_ids=(one.con_id,))]

    def transfer(self, account: str, symbol: str | int, quantity: Decimal, cost: Decimal | None = None) -> list[Change]:
        """Units come from elsewhere at a total `cost`, or go (no cost): no execution and no cash tells of it."""
        one = self.instrument(symbol)
        self.book.transfer(self.book.account(account).id, one.con_id, quantity, cost, self.now())
        return [Change("position", account, one.con_id)]

    def expire(self, symbol: str | int) -> list[Change]:
        """An instrument ends worthless in every account."""
        one = self.instrument(symbol)
        return [Change("position", account, one.con_id) for account in self.book.expire(one.con_id, self.now())]

    def deliver(
        self, account: str, option: str | int, contracts: Decimal, shares: str | int, *, listed: bool
    ) -> tuple[Execution, list[Change]]:
        """Contracts that are held are exercised, those that were sold are assigned: shares come or go at the strike, with the premium.

        `listed`: the executions show the leg of the shares; the option's end they never show.
        """
        ended, stock = self.instrument(option), self.instrument(shares)
        if ended.right not in ("C", "P"):
            raise BookError(f"{ended.symbol} is no option")
        buys = (ended.right == "C") == (self.book.holding(account, ended.con_id).quantity > 0)
        premium = self.book.end_option(account, ended.con_id, contracts, self.now())
        fill, changes = self.execute(
            account,
            stock.con_id,
            "BUY" if buys else "SELL",
            contracts * ended.factor,
            ended.strike,
            commission=Decimal(0),
            premium=premium,
            listed=listed,
        )
        return fill, [Change("position", account, ended.con_id), *(changes if listed else [Change("position", account, stock.con_id)])]

    def convert(self, symbol: str | int, into: str | int, numerator: int = 1, denominator: int = 1) -> list[Change]:
        """All of an instrument becomes another: a new symbol or conId, a reverse split with a new one, a merger for shares."""
        one, other = self.instrument(symbol), self.instrument(into)
        ratio = Decimal(numerator) / Decimal(denominator)
        self.market.become(one.con_id, other.con_id, ratio)
        holders = self.book.convert(one.con_id, other.con_id, ratio, self.now())
        return [Change("position", account, con_id) for account in holders for con_id in (one.con_id, other.con_id)]

    def set_price(self, symbol: str | int, price: Decimal) -> list[Change]:
        one = self.instrument(symbol)
        self.market.set(one.con_id, price)
        return [Change("prices", con_ids=(one.con_id,))]

    def send_commission(self, exec_id: str, commission: Decimal | None = None) -> list[Change]:
        fill = self.book.report_commission(exec_id, commission)
        return [Change("commission", fill.account, fill.con_id, fill)]

    def release_commissions(self) -> list[Change]:
        """The reports that a fault held back."""
        held, self._held_back = self._held_back, []
        return [change for exec_id in held for change in self.send_commission(exec_id)]

    # -- what is true

    def listed(self) -> list[Execution]:
        """The executions that a request may list now, oldest first."""
        executions = self.book.executions(corrections=self.options.corrections)
        since = self._listed_since()
        return [fill for fill in executions if since is None or fill.time >= since]

    def _listed_since(self) -> datetime | None:
        midnight = self.now().astimezone(self.zone).replace(hour=0, minute=0, second=0)
        if self.options.executions_since == "midnight":
            return midnight
        return midnight - timedelta(days=6) if self.options.executions_since == "week" else None

    def day_pnl(self, account: str) -> Decimal:
        """The change of net liquidation since the account was first looked at on this day."""
        today = self.today()
        total = self.valuer.total(account, today).net_liquidation
        if self._day_start.get(account, (None,))[0] != today:
            self._day_start[account] = (today, total)
        return total - self._day_start[account][1]

    # -- over a restart

    def save(self) -> None:
        self._saved_at = self.clock.elapsed
        self._forget_old()
        if not self.state_file:
            return
        counters = {
            "scenario": [self.scenario.name, self.scenario.seed],
            "elapsed": str(self.clock.elapsed),
            "executed": self._executed,
            "next_price": str(self._next_price),
            "timeline": self.timeline.state(),
            "market": self.market.state(),
            "commissions_due": [[str(moment), exec_id] for moment, exec_id in self._commissions_due],
        }
        state.save(self.state_file, {**counters, **state.book_state(self.book)})

    def _forget_old(self) -> None:
        """Fills that no request can list any more become part of what is held, so that the book stays bounded."""
        if self._saved_at >= self._forget_at and self.options.executions_since != "always":
            self._forget_at = self._saved_at + FORGET_EVERY
            self.book.forget_before(self.now() - KEEP)

    def _restore(self, saved: dict[str, Any]) -> None:
        if saved["scenario"] != [self.scenario.name, self.scenario.seed]:
            raise state.StateError(f"{self.state_file} belongs to the scenario {saved['scenario'][0]!r}")
        self.clock = Clock(self.clock.speed, self.clock.starts_at, Decimal(saved["elapsed"]))
        self._executed = saved["executed"]
        self._next_price = Decimal(saved["next_price"])
        self._saved_at = self.clock.elapsed
        self._commissions_due = [(Decimal(moment), exec_id) for moment, exec_id in saved["commissions_due"]]
        self.timeline.restore(saved["timeline"])
        self.market.restore(saved["market"])
        state.restore_book(self.book, saved, self.zone)
