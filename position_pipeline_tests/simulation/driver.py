"""One history through the real store: syncs as the plan says, heals, and asks the checker.

Belongs here: what is called when, and reading the tables that the checker compares. Does not belong here: what must hold (checker.py).

Healing has three stages: clean answers alone; a statement of everything; everything once more. After the first, whatever differs has a
break with a cause; after the second the book is the true one to the last lot, and no break is open; the third changes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.extras import RealDictCursor

from position_pipeline.accounting.circumstances import Policy
from position_pipeline.store import Store
from position_pipeline.sync_pass import SyncPass
from position_pipeline.verify import verify
from position_pipeline_tests.simulation import checker
from position_pipeline_tests.simulation.faults import UNPROVEN, UNTRUE, answer
from position_pipeline_tests.simulation.plan import DAY, HOUR, MINUTE, Plan
from position_pipeline_tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from position_pipeline.brokers import Capture

Rows = list[dict[str, Any]]

_TABLES = {
    "positions": "SELECT * FROM positions WHERE account = ANY(%s) ORDER BY account, instrument",
    "lots": "SELECT * FROM lots WHERE account = ANY(%s) ORDER BY account, instrument, seq",
    "closes": "SELECT * FROM closes WHERE account = ANY(%s) AND superseded_at IS NULL ORDER BY account, instrument, id",
    "breaks": "SELECT * FROM breaks WHERE account = ANY(%s) AND status <> 'resolved' ORDER BY account, instrument, subject",
    "inferred": "SELECT * FROM adjustments WHERE account = ANY(%s) AND held IS NOT NULL ORDER BY account, instrument, time",
    "executions": "SELECT DISTINCT ON (account, execution_id) * FROM executions WHERE account = ANY(%s) ORDER BY account, execution_id, revision DESC",
    "stated": "SELECT account, id FROM adjustments WHERE account = ANY(%s) AND source = 'flex'",
}


POLICY = Policy()


class Killed(BaseException):
    """The process ends in the middle of a sync."""


@dataclass
class Played:
    """What one history did. It failed if there are `violations`."""

    plan: Plan
    events: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    verdicts: set[str] = field(default_factory=set)
    """The ids of what was booked as certain, each of which was held against the truth when it was booked."""


@dataclass
class _Adapter:
    """The world as a `Broker`, with what is wrong with its next answer."""

    world: World
    name: str
    where: str = "the simulated broker"
    accounts: tuple[str, ...] = ()
    fault: str = ""
    choice: int = 0

    def capture(self, accounts: Sequence[str] | None, timeout: float) -> Capture:
        return answer(self.world, self.fault, self.choice)


def play(url: str, plan: Plan, *, policy: Policy = POLICY) -> Played:
    """Play one plan in a database in which its seed has not been played before."""
    return _Driver(url, plan, policy).play()


class _Driver:
    def __init__(self, url: str, plan: Plan, policy: Policy) -> None:
        self.url, self.plan, self.policy = url, plan, policy
        self.world = World(plan)
        self.adapter = _Adapter(self.world, f"simulated-{plan.seed}", accounts=self.world.accounts)
        self.played = Played(plan)
        self.out = self.misled = False
        self.store = Store(url)
        self.tables = psycopg2.connect(url)
        self.tables.autocommit = True

    def play(self) -> Played:
        try:
            for step in self.plan.steps:
                self.world.advance_to(step.at)
                if step.kind == "sync":
                    self._sync("away" if self.out else step.fault, step.choice)
                elif step.kind in ("out", "back"):
                    self.out = step.kind == "out"
                elif step.kind == "statement":
                    self._statement(until_midnight=True)
                else:
                    self.world.play(step)
                if self.played.violations:
                    return self.played
            self._heal()
        finally:
            self.played.events.update(self.world.played)
            self.store.close()
            self.tables.close()
        return self.played

    # -- while it runs

    def _sync(self, fault: str = "", choice: int = 0) -> None:
        self.played.faults[fault or "none"] += 1
        self.adapter.fault, self.adapter.choice = fault, choice
        before = self._rows("positions") if fault in UNPROVEN else []
        one = SyncPass(
            self.store, self.adapter, self.world.accounts, trigger="schedule", timeout=5, cost_method=self.plan.method, policy=self.policy
        )
        try:
            with one:
                one.record()
                if fault == "killed":
                    raise Killed  # noqa: TRY301  it is what happens, and no error of this function
                one.reconcile()
        except Killed:
            self.store.close()
            self.store = Store(self.url)
            return
        self.played.marks.update(result.outcome for result in one.results)
        failed = [(result.account, result.errors) for result in one.results if result.outcome == "failed" and fault != "away"]
        self._violated([f"failed: {each}" for each in failed])
        self.misled = self.misled or fault in UNTRUE
        self._judge()
        if fault in UNPROVEN:
            after = self._rows("positions")
            self._violated([f"touched: an answer that was {fault} changed a position"] if before != after else [])
        elif not fault:
            self._violated(checker.silent_differences(self._truth(), self._rows("positions"), self._rows("breaks")))

    def _judge(self) -> None:
        """What was booked as certain just now is true, whatever comes later: a statement may be weeks away.

        After an answer that was untrue and looked whole nobody can tell; then it has to be gone once the true ones have come.
        """
        if self.misled:
            return
        booked = [row for row in self._rows("inferred") if row["id"] not in self.played.verdicts]
        self.played.verdicts.update(row["id"] for row in booked)
        self._violated(checker.wrong_verdicts(self.world.facts.values(), booked))

    def _statement(self, *, until_midnight: bool) -> None:
        midnight = self.world.now - timedelta(seconds=self.world.seconds % DAY)
        with self.store.whole_import():
            for account in self.world.accounts:
                fills, adjustments = self.world.statement(account, midnight if until_midnight else None)
                self.store.add_account(account, "ibkr", base_currency="USD", cost_method=self.plan.method)
                self.store.record(account, fills, adjustments, list(self.world.instruments.values()))
        self.played.marks["statements"] += 1

    # -- in the end

    def _heal(self) -> None:
        start = max(self.world.seconds, self.plan.days * DAY) // DAY * DAY + DAY + 10 * HOUR
        self._clean_answers(start)
        untold = self._untold()
        self._violated(checker.breaks_without_cause(self._rows("breaks"), untold))
        standing = [row for row in self._rows("inferred") if row["reversed_at"] is None]
        self._violated(checker.wrong_verdicts(self.world.facts.values(), standing))
        if not untold:
            self.played.marks["exact without a statement"] += 1
            self._exact()
        self.played.marks.update(f"healed by {row['kind']}" for row in self._rows("inferred") if row["reversed_at"] is None)
        if self.played.violations:
            return
        self._statement(until_midnight=False)
        self._clean_answers(start + 2 * HOUR)
        self._exact()
        if self.played.violations:
            return
        before = self._image()
        self._statement(until_midnight=False)
        self._sync()
        after = self._image()
        self._violated([f"repeated: {table} changed when everything came once more" for table in before if before[table] != after[table]])
        self._violated([f"verify: {each}" for each in verify(self.store, self.world.accounts).differences])

    def _clean_answers(self, start: int) -> None:
        for number in range(4):
            self.world.advance_to(start + number * 10 * MINUTE)
            self._sync()

    def _exact(self) -> None:
        truth = self._truth()
        self._violated(checker.wrong_figures(truth, *(self._rows(table) for table in ("positions", "lots", "closes"))))
        self._violated(checker.breaks_without_cause(self._rows("breaks"), set()))
        self._violated(self._model_differs(truth))

    def _model_differs(self, truth: checker.Truth) -> list[str]:
        """The simulator's own book says the same: its model and the brute force are two."""
        held = {
            (account, int(each.instrument.partition(":")[2])): each.quantity
            for account in self.world.accounts
            for each in self.world.holdings(account)
        }
        return [
            f"model: {key} simulator {held.get(key, 0)}, true {truth.quantity(key)}"
            for key in truth.lots
            if held.get(key, 0) != truth.quantity(key)
        ]

    # -- reading

    def _truth(self) -> checker.Truth:
        factors = {con_id: one.multiplier for con_id, one in self.world.instruments.items()}
        return checker.true_book(self.world.facts.values(), factors, self.plan.method)

    def _untold(self) -> set[checker.Key]:
        """The instruments of which the book has not all facts, by account."""
        known = {(row["account"], row["execution_id"]): row for row in self._rows("executions")}
        stated = {(row["account"], row["id"]) for row in self._rows("stated")}
        found = set()
        for fact in self.world.facts.values():
            row = known.get((fact.account, fact.id))
            told = (
                (fact.account, fact.id) in stated
                if fact.kind != "trade"
                else row and row["revision"] == fact.revision and row["commission"] is not None
            )
            if not told or (fact.takes_from and (fact.account, fact.takes_from) not in stated):
                found.add((fact.account, fact.con_id))
        return found

    def _rows(self, table: str) -> Rows:
        with self.tables.cursor(cursor_factory=RealDictCursor) as cursor:
            cursor.execute(_TABLES[table], (list(self.world.accounts),))
            return [dict(row) for row in cursor.fetchall()]

    def _image(self) -> dict[str, Any]:
        passing = {"last_synced_at", "priced_at", "last_seen_at", "seen"}
        return {
            table: [{k: v for k, v in row.items() if k not in passing} for row in self._rows(table)]
            for table in ("positions", "lots", "closes", "breaks")
        }

    def _violated(self, found: list[str]) -> None:
        at = self.world.now.astimezone(self.world.broker.zone)
        self.played.violations += [f"{each} [at {at:%a %d %H:%M:%S}]" for each in found]
