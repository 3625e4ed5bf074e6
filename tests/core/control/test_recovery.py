"""Recovery: what a store holds is what there was, and executors are asked for what they hold."""

import pytest

from flame.model.client_messages import CancelTasks, SessionAttached
from flame.model.executor_messages import AssignTasks
from flame.model.limits import BLOCK_TASKS, RECONNECT_GRACE_MS
from flame.model.ranges import HeldRange
from flame.model.states import SessionState
from tests.core.harness import Core, assigned_ranges, one_session


def test_sessions_counts_blocks_and_sequences_come_back() -> None:
    core = one_session(cpu=1, tasks=20)
    core.attach("b", "app-000001", create=None)
    core.submit("b", BLOCK_TASKS + 1, 5)
    core.start("1-1")
    core.report("1-1", 2)
    core.client("a", CancelTasks(attachment=1, request=1, first=15, count=3))
    before = core.session("app-000001")
    core.restart()
    after = core.session("app-000001")
    assert (after.succeeded, after.cancelled, after.last_sequence) == (2, 3, before.last_sequence)
    assert after.unfinished == before.unfinished == 20
    core.attach("b", key="b", create=None)
    (attached,) = core.sent(SessionAttached)[-1:]
    assert (attached.first, attached.next_id) == (BLOCK_TASKS + 1, BLOCK_TASKS + 6)


def test_attempts_after_a_restart_are_newer_than_all_before() -> None:
    core = one_session(cpu=1, tasks=20)
    core.start("1-1")
    before = core.held("1-1")[0].attempt
    core.restart()
    assert core.state.next_attempt() > before


def test_nothing_is_handed_out_before_every_executor_is_accounted_for() -> None:
    core = one_session(cpu=2, tasks=20)
    core.start_all()
    first, second = core.held("1-1"), core.held("1-2")
    core.restart()
    core.take()
    core.start("1-1", held=first, entered=True)
    core.report("1-1")
    assert not core.sent(AssignTasks)
    core.start("1-2", held=second, entered=True)
    assert core.sent(AssignTasks)
    given = {task for start, count in assigned_ranges(core.sent(AssignTasks)) for task in range(start, start + count)}
    assert not given & {1, 2, 3, 4}, "what runs is not given out again"


@pytest.mark.parametrize("unreadable", [False, True])
def test_a_node_answers_for_its_executors_and_one_with_an_unreadable_table_is_waited_for(unreadable: bool) -> None:
    core = one_session(cpu=2, tasks=20)
    core.start_all()
    reports = [core.listed("1-1", core.held("1-1")), core.listed("1-2", None if unreadable else core.held("1-2"))]
    core.restart()
    core.join(executors=tuple(reports))
    core.advance(RECONNECT_GRACE_MS)
    assert bool(core.session("app-000001").unaccounted) == unreadable
    assert core.session("app-000001").held_tasks == (2 if unreadable else 4)


def test_a_new_node_gets_executors_as_soon_as_those_of_before_are_accounted_for() -> None:
    core = one_session(cpu=1, tasks=20)
    core.start("1-1")
    held = core.held("1-1")
    core.restart()
    core.join("n2", cpu=3)
    assert len(core.state.executors) == 1
    core.start("1-1", held=held, entered=True)
    assert len(core.state.executors) == 3, "as many as the node has room for, its own included"


def test_payloads_are_read_back_also_for_tasks_that_come_back_when_all_others_are_done() -> None:
    core = one_session(cpu=2, tasks=2)
    core.submit("a", 3, 2, attributes=b"a chunk of its own")
    core.start("1-1")
    held = core.held("1-1")
    assert [(part.first, part.count) for part in held] == [(1, 2)]
    core.restart()
    core.join(cpu=2, executors=(core.listed("1-1", held),))
    core.start("1-1", held=held, entered=True)
    (other,) = core.start_all()
    core.report(other)
    core.report(other)
    assert core.session("app-000001").queue.tasks == 0
    core.exit("1-1", signal=9, current=1)
    for _ in range(3):
        core.report(other)
    assert core.session("app-000001").unfinished == 0


def test_a_closed_session_finishes_what_its_executors_still_run_and_nothing_else() -> None:
    core = one_session(cpu=1, tasks=10)
    core.start("1-1")
    held = core.held("1-1")
    core.close("app-000001")
    core.restart()
    session = core.session("app-000001")
    assert session.record.state is SessionState.CLOSED
    still = [HeldRange(held[0].attempt, 1, 1)]
    core.join(cpu=1, executors=(core.listed("1-1", still),))
    core.start("1-1", held=still, entered=True)
    core.report("1-1")
    assert (session.succeeded, session.cancelled, session.unfinished) == (1, 9, 0)
    core.exit("1-1", left=True)
    assert not core.state.live


def test_what_nobody_holds_of_a_closed_session_is_cancelled_after_the_grace() -> None:
    core = one_session(cpu=1, tasks=10)
    core.start("1-1")
    core.close("app-000001")
    core.restart()
    core.advance(RECONNECT_GRACE_MS)
    session = core.session("app-000001")
    assert (session.cancelled, session.unfinished) == (10, 0)


def test_deaths_are_remembered() -> None:
    core = one_session(cpu=1, tasks=1)
    core.start("1-1")
    core.exit("1-1", signal=6, current=1)
    core.restart()
    assert core.session("app-000001").deaths == {1: 1}


def test_a_recovered_cluster_without_executors_waits_for_nobody() -> None:
    core = Core()
    core.attach("a")
    core.submit("a", 1, 3)
    core.restart()
    core.join(cpu=1)
    core.start_all()
    assert core.sent(AssignTasks)
