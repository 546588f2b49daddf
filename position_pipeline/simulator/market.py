"""Prices: a seeded walk that keeps to the tick, and daily bars made from it.

Here: what one unit costs now and what it cost on past days. Not here: who holds it (`book.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from random import Random

from position_pipeline.simulator.scenario import Instrument, Scenario


@dataclass(frozen=True)
class Bar:
    day: date
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


def on_tick(price: Decimal, tick: Decimal) -> Decimal:
    """The nearest price that the tick size allows, never below one tick."""
    return max((price / tick).quantize(Decimal(1), ROUND_HALF_EVEN), Decimal(1)) * tick


class Market:
    """The price of each instrument. The walk is pulled back to its anchor, so that it stays near it for ever."""

    def __init__(self, scenario: Scenario) -> None:
        self._seed = scenario.seed
        self._instruments = {one.con_id: one for one in scenario.instruments}
        self._moving = [one for one in scenario.instruments if one.volatility > 0]
        self._anchors = {one.con_id: one.price for one in scenario.instruments}
        self.prices = dict(self._anchors)
        self.steps = 0

    def step(self) -> list[int]:
        """One step of the walk; the instruments whose price changed."""
        self.steps += 1
        return [one.con_id for one in self._moving if self._move(one)]

    def _move(self, one: Instrument) -> bool:
        before, anchor = self.prices[one.con_id], self._anchors[one.con_id]
        # A generator per instrument and step: the walk needs no state but the last price, and survives a restart.
        noise = Random(f"{self._seed}/{one.con_id}/{self.steps}").gauss(0.0, 1.0)  # noqa: S311 - no secret
        pull = (anchor - before) / 50
        moved = before + pull + before * one.volatility * Decimal(f"{noise:.6f}")
        self.prices[one.con_id] = on_tick(moved, one.tick)
        return self.prices[one.con_id] != before

    def set(self, con_id: int, price: Decimal) -> None:
        self.prices[con_id] = price

    def split(self, con_id: int, ratio: Decimal) -> None:
        """After a split of `ratio` new for one old, price and anchor fall by the ratio."""
        tick = self._instruments[con_id].tick
        self.prices[con_id] = on_tick(self.prices[con_id] / ratio, tick)
        self._anchors[con_id] = on_tick(self._anchors[con_id] / ratio, tick)

    def become(self, con_id: int, into: int, ratio: Decimal) -> None:
        """Another instrument takes over at the price of one, for `ratio` units of it for one."""
        tick = self._instruments[into].tick
        self.prices[into] = on_tick(self.prices[con_id] / ratio, tick)
        self._anchors[into] = on_tick(self._anchors[con_id] / ratio, tick)

    def daily_bars(self, con_id: int, last_day: date, days: int) -> list[Bar]:
        """Bars up to `last_day`: the same for a day whenever they are asked for. Crypto trades on every day."""
        one = self._instruments[con_id]
        first = last_day - timedelta(days=days - 1)
        wanted = [first + timedelta(days=n) for n in range(days)]
        return [self._bar(one, day) for day in wanted if one.sec_type == "CRYPTO" or day.weekday() < 5]

    def _bar(self, one: Instrument, day: date) -> Bar:
        random = Random(f"{self._seed}/{one.con_id}/{day.isoformat()}")  # noqa: S311 - no secret
        anchor = self._anchors[one.con_id]
        points = sorted(on_tick(anchor * (1 + Decimal(f"{random.gauss(0, 0.01):.5f}")), one.tick) for _ in range(4))
        opened, closed = (points[1], points[2]) if random.random() < 0.5 else (points[2], points[1])
        return Bar(day, opened, points[3], points[0], closed, Decimal(random.randrange(1_000, 900_000)))

    def state(self) -> dict[str, object]:
        """What a restart needs, as JSON values."""
        shown = {str(key): [str(price), str(self._anchors[key])] for key, price in self.prices.items()}
        return {"steps": self.steps, "prices": shown}

    def restore(self, state: Mapping[str, object]) -> None:
        self.steps = int(str(state["steps"]))
        prices = state["prices"]
        assert isinstance(prices, dict)
        for key, (price, anchor) in prices.items():
            if int(key) in self.prices:
                self.prices[int(key)], self._anchors[int(key)] = Decimal(price), Decimal(anchor)
