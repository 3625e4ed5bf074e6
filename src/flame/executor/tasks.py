"""The task loop: what the main thread does per task, and nothing else.

This is the only code of Flame that runs once per task. It takes no lock, makes no system call (the clock is read in the
vDSO) and formats nothing; whatever is rare sends it back to its caller, which takes a turn under the lock.
"""

import os
import sys
import time
import traceback
from typing import Final, NoReturn

from flame.executor.failures import failure_of
from flame.model.errors import FailureRecord
from flame.protocol.executor import SMALL_OUTPUT_BYTES, ExecutorHalf
from flame.protocol.runs import Run
from flame.protocol.shared_table import CURRENT, LEASE_END
from flame.service import FlameService, TaskContext

_BOOTTIME: Final = time.CLOCK_BOOTTIME
_EXIT_FORKED: Final = 70
_forked: Final[list[bool]] = []
"""Not empty in a child that user code forked: it must not answer for its parent."""

os.register_at_fork(after_in_child=lambda: _forked.append(True))


def reset_forks() -> None:
    """This process is the executor itself, forked by the fork server."""
    _forked.clear()


def _leave_child(error: BaseException | None) -> NoReturn:
    """End a forked child that came back from the task: its parent goes on alone."""
    code = 0 if error is None else error.code if isinstance(error, SystemExit) else _EXIT_FORKED
    if error is not None and not isinstance(error, SystemExit):
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


class TaskLoop:
    """Runs tasks of one session.

    Args:
        service: the user's service, in its session.
        session_id: the session's name, for contexts.
        half: what to run.
        words: the executor's shared table.
        page: the node's page.
    """

    def __init__(
        self, service: FlameService, session_id: str, half: ExecutorHalf, words: memoryview, page: memoryview
    ) -> None:
        self._service = service
        self._session_id = session_id
        self._half = half
        self._words = words
        self._page = page

    def run(self, run: Run) -> None:
        """Run tasks of the active run until its end, or until a turn has to be taken before the next one.

        The order of the first two steps of a task matters, see `flame.protocol.executor`.
        """
        words, page, limit = self._words, self._page, self._half.limit
        clock, boottime, small = time.clock_gettime_ns, _BOOTTIME, SMALL_OUTPUT_BYTES
        invoke, session_id, context = self._service.on_task_invoke, self._session_id, TaskContext
        blob, append, forked = run.blob, run.outputs.append, _forked
        first = run.next
        place = first - run.base
        offsets = run.offsets[place:]
        start = offsets[0]
        for task, end in enumerate(offsets[1:], first):
            words[CURRENT] = task
            if task >= limit[0]:
                return
            now_ns = clock(boottime)
            if now_ns >= page[LEASE_END]:
                return
            run.started_ns = now_ns
            try:
                output = invoke(context(session_id, task, blob[start:end]))
            except BaseException as error:
                if forked:
                    _leave_child(error)
                self._fail(run, task, failure_of(error))
                return
            if forked:
                _leave_child(None)
            start = end
            if output is None:
                append(None)
            elif type(output) is bytes and len(output) <= small:
                append(output)
            else:
                self._take_unusual(run, task, output)
                return

    def _take_unusual(self, run: Run, task: int, output: object) -> None:
        """An output that is large, or not of type bytes."""
        if not isinstance(output, bytes | bytearray | memoryview):
            kind = type(output).__qualname__
            message = f"on_task_invoke returned {kind}; it must return bytes, bytearray, memoryview or None"
            self._fail(run, task, FailureRecord(message, type="TypeError"))
            return
        try:
            data = bytes(output)
        except BaseException as error:  # a memoryview may be released, a subclass of bytes do anything
            self._fail(run, task, failure_of(error, "the output cannot be read"))
            return
        limit_bytes = self._half.max_task_bytes
        if len(data) > limit_bytes:
            message = f"the output has {len(data)} bytes; the limit is {limit_bytes} bytes (max_task_bytes)"
            self._fail(run, task, FailureRecord(message, type="flame.TooLarge"))
            return
        if len(data) > SMALL_OUTPUT_BYTES:
            run.large_bytes += len(data)
        run.outputs.append(data)

    def _fail(self, run: Run, task: int, failure: FailureRecord) -> None:
        record = failure.encode()
        run.failed.append(task)
        run.large_bytes += len(record)
        run.outputs.append(record)
