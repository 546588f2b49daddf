"""Named SQL: each statement stands in a .sql file beside this one, under `-- name: it`, with a line that says what it is for.

Belongs here: loading them. Does not belong here: SQL in Python strings.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def load(file: str) -> dict[str, str]:
    """The statements of one file by name."""
    text = (Path(__file__).parent / f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))
