"""The shared table, seen from both sides."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.model.limits import MAX_HELD_RANGES
from flame.model.ranges import HeldRange
from flame.protocol.shared_table import CURRENT, MAX_FAILURE_BYTES, TABLE_BYTES, Phase, SharedTable

numbers = st.integers(1, 1 << 62)
RANGES = st.builds(HeldRange, numbers, numbers, st.integers(1, (1 << 62) - 1))


def both_sides() -> tuple[SharedTable, SharedTable]:
    memory = bytearray(TABLE_BYTES)
    return SharedTable(memoryview(memory)), SharedTable(memoryview(memory))


def test_a_fresh_table_says_nothing() -> None:
    _, reader = both_sides()
    assert (reader.phase, reader.attached, reader.current, reader.entered) == (Phase.STARTING, False, 0, False)
    assert (reader.held(), reader.failure()) == ((), b"")


@given(st.lists(st.lists(RANGES, max_size=MAX_HELD_RANGES), max_size=4))
def test_the_other_side_sees_the_last_ranges(rows: list[list[HeldRange]]) -> None:
    writer, reader = both_sides()
    for row in rows:
        writer.hold(row)
        assert reader.held() == tuple(row)


def test_too_many_ranges_are_unknown_ranges() -> None:
    writer, reader = both_sides()
    writer.hold([HeldRange(1, n, 1) for n in range(MAX_HELD_RANGES + 1)])
    assert reader.held() is None
    writer.hold([])
    assert reader.held() == ()


@pytest.mark.parametrize(
    "impossible",
    [(1 << 63, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1 << 63, 1), (1, 1, 1 << 63), (1, 1 << 62, 1 << 62)],
)
def test_what_cannot_be_ranges_makes_the_table_unreadable(impossible: tuple[int, int, int]) -> None:
    writer, reader = both_sides()
    writer.hold([HeldRange(1, 1, 1), HeldRange(*impossible)])
    assert reader.held() is None


def test_what_cannot_be_a_task_is_none() -> None:
    writer, reader = both_sides()
    writer.words[CURRENT] = (1 << 63) - 1
    assert (reader.current, reader.charged) == (0, 0)
    writer.words[CURRENT] = (1 << 63) - 2
    assert reader.current == (1 << 63) - 2


def test_a_death_in_an_update_leaves_the_old_ranges() -> None:
    writer, reader = both_sides()
    writer.hold([HeldRange(1, 2, 3)])
    edition = writer.words[5]
    writer.hold([HeldRange(9, 9, 9)])
    writer.words[5] = edition  # as if it had died before it raised the edition
    assert reader.held() == (HeldRange(1, 2, 3),)


def test_phase_task_and_failure() -> None:
    writer, reader = both_sides()
    writer.enter_phase(Phase.BOUND, 77)
    writer.set_attached()
    writer.words[CURRENT] = 5
    writer.fail(b"x" * MAX_FAILURE_BYTES)
    assert (reader.phase, reader.phase_since_ns, reader.attached, reader.entered) == (Phase.BOUND, 77, True, True)
    assert reader.current == 5
    assert reader.failure() == b"x" * MAX_FAILURE_BYTES


def test_a_seal_is_seen_by_whoever_holds_afterwards() -> None:
    writer, reader = both_sides()
    assert not writer.sealed(0)
    reader.seal(7)
    assert (writer.sealed(6), writer.sealed(7), writer.sealed(8)) == (True, False, False)


class Steps:
    """A fence that lets the other side act within it."""

    def __init__(self) -> None:
        self.act: Callable[[], object] = lambda: None

    def __enter__(self) -> None:
        self.act()

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("first", ["executor", "node"])
def test_what_is_held_is_told_or_the_seal_is_seen(first: str) -> None:
    memory, steps = bytearray(TABLE_BYTES), Steps()
    writer, reader = SharedTable(memoryview(memory), steps), SharedTable(memoryview(memory), steps)
    held = HeldRange(1, 2, 3)
    told: list[object] = []

    def node() -> None:
        steps.act = lambda: None
        reader.seal(9)
        told.append(reader.held())

    if first == "executor":
        steps.act = node
        writer.hold([held])
        assert writer.sealed(8)
        assert told == [(held,)]
    else:
        steps.act = lambda: writer.hold([held])
        reader.seal(9)
        assert reader.held() == (held,)
        steps.act = lambda: None
        assert writer.sealed(8)


def test_a_death_is_charged_to_what_ran_or_broke_the_executor_before_it_ever_reported() -> None:
    writer, reader = both_sides()
    writer.hold([HeldRange(9, 7, 2), HeldRange(8, 5, 1)])
    assert reader.charged == 0, "it has not entered"
    writer.enter_phase(Phase.BOUND, 1)
    assert reader.charged == 5
    writer.words[CURRENT] = 8
    assert reader.charged == 8
    writer.words[CURRENT] = 0
    writer.hold([])
    assert reader.charged == 0
    writer.hold([HeldRange(9, 7, 2)])
    writer.set_acknowledged()
    assert reader.charged == 0


def test_small_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="needs"):
        SharedTable(memoryview(bytearray(10)))
