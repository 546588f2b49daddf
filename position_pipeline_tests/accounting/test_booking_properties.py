"""What must hold for every history: exact cash, whole lots, and results that do not depend on how the history arrived."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from position_pipeline.accounting.booking import Booked, fold, in_order, order_key
from position_pipeline.accounting.exact import EXACT, ZERO, total
from position_pipeline.accounting.model import AdjustmentKind, EventType, Fill, Method, Position, Side
from position_pipeline_tests.accounting.histories import Tape
from position_pipeline_tests.accounting.ledger import ACCOUNT, STOCK, adjustment, flat, identity, minute

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDING = Fraction(1, 2 * 10**10)


def digits(low: int, high: int, places: int) -> st.SearchStrategy[Decimal]:
    return st.builds(lambda number, scale: Decimal(number).scaleb(-scale), st.integers(low, high), st.integers(0, places))


def histories(*, most: int = 25) -> st.SearchStrategy[list[Fill]]:
    """Fills of one instrument with one multiplier; several may share a minute."""
    return st.binary(min_size=most * 30, max_size=most * 30).map(lambda content: fills_on(Tape(content), most))


def fills_on(tape: Tape, most: int) -> list[Fill]:
    multiplier = tape.one_of(Decimal(1), Decimal(100), Decimal("0.01"))
    fills, clock = [], 0
    for _ in range(1 + tape.below(most)):
        clock += tape.below(3)
        fills.append(
            Fill(
                account=ACCOUNT,
                instrument=STOCK,
                execution_id=f"e{len(fills):03d}",
                side=tape.one_of(*Side),
                quantity=tape.digits(1, 10**12, 24) if tape.below(2) else tape.digits(1, 20, 0),
                price=tape.digits(-(10**6), 10**12, 12),
                currency="USD",
                time=minute(clock),
                multiplier=multiplier,
                commission=tape.digits(-(10**4), 10**6, 8),
                commission_currency="USD",
            )
        )
    return fills


methods = st.sampled_from(list(Method))


@given(histories(), methods)
@settings(max_examples=1000, deadline=None)
def test_net_realised_less_remaining_cost_is_the_cash_received_to_the_last_digit(fills, method):
    assert identity(fold(flat(method), fills), fills) == 0


@given(histories(), methods)
@settings(max_examples=1000, deadline=None)
def test_lots_sum_to_the_quantity_have_one_sign_and_none_is_empty(fills, method):
    position = fold(flat(method), fills).position
    assert position.quantity == total(each.signed_quantity for each in fills)
    assert all(lot.quantity for lot in position.lots)
    assert len({lot.quantity > 0 for lot in position.lots}) <= 1


@given(histories(), methods)
@settings(max_examples=1000, deadline=None)
def test_closes_sum_to_the_positions_figures(fills, method):
    result = fold(flat(method), fills)
    assert total(close.gross_pnl for close in result.closes) == result.position.realized_gross
    assert total(close.opening_commission for close in result.closes) == result.position.opening_commission
    assert total(close.closing_commission for close in result.closes) == result.position.closing_commission
    assert all(close.quantity for close in result.closes)


@given(histories(), methods, st.lists(st.integers(0, 25), max_size=4))
@settings(max_examples=1000, deadline=None)
def test_folding_in_batches_gives_the_same_to_the_last_digit(fills, method, cuts):
    whole = fold(flat(method), fills)
    edges = sorted({0, len(fills), *(cut for cut in cuts if cut < len(fills))})
    batches = in_batches(flat(method), [fills[start:end] for start, end in pairwise(edges)])
    assert batches == whole


def in_batches(position: Position, batches: Sequence[Sequence[Fill]]) -> Booked:
    closes, events = [], []
    for batch in batches:
        result = fold(position, batch)
        position = result.position
        closes += result.closes
        events += result.events
    return Booked(position, tuple(closes), tuple(events), {})


@given(histories(), methods, st.randoms(use_true_random=False))
@settings(max_examples=1000, deadline=None)
def test_the_order_of_arrival_does_not_matter(fills, method, random):
    shuffled = list(fills)
    random.shuffle(shuffled)
    assert fold(flat(method), in_order(shuffled)) == fold(flat(method), sorted(fills, key=order_key))


@given(histories(), methods)
@settings(max_examples=1000, deadline=None)
def test_events_tell_the_quantities_without_a_gap(fills, method):
    events = fold(flat(method), fills).events
    assert all(before.quantity_after == after.quantity_before for before, after in pairwise(events))
    assert all(event.quantity_before == 0 for event in events if event.type in (EventType.OPENED, EventType.FLIPPED))
    assert all(event.quantity_after == 0 for event in events if event.type is EventType.CLOSED)


@given(histories())
@settings(max_examples=1000, deadline=None)
def test_fifo_matches_the_nth_unit_bought_with_the_nth_unit_sold(fills):
    closes = fold(flat(Method.FIFO), fills).closes
    pairs: dict[tuple[str, str], Fraction] = {}
    for close in closes:
        pair = (close.opening_id, close.execution_id)
        pairs[pair] = pairs.get(pair, Fraction(0)) + abs(Fraction(close.quantity))
    expected = merged(fills)
    assert pairs == {pair: quantity for pair, (quantity, _) in expected.items()}
    for close in closes:
        _, profit = expected[close.opening_id, close.execution_id]
        assert close.gross_pnl is not None
        assert abs(Fraction(close.gross_pnl) - profit) <= len(fills) * ROUNDING


def merged(fills: Sequence[Fill]) -> dict[tuple[str, str], tuple[Fraction, Fraction]]:
    """(opening, closing) -> (quantity, profit): where the volume axes of purchases and sales overlap."""
    axes: dict[Side, list[tuple[Fraction, Fraction, int]]] = {Side.BUY: [], Side.SELL: []}
    for number, each in enumerate(fills):
        start = axes[each.side][-1][1] if axes[each.side] else Fraction(0)
        axes[each.side].append((start, start + Fraction(each.quantity), number))
    found: dict[tuple[str, str], tuple[Fraction, Fraction]] = {}
    for low, high, bought in axes[Side.BUY]:
        for start, end, sold in axes[Side.SELL]:
            quantity = min(high, end) - max(low, start)
            if quantity > 0:
                first, second = sorted((bought, sold))
                spread = Fraction(fills[sold].price) - Fraction(fills[bought].price)
                profit = quantity * spread * Fraction(fills[0].multiplier)
                found[fills[first].execution_id, fills[second].execution_id] = (quantity, profit)
    return found


@given(histories())
@settings(max_examples=1000, deadline=None)
def test_average_cost_equals_the_same_in_fractions_within_the_rounding(fills):
    result = fold(flat(Method.AVERAGE), fills)
    quantity, cost, realised = averaged(fills)
    assert Fraction(result.position.quantity) == quantity
    assert result.position.cost is not None
    assert abs(Fraction(result.position.cost) - cost) <= len(fills) * ROUNDING
    assert abs(Fraction(result.position.realized_gross) - realised) <= len(fills) * ROUNDING


def averaged(fills: Sequence[Fill]) -> tuple[Fraction, Fraction, Fraction]:
    """(quantity, cost, gross profit) of a moving average, without any rounding."""
    quantity, cost, realised = Fraction(0), Fraction(0), Fraction(0)
    for each in fills:
        change, price = Fraction(each.signed_quantity), Fraction(each.price) * Fraction(each.multiplier)
        if quantity * change < 0:
            closed = min(abs(quantity), abs(change)) * (1 if change > 0 else -1)
            relieved = cost * -closed / quantity
            realised += -closed * price - relieved
            quantity, cost, change = quantity + closed, cost - relieved, change - closed
        quantity, cost = quantity + change, cost + change * price
    return quantity, cost, realised


@given(histories(most=12), st.integers(0, 12), methods)
@settings(max_examples=50, deadline=None)
def test_an_opening_balance_that_the_fills_explain_changes_nothing(fills, place, method):
    earlier = fills[: min(place, len(fills))]
    held = total(each.signed_quantity for each in earlier)
    at = earlier[-1].time if earlier else minute(-1)
    later = [each for each in fills if each.time > at]
    before = [each for each in fills if each.time <= at]
    held = total(each.signed_quantity for each in before)
    balance = adjustment(AdjustmentKind.OPENING_BALANCE, held, at=0)
    first = fold(flat(method), before)
    between = fold(first.position, [balance])
    assert (between.closes, between.events, between.position.lots) == ((), (), first.position.lots)
    whole, plain = fold(between.position, later), fold(first.position, later)
    assert (whole.closes, whole.events, whole.position.lots) == (plain.closes, plain.events, plain.position.lots)


@given(digits(-(10**15), 10**15, 20), st.lists(st.integers(1, 10**6), min_size=1, max_size=12))
@settings(max_examples=1000, deadline=None)
def test_relieving_a_lot_piece_by_piece_loses_nothing(cost, parts):
    whole = Decimal(sum(parts))
    opening = adjustment(AdjustmentKind.OPENING_LOT, whole, at=0, cost=cost)
    sales = [
        Fill(ACCOUNT, STOCK, f"s{n}", Side.SELL, Decimal(part), ZERO, "USD", minute(n + 1), commission=ZERO) for n, part in enumerate(parts)
    ]
    result = fold(flat(), [opening, *sales])
    assert result.position.quantity == 0
    assert EXACT.minus(result.position.realized_gross) == cost
