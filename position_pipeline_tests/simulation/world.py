"""The simulated broker that a plan is played on, and the complete list of what happened there.

Belongs here: carrying out steps, answers (`capture`) and statements as the product's values. Does not belong here: faults of answers
(faults.py), what the list of facts comes to (checker.py). The broker's own figures - quantities, averages, cash - are the simulator's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from position_pipeline.accounting.model import (
    AccountValue,
    Adjustment,
    AdjustmentKind,
    Basis,
    Fill,
    Holding,
    Instrument,
    Side,
    Snapshot,
    SnapshotStatus,
)
from position_pipeline.brokers import Capture
from position_pipeline.simulator.book import BookError
from position_pipeline.simulator.broker import Broker, Options
from position_pipeline.simulator.faults import Faults
from position_pipeline.simulator.ledger import Execution
from position_pipeline.simulator.play import Clock
from position_pipeline.simulator.scenario import Account, Opening, Scenario
from position_pipeline.simulator.scenario import Instrument as Listed
from position_pipeline_tests.simulation.plan import CLOSE, DAY, HOUR, MINUTE, OPTIONS, STOCKS, Plan, Step

ZONE = ZoneInfo("America/New_York")
START = datetime(2026, 4, 6, tzinfo=ZONE)
"""A Monday; no clock is changed for months."""

PRICES = {"ALFA": "40", "BETA": "103.5", "GAMMA": "7.8", "DELTA": "251", "CALL": "2.4", "PUT": "1.9", "NEAR": "3", "FUTURE": "5000", "COIN": "60000"}
STRIKES = {"CALL": ("ALFA", "41", "C"), "PUT": ("ALFA", "39", "P"), "NEAR": ("BETA", "104", "C")}
ENDS_AT = 16 * HOUR + 20 * MINUTE
SHOWN = ("CashBalance", "TotalCashBalance", "NetLiquidation", "GrossPositionValue", "ExchangeRate")


@dataclass(frozen=True)
class Fact:
    """One thing that happened, for good. `quantity` is signed, `price` per unit; `cost` is a total.

    Kinds: open, trade, split, in, out (transfers), expiry, ended (an option that was delivered), gave and took (a conversion).
    """

    id: str
    kind: str
    account: str
    con_id: int
    time: datetime
    quantity: Decimal = Decimal(0)
    price: Decimal | None = None
    commission: Decimal = Decimal(0)
    revision: int = 1
    numerator: int = 1
    denominator: int = 1
    takes_from: str = ""
    side: Side = Side.BUY


class World:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.accounts = tuple(f"S{plan.seed}{letter}" for letter in "AB"[: plan.accounts])
        self.base = 1_000_000_000 + plan.seed % 9_000_000 * 100
        self.listed = {name: one for name, one in zip(self._names(), self._instruments(), strict=True)}
        opening = [tuple(self._openings(number)) for number in range(plan.accounts)]
        scenario = Scenario(
            instruments=tuple(self.listed.values()),
            accounts=tuple(Account(name, cash={"USD": Decimal(500_000)}, positions=held) for name, held in zip(self.accounts, opening, strict=True)),
            price_every=Decimal(0),
            seed=plan.seed,
        )
        self.broker = Broker(scenario, Clock(0, START.astimezone(UTC)), Faults(), Options())
        self.instruments = {one.con_id: _instrument(one) for one in self.listed.values()}
        self.current = {name: name for name in self.listed}
        self.facts: dict[str, Fact] = {}
        self.played: list[str] = []
        self._late: list[str] = []
        self._numbers = 0
        self._ended: set[str] = set()
        self._changed_at: dict[int, datetime] = {}
        self._states: list[tuple[datetime, dict[str, tuple[tuple[Holding, ...], tuple[AccountValue, ...]]]]] = []
        for account, held in zip(self.accounts, opening, strict=True):
            for each in held:
                self._note(Fact(f"open-{account}-{each.con_id}", "open", account, each.con_id, self.now - timedelta(days=1), each.quantity, each.average_cost / self.broker.instrument(each.con_id).factor))
        self._remember()

    # -- the scene

    def _names(self) -> list[str]:
        return [*PRICES, *(f"NEW {name}" for name in STOCKS)]

    def _instruments(self) -> list[Listed]:
        made = []
        for number, name in enumerate(self._names()):
            con_id, label = self.base + number, f"{name}{self.plan.seed}"
            if name in OPTIONS:
                under, strike, right = STRIKES[name]
                ends = (START + timedelta(days=self.plan.expiries[OPTIONS.index(name)])).date()
                made.append(Listed(con_id, f"{under}{self.plan.seed}", "OPT", multiplier=Decimal(100), expiry=f"{ends:%Y%m%d}", strike=Decimal(strike), right=right, local_symbol=label, price=Decimal(PRICES[name])))
            elif name == "FUTURE":
                made.append(Listed(con_id, label, "FUT", multiplier=Decimal(50), expiry="20270319", local_symbol=label, price=Decimal(PRICES[name]), tick=Decimal("0.25")))
            elif name == "COIN":
                made.append(Listed(con_id, label, "CRYPTO", price=Decimal(PRICES[name])))
            else:
                old = name.removeprefix("NEW ")
                alike = self.plan.seed % 2 == 0
                symbol = label if old == name else f"{old}{self.plan.seed}X" if alike else f"{old[::-1]}{self.plan.seed}"
                made.append(Listed(con_id, symbol, "STK", local_symbol=symbol, price=Decimal(PRICES[old])))
        return made

    def _openings(self, number: int) -> list[Opening]:
        found = []
        for account, what, quantity in self.plan.opening:
            if account == number:
                one = self.listed[what]
                units = Decimal(quantity) / (100 if one.sec_type == "CRYPTO" else 1)
                found.append(Opening(one.con_id, units, (one.price * Decimal("0.93") * one.factor).quantize(Decimal("0.01"))))
        return found

    @property
    def now(self) -> datetime:
        return self.broker.now().astimezone(UTC)

    @property
    def seconds(self) -> int:
        return round((self.now - START).total_seconds())

    def advance_to(self, at: int) -> None:
        """Let time pass; options end on the way."""
        for name in OPTIONS:
            end = self.plan.expiries[OPTIONS.index(name)] * DAY + ENDS_AT
            if name not in self._ended and end <= at:
                self._pass_time(end)
                self._ended.add(name)
                self._end(name)
        self._pass_time(at)

    def _pass_time(self, at: int) -> None:
        if at > self.seconds:
            self.broker.advance(Decimal(at - self.seconds))

    # -- what happens

    def play(self, step: Step) -> bool:
        """Carry out one step, if it is possible now."""
        before = len(self.facts), self._numbers
        try:
            done = getattr(self, f"_play_{step.kind}")(step, self.accounts[step.account])
        except BookError:
            assert before == (len(self.facts), self._numbers), f"{step} was carried out in part"
            done = False
        if done:
            self.played.append(step.kind)
            self._remember()
        return bool(done)

    def _one(self, what: str) -> Listed:
        return self.listed[self.current[what]]

    def _units(self, step: Step, one: Listed) -> Decimal:
        if one.sec_type == "STK":
            return Decimal(abs(step.number))
        small = Decimal(1 + step.choice % 3)
        return small * abs(step.number) / 1000 if one.sec_type == "CRYPTO" else small

    def _play_fill(self, step: Step, account: str, *, quantity: Decimal | None = None, late: bool = False) -> bool:
        one = self._one(step.what)
        if step.what in self._ended:
            return False
        units = self._units(step, one) if quantity is None else abs(quantity)
        price = self.broker.market.prices[one.con_id]
        price = max(price * (1000 + step.choice % 21 - 10) / 1000, one.tick).quantize(one.tick)
        side = ("BUY" if step.number > 0 else "SELL") if quantity is None else ("BUY" if quantity > 0 else "SELL")
        self._numbers += 1
        made, _ = self.broker.execute(account, one.con_id, side, units, price, exec_id=f"{self.plan.seed:08x}.{self._numbers:06x}.01.01", late=late)
        if late:
            self._late.append(made.exec_id)
        self._trade(made)
        return True

    def _play_late_commission(self, step: Step, account: str) -> bool:
        """A fill whose commission comes with a later step of this kind, or only in the statement."""
        for exec_id in self._late:
            try:
                self.broker.send_commission(self.broker.book.latest(exec_id).exec_id)
            except BookError:
                continue
        self._late.clear()
        return self._play_fill(step, account, late=True)

    def _play_flip(self, step: Step, account: str) -> bool:
        held = self.broker.book.holding(account, self._one(step.what).con_id).quantity
        return bool(held) and self._play_fill(step, account, quantity=-held * (2 if step.flag else 1))

    def _recent(self, step: Step, account: str) -> Fact | None:
        """One of the fills of the last day, of which nothing has become anything else since."""
        since = self.now - timedelta(days=1)
        found = [
            fact
            for fact in self.facts.values()
            if fact.kind == "trade" and fact.account == account and fact.quantity and fact.time > max(since, self._changed_at.get(fact.con_id, since))
        ]
        return found[step.choice % len(found)] if found else None

    def _play_correct(self, step: Step, account: str) -> bool:
        fact = self._recent(step, account)
        if fact is None or fact.takes_from:
            return False
        last = self.broker.book.latest(f"{fact.id}.{fact.revision:02d}")
        changes = {"price": last.price + self.broker.instrument(fact.con_id).tick * 3} if step.flag else {"quantity": last.quantity * 2}
        self.broker.correct(last.exec_id, changes)
        self._trade(self.broker.book.latest(last.exec_id), fact)
        return True

    def _play_bust(self, step: Step, account: str) -> bool:
        fact = self._recent(step, account)
        if fact is None or fact.takes_from:
            return False
        last = self.broker.book.latest(f"{fact.id}.{fact.revision:02d}")
        self.broker.bust(last.exec_id, how="zero" if step.flag else "removed")
        self._note(replace(fact, quantity=Decimal(0), commission=Decimal(0), revision=last.revision + 1))
        return True

    def _trade(self, made: Execution, before: Fact | None = None) -> None:
        fact = Fact(made.family, "trade", made.account, made.con_id, made.time.astimezone(UTC), made.signed, made.price, made.commission, made.revision)
        fact = replace(fact, side=Side.BUY if made.side == "BOT" else Side.SELL)
        self._note(fact if before is None else replace(fact, takes_from=before.takes_from))

    def _play_split(self, step: Step, account: str) -> bool:
        one = self._one(step.what)
        ratios = ((2, 1), (3, 1), (3, 2), (10, 1), (1, 10), (1, 2), (4, 1))
        numerator, denominator = ratios[step.choice % len(ratios)]
        holders = self.broker.book.holders(one.con_id)
        whole = all(not self.broker.book.holding(each, one.con_id).quantity * numerator % denominator for each in holders)
        if one.sec_type != "STK" or not holders or not whole or self._has_options(step.what):
            return False
        self.broker.split(one.con_id, numerator, denominator)
        for each in holders:
            self._move(f"split-{one.con_id}-{self.seconds}-{each}", "split", each, one.con_id, numerator=numerator, denominator=denominator)
        return True

    def _has_options(self, what: str) -> bool:
        """Whether somebody holds options on it: their terms would change with it."""
        return any(STRIKES[name][0] == what and name not in self._ended for name in OPTIONS if self.broker.book.holders(self.listed[name].con_id))

    def _play_transfer_in(self, step: Step, account: str) -> bool:
        one = self._one(step.what)
        if one.sec_type != "STK":
            return False
        price = (self.broker.market.prices[one.con_id] * (40 + step.choice % 90) / 100).quantize(Decimal("0.01"))
        self._come(account, one, self._units(step, one), price)
        return True

    def _come(self, account: str, one: Listed, units: Decimal, price: Decimal) -> None:
        if self.broker.book.holding(account, one.con_id).quantity < 0:
            raise BookError("what comes does not meet a short here")
        self.broker.transfer(account, one.con_id, units, units * price * one.factor)
        self._move(f"in-{account}-{one.con_id}-{self.seconds}", "in", account, one.con_id, units, price)

    def _play_transfer_out(self, step: Step, account: str) -> bool:
        one = self._one(step.what)
        held = self.broker.book.holding(account, one.con_id).quantity
        if one.sec_type != "STK" or held <= 0:
            return False
        units = held if step.flag else min(held, self._units(step, one))
        self._go(account, one, units)
        return True

    def _go(self, account: str, one: Listed, units: Decimal) -> None:
        self.broker.transfer(account, one.con_id, -units)
        self._move(f"out-{account}-{one.con_id}-{self.seconds}", "out", account, one.con_id, -units)

    def _play_transfer_across(self, step: Step, account: str) -> bool:
        one = self._one(step.what)
        other = self.accounts[(step.account + 1) % len(self.accounts)]
        holding = self.broker.book.holding(account, one.con_id)
        receives = self.broker.book.holding(other, one.con_id).quantity
        if one.sec_type != "STK" or holding.quantity <= 0 or receives < 0 or other == account:
            return False
        units = holding.quantity if step.flag else min(holding.quantity, self._units(step, one))
        self._go(account, one, units)
        self._come(other, one, units, holding.average_cost.quantize(Decimal("0.0001")))
        return True

    def _play_rename(self, step: Step, account: str, numerator: int = 1, denominator: int = 1) -> bool:
        one = self._one(step.what)
        holders = self.broker.book.holders(one.con_id)
        taken = step.what not in ("GAMMA", "DELTA") or self.current[step.what] != step.what
        if taken or not holders or any(self.broker.book.holding(each, one.con_id).quantity * numerator % denominator for each in holders):
            return False
        self.current[step.what] = f"NEW {step.what}"
        new = self._one(step.what)
        held = {each: self.broker.book.holding(each, one.con_id).quantity for each in holders}
        self.broker.convert(one.con_id, new.con_id, numerator, denominator)
        for each in holders:
            ratio = {"numerator": numerator, "denominator": denominator}
            gave = f"gave-{each}-{one.con_id}"
            self._move(gave, "gave", each, one.con_id, -held[each], **ratio)
            self._move(f"took-{each}-{one.con_id}", "took", each, new.con_id, takes_from=gave, **ratio)
        return True

    def _play_reverse(self, step: Step, account: str) -> bool:
        return self._play_rename(step, account, 1, (2, 4, 5, 10)[step.choice % 4])

    def _play_deliver(self, step: Step, account: str) -> bool:
        """Exercised by the holder, or assigned early."""
        held = [name for name in OPTIONS if name not in self._ended and self.broker.book.holding(account, self.listed[name].con_id).quantity]
        if not held:
            return False
        name = held[step.choice % len(held)]
        one = self.listed[name]
        count = abs(self.broker.book.holding(account, one.con_id).quantity)
        self._deliver(account, name, Decimal(1) if step.flag else count, listed=step.number > 0)
        return True

    def _deliver(self, account: str, name: str, contracts: Decimal, *, listed: bool) -> None:
        one, shares = self.listed[name], self.listed[STRIKES[name][0]]
        held = self.broker.book.holding(account, one.con_id).quantity
        made, _ = self.broker.deliver(account, one.con_id, contracts, shares.con_id, listed=listed)
        id_ = f"ended-{account}-{one.con_id}-{self.seconds}"
        self._move(id_, "ended", account, one.con_id, contracts.copy_sign(-held))
        self._trade(made)
        self.facts[made.family] = replace(self.facts[made.family], takes_from=id_)
        self._changed_at[shares.con_id] = self.now

    def _end(self, name: str) -> None:
        """The last day is over: what is in the money is delivered, the rest is worth nothing."""
        one, shares = self.listed[name], self.listed[STRIKES[name][0]]
        price = self.broker.market.prices[shares.con_id]
        inside = price > one.strike if one.right == "C" else price < one.strike
        for account in self.broker.book.holders(one.con_id):
            quantity = self.broker.book.holding(account, one.con_id).quantity
            if inside:
                self._deliver(account, name, abs(quantity), listed=self.plan.seed % 3 == 0)
                self.played.append("delivered at the end")
            else:
                self._move(f"expiry-{account}-{one.con_id}", "expiry", account, one.con_id, -quantity)
                self.played.append("expired")
        self.broker.expire(one.con_id)
        self._remember()

    def _play_deposit(self, step: Step, account: str) -> bool:
        """Cash that no trade explains."""
        cash = self.broker.book.accounts[account].cash
        assert isinstance(cash, dict)
        cash["USD"] += step.number * 7
        return True

    def _play_price(self, step: Step, account: str) -> bool:
        one = self._one(step.what)
        price = max(self.broker.market.prices[one.con_id] * (90 + step.choice % 21) / 100, one.tick).quantize(one.tick)
        self.broker.set_price(one.con_id, price)
        return True

    def _move(self, id_: str, kind: str, account: str, con_id: int, quantity: Decimal = Decimal(0), price: Decimal | None = None, **more: object) -> None:
        self._note(Fact(id_, kind, account, con_id, self.now, quantity, price, **more))  # type: ignore[arg-type]
        self._changed_at[con_id] = self.now

    def _note(self, fact: Fact) -> None:
        self.facts[fact.id] = fact

    # -- what the broker says

    def holdings(self, account: str) -> tuple[Holding, ...]:
        return tuple(self._holdings(account))

    def _holdings(self, account: str) -> list[Holding]:
        found = []
        for one, holding in self.broker.book.held(account):
            figures = self.broker.valuer.figures(one, holding)
            average = holding.average_cost
            found.append(Holding(f"ibkr:{one.con_id}", holding.quantity, average / one.factor, average, figures.price, figures.value, figures.unrealized))
        return found

    def _values(self, account: str) -> tuple[AccountValue, ...]:
        rows = self.broker.valuer.values(account, self.now.astimezone(ZONE).date())
        return tuple(AccountValue(row.tag, row.value, row.currency) for row in rows if row.tag in SHOWN)

    def _remember(self) -> None:
        state = {account: (self.holdings(account), self._values(account)) for account in self.accounts}
        self._states.append((self.now, state))

    def capture(self, holdings_at: datetime | None = None) -> Capture:
        """What the broker answers now; with `holdings_at` its list of positions is as old as that."""
        state = {account: (self.holdings(account), self._values(account)) for account in self.accounts}
        if holdings_at is not None:
            state = next((each for at, each in reversed(self._states) if at <= holdings_at), self._states[0][1])
        snapshots = tuple(
            Snapshot(account, "ibkr", self.now, SnapshotStatus.COMPLETE, holdings, values, source_at=self.now) for account, (holdings, values) in state.items()
        )
        fills = tuple(self._fill(one) for one in self.broker.listed())
        return Capture("ibkr", datetime.now(UTC), snapshots, fills, tuple(self.instruments.values()))

    def _fill(self, one: Execution) -> Fill:
        return Fill(
            account=one.account,
            instrument=f"ibkr:{one.con_id}",
            execution_id=one.family,
            side=Side.BUY if one.side == "BOT" else Side.SELL,
            quantity=one.quantity,
            price=one.price,
            currency="USD",
            time=one.time.astimezone(UTC),
            multiplier=self.broker.instrument(one.con_id).factor,
            commission=one.commission if one.reported else None,
            commission_currency="USD" if one.reported else None,
            revision=one.revision,
            source="ibkr-api",
        )

    def statement(self, account: str, until: datetime | None = None) -> tuple[list[Fill], list[Adjustment]]:
        """What a statement says of the time until a moment: every fill in its last revision, and everything else that happened."""
        told = [fact for fact in self.facts.values() if fact.account == account and (until is None or fact.time < until)]
        return [self._stated(fact) for fact in told if fact.kind == "trade"], [self._entry(fact) for fact in told if fact.kind != "trade"]

    def _stated(self, fact: Fact) -> Fill:
        assert fact.price is not None
        return Fill(
            account=fact.account,
            instrument=f"ibkr:{fact.con_id}",
            execution_id=fact.id,
            side=fact.side,
            quantity=abs(fact.quantity),
            price=fact.price,
            currency="USD",
            time=fact.time,
            multiplier=self.broker.instrument(fact.con_id).factor,
            commission=fact.commission,
            commission_currency="USD",
            revision=fact.revision,
            premium_from=fact.takes_from or None,
            source="flex",
        )

    def _entry(self, fact: Fact) -> Adjustment:
        kinds = {
            "open": AdjustmentKind.OPENING_LOT,
            "split": AdjustmentKind.SPLIT,
            "in": AdjustmentKind.TRANSFER,
            "out": AdjustmentKind.TRANSFER,
            "expiry": AdjustmentKind.EXPIRY,
            "ended": AdjustmentKind.EXERCISE,
            "gave": AdjustmentKind.CONVERSION_OUT,
            "took": AdjustmentKind.CONVERSION_IN,
        }
        one = self.broker.instrument(fact.con_id)
        kind = kinds[fact.kind]
        if fact.kind == "ended" and fact.quantity > 0:
            kind = AdjustmentKind.ASSIGNMENT
        quantity = fact.quantity
        return Adjustment(
            id=fact.id,
            account=fact.account,
            instrument=f"ibkr:{fact.con_id}",
            kind=kind,
            time=fact.time,
            quantity=quantity,
            currency="USD",
            multiplier=one.factor,
            price=Decimal(0) if kind in (AdjustmentKind.EXPIRY, AdjustmentKind.EXERCISE, AdjustmentKind.ASSIGNMENT) else fact.price,
            basis=Basis.STATEMENT,
            numerator=Decimal(fact.numerator) if fact.kind in ("split", "gave", "took") else None,
            denominator=Decimal(fact.denominator) if fact.kind in ("split", "gave", "took") else None,
            takes_from=fact.takes_from or None,
            source="flex",
        )


def _instrument(one: Listed) -> Instrument:
    return Instrument(
        f"ibkr:{one.con_id}",
        one.local_symbol,
        one.sec_type,
        one.currency,
        one.factor,
        expiry=one.expiry,
        strike=one.strike if one.right else None,
        right=one.right,
        underlying=one.symbol if one.right else "",
    )
