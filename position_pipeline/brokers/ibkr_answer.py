"""What a gateway has said on one connection, message by message: rows, values, end markers, notices, and what could not be read.

Belongs here: turning the fields of a message into rows and counting the losses. Does not belong here: asking (ibkr_session.py), and
whether all of it proves anything (ibkr_proof.py).

Rows go by (account, instrument) and the last one wins: a change during the list comes as a second row for the same contract.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from position_pipeline.accounting.model import Instrument, Side
from position_pipeline.brokers.ibkr_wire import NotTws, clean, con_id, instrument, moment, needed, number

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

KNOWN_MESSAGES = frozenset(map(str, [*range(1, 22), *range(45, 108)]))
MOST_NOTICES = 200
MOST_LOST = 1000
_SIDES = {"BOT": Side.BUY, "BUY": Side.BUY, "SLD": Side.SELL, "SELL": Side.SELL}
# Where the account and the contract block stand in a row, so that a row that cannot be read can still say whose it was.
_PLACES = {"61": (2, 3), "7": (19, 2), "11": (16, 3), "6": (5, -1)}
_STATE = frozenset(_PLACES)


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One row of the positions list. `average_cost` is per contract: with multiplier and opening commission, as it came."""

    instrument: Instrument
    quantity: Decimal
    average_cost: Decimal | None


@dataclass(frozen=True, slots=True)
class PortfolioRow:
    """One row of the portfolio list: `market_price` without, `market_value` with multiplier, both in the contract's currency."""

    instrument: Instrument
    quantity: Decimal
    market_price: Decimal | None
    market_value: Decimal | None
    unrealized_pnl: Decimal | None


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """One execution as listed. `quantity` >= 0, 0 is a bust; `price` without commission; `at` is the broker's time, UTC."""

    instrument: Instrument
    exec_id: str
    account: str
    side: Side
    quantity: Decimal
    price: Decimal
    at: datetime
    perm_id: str


@dataclass(frozen=True, slots=True)
class CommissionRow:
    """What an execution cost, positive when paid, and the broker's own realised P&L of it where it is set."""

    commission: Decimal | None
    currency: str
    realized_pnl: Decimal | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that could not be read. Empty `account`: it may have been anybody's; empty `instrument`: any of the account's."""

    what: str
    account: str
    instrument: str
    symbol: str
    why: str

    @property
    def costs_a_row(self) -> bool:
        """A commission report that cannot be read leaves a commission open, and nothing else."""
        return self.what != "commission report"


@dataclass(frozen=True, slots=True)
class Notice:
    """An error, a warning or news: the protocol has one message for all three. `request` is -1 where it names none."""

    request: int
    code: int
    text: str

    @property
    def is_warning(self) -> bool:
        return 2100 <= self.code < 2200 and self.code != 2110


@dataclass(slots=True)
class AccountRows:
    """All that was said of one account.

    `listed` (positions), `downloaded` (values and portfolio) and `executed` are its end markers; `refusal` is an error instead of one;
    `doubt` is the contradiction because of which it is asked about again.
    """

    positions: dict[str, PositionRow] = field(default_factory=dict)
    portfolio: dict[str, PortfolioRow] = field(default_factory=dict)
    values: dict[tuple[str, str], str] = field(default_factory=dict)
    executions: dict[str, ExecutionRow] = field(default_factory=dict)
    listed: bool = False
    downloaded: bool = False
    executed: bool = False
    refusal: str = ""
    doubt: str = ""


class Answer:
    """Collects the messages of one connection. `zone` is the time zone of execution times that name none."""

    def __init__(self, zone: str = "UTC") -> None:
        self.zone = zone
        self.version = 0
        self.managed: tuple[str, ...] = ()
        self.asked = ""
        self.accounts: dict[str, AccountRows] = {}
        self.positions_ended = False
        self.executions_ended: set[str] = set()
        self.commissions: dict[str, CommissionRow] = {}
        self.notices: list[Notice] = []
        self.unreadable: list[Unreadable] = []
        self.rows = 0
        self.clock: datetime | None = None
        self.settled = False
        """Set once the executions are in: a trade after that is for the next capture, or the holdings would be ahead of the fills."""
        self._readers: dict[str, Callable[[list[str]], None]] = {
            "4": self._notice,
            "6": self._value,
            "7": self._portfolio,
            "11": self._execution,
            "15": self._accounts,
            "49": self._time,
            "54": self._download_end,
            "55": self._executions_end,
            "59": self._commission,
            "61": self._position,
            "62": self._positions_end,
        }

    def of(self, account: str) -> AccountRows:
        return self.accounts.setdefault(account, AccountRows())

    def doubt(self, account: str, why: str) -> None:
        """Forget an account, to ask about it again. Executions stay: they are facts, and a repeated row replaces itself."""
        self.accounts[account] = AccountRows(executions=self.of(account).executions, doubt=why)

    def clear(self) -> None:
        """Let go of all rows. The library's client and its session hold each other, so that they stay until the collector comes by, which
        may be several syncs of a day's executions later.
        """
        self.accounts.clear()
        self.commissions.clear()

    def take(self, fields: list[str]) -> None:
        """One message. What cannot be read is put down in `unreadable`; raises NotTws when the stream itself is out of step."""
        kind = fields[0] if fields else ""
        reader = self._readers.get(kind)
        if self.settled and kind in _STATE:
            return
        if reader is None:
            if kind not in KNOWN_MESSAGES:
                self._lose("message", "", "", "", f"of the unknown kind {clean(kind, 40)!r}")
            return
        try:
            reader(fields)
        except (ValueError, IndexError) as error:
            self._lose_row(kind, fields, str(error))

    # -- rows

    def _position(self, fields: list[str]) -> None:
        self._expect(fields, 16)
        rows = self._rows_of(fields[2])
        what = instrument(tuple(fields[3:14]))
        rows.positions[what.id] = PositionRow(what, needed(fields[14], "quantity"), number(fields[15]))

    def _portfolio(self, fields: list[str]) -> None:
        self._expect(fields, 20)
        rows = self._rows_of(fields[19])
        what = instrument(tuple(fields[2:13]))
        quantity = needed(fields[13], "quantity")
        price, value, _, unrealized = map(number, fields[14:18])
        rows.portfolio[what.id] = PortfolioRow(what, quantity, price, value, unrealized)

    def _value(self, fields: list[str]) -> None:
        self._expect(fields, 6)
        tag, value, currency = clean(fields[2], 80), clean(fields[3], 120), clean(fields[4], 16)
        self._rows_of(fields[5]).values[tag, currency] = value

    def _execution(self, fields: list[str]) -> None:
        self._expect(fields, 32 if self.version >= 178 else 31)
        rows = self._rows_of(fields[16])
        if fields[5] == "BAG":
            # A combo is listed first as itself and then leg by leg: counted, it would count twice.
            return
        row = ExecutionRow(
            instrument=instrument(tuple(fields[3:14])),
            exec_id=_execution_id(fields[14]),
            account=fields[16],
            side=_side(fields[18]),
            quantity=needed(fields[19], "quantity"),
            price=needed(fields[20], "price"),
            at=moment(fields[15], self.zone),
            perm_id=fields[21] if fields[21].isdigit() and fields[21] != "0" else "",
        )
        if row.quantity < 0:
            raise ValueError(f"the quantity {row.quantity} is below zero")
        rows.executions[row.exec_id] = row

    def _commission(self, fields: list[str]) -> None:
        """Kept by execution id, whichever comes first: the library drops a report that is early, and never fills in one asked again."""
        self._expect(fields, 8)
        row = CommissionRow(number(fields[3]), clean(fields[4], 16), number(fields[5]))
        self.commissions[_execution_id(fields[2])] = row

    # -- ends, notices, accounts

    def _positions_end(self, _: list[str]) -> None:
        self.positions_ended = True

    def _download_end(self, fields: list[str]) -> None:
        # The library ends the request whatever account is named here. One that we do not know ends nothing.
        if fields[2] in self.managed:
            self.of(fields[2]).downloaded = True

    def _executions_end(self, fields: list[str]) -> None:
        self.executions_ended.add(fields[2])

    def _accounts(self, fields: list[str]) -> None:
        self._expect(fields, 3)
        named = [each for each in fields[2].split(",") if each]
        if any(clean(each, 64) != each for each in named):
            raise NotTws("the list of accounts holds no account names")
        self.managed = tuple(dict.fromkeys(named))

    def _time(self, fields: list[str]) -> None:
        with suppress(ValueError, OverflowError, OSError):  # no row is lost with it
            self.clock = datetime.fromtimestamp(int(fields[2]), UTC)

    def _notice(self, fields: list[str]) -> None:
        if len(fields) < 5:
            raise ValueError(f"{len(fields)} fields instead of at least 5")
        notice = Notice(int(fields[2]), int(fields[3]), clean(fields[4]))
        if len(self.notices) < MOST_NOTICES:
            self.notices.append(notice)

    # -- losses

    @staticmethod
    def _expect(fields: list[str], count: int) -> None:
        if len(fields) > count:
            # A length that is too long swallows the rows that follow: how many, nobody can say.
            raise NotTws(f"a message of kind {fields[0]} with {len(fields)} fields instead of {count}")
        if len(fields) < count:
            raise ValueError(f"{len(fields)} fields instead of {count}")

    def _rows_of(self, account: str) -> AccountRows:
        self.rows += 1
        if account not in self.managed:
            raise ValueError(f"it names the account {clean(account, 40)!r}, which is not among those of this login")
        return self.of(account)

    def _lose_row(self, kind: str, fields: list[str], why: str) -> None:
        what = {"61": "position", "7": "portfolio row", "6": "account value", "11": "execution"}.get(kind)
        if what is None:
            what = "commission report" if kind == "59" else f"message of kind {kind}"
            self._lose(what, "", "", clean(fields[2], 64) if len(fields) > 2 else "", why)
            return
        place, contract = _PLACES[kind]
        account = fields[place] if place < len(fields) else ""
        if kind in ("6", "7") and len(fields) <= place:
            account = self.asked  # the account stands last in these, and only one is asked about at a time
        known = account if account in self.managed else ""
        instrument_id, symbol = _named(fields[contract : contract + 11]) if contract > 0 else ("", "")
        self._lose(what, known, instrument_id if known else "", symbol, why)

    def _lose(self, what: str, account: str, instrument_id: str, symbol: str, why: str) -> None:
        if len(self.unreadable) >= MOST_LOST:
            raise NotTws(f"more than {MOST_LOST} messages could not be read; the last one: {what} {symbol}: {why}")
        self.unreadable.append(Unreadable(what, account, instrument_id, symbol, why))


def _named(block: list[str]) -> tuple[str, str]:
    """Id and label of the contract in a row that could not be read, as far as they can be: a label needs the whole block."""
    with suppress(ValueError):
        what = instrument(tuple(block))
        return what.id, what.symbol
    with suppress(ValueError, IndexError):
        return f"ibkr:{con_id(block[0])}", clean(block[1], 64)
    return "", ""


def _execution_id(text: str) -> str:
    if not text or clean(text, 64) != text:
        raise ValueError(f"{clean(text, 40)!r} is not an execution id")
    return text


def _side(text: str) -> Side:
    if text not in _SIDES:
        raise ValueError(f"the side {clean(text, 40)!r} is neither BOT nor SLD")
    return _SIDES[text]
