"""Checkpoints: a position as it stood after a moment, so that a late entry is booked from there and not from the first entry on.

Belongs here: where one is made, its row, which of them are still right, and folding from one to the next. Does not belong here: which
instruments are booked anew, and from when (book.py).

A checkpoint contains all entries until a moment, and those of that moment too. So it is wrong as soon as anything changes that is not
after it, and is dropped then; and it lies before the moment of the last entry, for another one may come at that.

There are none where an entry may change what comes before it, or in another instrument: where premiums or lots are handed over, and where
an entry gives way to what comes later.

    entries   1 .. 1031 | 1032 .. 2040 | 2041 .. 2100      a late one that lands after the 2090th: those after the 2040th are read
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from psycopg2.extras import Json

from position_pipeline.accounting.booking import WITHOUT_SEQUENCE, fold
from position_pipeline.accounting.exact import plain
from position_pipeline.accounting.model import AdjustmentKind, Basis, Fill, Lot, Position
from position_pipeline.accounting.results import Booked
from position_pipeline.store import queries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from position_pipeline.accounting.booking import Carries
    from position_pipeline.accounting.model import Entry, OrderKey
    from position_pipeline.store.connection import Connection
    from position_pipeline.store.rows import Revisions

    State = dict[str, Any]
    FoldPart = Callable[[Position, Sequence[Entry], Carries | None], Booked]

EVERY = 1024
"""One entry in so many calls for a checkpoint."""

_K = AdjustmentKind
LOCAL = (
    _K.OPENING_BALANCE, _K.EXPIRY, _K.ASSIGNMENT, _K.EXERCISE, _K.CASH_SETTLEMENT, _K.SPLIT, _K.TRANSFER, _K.CONVERSION_OUT,
    _K.CONVERSION_IN, _K.SPIN_OFF, _K.RETURN_OF_CAPITAL, _K.REINVESTMENT, _K.FEE_IN_KIND, _K.ADOPTED,
)  # fmt: skip
"""Kinds that rest on nothing but what is held when their turn comes, and on what they take from others, which is looked at apart."""

SQL = queries.load("book")
ALWAYS = "-infinity"
"""The time that statements read from where they read everything."""


class Checkpoint(NamedTuple):
    """A position after all entries until `until_at` (None: before the first), with the revisions of the fills that opened its lots."""

    until_at: datetime | None
    position: Position
    revisions: Revisions


class Part(NamedTuple):
    """Entries that follow each other; `call` is the number by which one of the first moment calls for a checkpoint, None: none does."""

    call: int | None
    entries: list[Entry]


def parts(entries: Sequence[Entry]) -> Iterator[Part]:
    """The entries, which are in order, cut before each moment that has an entry which calls for a checkpoint.

    Whether one does is in its id, so that nothing has to be counted, and that however they are told they are cut the same way.
    """
    part = Part(None, [])
    if not any(map(calls, entries)):  # as in nearly all short deliveries: then there is nothing to look at moment by moment
        part.entries.extend(entries)
        entries = ()
    for _, each in groupby(entries, key=attrgetter("time")):
        moment = list(each)
        call = next((_number(entry) for entry in moment if calls(entry)), None)
        if call is not None:
            if part.entries:
                yield part
            part = Part(call, [])
        part.entries.extend(moment)
    if part.entries:
        yield part


def calls(entry: Entry) -> bool:
    """Whether a checkpoint is made before the moment of the entry."""
    return not _number(entry) % EVERY


def _number(entry: Entry) -> int:
    return crc32((entry.execution_id if isinstance(entry, Fill) else entry.id).encode())


def is_due(position: Position, part: Part) -> bool:
    """Whether the position that a part finds is to be kept: never the one that the moment of its last entry is not over for.

    A position of very many lots is kept more rarely, so that checkpoints never take more room than entries.
    """
    last = position.last_key
    if part.call is None or last is None or last[0] >= part.entries[0].time:
        return False
    return not part.call // EVERY % (1 + len(position.lots) // EVERY)


def fold_on(start: Position, entries: Sequence[Entry], fold_part: FoldPart = fold) -> tuple[Booked, list[Position]]:
    """Book the entries of one instrument; (what comes of it, the positions on the way that are to be kept)."""
    position, carries, kept = start, None, []
    done: list[Booked] = []
    for part in parts(entries):
        if is_due(position, part):
            kept.append(position)
        booked = fold_part(position, part.entries, carries)
        position, carries = booked.position, booked.carries
        done.append(booked)
    return (done[0] if len(done) == 1 else _joined(start, done)), kept


def _joined(start: Position, done: Sequence[Booked]) -> Booked:
    carries: Carries = done[-1].carries if done else {}
    closes, events = chain.from_iterable(each.closes for each in done), chain.from_iterable(each.events for each in done)
    moves, refused = chain.from_iterable(each.moves for each in done), chain.from_iterable(each.refused for each in done)
    return Booked(done[-1].position if done else start, tuple(closes), tuple(events), carries, tuple(moves), tuple(refused))


# The table


def allowed(connection: Connection, account: str, instruments: Iterable[str]) -> set[str]:
    """Those of the instruments that may have checkpoints."""
    values = {"account": account, "instruments": sorted(instruments), "kinds": [kind.value for kind in LOCAL]}
    found = {row["instrument"] for name in ("linked_instruments", "with_far_reach") for row in connection.rows(SQL[name], values)}
    return set(values["instruments"]) - found


def starts(
    connection: Connection, account: str, flat: Mapping[str, Position], since: Mapping[str, datetime | None]
) -> dict[str, Checkpoint]:
    """Where the instruments that may have checkpoints are booked anew from, when something at `since` (None: anywhere) is different.

    Checkpoints that it makes wrong are dropped, and all of those that must not have any. Where booking refused something, the start is
    flat: what stands refused is not in a checkpoint.
    """
    names = sorted(since)
    good = allowed(connection, account, names)
    times = [str(since[name] or ALWAYS) if name in good else ALWAYS for name in names]
    connection.execute(SQL["drop_checkpoints"], {"account": account, "instruments": names, "since": times})
    found = connection.rows(SQL["last_checkpoints"], {"account": account, "instruments": sorted(good)})
    kept = {row["instrument"]: restored(flat[row["instrument"]], row["until_at"], row["state"]) for row in found}
    return {name: kept.get(name) or Checkpoint(None, flat[name], {}) for name in good}


def write(connection: Connection, account: str, positions: Iterable[Position], revisions: Revisions) -> None:
    """Keep positions that are due, where there may be checkpoints."""
    positions = list(positions)
    good = allowed(connection, account, {each.instrument for each in positions}) if positions else ()
    found = [row(each, revisions) for each in positions if each.instrument in good]
    connection.many(SQL["add_checkpoints"], [(*values, Json(state)) for *values, state in found])


def drop_since(connection: Connection, account: str, positions: Sequence[Position]) -> None:
    """Drop what does not lie before the moment of the last entry any more."""
    ends = {each.instrument: str(each.last_key[0]) for each in positions if each.last_key}
    if ends:
        connection.execute(SQL["drop_checkpoints"], {"account": account, "instruments": list(ends), "since": list(ends.values())})


def row(position: Position, revisions: Revisions) -> tuple[str, str, datetime, State]:
    """The row of a position that is to be kept, in the order of the statement."""
    assert position.last_key is not None, "nothing is kept before the first entry"
    return position.account, position.instrument, position.last_key[0], state(position, revisions)


def state(position: Position, revisions: Revisions) -> State:
    """Sums and lots as JSON, numbers and times as text."""
    p = position
    assert p.last_key is not None, "nothing is kept before the first entry"
    _, rank, sequence, entry = p.last_key
    return {
        "multiplier": plain(p.multiplier),
        "realized_gross": plain(p.realized_gross),
        "opening_commission": plain(p.opening_commission),
        "closing_commission": plain(p.closing_commission),
        "unknown_closes": p.unknown_closes,
        "cycle": p.cycle,
        "opened_at": _time(p.opened_at),
        "closed_at": _time(p.closed_at),
        "last_entry": [rank, None if sequence == WITHOUT_SEQUENCE else int(sequence), entry],
        "lots": [_lot_state(lot, revisions[lot.opening_id]) for lot in p.lots],
    }


def restored(flat: Position, until_at: datetime, state: State) -> Checkpoint:
    """The checkpoint of a row, for a position of which nothing else is booked."""
    s = state
    rank, sequence, entry = s["last_entry"]
    last_key: OrderKey = (until_at, rank, WITHOUT_SEQUENCE if sequence is None else sequence, entry)
    position = Position(
        account=flat.account,
        instrument=flat.instrument,
        currency=flat.currency,
        multiplier=Decimal(s["multiplier"]),
        method=flat.method,
        lots=tuple(map(_lot, s["lots"])),
        realized_gross=Decimal(s["realized_gross"]),
        opening_commission=Decimal(s["opening_commission"]),
        closing_commission=Decimal(s["closing_commission"]),
        unknown_closes=s["unknown_closes"],
        cycle=s["cycle"],
        opened_at=_moment(s["opened_at"]),
        closed_at=_moment(s["closed_at"]),
        last_key=last_key,
    )
    return Checkpoint(until_at, position, {lot[0]: lot[1] for lot in s["lots"]})


def _lot_state(lot: Lot, revision: int | None) -> list[Any]:
    figures = (lot.quantity, lot.price, lot.cost, lot.commission)
    fees = [[currency, plain(amount)] for currency, amount in lot.fees]
    return [lot.opening_id, revision, _time(lot.opened_at), *map(_text, figures), lot.basis.value, fees]


def _lot(values: Sequence[Any]) -> Lot:
    opening_id, _, opened_at, quantity, price, cost, commission, basis, fees = values
    paid = tuple((currency, Decimal(amount)) for currency, amount in fees)
    known = (_number_of(price), _number_of(cost), _number_of(commission))
    return Lot(opening_id, datetime.fromisoformat(opened_at), Decimal(quantity), *known, Basis(basis), paid)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _number_of(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _time(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
