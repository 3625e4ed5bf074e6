"""The client's half of a block of task ids: numbering, chunks, resends, cancels, and whose result is whose.

The first few tasks on an idle stream go at once. While acknowledgements of more are outstanding, what piles up is put
into one chunk, which is sent when everything before it is acknowledged or when it is full. No timer is needed.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from flame.model import chunk
from flame.model.client_messages import (
    CancelTasks,
    ChunkAcknowledged,
    ChunkRefused,
    Segment,
    SessionAttached,
    SubmitChunk,
    TasksCancelled,
)
from flame.model.errors import FlameError, TooLarge
from flame.model.limits import MAX_CHUNK_BYTES, MAX_CHUNK_TASKS, SUBMIT_WINDOW_BYTES, TASK_OVERHEAD_BYTES
from flame.model.ranges import Range
from flame.protocol.client_attachment import Attachment, Part, Sink

_START = attrgetter("start")
LONE_TASKS: Final = 4
"""Tasks that may be under way when another one still goes alone, without waiting for company."""


class Feed:
    """Inputs of one `map` that are not numbered yet.

    The user's thread appends to `items` without a lock; whoever sends takes from the front. `attention` tells that
    thread to look up before it takes the next input: the stream is `idle`, or results are there.
    """

    __slots__ = ("attention", "blocked", "idle", "items", "sink", "spans")

    def __init__(self, sink: Sink) -> None:
        self.items: list[bytes] = []
        self.sink = sink
        self.spans: deque[tuple[int, int]] = deque()
        """Ids that were given to it, as [first, end), ascending; the owner drops those it has done with."""
        self.attention = False
        self.blocked = False
        """Whether some of it waits for room in the window."""
        self.idle = False

    def numbered(self, first: int, count: int) -> None:
        """Its next `count` inputs have the ids [first, first + count)."""
        if self.spans and self.spans[-1][1] == first:
            self.spans[-1] = (self.spans[-1][0], first + count)
        else:
            self.spans.append((first, first + count))


class _Run:
    """Tasks [start, end) of one sink, of which some are `done`: they have a result, or never will."""

    __slots__ = ("done", "end", "sink", "start")

    def __init__(self, start: int, end: int, sink: Sink) -> None:
        self.start = start
        self.end = end
        self.sink = sink
        self.done = 0

    @property
    def left(self) -> int:
        """How many are not done."""
        return self.end - self.start - self.done


class Submission(Attachment):
    """One block: tasks are numbered here, sent in chunks until they are acknowledged, and their results handed out.

    Until `attached` is set nothing may be submitted. A refused chunk ends the block (`refusal`): its later tasks fail,
    the results of the earlier ones still come.
    """

    submit = True

    first = 0
    """First id of the block."""
    next_id = 0
    """Id of the next task."""
    stored = 0
    """Every task below is acknowledged."""
    finished = 0
    """Tasks that have a result, or never will."""
    refusal: FlameError | None = None

    def __init__(self, *args: object, **named: object) -> None:
        super().__init__(*args, **named)  # type: ignore[arg-type]
        self.feeds: list[Feed] = []
        self.answers: dict[int, tuple[Range, ...]] = {}
        self._chunks: deque[SubmitChunk] = deque()
        self._chunk_bytes = 0
        self._tail: list[bytes] = []
        self._tail_bytes = 0
        self._cancels: dict[int, tuple[CancelTasks, bool]] = {}
        self._requests = 0
        self._runs: list[_Run] = []
        """Ascending; those whose tasks are all done are dropped."""

    # --- what the caller asks ----------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing waits for an acknowledgement."""
        return not self._chunks

    @property
    def outstanding(self) -> int:
        """Tasks that are numbered and have no result yet."""
        return self.next_id - self.first - self.finished

    @property
    def buffered(self) -> bool:
        """Whether some tasks are not acknowledged yet."""
        return bool(self._chunks or self._tail) or any(feed.items for feed in self.feeds)

    def accepts(self, nbytes: int) -> bool:
        """Whether a task of `nbytes` fits into the window of what may be unacknowledged; alone any task does."""
        used = self._chunk_bytes + self._tail_bytes
        return used == 0 or used + nbytes + TASK_OVERHEAD_BYTES <= SUBMIT_WINDOW_BYTES

    def room_bytes(self) -> int:
        """Bytes left in that window."""
        return SUBMIT_WINDOW_BYTES - self._chunk_bytes - self._tail_bytes

    def add(self, task_input: bytes) -> int:
        """Number one task and send it as soon as it may go; return its id.

        Raises:
            FlameError: why the block has ended.
        """
        if self.refusal is not None:
            raise type(self.refusal)(self.refusal.message, self.refusal.hint)
        tail = self._tail
        nbytes = len(task_input) + TASK_OVERHEAD_BYTES
        if tail and self._tail_bytes + nbytes > MAX_CHUNK_BYTES:
            self._cut()
        task = self.next_id
        self._route(task, 1, self.sink)
        tail.append(task_input)
        self._tail_bytes += nbytes
        # A few lone tasks go at once; what comes thick and fast waits for an acknowledgement and goes together.
        under_way = self.next_id - len(tail) - self.stored
        if under_way < LONE_TASKS or not self._chunks or len(tail) >= MAX_CHUNK_TASKS:
            self._cut()
        return task

    def draw(self, feed: Feed, *, all_of_it: bool = False) -> None:
        """Number and send what a feed holds: full chunks, and the rest if the stream is idle or `all_of_it` is set.

        What the window has no room for waits for acknowledgements (`blocked`). In a block that has ended all of it
        fails: the owner of the feed goes on filling it until it looks up.
        """
        if self.refusal is not None:
            if feed.items:
                self._fail_feed(feed, self.refusal)
            return
        while (items := feed.items[:MAX_CHUNK_TASKS]) and (
            not self._chunks or len(items) == MAX_CHUNK_TASKS or feed.blocked or all_of_it
        ):
            self._cut()
            for run in _runs(items):
                feed.blocked = bool(self._chunks) and sum(map(len, run)) > self.room_bytes()
                if feed.blocked:
                    return
                first = self.next_id
                self._route(first, len(run), feed.sink)
                feed.numbered(first, len(run))
                self._send_chunk(first, run)
                del feed.items[: len(run)]

    def flush(self) -> None:
        """Send everything that is not sent yet."""
        self._cut()
        for feed in self.feeds:
            self.draw(feed, all_of_it=True)

    def cancel(self, first: int, count: int, *, answered: bool = True) -> int:
        """Ask to cancel what is queued of a range; return the request's number.

        With `answered`, the answer is put into `answers`; otherwise nobody waits for it.
        """
        self._cut()
        self._requests += 1
        message = CancelTasks(attachment=self.number, request=self._requests, first=first, count=count)
        self._cancels[self._requests] = (message, answered)
        self.send(message)
        return self._requests

    def mend(self) -> None:
        """Make it whole again after a call was broken off at any point, as by Ctrl-C.

        What was put into a chunk counts as submitted, and has to be sent again; what was not has no number any more.
        """
        if self.attached is None or self.refusal is not None:
            return
        runs, chunks = self._runs, self._chunks
        known = chunks[-1].first + chunks[-1].count if chunks else self.stored
        if runs and known == max(self.next_id, runs[-1].end):
            self._tail.clear()  # it is in the last chunk
        self.next_id = known + len(self._tail)
        while runs and runs[-1].start >= self.next_id:
            runs.pop()
        if runs:
            runs[-1].end = self.next_id
        for feed in self.feeds:
            while feed.spans and feed.spans[-1][0] >= self.next_id:
                feed.spans.pop()
            if feed.spans:
                feed.spans[-1] = (feed.spans[-1][0], min(feed.spans[-1][1], self.next_id))
        self._tail_bytes = sum(map(len, self._tail)) + TASK_OVERHEAD_BYTES * len(self._tail)
        self._chunk_bytes = sum(map(_cost, chunks))

    def forget(self, request: int) -> None:
        """Nobody waits for the answer to a cancel any more."""
        self.answers.pop(request, None)
        if request in self._cancels:
            self._cancels[request] = (self._cancels[request][0], False)

    # --- what the session manager says -------------------------------------------------------------------------------

    def on_attached(self, message: SessionAttached) -> None:
        """The block is granted, or known again after a reconnect: repeat what it does not have."""
        again = self.attached is not None
        super().on_attached(message)
        if self.error is not None:
            return
        if not again:
            self.first = self.next_id = self.stored = message.first
        if self.refusal is None:
            self._drop_stored(message.next_id)
            for part in self._chunks:
                self.send(part)
        for request, _ in self._cancels.values():
            self.send(request)
        self._proceed()

    def on_acknowledged(self, message: ChunkAcknowledged) -> None:
        """Chunks are stored."""
        self._drop_stored(message.next_id)
        self._proceed()

    def on_refused(self, message: ChunkRefused) -> None:
        """A chunk was refused, and the block ends with it."""
        if self.refusal is None:
            self._refuse(message.first, message.error.to_error())

    def on_cancelled(self, message: TasksCancelled) -> None:
        """A cancel is answered."""
        _, answered = self._cancels.pop(message.request, (None, False))
        if answered:
            self.answers[message.request] = message.ranges

    def disown(self, error: FlameError) -> None:
        """It belongs to another process: nothing is done to it, every further use fails."""
        super().disown(error)
        self.refusal = error

    def fail_unfinished(self, error: FlameError) -> None:
        """No more results come at all."""
        self.refusal = self.refusal or error
        self._fail_from(self.first, error)

    def dispatch(self, segment: Segment) -> int:
        """Hand results to those whose tasks they are; return how many parts are held."""
        first, end = max(segment.first, self.first), min(segment.first + segment.count, self.next_id)
        held = 0
        place = bisect_right(self._runs, first, key=_START) - 1
        while first < end and place >= 0:
            run = self._runs[place]
            part_end = min(end, run.end)
            count = part_end - first
            self.finished += count
            run.done += count
            held += not run.sink.deliver(Part(self, segment, first, count))
            if run.left == 0 and run is not self._runs[-1]:
                del self._runs[place]
            else:
                place += 1
            first = part_end
        return held

    # --- inside ------------------------------------------------------------------------------------------------------

    def _route(self, first: int, count: int, sink: Sink) -> None:
        runs = self._runs
        if runs and runs[-1].sink is sink:
            runs[-1].end = first + count
        else:
            if runs and runs[-1].left == 0:
                runs.pop()
            runs.append(_Run(first, first + count, sink))
        self.next_id = first + count

    def _cut(self) -> None:
        if self._tail:
            self._send_chunk(self.next_id - len(self._tail), self._tail)
            self._tail.clear()
            self._tail_bytes = 0

    def _send_chunk(self, first: int, inputs: Sequence[bytes]) -> None:
        lengths, blob = chunk.pack(inputs)
        message = SubmitChunk(attachment=self.number, first=first, count=len(inputs), lengths=lengths, blob=blob)
        self._chunks.append(message)
        self._chunk_bytes += _cost(message)
        self.send(message)

    def _drop_stored(self, next_id: int) -> None:
        chunks = self._chunks
        while chunks and chunks[0].first + chunks[0].count <= next_id:
            self._chunk_bytes -= _cost(chunks.popleft())
        self.stored = max(self.stored, min(next_id, self.next_id))

    def _proceed(self) -> None:
        if not self.live or self.refusal is not None:
            return
        for feed in self.feeds:
            if feed.blocked:
                self.draw(feed)
        if not self._chunks:
            self._cut()
            for feed in self.feeds:
                self.draw(feed)
                if not self._chunks:
                    feed.idle = feed.attention = True

    def _refuse(self, first: int, error: FlameError) -> None:
        self.refusal = error
        self._fail_from(first, error)

    def _fail_from(self, first: int, error: FlameError) -> None:
        self._chunks.clear()
        self._tail.clear()
        self._chunk_bytes = self._tail_bytes = 0
        for feed in self.feeds:
            self._fail_feed(feed, error)
        for request, (_, answered) in self._cancels.items():
            if answered:
                self.answers[request] = ()
        self._cancels.clear()
        for run in self._runs:
            if run.end > first and run.left:
                low = max(run.start, first)
                count = min(run.left, run.end - low)
                self.finished += count
                run.done += count
                run.sink.fail(low, run.end - low, error)

    def _fail_feed(self, feed: Feed, error: FlameError) -> None:
        count = len(feed.items)
        feed.sink.fail(self.next_id, count, error)
        del feed.items[:count]  # what its owner appends meanwhile fails when it is drawn


def check_input(task_input: object, limit_bytes: int) -> None:
    """Check one input.

    Raises:
        TypeError: it is not bytes.
        TooLarge: it is larger than the session manager takes.
    """
    if not isinstance(task_input, bytes):
        raise TypeError(f"a task's input must be bytes, not {type(task_input).__name__}")
    if len(task_input) > limit_bytes:
        raise TooLarge(
            f"a task's input has {len(task_input)} bytes, the limit is {limit_bytes}",
            hint="split it, or raise max_task_bytes in the session manager's configuration",
        )


def _cost(message: SubmitChunk) -> int:
    return len(message.blob) + TASK_OVERHEAD_BYTES * message.count


def _runs(items: list[bytes]) -> list[list[bytes]]:
    """Cut inputs where a chunk would be larger than allowed."""
    if sum(map(len, items)) <= MAX_CHUNK_BYTES:
        return [items]
    runs: list[list[bytes]] = [[]]
    nbytes = 0
    for item in items:
        if runs[-1] and nbytes + len(item) > MAX_CHUNK_BYTES:
            runs.append([])
            nbytes = 0
        runs[-1].append(item)
        nbytes += len(item)
    return runs
