"""A file of lines as named cells with line numbers, from JSON Lines or CSV: told apart by the first character of the file.

Belongs here: what is text, JSON or CSV, and which fields there are. Does not belong here: what a field says (event_lines.py).

Lines are read one by one and parsed each by itself, so a file may be of any length and a stray quotation mark cannot swallow the lines
below it. An empty cell, an empty text and a null say nothing, as if the field were not there. Numbers stay text.
"""

from __future__ import annotations

import csv
import json
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Cells = dict[str, str]
    Numbered = Iterable[tuple[int, bytes]]

LONGEST_LINE = 65_536

SHARED = frozenset({"type", "account", "instrument", "multiplier", "currency", "time", "execution_id"})
_TRADED = frozenset({"quantity", "commission", "commission_currency"})
_DELIVERED = frozenset({"underlying", "strike", "right", "underlying_multiplier"})
OWN_FIELDS = {
    "fill": _TRADED | {"side", "price"},
    "split": frozenset({"numerator", "denominator", "cash_in_lieu"}),
    "dividend": frozenset({"amount", "return_of_capital"}),
    "return_of_capital": frozenset({"amount"}),
    "expire": frozenset({"quantity", "price", "commission"}),
    "assign": _TRADED | _DELIVERED,
    "exercise": _TRADED | _DELIVERED,
}
"""What each type of event may say, besides what all may say."""

FIELDS = SHARED.union(*OWN_FIELDS.values())
_OTHER_WORDS = {
    "symbol": "instrument", "ticker": "instrument", "qty": "quantity", "shares": "quantity", "fee": "commission", "fees": "commission",
    "date": "time", "datetime": "time", "id": "execution_id", "action": "side", "direction": "side", "ratio": "numerator",
    "buy": "fill", "sell": "fill", "trade": "fill", "expiry": "expire", "assignment": "assign",
}  # fmt: skip


class NoEvents(Exception):
    """A file that cannot be read as events at all; the text says why."""


class LineRefused(ValueError):
    """A line that cannot be taken; the text says why."""


class Refused(NamedTuple):
    """A line that was not taken: which, and why."""

    line: int
    reason: str


def read_cells(lines: Iterable[bytes]) -> Iterator[tuple[int, Cells] | Refused]:
    """The cells of each line that says anything. Raises `NoEvents` at the first when the file as a whole cannot be read."""
    numbered = enumerate(lines, 1)
    for line, raw in numbered:
        text = _opening(line, raw)
        if text.startswith("{"):
            yield from _cells(chain([(line, text.encode())], numbered), _json_cells)
            return
        if text:
            yield from _cells(numbered, partial(_csv_cells, _columns(text, line)))
            return
    raise NoEvents("is empty")


def perhaps(word: str, known: Iterable[str]) -> str:
    """A guess at what was meant, for a message: nothing is ever done with it."""
    from difflib import get_close_matches

    known = sorted(known)
    wanted = word.strip().lower().replace(" ", "_")
    near = get_close_matches(wanted, known, 1, 0.7) or [each for each in (_OTHER_WORDS.get(wanted),) if each in known]
    return f"; perhaps {near[0]}" if near else f"; known are {', '.join(known)}"


def shown(text: str) -> str:
    """A text from outside, fit for a message."""
    return ascii(text if len(text) <= 40 else text[:39] + "…")


def _opening(line: int, raw: bytes) -> str:
    """The first line of a file that says anything tells whether it is text at all."""
    try:
        text = _text(raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw)
    except LineRefused as error:
        raise NoEvents(f"line {line} {error}") from None
    if "\0" in text:
        raise NoEvents("is not a text file")
    if text.startswith("["):
        raise NoEvents("is a JSON array; one object a line is read (JSON Lines), or CSV")
    return text


def _text(raw: bytes) -> str:
    if len(raw) > LONGEST_LINE:
        raise LineRefused(f"is longer than {LONGEST_LINE} bytes")
    try:
        return raw.decode().strip()
    except UnicodeDecodeError:
        raise LineRefused("is not UTF-8 text") from None


def _cells(numbered: Numbered, cells_of: Callable[[str], Cells]) -> Iterator[tuple[int, Cells] | Refused]:
    for line, raw in numbered:
        try:
            text = _text(raw)
            cells = cells_of(text) if text else {}
        except LineRefused as error:
            yield Refused(line, str(error))
        else:
            if cells:
                yield line, cells


def _json_cells(text: str) -> Cells:
    try:
        # Numbers stay text until their digits are read; NaN and Infinity too, which are no numbers here.
        pairs = json.loads(text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, LineRefused):
            raise
        raise LineRefused("is not a JSON object on one line") from None
    if not isinstance(pairs, dict):
        raise LineRefused("is not a JSON object")
    if not pairs:
        raise LineRefused("says nothing")
    _known(pairs)
    return {name: value for name, each in pairs.items() if (value := _plain_value(name, each))}


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise LineRefused(f"has {shown(next(name for name in names if names.count(name) > 1))} twice")
    return found


def _plain_value(name: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise LineRefused(f"{name} is neither a number nor a text")
    return value.strip()


def _columns(text: str, line: int) -> tuple[str, ...]:
    """The names of the columns, which are good or the whole file is refused."""
    try:
        columns = tuple(cell.strip() for cell in _cells_of_line(text))
        _known(columns)
    except LineRefused as error:
        raise NoEvents(f"line {line} has to name the columns, with commas between them, or to be a JSON object: {error}") from None
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice:
        raise NoEvents(f"line {line}: column {twice!r} is there twice")
    return columns


def _csv_cells(columns: tuple[str, ...], text: str) -> Cells:
    values = _cells_of_line(text)
    if len(values) != len(columns):
        raise LineRefused(f"has {len(values)} fields, the first line has {len(columns)}")
    return {name: value for name, each in zip(columns, values, strict=True) if (value := each.strip())}


def _cells_of_line(text: str) -> list[str]:
    if '"' not in text and "\r" not in text:
        return text.split(",")  # which is all that there is to do, in a fifth of the time
    try:
        return next(csv.reader((text,), strict=True))
    except csv.Error as error:
        raise LineRefused(f"is not CSV: {error}") from None


def _known(names: Iterable[str]) -> None:
    unknown = next((name for name in names if name not in FIELDS), None)
    if unknown is not None:
        raise LineRefused(f"field {shown(unknown)} is not known{perhaps(unknown, FIELDS)}")
