"""From settings to what they name: the database's URL and the brokers. Every entry point starts here.

Belongs here: choosing between what is configured and what stands in for it (the embedded server, the simulated broker). Does not belong
here: using either.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from position_pipeline.accounting.circumstances import Policy
from position_pipeline.settings import SIMULATED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from position_pipeline.brokers.ibkr import IbkrBroker
    from position_pipeline.settings import Settings
    from position_pipeline.store import Store

__all__ = ["SIMULATED", "NoBroker", "brokers", "database", "policy", "simulator_address", "simulator_file", "store", "upgrade"]


class NoBroker(Exception):
    """No broker is configured and the simulated one does not run; the text says what to do."""


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The URL of the database, which is up for as long as the block lasts: DATABASE_URL, or the embedded server of this home."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    from position_pipeline.store import embedded

    with embedded.running(settings.home) as url:
        yield url


@contextmanager
def store(settings: Settings, *, in_a_hurry: bool = False) -> Iterator[Store]:
    """The store of this home, open. A new embedded database gets its tables; any other must have been upgraded by a person."""
    from position_pipeline.store import Store, WrongRevision, upgrade

    with database(settings) as url:
        try:
            opened = Store(url, in_a_hurry=in_a_hurry)
        except WrongRevision as error:
            if settings.database_url is not None or not error.empty:
                raise
            upgrade(url)
            opened = Store(url, in_a_hurry=in_a_hurry)
        with opened:
            yield opened


def upgrade(settings: Settings) -> tuple[str | None, str]:
    """Bring the database to the revision that this version needs: (revision before, revision after)."""
    from position_pipeline.store import upgrade as run
    from position_pipeline.store.connection import Connection

    with database(settings) as url:
        Connection(url).close()  # whoever cannot be reached is told in the same words as everywhere
        return run(url)


def brokers(settings: Settings) -> list[IbkrBroker]:
    """The configured brokers, or the simulated one that `up` runs. Raises `NoBroker`. Nothing is connected yet."""
    from position_pipeline.brokers.ibkr import IbkrBroker

    configured = settings.ibkr_connections()
    if configured:
        return [IbkrBroker(name=c.name, host=c.host, port=c.port, client_id=c.client_id, accounts=c.accounts) for c in configured]
    host, port = simulator_address(settings.home)
    return [IbkrBroker(name=SIMULATED, host=host, port=port, client_id=settings.ibkr_client_id)]


def policy(settings: Settings) -> Policy:
    """What is done about differences that nothing explains."""
    return Policy(
        adopts=settings.on_unexplained == "adopt",
        closes_missing=settings.mark_missing_as_closed,
        window=timedelta(seconds=settings.timing_window),
        vanishing=settings.vanished_share,
    )


def simulator_file(home: Path) -> Path:
    """Where a running simulated broker leaves its address for other commands of the same home."""
    return home / "simulator" / "address.json"


def simulator_address(home: Path) -> tuple[str, int]:
    """Host and port of this home's simulated broker. Raises `NoBroker` where none was ever started."""
    try:
        address = json.loads(simulator_file(home).read_text(encoding="utf-8"))
        return str(address["host"]), int(address["port"])
    except (OSError, ValueError, KeyError, TypeError):
        raise NoBroker(
            "No broker is configured. Set POSITION_SYNC_IBKR_HOST and POSITION_SYNC_IBKR_PORT to your TWS or IB Gateway, "
            "or run position-pipeline up, which starts a simulated broker to try things with."
        ) from None
