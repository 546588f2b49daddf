"""Folding very much at once without Python's search for garbage in cycles.

Belongs here: that one switch, and why it is used. Does not belong here: what is folded.

The search runs again and again while objects pile up, looks at all of them, and finds nothing: fills, lots, closes and events are in no
cycle, and go when nothing refers to them any more. Where all results of a fold are kept, it takes a third of the time. So whoever books
very much (an import, `verify`, a benchmark, which shows both) keeps it away meanwhile. It is a switch of the whole process: not for one
that has other things to do at the same time.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def without_collection() -> Iterator[None]:
    """The search stays away until the end of the block, if it was on."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
