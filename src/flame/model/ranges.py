"""Runs of task ids, as peers name them."""

from typing import Annotated

import msgspec

from flame.model.limits import CREDIT_TASKS

Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""What every number of a message is, but an exit code."""


class Range(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run of task ids: [first, first + count)."""

    first: Number
    count: Number

    @property
    def end(self) -> int:
        """The id after the last one."""
        return self.first + self.count


class HeldRange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Tasks an executor was given and whose results are not acknowledged yet."""

    attempt: Number
    first: Number
    count: Number


HeldRanges = Annotated[tuple[HeldRange, ...], msgspec.Meta(max_length=CREDIT_TASKS)]
"""What an executor tells of what it holds. Lists of peers are bounded: in memory they are many times their bytes."""
