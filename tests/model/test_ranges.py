"""Runs of task ids end before their end."""

import msgspec
import pytest

from flame.model.limits import CREDIT_TASKS
from flame.model.ranges import HeldRange, HeldRanges, Range


def test_a_range_ends_before_its_end() -> None:
    assert Range(5, 3).end == 8
    assert Range(5, 0).end == 5


def test_numbers_of_a_peer_are_natural_and_fit_63_bits() -> None:
    assert msgspec.convert([1, (1 << 63) - 1], Range).count == (1 << 63) - 1
    for numbers in ([-1, 1], [1, 1 << 63]):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(numbers, Range)


def test_what_an_executor_holds_is_bounded() -> None:
    assert msgspec.convert([[1, 2, 3]], HeldRanges) == (HeldRange(1, 2, 3),)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert([[1, 1, 1]] * (CREDIT_TASKS + 1), HeldRanges)
