"""One option that may have ended: how many are gone, what they deliver, whether their last day is over, and how the underlying stands.

Belongs here: facts of one option. Does not belong here: which end explains a group (deliveries.py, options.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.expiries import closing_of
from position_pipeline.accounting.causes.scene import OPTIONS
from position_pipeline.accounting.exact import ZERO, ratio
from position_pipeline.accounting.model import AdjustmentKind

if TYPE_CHECKING:
    from datetime import datetime

    from position_pipeline.accounting.causes.scene import Difference, Scene
    from position_pipeline.accounting.model import Adjustment, Instrument

CLEAR = Decimal("0.01")
"""An underlying within this share of the strike may have ended on either side of it."""

_INDICES = frozenset(
    {"SPX", "SPXW", "XSP", "NDX", "NDXP", "XND", "RUT", "RUTW", "MRUT", "VIX", "VIXW", "DJX", "OEX", "XEO", "ESTX50", "DAX"}
)


@dataclass(frozen=True, slots=True)
class End:
    """One option of a group: `count` of it are gone (unsigned), and `shares` stand for one, with the sign of their change.

    `due` is when its last day was over, None while it is not; and where some were gone `early`, which the end of the day does not explain.
    """

    it: Difference
    count: Decimal
    shares: Decimal
    due: datetime | None
    early: bool = False

    @property
    def at(self) -> datetime:
        """When it ended: with its last day, or later if the book came to hold it only later, as where first contact is on a weekend."""
        opened = self.it.side.opened_at
        return self.it.start if self.due is None or (opened is not None and opened > self.due) else self.due

    @property
    def strike(self) -> Decimal:
        assert self.it.instrument.strike is not None
        return self.it.instrument.strike


def end_of(scene: Scene, it: Difference) -> End | None:
    """The end that a difference may be: an option that is gone, or is fewer."""
    instrument = it.instrument
    towards_zero = bool(it.book) and (it.change > 0) != (it.book > 0) and abs(it.change) <= abs(it.book)
    if instrument.sec_type not in OPTIONS or instrument.strike is None or not towards_zero:
        return None
    due = closing_of(instrument)
    direction = 1 if (instrument.right[:1] == "C") == (it.book > 0) else -1
    over = due is not None and due <= scene.snapshot.taken_at and not any(fill.time > due for fill in it.fills)
    early = due is not None and it.stood_since < due and not settles_in_cash(scene, instrument)
    return End(it, abs(it.change), direction * instrument.multiplier, due if over and not early else None, over and early)


def settles_in_cash(scene: Scene, option: Instrument) -> bool:
    """Whether it is one on an index. Some of these end before their last day is over, in the morning."""
    index = any(each.sec_type == "IND" and each.symbol == option.underlying for each in scene.instruments.values())
    return index or option.underlying in _INDICES


def related(one: End, other: End) -> bool:
    """Whether shares that came may be those of both: what was gone before its last day had its shares then."""
    this, that = one.it.instrument, other.it.instrument
    same = (this.underlying, this.currency, this.sec_type) == (that.underlying, that.currency, that.sec_type)
    return same and one.early == other.early


def shares_of(scene: Scene, option: Instrument) -> Instrument | None:
    """The shares that the option delivers; of several with that symbol the one that differs, else one that is held."""
    if option.sec_type == "FOP" or not option.underlying:
        return None
    named = [each for _, each in sorted(scene.instruments.items()) if (each.symbol, each.currency) == (option.underlying, option.currency)]
    shares = [each for each in named if each.sec_type == "STK"]
    return min(shares, key=lambda each: (each.id not in scene.differences, each.id not in scene.held, each.id), default=None)


def moneyness(scene: Scene, end: End, shares: Instrument | None) -> Decimal | None:
    """By what share of the strike the option ended in the money (negative: out of it), by the underlying's prices before and now.

    The more doubtful of them; None where none is known, or they are on both sides of the strike: over a weekend much may happen.
    """
    prices = [] if shares is None or not end.strike else scene.prices(shares.id)
    call = end.it.instrument.right[:1] == "C"
    inside = [ratio(price - end.strike if call else end.strike - price, end.strike) for price in prices]
    if not inside or min(inside) <= 0 <= max(inside):
        return None
    return min(inside, key=abs)


def word_of(end: End) -> str:
    return "assigned" if end.it.book < 0 else "exercised"


def held_at(scene: Scene, shares: Instrument, at: datetime) -> Decimal:
    """What was held of shares that both sides agree on, at a moment."""
    side = scene.book.get(shares.id)
    after = (fill.signed_quantity for fill in scene.recent.fills if fill.instrument == shares.id and fill.time > at)
    return (ZERO if side is None else side.quantity) - sum(after, ZERO)


def key_of(end: End) -> str:
    return end.it.began_at.isoformat()


def expiry_of(scene: Scene, end: End, count: Decimal, evidence: str) -> Adjustment:
    at = end.at
    return scene.adjustment(
        AdjustmentKind.EXPIRY, end.it.instrument, key_of(end), at, quantity=count.copy_sign(end.it.change),
        held=end.it.broker - end.it.after(at), price=ZERO, evidence=evidence,
    )  # fmt: skip
