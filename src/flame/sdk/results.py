"""Reading the results of a session from the store, from any process."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from flame.model.errors import FlameError, TaskError
from flame.model.states import SessionState, TaskState
from flame.protocol.client_attachment import Attachment, Part
from flame.sdk import calls

if TYPE_CHECKING:
    from flame.sdk.connection import Connection


class TaskResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a task.

    Args:
        task_id: the task within its session.
        state: SUCCEED, FAILED or CANCELLED.
        output: what the service returned; None also where it failed.
        error: why it did not succeed, or None.
        sequence: of the segment that holds it; reading on `after` it continues behind that segment.
    """

    task_id: int
    state: TaskState
    output: bytes | None = None
    error: TaskError | None = None
    sequence: int


class _Reading:
    """One attachment of a reader, and how far it wants to read.

    It reads what was stored when it attached. Beyond that, while the session is open, as the caller `follows`; in a
    closed session with tasks that still ran, one more part. Then the caller asks anew how the session stands.
    """

    def __init__(self, connection: "Connection", session_id: str, after: int, *, follow: bool, running: bool) -> None:
        from secrets import token_hex

        stream = connection.stream
        self.parts: deque[Part] = deque()
        self.seen = after
        self._connection = connection
        self._follow = follow
        self._running = running
        self._attachment = Attachment(
            stream, stream.next_attachment(), session_id=session_id, key=token_hex(16), after=after, sink=self
        )

    def deliver(self, part: Part) -> bool:
        """Keep results until they are asked for."""
        self.parts.append(part)
        return False

    def fail(self, first: int, count: int, error: FlameError) -> None:
        """Nothing: `_satisfied` looks at the attachment."""

    def read(self, timeout: float | None) -> Iterator[Part]:
        """Yield the parts."""
        connection, reader = self._connection, self._attachment
        what = f"the next result of session {reader.session_id}"
        with connection.lock:
            connection.check()
            connection.stream.attach(reader)
            connection.send()
        try:
            while True:
                with connection.lock:
                    connection.wait_for(self._ready, timeout, what, results=True)
                    part = self.parts.popleft() if self.parts else None
                    if part is not None:
                        self.seen = part.segment.sequence
                        self._running = False
                        reader.consumed(part)
                        connection.send()
                if part is None:
                    if reader.error is not None:
                        raise reader.error
                    return
                yield part
        finally:
            with connection.lock:
                connection.stream.detach(reader)
                connection.send()

    def _ready(self) -> bool:
        return bool(self.parts or self._attachment.error or self._satisfied())

    def _satisfied(self) -> bool:
        attached = self._attachment.attached
        if attached is None or self.seen < attached.last_sequence:
            return False
        if self._attachment.state is SessionState.OPEN:
            return not self._follow
        return not self._running


def read_results(
    connection: "Connection", session_id: str, *, after: int, follow: bool, timeout: float | None
) -> Iterator[TaskResult]:
    """Yield results in the order in which they were stored; see `Connection.results`."""
    while True:
        # Asked first: with nothing unfinished now, what is stored at an attach that follows is all there will ever be.
        view = calls.get_session(connection, session_id, timeout)
        closed = view.state is SessionState.CLOSED
        running = closed and view.unfinished > 0
        reading = _Reading(connection, session_id, after, follow=follow, running=running)
        for part in reading.read(timeout):
            yield from _results(part)
        after = reading.seen
        if not running and (closed or not follow):
            return


def _results(part: Part) -> Iterator[TaskResult]:
    sequence = part.segment.sequence
    for task, outcome in enumerate(part.outcomes(), part.first):
        if isinstance(outcome, TaskError):
            state = TaskState.CANCELLED if outcome.code == "CANCELLED" else TaskState.FAILED
            yield TaskResult(task_id=task, state=state, error=outcome, sequence=sequence)
        else:
            yield TaskResult(task_id=task, state=TaskState.SUCCEED, output=outcome, sequence=sequence)
