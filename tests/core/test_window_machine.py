"""The window of results between the core and the client's half, as Hypothesis sees it.

The core's real accounting sends segments to a real client half; a sink consumes them in any order, late or never, and
links are lost. However that goes: each result is delivered once and in order, the core never has more under way than
the window and one segment, and once everything is consumed it may send again. A leak of credit on either side would
end in a client that waits for ever.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flame.core.control.effects import ReadSegments, SendToClient
from flame.core.control.entities import Attachment as Window
from flame.core.control.entities import Session, Settings
from flame.core.control.outcomes import _deliver, catch_up, on_acknowledge_segments, on_segments_read
from flame.core.control.state import State, Turn
from flame.model.client_messages import AcknowledgeSegments, Segment, SessionAttached
from flame.model.errors import FlameError
from flame.model.limits import KIB, RESULT_WINDOW_BYTES
from flame.model.messages import Welcome
from flame.model.records import SegmentRecord, SessionRecord
from flame.model.resources import Resources
from flame.model.specs import SessionSpec
from flame.model.states import SessionState, TaskState
from flame.protocol.client import ClientStream
from flame.protocol.client_attachment import Attachment, Part

LINK = 1
SPEC = SessionSpec(application="a")
SETTINGS = Settings(
    max_task_bytes=1 << 22,
    lease_ms=1,
    start_timeout_ms=1,
    enter_timeout_ms=1,
    delay_release_ms=1,
    low_space_bytes=0,
    default_resources=Resources(),
    resident_input_bytes=1,
    result_window_bytes=RESULT_WINDOW_BYTES,
)


class Later:
    """A sink that consumes what it got when it is told to."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.sequences: list[int] = []

    def deliver(self, part: Part) -> bool:
        self.sequences.append(part.segment.sequence)
        self.parts.append(part)
        return False

    def fail(self, first: int, count: int, error: FlameError) -> None:
        raise AssertionError(f"{count} tasks from {first} fail: {error}")


class WindowMachine(RuleBasedStateMachine):
    """A session manager's window, a client's half, and the link between them."""

    def __init__(self) -> None:
        super().__init__()
        record = SessionRecord(number=1, name="s", spec=SPEC, state=SessionState.OPEN, created_ms=1)
        self.state = State(settings=SETTINGS, epoch=1, started_ms=0)
        self.session = Session(record=record, resources=Resources())
        self.stored: list[SegmentRecord] = []
        self.sink = Later()
        self.stream = ClientStream("test")
        self.client = Attachment(self.stream, 1, session_id="s", key="k", sink=self.sink)
        self.stream.attach(self.client)
        self.down: list[Segment] = []
        self.waiting = False
        self.connect()

    # --- the link ---

    def connect(self) -> None:
        """A new link: the client says what it has seen."""
        self.down.clear()
        self.stream.lost()
        self.stream.opened()
        self.stream.received(Welcome(store_id="x", epoch=1))
        self.stream.outbox.clear()
        self.window = Window(link=LINK, number=1, session=self.session, block=None, sent=self.client.received)
        self.window.due = len(self.stored)
        self.window.behind = self.window.sent < self.window.due
        self.state.attachments = {(LINK, 1): self.window}
        self.session.attachments = [self.window]
        self.stream.received(
            SessionAttached(attachment=1, session=1, session_id="s", spec=SPEC, last_sequence=len(self.stored))
        )
        turn = Turn(1)
        catch_up(self.state, turn, self.window)
        self.perform(turn)

    def perform(self, turn: Turn) -> None:
        """Carry out what the core decided."""
        effects = [*turn.now, *turn.after_commit]
        while effects:
            effect = effects.pop(0)
            if isinstance(effect, SendToClient):
                assert isinstance(effect.message, Segment)
                self.down.append(effect.message)
            elif isinstance(effect, ReadSegments):
                left, read = effect.limit_bytes, []
                for segment in self.stored[effect.after :]:
                    read.append(segment)
                    left -= len(segment.blob)
                    if left <= 0:
                        break
                turn = Turn(1)
                on_segments_read(self.state, turn, LINK, 1, read, effect.through)
                effects += [*turn.now, *turn.after_commit]

    def flush(self) -> None:
        """What the client says arrives."""
        outbox = list(self.stream.outbox)
        self.stream.outbox.clear()
        for message in outbox:
            if isinstance(message, AcknowledgeSegments):
                assert message.sequence <= self.client.received
                turn = Turn(1)
                on_acknowledge_segments(self.state, turn, LINK, message)
                self.perform(turn)

    # --- what happens ---

    @rule(sizes=st.lists(st.integers(0, 900), min_size=1, max_size=8))
    def finish(self, sizes: list[int]) -> None:
        """Tasks end: one segment for each size, in KiB."""
        for size in sizes:
            number = len(self.stored) + 1
            segment = SegmentRecord(
                session=1,
                sequence=number,
                first=number,
                count=1,
                state=TaskState.SUCCEED,
                states=b"",
                lengths=(size * KIB).to_bytes(4, "little"),
                blob=bytes(size * KIB),
                finished_ms=1,
            )
            self.stored.append(segment)
            turn = Turn(1)
            _deliver(self.state, turn, self.window, segment)
            self.perform(turn)

    @precondition(lambda self: self.down)
    @rule(count=st.integers(1, 10))
    def arrive(self, count: int) -> None:
        """Segments reach the client."""
        for segment in self.down[:count]:
            self.stream.received(segment)
        del self.down[:count]
        self.flush()

    @precondition(lambda self: self.sink.parts)
    @rule(data=st.data())
    def consume(self, data: st.DataObject) -> None:
        """Some of what is held is consumed, in any order."""
        for _ in range(data.draw(st.integers(1, 6))):
            if self.sink.parts:
                part = self.sink.parts.pop(data.draw(st.integers(0, len(self.sink.parts) - 1)))
                part.source.consumed(part)
        self.flush()

    @rule()
    def wait_or_not(self) -> None:
        """Somebody begins to wait for results, or no longer does."""
        if self.waiting:
            self.stream.end_wait()
        else:
            self.stream.begin_wait()
        self.waiting = not self.waiting
        self.flush()

    @rule()
    def cut(self) -> None:
        """The link is lost, and comes back."""
        self.connect()

    # --- what always holds ---

    @invariant()
    def each_result_comes_once_and_in_order(self) -> None:
        """The sink sees 1, 2, 3, ..."""
        assert self.sink.sequences == list(range(1, len(self.sink.sequences) + 1))

    @invariant()
    def no_more_than_a_window_is_under_way(self) -> None:
        """And one segment, which may be larger than what was left of it."""
        assert self.window.unseen_bytes == sum(nbytes for _, nbytes in self.window.unseen)
        assert self.window.unseen_bytes <= RESULT_WINDOW_BYTES + 901 * KIB

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        """A client that has consumed all that came, and to which nothing is under way, has all there is."""
        if not self.down and not self.sink.parts:
            assert len(self.sink.sequences) == len(self.stored)


TestWindow = WindowMachine.TestCase
TestWindow.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
