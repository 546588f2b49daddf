"""The claims about the book: each says what is wrong when a figure is tampered with, and says nothing about a sound book."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from position_pipeline.accounting.booking import Booked, Carried
from position_pipeline.accounting.invariants import (
    CashFlow,
    cash_flow_of,
    cash_identity,
    closes_conserve_quantity,
    entries_move_what_they_say,
    every_close_has_its_opening,
    identity_of,
    lots_sum_to_position,
    one_sign,
    violations,
    what_is_handed_over_has_left,
)
from position_pipeline.accounting.model import AdjustmentKind, EventType
from position_pipeline_tests.accounting.ledger import adjustment, booked, buy, sell

D = Decimal
K = AdjustmentKind
LEDGER = [
    buy(10, 100, fee=1, at=1, execution_id="b1"),
    buy(10, 110, fee=1, at=2, execution_id="b2"),
    adjustment(K.RETURN_OF_CAPITAL, 0, at=3, id="a000000", amount=D(40)),
    adjustment(K.SPLIT, 0, at=4, id="split", numerator=D(2), denominator=D(1)),
    sell(30, 60, fee=3, at=5, execution_id="s1"),
    adjustment(K.TRANSFER, -4, at=6, id="out"),
]
SOUND = booked(*LEDGER)


def with_lot(**changes) -> Booked:
    lot = SOUND.position.lots[0]._replace(**changes)
    return replace(SOUND, position=replace(SOUND.position, lots=(lot, *SOUND.position.lots[1:])))


def with_close(**changes) -> Booked:
    return replace(SOUND, closes=(SOUND.closes[0]._replace(**changes), *SOUND.closes[1:]))


def test_a_sound_book_contradicts_nothing():
    assert violations(LEDGER, SOUND) == ()


def test_the_sums_of_the_identity_are_those_of_the_ledger():
    # 30 of 40 units are sold: 20 of b1 (1000 - 20) and 10 of b2 (half of 1100 - 20); 4 of the 10 left leave
    assert cash_flow_of(LEDGER, SOUND) == CashFlow(
        realized=D("275.5"),  # 1800 - 980 - 540 - 1 - 0.5 - 3
        cost=D(324),  # 540 x 6/10
        open_commission=D("0.3"),  # 0.5 x 6/10
        traded=D(-265),  # -1001 - 1101 + 40 + 1797
        handed_over=D("216.2"),  # 540 x 4/10 + 0.5 x 4/10
    )
    # 275.5 - 324 - 0.3 = -48.8 = -265 + 216.2
    assert identity_of(LEDGER, SOUND) == 0


def test_the_identity_says_by_how_much_a_figure_is_wrong():
    assert identity_of(LEDGER, with_lot(cost=D("324.01"))) == D("-0.01")
    assert identity_of(LEDGER, with_close(gross_pnl=SOUND.closes[0].gross_pnl + 1)) == 1
    assert identity_of(LEDGER[:-2] + LEDGER[-1:] + [LEDGER[4]._replace(price=D(61))], SOUND) == -30
    assert cash_identity(CashFlow(realized=D(3), cost=D(2), traded=D(1))) == 0


def test_lots_and_events_must_tell_the_same():
    assert lots_sum_to_position(with_lot(quantity=D(7))) == ("the lots add up to 7, and the last event says 6",)
    gap = replace(SOUND, events=(SOUND.events[0], *SOUND.events[2:]))
    assert lots_sum_to_position(gap) == ("a000000 finds 20, and b1 left 10",)


def test_entries_move_what_they_say():
    assert entries_move_what_they_say(LEDGER, replace(SOUND, events=SOUND.events[1:])) == ("b1 says 10 and moved 0",)
    events = [event._replace(quantity_after=D(41)) if event.type is EventType.SPLIT else event for event in SOUND.events]
    assert entries_move_what_they_say(LEDGER, replace(SOUND, events=tuple(events))) == ("split says 20 and moved 21",)


def test_what_is_handed_over_has_left():
    lots = SOUND.carries["out"].lots
    more = {"out": Carried(lots=(*lots, *lots))}
    assert what_is_handed_over_has_left(LEDGER, replace(SOUND, carries=more)) == ("out hands over 8 units, and 4 are gone",)
    option = [buy(1, 3, at=0), adjustment(K.EXERCISE, -1, id="end")]
    sound = booked(*option)
    assert violations(option, sound) == ()
    wrong = replace(sound, carries={"end": Carried(D(4))})
    assert what_is_handed_over_has_left(option, wrong) == ("end hands over 4 of a premium of 3",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"opening_id": "x"}, "the close of x by s1 has an end that is not known"),
        ({"execution_id": "x"}, "has an end that is not known"),
        ({"quantity": D(0)}, "closes nothing of b1"),
        ({"opened_at": SOUND.position.last_key[0]}, "before it was opened"),
    ],
)
def test_a_close_has_two_ends_in_the_right_order(changes, words):
    assert any(words in violation for violation in every_close_has_its_opening(LEDGER, with_close(**changes)))


def test_an_entry_closes_a_lot_once_and_tells_each_type_of_event_once():
    twice = replace(SOUND, closes=(*SOUND.closes, SOUND.closes[0]), events=(*SOUND.events, SOUND.events[-1]))
    assert "s1 closes b1 in 2 pieces" in every_close_has_its_opening(LEDGER, twice)
    assert "out tells 2 times that the position was transferred" in lots_sum_to_position(twice)


def test_units_that_are_closed_twice_are_found_in_their_lot():
    assert closes_conserve_quantity(SOUND) == ()
    found = closes_conserve_quantity(with_close(quantity=D(19)))
    assert "1 units of b1 are unaccounted for" in found
    assert closes_conserve_quantity(replace(SOUND, moves=SOUND.moves[:-1])) != ()


def test_lots_have_one_sign_something_in_them_and_an_id():
    (lot,) = SOUND.position.lots
    assert one_sign(with_lot(quantity=D(0))) == ("lot b2 is empty",)
    twins = replace(SOUND, position=replace(SOUND.position, lots=(lot, lot._replace(quantity=D(-1)))))
    assert one_sign(twins) == ("there are long and short lots side by side", "two lots have one id")
