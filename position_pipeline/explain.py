"""Why a figure is what it is: the fills, lots, fees, rounding and arithmetic behind one close or one position, to be redone on paper.

Belongs here: laying the stored figures out as sums, and saying so if a sum does not come out. Does not belong here: computing the book
(accounting), reading rows (store).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from position_pipeline.accounting.exact import ZERO, exact, plain, relieve
from position_pipeline.show import moment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

Row = dict[str, Any]


def close_lines(close: Row, closing: Row, opening: Row) -> list[str]:
    """One close. `closing` and `opening` are the rows of `executions` or `adjustments` that it rests on."""
    with exact():
        text = [
            f"Close {close['id']}: {close['symbol']} ({close['instrument']}) in {close['account']}, {moment(close['closed_at'])} UTC",
            f"  {_direction(close)} {plain(abs(close['quantity']))} were closed by the method {close['method']}; {_afterwards(close)}.",
            "",
            *_entry_lines("Opened by", opening, close["opened_at"]),
            *_cost_lines(close, opening),
            "",
            *_entry_lines("Closed by", closing, close["closed_at"]),
            *_proceeds_lines(close, closing),
            "",
            *_commission_lines(close, closing),
            *_result_lines(close, closing),
        ]
    if close["superseded_at"] is not None:
        text += ["", f"The book said so until {moment(close['superseded_at'])} UTC. It does not any more."]
    return text


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


def _cost_lines(close: Row, opening: Row) -> list[str]:
    """What the closed part had cost: by the price where that gives it exactly, else as its share of the lot's total."""
    if close["cost"] is None:
        return ["  What it had cost is not known: this close is in no P&L."]
    by_price = None
    if close["entry_price"] is not None:
        by_price = close["quantity"] * close["entry_price"] * opening["multiplier"]
    if by_price == close["cost"]:
        product = _product(close["quantity"], close["entry_price"], opening["multiplier"])
        return [f"  cost of the part  = {product} = {plain(close['cost'])}"]
    note = "its share of the lot's total cost, pro rata by quantity, rounded once at 10 decimals, half to even"
    return [f"  cost of the part  = {plain(close['cost'])} ({note})"]


def _product(quantity: Decimal, price: Decimal, multiplier: Decimal) -> str:
    return f"{plain(quantity)} x {plain(price)}{_times(multiplier)}"


def _proceeds_lines(close: Row, closing: Row) -> list[str]:
    proceeds = close["quantity"] * close["exit_price"] * closing["multiplier"]
    text = [f"  proceeds          = {_product(close['quantity'], close['exit_price'], closing['multiplier'])} = {plain(proceeds)}"]
    if close["premium"] and "execution_id" in closing:
        text.append(f"  option premium    = {plain(close['premium'])}, moved here by the assignment or exercise (a cost if positive)")
    return text


def _commission_lines(close: Row, closing: Row) -> list[str]:
    opening, paid = close["opening_commission"], close["closing_commission"]
    text = [f"opening commission  = {'not yet known' if opening is None else plain(opening)} (the part's share of what the lot paid)"]
    share = "not yet known" if paid is None else plain(paid)
    if paid is not None and closing.get("commission") and "execution_id" in closing:
        whole, part = closing["quantity"], abs(close["quantity"])
        expected = relieve(closing["commission"], part, whole)
        by_hand = f"{plain(closing['commission'])} x {plain(part)} / {plain(whole)}"
        share += f" = {by_hand}" if expected == paid and part != whole else ""
    text.append(f"closing commission  = {share}")
    if close["fees"]:
        text.append("other commissions   = " + ", ".join(f"{amount} {currency}" for currency, amount in close["fees"].items()))
    return text


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


def position_lines(position: Row, lots: Sequence[Row], closes: Sequence[Row]) -> list[str]:
    """One position: its open lots add up to it, its closes to what it realised."""
    with exact():
        text = [
            f"Position {position['symbol']} ({position['instrument']}) in {position['account']}, method {position['method']}",
            f"  quantity          = {_sum([lot['quantity'] for lot in lots])} = {plain(position['quantity'])}",
        ]
        if position["cost"] is not None:
            text.append(f"  cost              = {_sum([lot['cost'] for lot in lots])} = {plain(position['cost'])} {position['currency']}")
        else:
            text.append("  cost              = not known: one of the lots has no basis")
        text += [_lot_line(lot) for lot in lots]
        known = [close for close in closes if close["gross_pnl"] is not None]
        text.append(f"  realised, gross   = {_sum([close['gross_pnl'] for close in known])} = {plain(position['realized_pnl_gross'])}")
        text.append(f"  realised, net     = {plain(position['realized_pnl'])} after commissions, over {len(known)} closes")
        if position["unknown_closes"]:
            text.append(f"  {position['unknown_closes']} closes have an unknown basis and are in none of these sums.")
    return text


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
