"""Runs: the tasks of an assignment as an executor holds them, with what they have answered so far."""

from array import array
from collections.abc import Iterator
from itertools import accumulate

from flame.model.chunk import pack_optional
from flame.model.errors import InvalidArgument
from flame.model.executor_messages import AssignTasks, Outcome
from flame.model.ranges import HeldRange
from flame.model.states import TaskState

_SUCCEED = bytes((TaskState.SUCCEED,))
_FAILED = TaskState.FAILED.value


class Run:
    """A run of tasks, [first, end), of one assignment.

    The task loop works on a run without a lock: it appends one output per task to `outputs` (None, or bytes), and
    the id of a task that failed to `failed` before its record goes to `outputs`. Anybody may take a prefix of
    `outputs` away meanwhile: appending to a list and cutting its head are each one step under the interpreter's lock.

    Attributes:
        base: id of the task that `offsets` begins with.
        offsets: where in `blob` the input of each task begins, and where the last one ends.
        reported: how many outputs were taken away.
        large_bytes: bytes of outputs above the size that is counted one by one.
        started_ns: when the task that runs was started.
        since_ns: when the first task of the outputs that are here was started.
    """

    __slots__ = (
        "attempt", "base", "blob", "end", "failed", "first", "large_bytes", "offsets", "outputs", "reported",
        "since_ns", "started_ns",
    )  # fmt: skip

    def __init__(self, attempt: int, first: int, end: int, *, base: int, offsets: list[int], blob: bytes) -> None:
        self.attempt = attempt
        self.first = first
        self.end = end
        self.base = base
        self.offsets = offsets
        self.blob = blob
        self.outputs: list[bytes | None] = []
        self.failed: list[int] = []
        self.reported = 0
        self.large_bytes = 0
        self.started_ns = 0
        self.since_ns = 0

    @classmethod
    def of(cls, message: AssignTasks) -> "Run":
        """The run of an assignment.

        Raises:
            InvalidArgument: its columns do not fit together.
        """
        if message.count < 1 or len(message.lengths) != 4 * message.count:
            raise InvalidArgument(
                f"assignment of {message.count} tasks from {message.first} has {len(message.lengths)} bytes of lengths"
            )
        lengths = array("I", message.lengths)
        offsets = list(accumulate(lengths, initial=0))
        if offsets[-1] != len(message.blob):
            raise InvalidArgument(
                f"assignment of {message.count} tasks from {message.first} has lengths for {offsets[-1]} bytes, "
                f"but {len(message.blob)} bytes of inputs"
            )
        end = message.first + message.count
        return cls(message.attempt, message.first, end, base=message.first, offsets=offsets, blob=message.blob)

    @property
    def next(self) -> int:
        """The first task that has not answered."""
        return self.first + self.reported + len(self.outputs)

    @property
    def unreported(self) -> int:
        """The first task whose output is not in a report."""
        return self.first + self.reported

    def split(self, at: int) -> "Run | None":
        """Cut off and return the tasks from `at` on; None where there are none."""
        if at >= self.end:
            return None
        tail = Run(self.attempt, at, self.end, base=self.base, offsets=self.offsets, blob=self.blob)
        self.end = at
        return tail

    def collect(self, until_ns: int) -> Outcome:
        """Take away what has been answered; `until_ns` is when the last of it ended."""
        count = len(self.outputs)
        outputs = self.outputs[:count]
        del self.outputs[:count]
        first = self.unreported
        self.reported += count
        self.large_bytes = 0
        lengths, blob = pack_optional(outputs)
        busy_ns = max(0, until_ns - self.since_ns)
        self.since_ns = until_ns
        state, states = self._states(first, count)
        return Outcome(
            attempt=self.attempt,
            first=first,
            count=count,
            state=state,
            states=states,
            lengths=lengths,
            blob=blob,
            busy_ns=busy_ns,
        )

    def _states(self, first: int, count: int) -> tuple[TaskState, bytes]:
        if not self.failed:
            return TaskState.SUCCEED, b""
        column = bytearray(_SUCCEED * count)
        failed = [task for task in self.failed if task < first + count]
        del self.failed[: len(failed)]
        for task in failed:
            column[task - first] = _FAILED
        if len(failed) in (0, count):
            return (TaskState.FAILED if failed else TaskState.SUCCEED), b""
        return TaskState.SUCCEED, bytes(column)


def merged(ranges: Iterator[HeldRange]) -> list[HeldRange]:
    """The ranges with neighbours of one attempt merged."""
    result: list[HeldRange] = []
    for held in ranges:
        last = result[-1] if result else None
        if last and last.attempt == held.attempt and last.first + last.count == held.first:
            result[-1] = HeldRange(held.attempt, last.first, last.count + held.count)
        else:
            result.append(held)
    return result
