"""Real IBKR statements: our book, fill by fill, against IBKR's own figures.

The statements lie beside the checkout and are no part of it. What IBKR says (`fifoPnlRealized`, OpenPositions) is read here straight from
the XML, so that nothing of the reader under test vouches for itself.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from defusedxml import ElementTree

from position_pipeline.accounting.booking import Booked, Carries, fold, in_order
from position_pipeline.accounting.exact import EXACT, ZERO, total
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis, Close, Fill, Method, Position
from position_pipeline.brokers.flex import read_statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from xml.etree.ElementTree import Element

    from position_pipeline.brokers import Statement

D = Decimal
STATEMENTS = Path(__file__).resolve().parents[2].parent / "shared" / "statements"
YEAR = STATEMENTS / "ibkr_flex_2025.xml"
if not YEAR.exists():
    pytest.skip("the statements are not beside the checkout (../shared/statements)", allow_module_level=True)

MSTR = "ibkr:272110"
AS_PRINTED = D("0.000001")
"""IBKR prints six decimals."""

BEFORE_THE_PERIOD = {"2025-03-06;10:36:19", "2025-03-13;10:10:07"}
THE_ASSIGNMENT = "2025-10-17;16:20:00"
RERATED = ("MSTR  250214C00500000", D("0.0100004"))


@dataclass(frozen=True)
class Account:
    """One account of a file, booked: the result by instrument."""

    statement: Statement
    results: Mapping[str, Booked]

    def closes(self) -> dict[str, list[Close]]:
        """By the id of the closing entry."""
        closes: defaultdict[str, list[Close]] = defaultdict(list)
        for result in self.results.values():
            for close in result.closes:
                closes[close.execution_id].append(close)
        return closes


def booked(statement: Statement, extra: Iterable[Adjustment] = (), method: Method = Method.FIFO) -> Account:
    """Fold every instrument; options first, so that the shares that take their premium find it."""
    entries: defaultdict[str, list[Fill | Adjustment]] = defaultdict(list)
    for entry in (*statement.fills, *statement.adjustments, *extra):
        entries[entry.instrument].append(entry)
    instruments = {each.id: each for each in statement.instruments}
    carries: Carries = {}
    results = {}
    for name in sorted(entries, key=lambda each: instruments[each].sec_type not in ("OPT", "FOP")):
        if instruments[name].sec_type != "CASH":
            position = Position(statement.account, name, instruments[name].currency, method=method)
            results[name] = fold(position, in_order(entries[name]), carries)
            carries |= results[name].carries
    return Account(statement, results)


@pytest.fixture(scope="module")
def year() -> Account:
    (statement,) = read_statements(YEAR)
    return booked(statement)


@pytest.fixture(scope="module")
def xml() -> Element:
    return ElementTree.parse(YEAR).getroot()


def our_id(row: Element) -> str:
    """The id of a row's fill or adjustment."""
    execution = row.get("ibExecID", "")
    return execution.rpartition(".")[0] if execution else f"flex-{row.get('transactionID')}"


def closings(xml: Element) -> list[Element]:
    return [row for row in xml.iter("Trade") if "C" in row.get("openCloseIndicator", "")]


@dataclass(frozen=True)
class Difference:
    """A closing that does not carry IBKR's P&L: ours less theirs, None where ours is unknown."""

    symbol: str
    time: str
    amount: Decimal | None


def differences(account: Account, xml: Element) -> list[Difference]:
    closes, found = account.closes(), []
    for row in closings(xml):
        ours = [close.net_pnl for close in closes[our_id(row)]]
        assert ours, "every closing of IBKR's is one of ours"
        amount = None if None in ours else EXACT.subtract(total(ours), D(row.get("fifoPnlRealized", "")))
        if amount is None or abs(amount) > AS_PRINTED:
            found.append(Difference(row.get("symbol", ""), row.get("dateTime", ""), amount))
    return found


def test_the_statement_is_read_whole(year):
    statement = year.statement
    assert (statement.account, statement.base_currency, statement.broker) == ("U9999999", "CHF", "ibkr")
    assert len(statement.fills) == 671 - 7 - 1  # seven expiries and one assignment are adjustments
    kinds = [each.kind for each in statement.adjustments]
    assert kinds.count(AdjustmentKind.EXPIRY) == 7
    assert kinds.count(AdjustmentKind.ASSIGNMENT) == 1
    assert kinds.count(AdjustmentKind.OPENING_BALANCE) == 1
    assert len(statement.cash) == 60
    assert statement.refused == ()
    assert (statement.from_at, statement.to_at) == (datetime(2025, 1, 1, 5, tzinfo=UTC), datetime(2026, 1, 1, 5, tzinfo=UTC))
    assert not [note for note, _ in statement.notes if "unknown" in note]


def test_181_of_185_closings_carry_ibkrs_own_realised_profit(year, xml):
    assert len(closings(xml)) == 185
    others = differences(year, xml)
    assert len(others) == 4
    assert {other.time for other in others if other.amount is None and other.symbol == "MSTR"} == {*BEFORE_THE_PERIOD, THE_ASSIGNMENT}
    # Its opening commission was re-rated after the fill: 767.1073096 received, 767.11731 closed.
    assert [(other.symbol, other.amount) for other in others if other.amount is not None] == [(RERATED[0], -RERATED[1])]


def test_no_other_method_reproduces_what_ibkr_says(xml):
    (statement,) = read_statements(YEAR)
    assert 185 - len(differences(booked(statement, method=Method.LIFO), xml)) == 103
    assert 185 - len(differences(booked(statement, method=Method.AVERAGE), xml)) == 83


def test_the_three_closings_of_older_shares_have_an_unknown_basis(year):
    opening = next(each for each in year.statement.adjustments if each.kind is AdjustmentKind.OPENING_BALANCE)
    assert (opening.instrument, opening.quantity, opening.price) == (MSTR, D(284), None)
    of_unknown = [close for close in year.results[MSTR].closes if close.basis is Basis.UNKNOWN]
    assert [close.quantity for close in of_unknown] == [D(1), D(1), D(282)]
    assert all(close.gross_pnl is None and close.opening_id == opening.id for close in of_unknown)


def test_given_the_older_lots_all_three_agree(year, xml):
    bought = datetime(2024, 6, 3, 14, tzinfo=UTC)
    basis = [(1, D("389.600072")), (1, D("389.600072")), (282, D("113055.22928265"))]
    lots = [
        Adjustment(
            id=f"lot-{number}",
            account="U9999999",
            instrument=MSTR,
            kind=AdjustmentKind.OPENING_LOT,
            time=bought,
            quantity=D(quantity),
            currency="USD",
            cost=cost,
            basis=Basis.STATEMENT,
        )
        for number, (quantity, cost) in enumerate(basis)
    ]
    others = differences(booked(year.statement, lots), xml)
    assert [other.amount for other in others] == [-RERATED[1]]


def test_all_72_open_lots_agree_exactly(year, xml):
    names = {fill.sequence: fill.execution_id for fill in year.statement.fills}
    theirs: defaultdict[str, list[tuple[Decimal, Decimal]]] = defaultdict(list)
    for row in xml.iter("OpenPosition"):
        if row.get("levelOfDetail") == "LOT":
            opening = names[int(row.get("originatingTransactionID", ""))]
            theirs[opening].append((D(row.get("position", "")), D(row.get("costBasisMoney", ""))))
    ours: defaultdict[str, list[tuple[Decimal, Decimal]]] = defaultdict(list)
    for result in year.results.values():
        for lot in result.position.lots:
            ours[lot.opening_id].append((lot.quantity, EXACT.add(lot.cost, lot.commission)))
    assert sum(len(lots) for lots in theirs.values()) == 72
    assert ours == theirs


def test_both_position_totals_agree_exactly(year, xml):
    theirs = {
        f"ibkr:{row.get('conid')}": (D(row.get("position", "")), D(row.get("costBasisMoney", "")))
        for row in xml.iter("OpenPosition")
        if row.get("levelOfDetail") == "SUMMARY"
    }
    positions = {name: result.position for name, result in year.results.items() if result.position.quantity}
    ours = {name: (each.quantity, EXACT.add(each.cost, each.open_commission)) for name, each in positions.items()}
    assert len(theirs) == 2
    assert ours == theirs


def test_the_premium_of_the_assignment_moves_to_the_shares(year):
    assignment = next(each for each in year.statement.adjustments if each.kind is AdjustmentKind.ASSIGNMENT)
    option = year.results[assignment.instrument]
    assert [close.net_pnl for close in option.closes] == [ZERO] * len(option.closes)
    assert option.carries[assignment.id].premium == D("-8504.59454")  # the `cost` of IBKR's row
    shares = next(fill for fill in year.statement.fills if fill.premium_from == assignment.id)
    assert (shares.instrument, shares.quantity, shares.price) == (MSTR, D(3400), D(290))


def test_cash_and_book_agree_to_the_last_digit_in_every_instrument_whose_basis_is_known(year):
    checked = 0
    for name, result in year.results.items():
        fills = [fill for fill in year.statement.fills if fill.instrument == name]
        premiums = [carried.premium for carried in result.carries.values()]
        if name == MSTR or any(fill.premium_from for fill in fills) or None in premiums:
            continue
        received = total(
            EXACT.subtract(EXACT.multiply(EXACT.multiply(-fill.signed_quantity, fill.price), fill.multiplier), fill.commission)
            for fill in fills
        )
        handed_over = total(
            value.premium for key, value in result.carries.items() if any(close.execution_id == key for close in result.closes)
        )
        position = result.position
        book = EXACT.subtract(EXACT.subtract(position.realized_net, position.cost), position.open_commission)
        assert EXACT.subtract(book, received) == handed_over
        checked += 1
    assert checked > 30


def test_reading_twice_gives_the_same_ids(year):
    (again,) = read_statements(YEAR.read_bytes(), name="again")
    assert again.fills == year.statement.fills
    assert again.adjustments == year.statement.adjustments
    assert again.cash == year.statement.cash
    ids = [each.execution_id for each in again.fills] + [each.id for each in again.adjustments] + [each.id for each in again.cash]
    assert len(ids) == len(set(ids))


# A corporate action


def test_after_an_identifier_change_the_lot_is_the_statements_own_with_its_date_and_cost():
    (statement,) = read_statements(STATEMENTS / "ibkr_flex_corporate_action_2025.xml")
    assert statement.refused == ()
    assert [row.amount for row in statement.cash] == ["12.72", "-1.91", "13.92", "-2.09"]
    (position,) = [result.position for result in booked(statement).results.values() if result.position.quantity]
    (lot,) = position.lots
    assert position.instrument == "ibkr:808825105"
    assert (lot.quantity, lot.opened_at) == (D(24), datetime(2025, 8, 7, 14, 45, 23, tzinfo=UTC))  # 10:45:23 in New York
    # 24 x 33.20 bought, and 3 paid for it: the statement's costBasisMoney of the lot is 799.80, 33.325 a share.
    assert (lot.cost, lot.commission, lot.cost + lot.commission) == (D("796.8"), D(3), D("799.8"))


# Options on futures, and an index option settled in cash


@pytest.fixture(scope="module")
def options() -> Account:
    (statement,) = read_statements(STATEMENTS / "ibkr_flex_options_future_2025.xml")
    return booked(statement)


def named(account: Account, symbol: str) -> Booked:
    name = next(each.id for each in account.statement.instruments if each.symbol == symbol)
    return account.results[name]


def test_every_position_at_the_end_is_that_of_the_statement(options):
    root = ElementTree.parse(STATEMENTS / "ibkr_flex_options_future_2025.xml").getroot()
    theirs = {f"ibkr:{row.get('conid')}": D(row.get("position", "")) for row in root.iter("OpenPosition")}
    ours = {name: result.position.quantity for name, result in options.results.items() if result.position.quantity}
    assert ours == theirs
    assert options.statement.refused == ()
    assert options.statement.base_currency == "CHF"


def test_an_index_option_is_settled_in_cash_at_its_value(options):
    vix = named(options, "VIX 250416P00055000")
    assert [close.gross_pnl for close in vix.closes] == [D("73.34")]  # 100 x (23.2734 - 22.54)
    assert [close.net_pnl for close in vix.closes] == [D("71.83025")]  # less the 1.50975 paid to buy it


def test_an_option_on_a_future_delivers_the_future_with_its_premium(options):
    option, future = named(options, "4SFV5 C1265"), named(options, "6SZ5")
    assert [close.net_pnl for close in option.closes] == [ZERO]
    assert list(option.carries.values())[-1].premium == D("1454.94")  # 125000 x 0.0116 + 2.47 to buy it + 2.47 to exercise it
    delivered = future.closes[-1]
    assert delivered.gross_pnl == D("-200") - D("1454.94")  # 125000 x (1.2634 - 1.265), less the premium
    assert delivered.net_pnl == D("-1657.41")  # less the 2.47 for the sale


def test_expired_options_of_both_signs_are_closed(options):
    bought, sold = named(options, "TLT 250613C00089500"), named(options, "IGIC 250117C00025000")
    assert total(close.net_pnl for close in bought.closes) == D("-57.06385")  # 20 + 20 + 14 and 3.06385 in fees
    assert (sold.closes[0].basis, sold.position.quantity) == (Basis.UNKNOWN, ZERO)  # it was sold before the period


def test_an_assigned_call_sells_the_shares_with_its_premium(options):
    shares = next(fill for fill in options.statement.fills if fill.premium_from and fill.price == D(17))
    assert named(options, "SA 250919C00017000").carries[shares.premium_from].premium == D("-76.69576")  # 77 less 0.30424
    assert shares.signed_quantity == -100


def test_rows_without_ids_are_named_by_their_content_and_it_is_said(options):
    notes = dict(options.statement.notes)
    assert notes["trades without any id, named by their content: tick IB Execution ID and Transaction ID in the Flex query"] == 39
    assert notes["deliveries without the row of their option: its premium is not in their P&L"] == 4
    fills = options.statement.fills
    assert len({each.execution_id for each in fills}) == len(fills) == 34
