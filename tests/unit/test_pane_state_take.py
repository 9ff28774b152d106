"""`BucketCounts.take` gives the same whether few or many of the codes are wanted."""

import numpy as np
import pytest

from headwater.pane_state import KEY_BITS, KEY_MASK, BucketCounts, Moments, PaneState


@pytest.mark.parametrize("wanted", [[], [3], [0, 3, 99, 120], list(range(0, 100, 3)), list(range(100))])
def test_the_codes_of_the_wanted_series_come_back_with_their_places(wanted: list[int]) -> None:
    series = np.repeat(np.arange(100), 50)
    codes = series << KEY_BITS | np.tile(np.arange(50), 100)
    buckets = BucketCounts()
    buckets.add(codes, np.arange(len(codes)))
    buckets.compact()
    found = buckets.take(np.array(wanted, np.int64))
    got = [row for piece in found for row in zip(*(column.tolist() for column in piece), strict=True)]
    expected = [
        (wanted.index(owner) << KEY_BITS | code & KEY_MASK, count)
        for count, (owner, code) in enumerate(zip(series.tolist(), codes.tolist(), strict=True))
        if owner in wanted
    ]
    assert got == expected


def test_an_empty_pane_takes_a_copy_of_the_first_groups_and_no_minus_zero() -> None:
    one = np.ones(2, np.int64)
    first = Moments(one, 0 * one, np.array([-0.0, 2.0]), np.zeros(2), np.array([-0.0, 2.0]), np.array([-0.0, 2.0]))
    pane = PaneState()
    pane.merge(np.array([4, 7]), first)
    pane.moments.count += 1
    assert first.count.tolist() == [1, 1]
    assert not np.signbit(pane.moments.mean[0])
