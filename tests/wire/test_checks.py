"""What a message has to fulfil is the same whatever it was decoded from."""

from types import ModuleType as Codec
from typing import Any

import msgspec
import pytest

from flame.model.client_messages import CancelTasks, Segment, SubmitChunk
from flame.model.errors import InvalidArgument, Rejection
from flame.model.executor_messages import AssignTasks, AttachExecutor, Outcome, ReportOutcomes, TasksRetracted
from flame.model.limits import (
    CREDIT_TASKS,
    MAX_CAPABILITIES,
    MAX_CHUNK_TASKS,
    MAX_HELD_RANGES,
    MAX_PROCESSES_PER_NODE,
    MAX_TASK_ID,
)
from flame.model.messages import Hello, Refused, Role
from flame.model.node_messages import ExecutorExited, ExecutorReport, JoinNode, PingNode
from flame.model.ranges import HeldRange
from flame.model.resources import Resources
from flame.model.states import TaskState
from flame.wire import codec, packing
from flame.wire.checks import cannot_encode, check_of, checker

CHUNK = SubmitChunk(attachment=1, first=1, count=2, lengths=b"\1\0\0\0\2\0\0\0", blob=b"abb")


@pytest.fixture(params=[codec, packing], ids=["protobuf", "msgpack"])
def wire(request: pytest.FixtureRequest) -> Codec:
    module: Codec = request.param
    return module


REPORT = ExecutorReport(executor="e", binding=1, session=1)
EXIT = ExecutorExited(executor="e", binding=1, session=1)
OUTCOME = Outcome(attempt=1, first=1, count=2, state=TaskState.SUCCEED)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (msgspec.structs.replace(CHUNK, first=0), "no range of tasks"),
        (msgspec.structs.replace(CHUNK, count=0, lengths=b""), "no range of tasks"),
        (msgspec.structs.replace(CHUNK, count=-1), "count"),
        (msgspec.structs.replace(CHUNK, first=MAX_TASK_ID - 1), "no range of tasks"),
        (msgspec.structs.replace(CHUNK, lengths=b"1234567"), "lengths of 2 tasks have 7 bytes"),
        (msgspec.structs.replace(CHUNK, lengths=b""), "lengths of 2 tasks have 0 bytes"),
        (msgspec.structs.replace(CHUNK, count=1025, lengths=bytes(4100)), "over the limit of 1024"),
        (CancelTasks(attachment=1, request=1, first=5, count=0), "no range of tasks"),
        (AttachExecutor(executor="e", binding=-5, session=1), "binding"),
        (AttachExecutor(executor="e", binding=1, session=1, held=(HeldRange(1, 0, 1),)), "HeldRange: no range"),
        (PingNode(-1), "sent_ns"),
        (OUTCOME.__class__(attempt=1, first=1, count=2, state=TaskState.RUNNING), "RUNNING is not an outcome"),
        (msgspec.structs.replace(OUTCOME, states=b"\2"), "1 states for 2 tasks"),
        (msgspec.structs.replace(OUTCOME, states=b"\2\1"), "not an outcome"),
        (msgspec.structs.replace(OUTCOME, blob=b"x"), "lengths of 2 tasks"),
    ],
)
def test_malformed_data_is_refused_with_what_is_wrong(wire: Codec, message: Any, complaint: str) -> None:
    if isinstance(message, Outcome):
        message = ReportOutcomes(report=1, outcomes=(message,))
    with pytest.raises(InvalidArgument, match=complaint):
        wire.decode_peer(wire.encode(message))


def test_the_edges_of_a_chunk_are_accepted(wire: Codec) -> None:
    chunk = SubmitChunk(
        attachment=1,
        first=MAX_TASK_ID - MAX_CHUNK_TASKS,
        count=MAX_CHUNK_TASKS,
        lengths=bytes(4 * MAX_CHUNK_TASKS),
        blob=b"",
    )
    assert wire.decode_peer(wire.encode(chunk)) == chunk


def test_a_cancelled_segment_may_be_longer_than_a_chunk(wire: Codec) -> None:
    segment = Segment(attachment=1, sequence=1, first=1, count=1_000_000, state=TaskState.CANCELLED)
    assert wire.decode_manager(wire.encode(segment)) == segment


@pytest.mark.parametrize("count", [1, 2, MAX_CHUNK_TASKS + 1])
def test_a_blob_without_lengths_is_shared_by_the_tasks_of_a_segment(wire: Codec, count: int) -> None:
    segment = Segment(attachment=1, sequence=1, first=1, count=count, state=TaskState.FAILED, blob=b"reason")
    assert wire.decode_manager(wire.encode(segment)) == segment


def test_a_blob_with_lengths_in_a_segment_has_one_for_each_task(wire: Codec) -> None:
    segment = Segment(attachment=1, sequence=1, first=1, count=2, state=TaskState.FAILED, lengths=bytes(4), blob=b"r")
    with pytest.raises(InvalidArgument, match="lengths of 2 tasks have 4 bytes"):
        wire.decode_manager(wire.encode(segment))


@pytest.mark.parametrize("state", [TaskState.SUCCEED, TaskState.FAILED, TaskState.CANCELLED])
def test_a_blob_without_lengths_is_refused_in_an_outcome(wire: Codec, state: TaskState) -> None:
    outcome = msgspec.structs.replace(OUTCOME, state=state, blob=b"reason")
    with pytest.raises(InvalidArgument, match="Outcome: the lengths of 2 tasks have 0 bytes"):
        wire.decode_peer(wire.encode(ReportOutcomes(report=1, outcomes=(outcome,))))


def test_a_blob_without_lengths_is_refused_in_an_assignment(wire: Codec) -> None:
    message = AssignTasks(attempt=1, first=1, count=1, lengths=b"", blob=b"x")
    with pytest.raises(InvalidArgument, match="AssignTasks: the lengths of 1 tasks have 0 bytes"):
        wire.decode_manager(wire.encode(message))


def test_ranges_within_optional_and_nested_lists_are_checked(wire: Codec) -> None:
    report = ExecutorReport(executor="e", binding=1, session=1, held=(HeldRange(1, 1, 0),))
    message = JoinNode(node="n", instance="i", capacity=Resources(), executors=(report,))
    with pytest.raises(InvalidArgument, match="HeldRange: no range of tasks"):
        wire.decode_peer(wire.encode(message))


@pytest.mark.parametrize(
    "message",
    [
        Hello(role=Role.CLIENT, capabilities=("x",) * (MAX_CAPABILITIES + 1)),
        AttachExecutor(executor="e", binding=1, session=1, held=(HeldRange(1, 1, 1),) * (CREDIT_TASKS + 1)),
        ReportOutcomes(report=1, outcomes=(OUTCOME,) * (CREDIT_TASKS + 1)),
        TasksRetracted(request=1, ranges=(HeldRange(1, 1, 1),) * (CREDIT_TASKS + 1)),
        JoinNode(node="n", instance="i", capacity=Resources(), executors=(REPORT,) * (MAX_PROCESSES_PER_NODE + 1)),
        JoinNode(node="n", instance="i", capacity=Resources(), exits=(EXIT,) * (MAX_PROCESSES_PER_NODE + 1)),
        JoinNode(
            node="n",
            instance="i",
            capacity=Resources(),
            executors=(msgspec.structs.replace(REPORT, held=(HeldRange(1, 1, 1),) * (MAX_HELD_RANGES + 1)),),
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_lists_of_peers_are_bounded(wire: Codec, message: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"of length <= \d+|over the limit of \d+"):
        wire.decode_peer(wire.encode(message))


def test_lists_of_peers_may_be_as_long_as_their_bound(wire: Codec) -> None:
    outcomes = (OUTCOME,) * CREDIT_TASKS
    held = (HeldRange(1, 1, 1),) * MAX_HELD_RANGES
    for message in (
        ReportOutcomes(report=1, outcomes=outcomes),
        JoinNode(node="n", instance="i", capacity=Resources(), executors=(msgspec.structs.replace(REPORT, held=held),)),
    ):
        assert wire.decode_peer(wire.encode(message)) == message


def test_a_struct_without_ranges_has_no_check() -> None:
    assert check_of(PingNode) is None
    assert checker(PingNode) is None
    assert checker(JoinNode) is not None


def test_an_error_of_our_own_is_kept_when_a_message_cannot_be_sent() -> None:
    own = InvalidArgument("cpu is -1")
    assert cannot_encode(PingNode(1), own) is own
    assert "Refused cannot be sent: x" in str(cannot_encode(Refused(Rejection("ABORTED", "x")), ValueError("x")))
