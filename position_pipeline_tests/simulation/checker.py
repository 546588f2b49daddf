"""What must hold: the true book, by brute force over everything that happened, and what the product's book differs from it.

Belongs here: pure functions of facts and rows; they share no code with the product but value types. Does not belong here: reading the
database (driver.py). A violation is a line of text whose first word names the rule that was broken.

The brute force keeps single lots as fractions and goes through the final list of facts once, in order of time. It knows nothing of late
facts, corrections or answers: those are in the list already, or do not matter.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from position_pipeline_tests.simulation.facts import Fact

Key = tuple[str, int]
"""(account, conId)"""

NEAR = Fraction(1, 1_000_000)
"""The product rounds money at ten decimals where cost is relieved; a brute force of fractions never does."""


@dataclass
class Lot:
    """Signed units, and what all of them cost with commissions (signed like the units)."""

    quantity: Fraction
    cost: Fraction


@dataclass
class Truth:
    """Open lots by (account, conId), and realised P&L, net of all commissions, by (account, conId, fact)."""

    lots: dict[Key, list[Lot]] = field(default_factory=lambda: defaultdict(list))
    realized: dict[tuple[str, int, str], Fraction] = field(default_factory=lambda: defaultdict(Fraction))

    def quantity(self, key: Key) -> Fraction:
        return sum((lot.quantity for lot in self.lots.get(key, ())), Fraction(0))


def true_book(facts: Iterable[Fact], factors: Mapping[int, Decimal], method: str) -> Truth:
    """What all facts come to, by one cost method: fifo, lifo or average."""
    truth = Truth()
    passed: dict[str, list[Lot]] = {}
    order = {"gave": 0, "ended": 0}
    for fact in sorted(facts, key=lambda one: (one.time, order.get(one.kind, 1))):
        key, lots = (fact.account, fact.con_id), truth.lots[fact.account, fact.con_id]
        factor, units = Fraction(factors[fact.con_id]), Fraction(fact.quantity)
        if fact.kind in ("open", "in"):
            assert fact.price is not None
            _add(lots, Lot(units, units * Fraction(fact.price) * factor), method)
        elif fact.kind == "out":
            _take(lots, -units, method)
        elif fact.kind == "split":
            for lot in lots:
                lot.quantity *= Fraction(fact.numerator, fact.denominator)
        elif fact.kind in ("gave", "ended"):
            passed[fact.id] = _take(lots, -units, method)
        elif fact.kind == "took":
            ratio = Fraction(fact.numerator, fact.denominator)
            lots += [Lot(lot.quantity * ratio, lot.cost) for lot in passed[fact.takes_from]]
        elif fact.kind == "expiry":
            truth.realized[*key, fact.id] -= sum(lot.cost for lot in _take(lots, -units, method))
        elif units:
            assert fact.price is not None
            premium = sum((lot.cost for lot in passed.get(fact.takes_from, ())), Fraction(0))
            paid = units * Fraction(fact.price) * factor + Fraction(fact.commission) + premium
            _trade(truth, (*key, fact.id), lots, Lot(units, paid), method)
    return truth


def _trade(truth: Truth, name: tuple[str, int, str], lots: list[Lot], trade: Lot, method: str) -> None:
    held = sum((lot.quantity for lot in lots), Fraction(0))
    if held * trade.quantity < 0:
        closing = trade.quantity if abs(trade.quantity) <= abs(held) else -held
        share = closing / trade.quantity
        gone = _take(lots, -closing, method)
        truth.realized[name] += -trade.cost * share - sum(lot.cost for lot in gone)
        trade = Lot(trade.quantity - closing, trade.cost * (1 - share))
    if trade.quantity:
        _add(lots, trade, method)


def _add(lots: list[Lot], new: Lot, method: str) -> None:
    if method == "average" and lots:
        lots[0] = Lot(lots[0].quantity + new.quantity, lots[0].cost + new.cost)
    else:
        lots.append(new)


def _take(lots: list[Lot], units: Fraction, method: str) -> list[Lot]:
    """The lots that go, which are the oldest (lifo: the newest), in order of their age; `units` has the sign of the holding."""
    gone = []
    while units:
        lot = lots.pop(-1 if method == "lifo" else 0)
        if abs(lot.quantity) > abs(units):
            part = Lot(units, lot.cost * units / lot.quantity)
            lots.insert(len(lots) if method == "lifo" else 0, Lot(lot.quantity - units, lot.cost - part.cost))
            lot = part
        gone.append(lot)
        units -= lot.quantity
    return gone[::-1] if method == "lifo" else gone


# Comparing. Rows are those of the tables, as dictionaries.

Row = dict[str, Any]


def differing_quantities(truth: Truth, positions: Iterable[Row]) -> dict[Key, tuple[Decimal, Fraction]]:
    """(book's, true) quantity where they are not the same."""
    book = {key_of(row): row["quantity"] for row in positions}
    keys = book.keys() | truth.lots.keys()
    return {
        key: (book.get(key, Decimal(0)), truth.quantity(key))
        for key in sorted(keys)
        if Fraction(book.get(key, Decimal(0))) != truth.quantity(key)
    }


def silent_differences(truth: Truth, positions: Iterable[Row], breaks: Iterable[Row]) -> list[str]:
    """Where book and broker hold something else, there is a break that says so."""
    told = {key_of(row) for row in breaks if row["instrument"] and row["status"] == "open" and row["subject"] in ("quantity", "snapshot")}
    found = differing_quantities(truth, positions)
    return [f"silent: {key} book {book}, true {true}" for key, (book, true) in found.items() if key not in told]


def breaks_without_cause(breaks: Iterable[Row], untold: set[Key]) -> list[str]:
    """An open break is of an instrument of which something has not been told yet, or of an account of which that is so."""
    accounts = {account for account, _ in untold}
    return [
        f"uncaused: a break of {row['instrument']} ({row['subject']}, {row['class']}) is open, and all facts have come: {row['evidence']}"
        for row in breaks
        if row["status"] == "open" and (row["account"] not in accounts if row["instrument"] is None else key_of(row) not in untold)
    ]


HAPPENS_AS = {
    "split": ("split",), "transfer": ("in", "out"), "conversion_out": ("gave",), "conversion_in": ("took",), "expiry": ("expiry",),
    "assignment": ("ended",), "exercise": ("ended",), "delivery": ("trade",),
}  # fmt: skip
"""What has to have happened where the book says so by itself. What only follows the broker says nothing of the kind."""

EXCHANGES = ("split", "took")
ENDS = ("expiry", "assignment", "exercise", "delivery")
"""Of these more may have happened than the book says: contracts of which no fill tells ended with those that it knows."""


def wrong_verdicts(facts: Iterable[Fact], inferred: Iterable[Row]) -> list[str]:
    """What was booked as certain, and did not happen, or not so: as many units, at that ratio. `facts` are those until the answer."""
    histories = _histories(facts)
    return [
        f"wrong: {row['kind']} of {_what(row)} in {row['instrument']} never happened: {row['evidence']}"
        for row in inferred
        if row["kind"] != "adopted" and not _happened(row, histories.get(key_of(row), []))
    ]


def _histories(facts: Iterable[Fact]) -> dict[Key, list[Fact]]:
    """What happened to units besides trades, by instrument, in order of time; what took them over has their history."""
    histories: dict[Key, list[Fact]] = defaultdict(list)
    givers: dict[str, Key] = {}
    for fact in sorted(facts, key=lambda one: (one.time, one.kind != "gave")):
        key = (fact.account, fact.con_id)
        if fact.kind == "gave":
            givers[fact.id] = key
        if fact.kind == "took":
            histories[key] += histories[givers[fact.takes_from]]
        if fact.kind != "trade" or fact.takes_from:
            histories[key].append(fact)
    return histories


def _happened(row: Row, history: Sequence[Fact]) -> bool:
    """Whether an entry says what facts in a row come to: between two answers there may be several, and what came may be split then."""
    wanted = HAPPENS_AS.get(row["kind"], ())
    runs = (history[first:last] for first in range(len(history)) for last in range(first + 1, len(history) + 1))
    return any(_comes_to(row, run, wanted) for run in runs if any(each.kind in wanted for each in run))


def _comes_to(row: Row, run: Sequence[Fact], wanted: tuple[str, ...]) -> bool:
    """`units` are counted as they are after the run; what went into another instrument may be told in units of before a split of that day."""
    units, exchanged, before = Fraction(0), Fraction(1), Fraction(0)
    for each in run:
        if each.kind in EXCHANGES:
            units, exchanged = units * each.numerator / each.denominator, exchanged * each.numerator / each.denominator
        elif each.kind in wanted:
            units += Fraction(each.quantity)
            before += Fraction(each.quantity) / exchanged
    if row["kind"] in ("split", "conversion_in"):
        return exchanged == _ratio(row)
    said = Fraction(row["quantity"])
    if row["kind"] == "conversion_out" and said == before:
        return True
    return said == units or (row["kind"] in ENDS and said * units > 0 and abs(said) < abs(units))


def _ratio(row: Row) -> Fraction:
    return Fraction(row["numerator"]) / Fraction(row["denominator"])


def _what(row: Row) -> str:
    return str(_ratio(row)) if row["kind"] == "split" else plain(row["quantity"])


def plain(value: Decimal) -> str:
    return f"{value.normalize():f}"


def wrong_figures(truth: Truth, positions: Iterable[Row], lots: Iterable[Row], closes: Iterable[Row]) -> list[str]:
    """Where all facts have come: quantities, lots and realised P&L are the true ones."""
    positions = list(positions)
    found = [f"quantity: {key} book {book}, true {true}" for key, (book, true) in differing_quantities(truth, positions).items()]
    found += [f"unknown: {key_of(row)} has {row['unknown_closes']} closes of unknown cost" for row in positions if row["unknown_closes"]]
    ours: dict[Key, list[tuple[Fraction, Fraction]]] = defaultdict(list)
    for row in lots:
        if row["cost"] is None or row["commission"] is None:
            found.append(f"lot: {key_of(row)} {row['opening_id']} has cost {row['cost']}, commission {row['commission']}")
        else:
            ours[key_of(row)].append((Fraction(row["quantity"]), Fraction(row["cost"]) + Fraction(row["commission"])))
    for key in ours.keys() | truth.lots.keys():
        theirs = [(lot.quantity, lot.cost) for lot in truth.lots.get(key, ())]
        if len(ours[key]) != len(theirs) or any(
            one[0] != other[0] or abs(one[1] - other[1]) > NEAR for one, other in zip(sorted(ours[key]), sorted(theirs), strict=True)
        ):
            found.append(f"lots: {key} book {_shown(ours[key])}, true {_shown(theirs)}")
    return found + _wrong_closes(truth, closes)


def _wrong_closes(truth: Truth, closes: Iterable[Row]) -> list[str]:
    ours: dict[tuple[str, int, str], Fraction] = defaultdict(Fraction)
    found = []
    for row in closes:
        if row["net_pnl"] is None:
            found.append(f"close: {key_of(row)} {row['execution_id']} has no P&L")
        else:
            ours[*key_of(row), row["execution_id"]] += Fraction(row["net_pnl"])
    for name in sorted(ours.keys() | truth.realized.keys()):
        one, other = ours.get(name, Fraction(0)), truth.realized.get(name, Fraction(0))
        if abs(one - other) > NEAR:
            found.append(f"realised: {name} book {float(one):.6f}, true {float(other):.6f}")
    return found


def key_of(row: Row) -> Key:
    return row["account"], int(row["instrument"].partition(":")[2])


def _shown(lots: Iterable[tuple[Fraction, Fraction]]) -> str:
    return "; ".join(f"{float(quantity):g} for {float(cost):.6f}" for quantity, cost in lots) or "nothing"
