"""What a person does about a break: accept it, or dismiss it. One method is one decision is one transaction.

Belongs here: when a decision may be carried out, and carrying it out under the account's lock, so that it never meets a sync half way.
Does not belong here: the rows of the register as answers come in (register.py), asking the person (cli_register).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg2.extras import Json

from position_pipeline.accounting.exact import plain, total
from position_pipeline.store import proposals, queries, recording, register, reversing
from position_pipeline.store.turns import lock_account
from position_pipeline.store.withdrawing import another_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from position_pipeline.accounting.model import Adjustment
    from position_pipeline.store.connection import Connection, Row

SQL = queries.load("breaks")


class NotPossible(Exception):
    """A decision cannot be carried out; the text says why and what to do instead."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What accepting did: the breaks of the cause, the adjustments behind it, and whether it waits for a second name."""

    breaks: tuple[str, ...]
    adjustments: tuple[str, ...] = ()
    waits_for_second: bool = False


class Decisions:
    """Decisions over one connection. Raises `NotPossible`, and `LookupError` for an id that is not there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def accept(self, id_: str, *, by: str, why: str = "", second_name_above: Decimal | None = None) -> Accepted:
        """Carry out what a break and all others of its cause propose; what was adopted stays as it is.

        Above an impact of `second_name_above`, in the account's base currency, or where the impact is not known in it, the first call
        only notes the name; another name has to accept it too, before anything of it changes.
        """
        with self._connection.transaction():
            group, at = self._locked(id_)
            first = next(row for row in group if row["id"] == id_)
            entries = _proposed(group)
            if not entries and not all(row["adopted"] for row in group):
                raise NotPossible(_nothing_to_accept(first))
            if _needs_second(group, second_name_above):
                if first["accepted_by"] is None:
                    return self._note_first(group, by, why, at)
                if _same(first["accepted_by"], by):
                    raise NotPossible(_asks_for_another(first))
            names = by if first["accepted_by"] in (None, by) else f"{first['accepted_by']} and {by}"
            ids = self._carry_out(group, entries, names, why or first["accepted_why"] or "", at)
            self._end(group, ids, by, why, at)
            return Accepted(tuple(row["id"] for row in group), tuple(ids))

    def dismiss(self, id_: str, *, by: str, reason: str) -> None:
        """Hear no more of a break until its difference changes. The position stays as it is."""
        with self._connection.transaction():
            _, at = self._locked(id_)
            history = Json(register.told(at, f"Dismissed by {by}: {reason}"))
            self._connection.execute(SQL["dismiss"], {"id": id_, "by": by, "reason": reason, "at": at, "history": history})

    def _locked(self, id_: str) -> tuple[list[Row], datetime]:
        """(the standing breaks of the cause of one, when it is our turn); nothing changes them until the transaction ends."""
        found = [row for row in self._connection.rows(SQL["of_id"], {"id": id_}) if row["id"] == id_]
        if not found:
            raise LookupError(id_)
        at = lock_account(self._connection, found[0]["account"])
        values = {"account": found[0]["account"], "id": id_, "cause": found[0]["cause"]}
        group = self._connection.rows(SQL["of_cause"], values)
        if all(row["id"] != id_ for row in group):
            raise NotPossible(f"Break {id_} is resolved already: there is nothing left to decide. position-pipeline breaks show {id_}")
        return group, at

    def _note_first(self, group: Sequence[Row], by: str, why: str, at: datetime) -> Accepted:
        ids = [row["id"] for row in group]
        history = Json(register.told(at, f"Accepted by {by}, waits for a second name.{f' {why}' if why else ''}"))
        self._connection.execute(SQL["accept_first"], {"ids": ids, "by": by, "why": why, "at": at, "history": history})
        return Accepted(tuple(ids), waits_for_second=True)

    def _carry_out(self, group: Sequence[Row], entries: Sequence[Adjustment], by: str, why: str, at: datetime) -> list[str]:
        """Write the adjustments of a proposal, or keep what was adopted; their ids."""
        account, adopted = group[0]["account"], [row["adopted"] for row in group if row["adopted"]]
        held = self._quantities(account, group)
        if not entries:
            self._sign(account, adopted, by)
            return adopted
        if adopted:
            reversing.reverse(self._connection, account, adopted, by=by, why="Another explanation was accepted in its place.", at=at)
        signed = [replace(entry, evidence=f"{entry.evidence} Accepted by {by}{f': {why}' if why else '.'}".strip()) for entry in entries]
        signed = another_id(self._connection, account, signed)
        recorded = recording.record(self._connection, account, (), signed, ())
        if recorded.refused:
            raise NotPossible(f"The book does not take it: {'; '.join(f'{symbol}: {reason}' for symbol, reason in recorded.refused)}")
        self._prove(account, group, held)
        ids = [entry.id for entry in signed]
        self._sign(account, ids, by)
        return ids

    def _sign(self, account: str, ids: Sequence[str], by: str) -> None:
        self._connection.execute(SQL["accept_adjustments"], {"account": account, "ids": list(ids), "by": by})

    def _quantities(self, account: str, group: Sequence[Row]) -> dict[str, Decimal]:
        named = [row["instrument"] for row in group if row["subject"] == "quantity"]
        found = self._connection.rows(SQL["quantities"], {"account": account, "instruments": named})
        return {row["instrument"]: row["quantity"] for row in found}

    def _prove(self, account: str, group: Sequence[Row], before: Mapping[str, Decimal]) -> None:
        """What was accepted ends the differences that it was accepted for; else nothing of it is kept.

        Where the book follows the broker already, it holds the same as before, and only what it rests on is another.
        """
        after = self._quantities(account, group)
        for row in (row for row in group if row["instrument"] in after):
            wanted = before.get(row["instrument"]) if row["adopted"] else row["broker_quantity"]
            if after[row["instrument"]] != wanted:
                raise NotPossible(
                    f"With it the book would hold {plain(after[row['instrument']])} of {row['symbol']}, and the broker held "
                    f"{'another number' if wanted is None else plain(wanted)}: something has changed since. "
                    "Run position-pipeline sync, and look again."
                )

    def _end(self, group: Sequence[Row], adjustments: Sequence[str], by: str, why: str, at: datetime) -> None:
        text = f"Accepted by {by}{f' ({why})' if why else ''}. In the book: {', '.join(adjustments)}."
        values = {"ids": [row["id"] for row in group], "by": by, "why": why, "at": at, "history": Json(register.told(at, text))}
        self._connection.execute(SQL["accepted"], values)


def _proposed(group: Sequence[Row]) -> list[Adjustment]:
    """What all breaks of a cause propose, each entry once."""
    by_id = {entry.id: entry for row in group for entry in proposals.from_json(row["proposed"])}
    return list(by_id.values())


def _needs_second(group: Sequence[Row], above: Decimal | None) -> bool:
    """What is not known in the base currency may be more than any limit."""
    if above is None:
        return False
    known = [row["impact"] for row in group if row["impact"] is not None and row["impact_currency"] == row["base_currency"]]
    return len(known) < len(group) or total(known) > above


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _asks_for_another(row: Row) -> str:
    return (
        f"{row['accepted_by']} has accepted break {row['id']} already. It is worth more than POSITION_SYNC_SECOND_NAME_ABOVE, "
        f"or nobody knows how much: another person has to run position-pipeline breaks accept {row['id']} --by NAME"
    )


def _nothing_to_accept(row: Row) -> str:
    return (
        f"Break {row['id']} has no proposal that could be accepted. {row['proposal'].rstrip('.')}; or dismiss it: "
        f"position-pipeline breaks dismiss {row['id']} --reason TEXT"
    )
