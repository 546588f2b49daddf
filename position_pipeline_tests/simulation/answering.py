"""The simulated broker of one plan, and what it says: answers and statements in the product's values, out of the list of all facts.

Belongs here: the state of a history, and telling it. Does not belong here: what happens (world.py), what may be wrong with an answer
(faults.py). The broker's own figures - quantities, averages, cash - are the simulator's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.model import AccountValue, Snapshot, SnapshotStatus
from position_pipeline.brokers import Capture
from position_pipeline.simulator.broker import Broker, Options
from position_pipeline.simulator.faults import Faults
from position_pipeline.simulator.play import Clock
from position_pipeline.simulator.scenario import Account, Scenario
from position_pipeline_tests.simulation import telling
from position_pipeline_tests.simulation.facts import Fact
from position_pipeline_tests.simulation.market import START, ZONE, market, openings

if TYPE_CHECKING:
    from position_pipeline.accounting.model import Adjustment, Fill, Holding
    from position_pipeline.simulator.scenario import Opening
    from position_pipeline_tests.simulation.plan import Plan

    State = dict[str, tuple[tuple[Holding, ...], tuple[AccountValue, ...]]]
    """By account: what it holds, and its totals."""

SHOWN = ("CashBalance", "TotalCashBalance", "NetLiquidation", "GrossPositionValue", "ExchangeRate")
"""The totals that reconciliation looks at; a real answer has some hundred."""


class Answering:
    """`facts` are all that has happened, by id; `listed` what can be traded, by the names of the plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.accounts = tuple(f"S{plan.seed}{letter}" for letter in "AB"[: plan.accounts])
        self.listed = market(plan)
        held = [openings(plan, number, self.listed) for number in range(plan.accounts)]
        scenario = Scenario(
            instruments=tuple(self.listed.values()),
            accounts=tuple(
                Account(name, cash={"USD": Decimal(500_000)}, positions=several) for name, several in zip(self.accounts, held, strict=True)
            ),
            price_every=Decimal(0),
            seed=plan.seed,
        )
        self.broker = Broker(scenario, Clock(0, START.astimezone(UTC)), Faults(), Options())
        self.instruments = {one.con_id: telling.instrument(one) for one in self.listed.values()}
        self.facts: dict[str, Fact] = {}
        self._states: list[tuple[datetime, State]] = []
        for account, several in zip(self.accounts, held, strict=True):
            for each in several:
                self._note(self._opened(account, each))
        self._remember()

    def _opened(self, account: str, held: Opening) -> Fact:
        at, price = self.now - timedelta(days=1), held.average_cost / self.factor(held.con_id)
        return Fact(f"open-{account}-{held.con_id}", "open", account, held.con_id, at, held.quantity, price)

    def factor(self, con_id: int) -> Decimal:
        return self.broker.instrument(con_id).factor

    @property
    def now(self) -> datetime:
        return self.broker.now().astimezone(UTC)

    @property
    def seconds(self) -> int:
        """Since midnight of the first day in New York."""
        return round((self.now - START).total_seconds())

    def _note(self, fact: Fact) -> None:
        self.facts[fact.id] = fact

    # -- what the broker says

    def holdings(self, account: str) -> tuple[Holding, ...]:
        held = self.broker.book.held(account)
        return tuple(telling.holding(one, holding, self.broker.valuer.figures(one, holding)) for one, holding in held)

    def _values(self, account: str) -> tuple[AccountValue, ...]:
        rows = self.broker.valuer.values(account, self.now.astimezone(ZONE).date())
        return tuple(AccountValue(row.tag, row.value, row.currency) for row in rows if row.tag in SHOWN)

    def _state(self) -> State:
        return {account: (self.holdings(account), self._values(account)) for account in self.accounts}

    def _remember(self) -> None:
        """Something has happened: what is true now may be told later, by a list that is late."""
        self._states.append((self.now, self._state()))

    def capture(self, holdings_at: datetime | None = None) -> Capture:
        """What the broker answers now; with `holdings_at` its list of positions is as old as that."""
        state = self._state()
        if holdings_at is not None:
            state = next((each for at, each in reversed(self._states) if at <= holdings_at), self._states[0][1])
        snapshots = tuple(
            Snapshot(account, "ibkr", self.now, SnapshotStatus.COMPLETE, holdings, values, source_at=self.now)
            for account, (holdings, values) in state.items()
        )
        fills = tuple(telling.listed_fill(one, self.factor(one.con_id)) for one in self.broker.listed())
        return Capture("ibkr", datetime.now(UTC), snapshots, fills, tuple(self.instruments.values()))

    def statement(self, account: str, until: datetime | None = None) -> tuple[list[Fill], list[Adjustment]]:
        """What a statement says of the time until a moment: every fill in its last revision, and everything else that happened."""
        told = [fact for fact in self.facts.values() if fact.account == account and (until is None or fact.time < until)]
        fills = [telling.stated_fill(fact, self.factor(fact.con_id)) for fact in told if fact.kind == "trade"]
        return fills, [telling.stated_adjustment(fact, self.factor(fact.con_id)) for fact in told if fact.kind != "trade"]
