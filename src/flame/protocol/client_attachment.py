"""The client's half of one attachment: the handshake with a session, and its results, each once.

Results arrive by segment sequence. One that was seen already is dropped; after a lost link the client attaches again
with `after` set to the last one it has. What its sink has not consumed yet is *held* and not acknowledged, which
keeps the session manager from sending more than a window: a slow consumer needs bounded memory. While somebody waits
for results, everything is acknowledged as it arrives, so that what is held for one never blocks another.
"""

from typing import TYPE_CHECKING, Protocol

import msgspec

from flame.model import chunk
from flame.model.client_messages import AcknowledgeSegments, AttachSession, Segment, SessionAttached, SessionChanged
from flame.model.errors import FailureRecord, FlameError, NotFound, TaskCancelled, TaskError, TaskFailed
from flame.model.limits import TASK_OVERHEAD_BYTES
from flame.model.messages import PeerMessage
from flame.model.specs import SessionSpec
from flame.model.states import SessionState, TaskState

if TYPE_CHECKING:
    from flame.protocol.client import ClientStream

Outcome = bytes | TaskError | None
"""What became of a task: its output, or why there is none."""


class Part(msgspec.Struct, frozen=True, gc=False):
    """Results [first, first + count) of a segment: those that belong to one sink."""

    source: "Attachment"
    segment: Segment
    first: int
    count: int

    def outcomes(self) -> list[Outcome]:
        """Output or error of each task, by id."""
        segment = self.segment
        lengths, blob, states = segment.lengths, segment.blob, segment.states
        if self.count != segment.count:
            start = self.first - segment.first
            if lengths:
                lengths, blob = chunk.slice_columns(lengths, blob, start, self.count)
            states = states[start : start + self.count]
        if not states:
            if segment.state is TaskState.SUCCEED:
                return chunk.unpack(lengths, blob)  # type: ignore[return-value]
            states = bytes([segment.state]) * self.count
        # Without lengths the blob is the payload of every task: why all of them failed.
        payloads = chunk.unpack(lengths, blob) if lengths else [blob or None] * self.count
        return [
            payload if state == TaskState.SUCCEED else error_of(task, TaskState(state), payload)
            for task, state, payload in zip(range(self.first, self.first + self.count), states, payloads, strict=True)
        ]


def error_of(task: int, state: TaskState, payload: bytes | None) -> TaskError:
    """The error of a task that did not succeed."""
    if state is TaskState.CANCELLED:
        return TaskCancelled(f"task {task} was cancelled")
    record = FailureRecord.decode(payload or b"")
    return TaskFailed(record.message, task_id=task, type=record.type, traceback=record.traceback)


class Sink(Protocol):
    """Who takes results: the futures of a session, a `map`, a reader."""

    def deliver(self, part: Part) -> bool:
        """Take results; return whether they are consumed. If not, `part.source.consumed(part)` follows."""

    def fail(self, first: int, count: int, error: FlameError) -> None:
        """No results will come for these tasks."""


class Attachment:
    """One attachment to a session; alone it is a reader's.

    Args:
        stream: the stream it belongs to.
        number: its number, never used again on this connection.
        session_id: the session's name; with `create` it may be empty.
        key: random key of the submitter.
        create: spec of a new session.
        after: results with a higher sequence are wanted.
        sink: takes the results.
    """

    submit = False

    def __init__(
        self,
        stream: "ClientStream",
        number: int,
        *,
        session_id: str,
        key: str,
        create: SessionSpec | None = None,
        after: int = 0,
        sink: Sink,
    ) -> None:
        self.stream = stream
        self.number = number
        self.session_id = session_id
        self.key = key
        self.create = create
        self.sink = sink
        self.attached: SessionAttached | None = None
        self.live = False
        self.error: FlameError | None = None
        self.state = SessionState.OPEN
        self.warning = ""
        self.received = after
        self._acknowledged = after
        self._held: dict[int, tuple[int, int]] = {}
        """Segments that cannot be acknowledged yet, by sequence: parts not consumed, and bytes."""

    # --- handshake ---------------------------------------------------------------------------------------------------

    def request(self) -> AttachSession:
        """What attaches it, the first time and after every reconnect."""
        self._held.clear()
        self._acknowledged = self.received
        return AttachSession(
            attachment=self.number,
            session_id=self.session_id,
            key=self.key,
            create=self.create,
            submit=self.submit,
            after=self.received,
        )

    def on_attached(self, message: SessionAttached) -> None:
        """The session manager answered."""
        if self.attached is not None and message.session != self.attached.session:
            self.stream.detach(self)
            self.end(NotFound(f"session {self.session_id} was deleted, and another one has its name now"))
            return
        if self.attached is None:
            self.attached = message
            self.session_id, self.create = message.session_id, None
        self.state = message.state
        self._warn(message.warning)
        self.live = True

    def on_changed(self, message: SessionChanged) -> None:
        """The session was closed, or its warning changed."""
        self.state = message.state
        self._warn(message.warning)

    def _warn(self, text: str) -> None:
        if text and text != self.warning:
            self.stream.warnings.append((self.session_id, text))
        self.warning = text

    def lost(self) -> None:
        """The link is over."""
        self.live = False

    def mend(self) -> None:
        """A call was broken off at any point; there is nothing to make whole where nothing is submitted."""

    def end(self, error: FlameError) -> None:
        """It is over for good."""
        if self.error is None:
            self.error = error
            self.live = False
            self.fail_unfinished(error)

    def disown(self, error: FlameError) -> None:
        """It belongs to another process: nothing is done to it, every further use fails."""
        self.error = error
        self.live = False

    def fail_unfinished(self, error: FlameError) -> None:
        """Tell who waits for results."""
        self.sink.fail(0, 0, error)

    def send(self, message: PeerMessage) -> None:
        """Send where there is a link; else what has to be repeated is repeated after the next attach."""
        if self.live:
            self.stream.outbox.append(message)

    # --- results -----------------------------------------------------------------------------------------------------

    def on_segment(self, segment: Segment) -> None:
        """Results arrived."""
        if segment.sequence <= self.received:
            return
        self.received = segment.sequence
        held = self.dispatch(segment)
        nbytes = len(segment.blob) + TASK_OVERHEAD_BYTES * (2 + len(segment.lengths) // 4)
        if self._held or (held and not self.stream.waiting):
            self._held[segment.sequence] = (held, nbytes)
            self.stream.holding[self.number] = self
        else:
            self.stream.credit(nbytes)

    def dispatch(self, segment: Segment) -> int:
        """Hand results to whom they belong; return how many parts are held."""
        return 0 if self.sink.deliver(Part(self, segment, segment.first, segment.count)) else 1

    def consumed(self, part: Part) -> None:
        """A part that was held is consumed."""
        entry = self._held.get(part.segment.sequence)
        if entry is None:
            return
        self._held[part.segment.sequence] = (entry[0] - 1, entry[1])
        # Only a prefix can be acknowledged: what is behind a held segment is credited with it.
        nbytes = 0
        for sequence, (parts, size) in list(self._held.items()):
            if parts:
                break
            nbytes += size
            del self._held[sequence]
        if not self._held:
            self.stream.holding.pop(self.number, None)
        self.stream.credit(nbytes)

    def release(self) -> None:
        """Acknowledge what is held although it is not consumed: somebody waits for results."""
        nbytes = sum(entry[1] for entry in self._held.values())
        self._held.clear()
        self.stream.credit(nbytes)

    def acknowledge(self) -> None:
        """Send what can be acknowledged."""
        sequence = next(iter(self._held)) - 1 if self._held else self.received
        if sequence > self._acknowledged:
            self._acknowledged = sequence
            self.send(AcknowledgeSegments(attachment=self.number, sequence=sequence))
