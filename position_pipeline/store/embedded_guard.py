"""The user of the embedded server who is left where the process that started everything is killed, and stops the server then.

    python -m position_pipeline.store.embedded_guard HOME PARENT     until PARENT is not its parent any more

Belongs here: outliving a parent. Does not belong here: the server (``embedded``). Most processes that a killed `up` leaves use the server,
and the last one out stops it; but while it starts all of them again, there are none.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from position_pipeline.store import embedded

if TYPE_CHECKING:
    from collections.abc import Sequence

GLANCE = 1.0
"""Seconds between two looks. Linux could tell of a parent's death, but by a signal, and not every system can."""


def main(words: Sequence[str]) -> None:
    """Use the server of a home until the parent is gone."""
    with embedded.running(Path(words[0])):
        while os.getppid() == int(words[1]):
            time.sleep(GLANCE)


if __name__ == "__main__":
    main(sys.argv[1:])
