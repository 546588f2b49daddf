"""What must hold for every history that mixes all kinds of entries: fills, splits, transfers, conversions, ends, and what cannot be."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from position_pipeline.accounting.booking import fold, fold_together, in_order
from position_pipeline.accounting.exact import exact
from position_pipeline.accounting.invariants import identity_of, violations
from position_pipeline.accounting.model import Adjustment, AdjustmentKind
from position_pipeline_tests.accounting.histories import INFERRED, INSTRUMENTS, read, stories


@given(stories)
@settings(max_examples=2000, deadline=None)
def test_no_claim_about_the_book_is_contradicted(story):
    for instrument, booked in story.booked().items():
        assert violations(story.of(instrument), booked) == ()


@given(stories)
@settings(max_examples=1000, deadline=None)
def test_figures_of_a_position_are_the_sums_of_its_closes(story):
    with exact():
        for booked in story.booked().values():
            known = [close for close in booked.closes if close.gross_pnl is not None]
            assert sum(close.gross_pnl for close in known) == booked.position.realized_gross
            assert sum(close.opening_commission or 0 for close in known) == booked.position.opening_commission
            assert sum(close.closing_commission or 0 for close in known) == booked.position.closing_commission
            assert len(booked.closes) - len(known) == booked.position.unknown_closes


@given(stories)
@settings(max_examples=1000, deadline=None)
def test_booking_one_entry_after_the_other_is_folding_all(story):
    """The story was told one entry at a time."""
    assert {name: booked.position for name, booked in story.booked().items()} == story.positions


@given(stories, st.integers(0, 48))
@settings(max_examples=1000, deadline=None)
def test_folding_in_two_halves_gives_the_same_to_the_last_digit(story, cut):
    whole = story.booked()
    first = fold_together(story.flat, story.entries[:cut])
    carries = next(iter(first.values())).carries
    second = fold_together({name: booked.position for name, booked in first.items()}, story.entries[cut:], carries)
    for name in INSTRUMENTS:
        for part in ("closes", "events", "moves", "refused"):
            assert getattr(first[name], part) + getattr(second[name], part) == getattr(whole[name], part)
        assert second[name].position == whole[name].position
        assert second[name].carries == whole[name].carries


@given(stories)
@settings(max_examples=1000, deadline=None)
def test_each_instrument_by_itself_gives_the_same_given_what_it_takes_up(story):
    whole = story.booked()
    for name in INSTRUMENTS:
        alone = fold(story.flat[name], story.of(name), whole[name].carries)
        assert (alone.position, alone.closes, alone.events) == (whole[name].position, whole[name].closes, whole[name].events)


@given(stories, st.randoms(use_true_random=False))
@settings(max_examples=1000, deadline=None)
def test_the_order_of_arrival_does_not_matter(story, random):
    shuffled = list(story.entries)
    random.shuffle(shuffled)
    assert in_order(shuffled) == in_order(story.entries)
    ordered = fold_together(story.flat, in_order(shuffled))
    for instrument in INSTRUMENTS:
        assert identity_of([entry for entry in in_order(shuffled) if entry.instrument == instrument], ordered[instrument]) == 0


def test_the_histories_have_something_of_every_kind():
    """Of 400 tapes: each kind is booked and not only refused, and also where it was inferred. A void books nothing by itself."""
    seen: set[AdjustmentKind] = set()
    inferred: set[AdjustmentKind] = set()
    refused = 0
    for number in range(400):
        story = read(Random(number).randbytes(480))
        causes = {event.cause for booked in story.booked().values() for event in booked.events}
        seen |= {entry.kind for entry in story.entries if isinstance(entry, Adjustment) and entry.id in causes}
        inferred |= {
            entry.kind for entry in story.entries if isinstance(entry, Adjustment) and entry.held is not None and entry.id in causes
        }
        refused += sum(len(booked.refused) for booked in story.booked().values())
    assert seen == set(AdjustmentKind) - {AdjustmentKind.VOID}
    assert inferred == set(INFERRED)
    assert refused > 100
