"""The commands about alerts: what was told, and whether the channels work.

Belongs here: their options and tables. Does not belong here: telling (alerts_delivery), which the sensor `alerts` does.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from position_pipeline import settings as settings_module
from position_pipeline import show
from position_pipeline.cli_reading import BadUse, Json, opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

app = typer.Typer(invoke_without_command=True, help="What was told to whom: what is wrong now, with --all what is over too.")


@app.callback()
def listed(
    context: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="What is over too.")] = False,
    json: Json = False,
) -> None:
    """What was told to whom: what is wrong now, with --all what is over too. The sensor `alerts` of `position-pipeline up` tells it."""
    if context.invoked_subcommand:
        return
    with opened() as (_, store):
        rows = store.alerting.listed(all_=all_)
    if json:
        show.print_json(rows)
    else:
        _table(show.console(), rows)


@app.command("test")
def try_channels(json: Json = False) -> None:
    """Send a message to each channel of POSITION_SYNC_ALERTS now, and say what came of it. Exit 1 if one did not take it."""
    from position_pipeline import alerts_delivery

    channels = alerts_delivery.channels(settings_module.load())
    if not channels:
        raise BadUse("POSITION_SYNC_ALERTS is not set: give it the URLs of your channels, such as mailto:// or slack:// (see the README).")
    message = {
        "id": 0,
        "severity": "notice",
        "title": "A test of position-pipeline",
        "body": "If you read this, alerts of this program reach you here. Nothing is wrong.",
    }
    results = {channel.name: alerts_delivery.send(channel, [message])[0] for channel in channels}
    if json:
        show.print_json([{"channel": name, "ok": error is None, "error": error} for name, error in results.items()])
    else:
        show.say(show.console(), [f"{name}: {'taken' if error is None else error}" for name, error in results.items()])
    if any(error is not None for error in results.values()):
        sys.exit(1)


def _table(where: Console, rows: Sequence[show.Row]) -> None:
    columns: list[show.Column] = [
        ("Since (UTC)", "time", lambda row: show.moment(row["since_at"])),
        ("Kind", "word", lambda row: row["kind"]),
        ("What", "word", lambda row: row["headline"]),
        ("Severity", "word", lambda row: row["severity"]),
        ("Told", "number", lambda row: str(row["told"])),
        ("Last (UTC)", "spare time", lambda row: show.moment(row["last_told_at"])),
        ("Over (UTC)", "spare time", lambda row: show.moment(row["recovered_at"])),
        ("Delivery", "word", _delivery),
    ]
    show.table(where, "Alerts", columns, rows, "Nothing is wrong that was told.")


def _delivery(row: show.Row) -> str:
    """What became of the last message of an alert, channel by channel."""
    return "; ".join(map(_channel, row["deliveries"])) or "to nobody"


def _channel(delivery: show.Row) -> str:
    if delivery["state"] == "delivered":
        return f"{delivery['channel']} taken"
    attempts = show.counted(delivery["attempts"], "attempt")
    tried = f" after {attempts}: {delivery['error'] or 'no answer yet'}" if delivery["attempts"] else ""
    return f"{delivery['channel']} {delivery['state'].replace('_', ' ')}{tried}"
