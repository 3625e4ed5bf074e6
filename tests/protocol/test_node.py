"""The node's half: joining, the lease, exits that are kept, timeouts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.model.errors import FailureRecord, InvalidArgument, Rejection, Unavailable
from flame.model.executor_messages import EnterSession
from flame.model.limits import LEAVE_TIMEOUT_MS
from flame.model.messages import Refused, Welcome
from flame.model.node_messages import (
    AcknowledgeExit,
    BindExecutor,
    EndExecutor,
    ExecutorExited,
    ExecutorReport,
    ExecutorStarted,
    JoinNode,
    NodeJoined,
    PingNode,
    PongNode,
)
from flame.model.ranges import HeldRange
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec
from flame.protocol.node import KillExecutor, NodeHalf, NodeIdentity, StartExecutor
from flame.protocol.shared_table import CURRENT, TABLE_BYTES, Phase, SharedTable

MS = 1_000_000
WELCOME = Welcome(store_id="s", epoch=3)


def bind(executor: str = "e", binding: int = 1, **options: int) -> BindExecutor:
    return BindExecutor(
        executor=executor, binding=binding, session=7, session_id="x", application="app",
        spec=ApplicationSpec(service="m:S"), resources=Resources(cpu=1), **options,
    )  # fmt: skip


def make_node() -> NodeHalf:
    return NodeHalf(NodeIdentity(node="n", instance="i", capacity=Resources(cpu=2)))


def joined(now_ms: int = 0, lease_ms: int = 600) -> NodeHalf:
    node = make_node()
    node.received(WELCOME, now_ms * MS)
    node.received(NodeJoined(lease_ms=lease_ms), now_ms * MS)
    return node


def started(node: NodeHalf, executor: str = "e", **options: int) -> SharedTable:
    node.received(bind(executor, **options), 0)
    table = SharedTable(memoryview(bytearray(TABLE_BYTES)))
    node.opened(executor, 1, table, "/log")
    node.started(executor, 1, 50)
    return table


def test_a_bind_starts_once_and_its_exit_is_kept_until_acknowledged() -> None:
    node = joined()
    assert node.received(bind(), 0) == [StartExecutor(bind(), "s", 3)]
    assert node.received(bind(), 0) == []
    table = SharedTable(memoryview(bytearray(TABLE_BYTES)))
    node.opened("e", 1, table, "/log")
    assert node.started("e", 1, 50) == [ExecutorStarted(executor="e", binding=1, pid=50, log_path="/log")]
    table.enter_phase(Phase.BOUND, 0)
    table.words[CURRENT] = 12
    exit = ExecutorExited(executor="e", binding=1, session=7, signal=6, current=12, entered=True)
    assert node.exited("e", 1, 0, signal=6) == [exit]
    assert node.received(bind(), 0) == []
    node.disconnected()
    (join,) = node.received(WELCOME, 0)
    assert isinstance(join, JoinNode)
    assert join.exits == (exit,)
    node.received(AcknowledgeExit(executor="e", binding=1), 0)
    assert not node.exits


def test_a_join_tells_what_executors_hold() -> None:
    node = joined()
    table = started(node)
    table.enter_phase(Phase.BOUND, 0)
    table.hold([HeldRange(4, 5, 6)])
    node.disconnected()
    assert node.started("e", 1, 51) == []
    (join,) = node.received(WELCOME, 0)
    assert isinstance(join, JoinNode)
    assert join.executors == (
        ExecutorReport(
            executor="e", binding=1, session=7, pid=51, held=(HeldRange(4, 5, 6),), entered=True, log_path="/log"
        ),
    )


def test_a_join_seals_what_executors_hold() -> None:
    node = joined()
    table = started(node)
    assert (table.sealed(2), table.sealed(3)) == (True, False)
    node.disconnected()
    node.received(Welcome(store_id="s", epoch=5), 0)
    assert (table.sealed(4), table.sealed(5)) == (True, False)


def test_the_lease_counts_from_the_sending_of_the_ping() -> None:
    node = joined(now_ms=1000)
    assert node.lease_end_ns == 1600 * MS
    assert node.tick(1100 * MS) == [PingNode(1100 * MS)]
    assert node.tick(1150 * MS) == []
    node.received(PongNode(1100 * MS), 1500 * MS)
    assert node.lease_end_ns == 1700 * MS
    node.received(PongNode(1000 * MS), 1500 * MS)
    assert node.lease_end_ns == 1700 * MS


@given(st.lists(st.tuples(st.integers(0, 10_000), st.booleans()), max_size=30))
def test_the_lease_never_ends_later_than_its_last_answered_ping(steps: list[tuple[int, bool]]) -> None:
    node = joined()
    started(node, start_timeout_ms=1_000_000)
    now_ms, answered_ms = 0, 0
    for step_ms, answers in steps:
        now_ms += step_ms
        sent = node.tick(now_ms * MS)
        killed = KillExecutor("e", 1) in sent
        assert killed == (now_ms >= answered_ms + 600)
        for message in sent:
            if isinstance(message, PingNode) and answers:
                node.received(PongNode(message.sent_ns), now_ms * MS)
                answered_ms = now_ms
    assert node.lease_end_ns == (answered_ms + 600) * MS


def test_another_store_waits_for_the_end_of_the_former_ones_executors() -> None:
    node = joined()
    started(node)
    node.disconnected()
    assert node.received(Welcome(store_id="new", epoch=1), 0) == [KillExecutor("e", 1)]
    (join,) = node.exited("e", 1, 0, signal=9)
    assert isinstance(join, JoinNode)
    assert (join.executors, join.exits) == ((), ())
    assert node.received(bind("f"), 0) == [StartExecutor(bind("f"), "new", 1)]


@pytest.mark.parametrize(
    "message",
    [
        Welcome(store_id="s", epoch=2),
        Refused(Rejection("ABORTED", "replaced")),
        EnterSession(session=1, session_id="x", application="a"),
    ],
)
def test_what_ends_a_link(message: Welcome | Refused | EnterSession) -> None:
    node = joined()
    node.disconnected()
    with pytest.raises((Unavailable, InvalidArgument)):
        node.received(message, 0)


def test_an_executor_with_a_path_as_its_name_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="executor name"):
        joined().received(bind("../e"), 0)


def test_end_executor() -> None:
    node = joined()
    started(node)
    assert node.received(EndExecutor(executor="e", binding=1, grace_ms=50), 0) == [KillExecutor("e", 1, 50)]
    assert node.received(EndExecutor(executor="e", binding=1, grace_ms=50), 0) == []
    assert node.received(EndExecutor(executor="e", binding=1), 0) == [KillExecutor("e", 1)]
    assert node.received(EndExecutor(executor="other", binding=1), 0) == []
    (exit,) = node.exited("e", 1, 0, signal=15)
    assert isinstance(exit, ExecutorExited)
    assert exit.failure == b""


@pytest.mark.parametrize("cause", ["stop", "lease", "end"])
def test_what_the_node_ended_is_no_death_of_a_task(cause: str) -> None:
    node = joined()
    table = started(node, start_timeout_ms=1_000_000)
    table.enter_phase(Phase.BOUND, 0)
    table.words[CURRENT] = 12
    if cause == "stop":
        node.stop()
    elif cause == "lease":
        assert KillExecutor("e", 1) in node.tick(600 * MS)
    else:
        node.received(EndExecutor(executor="e", binding=1, grace_ms=50), 0)
    exit = ExecutorExited(executor="e", binding=1, session=7, signal=9, entered=True, killed=True)
    assert node.exited("e", 1, 0, signal=9) == [exit]


@pytest.mark.parametrize("phase", [Phase.IMPORTING, Phase.BOUND])
def test_an_executor_that_went_with_its_host_is_not_to_blame_and_names_what_ran(phase: Phase) -> None:
    node = joined()
    table = started(node)
    table.enter_phase(phase, 0)
    if phase is Phase.BOUND:
        table.words[CURRENT] = 5
    (exit,) = node.exited("e", 1, 0, signal=9, killed=True)
    assert isinstance(exit, ExecutorExited)
    assert (exit.killed, exit.current, exit.failure) == (True, table.current, b"")


def test_what_went_with_its_host_after_its_node_ended_it_names_nothing() -> None:
    node = joined()
    table = started(node)
    table.words[CURRENT] = 5
    node.stop()
    (exit,) = node.exited("e", 1, 0, signal=9, killed=True)
    assert isinstance(exit, ExecutorExited)
    assert (exit.killed, exit.current) == (True, 0)


def test_a_node_that_stops_starts_nothing() -> None:
    node = joined()
    node.stop()
    assert node.received(bind(), 0) == []


@pytest.mark.parametrize(
    ("attached", "phase", "expected"),
    [
        (False, Phase.STARTING, "was not attached 100 ms"),
        (True, Phase.IMPORTING, "the import of m:S did not end within 200 ms"),
        (True, Phase.ENTERING, "session enter of m:S did not end within 200 ms"),
        (True, Phase.WAITING, None),
        (True, Phase.BOUND, None),
        (True, Phase.LEAVING, ""),
    ],
)
def test_timeouts(attached: bool, phase: Phase, expected: str | None) -> None:
    node = joined(lease_ms=1_000_000)
    table = started(node, start_timeout_ms=100, enter_timeout_ms=200)
    table.enter_phase(phase, 0)
    if attached:
        table.set_attached()
    late_ns = (LEAVE_TIMEOUT_MS + 1) * MS
    kills = [action for action in node.tick(late_ns) if isinstance(action, KillExecutor)]
    assert len(kills) == (expected is not None)
    (exit,) = node.exited("e", 1, 0, signal=9)
    assert isinstance(exit, ExecutorExited)
    assert exit.killed == (expected == "")
    if expected:
        assert expected in FailureRecord.decode(exit.failure).message
        assert "/log" in FailureRecord.decode(exit.failure).message
    elif phase >= Phase.BOUND:
        assert exit.failure == b""


def test_a_start_that_failed_tells_why() -> None:
    node = joined()
    node.received(bind(), 0)
    (exit,) = node.exited("e", 1, 0, failure="no room")
    assert isinstance(exit, ExecutorExited)
    assert FailureRecord.decode(exit.failure).message == "no room"
