"""Whatever the book and the broker say: verdicts are the same for the same facts, and what is carried out ends in agreement."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from hypothesis import event, given
from hypothesis import strategies as st

from position_pipeline.accounting.circumstances import Policy
from position_pipeline.accounting.model import AdjustmentKind, Fill, Holding, Side
from position_pipeline.accounting.reconciliation import reconcile
from position_pipeline_tests.accounting.situations import ACCOUNT, Situation

if TYPE_CHECKING:
    import random

SYMBOLS = ("AAPL", "AAPLD", "KO", "GEV", "BTC", "ES", "SAP.DE", "AAPL-C100-20260313", "AAPL-P100-20260313", "KO-C100-20270115")
QUANTITIES = st.sampled_from([Decimal(text) for text in ("-200", "-100", "-3", "-1", "1", "2", "12.5", "50", "100", "300")])
PRICES = st.sampled_from([Decimal(text) for text in ("0.5", "25", "99", "100", "101", "200")])
CHANGES = st.sampled_from(("same", "same", "gone", "double", "half", "tenth", "more", "shares", "other"))
POLICIES = st.builds(Policy, adopts=st.booleans(), closes_missing=st.booleans())


@st.composite
def situations(draw) -> Situation:
    """Some positions, each of which the broker holds as it was, or otherwise; and some that only the broker holds."""
    it = Situation("drawn", policy=draw(POLICIES), last=timedelta(days=draw(st.sampled_from([0.01, 3]))))
    if draw(st.booleans()):
        it.stands = (timedelta(minutes=draw(st.sampled_from([3, 20]))), draw(st.integers(1, 3)))
    if draw(st.booleans()):
        cash = draw(st.sampled_from(["0", "100", "10000", "-10000"]))
        it.cash = ("0", cash)
    for symbol in draw(st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=5, unique=True)):
        quantity, average = draw(QUANTITIES), draw(PRICES)
        if draw(st.booleans()) or "-" in symbol:
            it.was[symbol] = Holding(it.instrument(symbol).id, quantity, average, None, draw(st.none() | PRICES))
            it.bought_at[symbol] = average
        held = changed(draw, quantity, average, draw(CHANGES))
        if held is not None:
            it.holds.append(Holding(it.instrument(symbol).id, held[0], held[1], None, draw(st.none() | PRICES)))
        for _ in range(draw(st.integers(0, 2))):
            it.fills.append(traded(draw, it, symbol, len(it.fills)))
    return it


def changed(draw, quantity: Decimal, average: Decimal, how: str) -> tuple[Decimal, Decimal] | None:
    ways = {"same": (1, 1), "double": (2, 2), "half": (Decimal("0.5"), Decimal("0.5")), "tenth": (Decimal("0.1"), Decimal("0.1"))}
    if how == "gone":
        return None
    if how in ways:
        times, by = ways[how]
        return quantity * times, average / by
    return quantity + {"more": 7, "shares": 100}.get(how, draw(st.integers(-9, 9)) or 1) or Decimal(1), draw(PRICES)


def traded(draw, it: Situation, symbol: str, number: int) -> Fill:
    instrument = it.instrument(symbol)
    ago = timedelta(minutes=draw(st.sampled_from([0.1, 2, 30, 3000])))
    return Fill(
        ACCOUNT, instrument.id, f"f{number}", draw(st.sampled_from(Side)), abs(draw(QUANTITIES)), draw(PRICES), instrument.currency, it.now - ago,
        instrument.multiplier, Decimal(0), order_id=draw(st.sampled_from(["", "7"])), source=draw(st.sampled_from(["flex", "ibkr-api"])),
    )  # fmt: skip


def of_the_broker(it: Situation) -> dict[str, Decimal]:
    return {holding.instrument: holding.quantity for holding in it.holds}


@given(situations())
def test_what_is_carried_out_makes_the_book_hold_what_the_broker_holds(it):
    found = it.reconciled()
    before, after, held = it.fold(), it.fold(*found.adjustments), of_the_broker(it)
    booked = {entry.instrument for entry in found.adjustments}
    for entry in found.adjustments:
        event(str(entry.kind))
    for instrument, result in after.items():
        if instrument in booked:
            assert result.position.quantity == held.get(instrument, 0)
            assert not set(result.refused) - set(before[instrument].refused)
        else:
            assert result.position == before[instrument].position


@given(situations())
def test_a_second_look_finds_nothing_more_to_do(it):
    found = it.reconciled()
    done = {entry.instrument for entry in found.adjustments}
    again = it.reconciled_again(*found.adjustments)
    assert not done & {entry.instrument for entry in again.adjustments if entry.kind is not AdjustmentKind.SPIN_OFF}
    assert done <= again.agreed


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_of_what_comes_in_does_not_matter(it, shuffle: random.Random):
    first = it.reconciled()
    for values in (it.holds, it.fills):
        shuffle.shuffle(values)
    book, kinds = list(it.book().items()), list(it.kinds().items())
    shuffle.shuffle(book)
    shuffle.shuffle(kinds)
    found = reconcile(dict(book), it.snapshot(), dict(kinds), first_contact=False, recent=it.recent(), policy=it.policy)
    assert found == first


@given(situations())
def test_every_difference_is_answered_once(it):
    found, held = it.reconciled(), of_the_broker(it)
    answers = [each.instrument for each in (*found.breaks, *found.resolved) if each.subject == "quantity"]
    assert len(answers) == len(set(answers))
    book = {each: side.quantity for each, side in it.book().items()}
    assert set(answers) == {each for each in book | held if book.get(each, 0) != held.get(each, 0)}


@given(situations())
def test_an_answer_without_any_holding_closes_nothing_but_what_is_over(it):
    it.holds.clear()
    it.policy = Policy(closes_missing=True)
    over = {each.id for each in it.instruments.values() if each.expiry.startswith("2026")}
    sold = {fill.instrument for fill in it.fills if fill.side is Side.SELL}
    closed = {entry.instrument for entry in it.reconciled().adjustments if entry.kind is not AdjustmentKind.VOID}
    assert closed <= over | sold
