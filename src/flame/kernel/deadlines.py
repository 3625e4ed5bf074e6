"""A heap of named deadlines: one per name, replaced or dropped in O(log n)."""

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


class Deadlines(Generic[Name]):
    """At most one deadline per name.

    Replaced and dropped entries stay in the heap until they surface, or until they are the majority.

    Example:
        >>> deadlines = Deadlines[str]()
        >>> deadlines.set("a", 10)
        >>> deadlines.pop_due(9), deadlines.pop_due(10)
        (None, 'a')
    """

    __slots__ = ("_heap", "_serial", "_valid")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Name]] = []
        self._valid: dict[Name, tuple[int, int]] = {}
        self._serial = 0

    def __contains__(self, name: Name) -> bool:
        return name in self._valid

    def __len__(self) -> int:
        return len(self._valid)

    def set(self, name: Name, time_ms: int) -> None:
        """Set or replace the deadline of a name."""
        self._serial += 1
        self._valid[name] = (time_ms, self._serial)
        heappush(self._heap, (time_ms, self._serial, name))
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._valid):
            self._heap = [(time, serial, name) for name, (time, serial) in self._valid.items()]
            heapify(self._heap)

    def drop(self, name: Name) -> None:
        """Remove the deadline of a name, if it has one."""
        self._valid.pop(name, None)

    def next_ms(self) -> int | None:
        """The earliest deadline, or None."""
        while self._heap and self._valid.get(self._heap[0][2]) != self._heap[0][:2]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_ms: int) -> Name | None:
        """Remove and return the name whose deadline is the earliest, if that is not after `now_ms`."""
        time = self.next_ms()
        if time is None or time > now_ms:
            return None
        name = heappop(self._heap)[2]
        del self._valid[name]
        return name
