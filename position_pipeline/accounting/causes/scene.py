"""What a cause looks at: one difference, the account around it, and the verdict that it may give.

Belongs here: facts that follow from both sides and the recent past - cash that moved, prices. Does not belong here: the sums behind them
(figures.py), what they speak for (the other modules of this package), which verdict counts (verdicts.py). The caller is in an `exact()`
block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.figures import CASH_LEAST, about, cash_of, cash_of_fill, cost_before, cost_of, implied_price
from position_pipeline.accounting.exact import ZERO
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis, Holding

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.circumstances import BookSide, CorporateAction, Policy, Recent, Standing
    from position_pipeline.accounting.model import AccountValue, BreakClass, Fill, Instrument, Snapshot

CLOCKS = timedelta(minutes=1)
"""The broker's clock and ours may differ by so much, and its times are whole seconds: a fill after the answer may seem to be before it."""

SHOWN_LATE = timedelta(days=1)
"""So late a broker's holdings may show what its statements date earlier."""

TICK = timedelta(microseconds=1)
OPTIONS = frozenset({"OPT", "FOP", "WAR", "IOPT"})
FUTURES = frozenset({"FUT", "CONTFUT"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One instrument of which both sides hold something else.

    `before`, `since` and `values` are of the last proven snapshot before the difference: holding, time, account values. `fills` are
    those of the instrument in the recent past, in order of time. `began_at` is when this difference was first seen, `seen` in how many
    proven snapshots, with this one, and `seen_whole` in how many complete ones; `stood_since` is when the sides began to differ, if by
    other figures then.
    """

    instrument: Instrument
    side: BookSide
    holding: Holding
    before: Holding | None
    since: datetime
    values: tuple[AccountValue, ...]
    began_at: datetime
    stood_since: datetime
    seen: int
    seen_whole: int
    fills: tuple[Fill, ...] = ()
    standing: Standing | None = None

    @property
    def id(self) -> str:
        return self.instrument.id

    @property
    def book(self) -> Decimal:
        return self.side.quantity

    @property
    def broker(self) -> Decimal:
        return self.holding.quantity

    @property
    def change(self) -> Decimal:
        """What the book lacks: broker less book."""
        return self.broker - self.book

    @property
    def gone(self) -> bool:
        return bool(self.book) and not self.broker

    def after(self, moment: datetime) -> Decimal:
        """What the fills in the book changed after a moment."""
        return sum((fill.signed_quantity for fill in self.fills if fill.time > moment), ZERO)

    def book_at(self, moment: datetime) -> Decimal:
        """What the book held at a moment."""
        return self.book - self.after(moment)

    @property
    def start(self) -> datetime:
        """When something happened that no fill tells: right after the sides last agreed, and before all fills since."""
        return self.since + TICK


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one cause makes of one or several differences.

    `signs` speak for it independently of each other, `against` contradicts it. `proposed` carries it out. `shown`: something that the
    snapshot or another account shows stands for what is gone. `asks`: a person decides, whatever the signs. `late`: a fill may still
    come by itself, so that it says nothing before the window is over. `clears_at`: until when what is missing may still come.
    """

    cls: BreakClass
    instruments: tuple[str, ...]
    says: str
    signs: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    proposed: tuple[Adjustment, ...] = ()
    proposal: str = ""
    shown: bool = False
    asks: bool = False
    late: bool = False
    clears_at: datetime | None = None

    @property
    def weight(self) -> int:
        """How many signs there are for it beyond those against it."""
        return len(self.signs) - len(self.against)

    @property
    def strong(self) -> bool:
        """Whether it may be carried out without asking."""
        return len(self.signs) > 1 and not self.against and not self.asks and bool(self.proposed)


@dataclass(frozen=True)
class Scene:
    """One account at one proven snapshot. `differences` are keyed by instrument, in its order."""

    snapshot: Snapshot
    book: Mapping[str, BookSide]
    held: Mapping[str, Holding]
    instruments: Mapping[str, Instrument]
    recent: Recent
    policy: Policy
    differences: Mapping[str, Difference] = field(default_factory=dict)

    def actions(self, instrument: str, kind: BreakClass, since: datetime) -> list[CorporateAction]:
        """Known actions of an instrument, the latest first, of those that came into effect after `since`.

        A broker may show one a day late. What both sides agreed on long after it has it already, and another difference is another matter.
        """
        found = (each for each in self.recent.actions if (each.instrument, each.kind) == (instrument, kind))
        current = (each for each in found if since - SHOWN_LATE <= each.effective_at <= self.snapshot.taken_at)
        return sorted(current, key=lambda each: each.effective_at, reverse=True)

    def prices(self, instrument: str) -> list[Decimal]:
        """The market prices of a unit that are known, the latest first: now, when last proven, before the difference, and otherwise."""
        side, difference = self.book.get(instrument), self.differences.get(instrument)
        holdings = (
            self.held.get(instrument),
            side.before if side is not None else None,
            difference.before if difference is not None else None,
        )
        known = [each.market_price for each in holdings if each is not None and each.market_price]
        return [*known, *(price for price in [self.recent.prices.get(instrument)] if price)]

    def price(self, instrument: str) -> Decimal | None:
        """The last known market price of a unit; None where none is known."""
        return next(iter(self.prices(instrument)), None)

    def worth(self, difference: Difference) -> Decimal | None:
        """What trading the missing units brings, at the price that the broker's average implies or else the market's."""
        price = implied_price(difference) or self.price(difference.id)
        return None if price is None else -difference.change * price * difference.instrument.multiplier

    def cash(self, difference: Difference) -> Decimal | None:
        """Cash that came since the sides agreed, less what the fills in the book brought, in the instrument's currency; None: not known."""
        currency = difference.instrument.currency
        key = (currency, difference.since)
        if key not in self._cash_since:
            now, then = cash_of(self.snapshot.values, currency), cash_of(difference.values, currency)
            self._cash_since[key] = None if now is None or then is None else self._less_fills(now - then, currency, difference.since)
        return self._cash_since[key]

    @cached_property
    def _cash_since(self) -> dict[tuple[str, datetime], Decimal | None]:
        return {}

    def _less_fills(self, moved: Decimal, currency: str, since: datetime) -> Decimal | None:
        fills = [fill for fill in self.recent.fills if fill.currency == currency and since < fill.time <= self.snapshot.taken_at]
        if any(self._is_future(fill.instrument) for fill in fills):
            return None
        return moved - sum((cash_of_fill(fill) for fill in fills), ZERO)

    @cached_property
    def together(self) -> dict[str, Decimal]:
        """What trading all missing units of each currency brings, as far as prices are known."""
        sums: dict[str, Decimal] = {}
        for each in self.differences.values():
            sums[each.instrument.currency] = sums.get(each.instrument.currency, ZERO) + (self.worth(each) or ZERO)
        return sums

    @cached_property
    def fresh(self) -> list[tuple[Difference, Decimal]]:
        """What the book had nothing of when the sides agreed, and how much of it came without a fill."""
        came = ((each, each.broker - each.after(each.since)) for each in self.differences.values() if each.broker)
        return [(each, units) for each, units in came if units and not each.book_at(each.since)]

    @cached_property
    def gained(self) -> dict[str, Decimal]:
        """By how much the broker's cost rose beyond the known fills, of what has a cost on both sides."""
        pairs = ((each.id, cost_of(each.holding), self.costs_before[each.id]) for each in self.differences.values())
        return {instrument: now - then for instrument, now, then in pairs if now and then is not None}

    @cached_property
    def costs_before(self) -> dict[str, Decimal | None]:
        return {each.id: cost_before(each) for each in self.differences.values()}

    def stood_still(self, difference: Difference) -> bool:
        """Whether cash is known not to have moved, where a trade of this size would have moved it; that of a future moves none.

        A broker's account values may be minutes older than its holdings, so that only a second answer says it.
        """
        if difference.instrument.sec_type in FUTURES or difference.seen < 2:
            return False
        cash, worth = self.cash(difference), self.worth(difference)
        return cash is not None and worth is not None and abs(worth) > 10 * CASH_LEAST and about(cash, ZERO, ZERO, CASH_LEAST)

    def moving(self, difference: Difference) -> bool:
        """Whether the instrument trades so close to the answer that nobody can say which fills the answer has."""
        return any(fill.time >= self.snapshot.taken_at - CLOCKS for fill in difference.fills)

    def _is_future(self, instrument: str) -> bool:
        known = self.instruments.get(instrument)
        return known is not None and known.sec_type in FUTURES

    def adjustment(self, kind: AdjustmentKind, instrument: Instrument, key: str, time: datetime, **figures: object) -> Adjustment:
        """An entry that was inferred from this snapshot. The same `key` gives the same id, so that a rerun adds nothing."""
        values: dict[str, object] = {
            "quantity": ZERO,
            "basis": Basis.BROKER if figures.get("price") is not None else Basis.UNKNOWN,
            "source": f"{self.snapshot.broker} snapshot",
        }
        return Adjustment(
            id=f"{kind}:{self.snapshot.account}:{instrument.id}:{key}",
            account=self.snapshot.account,
            instrument=instrument.id,
            kind=kind,
            time=time,
            currency=instrument.currency,
            multiplier=instrument.multiplier,
            **(values | figures),  # type: ignore[arg-type]
        )
