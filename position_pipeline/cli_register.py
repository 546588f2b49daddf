"""The commands around differences and the life of positions: breaks, adjustments, events.

Belongs here: their options, and finding what a person means by an id. Does not belong here: how a decision is carried out (store), how
things are drawn (show_register). `breaks` and `adjustments` without a word behind them list.
"""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from position_pipeline import show, show_register
from position_pipeline.cli_reading import Accounts, BadUse, Json, reading, shown

if TYPE_CHECKING:
    from position_pipeline.show import Row
    from position_pipeline.store import Store

By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who decides; default: the user of this machine.")]
BreakId = Annotated[str, typer.Argument(metavar="ID", help="A break's id, or as much of its beginning as is unique.")]

breaks_app = typer.Typer(invoke_without_command=True)
adjustments_app = typer.Typer(invoke_without_command=True)


# -- differences


@breaks_app.callback()
def breaks(
    context: typer.Context,
    accounts: Accounts = None,
    all_: Annotated[bool, typer.Option("--all", help="Dismissed and resolved ones too.")] = False,
    json: Json = False,
) -> None:
    """Where the book and the broker differ, since when, what it is worth, and what helps."""
    if context.invoked_subcommand is not None:
        return
    with reading(accounts) as (_, store):
        rows = [_with_age(row) for row in store.read.breaks(accounts, all_=all_)]
    shown(rows, show_register.breaks, json=json)


@breaks_app.command("show")
def show_break(id_: BreakId, json: Json = False) -> None:
    """All that is known of one break: evidence, signs, worth, history, and what accepting it would write."""
    with reading() as (_, store):
        row = _with_age(_break(store, id_))
    if json:
        show.print_json(row)
    else:
        show.say(show.console(), show_register.one_break(row))


@breaks_app.command()
def accept(
    id_: BreakId,
    by: By = None,
    why: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    json: Json = False,
) -> None:
    """Carry out what a break proposes, as adjustments of the book; or keep what was adopted. All breaks of its cause end with it."""
    name = _name(by)
    with reading() as (settings, store):
        row = _break(store, id_)
        done = store.decisions.accept(row["id"], by=name, why=why, second_name_above=settings.second_name_above)
    if json:
        show.print_json({"breaks": done.breaks, "adjustments": done.adjustments, "waits_for_second": done.waits_for_second, "by": name})
    else:
        show.say(show.console(), show_register.accepted(done, name))


@breaks_app.command()
def dismiss(
    id_: BreakId,
    reason: Annotated[str, typer.Option(help="Why it is no matter of concern, for the record.")],
    by: By = None,
) -> None:
    """Hear no more of a break until its difference changes. The position stays as it is."""
    if not reason.strip():
        raise BadUse("--reason is empty. Say why the break is no matter of concern: it is kept for the record.")
    with reading() as (_, store):
        row = _break(store, id_)
        store.decisions.dismiss(row["id"], by=_name(by), reason=reason.strip())
    show.say(show.console(), [f"Break {row['id']} is dismissed until its difference changes."])


def _break(store: Store, id_: str) -> Row:
    found = [row for row in store.read.breaks_of_id(id_) if id_]
    exact = [row for row in found if row["id"] == id_]
    if not found:
        raise BadUse(f"There is no break {id_!r}. Ids are in: position-pipeline breaks --all")
    if len(found) > 1 and not exact:
        raise BadUse(f"{id_!r} begins several ids: {show.some([row['id'] for row in found])}. Give more of it.")
    return (exact or found)[0]


def _with_age(row: Row) -> Row:
    """The row with `age_seconds`: how long the difference stands, or stood."""
    until = row["resolved_at"] or datetime.now(UTC)
    return {**row, "age_seconds": max(round((until - row["first_seen_at"]).total_seconds(), 1), 0)}


def _name(by: str | None) -> str:
    if by is not None and not by.strip():
        raise BadUse("--by is empty. Give the name of who decides.")
    try:
        return by.strip() if by else getpass.getuser()
    except (OSError, KeyError):
        raise BadUse("This machine does not know who you are. Give your name: --by NAME") from None


# -- adjustments


@adjustments_app.callback()
def adjustments(
    context: typer.Context,
    accounts: Accounts = None,
    all_: Annotated[bool, typer.Option("--all", help="Those that were taken back too.")] = False,
    json: Json = False,
) -> None:
    """The entries of the book that are no fills: opening balances, splits, transfers, what was adopted or accepted."""
    if context.invoked_subcommand is not None:
        return
    with reading(accounts) as (_, store):
        rows = store.read.adjustments(accounts, all_=all_)
    shown(rows, show_register.adjustments, json=json)


@adjustments_app.command()
def reverse(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The adjustment's id.")],
    why: Annotated[str, typer.Option(help="Why, for the record.")],
    accounts: Accounts = None,
    by: By = None,
) -> None:
    """Take an adjustment back: the book is as if it had never been, and it stays on record. The next sync tells what differs then."""
    if not why.strip():
        raise BadUse("--why is empty. Say why the adjustment is taken back: it is kept for the record.")
    name = _name(by)
    with reading(accounts) as (_, store):
        row = _adjustment(store, id_, accounts)
        changes = store.reverse(row["account"], [id_], name, why.strip())
    changed = [f"{change.symbol} {show.quantity(change.before)} -> {show.quantity(change.after)}" for change in changes.values()]
    show.say(show.console(), [f"Taken back by {name}: {id_} in {row['account']}. {'; '.join(changed) or 'No quantity changed'}."])


def _adjustment(store: Store, id_: str, accounts: list[str] | None) -> Row:
    found = [row for row in store.read.adjustments(accounts, all_=True) if row["id"] == id_]
    if not found:
        raise BadUse(f"There is no adjustment {id_!r}. Ids are in: position-pipeline adjustments")
    if len(found) > 1:
        raise BadUse(f"{id_!r} is an adjustment of {show.some([row['account'] for row in found])}. Name one with --account.")
    (row,) = found
    if row["reversed_at"] is not None:
        raise BadUse(f"{id_!r} was taken back already, by {row['reversed_by']}: {row['reversed_why']}")
    return row


# -- events


def events(
    accounts: Accounts = None,
    cycles: Annotated[bool, typer.Option("--cycles", help="One row for each life of a position, with entry and exit prices.")] = False,
    json: Json = False,
) -> None:
    """The life of positions: opened, increased, reduced, closed, split and so on, and how long each had been held then."""
    with reading(accounts) as (_, store):
        rows = show_register.in_seconds(store.read.cycles(accounts) if cycles else store.read.events(accounts))
    shown(rows, show_register.cycles if cycles else show_register.events, json=json)
