"""The one resource, and how what is wrong around a run reaches the person who reads it.

Belongs here: the Dagster shells. Does not belong here: what they hold (session).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import dagster as dg

from position_pipeline.brokers import Broker
from position_pipeline.defs.session import EXPECTED, SyncSession, wishes
from position_pipeline.settings import Settings


def sync_session(settings: Settings, brokers: Callable[[], Sequence[Broker]]) -> dg.ResourceDefinition:
    """A `SyncSession` that lives for the run; in one process its steps share it, in several each has its own.

    Not a ConfigurableResource, whose fields would be shown in the UI: settings hold secrets.
    """

    @dg.resource(description="The database and one pass over each broker, for as long as the run lasts.")
    def session(context: dg.InitResourceContext) -> Iterator[SyncSession]:
        trigger, accounts = wishes(context.run.tags if context.run else {}, settings.default_accounts)
        run_id = context.run.run_id if context.run else ""
        with SyncSession(settings, brokers, trigger=trigger, accounts=accounts, run_id=run_id) as opened:
            yield opened

    return session


@contextmanager
def told() -> Iterator[None]:
    """Trouble that is expected fails the step with its own text. A retry within the run would meet the same."""
    try:
        yield
    except EXPECTED as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None
