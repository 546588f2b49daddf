"""The command line `position-pipeline`: one thin function a command.

Belongs here: how a command ends, and the commands that do something. Does not belong here: those that read the book (cli_reading), the use
cases (sync, imports, supervision, doctor), formatting (show). Heavy modules are imported by the command that needs them, so that `--help`
and reads answer at once.

Exit codes: 0 done, 1 failed, 2 bad use (also a bad setting), 75 the account is already being synced.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import Annotated

import typer

from position_pipeline import cli_alerts, cli_reading, cli_register, show, show_syncs
from position_pipeline import settings as settings_module
from position_pipeline.cli_reading import Accounts, BadUse, Json, opened, progress

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
app.add_typer(cli_alerts.app, name="alerts")


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
    from position_pipeline.store import DatabaseUnavailable, NotPossible, WrongRevision
    from position_pipeline.store.embedded_binaries import EmbeddedServerError

    if isinstance(error, NoBroker | DatabaseUnavailable | NotPossible | WrongRevision | EmbeddedServerError):
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
    with opened() as (settings, store), errors.status("Asking the broker") if errors.is_terminal else nullcontext():
        results = run(
            store,
            connections.brokers(settings),
            accounts or settings.default_accounts,
            trigger="manual",
            timeout=settings.broker_timeout,
            cost_method=settings.cost_method,
            policy=connections.policy(settings),
        )
    if json:
        show.print_json([show_syncs.sync_row(result) for result in results])
    else:
        show_syncs.syncs(show.console(), results)
        show.say(errors, show_syncs.sync_errors(results), "red")
    if any(not result.good for result in results):
        sys.exit(ALREADY_RUNNING if all(r.good or r.outcome == "already_running" for r in results) else 1)


@app.command()
def listen(
    *,
    stand_by: Annotated[bool, typer.Option("--stand-by", help="Where another listener runs, wait until it is gone.")] = False,
    report_to: Annotated[str, typer.Option(metavar="URL", help="Dagster's webserver, to be told what was recorded.")] = "",
) -> None:
    """Hear the brokers and record fills as they happen, until stopped. Exit 75 if another listener hears them already."""
    from position_pipeline import listener

    sys.exit(listener.listen(settings_module.load(), stand_by=stand_by, report_to=report_to))


for reading in (*cli_reading.COMMANDS, cli_register.events):
    app.command()(reading)
app.add_typer(cli_register.breaks_app, name="breaks")
app.add_typer(cli_register.adjustments_app, name="adjustments")


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Events as JSON Lines or CSV, one a line.")],
    method: Annotated[str, typer.Option(help="Which lots a closing fill consumes: average, fifo, lifo or hifo.")] = "fifo",
    json: Json = False,
) -> None:
    """Fold a file of events through the accounting alone, with no database: positions, lots, closes, and the cash identity."""
    from position_pipeline import replay as replay_module

    sys.exit(replay_module.run(file, method, json))


@app.command("import")
def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Flex statements (XML), opening lots (CSV), or events (CSV, JSON Lines).")
    ],
    json: Json = False,
) -> None:
    """Take in statements: fills, book entries and cash rows that are not known yet. Importing a file again adds nothing.

    Each file is taken whole or not at all; a bad one does not keep the others out. A file of opening lots is CSV with the columns
    account, instrument, quantity, opened_at and price or cost, such as: U1234567,ibkr:265598,100,2024-11-20,189.25
    A file of events has one a line, as for replay: fills, splits, dividends, expiries and the rest, each with its account and time, and
    with its execution_id where it has one.
    """
    from position_pipeline import imports

    rows, refused = [], []
    with opened() as (settings, store):
        for file in files:
            try:
                with progress(quiet=json) as tell:
                    report = imports.take_in(store, file, settings.cost_method, tell)
            except imports.StatementError as error:
                refused.append(str(error))
                continue
            rows += report.rows
            if not json:
                show.say(show.console(), report.lines)
    if json:
        show.print_json(rows)
    show.say(show.console(stderr=True), [f"Refused: {error}" for error in refused], "red")
    if refused:
        sys.exit(1)


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
