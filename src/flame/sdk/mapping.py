"""`Session.map`: tasks of any number through a bounded window, a run at a time and with no object per task.

The thread that iterates does all the work: it yields results that are there, then pulls a run of inputs, and sleeps
when neither is possible. While it is inside the user's generator the link's thread still sends what was pulled before.
"""

import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from flame.model.errors import FailedPrecondition, FlameError, TaskError
from flame.model.limits import MAP_WINDOW_BYTES, MAX_CHUNK_BYTES, MAX_CHUNK_TASKS
from flame.model.states import TaskState
from flame.protocol.client_attachment import Outcome, Part
from flame.protocol.client_submission import Feed, Submission, check_input

if TYPE_CHECKING:
    from flame.sdk.session import Session

PULL_S = 0.001
"""How long inputs are pulled while results could be yielded, if one input does not take longer."""


class Mapping:
    """One call of `Session.map`."""

    def __init__(
        self, session: "Session", inputs: Iterator[bytes], *, ordered: bool, window: int, timeout: float | None
    ) -> None:
        self._session = session
        self._connection = session.connection
        self._inputs = inputs
        self._ordered = ordered
        self._window = window
        self._timeout = timeout
        self._feed = Feed(self)
        self._block: Submission | None = None
        self._exhausted = False
        self._pulled = 0
        self._taken = 0
        # Results that are there: by first id if ordered, else as they came.
        self._parts: dict[int, Part] = {}
        self._arrived: deque[Part] = deque()
        self._wanted = 0
        self._error: FlameError | None = None
        self._abandoned = False
        self._held_bytes = 0
        self._output_bytes = 0
        self._output_tasks = 0

    # --- what the user iterates over ---------------------------------------------------------------------------------

    def outputs(self) -> Iterator[bytes | None]:
        """The outputs; the first error is raised."""
        for outcomes, clean in self._runs():
            if clean:
                yield from outcomes  # type: ignore[misc]
                continue
            for outcome in outcomes:
                if isinstance(outcome, TaskError):
                    raise outcome
                yield outcome

    def outcomes(self) -> Iterator[Outcome]:
        """The outputs, and errors in their places."""
        for outcomes, _ in self._runs():
            yield from outcomes

    def _runs(self) -> Iterator[tuple[list[Outcome], bool]]:
        """Runs of outcomes, each with whether it has outputs only."""
        try:
            while True:
                part = self._next_part()
                if part is not None:
                    segment = part.segment
                    self._consumed(part)
                    yield part.outcomes(), not segment.states and segment.state is TaskState.SUCCEED
                elif self._exhausted and self._taken == self._pulled:
                    return
                elif not self._may_pull():
                    self._wait()
                    continue
                if self._may_pull():
                    self._pull()
        finally:
            self._leave()

    # --- results -----------------------------------------------------------------------------------------------------

    def deliver(self, part: Part) -> bool:
        """Keep results until they are asked for; called with the lock held."""
        if self._abandoned:
            return True
        nbytes = len(part.segment.blob) * part.count // part.segment.count
        self._held_bytes += nbytes
        self._output_bytes += nbytes
        self._output_tasks += part.count
        if self._ordered:
            self._parts[part.first] = part
        else:
            self._arrived.append(part)
        self._feed.attention = True
        return False

    def fail(self, first: int, count: int, error: FlameError) -> None:
        """These tasks will have no result; called with the lock held. With `count` 0: no more tasks are taken."""
        if not count and self._exhausted:
            return
        self._error = self._error or error
        self._feed.attention = True

    def _next_part(self) -> Part | None:
        if not self._ordered:
            return self._arrived.popleft() if self._arrived else None
        with self._connection.lock:
            self._seek()
            return self._parts.pop(self._wanted, None)

    def _seek(self) -> None:
        """Move `_wanted` to the id of the next output, over ids that went to others meanwhile."""
        spans = self._feed.spans
        while len(spans) > 1 and self._wanted >= spans[0][1]:
            spans.popleft()
        if spans:
            self._wanted = max(self._wanted, spans[0][0])

    def _consumed(self, part: Part) -> None:
        self._taken += part.count
        with self._connection.lock:
            self._wanted = part.first + part.count
            self._held_bytes -= len(part.segment.blob) * part.count // part.segment.count
            part.source.consumed(part)
            if self._connection.stream.outbox:
                self._connection.send()

    # --- inputs ------------------------------------------------------------------------------------------------------

    def _may_pull(self) -> bool:
        if self._exhausted or self._error is not None or self._pulled - self._taken >= self._window:
            return False
        if self._block is not None and self._block.room_bytes() <= 0:
            return False
        if self._pulled == self._taken:
            return True
        mean_bytes = self._output_bytes / self._output_tasks if self._output_tasks else 0
        unfinished = self._pulled - self._output_tasks
        return self._held_bytes + mean_bytes * unfinished < MAP_WINDOW_BYTES

    def _pull(self) -> None:
        """Take some inputs and send what may go."""
        block = self._block or self._start()
        feed = self._feed
        items, limit = feed.items, self._connection.stream.max_task_bytes
        append = items.append
        # The first input on an idle stream goes at once; who knows when the next one comes.
        budget = 1 if block.idle and not items else MAX_CHUNK_TASKS - len(items)
        budget = max(1, min(budget, self._window - (self._pulled - self._taken)))
        feed.attention = feed.idle = False
        most_bytes = min(MAX_CHUNK_BYTES, block.room_bytes())
        pulled = nbytes = 0
        deadline = time.monotonic() + PULL_S
        try:
            for item in islice(self._inputs, budget):
                if type(item) is not bytes or len(item) > limit:
                    check_input(item, limit)
                append(item)
                pulled += 1
                nbytes += len(item)
                if nbytes >= most_bytes or (feed.attention and (feed.idle or time.monotonic() > deadline)):
                    break
            else:
                self._exhausted = pulled < budget
        finally:
            self._pulled += pulled
        with self._connection.lock:
            self._check_open()
            try:
                block.draw(feed)
                if self._connection.stream.outbox:
                    self._connection.send()
            except BaseException:
                self._pulled -= len(feed.items)
                feed.items.clear()  # some of it may be in a chunk already
                self._connection.broken_off()
                raise

    def _start(self) -> Submission:
        with self._connection.lock:
            self._block = block = self._session._ready_block(0, self._timeout)
            block.feeds.append(self._feed)
        return block

    def _check_open(self) -> None:
        self._connection.check()
        if self._session._closing and self._feed.items:
            raise FailedPrecondition(f"session {self._session.id} was closed while a map was under way")

    # --- waiting and leaving -----------------------------------------------------------------------------------------

    def _wait(self) -> None:
        with self._connection.lock:
            what = f"the next output of a map in session {self._session.id}"
            self._connection.wait_for(self._ready, self._timeout, what, results=True)
            if self._error is not None and not self._has_part():
                raise self._error

    def _has_part(self) -> bool:
        if not self._ordered:
            return bool(self._arrived)
        self._seek()
        return self._wanted in self._parts

    def _ready(self) -> bool:
        return bool(self._error or self._has_part() or self._may_pull())

    def _leave(self) -> None:
        """The generator ends, one way or another: cancel what is not finished."""
        if self._block is None:
            return
        connection = self._connection
        connection.leaving.append(self.leave)
        # The garbage collector may end a generator in a thread that holds the lock; the next message does it then.
        if connection.lock.acquire(timeout=1):
            try:
                connection.let_leave()
                connection.send()
            finally:
                connection.lock.release()

    def leave(self) -> None:
        """Cancel what is not finished and give results back; called with the lock held."""
        block, feed = self._block, self._feed
        assert block is not None
        self._abandoned = True
        self._pulled -= len(feed.items)
        feed.items.clear()
        if feed in block.feeds:
            block.feeds.remove(feed)
        for part in (*self._parts.values(), *self._arrived):
            part.source.consumed(part)
        self._parts.clear()
        self._arrived.clear()
        if self._pulled > self._output_tasks and block.error is None:
            for first, end in feed.spans:
                block.cancel(first, end - first, answered=False)
