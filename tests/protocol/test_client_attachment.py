"""Results of an attachment: each once, with the right state, and acknowledged when they are consumed."""

import msgspec
import pytest

from flame.model.chunk import pack_optional
from flame.model.client_messages import AcknowledgeSegments, DetachSession, Segment, SessionAttached
from flame.model.errors import FailureRecord, NotFound, TaskCancelled, TaskFailed
from flame.model.messages import Welcome
from flame.model.specs import SessionSpec
from flame.model.states import SessionState, TaskState
from flame.protocol.client import ACKNOWLEDGE_BYTES, ClientStream
from flame.protocol.client_attachment import Attachment, Part
from flame.protocol.client_submission import Submission
from tests.protocol.test_client import Collector, Wire


def _attachment(sink: Collector, after: int = 0) -> Attachment:
    stream = ClientStream()
    return stream.attach(Attachment(stream, 1, session_id="s", key="k", after=after, sink=sink))


def _segment(sequence: int, first: int, values: list[bytes | None], states: bytes = b"") -> Segment:
    lengths, blob = pack_optional(values)
    return Segment(
        attachment=1,
        sequence=sequence,
        first=first,
        count=len(values),
        state=TaskState.SUCCEED,
        states=states,
        lengths=lengths,
        blob=blob,
    )


def test_results_that_were_seen_are_dropped() -> None:
    sink = Collector()
    attachment = _attachment(sink, after=3)
    for sequence in (2, 3, 5, 5, 4):
        attachment.on_segment(_segment(sequence, 10 * sequence, [b"x"]))
    assert sink.outcomes == {50: b"x"}
    assert attachment.request().after == 5


def test_a_mixed_segment_gives_each_task_its_outcome_also_in_part() -> None:
    failure = FailureRecord("no", type="ValueError", traceback="Traceback ...").encode()
    states = bytes([TaskState.SUCCEED, TaskState.FAILED, TaskState.CANCELLED, TaskState.SUCCEED])
    segment = _segment(1, 7, [b"a", failure, b"", None], states)
    attachment = _attachment(Collector())
    a, failed, cancelled, none = Part(attachment, segment, 7, 4).outcomes()
    assert (a, none) == (b"a", None)
    assert isinstance(cancelled, TaskCancelled)
    assert isinstance(failed, TaskFailed)
    assert (failed.task_id, failed.type, failed.message, failed.traceback) == (8, "ValueError", "no", "Traceback ...")
    tail = Part(attachment, segment, 9, 2).outcomes()
    assert [type(outcome) for outcome in tail] == [TaskCancelled, type(None)]


def test_a_long_cancelled_range_needs_no_columns() -> None:
    segment = Segment(attachment=1, sequence=1, first=1, count=5000, state=TaskState.CANCELLED)
    outcomes = Part(_attachment(Collector()), segment, 4000, 3).outcomes()
    assert [str(outcome) for outcome in outcomes] == [f"task {task} was cancelled" for task in (4000, 4001, 4002)]


def test_a_failure_that_is_no_record_is_not_hidden() -> None:
    segment = _segment(1, 1, [b"\xffgarbage"], bytes([TaskState.FAILED]))
    (outcome,) = Part(_attachment(Collector()), segment, 1, 1).outcomes()
    assert "garbage" in str(outcome)


def test_a_new_warning_is_told_once() -> None:
    stream = ClientStream()
    attachment = stream.attach(Attachment(stream, 1, session_id="s", key="k", sink=Collector()))
    for _ in range(2):
        attachment.on_attached(
            SessionAttached(
                attachment=1, session=1, session_id="s", spec=SessionSpec(application="a"), warning="fits no node"
            )
        )
    assert stream.warnings == [("s", "fits no node")]
    assert attachment.warning == "fits no node"
    assert attachment.state is SessionState.OPEN


def test_a_reconnect_asks_for_what_was_not_seen() -> None:
    wire = Wire()
    sink = Collector()
    block = wire.submission(sink)
    wire.manager.hold_results = True
    block.add(b"a")
    wire.settle()
    wire.manager.run_pending(wire.manager.sessions["session-1"])
    wire.manager.hold_results = False
    wire.manager.deliver()
    wire.down.clear()  # the result is lost on the way
    wire.cut()
    wire.settle()
    assert sink.outcomes == {1: b"A"}


@pytest.mark.parametrize("kind", [Attachment, Submission])
def test_another_session_that_has_the_name_by_now_is_not_taken_for_it(kind: type[Attachment]) -> None:
    stream, sink = ClientStream(), Collector()
    attachment = stream.attach(kind(stream, 1, session_id="s", key="k", sink=sink))
    stream.opened()
    stream.received(Welcome(store_id="s", epoch=1))
    attached = SessionAttached(
        attachment=1, session=3, session_id="s", first=1, next_id=1, spec=SessionSpec(application="a")
    )
    stream.received(attached)
    if isinstance(attachment, Submission):
        attachment.add(b"x")
    stream.lost()
    stream.opened()
    stream.received(Welcome(store_id="s", epoch=1))
    stream.received(msgspec.structs.replace(attached, session=4))
    assert isinstance(attachment.error, NotFound)
    assert "another one has its name" in attachment.error.message
    assert stream.outbox[-1] == DetachSession(attachment=1)
    stream.received(_segment(8, 1, [b"not ours"]))
    assert b"not ours" not in sink.outcomes.values()


def test_why_a_whole_segment_failed_is_stored_once_and_is_every_tasks_error() -> None:
    reason = FailureRecord("the executor died").encode()
    segment = Segment(attachment=1, sequence=1, first=5, count=100, state=TaskState.FAILED, blob=reason)
    source = _attachment(Collector())
    for first, count in ((5, 100), (70, 3)):
        outcomes = Part(source, segment, first, count).outcomes()
        assert [type(outcome) for outcome in outcomes] == [TaskFailed] * count
        assert [outcome.task_id for outcome in outcomes] == list(range(first, first + count))  # type: ignore[union-attr]
        assert {outcome.message for outcome in outcomes} == {"the executor died"}  # type: ignore[union-attr]


def _large(sequence: int) -> Segment:
    return _segment(sequence, sequence, [bytes(ACKNOWLEDGE_BYTES)])


def _acknowledged(stream: ClientStream) -> list[int]:
    sent = [message.sequence for message in stream.outbox if isinstance(message, AcknowledgeSegments)]
    stream.outbox.clear()
    return sent


def test_only_what_stands_before_everything_held_is_acknowledged() -> None:
    sink = Collector(consume=False)
    attachment = _attachment(sink)
    stream = attachment.stream
    attachment.live = True
    for segment in (_segment(1, 1, [b"x"]), _segment(2, 2, [b"x"]), _large(3), _large(4)):
        attachment.on_segment(segment)
    first, second, third, fourth = sink.parts
    attachment.consumed(third)
    attachment.consumed(second)
    assert _acknowledged(stream) == [], "the first is held"
    attachment.consumed(first)
    assert _acknowledged(stream) == [3], "what was consumed behind it counts now, though the first is small"
    attachment.consumed(fourth)
    assert _acknowledged(stream) == [4]
    assert not stream.holding


def test_what_is_consumed_at_once_behind_a_held_segment_waits_for_it() -> None:
    sink = Collector(consume=False)
    attachment = _attachment(sink)
    stream = attachment.stream
    attachment.live = True
    attachment.on_segment(_segment(1, 1, [b"x"]))
    sink.consume = True
    attachment.on_segment(_large(2))
    assert _acknowledged(stream) == []
    attachment.consumed(sink.parts[0])
    assert _acknowledged(stream) == [2]
