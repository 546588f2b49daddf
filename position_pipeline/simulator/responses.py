"""An answer to a request, and what the faults make of it.

Here: pure functions from rows, end marker and faults to the bytes that leave. Not here: building rows (`messages.py`),
sending (`server.py`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import chain
from typing import NamedTuple

from position_pipeline.simulator.faults import Fault, Faults
from position_pipeline.simulator.messages import notice
from position_pipeline.simulator.wire import fields_of, frame, with_length

CLOSE, RESET = "close", "reset"
LIE = 1_000_000


class Row(NamedTuple):
    frame: bytes
    account: str = ""
    symbol: str = ""


@dataclass
class Response:
    """`target` is the fault target of the request; `after_end` is what follows the end marker."""

    target: str
    rows: Sequence[Row] = ()
    end: bytes = b""
    after_end: Sequence[Row] = ()
    account: str = ""
    request_id: int = -1
    close: str = ""
    delay: Decimal | None = None
    silent: bool = False
    version: int = 178

    def frames(self) -> Iterator[bytes]:
        if self.silent:
            return iter(())
        end: Iterable[bytes] = (self.end,) if self.end else ()
        return chain((row.frame for row in self.rows), end, (row.frame for row in self.after_end))


def misbehave(response: Response, faults: Faults) -> Response:
    """The answer as the active faults leave it. Several faults may change one answer."""
    for action, change in _CHANGES.items():
        if faults.find(action, response.target, response.account):
            fault = faults.take(action, response.target, response.account)
            assert fault is not None
            response = change(response, fault)
    return response


def _hang(response: Response, fault: Fault) -> Response:
    """Silence; where only one account of many is concerned, its rows are missing and the rest never ends."""
    if fault.account and not response.account:
        return replace(response, rows=[row for row in response.rows if row.account != fault.account], end=b"")
    return replace(response, silent=True)


def _cut(response: Response, fault: Fault) -> Sequence[Row]:
    """The first `after` rows; with an account, of that account only."""
    kept, seen = [], 0
    for row in response.rows:
        concerned = not fault.account or row.account == fault.account
        seen += concerned
        if not concerned or seen <= fault.after:
            kept.append(row)
    return kept


def _drop(response: Response, fault: Fault) -> Response:
    return replace(response, rows=list(response.rows)[: fault.after], end=b"", after_end=(), close=CLOSE)


def _reset(response: Response, fault: Fault) -> Response:
    return replace(_drop(response, fault), close=RESET)


def _truncate(response: Response, fault: Fault) -> Response:
    return replace(response, rows=_cut(response, fault))


def _missing_end(response: Response, _fault: Fault) -> Response:
    return replace(response, end=b"", after_end=())


def _empty(response: Response, fault: Fault) -> Response:
    return _truncate(response, replace(fault, after=0))


def _place(response: Response, fault: Fault) -> int | None:
    """Where the row is that the fault counts: number `row` of its account, of its symbol, or of all."""
    fitting = [n for n, row in enumerate(response.rows) if fault.account in ("", row.account) and fault.symbol in ("", row.symbol)]
    return fitting[fault.row - 1] if 0 < fault.row <= len(fitting) else None


def _exchange(response: Response, place: int | None, *new: bytes) -> Response:
    if place is None:
        return response
    rows = list(response.rows)
    rows[place : place + 1] = [rows[place]._replace(frame=each) for each in new]
    return replace(response, rows=rows)


def _garble(response: Response, fault: Fault) -> Response:
    place = _place(response, fault)
    return response if place is None else _exchange(response, place, frame(*fields_of(response.rows[place].frame)[:-1]))


def _garbage_length(response: Response, fault: Fault) -> Response:
    place = _place(response, fault)
    return response if place is None else _exchange(response, place, with_length(response.rows[place].frame, LIE))


def _duplicate_row(response: Response, fault: Fault) -> Response:
    place = _place(response, fault)
    if place is None:
        return response
    true = response.rows[place]
    first = _one_unit_off(true.frame) if fault.stale else true.frame
    stale = _exchange(response, place, first)
    return replace(stale, rows=[*stale.rows, true])


def _one_unit_off(position: bytes) -> bytes:
    """A position row as it was before one more unit was bought."""
    fields = fields_of(position)
    fields[-2] = str(Decimal(fields[-2]) - 1)
    return frame(*fields)


def _omit(response: Response, fault: Fault) -> Response:
    left_out = [row for row in response.rows if not (row.symbol == fault.symbol and fault.account in ("", row.account))]
    return replace(response, rows=left_out)


def _error(response: Response, fault: Fault) -> Response:
    problem = notice(response.version, response.request_id, fault.code, "refused on purpose")
    return replace(response, rows=(), end=problem, after_end=())


def _delay(response: Response, fault: Fault) -> Response:
    return replace(response, delay=fault.seconds if fault.seconds is not None else Decimal(1))


_CHANGES = {
    "omit": _omit,
    "duplicate-row": _duplicate_row,
    "garble": _garble,
    "garbage-length": _garbage_length,
    "truncate": _truncate,
    "empty": _empty,
    "missing-end": _missing_end,
    "drop": _drop,
    "reset": _reset,
    "error": _error,
    "delay": _delay,
    "hang": _hang,
}
