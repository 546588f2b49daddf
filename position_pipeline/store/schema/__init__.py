"""The tables, with what one row of each means: the one description that migrations are checked against. `metadata` holds them all.

Belongs here: columns, constraints, comments, in one module a part of the house. Does not belong here: queries (queries/) and use cases
(Store). Commands never import this package, because importing SQLAlchemy would cost each a quarter of a second; migrations, tests and
Dagster's processes do.
"""

from position_pipeline.store.schema import alerts, answers, book, breaks, deliveries, entries, streams, syncs
from position_pipeline.store.schema.columns import metadata

__all__ = ["alerts", "answers", "book", "breaks", "deliveries", "entries", "metadata", "streams", "syncs"]
