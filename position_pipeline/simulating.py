"""Running the simulated broker as a process of its own, for `position-pipeline simulator` and `up`.

Belongs here: what a person gives on the command line. Does not belong here: the broker itself (simulator).
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from position_pipeline.simulator import FaultError, ScenarioError, StateError, default_scenario, load_scenario, serve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def run(*, scenario: Path | None, address_file: Path | None, faults: Sequence[str], **options: Any) -> None:
    """Serve until SIGTERM or SIGINT. What cannot be played ends it with exit 2, a port that cannot be had with exit 1."""

    def ready(port: int) -> None:
        if address_file is not None:
            _write(address_file, {"host": "127.0.0.1", "port": port})
        print(f"The simulated broker listens on 127.0.0.1:{port}. Ctrl-C stops it.", flush=True)  # noqa: T201

    try:
        serve(load_scenario(scenario) if scenario else default_scenario(), faults=faults, on_ready=ready, **options)
    except UnicodeDecodeError:
        sys.exit(_say(f"the scenario '{scenario}' is not UTF-8 text", 2))
    except (ScenarioError, FaultError, StateError, ValueError) as error:
        sys.exit(_say(str(error), 2))
    except OSError as error:
        what = ": ".join(filter(None, (error.strerror, error.filename))) or str(error)
        sys.exit(_say(f"The simulated broker cannot run: {what}", 1))


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201
    return code


def _write(path: Path, address: dict[str, Any]) -> None:
    """Whole or not at all: other commands read it at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(address), encoding="utf-8")
    new.replace(path)
