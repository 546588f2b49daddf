"""What booking gives back: `Booked`, and the values in it that are neither closes nor events.

Belongs here: the shape of results. Does not belong here: how they come about (walk.py, actions.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from position_pipeline.accounting.exact import ZERO, relieve

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Close, Fees, Lot, Position, PositionEvent


ONE = ZERO + 1


@dataclass(frozen=True, slots=True)
class Carried:
    """What one entry hands over for another to take up, which is often one of another instrument.

    `premium` is that of an assigned or exercised option, signed like a cost; None where it is not known, or where the entry hands over
    lots. `lots` are those that a transfer, conversion or spin-off hands over, in units of the giver; None where there are none.
    `whole` says that nothing stayed behind and no cash came besides, so that it may be a mere change of name.
    The premium is that of `booked` contracts, of `stated` ones that the entry names: of an inferred one, facts may explain the others.
    """

    premium: Decimal | None = None
    lots: tuple[Lot, ...] | None = None
    whole: bool = False
    booked: Decimal = ONE
    stated: Decimal = ONE

    def premium_for(self, part: Decimal, whole: Decimal) -> Decimal | None:
        """The premium that goes with `part` of the `whole` delivery; None where it is not known.

        Where more is delivered than was assigned here, other entries have some of the premium, and how much is not known.
        """
        asked, covered = abs(part * self.stated), abs(whole * self.booked)
        if self.premium is None or asked > covered:
            return None
        return relieve(self.premium, asked, covered)


NOTHING_LEFT = Carried(lots=())
"""What an inferred entry hands over that has nothing left to do."""


Carries = dict[str, Carried]
"""What was handed over, by the id of the entry that did it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was not booked of an entry, and why, in words for people.

    `quantity` is the part of the entry's change that was left out (signed; 0 where only something else of it was), None where nothing
    of the entry was booked. `amount` is the part of its cash that was left out.
    """

    entry_id: str
    reason: str
    quantity: Decimal | None = None
    amount: Decimal = ZERO


class Move(NamedTuple):
    """A change of an open lot that is neither its opening by a fill nor a close: it was scaled, repriced, handed over or taken up.

    The figures are differences, signed: what the lot has after, less what it had before. `cost` and `commission` are None where that of
    the lot is not known. What a lot was opened with, its moves and its closes add up to what is open of it.
    """

    account: str
    instrument: str
    cause: str
    opening_id: str
    at: datetime
    quantity: Decimal
    cost: Decimal | None
    commission: Decimal | None
    fees: Fees = ()


@dataclass(frozen=True, slots=True)
class Booked:
    """What booking did: the position afterwards, and what was realised and happened on the way.

    `carries` is what was handed over, by the id of the giving entry, with all that came in from other instruments. `moves` are the
    changes of lots that closed nothing. `refused` is what was not booked: an entry that says what cannot be, or more than is held.
    """

    position: Position
    closes: tuple[Close, ...]
    events: tuple[PositionEvent, ...]
    carries: Carries
    moves: tuple[Move, ...] = ()
    refused: tuple[Refusal, ...] = ()
