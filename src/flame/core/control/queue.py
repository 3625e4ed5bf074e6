"""The queue of a session: chunks in memory, and spans of them that wait or are held."""

from collections import deque
from collections.abc import Iterator

import msgspec

from flame.model.limits import MAX_CHUNK_BYTES, MAX_CHUNK_TASKS, TASK_OVERHEAD_BYTES


class Chunk(msgspec.Struct, gc=False):
    """Queued tasks [first, first + count), with their payloads or without (then they are read back from the store).

    Args:
        lengths, blobs: parts that are joined when they are needed; empty while not resident.
        nbytes: payload bytes.
        turn: number of the turn whose commit makes it durable.
        live: tasks that are not terminal yet; with the last one the chunk is forgotten.
    """

    first: int
    count: int
    lengths: list[bytes]
    blobs: list[bytes]
    nbytes: int
    turn: int
    live: int
    attributes: bytes = b""
    resident: bool = True
    loading: bool = False
    cursor: int = 0
    cursor_byte: int = 0

    @property
    def end(self) -> int:
        """The id after the last one."""
        return self.first + self.count

    def accepts(self, first: int, count: int, nbytes: int, attributes: bytes) -> bool:
        """Whether tasks that follow can be merged into this chunk."""
        return (
            not self.loading
            and first == self.first + self.count
            and self.count + count <= MAX_CHUNK_TASKS
            and self.nbytes + nbytes <= MAX_CHUNK_BYTES
            and attributes == self.attributes
        )

    def append(self, count: int, lengths: bytes, blob: bytes, turn: int) -> None:
        """Merge tasks that follow."""
        self.count += count
        self.live += count
        self.nbytes += len(blob)
        self.turn = turn
        if self.resident:
            self.lengths.append(lengths)
            self.blobs.append(blob)

    def fill(self, lengths: bytes, blob: bytes) -> None:
        """Put payloads read back from the store in their place."""
        self.lengths, self.blobs = [lengths], [blob]
        self.resident, self.loading = True, False
        self.cursor = self.cursor_byte = 0

    def spill(self) -> None:
        """Drop the payloads; the store has them."""
        self.lengths, self.blobs = [], []
        self.resident = False

    def slice(self, first: int, count: int) -> tuple[bytes, bytes]:
        """The lengths and blob of some of its tasks."""
        if len(self.blobs) > 1:
            self.lengths, self.blobs = [b"".join(self.lengths)], [b"".join(self.blobs)]
        lengths, blob = self.lengths[0], self.blobs[0]
        if count == self.count:
            return lengths, blob
        # Slices ascend, except for tasks that come back: the cursor saves adding up from the start each time.
        index = first - self.first
        if index < self.cursor:
            self.cursor = self.cursor_byte = 0
        table = memoryview(lengths).cast("I")
        start = self.cursor_byte + sum(table[self.cursor : index])
        end = start + sum(table[index : index + count])
        self.cursor, self.cursor_byte = index + count, end
        return lengths[4 * index : 4 * (index + count)], blob[start:end]


class Span(msgspec.Struct, gc=False):
    """Tasks [first, first + count) of one chunk."""

    chunk: Chunk
    first: int
    count: int

    @property
    def end(self) -> int:
        """The id after the last one."""
        return self.first + self.count


def cut(spans: list[Span], first: int, end: int) -> list[Span]:
    """Take what lies in [first, end) out of `spans`, in place; return it, ascending as found."""
    taken: list[Span] = []
    index = 0
    while index < len(spans):
        span = spans[index]
        low, high = max(first, span.first), min(end, span.first + span.count)
        if low >= high:
            index += 1
            continue
        rest = []
        if span.first < low:
            rest.append(Span(span.chunk, span.first, low - span.first))
        if high < span.first + span.count:
            rest.append(Span(span.chunk, high, span.first + span.count - high))
        spans[index : index + 1] = rest
        index += len(rest)
        taken.append(Span(span.chunk, low, high - low))
    return taken


class TaskQueue:
    """The pending tasks of a session, oldest first: a deque of spans, never of tasks."""

    __slots__ = ("spans", "tasks")

    def __init__(self) -> None:
        self.spans: deque[Span] = deque()
        self.tasks = 0

    def append(self, span: Span) -> None:
        """Add newly submitted tasks at the end, growing the last span where they continue it."""
        self.tasks += span.count
        if self.spans:
            tail = self.spans[-1]
            if tail.chunk is span.chunk and tail.first + tail.count == span.first:
                tail.count += span.count
                return
        self.spans.append(span)

    def put_back(self, spans: list[Span]) -> None:
        """Return tasks that were handed out, to the front, the lowest id first."""
        for span in sorted(spans, key=_first, reverse=True):
            self.tasks += span.count
            if self.spans:
                head = self.spans[0]
                if head.chunk is span.chunk and span.first + span.count == head.first:
                    head.first = span.first
                    head.count += span.count
                    continue
            self.spans.appendleft(span)

    def take(self, most: int) -> Span | None:
        """Take up to `most` tasks of one chunk from the front, if its payloads are resident."""
        if not self.spans or not self.spans[0].chunk.resident:
            return None
        head = self.spans[0]
        if head.count <= most:
            self.spans.popleft()
            self.tasks -= head.count
            return head
        taken = Span(head.chunk, head.first, most)
        head.first += most
        head.count -= most
        self.tasks -= most
        return taken

    def remove(self, first: int, end: int) -> list[Span]:
        """Take out whatever lies in [first, end)."""
        if not any(span.first < end and first < span.first + span.count for span in self.spans):
            return []
        spans = list(self.spans)
        taken = cut(spans, first, end)
        self.spans = deque(spans)
        self.tasks -= sum(span.count for span in taken)
        return taken

    def clear(self) -> list[Span]:
        """Take out everything."""
        spans = list(self.spans)
        self.spans.clear()
        self.tasks = 0
        return spans

    def absent(self, limit_bytes: int) -> Iterator[Chunk]:
        """Chunks at the front that have to be loaded, within `limit_bytes` of the front."""
        for span in self.spans:
            limit_bytes -= span.chunk.nbytes + TASK_OVERHEAD_BYTES * span.chunk.count
            if not span.chunk.resident and not span.chunk.loading:
                yield span.chunk
            if limit_bytes <= 0:
                return


def _first(span: Span) -> int:
    return span.first
