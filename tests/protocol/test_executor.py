"""The executor's half, under every interleaving of its two threads that Hypothesis can think of."""

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.model.errors import Aborted, InvalidArgument, Rejection, Unavailable
from flame.model.executor_messages import (
    AcknowledgeReport,
    AssignTasks,
    AttachExecutor,
    EnterSession,
    LeaveSession,
    ReportOutcomes,
    RetractTasks,
    SessionEntered,
    SessionLeft,
    TasksRetracted,
)
from flame.model.limits import MAX_CHUNK_TASKS, MIB
from flame.model.messages import Message, Refused, Welcome
from flame.model.node_messages import PongNode
from flame.model.ranges import HeldRange
from flame.model.states import TaskState
from flame.protocol.executor import MAX_UNACKNOWLEDGED_BYTES, ExecutorHalf
from flame.protocol.shared_table import CURRENT, TABLE_BYTES, Phase, SharedTable


def make_half(**options: object) -> ExecutorHalf:
    table = SharedTable(memoryview(bytearray(TABLE_BYTES)))
    return ExecutorHalf(executor="e", binding=9, session=7, pid=5, table=table, **options)  # type: ignore[arg-type]


def assign(first: int, count: int, attempt: int) -> AssignTasks:
    return AssignTasks(
        attempt=attempt, first=first, count=count, lengths=array("I", [1] * count).tobytes(), blob=b"x" * count
    )


def attached(**options: object) -> ExecutorHalf:
    half = make_half(**options)
    half.received(Welcome(store_id="s", epoch=3, max_task_bytes=100))
    half.succeeded()
    return half


class Main:
    """The main thread, cut into the steps between which the control thread may act."""

    def __init__(self, half: ExecutorHalf) -> None:
        self.half = half
        self.step = "turn"
        self.task = 0
        self.now_ns = 0
        self.ran: list[int] = []

    def act(self) -> list[Message]:
        half = self.half
        self.now_ns += 10
        match self.step:
            case "turn":
                messages = half.turn(self.now_ns)
                if half.active:
                    self.step, self.task = "claim", half.active.next
                return messages
            case "claim":
                assert half.active
                if self.task >= len(half.active.offsets) - 1 + half.active.base:
                    self.step = "turn"
                else:
                    half._table.words[CURRENT] = self.task
                    self.step = "check"
            case "check":
                self.step = "turn" if self.task >= half.limit[0] else "run"
            case "run":
                assert half.active
                half.active.started_ns = self.now_ns
                self.ran.append(self.task)
                if self.task % 5 == 0:
                    half.active.failed.append(self.task)
                half.active.outputs.append(b"%d" % self.task if self.task % 3 else None)
                self.task += 1
                self.step = "claim"
        return []


class Peer:
    """A session manager that remembers what it handed out."""

    def __init__(self, half: ExecutorHalf) -> None:
        self.half = half
        self.next = 1
        self.attempt = 0
        self.assigned: set[int] = set()
        self.given: list[int] = []
        self.reports: dict[int, ReportOutcomes] = {}
        self.acknowledged = 0

    def hear(self, messages: list[Message]) -> None:
        for message in messages:
            match message:
                case ReportOutcomes(report=number):
                    assert self.reports.setdefault(number, message) == message
                case TasksRetracted(ranges=ranges):
                    for held in ranges:
                        self.given.extend(range(held.first, held.first + held.count))
                case AttachExecutor(held=ranges):
                    assert tasks_of(ranges) == self.expected_held()

    def expected_held(self) -> set[int]:
        acknowledged = {
            task
            for number, report in self.reports.items()
            if number <= self.acknowledged
            for outcome in report.outcomes
            for task in range(outcome.first, outcome.first + outcome.count)
        }
        return self.assigned - set(self.given) - acknowledged

    def reported(self) -> list[int]:
        return [
            task
            for report in self.reports.values()
            for outcome in report.outcomes
            for task in range(outcome.first, outcome.first + outcome.count)
        ]


def tasks_of(ranges: tuple[HeldRange, ...] | None) -> set[int]:
    assert ranges is not None
    found = [task for held in ranges for task in range(held.first, held.first + held.count)]
    assert len(found) == len(set(found))
    return set(found)


actions = st.lists(
    st.one_of(
        st.just(("main",)),
        st.just(("main",)),
        st.tuples(st.just("mains"), st.integers(2, 30)),
        st.tuples(st.just("assign"), st.integers(1, 9)),
        st.tuples(st.just("retract"), st.integers(0, 12), st.integers(1, 12)),
        st.just(("acknowledge",)),
        st.just(("reconnect",)),
    ),
    max_size=80,
)


@given(actions)
@settings(max_examples=300)
def test_each_task_is_run_and_reported_once_or_given_back(script: list[tuple[object, ...]]) -> None:
    half = attached()
    main, peer = Main(half), Peer(half)
    for name, *values in script:
        match name, values:
            case "main", _:
                peer.hear(main.act())
            case "mains", [int(count)]:
                for _ in range(count):
                    peer.hear(main.act())
            case "assign", [int(count)]:
                peer.attempt += 1
                peer.assigned |= set(range(peer.next, peer.next + count))
                peer.hear(half.received(assign(peer.next, count, peer.attempt)))
                peer.next += count
            case "retract", [int(back), int(count)]:
                first = max(1, peer.next - back)
                ranges = tuple(HeldRange(attempt, first, count) for attempt in range(1, peer.attempt + 1))
                peer.hear(half.received(RetractTasks(request=1, ranges=ranges)))
            case "acknowledge", _:
                peer.acknowledged = max(peer.reports, default=0)
                peer.hear(half.received(AcknowledgeReport(peer.acknowledged)))
            case "reconnect", _:
                half.disconnected()
                peer.hear(main.act())
                peer.hear(half.received(Welcome(store_id="s", epoch=3)))
        held = half._table.held()
        assert held is None or tasks_of(held) == peer.expected_held()
    for _ in range(3000):
        if half.idle and half.drained and main.step == "turn":
            break
        peer.hear(main.act())
        peer.acknowledged = max(peer.reports, default=0)
        peer.hear(half.received(AcknowledgeReport(peer.acknowledged)))
    reported = peer.reported()
    assert sorted(reported + peer.given) == sorted(peer.assigned)
    assert main.ran == reported
    assert half._table.held() == ()
    assert half._table.current == 0


def test_a_lone_task_is_reported_at_once_and_the_rest_together() -> None:
    half = attached()
    main = Main(half)
    half.received(assign(1, 10, 1))
    sent: list[Message] = []
    while not sent:
        sent = main.act()
    assert [outcome.count for outcome in sent[0].outcomes] == [1]  # type: ignore[union-attr]
    for _ in range(15):
        assert main.act() == []
    (report,) = half.received(AcknowledgeReport(1))
    assert isinstance(report, ReportOutcomes)
    assert report.report == 2
    assert report.outcomes[0].first == 2


def test_columns_tell_failures_and_none() -> None:
    half = attached()
    half.received(assign(1, 3, 1))
    half.turn(100)
    assert half.active
    half.limit[0] = half.active.end
    half.active.outputs += [None, b"ab", b"{}"]
    half.active.failed.append(3)
    (report,) = half.turn(400)
    assert isinstance(report, ReportOutcomes)
    (outcome,) = report.outcomes
    assert (outcome.state, outcome.states) == (TaskState.SUCCEED, bytes([2, 2, 3]))
    assert array("I", outcome.lengths).tolist() == [0xFFFFFFFF, 2, 2]
    assert outcome.blob == b"ab{}"
    assert outcome.busy_ns == 300


def test_reports_are_cut_when_a_chunk_is_full() -> None:
    half = attached()
    half.received(assign(1, MAX_CHUNK_TASKS, 1))
    half.received(assign(5000, MAX_CHUNK_TASKS, 2))
    half.received(assign(9000, 2, 3))
    half.turn(1)
    assert half.active
    half.active.outputs.append(b"")
    assert len(half.turn(2)) == 1
    half.active.outputs += [b""] * (MAX_CHUNK_TASKS - 1)
    assert half.turn(3) == []
    half.active.outputs += [b""] * MAX_CHUNK_TASKS
    (report,) = half.turn(4)
    assert [outcome.count for outcome in report.outcomes] == [MAX_CHUNK_TASKS - 1, MAX_CHUNK_TASKS]  # type: ignore[union-attr]


def test_no_task_starts_above_the_bound_of_unacknowledged_bytes() -> None:
    half = attached()
    half.received(assign(1, 100, 1))
    produced = 0
    for now in range(100):
        half.turn(now)
        if half.active is None:
            break
        half.active.outputs.append(bytes(MIB))
        half.active.large_bytes += MIB
        produced += MIB
    assert MAX_UNACKNOWLEDGED_BYTES == 8 * MIB
    assert MAX_UNACKNOWLEDGED_BYTES <= produced <= MAX_UNACKNOWLEDGED_BYTES + 2 * MIB
    half.received(AcknowledgeReport(1000))
    half.turn(1000)
    assert half.active


def test_leaving_gives_back_what_is_unstarted() -> None:
    half = attached()
    main = Main(half)
    half.received(assign(1, 5, 1))
    half.received(assign(6, 5, 2))
    for _ in range(3):
        main.act()
    assert half.received(LeaveSession()) == [TasksRetracted(request=0, ranges=(HeldRange(1, 2, 4), HeldRange(2, 6, 5)))]
    assert half.received(assign(20, 2, 3)) == [TasksRetracted(request=0, ranges=(HeldRange(3, 20, 2),))]
    messages = [message for _ in range(4) for message in main.act()]
    assert [message.report for message in messages] == [1]  # type: ignore[union-attr]
    assert half.idle
    assert half.left(b"") == [SessionLeft()]
    assert not half.drained
    half.disconnected()
    assert half.received(Welcome(store_id="s", epoch=3)) == [
        AttachExecutor(executor="e", binding=9, session=7, held=(HeldRange(1, 1, 1),), entered=True, pid=5),
        *messages,
        SessionLeft(),
    ]
    half.received(AcknowledgeReport(1))
    assert half.drained


def test_what_comes_late_from_a_former_session_manager_is_dropped() -> None:
    half = attached()
    table = half._table
    half.received(assign(1, 2, attempt=20))
    table.seal(4)  # its node has joined the next session manager
    assert half.received(assign(10, 5, attempt=21)) == []
    assert table.held() == (HeldRange(20, 1, 2),)
    half.disconnected()
    (attach,) = half.received(Welcome(store_id="s", epoch=4))
    assert isinstance(attach, AttachExecutor)
    assert attach.held == (HeldRange(20, 1, 2),)
    half.received(assign(10, 5, attempt=22))
    assert table.held() == (HeldRange(20, 1, 2), HeldRange(22, 10, 5))


def test_the_table_tells_that_a_report_was_acknowledged() -> None:
    half = attached()
    main = Main(half)
    half._table.enter_phase(Phase.BOUND, 0)
    half.received(assign(1, 3, attempt=20))
    while not any(isinstance(message, ReportOutcomes) for message in main.act()):
        pass
    half._table.words[CURRENT] = 0
    assert half._table.charged == 1
    half.received(AcknowledgeReport(1))
    assert half._table.charged == 0


def test_a_failure_to_enter_is_said_again() -> None:
    half = make_half()
    assert half.enter_failed(b"{}") == []
    assert SessionEntered(b"{}") in half.received(Welcome(store_id="s", epoch=1))


def test_enter_comes_once() -> None:
    half = make_half()
    first = EnterSession(session=7, session_id="a", application="x")
    half.received(first)
    half.received(EnterSession(session=7, session_id="b", application="x"))
    assert half.enter == first


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Welcome(store_id="other", epoch=9), Aborted),
        (Welcome(store_id="s", epoch=2), Unavailable),
        (Refused(Rejection("ABORTED", "replaced")), Aborted),
        (Refused(Rejection("UNAVAILABLE", "starting")), Unavailable),
        (PongNode(1), InvalidArgument),
        (AssignTasks(attempt=1, first=1, count=2, lengths=b"1234", blob=b""), InvalidArgument),
        (AssignTasks(attempt=1, first=1, count=1, lengths=b"\1\0\0\0", blob=b""), InvalidArgument),
        (AssignTasks(attempt=1, first=1, count=0, lengths=b"", blob=b""), InvalidArgument),
    ],
)
def test_what_ends_a_stream(message: Message, error: type[Exception]) -> None:
    half = make_half(store_id="s", epoch=3)
    assert (half.hello().store_id, half.hello().epoch) == ("s", 3)
    with pytest.raises(error):
        half.received(message)
    assert not half.connected


@pytest.mark.parametrize(
    ("code", "charged"), [("INVALID_ARGUMENT", 2), ("ABORTED", 0), ("FAILED_PRECONDITION", 0), ("UNAVAILABLE", 4)]
)
def test_a_refusal_is_charged_to_whoever_may_have_spoiled_the_stream_and_else_to_nobody(
    code: str, charged: int
) -> None:
    half = attached()
    half._table.enter_phase(Phase.BOUND, 1)
    half.received(assign(first=1, count=5, attempt=1))
    main = Main(half)
    while len(main.ran) < 2:
        main.act()
    half.received(AcknowledgeReport(1))
    while half._table.current != 4:
        main.act()
    with pytest.raises((Aborted, Unavailable)):
        half.received(Refused(Rejection(code, "bytes that are no message")))
    assert half._table.charged == charged


@pytest.mark.parametrize("word", [(1 << 64) - 1, int.from_bytes(b"\0garbage", "little")])
def test_one_whose_shared_memory_was_written_over_ends_when_it_is_given_tasks(word: int) -> None:
    half = attached()
    half._table.enter_phase(Phase.BOUND, 1)
    half._table.words[:] = memoryview(array("Q", [word] * (TABLE_BYTES // 8)))
    with pytest.raises(Aborted, match="written over the memory"):
        half.received(assign(first=1, count=5, attempt=1))
    assert half._table.charged == 1
