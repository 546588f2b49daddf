"""The simulated broker's own truth: accounts, what they hold, what was executed.

Here: which execution exists, in which version, and what the account holds because of it. Not here: the arithmetic
(`ledger.py`), money totals (`values.py`), what a client gets to see (`server.py`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Any

from position_pipeline.simulator.commissions import commission_for
from position_pipeline.simulator.ledger import ZERO, End, Execution, Holding, Ledger, Move, Split
from position_pipeline.simulator.scenario import FUTURES, Account, Instrument, Scenario


class BookError(ValueError):
    """Something was asked of the simulated broker that its book does not allow."""


class Book:
    def __init__(self, scenario: Scenario, zone: tzinfo) -> None:
        self.instruments = {one.con_id: one for one in scenario.instruments}
        self.accounts = {one.id: one for one in scenario.accounts}
        self._zone = zone
        self._ledgers: dict[str, dict[int, Ledger]] = {name: {} for name in self.accounts}
        self._listed: dict[str, Execution] = {}  # every version of every execution, in order of their coming
        for account in scenario.accounts:
            for opening in account.positions:
                start = Holding(opening.quantity, opening.quantity * opening.average_cost)
                self._ledgers[account.id][opening.con_id] = self._new_ledger(opening.con_id, start)

    def _new_ledger(self, con_id: int, start: Holding) -> Ledger:
        one = self.instruments[con_id]
        return Ledger(start, one.factor, daily_settled=one.sec_type in FUTURES)

    def ledger(self, account: str, con_id: int) -> Ledger:
        ledgers = self._ledgers[self.account(account).id]
        if con_id not in ledgers:
            ledgers[con_id] = self._new_ledger(con_id, Holding())
        return ledgers[con_id]

    def account(self, name: str) -> Account:
        if name not in self.accounts:
            raise BookError(f"no account {name!r}; there are {', '.join(self.accounts)}")
        return self.accounts[name]

    def ledgers(self, account: str) -> Mapping[int, Ledger]:
        return self._ledgers.get(account, {})

    def holding(self, account: str, con_id: int) -> Holding:
        return self.ledger(account, con_id).holding

    def held(self, account: str) -> Iterator[tuple[Instrument, Holding]]:
        """What is held now; flat instruments are left out."""
        for con_id, ledger in self.ledgers(account).items():
            if ledger.holding.quantity:
                yield self.instruments[con_id], ledger.holding

    def closed(self, account: str) -> Iterator[Instrument]:
        """What was held and is flat now."""
        for con_id, ledger in self.ledgers(account).items():
            if not ledger.holding.quantity:
                yield self.instruments[con_id]

    def record(self, fill: Execution) -> Execution:
        if fill.exec_id in self._listed:
            raise BookError(f"execution {fill.exec_id} exists already")
        fill = replace(fill, time=fill.time.astimezone(self._zone))
        self.ledger(fill.account, fill.con_id).add(fill)
        self._listed[fill.exec_id] = fill
        return fill

    def execution(self, exec_id: str) -> Execution:
        try:
            return self._listed[exec_id]
        except KeyError:
            raise BookError(f"no execution {exec_id!r}") from None

    def latest(self, exec_id: str) -> Execution:
        """The highest version of the fill that `exec_id` is a version of."""
        family = self.execution(exec_id).family
        return max((one for one in self._listed.values() if one.family == family), key=lambda one: one.revision)

    def _changeable(self, exec_id: str) -> Execution:
        """The highest version of a fill, if what it had cost has not gone into another instrument: a broker does not follow it there."""
        last = self.latest(exec_id)
        if self.ledger(last.account, last.con_id).has_passed(last.exec_id):
            raise BookError(f"execution {exec_id} cannot be changed: its units have become something else since")
        return last

    def correct(self, exec_id: str, changes: Mapping[str, Any]) -> Execution:
        """A new version: the same order, the next suffix. It takes the old one's place in the account's history."""
        old = self._changeable(exec_id)
        corrected = replace(old, exec_id=f"{old.family}.{old.revision + 1:02d}", **changes)
        if "commission" not in changes and ("quantity" in changes or "price" in changes):
            corrected = replace(corrected, commission=self._commission(corrected))
        if "quantity" in changes:
            corrected = replace(corrected, cumulative=old.cumulative - old.quantity + corrected.quantity)
        self.ledger(old.account, old.con_id).substitute(old.exec_id, corrected)
        self._listed[corrected.exec_id] = corrected
        return corrected

    def _commission(self, fill: Execution) -> Decimal:
        return commission_for(self.instruments[fill.con_id], fill.quantity, fill.price)

    def remove(self, exec_id: str) -> Execution:
        """A bust that leaves nothing behind: the fill is no longer listed, in no version."""
        last = self._changeable(exec_id)
        self.ledger(last.account, last.con_id).substitute(last.exec_id, None)
        for each in [one for one in self._listed.values() if one.family == last.family]:
            del self._listed[each.exec_id]
        return last

    def report_commission(self, exec_id: str, commission: Decimal | None) -> Execution:
        """The commission is known from now on; another amount than expected changes cost and realised P&L."""
        old = self.execution(exec_id) if commission is None else self._changeable(exec_id)
        known = replace(old, reported=True, commission=old.commission if commission is None else commission)
        self._listed[exec_id] = known
        if self.latest(exec_id).exec_id == exec_id:
            self.ledger(old.account, old.con_id).substitute(exec_id, known)
        return known

    def split(self, con_id: int, ratio: Decimal, moment: datetime) -> list[str]:
        """Split in every account; the accounts that hold the instrument."""
        for name in self._ledgers:
            if con_id in self._ledgers[name]:
                self._ledgers[name][con_id].add(Split(ratio, moment.astimezone(self._zone)))
        return self.holders(con_id)

    def transfer(self, account: str, con_id: int, quantity: Decimal, cost: Decimal | None, moment: datetime) -> None:
        """Units come at a total cost (negative for a short), or go at their average. No execution, no cash."""
        self._move(account, con_id, Move(quantity, cost, moment.astimezone(self._zone)))

    def expire(self, con_id: int, moment: datetime) -> list[str]:
        """Nothing is left of an instrument in any account, and nothing is paid for it; the accounts that held it."""
        holders = self.holders(con_id)
        for account in holders:
            self.ledger(account, con_id).add(End(-self.holding(account, con_id).quantity, moment.astimezone(self._zone)))
        return holders

    def convert(self, con_id: int, into: int, ratio: Decimal, moment: datetime) -> list[str]:
        """In every account all units of one instrument become `ratio` times as many of another, at what they cost; who held any."""
        holders = self.holders(con_id)
        for account in holders:
            quantity, cost = self._pass_on(account, con_id, self.holding(account, con_id).quantity, moment)
            self._move(account, into, Move(quantity * ratio, cost, moment.astimezone(self._zone)))
        return holders

    def end_option(self, account: str, con_id: int, contracts: Decimal, moment: datetime) -> Decimal:
        """Some contracts (unsigned) leave with an assignment or exercise; what they had brought, which goes with their shares."""
        held = self.holding(account, con_id).quantity
        if not 0 < contracts <= abs(held):
            raise BookError(f"{contracts} contracts cannot end: {account} holds {held}")
        return -self._pass_on(account, con_id, contracts.copy_sign(held), moment)[1]

    def _pass_on(self, account: str, con_id: int, quantity: Decimal, moment: datetime) -> tuple[Decimal, Decimal]:
        """Units go, for something else; (how many, what they had cost)."""
        before = self.holding(account, con_id).cost
        self._move(account, con_id, Move(-quantity, None, moment.astimezone(self._zone), passed=True))
        return quantity, before - self.holding(account, con_id).cost

    def _move(self, account: str, con_id: int, entry: Move) -> None:
        try:
            self.ledger(account, con_id).add(entry)
        except ValueError as error:
            raise BookError(f"{account}: {error}") from None

    def holders(self, con_id: int) -> list[str]:
        """The accounts that hold some of an instrument."""
        return [name for name in self._ledgers if self.ledgers(name).get(con_id, _FLAT).holding.quantity]

    def executions(self, *, corrections: str = "both") -> list[Execution]:
        """Every listed execution, oldest first; with `latest`, a corrected one only in its last version."""
        listed = [one for one in self._listed.values() if one.listed]
        if corrections == "both":
            return listed
        last = {one.family: one.exec_id for one in listed}
        return [one for one in listed if last[one.family] == one.exec_id]

    def realized(self, fill: Execution) -> Decimal | None:
        """Realised P&L of one execution; None where it only opened, or where a later version took its place."""
        return self.ledger(fill.account, fill.con_id).realized.get(fill.exec_id)

    def forget_before(self, moment: datetime) -> None:
        for ledgers in self._ledgers.values():
            for ledger in ledgers.values():
                ledger.forget_before(moment)
        self._listed = {key: one for key, one in self._listed.items() if one.time >= moment}

    def entries(self) -> Iterator[tuple[str, int, Ledger]]:
        for account, ledgers in self._ledgers.items():
            for con_id, ledger in ledgers.items():
                yield account, con_id, ledger

    def listed(self) -> dict[str, Execution]:
        """Every version by exec id: for the state file, which puts them back as they were."""
        return self._listed


_FLAT = Ledger(Holding(ZERO, ZERO), Decimal(1))
