"""Tasks come in: chunks are checked at every edge, single tasks have a block of their own, cancels are answered."""

from typing import Any

import pytest

from flame.core.control.effects import Answer
from flame.core.control.events import SpaceMeasured, TaskCreateRequested
from flame.model.chunk import pack
from flame.model.client_messages import CancelTasks, ChunkAcknowledged, ChunkRefused, TasksCancelled
from flame.model.executor_messages import RetractTasks
from flame.model.limits import BLOCK_TASKS, MAX_CHUNK_TASKS
from flame.model.ranges import HeldRange, Range
from flame.model.specs import SessionSpec
from tests.core.harness import Core, one_session


def test_a_chunk_may_be_as_large_as_the_limits() -> None:
    core = one_session()
    core.submit("a", 1, MAX_CHUNK_TASKS)
    core.submit("a", MAX_CHUNK_TASKS + 1, 1, nbytes=1000)
    assert [message.next_id for message in core.sent(ChunkAcknowledged)][-1] == MAX_CHUNK_TASKS + 2


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"count": MAX_CHUNK_TASKS + 1}, "INVALID_ARGUMENT"),
        ({"count": 1, "nbytes": 1001}, "OUT_OF_RANGE"),
        ({"count": 1, "first": 2}, "INVALID_ARGUMENT"),
        ({"count": 1, "first": 0}, "INVALID_ARGUMENT"),
    ],
    ids=str,
)
def test_a_chunk_over_a_limit_is_refused_and_nothing_is_stored(fields: dict[str, Any], code: str) -> None:
    core = one_session()
    core.take()
    core.submit("a", **({"first": 1} | fields))
    assert [refused.error.code for refused in core.sent(ChunkRefused)] == [code]
    assert not core.writes
    assert core.session("app-000001").unfinished == 0


def test_columns_that_do_not_fit_together_are_refused() -> None:
    from flame.model.client_messages import SubmitChunk

    for lengths, blob in ((b"\1\0\0\0", b"xx"), (b"\1\0", b"x"), (b"\1\0\0\0" * 2, b"xx")):
        core = one_session()
        core.client("a", SubmitChunk(attachment=1, first=1, count=1, lengths=lengths, blob=blob))
        assert [refused.error.code for refused in core.sent(ChunkRefused)] == ["INVALID_ARGUMENT"]


def test_single_tasks_have_a_block_of_their_own_also_after_a_restart() -> None:
    core = one_session()
    core.take()
    for _ in range(3):
        core.turn(TaskCreateRequested(request=1, session="app-000001", input=b"x"))
    core.restart()
    core.turn(TaskCreateRequested(request=1, session="app-000001", input=b"y"))
    tasks = [effect.task for effect in core.effects if isinstance(effect, Answer)]
    assert tasks == [BLOCK_TASKS + 1, BLOCK_TASKS + 2, BLOCK_TASKS + 3, BLOCK_TASKS + 4]
    assert core.store.read_inputs(1, BLOCK_TASKS + 4, 1) == pack([b"y"])


@pytest.mark.parametrize(
    ("session", "nbytes", "free", "code"),
    [
        ("app-000001", 1000, 1 << 40, None),
        ("app-000001", 1001, 1 << 40, "OUT_OF_RANGE"),
        ("other", 1, 1 << 40, "NOT_FOUND"),
        ("app-000001", 1, 10, "RESOURCE_EXHAUSTED"),
    ],
)
def test_a_single_task_is_checked_as_well(session: str, nbytes: int, free: int, code: str | None) -> None:
    core = one_session()
    core.turn(SpaceMeasured(free))
    core.take()
    core.turn(TaskCreateRequested(request=1, session=session, input=bytes(nbytes)))
    (answer,) = [effect for effect in core.effects if isinstance(effect, Answer)]
    assert (answer.error.code if answer.error else None) == code


def test_a_cancel_is_answered_when_every_executor_has_answered() -> None:
    core = one_session(cpu=2, tasks=20)
    core.start_all()
    core.take()
    core.client("a", CancelTasks(attachment=1, request=9, first=1, count=20))
    assert not core.sent(TasksCancelled)
    first, second = core.sent(RetractTasks)
    core.give_back("1-1", first.request)
    assert not core.sent(TasksCancelled)
    core.lose_executor("1-2")
    (answer,) = core.sent(TasksCancelled)
    assert (answer.request, answer.ranges) == (9, (Range(5, 16),))
    assert second.ranges


def test_a_cancelled_task_makes_room_for_others() -> None:
    core = one_session(cpu=1, tasks=20)
    core.attach("b")
    core.submit("b", 1, 1)
    assert core.session("app-000002").wanted == 1
    core.client("a", CancelTasks(attachment=1, request=1, first=1, count=20))
    assert core.session("app-000001").wanted == 0
    assert core.binding("1-1").leaving, "it was starting for tasks that are gone"


def test_inputs_over_the_bound_stay_in_the_store_also_at_the_tail() -> None:
    core = Core(resident_input_bytes=100)
    core.attach("a")
    for task in range(1, 50):
        core.submit("a", task, 1, nbytes=10)
    assert core.state.resident_bytes == 100
    core.join(cpu=1)
    core.start_all()
    for _ in range(60):
        for executor in core.assigned():
            core.report(executor)
    assert core.session("app-000001").succeeded == 49
    assert core.state.resident_bytes == 0


def test_a_cancel_waits_also_for_executors_that_are_leaving() -> None:
    core = Core()
    core.join(cpu=1)
    core.attach("a")
    core.submit("a", 1, 1_000)
    core.start("1-1")
    core.report("1-1")
    held = core.held("1-1")
    core.attach("b", create=SessionSpec(application="app", priority=9))
    core.submit("b", 1, 1)
    assert core.binding("1-1").leaving
    core.take()
    core.client("a", CancelTasks(attachment=1, request=9, first=1, count=1_000))
    assert not core.sent(TasksCancelled)
    assert not core.sent(RetractTasks), "it gives back all that it has not started anyway"
    started = held[0].first
    rest = [HeldRange(part.attempt, part.first + (part is held[0]), part.count - (part is held[0])) for part in held]
    core.give_back("1-1", 0, *rest)
    (answer,) = core.sent(TasksCancelled)
    cancelled = {task for part in answer.ranges for task in range(part.first, part.end)}
    assert cancelled == set(range(started + 1, 1_001))
    core.take()
    core.client("a", CancelTasks(attachment=1, request=10, first=started, count=1))
    assert [answer.ranges for answer in core.sent(TasksCancelled)] == [()], "it runs; nothing is waited for"


def test_a_cancel_does_not_wait_for_a_leaving_executor_whose_link_is_lost() -> None:
    core = one_session(cpu=1, tasks=1_000)
    core.start("1-1")
    core.attach("b", create=SessionSpec(application="app", priority=9))
    core.submit("b", 1, 1)
    core.client("a", CancelTasks(attachment=1, request=9, first=1, count=1_000))
    assert not core.sent(TasksCancelled)
    core.lose_executor("1-1")
    assert [answer.request for answer in core.sent(TasksCancelled)] == [9]


def test_a_cancel_that_comes_after_the_link_of_a_leaving_executor_is_lost_waits_for_nothing() -> None:
    core = one_session(cpu=1, tasks=1_000)
    core.start("1-1")
    core.attach("b", create=SessionSpec(application="app", priority=9))
    core.submit("b", 1, 1)
    assert core.binding("1-1").leaving
    core.lose_executor("1-1")
    core.client("a", CancelTasks(attachment=1, request=9, first=1, count=1_000))
    assert [answer.request for answer in core.sent(TasksCancelled)] == [9]
