"""The arithmetic: exact or an exception, one rounding in one place, and what counts as a number."""

from __future__ import annotations

from decimal import Decimal, Inexact, localcontext
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from position_pipeline.accounting.exact import exact, known_total, number, plain, ratio, relieve, total

D = Decimal
amounts = st.builds(lambda digits, scale: D(digits).scaleb(-scale), st.integers(-(10**40), 10**40), st.integers(0, 60))
quantities = st.builds(lambda digits, scale: D(digits).scaleb(-scale), st.integers(1, 10**30), st.integers(0, 24))


@given(amounts, quantities, quantities)
@settings(deadline=None)
def test_what_is_relieved_is_the_true_share_rounded_once_half_even(cost, part, rest):
    with exact():
        whole = part + rest
    share = Fraction(cost) * Fraction(part) / Fraction(whole)
    relieved = relieve(cost, part, whole)
    assert Fraction(relieved) == (Fraction(round(share * 10**10), 10**10) if cost else 0)  # Python rounds Fractions half-even


@given(amounts, quantities)
@settings(deadline=None)
def test_the_whole_takes_all(cost, whole):
    assert str(relieve(cost, whole, whole)) == str(cost)


@given(amounts, quantities)
@settings(deadline=None)
def test_a_ratio_is_the_true_quotient_rounded_once(cost, whole):
    assert Fraction(ratio(cost, whole)) == Fraction(round(Fraction(cost) / Fraction(whole) * 10**18), 10**18)


@pytest.mark.parametrize("digits", range(70))
def test_what_decides_a_rounding_counts_however_far_behind_it_stands(digits):
    """25 units of 1e-19 lie between 2 and 3 of 1e-18, and go to 2, which is even; with a trifle more they go to 3."""
    large = D(10) ** digits
    with exact():
        between, above, below = (large + D("25E-19") + trifle for trifle in (D(0), D("1E-60"), D("-1E-60")))
        assert ratio(between, D(1)) == large + D("2E-18")
        assert ratio(above, D(1)) == -ratio(-above, D(1)) == large + D("3E-18")
        assert ratio(below, D(1)) == large + D("2E-18")
        # Half of it: 25 units of 1e-11 lie between 2 and 3 of 1e-10.
        twice = 2 * (large + D("25E-11"))
        assert relieve(twice, D(1), D(2)) == large + D("2E-10")
        assert relieve(twice + D("1E-60"), D(1), D(2)) == large + D("3E-10")


def test_a_rounding_that_nobody_asked_for_is_an_exception():
    with exact(), pytest.raises(Inexact):
        D(1) / D(3)


def test_sums_are_exact_whatever_the_context():
    with localcontext(prec=3):
        assert str(total([D("1000.0001"), D("0.00001")])) == "1000.00011"
    assert total([]) == 0
    assert known_total([D(1), None]) is None
    assert known_total([D(1), D(2)]) == 3


@pytest.mark.parametrize("text", ["1", "-1.50", "+.5", "1e-24", "1E+10", "0.000000000000000000000001", "9" * 40, "7."])
def test_a_number_keeps_every_digit(text):
    assert str(number(text)) == str(D(text))


@pytest.mark.parametrize(
    "text", ["", "-", "NaN", "Infinity", "1,000", "1_000", " 1", "1 ", "0x1", "1e", "٣", "1e41", "1e-41", "9" * 41, "9" * 10**6]
)
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a number|has more than 40 digits"):
        number(text)


@pytest.mark.parametrize(
    ("value", "text"), [("1.500", "1.5"), ("-0.0", "0"), ("1E+3", "1000"), ("1E-10", "0.0000000001"), ("0", "0"), ("-7", "-7")]
)
def test_people_read_digits_without_exponents_and_idle_zeros(value, text):
    assert plain(D(value)) == text
