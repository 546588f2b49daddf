"""The command line `position-pipeline`: one thin function a command.

Belongs here: options, exit codes, and which use case a command is. Does not belong here: the use cases (sync, statements, supervision,
doctor), formatting (show). Heavy modules are imported by the command that needs them, so that `--help` and reads answer at once.

Exit codes: 0 done, 1 failed, 2 bad use (also a bad setting), 75 the account is already being synced.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from position_pipeline import settings as settings_module
from position_pipeline import show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from position_pipeline.settings import Settings
    from position_pipeline.store import Store
    from position_pipeline.sync import SyncResult

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


class Failure(Exception):
    """A command could not do its work; the text is for the person who gave it."""


def main() -> None:
    """Run the command line; expected failures are one line on stderr, never a traceback."""
    try:
        app()
    except settings_module.SettingsError as error:
        _stop(str(error), 2)
    except KeyboardInterrupt:
        _stop("Interrupted.", 130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if not _expected(error):
            raise
        _stop(str(error), 1)


def _expected(error: Exception) -> bool:
    from position_pipeline.connections import NoBroker
    from position_pipeline.store import DatabaseUnavailable, WrongRevision
    from position_pipeline.store.embedded_binaries import EmbeddedServerError

    return isinstance(error, Failure | NoBroker | DatabaseUnavailable | WrongRevision | EmbeddedServerError)


def _stop(message: str, code: int) -> None:
    show.say(show.console(stderr=True), [message], "red")
    sys.exit(code)


@contextmanager
def _opened() -> Iterator[tuple[Settings, Store]]:
    from position_pipeline import connections

    settings = settings_module.load()
    with connections.store(settings) as store:
        yield settings, store


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Where the Dagster UI is served; the next free port if it is taken.")] = 3000,
) -> None:
    """Run everything: database, broker (simulated unless one is configured), Dagster UI and schedule. Ctrl-C stops it all."""
    from position_pipeline import supervision

    sys.exit(supervision.up(settings_module.load(), port))


@app.command()
def sync(accounts: Accounts = None, json: Json = False) -> None:
    """Ask the brokers now, record new fills and reconcile. Exit 75 if that is already being done."""
    from position_pipeline import connections
    from position_pipeline.sync import sync as run

    with _opened() as (settings, store):
        results = run(
            store,
            connections.brokers(settings),
            accounts or settings.default_accounts,
            trigger="manual",
            timeout=settings.broker_timeout,
            cost_method=settings.cost_method,
        )
    if json:
        show.print_json([_sync_row(result) for result in results])
    else:
        _show_sync(show.console(), results)
    if any(not result.good for result in results):
        sys.exit(ALREADY_RUNNING if all(r.good or r.outcome == "already_running" for r in results) else 1)


def _sync_row(result: SyncResult) -> dict[str, Any]:
    names = ("account", "outcome", "created", "updated", "closed", "unchanged", "fills", "snapshot_status", "open_breaks")
    row = {name: getattr(result, name) for name in (*names, "duration_ms", "own_ms")}
    return {**row, "errors": [{"symbol": symbol, "error": error} for symbol, error in result.errors]}


def _show_sync(console: Console, results: Sequence[SyncResult]) -> None:
    columns = [("Account", "left"), ("Outcome", "left"), ("Created", "left"), ("Updated", "left"), ("Closed", "left")]
    columns += [("Unchanged", "right"), ("New fills", "right"), ("Open breaks", "right"), ("Took", "right spare")]
    rows = [
        [r.account, r.outcome, *(" ".join(symbols) for symbols in (r.created, r.updated, r.closed))]
        + [str(r.unchanged), str(r.fills), str(r.open_breaks), f"{r.duration_ms} ms"]
        for r in results
    ]
    show.table(console, "Sync", columns, rows)
    errors = [f"{' '.join(filter(None, (result.account, symbol)))}: {error}" for result in results for symbol, error in result.errors]
    show.say(console, errors, "red")
    if any(result.open_breaks for result in results):
        show.say(console, ["Book and broker differ: position-pipeline breaks"], "yellow")


@app.command()
def status(json: Json = False) -> None:
    """When it last ran, with what result, when it runs next, and how fresh each account is."""
    from position_pipeline import status as status_module

    with _opened() as (settings, store):
        found = status_module.status(settings, store, datetime.now(UTC))
    if json:
        show.print_json(found)
        return
    console = show.console()
    show.say(console, status_module.lines(found))
    _account_table(console, found["accounts"])


@app.command()
def accounts(json: Json = False) -> None:
    """The accounts that are known, and how fresh each is."""
    now = datetime.now(UTC)
    with _opened() as (settings, store):
        rows = [show.with_age(row, settings.stale_after, now) for row in store.read.accounts()]
    if json:
        show.print_json(rows)
        return
    _account_table(show.console(), rows)


def _account_table(console: Console, rows: Sequence[show.Row]) -> None:
    columns = [("Account", "left"), ("Broker", "left"), ("Base", "left"), ("Positions", "right"), ("Open breaks", "right")]
    columns += [("Synced", "right"), ("Last attempt", "left")]
    shown = [
        [row["account"], row["broker"], row["base_currency"] or "--", str(row["positions"]), str(row["open_breaks"])]
        + [_age_cell(row), row["last_outcome"] or "--"]
        for row in rows
    ]
    show.table(console, "Accounts", columns, shown, "" if shown else "No account is known yet. Run: position-pipeline sync")


def _age_cell(row: show.Row) -> str:
    text = show.age(row["age_seconds"])
    return text if row["age_seconds"] is None else f"{text} ago{' (stale)' if row['stale'] else ''}"


@app.command()
def positions(
    accounts: Accounts = None,
    all_: Annotated[bool, typer.Option("--all", help="Closed positions too.")] = False,
    json: Json = False,
) -> None:
    """What we hold, what it cost, what it made; from the database, with its age, whether the broker answers or not."""
    now = datetime.now(UTC)
    with _opened() as (settings, store):
        rows = [show.with_age(row, settings.stale_after, now) for row in store.read.positions(accounts, all_=all_)]
    if json:
        show.print_json(rows)
        return
    columns = [("Account", "left"), ("Symbol", "left"), ("Quantity", "right"), ("Broker", "right"), ("Average", "right spare")]
    columns += [("Price", "right spare"), ("Value", "right"), ("Unrealized", "right"), ("Realized", "right spare"), ("", "left")]
    columns += [("Basis", "left spare"), ("Synced", "right")]
    shown = [
        [row["account"], row["symbol"], show.number(row["quantity"]), _broker_cell(row), show.number(row["average_price"])]
        + [show.number(row["market_price"]), show.money(row["market_value"]), show.money(row["unrealized_pnl"])]
        + [show.money(row["realized_pnl"]), row["currency"], row["basis_quality"], _age_cell(row)]
        for row in rows
    ]
    show.table(show.console(), "Positions", columns, shown, "" if shown else "No positions. Run: position-pipeline sync")


def _broker_cell(row: show.Row) -> str:
    """The broker's quantity, marked where it is not ours."""
    differs = row["broker_quantity"] is not None and row["broker_quantity"] != row["quantity"]
    return f"≠ {show.number(row['broker_quantity'])}" if differs else show.number(row["broker_quantity"])


@app.command()
def closes(accounts: Accounts = None, json: Json = False) -> None:
    """What was realised: one row for each part of a position that was closed."""
    with _opened() as (_, store):
        rows = store.read.closes(accounts)
    if json:
        show.print_json(rows)
        return
    columns = [("Closed", "left"), ("Account", "left"), ("Symbol", "left"), ("Quantity", "right"), ("Entry", "right")]
    columns += [
        ("Exit", "right"),
        ("Gross", "right spare"),
        ("Fees", "right spare"),
        ("Net", "right"),
        ("", "left"),
        ("Method", "left spare"),
    ]
    shown = [
        [show.moment(row["closed_at"]), row["account"], row["symbol"], show.number(row["quantity"]), show.number(row["entry_price"])]
        + [show.number(row["exit_price"]), show.money(row["gross_pnl"]), _fees_cell(row), show.money(row["net_pnl"])]
        + [row["currency"], row["method"]]
        for row in rows
    ]
    unknown = sum(row["gross_pnl"] is None for row in rows)
    note = f"{unknown} closes have an unknown basis (--) and are in no total: give their opening lots with import." if unknown else ""
    show.table(show.console(), "Closes", columns, shown, note if shown else "Nothing has been closed yet.")


def _fees_cell(row: show.Row) -> str:
    if row["opening_commission"] is None or row["closing_commission"] is None:
        return "--"
    return show.money(row["opening_commission"] + row["closing_commission"])


@app.command()
def executions(accounts: Accounts = None, json: Json = False) -> None:
    """Every fill, in its latest revision."""
    with _opened() as (_, store):
        rows = store.read.executions(accounts)
    if json:
        show.print_json(rows)
        return
    columns = [("Time", "left"), ("Account", "left"), ("Symbol", "left"), ("Side", "left"), ("Quantity", "right")]
    columns += [
        ("Price", "right"),
        ("", "left"),
        ("Commission", "right spare"),
        ("", "left spare"),
        ("Source", "left spare"),
        ("Id", "left spare"),
    ]
    shown = [
        [show.moment(row["time"]), row["account"], row["symbol"], row["side"], show.number(row["quantity"])]
        + [show.number(row["price"]), row["currency"], show.number(row["commission"]), row["commission_currency"] or ""]
        + [row["source"], _execution_cell(row)]
        for row in rows
    ]
    show.table(show.console(), "Executions", columns, shown, "" if shown else "No executions yet. Run: position-pipeline sync")


def _execution_cell(row: show.Row) -> str:
    return row["execution_id"] if row["revision"] == 1 else f"{row['execution_id']} (revision {row['revision']})"


@app.command()
def breaks(
    accounts: Accounts = None,
    all_: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    json: Json = False,
) -> None:
    """Where the book and the broker differ, since when, and what helps."""
    with _opened() as (_, store):
        rows = store.read.breaks(accounts, all_=all_)
    if json:
        show.print_json(rows)
        return
    columns = [("Id", "left"), ("Account", "left"), ("Symbol", "left"), ("Class", "left"), ("Status", "left")]
    columns += [("Book", "right"), ("Broker", "right"), ("Since", "left"), ("Evidence", "left")]
    shown = [
        [row["id"], row["account"], row["symbol"], row["class"], row["status"], show.number(row["book_quantity"])]
        + [show.number(row["broker_quantity"]), show.moment(row["first_seen_at"]), row["evidence"]]
        for row in rows
    ]
    show.table(show.console(), "Breaks", columns, shown, "" if shown else "No open breaks: book and broker agree.")


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Flex statements (XML), or opening lots (CSV).")],
    json: Json = False,
) -> None:
    """Take in statements: fills, book entries and cash rows that are not known yet. Importing a file again adds nothing."""
    from position_pipeline import statements

    with _opened() as (settings, store):
        imported = _import_all(store, settings, files, quiet=json)
    if json:
        show.print_json([statements.as_row(one) for one in imported])
        return
    console = show.console()
    for one in imported:
        show.say(console, statements.lines(one))


def _import_all(store: Store, settings: Settings, files: Sequence[Path], *, quiet: bool) -> list[Any]:
    from rich.progress import Progress

    from position_pipeline import statements

    try:
        with Progress(console=show.console(stderr=True), transient=True, disable=quiet) as progress:
            task = progress.add_task("Reading", total=None)

            def tell(what: str, done: int, total: int) -> None:
                progress.update(task, description=what, completed=done, total=total)

            return [one for file in files for one in statements.import_file(store, file, settings.cost_method, tell)]
    except statements.StatementError as error:
        raise Failure(str(error)) from None


@app.command()
def simulator(
    scenario: Annotated[Path | None, typer.Option(help="A scenario file (TOML); default: the demo.")] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0: any free one.")] = 0,
    fault: Annotated[list[str] | None, typer.Option(help="Misbehave, e.g. hang:positions; may be repeated.")] = None,
    speed: Annotated[float, typer.Option(help="How fast the scenario plays.")] = 1,
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
    from position_pipeline.store import upgrade as run

    with connections.database(settings_module.load()) as url:
        before, after = run(url)
    done = f"is at revision {after} already" if before == after else f"went from {before or 'nothing'} to revision {after}"
    show.say(show.console(), [f"The database {done}."])


if __name__ == "__main__":
    main()
