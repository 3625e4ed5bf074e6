"""RangeSet behaves as a set of integers that stores neighbours together."""

from hypothesis import given
from hypothesis import strategies as st

from flame.kernel.ranges import RangeSet

ranges = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(ranges, max_size=30), ranges)
def test_it_is_a_set_of_integers(added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    ours = RangeSet(added)
    model = {value for start, end in added for value in range(start, end)}
    assert {value for start, end in ours for value in range(start, end)} == model
    assert all((value in ours) == (value in model) for value in range(-1, 62))
    assert bool(ours) == bool(model)
    start, end = asked
    window = range(start, end)
    assert [v for low, high in ours.missing(start, end) for v in range(low, high)] == [
        v for v in window if v not in model
    ]
    assert [v for low, high in ours.overlap(start, end) for v in range(low, high)] == [v for v in window if v in model]


@given(st.lists(ranges, max_size=30))
def test_its_ranges_are_sorted_and_apart(added: list[tuple[int, int]]) -> None:
    flat = [bound for part in RangeSet(added) for bound in part]
    assert flat == sorted(set(flat)), "neighbours are merged, none is empty"


def test_a_million_values_in_order_are_one_range() -> None:
    done = RangeSet()
    for start in range(0, 1_000_000, 1_000):
        done.add(start, start + 1_000)
    assert list(done) == [(0, 1_000_000)]
