"""Every message survives the wire, and nothing malformed gets through it."""

import contextlib
import random
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flame.model.errors import InvalidArgument, Rejection
from flame.model.limits import MAX_CHUNK_TASKS, MAX_TASK_ID
from flame.model.messages import (
    AcknowledgeReport,
    AssignTasks,
    AttachExecutor,
    AttachSession,
    Call,
    CancelTasks,
    EnterSession,
    ExecutorExited,
    ExecutorReport,
    HeldRange,
    Hello,
    JoinNode,
    Outcome,
    PeerMessage,
    PingNode,
    PongNode,
    Reply,
    ReportOutcomes,
    Role,
    Segment,
    SubmitChunk,
    Welcome,
)
from flame.model.resources import Resources
from flame.model.specs import SessionSpec
from flame.model.states import TaskState
from flame.wire import codec
from flame.wire.gen import session_manager_pb2 as gen
from tests.wire.samples import MANAGER_KINDS, PEER_KINDS, structs

FUZZ = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
CHUNK = SubmitChunk(attachment=1, first=1, count=2, lengths=b"\1\0\0\0\2\0\0\0", blob=b"abb")


@pytest.mark.parametrize("kind", PEER_KINDS)
def test_peer_messages_come_back_equal(kind: type[msgspec.Struct]) -> None:
    @given(structs(kind))
    @FUZZ
    def check(message: Any) -> None:
        assert codec.decode_peer(codec.encode(message)) == message
        assert list(codec.decode_peer_batch(codec.join_envelopes([codec.encode(message)] * 2))) == [message] * 2

    check()


@pytest.mark.parametrize("kind", MANAGER_KINDS)
def test_manager_messages_come_back_equal(kind: type[msgspec.Struct]) -> None:
    @given(structs(kind))
    @FUZZ
    def check(message: Any) -> None:
        assert codec.decode_manager(codec.encode(message)) == message
        assert list(codec.decode_manager_batch(codec.join_envelopes([codec.encode(message)] * 2))) == [message] * 2

    check()


@pytest.mark.parametrize("kind", [*PEER_KINDS, *MANAGER_KINDS])
def test_messages_are_declared_with_the_fields_of_their_structs(kind: type[msgspec.Struct]) -> None:
    declared = getattr(gen, f"{kind.__name__}Message").DESCRIPTOR.fields_by_name
    assert tuple(declared) == kind.__struct_fields__


@pytest.mark.parametrize(
    ("present", "absent"),
    [
        (EnterSession(session=1, session_id="s", application="a", common_data=b""), {"common_data": None}),
        (ExecutorExited(executor="e", binding=1, session=1, exit_code=0), {"exit_code": None}),
        (AttachSession(attachment=1, session_id="", key="k", create=SessionSpec(application="")), {"create": None}),
    ],
)
def test_absent_is_not_empty(present: Any, absent: dict[str, Any]) -> None:
    decode: Any = codec.decode_manager if isinstance(present, EnterSession) else codec.decode_peer
    for message in (present, msgspec.structs.replace(present, **absent)):
        assert decode(codec.encode(message)) == message


def test_an_unreadable_table_is_not_an_empty_one() -> None:
    reports = tuple(
        ExecutorReport(executor="e", binding=1, session=1, held=held) for held in (None, (), (HeldRange(1, 2, 3),))
    )
    message = JoinNode(node="n", instance="i", capacity=Resources(), executors=reports)
    assert codec.decode_peer(codec.encode(message)) == message


OUTCOME = Outcome(attempt=1, first=1, count=2, state=TaskState.SUCCEED)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (msgspec.structs.replace(CHUNK, first=0), "no range of tasks"),
        (msgspec.structs.replace(CHUNK, count=0, lengths=b""), "no range of tasks"),
        (msgspec.structs.replace(CHUNK, count=-1), "count is negative"),
        (msgspec.structs.replace(CHUNK, first=MAX_TASK_ID - 1), "no range of tasks"),
        (msgspec.structs.replace(CHUNK, lengths=b"1234567"), "lengths of 2 tasks have 7 bytes"),
        (msgspec.structs.replace(CHUNK, lengths=b""), "lengths of 2 tasks have 0 bytes"),
        (msgspec.structs.replace(CHUNK, count=1025, lengths=bytes(4100)), "over the limit of 1024"),
        (CancelTasks(attachment=1, request=1, first=5, count=0), "no range of tasks"),
        (AttachExecutor(executor="e", binding=-5, session=1), "binding is negative"),
        (AttachExecutor(executor="e", binding=1, session=1, held=(HeldRange(1, 0, 1),)), "HeldRange: no range"),
        (PingNode(-1), "sent_ns is negative"),
        (OUTCOME.__class__(attempt=1, first=1, count=2, state=TaskState.RUNNING), "RUNNING is not an outcome"),
        (msgspec.structs.replace(OUTCOME, states=b"\2"), "1 states for 2 tasks"),
        (msgspec.structs.replace(OUTCOME, states=b"\2\1"), "not an outcome"),
        (msgspec.structs.replace(OUTCOME, blob=b"x"), "lengths of 2 tasks"),
    ],
)
def test_malformed_data_is_refused_with_what_is_wrong(message: Any, complaint: str) -> None:
    if isinstance(message, Outcome):
        message = ReportOutcomes(report=1, outcomes=(message,))
    with pytest.raises(InvalidArgument, match=complaint):
        codec.decode_peer(codec.encode(message))


def test_the_edges_of_a_chunk_are_accepted() -> None:
    chunk = SubmitChunk(
        attachment=1,
        first=MAX_TASK_ID - MAX_CHUNK_TASKS,
        count=MAX_CHUNK_TASKS,
        lengths=bytes(4 * MAX_CHUNK_TASKS),
        blob=b"",
    )
    assert codec.decode_peer(codec.encode(chunk)) == chunk


def test_a_cancelled_segment_may_be_longer_than_a_chunk() -> None:
    segment = Segment(attachment=1, sequence=1, first=1, count=1_000_000, state=TaskState.CANCELLED)
    assert codec.decode_manager(codec.encode(segment)) == segment


@pytest.mark.parametrize("count", [1, 2, MAX_CHUNK_TASKS + 1])
def test_a_blob_without_lengths_is_shared_by_the_tasks_of_a_segment(count: int) -> None:
    segment = Segment(attachment=1, sequence=1, first=1, count=count, state=TaskState.FAILED, blob=b"reason")
    assert codec.decode_manager(codec.encode(segment)) == segment


def test_a_blob_with_lengths_in_a_segment_has_one_for_each_task() -> None:
    segment = Segment(attachment=1, sequence=1, first=1, count=2, state=TaskState.FAILED, lengths=bytes(4), blob=b"r")
    with pytest.raises(InvalidArgument, match="lengths of 2 tasks have 4 bytes"):
        codec.decode_manager(codec.encode(segment))


@pytest.mark.parametrize("state", [TaskState.SUCCEED, TaskState.FAILED, TaskState.CANCELLED])
def test_a_blob_without_lengths_is_refused_in_an_outcome(state: TaskState) -> None:
    outcome = msgspec.structs.replace(OUTCOME, state=state, blob=b"reason")
    with pytest.raises(InvalidArgument, match="Outcome: the lengths of 2 tasks have 0 bytes"):
        codec.decode_peer(codec.encode(ReportOutcomes(report=1, outcomes=(outcome,))))


def test_a_blob_without_lengths_is_refused_in_an_assignment() -> None:
    message = AssignTasks(attempt=1, first=1, count=1, lengths=b"", blob=b"x")
    with pytest.raises(InvalidArgument, match="AssignTasks: the lengths of 1 tasks have 0 bytes"):
        codec.decode_manager(codec.encode(message))


def test_a_number_that_does_not_fit_cannot_be_sent() -> None:
    with pytest.raises(InvalidArgument, match="PingNode cannot be sent"):
        codec.encode(PingNode(1 << 63))


def test_text_that_is_no_unicode_cannot_be_sent() -> None:
    with pytest.raises(InvalidArgument, match="Hello cannot be sent"):
        codec.encode(Hello(role=Role.CLIENT, software="\ud800"))


def test_an_unknown_message_is_from_a_newer_version() -> None:
    with pytest.raises(InvalidArgument, match="newer version"):
        codec.decode_peer(b"\xfa\x3e\x00")  # field 1007 of the envelope
    with pytest.raises(InvalidArgument, match="newer version"):
        codec.decode_manager(b"")


def test_an_unknown_enum_value_is_refused() -> None:
    data = gen.PeerEnvelope(hello=gen.HelloMessage(role=9)).SerializeToString()  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="Hello: role: 9"):
        codec.decode_peer(data)


def test_unknown_fields_are_skipped() -> None:
    data = codec.encode(AcknowledgeReport(7))
    inner = data[2:] + b"\xfa\x3e\x01x"
    assert codec.decode_manager(data[:1] + bytes([len(inner)]) + inner) == AcknowledgeReport(7)


@given(st.binary(max_size=100), st.integers(0, 1 << 30))
@settings(deadline=None)
def test_random_bytes_are_a_message_or_a_flame_error(data: bytes, seed: int) -> None:
    spoiled = bytearray(codec.encode(CHUNK))
    spoiled[random.Random(seed).randrange(len(spoiled))] = seed % 256
    for candidate in (data, bytes(spoiled)):
        for decode in (
            codec.decode_peer,
            codec.decode_manager,
            lambda data: list(codec.decode_peer_batch(data)),
            lambda data: list(codec.decode_manager_batch(data)),
            codec.decode_hello,
            codec.decode_welcome,
        ):
            with contextlib.suppress(InvalidArgument):
                decode(candidate)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_decoded(wrap: Any) -> None:
    assert codec.decode_peer(wrap(codec.encode(CHUNK))) == CHUNK
    assert isinstance(codec.decode_peer(wrap(codec.encode(CHUNK))).blob, bytes)  # type: ignore[union-attr]


def test_a_joined_batch_is_the_declared_one() -> None:
    messages = [PongNode(at) for at in range(5)] + [AcknowledgeReport(1)]
    large = AssignTasks(attempt=1, first=1, count=1, lengths=bytes(4), blob=bytes(70_000))
    envelopes = [codec.encode(message) for message in [*messages, large]]
    parsed = [gen.ManagerEnvelope.FromString(envelope) for envelope in envelopes]
    assert codec.join_envelopes(envelopes) == gen.ManagerBatch(envelopes=parsed).SerializeToString()


LARGE = bytes(range(256)) * 1024


@pytest.mark.parametrize(
    "message",
    [
        msgspec.structs.replace(CHUNK, blob=LARGE, attributes=b"a"),
        AssignTasks(attempt=1 << 32, first=1, count=1, lengths=bytes(4), blob=LARGE),
        Segment(attachment=1, sequence=2, first=3, count=1, state=TaskState.FAILED, lengths=bytes(4), blob=LARGE),
        Call(id=1, method="/m", payload=LARGE),
        Reply(id=1, payload=LARGE, error=Rejection("ABORTED", "x")),
        EnterSession(session=1, session_id="s", application="a", common_data=LARGE),
        ReportOutcomes(
            report=4,
            outcomes=(
                msgspec.structs.replace(OUTCOME, lengths=bytes(8), blob=LARGE),
                msgspec.structs.replace(OUTCOME, first=9, states=b"\2\4"),
                msgspec.structs.replace(OUTCOME, first=20, lengths=bytes(8), blob=LARGE, busy_ns=5),
            ),
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_large_payload_is_sent_without_a_copy(message: Any) -> None:
    parts = codec.encode_parts(message)
    payloads = [outcome.blob for outcome in getattr(message, "outcomes", ())] or [
        getattr(message, name, None) for name in ("blob", "payload", "common_data")
    ]
    for payload in filter(None, payloads):
        assert any(part is payload for part in parts)
    decode: Any = codec.decode_peer if isinstance(message, get_args(PeerMessage)) else codec.decode_manager
    assert decode(b"".join(parts)) == message
    assert codec.encode(message) == b"".join(parts)


def test_handshake_messages_stand_alone() -> None:
    hello = Hello(role=Role.NODE, software="x/1", capabilities=("a", "b"), store_id="s", epoch=3)
    welcome = Welcome(store_id="s", epoch=4, frames_endpoint="unix:///x", max_task_bytes=9)
    assert codec.decode_hello(codec.encode_hello(hello)) == hello
    assert codec.decode_welcome(codec.encode_welcome(welcome)) == welcome
    with pytest.raises(InvalidArgument):
        codec.decode_hello(b"\xff")
