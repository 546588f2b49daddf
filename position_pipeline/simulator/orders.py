"""Open order and order status messages, as they go around a fill.

Here: the long field list of an order that has been filled. Not here: placing orders, which this broker refuses.
"""

from decimal import Decimal

from position_pipeline.simulator.contracts import order_block
from position_pipeline.simulator.ledger import Execution
from position_pipeline.simulator.scenario import Instrument
from position_pipeline.simulator.wire import UNSET_DOUBLE, UNSET_INTEGER, frame

_UNSET = UNSET_DOUBLE


def open_order(version: int, one: Instrument, fill: Execution, status: str) -> bytes:
    fields: list[object] = [5, fill.order_id, *order_block(one)]
    fields += _what(fill)
    fields += _advisor(version)
    fields += _attributes()
    fields += _volatility()
    fields += _legs_and_algo()
    fields += _state(fill, status)
    fields += _adjustments(version)
    return frame(*fields)


def order_status(fill: Execution, status: str) -> bytes:
    filled = fill.cumulative if status == "Filled" else Decimal(0)
    left = fill.cumulative - filled
    average = fill.average_price if filled else Decimal(0)
    last = fill.price if filled else Decimal(0)
    return frame(3, fill.order_id, status, filled, left, average, fill.perm_id, 0, last, fill.client_id, "", 0)


def _what(fill: Execution) -> list[object]:
    """Action to sharesAllocation: 18 fields."""
    action = "BUY" if fill.side == "BOT" else "SELL"
    order: list[object] = [action, fill.cumulative, "LMT", fill.price, 0, "DAY", "", fill.account, "", 0]
    return [*order, fill.order_ref, fill.client_id, fill.perm_id, 0, 0, 0, "", ""]


def _advisor(version: int) -> list[object]:
    """faGroup, faMethod, faPercentage, until 176 faProfile; then modelCode, goodTillDate, rule80A."""
    return ["", "", "", *([""] if version < 177 else []), "", "", ""]


def _attributes() -> list[object]:
    """Fields percentOffset to triggerMethod."""
    first: list[object] = [_UNSET, "", 0, "", -1, 0, _UNSET, _UNSET, _UNSET, _UNSET, _UNSET]
    return [*first, 0, 0, 0, 0, UNSET_INTEGER, 3, 0, 0, _UNSET, 0, 0]


def _volatility() -> list[object]:
    """Fields volatility to basisPointsType. The order type `None` is not empty, so its eight fields follow."""
    neutral: list[object] = ["None", 0, 0, "", "", "", "?", 0, 0, ""]
    return [_UNSET, 0, *neutral, 0, 0, _UNSET, _UNSET, _UNSET, UNSET_INTEGER]


def _legs_and_algo() -> list[object]:
    """Combo legs, scale, hedge, clearing, delta neutral, algo, solicited: all of them absent."""
    legs: list[object] = ["", 0, 0, 0]
    scale: list[object] = [UNSET_INTEGER, UNSET_INTEGER, _UNSET]
    return [*legs, *scale, "", 0, "", "IB", 0, 0, "", 0]


def _state(fill: Execution, status: str) -> list[object]:
    """whatIf, status, nine margins, commission, randomize flags, number of conditions."""
    commission = fill.commission if status == "Filled" else _UNSET
    return [0, status, *[_UNSET] * 9, commission, "", "", fill.currency, "", 0, 0, 0]


def _adjustments(version: int) -> list[object]:
    """Fields adjustedOrderType to usePriceMgmtAlgo, then what later server versions added."""
    adjusted: list[object] = ["None", _UNSET, _UNSET, _UNSET, _UNSET, _UNSET, _UNSET, 0]
    fields = [*adjusted, "", "", "", 0, 0, 0, 0, 0]
    if version >= 159:
        fields.append(UNSET_INTEGER)
    if version >= 160:
        fields.append(UNSET_INTEGER)
    if version >= 162:
        fields.append(0)
    if version >= 170:
        fields += [UNSET_INTEGER, UNSET_INTEGER, _UNSET, _UNSET, _UNSET]
    return fields
