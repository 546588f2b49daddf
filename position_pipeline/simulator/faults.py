"""Faults as data: what can go wrong on purpose, and how it is written as text.

Here: the list of faults, their text form, and which of them are switched on. Not here: doing them (`responses.py` for
what happens to an answer, `server.py` for what happens to a connection).

A fault is written `action[:target][:option=value]...`, for example `truncate:positions:after=2:account=U1:times=1`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

TARGETS = (
    "positions",
    "executions",
    "account-updates",
    "account-updates-multi",
    "account-summary",
    "positions-multi",
    "open-orders",
    "completed-orders",
    "contract-details",
    "history",
    "current-time",
    "pnl",
    "pnl-single",
    "market-data",
)

# action -> (the targets it needs, what it does)
_ANY = TARGETS
_ROWS = tuple(each for each in TARGETS if each not in ("current-time", "pnl", "pnl-single", "market-data"))
ACTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "hang": ((*_ANY, "handshake"), "no answer; for handshake: the version is answered, readiness never comes"),
    "drop": (_ROWS, "the connection is closed after `after` rows"),
    "reset": (_ROWS, "the connection is reset (RST) after `after` rows"),
    "truncate": (_ROWS, "the end marker comes after `after` rows, as if there were no more"),
    "missing-end": (_ROWS, "all rows, but no end marker"),
    "empty": (_ROWS, "an end marker and no rows"),
    "garble": (_ROWS, "row number `row` cannot be decoded: one field too few"),
    "garbage-length": (_ROWS, "row number `row` has a wrong length in front, and the stream is out of step"),
    "duplicate-row": (_ROWS, "row number `row` comes twice; with stale=1 the first copy of a position is one unit off"),
    "omit": (_ROWS, "the rows of `symbol` are left out, without a zero row"),
    "error": (_ANY, "error `code` (default 321) with the request's id, and nothing else"),
    "delay": (_ANY, "the answer comes `seconds` later"),
    "zero-row": ((), "a row with quantity 0 in the list of positions"),
    "refuse": ((), "the port is closed; connections that stand stay"),
    "silent": ((), "connections are accepted and nothing is ever said"),
    "half-open": ((), "from now on nothing is sent any more, but sockets stay open"),
    "mute": ((), "no pushes: snapshots are right, changes are not told"),
    "slow": ((), "frames leave in pieces of `chunk` bytes (default 7)"),
    "late-commission": ((), "commission reports are held back `seconds` of play time, or until sent or healed"),
    "no-commission": ((), "commission reports never come"),
    "early-commission": ((), "a commission report comes before its execution"),
    "wrong-order": ((), "executions newest first, their commission reports after the end marker"),
    "second-id": ((), "each listed execution comes once more under another exec id"),
    "unknown-zone": ((), "execution times name a zone that does not exist"),
    "no-zone": ((), "execution times without a zone (yyyymmdd  hh:mm:ss)"),
    "utc-form": ((), "execution times as yyyymmdd-hh:mm:ss, which is UTC"),
    "client-id-taken": ((), "error 326 and a closed connection, for any id or for client=n"),
    "lingering-id": ((), "the id of a client that has gone stays taken"),
    "linked-account": ((), "account values come, portfolio rows never"),
    "many-accounts": ((), "`count` (default 60) accounts are listed; the added ones are empty"),
    "1100": ((), "the link to the broker is lost: notice 1100, no pushes; healing sends 1102"),
    "1101": ((), "as 1100, but healing sends 1101: data lost"),
    "2110": ((), "as 1100, with notice 2110"),
}


class FaultError(ValueError):
    """Text that names no known fault; the message lists the known ones."""


@dataclass(frozen=True)
class Fault:
    """One fault. Options that an action does not use are ignored; `times` None means for ever."""

    action: str
    target: str = ""
    after: int = 0
    row: int = 1
    times: int | None = None
    account: str = ""
    symbol: str = ""
    client: int | None = None
    chunk: int = 7
    seconds: Decimal | None = None
    code: int = 321
    count: int = 60
    stale: bool = False

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise FaultError(f"unknown fault {self.action!r}. Known faults:\n{known_faults()}")
        targets = ACTIONS[self.action][0]
        if targets and self.target not in targets:
            raise FaultError(f"{self.action} needs one of these: {', '.join(f'{self.action}:{t}' for t in targets)}")
        if self.target and not targets and self.target not in ("positions", "executions"):
            raise FaultError(f"{self.action} takes no target, not {self.target!r}")

    @classmethod
    def parse(cls, text: str) -> "Fault":
        action, *parts = text.strip().split(":")
        target = parts.pop(0) if parts and "=" not in parts[0] else ""
        return cls(action, target, **dict(_option(part, text) for part in parts))

    def concerns(self, action: str, target: str = "", account: str = "", client: int | None = None) -> bool:
        """Whether this is such a fault. One that names an account or a client concerns only that one."""
        return (
            self.action == action
            and (not target or self.target in ("", target))
            and (not self.account or not account or self.account == account)
            and (self.client is None or client is None or self.client == client)
        )


_CONVERT: dict[str, Callable[[str], Any]] = {"account": str, "symbol": str, "seconds": Decimal}


def _option(part: str, whole: str) -> tuple[str, Any]:
    key, equals, value = part.partition("=")
    options = [each.name for each in fields(Fault)][2:]
    if not equals or key not in options:
        raise FaultError(f"fault {whole!r}: {part!r} is no option; write key=value with one of {', '.join(options)}")
    try:
        return key, bool(int(value)) if key == "stale" else _CONVERT.get(key, int)(value)
    except (ValueError, ArithmeticError):
        raise FaultError(f"fault {whole!r}: {key} must be a number, not {value!r}") from None


def known_faults() -> str:
    """One line per fault, for an error text or a help page."""
    lines = []
    for action, (targets, meaning) in ACTIONS.items():
        lines.append(f"  {action}{':TARGET' if targets else '':8} {meaning}")
    return "\n".join([*lines, f"  targets: {', '.join(TARGETS)}; hang also: handshake"])


@dataclass
class _Left:
    """A fault and how often it may still happen."""

    fault: Fault
    times: int | None


class Faults:
    """The faults that are switched on, with what is left of those that happen a limited number of times."""

    def __init__(self, faults: Iterable[Fault | str] = ()) -> None:
        self._left: list[_Left] = []
        for each in faults:
            self.add(each)

    def add(self, fault: Fault | str) -> Fault:
        made = Fault.parse(fault) if isinstance(fault, str) else fault
        self._left.append(_Left(made, made.times))
        return made

    def clear(self) -> list[Fault]:
        """Switch all off; what was on."""
        gone, self._left = self.active(), []
        return gone

    def active(self) -> list[Fault]:
        return [each.fault for each in self._left if each.times is None or each.times > 0]

    def find(self, action: str, target: str = "", account: str = "", client: int | None = None) -> Fault | None:
        """The first such fault that is on; looking does not use it up."""
        if not self._left:  # asked for every row of a long answer
            return None
        return next((each for each in self.active() if each.concerns(action, target, account, client)), None)

    def take(self, action: str, target: str = "", account: str = "", client: int | None = None) -> Fault | None:
        """As `find`, and one of its `times` is used up."""
        for each in self._left:
            if each.times != 0 and each.fault.concerns(action, target, account, client):
                if each.times is not None:
                    each.times -= 1
                return each.fault
        return None
