"""A plan: what happens in some random days of one or two accounts, as a list of steps. A seed gives the same plan for ever.

Belongs here: drawing. Which kinds of event and fault there are at all is drawn anew for each seed, and how often: some histories have one
fault in every second answer, some none. Does not belong here: what a step does (world.py, faults.py). A step that the account does not
allow when its time has come (to bust what was never filled) is passed over, so that a plan stays valid when steps are taken out of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from position_pipeline_tests.simulation.faults import ANSWERS

DAY, HOUR, MINUTE = 86_400, 3_600, 60
OPEN, CLOSE = 9 * HOUR + 30 * MINUTE, 16 * HOUR
"""Seconds after midnight in New York."""

STOCKS = ("ALFA", "BETA", "GAMMA", "DELTA")
OPTIONS = ("CALL", "PUT", "NEAR")
OTHERS = ("FUTURE", "COIN")
KINDS = (
    "fill", "flip", "correct", "bust", "late_commission", "split", "deliver", "transfer_in", "transfer_out", "transfer_across",
    "rename", "reverse", "deposit", "price",
)  # fmt: skip
"""What may happen. Options expire, or are delivered, by themselves on their last day."""


@dataclass(frozen=True)
class Step:
    """`at` is seconds after midnight of the first day in New York. What the other fields mean depends on the kind."""

    at: int
    kind: str
    account: int = 0
    what: str = ""
    number: int = 0
    choice: int = 0
    flag: bool = False
    fault: str = ""


@dataclass(frozen=True)
class Plan:
    """`opening` is what each account holds before the first day: (account, what, quantity).

    `expiries` are the last days of the options, `strikes` how far from the market they are, in percent.
    """

    seed: int
    method: str
    accounts: int
    days: int
    opening: tuple[tuple[int, str, int], ...]
    steps: tuple[Step, ...]
    expiries: tuple[int, ...] = (0, 0, 0)
    strikes: tuple[int, ...] = (2, -2, 1)

    def without(self, first: int, last: int) -> Plan:
        """The plan with some steps taken out."""
        return replace(self, steps=self.steps[:first] + self.steps[last:])


def plan(seed: int) -> Plan:
    market, faulty = Random(f"{seed}/market"), Random(f"{seed}/faults")
    accounts, days = market.choice((1, 1, 2)), market.randint(2, 8)
    kinds = {kind: market.choice((0, 0, 1, 2, 4)) for kind in KINDS} | {"fill": market.choice((4, 8, 16))}
    traded = (
        *market.sample(STOCKS, market.randint(1, 4)),
        *market.sample(OPTIONS, market.randint(0, 3)),
        *market.sample(OTHERS, market.randint(0, 2)),
    )
    opening = tuple(
        (account, what, market.choice((1, 1, -1)) * market.choice((100, 200, 300)) if what in STOCKS else market.choice((-2, -1, 1, 2, 3)))
        for account in range(accounts)
        for what in traded
        if market.random() < 0.4
    )
    expiries = tuple(market.randint(0, days - 1) for _ in OPTIONS)
    strikes = tuple(market.choice((-12, -3, 3, 12)) for _ in OPTIONS)
    happens = [step for day in range(days) if day % 7 < 5 for step in _day(market, day, kinds, traded, accounts)]
    steps = [*happens, *_answers(faulty, days), *_outages(faulty, days)]
    if faulty.random() < 0.3:
        steps += [Step(day * DAY + faulty.choice((6, 7, 17)) * HOUR, "statement") for day in range(1, days) if faulty.random() < 0.4]
    ordered = sorted(steps, key=lambda step: (step.at, step.kind))
    return Plan(
        seed,
        market.choice(("fifo", "fifo", "fifo", "lifo", "average")),
        accounts,
        days,
        opening,
        tuple(_spread(ordered)),
        expiries,
        strikes,
    )


def _spread(steps: list[Step]) -> list[Step]:
    """No two steps at one second: the broker's times are whole seconds, and the order within one is not known to anybody."""
    last, spread = -1, []
    for step in steps:
        last = max(step.at, last + 1)
        spread.append(replace(step, at=last))
    return spread


def _day(draw: Random, day: int, kinds: dict[str, int], traded: tuple[str, ...], accounts: int) -> list[Step]:
    names = [kind for kind in kinds if kinds[kind]]
    weights = [kinds[kind] for kind in names]
    return [
        _step(draw, day, kind, draw.choice(traded), draw.randrange(accounts))
        for kind in draw.choices(names, weights, k=draw.choice((0, 2, 5, 10)))
    ]


def _step(draw: Random, day: int, kind: str, what: str, account: int) -> Step:
    at = day * DAY + draw.randint(OPEN, CLOSE - 1)
    if kind in ("split", "rename", "reverse"):
        at = day * DAY + draw.choice((4 * HOUR, 9 * HOUR, 17 * HOUR, 20 * HOUR))
    if kind.startswith("transfer") or kind == "deliver":
        at = day * DAY + draw.choice((2 * HOUR, 8 * HOUR, draw.randint(OPEN, CLOSE), 16 * HOUR + 20 * MINUTE, 19 * HOUR))
    lot = 100 if what in STOCKS and draw.random() < 0.7 else 1
    number = lot * draw.randint(1, 5) * draw.choice((1, -1))
    return Step(at, kind, account, what, number, draw.randrange(1_000), draw.random() < 0.5)


def _answers(draw: Random, days: int) -> list[Step]:
    """Looks at the broker: some in a row, because a list that comes late is there in the next one."""
    faults = {fault: draw.choice((0, 0, 0, 1, 3)) for fault in ANSWERS}
    share = draw.choice((0.0, 0.1, 0.3, 0.6))
    names, weights = [*faults], [weight + 0.001 for weight in faults.values()]
    steps = []
    for day in range(days):
        for _ in range(draw.choice((1, 3, 6))):
            at = day * DAY + draw.choice((draw.randint(0, DAY - 1), draw.randint(OPEN, CLOSE)))
            for number in range(draw.choice((1, 1, 2, 4))):
                fault = draw.choices(names, weights)[0] if draw.random() < share else ""
                steps.append(Step(at + number * 5 * MINUTE, "sync", choice=draw.randrange(1_000), fault=fault))
    return steps


def _outages(draw: Random, days: int) -> list[Step]:
    """Times in which the broker cannot be reached; many of them over midnight, when it forgets the executions of the day."""
    if draw.random() < 0.5:
        return []
    steps = []
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(days) * DAY + draw.choice((12 * HOUR, 15 * HOUR, draw.randint(0, DAY)))
        steps += [Step(start, "out"), Step(start + draw.choice((HOUR, 12 * HOUR, 20 * HOUR)), "back")]
    return steps
