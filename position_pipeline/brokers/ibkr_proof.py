"""When an answer for one account proves what the account holds, and the snapshot that it becomes. Pure: no socket, no clock.

Belongs here: the rules of proof, and their words. Does not belong here: how the rows were got (ibkr_session.py).

An account is *rejected* where its holdings are not known: it is not among those of the login, an end marker or the account values did
not come, a row was lost that nobody can attribute, or the account contradicts itself. It is *partial* where the lost rows name their
instruments: those keep their positions. Otherwise it is *complete*.

Two contradictions are looked for, both between what came over one connection:

1. The positions list (message 61) against the portfolio list (message 7): same instruments, same quantities, to the last digit. Not
   looked for where the portfolio list has no end or no rows (a linked account never gets one), nor for currencies (CASH), which one
   list may leave out.
2. The sum of |market value| of the holdings, in base currency by the account's own ExchangeRate rows, against GrossPositionValue. IBKR
   counts everything in it but futures. Only a sum that is too small contradicts, and only by more than 5 % and one unit of base
   currency: values are up to three minutes old. Where a price or a rate is missing there is no sum, and no contradiction.

An empty list needs a witness: an ended portfolio list, or GrossPositionValue. Absence of other evidence rejects nothing.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal, Inexact
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import EXACT, MAX_DIGITS, ZERO, exact, plain, ratio
from position_pipeline.accounting.model import AccountValue, Holding, Snapshot, SnapshotStatus
from position_pipeline.brokers.ibkr_wire import clean, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from position_pipeline.brokers.ibkr_answer import AccountRows, Answer, PositionRow, Unreadable

TOLERANCE = Decimal("0.05")
"""Share of GrossPositionValue by which the holdings may fall short of it."""

TOLERATED = Decimal(1)
"""Units of base currency by which they may fall short of it, whatever its size."""

CLOCKS_AGREE = timedelta(seconds=30)
"""How far the broker's clock, told in whole seconds and some seconds before the last byte, may be from ours without saying anything."""

AGAIN = "Nothing was changed. Sync again; if it stays, restart TWS or Gateway and compare with its own portfolio window."
_NOT_COUNTED = frozenset({"FUT", "CONTFUT", "CASH", "BAG"})
_SHOWN = 5


def judge(account: str, answer: Answer, broker: str, received_at: datetime) -> Snapshot:
    """The snapshot of one account: complete, partial or rejected, with its reason. `received_at` is by our clock."""
    reason, taken_at = _unproven(account, answer), _moment(received_at, answer.clock)
    if reason:
        return Snapshot(account, broker, taken_at, SnapshotStatus.REJECTED, reason=f"{account}: {reason}")
    rows = answer.of(account)
    lost = [each for each in answer.unreadable if each.costs_a_row and each.account == account]
    unread = frozenset(each.instrument for each in lost)
    return Snapshot(
        account=account,
        broker=broker,
        taken_at=taken_at,
        status=SnapshotStatus.PARTIAL if lost else SnapshotStatus.COMPLETE,
        holdings=tuple(_holdings(rows, unread)),
        values=tuple(AccountValue(tag, value, currency) for (tag, currency), value in rows.values.items()),
        errors=_errors(lost),
        unread=unread,
        source_at=answer.clock,
        received_at=received_at,
    )


def _moment(received_at: datetime, clock: datetime | None) -> datetime:
    """When an answer was given. Where the clocks differ by more than they may it is the broker's that counts: its fills are timed by it.

    A machine that was a day ahead at first contact would take that day's fills for a part of what was held before, for good.
    """
    return received_at if clock is None or abs(clock - received_at) <= CLOCKS_AGREE else clock


def _errors(lost: Iterable[Unreadable]) -> dict[str, str]:
    """What could not be read, by symbol; by instrument too where two share one."""
    owners: dict[str, str] = {}
    errors: dict[str, str] = {}
    for each in lost:
        symbol = each.symbol or each.instrument
        if owners.setdefault(symbol, each.instrument) != each.instrument:
            symbol = f"{symbol} ({each.instrument})"
        errors[symbol] = f"its {each.what} could not be read: {each.why}"
    return errors


def _unproven(account: str, answer: Answer) -> str:
    """Why the answer proves nothing about the account, and what to do; '' when it does."""
    if account not in answer.managed:
        others = clean(", ".join(answer.managed), 400)
        return f"this login has no such account; it has {others}. Correct the account's name, or log in as a user who sees it."
    rows = answer.of(account)
    stray = next((each for each in answer.unreadable if _attributes_nothing(each, account)), None)
    if stray:
        return f"one {stray.what} could not be read ({stray.why}), and it may have concerned any holding. {AGAIN}"
    return _unfinished(rows) or contradiction(account, answer)


def _attributes_nothing(lost: Unreadable, account: str) -> bool:
    """A lost row that may have been any holding of this account."""
    return lost.costs_a_row and (not lost.account or (lost.account == account and not lost.instrument))


def _unfinished(rows: AccountRows) -> str:
    if rows.refusal:
        return f"the gateway refused a request: {rows.refusal}. Look at the API settings and the log of TWS or Gateway."
    if not rows.listed:
        return rows.doubt or f"the positions list did not end in time. {AGAIN}"
    if not rows.values:
        return f"no account values came in time. {AGAIN}"
    if not rows.executed:
        return f"the list of today's executions did not end in time. {AGAIN}"
    return ""


def contradiction(account: str, answer: Answer) -> str:
    """Where the account contradicts itself, in words; '' where it does not, or where its answer is not even finished."""
    rows = answer.of(account)
    if _unfinished(rows):
        return ""
    unread = {each.instrument for each in answer.unreadable if each.account == account}
    return _lists_disagree(rows, unread) or _falls_short(rows, unread) or _unwitnessed(rows)


# -- the two lists


def _lists_disagree(rows: AccountRows, unread: set[str]) -> str:
    shown = _quantities(rows.portfolio.values())
    listed = _quantities(rows.positions.values())
    if not rows.downloaded or (not shown and listed):
        return ""
    differing = sorted(each for each in shown.keys() | listed.keys() if shown.get(each) != listed.get(each) and each not in unread)
    if not differing:
        return ""
    words = [f"{_symbol(rows, each)} {_amount(listed.get(each))} and {_amount(shown.get(each))}" for each in differing[:_SHOWN]]
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    counts = f"the positions list has {len(listed)} holdings, the portfolio list {len(shown)}"
    return f"its two lists contradict each other, {counts}: {', '.join(words)}{more}. {AGAIN}"


def _quantities(listed: Iterable[PositionRow | object]) -> dict[str, Decimal]:
    """Open quantities by instrument; zero rows say that something was closed today, and currencies are in one list only."""
    rows: Iterable[PositionRow] = listed  # type: ignore[assignment]
    return {row.instrument.id: row.quantity for row in rows if row.quantity and row.instrument.sec_type != "CASH"}


def _symbol(rows: AccountRows, instrument: str) -> str:
    row = rows.positions.get(instrument) or rows.portfolio[instrument]
    return row.instrument.symbol


def _amount(quantity: Decimal | None) -> str:
    return "none" if quantity is None else plain(quantity)


# -- the account's own total


def _falls_short(rows: AccountRows, unread: set[str]) -> str:
    gross, base = _gross(rows)
    if gross is None or gross <= TOLERATED:
        return ""
    with exact():
        found = _most(rows, base, unread)
        if found is None or gross - found <= gross * TOLERANCE + TOLERATED:
            return ""
    count = len(_open(rows))
    what = "the positions list is empty" if not count else f"the {count} listed holdings are worth {plain(round(found, 2))} {base}"
    return f"{what}, but the account reports positions worth {plain(gross)} {base} (GrossPositionValue). {AGAIN}"


def _gross(rows: AccountRows) -> tuple[Decimal | None, str]:
    """GrossPositionValue and its currency, which is the base currency; None where there is none that can be read."""
    for (tag, currency), value in rows.values.items():
        if tag == "GrossPositionValue" and currency not in ("", "BASE"):
            return _figure(value), currency
    return None, ""


def _most(rows: AccountRows, base: str, unread: set[str]) -> Decimal | None:
    """The most that the holdings can be worth in base currency; None where a price or a rate is missing."""
    if unread:
        return None
    total = ZERO
    for row in _open(rows):
        if row.instrument.sec_type in _NOT_COUNTED:
            continue
        shown = rows.portfolio.get(row.instrument.id)
        rate = _rate(rows.values, row.instrument.currency, base)
        if shown is None or shown.market_value is None or rate is None:
            return None
        total += abs(shown.market_value) * rate
    return total


def _rate(values: Mapping[tuple[str, str], str], currency: str, base: str) -> Decimal | None:
    """Units of base currency for one unit."""
    return Decimal(1) if currency == base else _figure(values.get(("ExchangeRate", currency), ""))


def _figure(text: str) -> Decimal | None:
    try:
        return number(text)
    except ValueError:
        return None


def _unwitnessed(rows: AccountRows) -> str:
    if _open(rows) or rows.downloaded or _gross(rows)[0] is not None:
        return ""
    return f"the positions list is empty, and nothing else confirms that the account holds nothing. {AGAIN}"


# -- holdings


def _open(rows: AccountRows) -> list[PositionRow]:
    return [row for row in rows.positions.values() if row.quantity]


def _holdings(rows: AccountRows, unread: frozenset[str]) -> Iterable[Holding]:
    for row in _open(rows):
        if row.instrument.id in unread:
            continue
        shown = rows.portfolio.get(row.instrument.id)
        yield Holding(
            instrument=row.instrument.id,
            quantity=row.quantity,
            average_price=None if row.average_cost is None else per_unit(row.average_cost, row.instrument.multiplier),
            raw_average_cost=row.average_cost,
            market_price=shown.market_price if shown else None,
            market_value=shown.market_value if shown else None,
            unrealized_pnl=shown.unrealized_pnl if shown else None,
        )


def per_unit(average_cost: Decimal, multiplier: Decimal) -> Decimal:
    """IBKR's average cost is per contract, multiplier included: 3921.05 for an option bought at 39.2105 x 100. Exact where it ends."""
    if multiplier == 1:
        return average_cost
    try:
        price = EXACT.divide(average_cost, multiplier)
    except Inexact:
        return ratio(average_cost, multiplier)
    return price if len(price.as_tuple().digits) <= MAX_DIGITS else ratio(average_cost, multiplier)
