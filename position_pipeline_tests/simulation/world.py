"""What happens: the steps of a plan, carried out on the simulated broker, each with the facts that it leaves.

Belongs here: one method a kind of step. Does not belong here: what the broker says of it (answering.py), what the facts come to (checker.py).
A step that is not possible, because of what the account holds by then, is passed over.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.model import Side
from position_pipeline.simulator.book import BookError
from position_pipeline_tests.simulation.answering import Answering
from position_pipeline_tests.simulation.facts import Fact
from position_pipeline_tests.simulation.market import ON
from position_pipeline_tests.simulation.plan import DAY, HOUR, MINUTE, OPTIONS, Plan, Step

if TYPE_CHECKING:
    from position_pipeline.simulator.ledger import Execution
    from position_pipeline.simulator.scenario import Instrument as Listed

ENDS_AT = 16 * HOUR + 20 * MINUTE
"""When the broker books what becomes of options on their last day."""


class World(Answering):
    """`played` are the kinds of the steps that were carried out."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.current = {name: name for name in self.listed}
        self.played: list[str] = []
        self._late: list[str] = []
        self._numbers = 0
        self._ended: set[str] = set()
        self._changed_at: dict[int, datetime] = {}

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
        made, _ = self.broker.execute(
            account, one.con_id, side, units, price, exec_id=f"{self.plan.seed:08x}.{self._numbers:06x}.01.01", late=late
        )
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
            if fact.kind == "trade"
            and fact.account == account
            and fact.quantity
            and fact.time > max(since, self._changed_at.get(fact.con_id, since))
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
        fact = Fact(
            made.family,
            "trade",
            made.account,
            made.con_id,
            made.time.astimezone(UTC),
            made.signed,
            made.price,
            made.commission,
            made.revision,
        )
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
        return any(
            ON[name][0] == what and name not in self._ended for name in OPTIONS if self.broker.book.holders(self.listed[name].con_id)
        )

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
        """Exercised by the holder, or assigned early: only what is in the money."""
        held = [
            name
            for name in OPTIONS
            if name not in self._ended and self._inside(name) and self.broker.book.holding(account, self.listed[name].con_id).quantity
        ]
        if not held:
            return False
        name = held[step.choice % len(held)]
        one = self.listed[name]
        count = abs(self.broker.book.holding(account, one.con_id).quantity)
        self._deliver(account, name, Decimal(1) if step.flag else count, listed=step.number > 0)
        return True

    def _deliver(self, account: str, name: str, contracts: Decimal, *, listed: bool) -> None:
        one, shares = self.listed[name], self.listed[ON[name][0]]
        held = self.broker.book.holding(account, one.con_id).quantity
        made, _ = self.broker.deliver(account, one.con_id, contracts, shares.con_id, listed=listed)
        id_ = f"ended-{account}-{one.con_id}-{self.seconds}"
        self._move(id_, "ended", account, one.con_id, contracts.copy_sign(-held))
        self._trade(made)
        self.facts[made.family] = replace(self.facts[made.family], takes_from=id_)
        self._changed_at[shares.con_id] = self.now

    def _inside(self, name: str) -> bool:
        """Whether an option is in the money."""
        one, price = self.listed[name], self.broker.market.prices[self.listed[ON[name][0]].con_id]
        return price > one.strike if one.right == "C" else price < one.strike

    def _end(self, name: str) -> None:
        """The last day is over: what is in the money is delivered, the rest is worth nothing."""
        one = self.listed[name]
        inside = self._inside(name)
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

    def _move(  # noqa: PLR0917  a fact in its own order
        self, id_: str, kind: str, account: str, con_id: int, quantity: Decimal = Decimal(0), price: Decimal | None = None, **more: object
    ) -> None:
        self._note(Fact(id_, kind, account, con_id, self.now, quantity, price, **more))  # type: ignore[arg-type]
        self._changed_at[con_id] = self.now
