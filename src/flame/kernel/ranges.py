"""Sets of integers as sorted, disjoint, half-open ranges."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class RangeSet:
    """A mutable set of integers kept as disjoint ranges; neighbours are merged.

    Cheap for the usual case, ranges that arrive almost in order: O(log n) to find the place, O(k) for k ranges that
    are swallowed.

    Example:
        >>> done = RangeSet([(1, 5), (5, 9)])
        >>> list(done)
        [(1, 9)]
        >>> list(done.missing(0, 12))
        [(0, 1), (9, 12)]
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __contains__(self, value: int) -> bool:
        place = bisect_right(self._starts, value) - 1
        return place >= 0 and value < self._ends[place]

    def add(self, start: int, end: int) -> None:
        """Add [start, end); an empty range changes nothing."""
        if start >= end:
            return
        low = bisect_left(self._ends, start)
        high = bisect_right(self._starts, end)
        if low < high:
            start = min(start, self._starts[low])
            end = max(end, self._ends[high - 1])
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]

    def missing(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of [start, end) that are not in the set, ascending."""
        place = bisect_right(self._ends, start)
        while start < end and place < len(self._starts) and self._starts[place] < end:
            if start < self._starts[place]:
                yield start, self._starts[place]
            start = max(start, self._ends[place])
            place += 1
        if start < end:
            yield start, end

    def overlap(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of [start, end) that are in the set, ascending."""
        place = bisect_right(self._ends, start)
        while place < len(self._starts) and self._starts[place] < end:
            yield max(start, self._starts[place]), min(end, self._ends[place])
            place += 1
