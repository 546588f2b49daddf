"""The one place where many fills become results, and where a compiled kernel can stand in for Python.

Belongs here: the function from the sorted fills of one instrument, and what was held before them, to what comes of them. Does not belong
here: which fills are new and in order (bulk.py), rows.

Whoever stands in for `fold_sorted` keeps to this, and the tests of it hold any stand-in to the same digits as accounting.booking.fold:

- `position` is what is held before the first fill, lots in their order; `fills` are of its account and instrument, in the order of
  `order_key`, all after `position.last_key`, none with `premium_from`. There is at least one.
- The closes, in the order in which they came about, one for each lot that a fill takes from; the events, in order; and the position
  afterwards with its lots, sums, cycle, times and the `last_key` of the last fill.
- All sums and products are exact. Only what `exact.relieve` and `exact.ratio` do is rounded, as they round it.
- Cut anywhere, the parts come to the same as the whole: nothing is remembered but the position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.booking import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Fill, Position


def fold_sorted(position: Position, fills: Sequence[Fill]) -> Booked:
    """Book sorted fills of one instrument on what was held before them."""
    return fold(position, fills)
