"""The memory an executor shares with its node's executor manager: what it holds, runs and how far it has come.

Both sides map it and write and read it without system calls and without asking each other, so that the executor manager
can answer for an executor that user code starves and can report a death exactly. Values are unsigned 64-bit words in
the byte order of the machine.

An executor's table (`TABLE_BYTES`), written by the executor alone, except for the seal:

    word 0        not used
    word 1        phase (`Phase`)
    word 2        CLOCK_BOOTTIME in ns when the phase began
    word 3        1 once the executor has been attached to the session manager
    word 4        id of the task that runs, or 0
    word 5        edition of the held ranges: its lowest bit names the half that is valid
    word 6        the seal, written by the executor manager: the epoch of the last session manager that it answered to
                  for this executor
    word 7        1 once the session manager has acknowledged a report
    words 8...    two halves, each: count of ranges (`OVERFLOW` where there are too many), then attempt, first, count
                  of each
    bytes 4096... a failure to start or to enter the session: length (one word), then `FailureRecord` JSON

The held ranges are written to the half that is not valid, then the edition is raised: a reader, and a death in the
middle of an update, see the old ranges or the new ones, never a mixture. (One word is stored at once, and CPython
writes them in this order; a machine with a weaker memory order than x86 may show the edition early, within the
nanoseconds in which the reader's second look at the edition cannot catch it.)

**The seal.** An executor that user code starves may have assignments of a former session manager unread in its socket.
The next session manager hands those tasks out again once the executor manager has said what the executor holds, so the
executor must not take them any more. The executor manager writes the seal and then reads the held ranges; the executor
writes the held ranges and then reads the seal. Whichever order the two interleave in, the executor manager has told of
the new range, or the executor sees the seal and drops it. (This needs a full memory barrier between the write and the
read of each side, or both could read what was there before: that is `fence`.)

The node's page (`PAGE_BYTES`), written by the executor manager, read by all its executors before each task:

    word 0        not used
    word 1        end of the node's lease, CLOCK_BOOTTIME in ns
"""

from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from typing import Final

from flame.model.limits import MAX_HELD_RANGES, MAX_TASK_ID
from flame.model.ranges import HeldRange

PAGE_BYTES: Final = 4096
TABLE_BYTES: Final = 64 * 1024
OVERFLOW: Final = (1 << 64) - 1

CURRENT: Final = 4
"""Word of the task that runs; the task loop writes it directly."""
LEASE_END: Final = 1
"""Word of the lease's end in the node's page; the task loop reads it directly."""

_PHASE: Final = 1
_PHASE_SINCE: Final = 2
_ATTACHED: Final = 3
_EDITION: Final = 5
_SEAL: Final = 6
_LAST_EDITION: Final = (1 << 64) - 1
_MOST_STARTS: Final = 1 << 32
"""Starts of session managers that one executor may live through, at the very most."""
_ACKNOWLEDGED: Final = 7
_HALVES: Final = 8
_HALF_WORDS: Final = 1 + 3 * MAX_HELD_RANGES
_FAILURE: Final = 4096
_WORD: Final = 8
MAX_FAILURE_BYTES: Final = TABLE_BYTES - _FAILURE - _WORD
_READ_ATTEMPTS: Final = 100
_NO_FENCE: Final = nullcontext()


class Phase(IntEnum):
    """How far an executor's process has come; it only grows."""

    STARTING = 0
    IMPORTING = 1
    WAITING = 2
    """Its service is imported; it waits for what session enter needs."""
    ENTERING = 3
    BOUND = 4
    LEAVING = 5
    LEFT = 6


class SharedTable:
    """An executor's table, from either side.

    Args:
        memory: the mapped memory, writable; at least `TABLE_BYTES`.
        fence: to enter and leave it is a full memory barrier (a `threading.Lock` of this table alone is one, on x86);
            needed where another process maps the memory.

    Raises:
        ValueError: the memory is too small.
    """

    __slots__ = ("_bytes", "_fence", "words")

    def __init__(self, memory: memoryview, fence: AbstractContextManager[object] = _NO_FENCE) -> None:
        if memory.nbytes < TABLE_BYTES:
            raise ValueError(f"a shared table needs {TABLE_BYTES} bytes, not {memory.nbytes}")
        self._fence = fence
        self._bytes = memory.cast("B")
        self.words = self._bytes.cast("Q")

    # --- the executor's side ---------------------------------------------------------------------------------------

    def enter_phase(self, phase: Phase, now_ns: int) -> None:
        """Record that a phase begins at `now_ns` (CLOCK_BOOTTIME)."""
        self.words[_PHASE_SINCE] = now_ns
        self.words[_PHASE] = phase

    def dismiss(self, charged: int) -> None:
        """The process is about to end for want of business, not by what it runs: charge a task, or 0 for none."""
        self.words[CURRENT] = charged
        self.words[_PHASE] = Phase.LEAVING

    def set_attached(self) -> None:
        """Record that the session manager knows this executor."""
        self.words[_ATTACHED] = 1

    def hold(self, ranges: Sequence[HeldRange]) -> None:
        """Replace the held ranges."""
        edition = (self.words[_EDITION] + 1) & _LAST_EDITION  # user code may have scribbled over it
        start = _HALVES + (edition & 1) * _HALF_WORDS
        if len(ranges) > MAX_HELD_RANGES:
            self.words[start] = OVERFLOW
        else:
            row = array("Q", (len(ranges),))
            for held in ranges:
                row.extend((held.attempt, held.first, held.count))
            self.words[start : start + len(row)] = memoryview(row)
        self.words[_EDITION] = edition

    def set_acknowledged(self) -> None:
        """Record that the session manager has acknowledged a report."""
        self.words[_ACKNOWLEDGED] = 1

    def sealed(self, epoch: int) -> bool:
        """Whether the executor manager has answered for this executor to a session manager after `epoch`.

        Asked after `hold`: what was held before then may not have been told.
        """
        with self._fence:
            pass
        return bool(self.words[_SEAL] > epoch)

    def spoiled(self, epoch: int) -> bool:
        """Whether user code has scribbled over the table: no executor manager has sealed it so."""
        return bool(self.words[_SEAL] > epoch + _MOST_STARTS)

    def fail(self, record: bytes) -> None:
        """Record why the start or session enter failed, as `FailureRecord` JSON of at most `MAX_FAILURE_BYTES`."""
        self._bytes[_FAILURE + _WORD : _FAILURE + _WORD + len(record)] = record
        self.words[_FAILURE // _WORD] = len(record)

    # --- the executor manager's side -------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        return Phase(min(self.words[_PHASE], Phase.LEFT))

    @property
    def phase_since_ns(self) -> int:
        """When the phase began (CLOCK_BOOTTIME)."""
        return self.words[_PHASE_SINCE]

    @property
    def attached(self) -> bool:
        """Whether it has been attached to the session manager."""
        return self.words[_ATTACHED] == 1

    @property
    def current(self) -> int:
        """The task that runs, or 0, also where user code has scribbled over the table."""
        task = self.words[CURRENT]
        return task if task < MAX_TASK_ID else 0

    @property
    def charged(self) -> int:
        """The task that a death now is charged to, or 0.

        It is the one that runs. Where none does and no report was ever acknowledged, it is the first one held: a task
        that ends well and breaks its executor (it closes descriptors, say) would otherwise be given out for ever.
        """
        if self.current or self.phase is not Phase.BOUND or self.words[_ACKNOWLEDGED]:
            return self.current
        return min((held.first for held in self.held() or ()), default=0)

    @property
    def entered(self) -> bool:
        """Whether session enter has succeeded."""
        return self.phase >= Phase.BOUND

    def seal(self, epoch: int) -> None:
        """From now on nothing more is taken from session managers before `epoch`; what is read next is final."""
        self.words[_SEAL] = epoch
        with self._fence:
            pass

    def held(self) -> tuple[HeldRange, ...] | None:
        """The held ranges, or None where there are too many or the table is unreadable: no ranges stand in it."""
        for _ in range(_READ_ATTEMPTS):
            edition = self.words[_EDITION]
            start = _HALVES + (edition & 1) * _HALF_WORDS
            count = self.words[start]
            if count > MAX_HELD_RANGES:
                flat = None
            else:
                flat = self.words[start + 1 : start + 1 + 3 * count].tolist()
            if self.words[_EDITION] == edition:
                return None if flat is None or not _are_ranges(flat) else _ranges(flat)
        return None

    def failure(self) -> bytes:
        """Why its start or session enter failed, or empty."""
        length = min(self.words[_FAILURE // _WORD], MAX_FAILURE_BYTES)
        return bytes(self._bytes[_FAILURE + _WORD : _FAILURE + _WORD + length])

    def release(self) -> None:
        """Let go of the memory, so that its mapping can be closed."""
        self.words.release()
        self._bytes.release()


def _are_ranges(flat: list[int]) -> bool:
    """Whether numbers can be ranges that a session manager gave out, and not what user code has scribbled there."""
    return all(
        attempt <= MAX_TASK_ID and first >= 1 and count >= 1 and first + count <= MAX_TASK_ID
        for attempt, first, count in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    )


def _ranges(flat: list[int]) -> tuple[HeldRange, ...]:
    return tuple(HeldRange(*flat[place : place + 3]) for place in range(0, len(flat), 3))
