"""The messages a server sends: one builder each, with the fields that a server version asks for.

Here: field order and nothing else. Not here: bytes (`wire.py`), orders and contract details (`orders.py`,
`contracts.py`), when to send what (`requests.py`, `pushes.py`).
"""

from datetime import date
from decimal import Decimal

from position_pipeline.simulator.contracts import execution_block, portfolio_block, position_block
from position_pipeline.simulator.ledger import SHOWN, Execution, Holding
from position_pipeline.simulator.market import Bar
from position_pipeline.simulator.scenario import Instrument
from position_pipeline.simulator.values import Figures, Value
from position_pipeline.simulator.wire import UNSET_DOUBLE, ascii_text, body, decimal_text, frame, framed


def greeting(version: int, server_time: str) -> bytes:
    return frame(version, server_time)


def managed_accounts(accounts: list[str]) -> bytes:
    return frame(15, 1, ",".join(accounts))


def next_valid_id(order_id: int) -> bytes:
    return frame(9, 1, order_id)


def notice(version: int, request_id: int, code: int, message: str) -> bytes:
    """An error, a warning or plain news: the protocol has one message for all three."""
    fields: list[object] = [4, 2, request_id, code, ascii_text(message, version)]
    if version >= 166:
        fields.append("")
    return frame(*fields)


def current_time(epoch: int) -> bytes:
    return frame(49, 1, epoch)


def shown(amount: Decimal) -> str:
    """A price or an amount as the broker shows it: eight decimals at most."""
    return decimal_text(amount.quantize(SHOWN))


def position(account: str, one: Instrument, holding: Holding) -> bytes:
    return frame(61, 3, account, *position_block(one), holding.quantity, shown(holding.average_cost))


POSITION_END = frame(62, 1)


def position_multi(request_id: int, account: str, one: Instrument, holding: Holding, model: str) -> bytes:
    block = position_block(one)
    return frame(71, 1, request_id, account, *block, holding.quantity, shown(holding.average_cost), model)


def position_multi_end(request_id: int) -> bytes:
    return frame(72, 1, request_id)


def account_value(account: str, row: Value) -> bytes:
    return frame(6, 2, row.tag, row.value, row.currency, account)


def portfolio(account: str, one: Instrument, holding: Holding, figures: Figures, realized: Decimal) -> bytes:
    amounts = (figures.price, figures.value, holding.average_cost, figures.unrealized, realized)
    return frame(7, 8, *portfolio_block(one), holding.quantity, *(shown(each) for each in amounts), account)


def account_time(hours_minutes: str) -> bytes:
    return frame(8, 1, hours_minutes)


def account_download_end(account: str) -> bytes:
    return frame(54, 1, account)


def account_update_multi(request_id: int, account: str, model: str, row: Value) -> bytes:
    return frame(73, 1, request_id, account, model, row.tag, row.value, row.currency)


def account_update_multi_end(request_id: int) -> bytes:
    return frame(74, 1, request_id)


def account_summary(request_id: int, account: str, row: Value) -> bytes:
    return frame(63, 1, request_id, account, row.tag, row.value, row.currency)


def account_summary_end(request_id: int) -> bytes:
    return frame(64, 1, request_id)


def execution_body(version: int, one: Instrument, fill: Execution, time_text: str) -> bytes:
    """All of an execution but its request id, so that it is built once for every request."""
    fields: list[object] = [
        fill.order_id,
        *execution_block(one, fill.exchange),
        fill.exec_id,
        time_text,
        fill.account,
        fill.exchange,
        fill.side,
        fill.quantity,
        fill.price,
        fill.perm_id,
        fill.client_id,
        fill.liquidation,
        fill.cumulative,
        shown(fill.average_price),
        fill.order_ref,
        "",  # evRule
        "",  # evMultiplier
        "",  # modelCode
        fill.last_liquidity,
    ]
    if version >= 178:
        fields.append(fill.pending_price_revision)
    return body(*fields)


def execution(request_id: int, content: bytes) -> bytes:
    """An execution as answer to a request, or live with request id -1."""
    return framed(b"11\0%d\0" % request_id + content)


def executions_end(request_id: int) -> bytes:
    return frame(55, 1, request_id)


def commission_report(fill: Execution, realized: Decimal | None) -> bytes:
    amount = UNSET_DOUBLE if realized is None else shown(realized)
    return frame(59, 1, fill.exec_id, fill.commission, fill.currency, amount, UNSET_DOUBLE, "")


def pnl(request_id: int, daily: Decimal, unrealized: Decimal, realized: Decimal) -> bytes:
    return frame(94, request_id, shown(daily), shown(unrealized), shown(realized))


def pnl_single(request_id: int, quantity: Decimal, unrealized: Decimal, realized: Decimal, value: Decimal) -> bytes:
    """P&L of one position. The day's figure is left unset, as a server does that has not computed it yet."""
    return frame(95, request_id, quantity, UNSET_DOUBLE, shown(unrealized), shown(realized), shown(value))


def historical_data(request_id: int, start: date, end: date, bars: list[Bar]) -> bytes:
    fields: list[object] = [17, request_id, f"{start:%Y%m%d  %H:%M:%S}", f"{end:%Y%m%d  %H:%M:%S}", len(bars)]
    for bar in bars:
        wap = (bar.high + bar.low) / 2
        fields += [f"{bar.day:%Y%m%d}", bar.open, bar.high, bar.low, bar.close, bar.volume, shown(wap), 100]
    return frame(*fields)


def contract_details_end(request_id: int) -> bytes:
    return frame(52, 1, request_id)


def tick_price(request_id: int, tick_type: int, price: Decimal) -> bytes:
    return frame(1, 6, request_id, tick_type, price, 0, 0)


def tick_snapshot_end(request_id: int) -> bytes:
    return frame(57, 1, request_id)


OPEN_ORDER_END = frame(53, 1)
COMPLETED_ORDERS_END = frame(102)


def user_info(request_id: int) -> bytes:
    return frame(107, request_id, "")
