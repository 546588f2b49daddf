"""What open lots would cost by other methods than the account's own: it explains most gaps between our cost and the broker's average.

Belongs here: working that out from the history, once for each state of a position, and keeping it beside the position. Does not belong
here: which gap is explained (accounting.costs). The figures are for that comparison alone and never in the book.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING

from psycopg2.extras import Json

from position_pipeline.accounting.costs import cost_break
from position_pipeline.accounting.exact import plain
from position_pipeline.accounting.model import Method
from position_pipeline.store import queries
from position_pipeline.store.histories import flat_positions, fold_histories
from position_pipeline.store.instruments import described
from position_pipeline.store.pages import Pages
from position_pipeline.store.rebuilding import groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from position_pipeline.accounting.circumstances import BookSide
    from position_pipeline.accounting.model import Holding, Instrument, Snapshot
    from position_pipeline.store.connection import Connection, Row

SQL = queries.load("sync")


def known(row: Row) -> dict[Method, Decimal]:
    """What was worked out for a position as it is now; nothing where it has changed since."""
    kept = row["other_costs"]
    if not kept or row["cost"] is None or (Decimal(kept["quantity"]), Decimal(kept["cost"])) != (row["quantity"], row["cost"]):
        return {}
    return {Method(name): Decimal(cost) for name, cost in kept["costs"].items()}


def completed(connection: Connection, snapshot: Snapshot, side: BookSide, holding: Holding, instrument: Instrument) -> BookSide:
    """The side with its cost by as many other methods as it takes to explain the broker's, or by all; they are kept."""
    costs = dict(side.costs)
    for method in Method:
        if cost_break(snapshot, replace(side, costs=costs), holding, instrument) is None:
            break
        if method not in costs and method is not side.method:
            costs |= _cost_by(connection, snapshot.account, instrument.id, method)
    if costs != side.costs and side.cost is not None:
        kept = {
            "quantity": plain(side.quantity),
            "cost": plain(side.cost),
            "costs": {method.value: plain(cost) for method, cost in costs.items()},
        }
        connection.execute(SQL["keep_other_costs"], {"account": snapshot.account, "instrument": instrument.id, "costs": Json(kept)})
    return replace(side, costs=costs)


def _cost_by(connection: Connection, account: str, instrument: str, method: Method) -> Mapping[Method, Decimal]:
    """The cost of what is open, folded by a method from the first entry on; empty where it is not known."""
    linked = (group for group in groups(connection, account) if instrument in group)
    group = described(connection, chain.from_iterable(linked))
    flat = {id_: replace(each, method=method) for id_, each in flat_positions(connection, account, group.values()).items()}
    folded = fold_histories(Pages(connection, account, group).histories(dict.fromkeys(group)), flat)
    cost = next((each.position.cost for each in folded if each.position.instrument == instrument), None)
    return {} if cost is None else {method: cost}
