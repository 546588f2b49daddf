"""Why a quantity differs though no fill tells: one function a cause, tried in the order of `CAUSES`.

Belongs here: the order. Each cause gets the scene of the account and one difference, and yields the verdicts that it can give, with the
signs that speak for it and what contradicts it. Does not belong here: which verdict counts, and what is done about it (verdicts.py).

The first strong verdict wins, so what is most particular comes first: a fill that has a twin, an option that has expired, a ratio, and
only then what any movement may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.exchanges import merger, renamed, spin_off
from position_pipeline.accounting.causes.options import option_event
from position_pipeline.accounting.causes.splits import fraction_paid, split
from position_pipeline.accounting.causes.trades import correction, duplicate_fill, fee_in_kind, missing_fill
from position_pipeline.accounting.causes.transfers import transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from position_pipeline.accounting.causes.scene import Difference, Scene, Verdict

__all__ = ["CAUSES"]

CAUSES: tuple[Callable[[Scene, Difference], Iterator[Verdict]], ...] = (
    correction,
    duplicate_fill,
    fee_in_kind,
    option_event,
    split,
    fraction_paid,
    renamed,
    merger,
    spin_off,
    transfer,
    missing_fill,
)
