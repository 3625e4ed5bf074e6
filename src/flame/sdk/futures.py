"""A light future: one small object per task, completed in bulk, a whole segment of results at a time."""

import time
from _thread import allocate_lock
from collections.abc import Callable
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING

import msgspec

from flame.model.errors import FailedPrecondition, FlameError, TaskCancelled
from flame.protocol.client_attachment import Part

if TYPE_CHECKING:
    from flame.sdk.connection import Connection
    from flame.sdk.session import Session

PENDING = 0
OUTPUT = 1
ERROR = 2

Watcher = Callable[["Future"], object]


class Future(msgspec.Struct, gc=False, eq=False):
    """What became, or will become, of one task. Made by `Session.run`; it stays valid over reconnects.

    Attributes:
        task_id: the task within its session, known at once.
    """

    # A plain class costs three times as much to make, and a million that the garbage collector visits costs more still.
    _session: "Session"
    task_id: int
    _state: int = PENDING
    _value: bytes | FlameError | None = None
    _watchers: list[Watcher] | None = None

    def __repr__(self) -> str:
        state = "pending" if not self._state else "cancelled" if self.cancelled() else "done"
        return f"<flame.Future of task {self.task_id} of session {self._session.id}: {state}>"

    def done(self) -> bool:
        """Whether the task succeeded, failed or was cancelled."""
        return self._state != PENDING

    def cancelled(self) -> bool:
        """Whether the task was cancelled before it ran."""
        return self._state == ERROR and isinstance(self._value, TaskCancelled)

    def result(self, timeout: float | None = None) -> bytes | None:
        """Wait for the task and return its output.

        Args:
            timeout: longest wait in seconds; None waits as long as it takes, over reconnects too.

        Raises:
            TaskFailed: the task failed; carries the remote type, message and traceback.
            TaskCancelled: it was cancelled before it ran.
            FlameError: its session is gone, or it was refused.
            TimeoutError: it is not done in time.
        """
        if not self._state:
            self._wait(timeout)
        if self._state == ERROR:
            raise self._value  # type: ignore[misc]
        return self._value  # type: ignore[return-value]

    def exception(self, timeout: float | None = None) -> FlameError | None:
        """Wait for the task and return its error, or None if it succeeded.

        Raises:
            TimeoutError: it is not done within `timeout` seconds.
        """
        if not self._state:
            self._wait(timeout)
        return self._value if self._state == ERROR else None  # type: ignore[return-value]

    def cancel(self, timeout: float | None = None) -> bool:
        """Cancel the task if it has not started; return whether it is cancelled now.

        A task that runs goes on, and so does one whose executor gives no answer within `timeout` seconds.
        """
        return self._session._cancel(self, timeout)

    def acknowledged(self, timeout: float | None = None) -> bool:
        """Wait until the task is stored; return False if it is not within `timeout` seconds.

        Raises:
            FlameError: it was refused.
        """
        return self._session._acknowledged(self, timeout)

    def add_done_callback(self, function: Watcher) -> None:
        """Call `function(future)` when the task is done, at once if it is.

        It is called in a thread of the connection: it should be short, and cannot wait for other tasks there.
        """
        if not self._watch(function):
            function(self)

    def _watch(self, watcher: Watcher) -> bool:
        """Have `watcher` called when the task is done; False if it is already."""
        with self._session.connection.lock:
            if self._state:
                return False
            if self._watchers is None:
                self._watchers = [watcher]
            else:
                self._watchers.append(watcher)
            return True

    def _unwatch(self, watcher: Watcher) -> None:
        with self._session.connection.lock:
            if self._watchers is not None and watcher in self._watchers:
                self._watchers.remove(watcher)

    def _wait(self, timeout: float | None) -> None:
        if not self._wait_done(None if timeout is None else time.monotonic() + timeout):
            raise TimeoutError(f"task {self.task_id} of session {self._session.id} is not done after {timeout:g} s")

    def _wait_done(self, deadline: float | None) -> bool:
        """Wait until the task is done; False if that is not before `deadline` (of time.monotonic)."""
        connection = self._session.connection
        wake = allocate_lock()
        wake.acquire()

        def watcher(_: Future) -> None:
            wake.release()

        connection.check_can_wait()
        if not self._watch(watcher):
            return True
        with connection.awaited():
            if deadline is None:
                return wake.acquire()
            if wake.acquire(timeout=min(max(deadline - time.monotonic(), 0), TIMEOUT_MAX)):
                return True
        self._unwatch(watcher)
        return self._state != PENDING


class FutureTable:
    """The futures of a session that are not done: the sink of results of `run`."""

    def __init__(self, connection: "Connection") -> None:
        self.pending: dict[int, Future] = {}
        self.closing = False
        """Whether this client closes the session: what is refused for it counts as cancelled."""
        self._connection = connection

    def deliver(self, part: Part) -> bool:
        """Complete the futures of a run of tasks."""
        pop, ready = self.pending.pop, self._connection.ready
        for task, outcome in enumerate(part.outcomes(), part.first):
            future = pop(task, None)
            if future is not None:
                future._value = outcome
                future._state = ERROR if isinstance(outcome, FlameError) else OUTPUT
                if future._watchers is not None:
                    ready.append(future)
        return True

    def fail(self, first: int, count: int, error: FlameError) -> None:
        """Fail the futures of tasks that will have no result."""
        if self.closing and isinstance(error, FailedPrecondition):
            error = TaskCancelled("the session was closed before this task was stored")
        if count < len(self.pending):
            lost = [task for task in range(first, first + count) if task in self.pending]
        else:
            lost = [task for task in self.pending if first <= task < first + count]
        for task in lost:
            future = self.pending.pop(task)
            future._value = error
            future._state = ERROR
            if future._watchers is not None:
                self._connection.ready.append(future)
