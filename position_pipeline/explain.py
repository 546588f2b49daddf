"""Why a figure is what it is: the fills, lots, fees, rounding and arithmetic behind one close or one position, to be redone on paper.

Belongs here: laying the stored figures out as sums, and saying so if a sum does not come out. Does not belong here: computing the book
(accounting), reading rows (store).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from position_pipeline.accounting.exact import ZERO, exact, plain, relieve, total
from position_pipeline.show import moment
from position_pipeline.store.explaining import ExplainedPosition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from position_pipeline.accounting.model import Lot
    from position_pipeline.store.explaining import Explained, ExplainedClose

Row = dict[str, Any]


def lines(explained: Explained) -> list[str]:
    """A close or a position."""
    if isinstance(explained, ExplainedPosition):
        return position_lines(explained)
    return close_lines(explained)


def as_row(explained: Explained) -> Row:
    """The fields of `explain --json`: the rows, and the lines that lay them out."""
    if isinstance(explained, ExplainedPosition):
        return {"position": explained.position, "lots": explained.lots, "closes": explained.closes, "lines": lines(explained)}
    lot = None if explained.lot is None else {**explained.lot._asdict(), "basis": explained.lot.basis.value}
    rows = {"close": explained.close, "closing": explained.closing, "opening": explained.opening, "lot_before": lot}
    return {**rows, "earlier": explained.earlier, "lines": lines(explained)}


def close_lines(explained: ExplainedClose) -> list[str]:
    """One close, from its opening over its closing to its result."""
    close, closing, opening, lot = explained.close, explained.closing, explained.opening, explained.lot
    with exact():
        text = [
            f"Close {close['id']}: {close['symbol']} ({close['instrument']}) in {close['account']}, {moment(close['closed_at'])} UTC",
            f"  {_direction(close)} {plain(abs(close['quantity']))} were closed by the method {close['method']}; {_afterwards(close)}.",
            "",
            *_entry_lines("Opened by", opening, close["opened_at"]),
            *_lot_before(close, lot),
            *_cost_lines(close, opening, lot),
            "",
            *_entry_lines("Closed by", closing, close["closed_at"]),
            *_proceeds_lines(close, closing),
            "",
            *_commission_lines(close, closing, lot),
            *_result_lines(close, closing),
        ]
    for before in explained.earlier:
        said = f"gross {_known(before['gross_pnl'])}, net {_known(before['net_pnl'])}"
        text.append(f"Until {moment(before['superseded_at'])} UTC the book said: {plain(abs(before['quantity']))} closed, {said}.")
    if close["superseded_at"] is not None:
        text += ["", f"The book said so until {moment(close['superseded_at'])} UTC. It does not any more."]
    return text


def _known(value: Decimal | None) -> str:
    return "not known" if value is None else plain(value)


def _lot_before(close: Row, lot: Lot | None) -> list[str]:
    """The lot, or the pool, as the closing entry found it."""
    if lot is None:
        return []
    what = "pool (all lots at their average)" if close["method"] == "average" else "lot"
    figures = f"{plain(lot.quantity)}, cost {_known(lot.cost)}, commission {_known(lot.commission)}"
    return [f"  the {what} before: {figures}"]


def _afterwards(close: Row) -> str:
    return "the position stayed open" if close["partial"] else "the position was flat then"


def _direction(close: Row) -> str:
    return "Long" if close["quantity"] > 0 else "Short"


def _entry_lines(what: str, entry: Row, at: Any) -> list[str]:
    if "execution_id" not in entry:
        return [f"{what} {entry['kind'].replace('_', ' ')} {entry['id']}, {moment(at)} UTC", f"  {entry['evidence']}".rstrip()]
    correction = "" if entry["revision"] <= 1 else f", revision {entry['revision']}"
    quantity, price = plain(entry["quantity"]), plain(entry["price"])
    return [
        f"{what} execution {entry['execution_id']}{correction} ({entry['source']}), {moment(at)} UTC",
        f"  {entry['side']} {quantity} @ {price}{_times(entry['multiplier'])} {entry['currency']}, commission {_commission(entry)}",
    ]


def _times(multiplier: Decimal) -> str:
    return "" if multiplier == 1 else f" x {plain(multiplier)}"


def _commission(entry: Row) -> str:
    if entry["commission"] is None:
        return "not yet known"
    return f"{plain(entry['commission'])} {entry['commission_currency'] or entry['currency']}"


def _cost_lines(close: Row, opening: Row, lot: Lot | None) -> list[str]:
    """What the closed part had cost: its share of the lot's total, or by the price where that gives it exactly."""
    if close["cost"] is None:
        return ["  What it had cost is not known: this close is in no P&L."]
    if lot is not None and lot.cost is not None:
        by_hand = _share(lot.cost, close["quantity"], lot.quantity, close["cost"])
        if by_hand:
            return [f"  cost of the part  = {by_hand}"]
    if close["entry_price"] is not None and close["quantity"] * close["entry_price"] * opening["multiplier"] == close["cost"]:
        product = _product(close["quantity"], close["entry_price"], opening["multiplier"])
        return [f"  cost of the part  = {product} = {plain(close['cost'])}"]
    return [f"  cost of the part  = {plain(close['cost'])} (what was left after other parts of the lot)"]


def _share(whole: Decimal, part: Decimal, of: Decimal, expected: Decimal) -> str:
    """The share of an amount pro rata by quantity, as a sum; nothing where that is not what it came to."""
    part, of = abs(part), abs(of)
    if part > of or relieve(whole, part, of) != expected:
        return ""
    if part == of:
        return f"{plain(whole)} (all of it)"
    rounded = "" if whole * part == expected * of else " (rounded once at 10 decimals, half to even)"
    return f"{plain(whole)} x {plain(part)} / {plain(of)} = {plain(expected)}{rounded}"


def _product(quantity: Decimal, price: Decimal, multiplier: Decimal) -> str:
    return f"{plain(quantity)} x {plain(price)}{_times(multiplier)}"


def _proceeds_lines(close: Row, closing: Row) -> list[str]:
    delivers = closing.get("kind") == "delivery"
    if close["exit_price"] is None:
        return ["  proceeds          = not known"]
    proceeds = close["quantity"] * close["exit_price"] * closing["multiplier"]
    text = [f"  proceeds          = {_product(close['quantity'], close['exit_price'], closing['multiplier'])} = {plain(proceeds)}"]
    if close["premium"] and ("execution_id" in closing or delivers):
        text.append(f"  option premium    = {plain(close['premium'])}, moved here by the assignment or exercise (a cost if positive)")
    return text


def _commission_lines(close: Row, closing: Row, lot: Lot | None) -> list[str]:
    paid, relieved = close["closing_commission"], close["opening_commission"]
    text = [
        f"opening commission  = {_share_of_commission(relieved, lot and lot.commission, close['quantity'], lot and lot.quantity)}",
        f"closing commission  = {_share_of_commission(paid, _own_commission(closing), close['quantity'], closing['quantity'])}",
    ]
    if close["fees"]:
        text.append("other commissions   = " + ", ".join(f"{amount} {currency}" for currency, amount in close["fees"].items()))
    return text


def _share_of_commission(share: Decimal | None, whole: Decimal | None, part: Decimal, of: Decimal | None) -> str:
    """How much of a commission the closed part bears."""
    if share is None:
        return "not yet known"
    if whole is None or not of or not whole:
        return plain(share)
    return _share(whole, part, of, share) or f"{plain(share)} (what was left of {plain(whole)} after other parts)"


def _own_commission(entry: Row) -> Decimal | None:
    """In the currency of the trade; another is listed apart."""
    return entry["commission"] if entry.get("commission_currency") in (None, entry["currency"]) else None


def _result_lines(close: Row, closing: Row) -> list[str]:
    if close["gross_pnl"] is None:
        return ["gross P&L           = not known"]
    if closing.get("kind") in ("assignment", "exercise"):
        return [f"gross P&L           = 0: the option realises nothing, its {plain(close['premium'])} moves to the shares"]
    proceeds = close["quantity"] * close["exit_price"] * closing["multiplier"] - close["premium"]
    gross = proceeds - close["cost"]
    premium = "" if not close["premium"] else f" - ({plain(close['premium'])})"
    by_hand = f"{plain(proceeds + close['premium'])}{premium} - ({plain(close['cost'])})"
    text = [f"gross P&L           = {by_hand} = {plain(gross)} {close['currency']}"]
    if gross != close["gross_pnl"]:
        text.append(f"  THE BOOK SAYS {plain(close['gross_pnl'])}: run position-pipeline verify")
    return [*text, *_net_lines(close)]


def _net_lines(close: Row) -> list[str]:
    opening, paid = close["opening_commission"], close["closing_commission"]
    if opening is None or paid is None:
        return ["net P&L             = not known until the commission has come"]
    by_hand = f"{plain(close['gross_pnl'])} - {plain(opening)} - {plain(paid)}"
    return [f"net P&L             = {by_hand} = {plain(close['net_pnl'])} {close['currency']}"]


def position_lines(explained: ExplainedPosition) -> list[str]:
    """One position: its open lots add up to it, its closes to what it realised."""
    position, lots, closes = explained.position, explained.lots, explained.closes
    known = [close for close in closes if close["gross_pnl"] is not None]
    with exact():
        text = [
            f"Position {position['symbol']} ({position['instrument']}) in {position['account']}, method {position['method']}",
            f"  quantity          = {_sum([lot['quantity'] for lot in lots])} = {plain(position['quantity'])}",
            *_open_lines(position, lots),
            f"  realised, gross   = {_sum([close['gross_pnl'] for close in known])} = {plain(position['realized_pnl_gross'])}",
            *_realised_lines(position, known),
        ]
    if position["unknown_closes"]:
        text.append(f"  Closes whose basis is unknown, which are in none of these sums: {position['unknown_closes']}.")
    return text


def _open_lines(position: Row, lots: Sequence[Row]) -> list[str]:
    if position["cost"] is None:
        cost = "  cost              = not known: one of the lots has no basis"
    else:
        cost = f"  cost              = {_sum([lot['cost'] for lot in lots])} = {plain(position['cost'])} {position['currency']}"
    average = []
    if position["average_price"] is not None:
        by_hand = f"{plain(position['cost'])} / {plain(position['quantity'])}{_over(position['multiplier'])}"
        average = [f"  average price     = {by_hand} = {plain(position['average_price'])}"]
    return [cost, *average, *map(_lot_line, lots)]


def _over(multiplier: Decimal) -> str:
    return "" if multiplier == 1 else f" / {plain(multiplier)}"


def _realised_lines(position: Row, known: Sequence[Row]) -> list[str]:
    """Commissions that have not come are in no sum yet."""
    opening = total(close["opening_commission"] or ZERO for close in known)
    paid = total(close["closing_commission"] or ZERO for close in known)
    by_hand = f"{plain(position['realized_pnl_gross'])} - {plain(opening)} - {plain(paid)}"
    text = [f"  realised, net     = {by_hand} = {plain(position['realized_pnl'])} (less opening and closing commissions)"]
    missing = sum(close["net_pnl"] is None for close in known)
    return [*text, f"  Closes whose commissions have not all come: {missing}."] if missing else text


def _sum(values: Sequence[Decimal]) -> str:
    """At most eight summands are worth reading; more are counted."""
    if not values:
        return "0"
    if len(values) > 8:
        return f"the sum of {len(values)} numbers"
    shown = [plain(value) if index == 0 or value < 0 else f"+ {plain(value)}" for index, value in enumerate(values)]
    return " ".join(shown).replace(" -", " - ")


def _lot_line(lot: Row) -> str:
    cost = "unknown" if lot["cost"] is None else plain(lot["cost"])
    commission = "not yet known" if lot["commission"] is None else plain(lot["commission"] or ZERO)
    opened = f"opened {moment(lot['opened_at'])} UTC by {lot['opening_id']}"
    return f"    lot {plain(lot['quantity'])}, cost {cost}, commission {commission}, basis {lot['basis']}, {opened}"
