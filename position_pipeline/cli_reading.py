"""The commands that read the book: what is held, what was closed, why, and whether it is right; and by which method it is booked.

Belongs here: their options, and how any command opens the store and shows rows. Does not belong here: how a command ends, and commands that
take something in or run on (cli). Heavy modules are imported by the command that needs them.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from position_pipeline import settings as settings_module
from position_pipeline import show, show_lists
from position_pipeline.accounting.model import Method

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from position_pipeline.settings import Settings
    from position_pipeline.store import Store

Accounts = Annotated[list[str] | None, typer.Option("--account", "-a", metavar="ACCOUNT", help="Only this account; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
AsOf = Annotated[str | None, typer.Option("--as-of", metavar="TIME", help="What was true then, as we know now. A date is its midnight.")]
KnownAt = Annotated[str | None, typer.Option("--known-at", metavar="TIME", help="What we believed then. Times without a zone are UTC.")]


class BadUse(Exception):
    """A command was asked for something that cannot be; the text is for the person who asked."""


@contextmanager
def opened() -> Iterator[tuple[Settings, Store]]:
    from position_pipeline import connections

    settings = settings_module.load()
    with connections.store(settings) as store:
        yield settings, store


@contextmanager
def reading(accounts: Sequence[str] | None = None) -> Iterator[tuple[Settings, Store]]:
    """An open store to read from. An account that is not known has no positions, which must not read like "holds nothing"."""
    with opened() as (settings, store):
        known = [row["account"] for row in store.read.accounts()] if accounts else []
        unknown = [account for account in accounts or () if account not in known]
        if unknown:
            hint = f"Known are: {', '.join(known)}." if known else "None is known yet. Run: position-pipeline sync"
            raise BadUse(f"Account {unknown[0]} is not known. {hint}")
        yield settings, store


def shown(rows: Sequence[show.Row], table: Callable[[Console, Sequence[show.Row]], None], *, json: bool) -> None:
    if json:
        show.print_json(rows)
    else:
        table(show.console(), rows)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr where a person looks at it; called with what is done, how much of it, and of how much."""
    from rich.progress import Progress

    errors = show.console(stderr=True)
    with Progress(console=errors, transient=True, disable=quiet or not errors.is_terminal) as progress:
        task = progress.add_task("Reading", total=None)

        def tell(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total or None)

        yield tell


# -- the commands


def status(json: Json = False) -> None:
    """When it last ran, with what result, when it runs next, and how fresh each account is."""
    from position_pipeline import status as status_module

    with reading() as (settings, store):
        found = status_module.status(settings, store, datetime.now(UTC))
    if json:
        show.print_json(found)
        return
    console = show.console()
    show.say(console, status_module.lines(found))
    show_lists.accounts(console, found["accounts"])


def accounts(
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", metavar="ACCOUNT[:KIND]=METHOD", help="Book anew by average, fifo, lifo or hifo; KIND such as CRYPTO."),
    ] = None,
    json: Json = False,
) -> None:
    """The accounts that are known, how fresh each is, and by which method it is booked."""
    wanted = [_method(text) for text in methods or ()]
    with reading([account for account, _, _ in wanted]) as (settings, store):
        for account, kind, method in wanted:
            store.set_cost_method(account, method, kind)
        rows = [show.with_age(row, settings.stale_after, datetime.now(UTC)) for row in store.read.accounts()]
    shown(rows, show_lists.accounts, json=json)


def _method(text: str) -> tuple[str, str | None, Method]:
    """`U1=fifo` or `U1:CRYPTO=average`."""
    whose, _, name = text.partition("=")
    account, _, kind = whose.partition(":")
    if not account or name.lower() not in list(Method):
        raise BadUse(f"--method {text!r} is not ACCOUNT=METHOD or ACCOUNT:KIND=METHOD; methods are {', '.join(Method)}.")
    return account, kind.upper() or None, Method(name.lower())


def positions(
    accounts: Accounts = None,
    all_: Annotated[bool, typer.Option("--all", help="Closed positions too.")] = False,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    json: Json = False,
) -> None:
    """What we hold, what it cost, what it made; from the database, with its age, whether the broker answers or not.

    With --as-of or --known-at what we held then, from the entries; the prices of then are not kept.
    """
    then, known = _moment(as_of, "--as-of"), _moment(known_at, "--known-at")
    with reading(accounts) as (settings, store):
        if then or known:
            found = store.read.positions_then(accounts, as_of=then, known_at=known, all_=all_)
            rows = [{**row, "age_seconds": None, "stale": False} for row in found]
        else:
            found = store.read.positions(accounts, all_=all_)
            rows = [show.with_age(row, settings.stale_after, datetime.now(UTC)) for row in found]
        if not settings.calculate_realized_pnl:
            rows = [{**row, "realized_pnl": None, "realized_pnl_gross": None} for row in rows]
    shown(rows, show_lists.past_positions if then or known else show_lists.positions, json=json)


def closes(accounts: Accounts = None, as_of: AsOf = None, known_at: KnownAt = None, json: Json = False) -> None:
    """What was realised: one row for each part of a position that was closed."""
    then, known = _moment(as_of, "--as-of"), _moment(known_at, "--known-at")
    with reading(accounts) as (_, store):
        rows = store.read.closes(accounts, as_of=then, known_at=known)
    shown(rows, show_lists.closes, json=json)


def _moment(text: str | None, option: str) -> datetime | None:
    """A time that was given on the command line: without a zone it is UTC, a date is its midnight."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadUse(f"{option} {text!r} is no time. Give ISO 8601, such as 2026-03-02 or 2026-03-02T14:30:00Z.") from None


def executions(accounts: Accounts = None, json: Json = False) -> None:
    """Every fill, in its latest revision."""
    with reading(accounts) as (_, store):
        rows = store.read.executions(accounts)
    shown(rows, show_lists.executions, json=json)


def verify(accounts: Accounts = None, json: Json = False) -> None:
    """Make every position anew from its first entry and compare it with what is stored, to the last digit. Exit 1 if anything differs."""
    from position_pipeline import verify as verify_module

    with reading(accounts) as (_, store), progress(quiet=json) as tell:
        found = verify_module.verify(store, accounts, lambda account, done, of: tell(f"Verifying {account}", done, of))
    if json:
        show.print_json(verify_module.as_json(found, datetime.now(UTC)))
    else:
        show.say(show.console(), verify_module.lines(found), "red" if found.found else "")
    if found.found:
        sys.exit(1)


def explain(
    id_: Annotated[str, typer.Argument(metavar="ID", help="A close's id, a closing execution's id, an instrument's id or a symbol.")],
    accounts: Accounts = None,
    json: Json = False,
) -> None:
    """The fills, lots, fees and arithmetic behind a close or a position, to be redone on paper."""
    from position_pipeline import explain as explain_module

    with reading(accounts) as (_, store):
        found = store.read.explained(id_, accounts)
    if not found:
        raise BadUse(
            f"{id_!r} is no close, no execution that closed anything, and no position. Ids are in: position-pipeline closes --json"
        )
    if json:
        show.print_json([explain_module.as_row(each) for each in found])
    else:
        for number, each in enumerate(found):
            show.say(show.console(), [*([""] if number else []), *explain_module.lines(each)])


COMMANDS = (status, accounts, positions, closes, executions, verify, explain)
