"""Prints of an answer: short digests by which the next answer is known to say the same, or where it says something else.

Belongs here: what is compared of an answer, and finding where two differ. Does not belong here: keeping prints (syncing.py), and what
follows from a difference (reconciling.py).

An answer is cut into a fixed number of slices by the names of its instruments, and each slice has one digest over everything that is
said of them: quantities, averages, prices, labels. So a kilobyte is kept for an account, however much it holds, and one changed price
costs a look at one slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Mapping

    from position_pipeline.accounting.model import Instrument, Snapshot

SLICES = 128
SIZE = 8
"""Bytes of one digest."""

_BY_NAME = attrgetter("instrument")


@dataclass(frozen=True, slots=True)
class Prints:
    """`slices` are the digests of all slices in their order; `named` is one of the instruments that are named at all; `names` are those
    of each slice.
    """

    slices: bytes
    named: bytes
    names: tuple[tuple[str, ...], ...]

    def differing(self, before: bytes) -> frozenset[str]:
        """The instruments of the slices that were something else `before`."""
        places = range(0, SLICES * SIZE, SIZE)
        pairs = zip(places, self.names, strict=True)
        return frozenset(name for at, names in pairs if self.slices[at : at + SIZE] != before[at : at + SIZE] for name in names)


def prints_of(snapshot: Snapshot, instruments: Mapping[str, Instrument]) -> Prints:
    """The prints of a proven answer; `instruments` describe what it names."""
    lines: list[list[str]] = [[] for _ in range(SLICES)]
    names: list[list[str]] = [[] for _ in range(SLICES)]
    for one in sorted(snapshot.holdings, key=_BY_NAME):
        name, it = one.instrument, instruments.get(one.instrument)
        at = crc32(name.encode()) % SLICES
        figures = f"{one.quantity!s}|{one.average_price!s}|{one.raw_average_cost!s}|{one.market_price!s}"
        labels = "" if it is None else f"{it.multiplier!s}|{it.sec_type}|{it.exchange}|{it.symbol}"
        lines[at].append(f"{name}|{figures}|{labels}")
        names[at].append(name)
    return Prints(b"".join(map(_digest, lines)), _digest([name for several in names for name in several]), tuple(map(tuple, names)))


def _digest(lines: list[str]) -> bytes:
    return blake2b("\n".join(lines).encode(), digest_size=SIZE).digest()
