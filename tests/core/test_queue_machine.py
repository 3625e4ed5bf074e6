"""A session's tasks as Hypothesis sees them: chunks split, merge, come back, are dropped from memory and read again.

The model is one dictionary: where each task is, and its payload. Whatever order things happen in, every task stands in
exactly one place, no payload changes hands, and the accounting is that of counting one by one.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flame.core.control.queue import Chunk, Span, TaskQueue, cut
from flame.model.chunk import pack, unpack

QUEUED, HELD = "queued", "held"


class QueueMachine(RuleBasedStateMachine):
    """A queue, what executors hold of it, and a model of both."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = TaskQueue()
        self.held: list[Span] = []
        self.chunks: list[Chunk] = []
        self.payloads: dict[int, bytes] = {}
        self.where: dict[int, str] = {}
        self.next_id = 1

    # --- what happens ---

    @rule(lengths=st.lists(st.integers(0, 20), min_size=1, max_size=12), resident=st.booleans(), gap=st.integers(0, 1))
    def submit(self, lengths: list[int], resident: bool, gap: int) -> None:
        """Tasks come in; they continue the last chunk where they can. A gap is another submitter's block."""
        self.next_id += 1000 * gap
        first, count = self.next_id, len(lengths)
        payloads = [bytes([(first + place) % 256]) * length for place, length in enumerate(lengths)]
        columns, blob = pack(payloads)
        tail = self.queue.spans[-1].chunk if self.queue.spans else None
        if tail is not None and tail.resident == resident and tail.accepts(first, count, len(blob), b""):
            tail.append(count, columns, blob, 1)
            chunk = tail
        else:
            parts = ([columns], [blob]) if resident else ([], [])
            chunk = Chunk(first, count, *parts, len(blob), 1, count, b"", resident)
            self.chunks.append(chunk)
        self.queue.append(Span(chunk, first, count))
        for task, payload in enumerate(payloads, first):
            self.payloads[task], self.where[task] = payload, QUEUED
        self.next_id += count

    @rule(most=st.integers(1, 15))
    def hand_out(self, most: int) -> None:
        """An executor gets tasks of the front: the oldest ones, if their payloads are in memory."""
        front = self.queue.spans[0] if self.queue.spans else None
        span = self.queue.take(most)
        assert (span is None) == (front is None or not front.chunk.resident)
        if span is not None:
            assert 1 <= span.count <= most
            self.check_payloads(span)
            self.held.append(span)
            for task in range(span.first, span.end):
                assert self.where[task] == QUEUED
                self.where[task] = HELD

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """A part of what is held comes back: retracted, or its executor died."""
        first, end = self.range_of_held(data)
        taken = cut(self.held, first, end)
        self.queue.put_back(taken)
        for span in taken:
            for task in range(span.first, span.end):
                assert self.where[task] == HELD
                self.where[task] = QUEUED

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A part of what is held has an outcome."""
        first, end = self.range_of_held(data)
        self.end(cut(self.held, first, end), HELD)

    @precondition(lambda self: self.where)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """What is queued of a range is cancelled."""
        tasks = sorted(self.where)
        first = data.draw(st.sampled_from(tasks))
        self.end(self.queue.remove(first, first + data.draw(st.integers(1, 30))), QUEUED)

    @precondition(lambda self: self.chunks)
    @rule(data=st.data())
    def page(self, data: st.DataObject) -> None:
        """The payloads of a chunk that only waits are dropped, or read back from the store."""
        chunk = data.draw(st.sampled_from(self.chunks))
        if chunk.resident:
            if not any(span.chunk is chunk for span in self.held):
                chunk.spill()
        else:
            chunk.fill(*pack([self.payloads[task] for task in range(chunk.first, chunk.end)]))

    @rule()
    def clear(self) -> None:
        """The session is closed: nothing waits any more."""
        self.end(self.queue.clear(), QUEUED)

    # --- helpers ---

    def range_of_held(self, data: st.DataObject) -> tuple[int, int]:
        """A range that has something held in it."""
        span = data.draw(st.sampled_from(self.held))
        first = data.draw(st.integers(span.first, span.end - 1))
        return first, data.draw(st.integers(first + 1, span.end))

    def end(self, spans: list[Span], was: str) -> None:
        """These tasks are terminal."""
        for span in spans:
            span.chunk.live -= span.count
            for task in range(span.first, span.end):
                assert self.where.pop(task) == was
        self.chunks = [chunk for chunk in self.chunks if chunk.live]

    def check_payloads(self, span: Span) -> None:
        """A span's slice is exactly what was submitted."""
        expected = [self.payloads[task] for task in range(span.first, span.end)]
        assert unpack(*span.chunk.slice(span.first, span.count)) == expected

    # --- what always holds ---

    @invariant()
    def every_task_is_in_one_place(self) -> None:
        """The spans of the queue and of the executors are the model's tasks, once each."""
        seen: dict[int, str] = {}
        for place, spans in ((QUEUED, self.queue.spans), (HELD, self.held)):
            for span in spans:
                assert span.count > 0
                assert span.chunk.first <= span.first
                assert span.end <= span.chunk.end
                for task in range(span.first, span.end):
                    assert task not in seen
                    seen[task] = place
        assert seen == self.where
        assert self.queue.tasks == sum(place == QUEUED for place in self.where.values())

    @invariant()
    def chunks_count_what_lives(self) -> None:
        """`live` is what is not terminal, `nbytes` the payload of the whole chunk."""
        for chunk in self.chunks:
            tasks = range(chunk.first, chunk.end)
            assert chunk.live == sum(task in self.where for task in tasks)
            assert chunk.nbytes == sum(len(self.payloads[task]) for task in tasks)

    @invariant()
    def what_is_absent_is_asked_for(self) -> None:
        """Loading as much as the front needs makes the front resident."""
        absent = list(self.queue.absent(1 << 20))
        assert all(not chunk.resident for chunk in absent)
        if self.queue.spans and not self.queue.spans[0].chunk.resident:
            assert absent[0] is self.queue.spans[0].chunk


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
