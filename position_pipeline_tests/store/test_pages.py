"""The numbers that sort a position's lots: what need not be written again is not."""

from __future__ import annotations

import pytest

from position_pipeline.store.pages import numbered


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([], []),
        ([None, None], [0, 1]),
        ([0, 1, None], [0, 1, 2]),  # an opening
        ([1, 2, 7], [1, 2, 7]),  # the oldest was closed: nobody moves
        ([None, 3, 4], [2, 3, 4]),  # an opening balance, older than all
        ([None, 0, 5, None, None], [-1, 0, 5, 6, 7]),
        ([0, None, 1], [0, 1, 2]),  # between two: all anew
        ([4, 2], [0, 1]),  # another order: all anew
    ],
)
def test_lots_keep_their_numbers_as_long_as_they_rise(places, expected):
    assert list(numbered(places)) == expected
