"""The client library under test: ib_insync or ib_async, whichever is installed (they never share an environment)."""

import time
from collections.abc import Callable
from typing import Any

try:
    import ib_insync as library
except ImportError:
    import ib_async as library  # type: ignore[no-redef]

IS_IB_ASYNC = library.__name__ == "ib_async"
HIGHEST_VERSION = 178 if IS_IB_ASYNC else 176


def until(ib: Any, condition: Callable[[], object], timeout: float = 5) -> None:
    """Let the library work until something is true, one network packet after the other."""
    ends = library.util.getLoop().time() + timeout
    while not condition():
        assert library.util.getLoop().time() < ends, "it did not come to be"
        ib.waitOnUpdate(timeout=0.2)


def until_alone(broker: Any, timeout: float = 5) -> None:
    """Wait until the broker has noticed that its clients are gone."""
    ends = time.monotonic() + timeout
    while broker.clients:
        assert time.monotonic() < ends, f"still there: {broker.clients}"
        library.util.sleep(0.005)
