"""The frontier is a set of numbers, however they come."""

from hypothesis import given
from hypothesis import strategies as st

from headwater.frontier import Frontier

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("one"), st.integers(1, 60), st.just(0)),
        st.tuples(st.just("range"), st.integers(1, 60), st.integers(0, 12)),
    ),
    max_size=80,
)


@given(STEPS)
def test_a_frontier_equals_the_set_of_all_numbers_added(steps: list[tuple[str, int, int]]) -> None:
    frontier, truth = Frontier(), set()
    for kind, lo, more in steps:
        if kind == "one":
            assert frontier.add(lo) == (lo not in truth)
            truth.add(lo)
        else:
            frontier.add_range(lo, lo + more)
            truth |= set(range(lo, lo + more + 1))
        contiguous = next(n for n in range(62 + 12) if n + 1 not in truth)
        assert frontier.contiguous == contiguous
        above = {n for a, b in frontier.ranges for n in range(a, b + 1)}
        assert above == {n for n in truth if n > contiguous}
        assert all(b + 1 < c for (_, b), (c, _) in zip(frontier.ranges, frontier.ranges[1:], strict=False))
        assert {n for a, b in frontier.missing() for n in range(a, b + 1)} == set(range(1, frontier.highest)) - truth
        assert all((n in frontier) == (n in truth) for n in range(1, 75))


@given(STEPS)
def test_a_frontier_is_rebuilt_from_its_mark_and_ranges(steps: list[tuple[str, int, int]]) -> None:
    frontier = Frontier()
    for _, lo, more in steps:
        frontier.add_range(lo, lo + more)
    again = Frontier(frontier.contiguous, frontier.ranges)
    assert (again.contiguous, again.ranges, again.highest) == (frontier.contiguous, frontier.ranges, frontier.highest)
