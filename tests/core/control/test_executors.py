"""Executors that report, die, leave and lie."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from flame.core.control.effects import DropExecutorLink
from flame.core.control.events import ExecutorLost, ExecutorSaid
from flame.model.chunk import unpack
from flame.model.client_messages import CancelTasks, ChunkAcknowledged, Segment, TasksCancelled
from flame.model.errors import FailureRecord
from flame.model.executor_messages import (
    AcknowledgeReport,
    AssignTasks,
    AttachExecutor,
    LeaveSession,
    Outcome,
    ReportOutcomes,
    RetractTasks,
    SessionLeft,
)
from flame.model.limits import LEAVE_TIMEOUT_MS, MAX_HOST_ENDS, MAX_START_FAILURES
from flame.model.node_messages import BindExecutor, EndExecutor
from flame.model.ranges import HeldRange
from flame.model.states import ExecutorState, TaskState
from tests.core.harness import Core, assigned_ranges, one_session, outcome


def running(tasks: int = 10) -> Core:
    core = one_session(cpu=1, tasks=tasks)
    core.start("1-1")
    core.take()
    return core


def test_a_report_that_is_sent_again_counts_once_and_is_acknowledged_again() -> None:
    core = running()
    attempt = core.held("1-1")[0].attempt
    report = ReportOutcomes(report=1, outcomes=(outcome(attempt, 1, 2),))
    for _ in range(2):
        core.executor("1-1", report)
    assert core.session("app-000001").succeeded == 2
    assert len(core.sent(AcknowledgeReport)) == 2
    assert len(core.sent(Segment)) == 1


def test_a_stale_attempt_counts_for_nothing() -> None:
    core = running()
    attempt = core.held("1-1")[0].attempt
    core.executor("1-1", ReportOutcomes(report=1, outcomes=(outcome(attempt - 1, 1, 2), outcome(attempt + 9, 1, 2))))
    assert core.session("app-000001").succeeded == 0


def test_of_a_report_only_what_is_still_held_is_stored_with_its_own_outputs() -> None:
    core = one_session(cpu=1, tasks=100)
    core.start("1-1")
    core.report("1-1", each_us=1)
    (part,) = core.held("1-1")
    assert part == HeldRange(part.attempt, 3, 4)
    core.client("a", CancelTasks(attachment=1, request=1, first=4, count=1))
    (retract,) = core.sent(RetractTasks)
    core.give_back("1-1", retract.request, HeldRange(part.attempt, 4, 1))
    core.take()
    core.executor("1-1", ReportOutcomes(report=2, outcomes=(outcome(part.attempt, 3, 4),)))
    segments = core.sent(Segment)
    assert [(segment.first, unpack(segment.lengths, segment.blob)) for segment in segments] == [
        (3, [b"3"]),
        (5, [b"5", b"6"]),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"lengths": b"\1"},
        {"blob": b"too long for its lengths"},
        {"state": TaskState.RUNNING},
        {"state": TaskState.CANCELLED},
        {"states": b"\2"},
        {"states": b"\2\7"},
        {"count": 0},
        {"count": -1},
    ],
    ids=str,
)
def test_an_impossible_outcome_is_refused_and_stores_nothing(change: dict[str, Any]) -> None:
    core = running()
    good = outcome(core.held("1-1")[0].attempt, 1, 2)
    bad: Outcome = msgspec.structs.replace(good, **change)
    core.executor("1-1", ReportOutcomes(report=1, outcomes=(good, bad)))
    (drop,) = [effect for effect in core.effects if isinstance(effect, DropExecutorLink)]
    assert drop.error.code == "INVALID_ARGUMENT"
    assert core.session("app-000001").succeeded == 0


def test_what_was_sent_and_never_arrived_is_given_out_again() -> None:
    core = running()
    attempt = core.held("1-1")[0].attempt
    core.lose_executor("1-1")
    core.start("1-1", held=[HeldRange(attempt, 1, 1)], entered=True)
    first, second = core.held("1-1")
    assert first == HeldRange(attempt, 1, 1)
    assert (second.first, second.count) == (2, 1)
    assert second.attempt > attempt
    assert assigned_ranges(core.sent(AssignTasks)) == [(2, 1)]


def test_a_message_on_an_old_link_of_an_executor_is_not_heard() -> None:
    core = running()
    old, attempt = core.links["1-1"], core.held("1-1")[0].attempt
    core.start("1-1", held=core.held("1-1"), entered=True)
    report = ReportOutcomes(report=1, outcomes=(outcome(attempt, 1, 1),))
    core.turn(ExecutorSaid("1-1", core.binding("1-1").number, old, report))
    assert core.session("app-000001").succeeded == 0
    assert [effect.link for effect in core.effects if isinstance(effect, DropExecutorLink)] == [old]


def test_a_process_whose_binding_is_over_is_sent_away() -> None:
    core = running()
    number = core.binding("1-1").number
    core.exit("1-1", signal=9)
    core.turn(ExecutorSaid("1-1", number, 99, AttachExecutor(executor="1-1", binding=number, session=1)))
    drops = [effect for effect in core.effects if isinstance(effect, DropExecutorLink)]
    assert [drop.link for drop in drops] == [99]


def test_what_a_process_said_before_it_ended_is_heard_before_its_end() -> None:
    core = running()
    attempt, number = core.held("1-1")[0].attempt, core.binding("1-1").number
    link = core.links.pop("1-1")
    core.exit("1-1", signal=6, current=2)
    assert core.binding("1-1").exit is not None, "its link has not ended"
    report = ReportOutcomes(report=1, outcomes=(outcome(attempt, 1, 1),))
    core.turn(ExecutorSaid("1-1", number, link, report))
    core.advance(1_000)
    assert "1-1" not in core.state.executors, "an end that does not come is waited for a second"
    session = core.session("app-000001")
    assert (session.succeeded, session.deaths) == (1, {2: 1})


def test_a_leave_that_takes_too_long_ends_in_a_kill_but_never_of_a_running_task() -> None:
    core = one_session(cpu=1, tasks=4, lease_ms=10_000_000)
    core.start("1-1")
    core.close("app-000001")
    core.advance(10 * LEAVE_TIMEOUT_MS)
    assert not core.sent(EndExecutor), "it runs tasks of before"
    core.report("1-1")
    core.executor("1-1", SessionLeft())
    core.advance(LEAVE_TIMEOUT_MS)
    assert [end.executor for end in core.sent(EndExecutor)] == ["1-1"]


def test_an_executor_that_was_not_there_when_it_was_to_leave_is_told_when_it_comes_back() -> None:
    core = running(tasks=2)
    held = core.held("1-1")
    core.lose_executor("1-1")
    core.close("app-000001")
    assert not core.sent(LeaveSession)
    core.start("1-1", held=held, entered=True)
    assert len(core.sent(LeaveSession)) == 1
    assert core.state.executors["1-1"].state is ExecutorState.UNBINDING


def test_a_starting_executor_that_nobody_needs_is_ended_also_if_its_node_was_silent_then() -> None:
    core = one_session(cpu=1, tasks=1)
    core.close("app-000001")
    core.restart()
    core.start("1-1")
    core.take()
    core.join(cpu=1, executors=(core.listed("1-1", entered=False),))
    core.advance(LEAVE_TIMEOUT_MS)
    assert [end.executor for end in core.sent(EndExecutor)] == ["1-1"]


def test_what_its_node_killed_counts_neither_as_a_death_nor_as_a_failed_start() -> None:
    core = running()
    core.exit("1-1", signal=9, current=1, killed=True)
    session = core.session("app-000001")
    assert not session.deaths
    (executor,) = core.assigned()
    core.exit(executor, signal=9, killed=True, entered=False)
    assert session.start_failures == 0
    assert session.unfinished == 10
    assert len(core.assigned()) == 1, "another one starts at once"


def test_a_node_that_has_no_room_to_start_a_process_costs_a_pause_and_no_task() -> None:
    core = one_session(cpu=1, tasks=3)
    session = core.session("app-000001")
    failure = FailureRecord("executor cannot be started on this node: too many open files").encode()
    for _ in range(2 * MAX_START_FAILURES):
        (executor,) = session.bindings
        core.take()
        core.exit(executor, killed=True, entered=False, failure=failure)
        assert not core.sent(BindExecutor), "not at once"
        core.advance(1_000)
        assert len(core.sent(BindExecutor)) == 1
    assert session.start_failures == 0
    assert session.unfinished == 3


def test_what_runs_whenever_its_host_ends_fails_in_the_end() -> None:
    """It may be what ends its host, again and again, with all executors of the node."""
    core = running()
    session = core.session("app-000001")
    executor = "1-1"
    for number in range(1, MAX_HOST_ENDS):
        core.exit(executor, signal=9, current=1, killed=True)
        assert not session.deaths
        assert session.host_ends == {1: number}
        (executor,) = core.assigned()
        core.start(executor)
        core.take()
    core.exit(executor, signal=9, current=1, killed=True)
    (failed,) = core.sent(Segment)
    assert (failed.first, failed.count, failed.state) == (1, 1, TaskState.FAILED)
    assert b"forks executors from ended while this task ran, 10 times" in failed.blob
    assert not session.host_ends
    assert session.unfinished == 9


def test_an_attach_that_overtakes_the_loss_of_the_former_link_answers_the_cancels_that_wait_for_it() -> None:
    core = running()
    core.client("a", CancelTasks(attachment=1, request=7, first=1, count=10))
    assert core.sent(RetractTasks)
    assert not core.sent(TasksCancelled)
    held = core.held("1-1")
    core.start("1-1", held=held[:1], entered=True)
    assert [answer.request for answer in core.sent(TasksCancelled)] == [7]


def test_an_attach_that_comes_late_over_a_former_link_is_out_of_date() -> None:
    core = one_session(cpu=1, tasks=5)
    core.start("1-1")
    binding = core.binding("1-1")
    former = binding.link
    held = tuple(HeldRange(attempt, span.first, span.count) for attempt, h in binding.held.items() for span in h.spans)
    message = AttachExecutor(executor="1-1", binding=binding.number, session=1, held=held, entered=True)
    newer = former + 50
    core.turn(ExecutorSaid("1-1", binding.number, newer, message))
    core.take()
    late = msgspec.structs.replace(message, held=())
    core.turn(ExecutorSaid("1-1", binding.number, former, late), ExecutorLost("1-1", binding.number, former))
    (drop,) = [effect for effect in core.effects if isinstance(effect, DropExecutorLink)]
    assert (drop.link, drop.error.code) == (former, "UNAVAILABLE")
    assert binding.link == newer
    assert binding.held_tasks == sum(part.count for part in held)
    assert not core.sent(AssignTasks)


def lazily(core: Core, kind: type[Any]) -> list[bool]:
    """Whether each message of a kind may go last."""
    return [effect.lazy for effect in core.effects if isinstance(getattr(effect, "message", None), kind)]  # type: ignore[union-attr]


def test_only_an_acknowledgement_that_nobody_waits_for_goes_last() -> None:
    core = running(tasks=1)
    core.report("1-1")
    assert lazily(core, AcknowledgeReport) == [True], "the executor has nothing more to do"
    core = running(tasks=10)
    core.report("1-1", count=1)
    assert lazily(core, AcknowledgeReport)[0] is False, "it reports again only when it has been heard"


def test_a_chunk_is_acknowledged_last_only_if_it_may_run_at_once() -> None:
    core = running(tasks=1)
    core.submit("a", 2, 1)
    assert lazily(core, ChunkAcknowledged) == [True], "what runs it goes first"
    core.submit("a", 3, 30)
    core.submit("a", 33, 1)
    assert lazily(core, ChunkAcknowledged)[-1] is False, "it waits behind others"


def test_who_spoils_what_its_process_shares_with_the_node_is_found_out_and_does_not_start_storms() -> None:
    core = one_session(cpu=1, tasks=3)
    session = core.session("app-000001")
    starts_ms = []
    for _ in range(7):
        while not core.start_all():
            core.advance(5)
        starts_ms.append(core.now_ms)
        assert session.unfinished == 3
        core.exit(next(iter(session.bindings)), entered=True, current=7)  # nobody holds such a task
    assert (session.failed, session.unfinished) == (1, 2)
    pauses = [later - earlier for earlier, later in pairwise(starts_ms)]
    assert pauses[0] == 0
    assert pauses[1] >= 40
    assert min(pauses[4:]) >= 320
    while not core.start_all():
        core.advance(5)
    core.report(next(iter(session.bindings)))
    assert session.succeeded
    assert session.unexplained_ends == 0


def test_an_idle_executor_that_is_killed_is_nobodys_fault() -> None:
    core = one_session(cpu=1, tasks=1)
    session = core.session("app-000001")
    core.start_all()
    core.report("1-1")
    core.exit("1-1", signal=9, entered=True)
    assert session.unexplained_ends == 0
