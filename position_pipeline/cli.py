"""The command line `position-pipeline`: one thin function a command.

Belongs here: options, exit codes, and which use case a command is. Does not belong here: the use cases (sync, statements, supervision,
doctor), formatting (show). Heavy modules are imported by the command that needs them, so that `--help` and reads answer at once.

Exit codes: 0 done, 1 failed, 2 bad use (also a bad setting), 75 the account is already being synced.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from position_pipeline import settings as settings_module
from position_pipeline import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from position_pipeline.settings import Settings
    from position_pipeline.statements import Imported
    from position_pipeline.store import Store

ALREADY_RUNNING = 75

app = typer.Typer(
    name="position-pipeline",
    help="Keeps a PostgreSQL database of your broker positions provably right.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
db_app = typer.Typer(help="The database's tables.", no_args_is_help=True)
app.add_typer(db_app, name="db")

Accounts = Annotated[list[str] | None, typer.Option("--account", "-a", metavar="ACCOUNT", help="Only this account; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
AsOf = Annotated[str | None, typer.Option("--as-of", metavar="TIME", help="What was true then, as we know now. A date is its midnight.")]
KnownAt = Annotated[str | None, typer.Option("--known-at", metavar="TIME", help="What we believed then. Times without a zone are UTC.")]


class BadUse(Exception):
    """A command was asked for something that cannot be; the text is for the person who asked."""


# -- how a command ends


def main() -> None:
    """Run the command line. What goes wrong is told in words on stderr, never as a traceback."""
    # As an exception SIGTERM stops an embedded server on the way out; the commands that run on take it over.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    code = run()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        code = 1
        if not isinstance(error, BrokenPipeError):
            _say(f"The output cannot be written: {error.strerror}.")
        # What is left in the buffer would be tried again, and complained about, at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run() -> int | str | None:
    """Run what the command line says; the exit code."""
    try:
        app(prog_name="position-pipeline")
    except SystemExit as end:
        return end.code
    except (BadUse, settings_module.SettingsError) as error:
        _say(str(error))
        return 2
    except Exception as error:  # noqa: BLE001  whoever gave the command gets words
        _say(_words(error))
        return 1
    return 0


def _say(message: str) -> None:
    show.say(show.console(stderr=True), [message], "red")


def _words(error: Exception) -> str:
    """What went wrong. What we know has its own words; the database and the machine have theirs; the rest is a fault of ours."""
    from psycopg2 import Error as DatabaseError

    from position_pipeline.connections import NoBroker
    from position_pipeline.store import DatabaseUnavailable, WrongRevision
    from position_pipeline.store.embedded_binaries import EmbeddedServerError

    if isinstance(error, NoBroker | DatabaseUnavailable | WrongRevision | EmbeddedServerError):
        return str(error)
    error = getattr(error, "orig", None) or error  # SQLAlchemy wraps what the database said in the whole statement
    said = " ".join(str(error).split())
    if isinstance(error, DatabaseError):
        return f"PostgreSQL refused: {said}. Nothing of this step was kept."
    if isinstance(error, OSError):
        return f"The machine refused: {said}"
    return f"This is a fault in position-pipeline ({type(error).__name__}: {said[:300]}).{_kept()}"


def _kept() -> str:
    """Keep the details of a fault in a file, and say in which."""
    with suppress(OSError, settings_module.SettingsError):
        file = settings_module.load().home / "logs" / "faults.log"
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with file.open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC).isoformat()} {' '.join(sys.argv)}\n{traceback.format_exc()}\n")
        return f" The details are in {file}."
    return ""


# -- the commands


@contextmanager
def _opened() -> Iterator[tuple[Settings, Store]]:
    from position_pipeline import connections

    settings = settings_module.load()
    with connections.store(settings) as store:
        yield settings, store


@contextmanager
def _reading(accounts: Sequence[str] | None = None) -> Iterator[tuple[Settings, Store]]:
    """An open store to read from. An account that is not known has no positions, which must not read like "holds nothing"."""
    with _opened() as (settings, store):
        known = [row["account"] for row in store.read.accounts()] if accounts else []
        unknown = [account for account in accounts or () if account not in known]
        if unknown:
            hint = f"Known are: {', '.join(known)}." if known else "None is known yet. Run: position-pipeline sync"
            raise BadUse(f"Account {unknown[0]} is not known. {hint}")
        yield settings, store


@app.command()
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the Dagster UI is served; the next free port if it is taken.")] = 3000,
) -> None:
    """Run everything: database, broker (simulated unless one is configured), Dagster UI and schedule. Ctrl-C stops it all."""
    from position_pipeline import supervision

    sys.exit(supervision.up(settings_module.load(), port))


@app.command()
def sync(accounts: Accounts = None, json: Json = False) -> None:
    """Ask the brokers now, record new fills and reconcile. Exit 75 if that is already being done."""
    from position_pipeline import connections
    from position_pipeline.sync import sync as run

    errors = show.console(stderr=True)
    with _opened() as (settings, store), errors.status("Asking the broker") if errors.is_terminal else nullcontext():
        results = run(
            store,
            connections.brokers(settings),
            accounts or settings.default_accounts,
            trigger="manual",
            timeout=settings.broker_timeout,
            cost_method=settings.cost_method,
        )
    if json:
        show.print_json([show.sync_row(result) for result in results])
    else:
        show.syncs(show.console(), results)
        show.say(errors, show.sync_errors(results), "red")
    if any(not result.good for result in results):
        sys.exit(ALREADY_RUNNING if all(r.good or r.outcome == "already_running" for r in results) else 1)


@app.command()
def status(json: Json = False) -> None:
    """When it last ran, with what result, when it runs next, and how fresh each account is."""
    from position_pipeline import status as status_module

    with _reading() as (settings, store):
        found = status_module.status(settings, store, datetime.now(UTC))
    if json:
        show.print_json(found)
        return
    console = show.console()
    show.say(console, status_module.lines(found))
    show.accounts(console, found["accounts"])


@app.command()
def accounts(json: Json = False) -> None:
    """The accounts that are known, and how fresh each is."""
    with _reading() as (settings, store):
        rows = [show.with_age(row, settings.stale_after, datetime.now(UTC)) for row in store.read.accounts()]
    _show(rows, show.accounts, json=json)


@app.command()
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
    with _reading(accounts) as (settings, store):
        if then or known:
            found = store.read.positions_then(accounts, as_of=then, known_at=known, all_=all_)
            rows = [{**row, "age_seconds": None, "stale": False} for row in found]
        else:
            found = store.read.positions(accounts, all_=all_)
            rows = [show.with_age(row, settings.stale_after, datetime.now(UTC)) for row in found]
    _show(rows, show.past_positions if then or known else show.positions, json=json)


@app.command()
def closes(accounts: Accounts = None, as_of: AsOf = None, known_at: KnownAt = None, json: Json = False) -> None:
    """What was realised: one row for each part of a position that was closed."""
    then, known = _moment(as_of, "--as-of"), _moment(known_at, "--known-at")
    with _reading(accounts) as (_, store):
        rows = store.read.closes(accounts, as_of=then, known_at=known)
    _show(rows, show.closes, json=json)


def _moment(text: str | None, option: str) -> datetime | None:
    """A time that was given on the command line: without a zone it is UTC, a date is its midnight."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadUse(f"{option} {text!r} is no time. Give ISO 8601, such as 2026-03-02 or 2026-03-02T14:30:00Z.") from None


@app.command()
def verify(accounts: Accounts = None, json: Json = False) -> None:
    """Make every position anew from its first entry and compare it with what is stored, to the last digit. Exit 1 if anything differs."""
    from position_pipeline import verify as verify_module

    with _reading(accounts) as (_, store), _progress(quiet=json) as tell:
        found = verify_module.verify(store, accounts, lambda account, done, of: tell(f"Verifying {account}", done, of))
    if json:
        show.print_json(verify_module.as_json(found, datetime.now(UTC)))
    else:
        show.say(show.console(), verify_module.lines(found), "red" if found.found else "")
    if found.found:
        sys.exit(1)


@app.command()
def explain(
    id_: Annotated[str, typer.Argument(metavar="ID", help="A close's id, a closing execution's id, an instrument's id or a symbol.")],
    accounts: Accounts = None,
    json: Json = False,
) -> None:
    """The fills, lots, fees and arithmetic behind a close or a position, to be redone on paper."""
    from position_pipeline import explain as explain_module

    with _reading(accounts) as (_, store):
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


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Events as JSON Lines or CSV, one a line.")],
    method: Annotated[str, typer.Option(help="Which lots a closing fill consumes: average, fifo, lifo or hifo.")] = "fifo",
    json: Json = False,
) -> None:
    """Fold a file of events through the accounting alone, with no database: positions, lots, closes, and the cash identity."""
    from position_pipeline import replay as replay_module

    sys.exit(replay_module.run(file, method, json))


@app.command()
def executions(accounts: Accounts = None, json: Json = False) -> None:
    """Every fill, in its latest revision."""
    with _reading(accounts) as (_, store):
        rows = store.read.executions(accounts)
    _show(rows, show.executions, json=json)


@app.command()
def breaks(
    accounts: Accounts = None,
    all_: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    json: Json = False,
) -> None:
    """Where the book and the broker differ, since when, and what helps."""
    with _reading(accounts) as (_, store):
        rows = store.read.breaks(accounts, all_=all_)
    _show(rows, show.breaks, json=json)


def _show(rows: Sequence[show.Row], table: Callable[[Console, Sequence[show.Row]], None], *, json: bool) -> None:
    if json:
        show.print_json(rows)
    else:
        table(show.console(), rows)


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Flex statements (XML), or opening lots (CSV).")],
    json: Json = False,
) -> None:
    """Take in statements: fills, book entries and cash rows that are not known yet. Importing a file again adds nothing.

    Each file is taken whole or not at all; a bad one does not keep the others out. A file of opening lots is CSV with the columns
    account, instrument, quantity, opened_at and price or cost, such as: U1234567,ibkr:265598,100,2024-11-20,189.25
    """
    from position_pipeline import statements

    rows, refused = [], []
    with _opened() as (settings, store):
        for file in files:
            try:
                imported = _import_file(store, file, settings, quiet=json)
            except statements.StatementError as error:
                refused.append(str(error))
                continue
            rows += [statements.as_row(one) for one in imported]
            if not json:
                show.say(show.console(), [line for one in imported for line in statements.lines(one)])
    if json:
        show.print_json(rows)
    show.say(show.console(stderr=True), [f"Refused: {error}" for error in refused], "red")
    if refused:
        sys.exit(1)


def _import_file(store: Store, file: Path, settings: Settings, *, quiet: bool) -> list[Imported]:
    from position_pipeline import statements

    with _progress(quiet=quiet) as tell:
        return statements.import_file(store, file, settings.cost_method, tell)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr where a person looks at it; called with what is done, how much of it, and of how much."""
    from rich.progress import Progress

    errors = show.console(stderr=True)
    with Progress(console=errors, transient=True, disable=quiet or not errors.is_terminal) as progress:
        task = progress.add_task("Reading", total=None)

        def tell(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total or None)

        yield tell


@app.command()
def simulator(
    *,
    scenario: Annotated[Path | None, typer.Option(help="A scenario file (TOML); default: the demo.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: any free one.")] = 0,
    fault: Annotated[list[str] | None, typer.Option(help="Misbehave, e.g. hang:positions; may be repeated.")] = None,
    speed: Annotated[float, typer.Option(min=0, max=100_000, help="How fast the scenario plays; 0: its clock stands still.")] = 1,
    state_file: Annotated[Path | None, typer.Option(help="Where to keep its state, to go on from after a restart.")] = None,
    executions_since: Annotated[str, typer.Option(help="What it lists as today's fills: midnight or week.")] = "midnight",
    address_file: Annotated[Path | None, typer.Option(help="Where to write host and port once it listens.")] = None,
) -> None:
    """Run a simulated broker that speaks the TWS protocol on this machine, until stopped."""
    from position_pipeline import simulating

    simulating.run(
        scenario=scenario,
        port=port,
        faults=fault or (),
        speed=speed,
        state_file=state_file,
        executions_since=executions_since,
        address_file=address_file,
    )


@app.command()
def doctor(json: Json = False) -> None:
    """Look at everything that can be wrong, and say what to do. Exit 1 if the database cannot be used."""
    from position_pipeline import doctor as doctor_module

    report = doctor_module.examine(settings_module.load())
    if json:
        show.print_json(report)
    else:
        console = show.console()
        show.say(console, doctor_module.lines(report))
    if not doctor_module.usable(report):
        sys.exit(1)


@db_app.command()
def upgrade() -> None:
    """Bring the database's tables to the revision that this version needs."""
    from position_pipeline import connections

    before, after = connections.upgrade(settings_module.load())
    done = f"is at revision {after} already" if before == after else f"went from {before or 'nothing'} to revision {after}"
    show.say(show.console(), [f"The database {done}."])


if __name__ == "__main__":
    main()
