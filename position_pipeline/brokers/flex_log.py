"""What an import could not take, and what it passed over.

Belongs here: collecting refused rows and notes of one account. Does not belong here: deciding what is refused.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from position_pipeline.brokers import RefusedRow
from position_pipeline.brokers.flex_document import quoted
from position_pipeline.brokers.flex_rows import RowError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from position_pipeline.brokers.flex_rows import Row

MOST_NOTES = 200


class Log:
    """Refused rows and notes. `tainted` are the instruments of refused trades: how many we held before cannot be told."""

    def __init__(self, account: str, notes: Counter[str]) -> None:
        self.account = account
        self.refused: list[RefusedRow] = []
        self.tainted: set[str] = set()
        self._notes = Counter(notes)

    def note(self, what: str, times: int = 1) -> None:
        self._notes[what] += times

    def refuse(self, row: Row, reason: str) -> None:
        self.refused.append(RefusedRow(self.account, row.symbol, f"line {row.line}: {reason}"))

    def taint(self, row: Row) -> None:
        """Remember that a row that changed a position is not taken. One without an instrument may have changed any."""
        try:
            self.tainted.add(row.instrument_id)
        except RowError:
            self.tainted.add("")

    def words(self, what: str, words: Iterable[str], known: Container[str]) -> None:
        """Note the words that are not known. They are kept and never stop an import."""
        for word in words:
            if word and word not in known:
                self.note(f"unknown {what} {quoted(word, 60)}")

    def attributes(self, rows: Sequence[Row], known: Container[str]) -> None:
        for row in rows:
            self.words("attribute", (f"{row.tag}.{name}" for name in row.values if name not in known), ())

    def notes(self) -> tuple[tuple[str, int], ...]:
        """The most frequent notes, and how many more there are."""
        most = self._notes.most_common(MOST_NOTES)
        more = len(self._notes) - len(most)
        return (*sorted(most), ("further kinds of notes", more)) if more else tuple(sorted(most))
