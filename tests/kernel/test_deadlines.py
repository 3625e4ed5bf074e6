"""Deadlines behave as a sorted list of (time, order of setting) with one entry per name."""

from hypothesis import given
from hypothesis import strategies as st

from flame.kernel.deadlines import Deadlines

names = st.integers(0, 9)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), names, st.integers(0, 50)),
        st.tuples(st.just("drop"), names, st.just(0)),
        st.tuples(st.just("due"), st.just(0), st.integers(0, 50)),
    ),
    max_size=300,
)


@given(steps)
def test_it_is_a_sorted_list_with_one_entry_per_name(steps: list[tuple[str, int, int]]) -> None:
    deadlines = Deadlines[int]()
    model: dict[int, tuple[int, int]] = {}
    for order, (kind, name, time_ms) in enumerate(steps):
        if kind == "set":
            deadlines.set(name, time_ms)
            model[name] = (time_ms, order)
        elif kind == "drop":
            deadlines.drop(name)
            model.pop(name, None)
        else:
            due = min((entry, other) for other, entry in model.items()) if model else None
            expected = due[1] if due is not None and due[0][0] <= time_ms else None
            assert deadlines.pop_due(time_ms) == expected
            model.pop(expected if expected is not None else -1, None)
        assert deadlines.next_ms() == (min(model.values())[0] if model else None)
        assert len(deadlines) == len(model)
        assert all((other in deadlines) == (other in model) for other in range(10))


def test_replacing_a_deadline_again_and_again_does_not_fill_memory() -> None:
    deadlines = Deadlines[str]()
    for time_ms in range(100_000):
        deadlines.set("a", time_ms)
    assert deadlines.next_ms() == 99_999
    assert len(deadlines._heap) < 200


def test_names_that_are_due_together_come_in_the_order_in_which_they_were_set() -> None:
    deadlines = Deadlines[str]()
    for name in ("c", "a", "b"):
        deadlines.set(name, 5)
    assert [deadlines.pop_due(5) for _ in range(4)] == ["c", "a", "b", None]
