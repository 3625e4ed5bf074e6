"""The user's file of the benchmarks: services as anyone would write them. Flame imports it by name.

Each service counts its invocations and writes the count when its session ends, into the folder that the session's
common data names, so that a run can show that every task ran exactly once.
"""

import os
from pathlib import Path

import flame


class Counting(flame.FlameService):
    """Counts invocations; on leave, writes the count to a file of its own."""

    def on_session_enter(self, context: flame.SessionContext) -> None:
        """Remember where the count goes."""
        self.folder = Path((context.common_data or b"/nowhere").decode())
        self.invocations = 0

    def on_session_leave(self) -> None:
        """Write the count."""
        if self.folder.is_dir():
            (self.folder / f"{os.getpid()}.count").write_text(str(self.invocations))


class Reverse(Counting):
    """Answers with the input reversed: the least work whose output depends on its input."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes | None:
        """Reverse."""
        self.invocations += 1
        return context.input[::-1]


class Rotate(Counting):
    """Answers with the input, its first 8 bytes moved to the end: costs two copies whatever its size."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes | None:
        """Rotate."""
        self.invocations += 1
        return context.input[8:] + context.input[:8]


class Spin(Counting):
    """Runs the loop of `spin` as often as the input says."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes | None:
        """Spin, and answer with the sum."""
        self.invocations += 1
        return b"%d" % spin(int(context.input))


def reverse(data: bytes) -> bytes:
    """The same work as `Reverse`, for the yardsticks."""
    return data[::-1]


def spin(turns: int) -> int:
    """A bare loop; about 1 ms for the number of turns that `yardsticks.turns_per_ms` finds."""
    total = 0
    for turn in range(turns):
        total += turn & 7
    return total
