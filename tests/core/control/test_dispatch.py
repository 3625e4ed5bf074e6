"""Dispatch: how much an executor is given, and when."""

import pytest

from flame.core.control import dispatch
from flame.core.control.effects import SendToExecutor
from flame.core.control.entities import Binding, Session
from flame.core.control.state import State, Turn
from flame.model.executor_messages import AssignTasks, RetractTasks
from flame.model.limits import CREDIT_BYTES, CREDIT_MS, MAX_CHUNK_TASKS
from tests.core.harness import Core, assigned_ranges, one_session


def test_credit_starts_small_and_doubles_with_each_report() -> None:
    core = one_session(cpu=1, tasks=1000)
    core.start("1-1")
    sizes = []
    for _ in range(5):
        sizes.append(core.assigned()["1-1"])
        core.report("1-1", each_us=1)
    assert sizes == [2, 4, 8, 16, 32]


def test_an_executor_holds_no_more_than_a_few_tens_of_milliseconds() -> None:
    core = one_session(cpu=1, tasks=1000)
    core.start("1-1")
    for _ in range(8):
        core.report("1-1", each_us=10_000)
    assert core.assigned()["1-1"] == CREDIT_MS / 10


def test_an_executor_holds_no_more_than_a_bound_of_bytes() -> None:
    core = Core(max_task_bytes=CREDIT_BYTES)
    core.join(cpu=1)
    core.attach("a")
    for task in range(1, 41):
        core.submit("a", task, 1, nbytes=CREDIT_BYTES // 4)
    core.start("1-1")
    for _ in range(4):
        core.report("1-1", each_us=1)
    assert 1 <= core.assigned()["1-1"] <= 5


def test_the_last_tasks_are_divided_evenly() -> None:
    core = one_session(cpu=2, tasks=8)
    core.start_all()
    for _ in range(4):
        for executor in ("1-1", "1-2"):
            core.report(executor, each_us=1)
            held = core.assigned().values()
            assert max(held) - min(held) <= 2


def test_an_assignment_of_stored_tasks_does_not_wait_for_a_commit() -> None:
    core = one_session(cpu=1, tasks=1)
    core.start("1-1", enter=False)
    core.take()
    core.start("1-1", entered=True)
    batch_now = [effect for effect in core.effects if isinstance(effect, SendToExecutor)]
    assert any(isinstance(effect.message, AssignTasks) for effect in batch_now)


def test_tasks_that_arrive_while_an_executor_is_idle_go_out_after_the_commit_that_stores_them() -> None:
    core = one_session(cpu=1, tasks=1)
    core.start("1-1")
    core.report("1-1")
    core.take()
    core.submit("a", 2, 1)
    assert assigned_ranges(core.sent(AssignTasks)) == [(2, 1)]
    order = [type(getattr(effect, "message", effect)).__name__ for effect in core.effects]
    assert order.index("AssignTasks") > 0 or len(order) > 1, "it is not before the acknowledgement's commit"


def test_a_retracted_task_is_given_to_the_idle_executor_and_none_is_asked_for_twice() -> None:
    core = one_session(cpu=2, tasks=40)
    core.start("1-1")
    for _ in range(3):
        core.report("1-1", each_us=1_500)
    held = core.held("1-1")
    core.start("1-2")
    while core.session("app-000001").queue.tasks:
        core.report("1-2", each_us=1_500)
    core.take()
    core.report("1-2", each_us=1_500)
    (retract,) = core.sent(RetractTasks)
    assert sum(part.count for part in retract.ranges) <= held[0].count
    core.turn()
    assert len(core.sent(RetractTasks)) == 1, "the answer is awaited"
    core.give_back("1-1", retract.request, *retract.ranges)
    assert core.assigned()["1-2"] >= 1


def test_an_assignment_is_never_longer_than_a_chunk() -> None:
    core = one_session(cpu=1)
    for place in range(4):
        core.submit("a", 1 + place * MAX_CHUNK_TASKS, MAX_CHUNK_TASKS)
    core.start("1-1")
    for _ in range(14):
        core.report("1-1", each_us=1)
    assert all(message.count <= MAX_CHUNK_TASKS for message in core.sent(AssignTasks))
    assert core.session("app-000001").succeeded > 2 * MAX_CHUNK_TASKS


def test_payloads_read_back_for_tasks_that_are_gone_meanwhile_do_no_harm() -> None:
    core = Core(resident_input_bytes=0)
    core.join(cpu=1)
    core.attach("a")
    core.submit("a", 1, 4)
    core.restart()
    core.join(cpu=1)
    core.attach("a")
    core.close("app-000001")
    assert core.state.resident_bytes == 0


def test_a_report_touches_only_the_executor_that_made_it_while_tasks_are_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = one_session(cpu=20, tasks=1_000)
    core.start_all()
    looked_at: list[str] = []
    top_up = dispatch._top_up

    def noticed(state: State, turn: Turn, session: Session, binding: Binding) -> None:
        looked_at.append(binding.executor.id)
        top_up(state, turn, session, binding)

    monkeypatch.setattr(dispatch, "_top_up", noticed)
    core.report("1-7")
    assert looked_at == ["1-7"]
    assert core.assigned()["1-7"]
    looked_at.clear()
    core.submit("a", 1_001, 1)
    assert len(looked_at) == 20, "there is more for everybody"


def test_an_executor_that_waits_for_payloads_from_the_store_counts_as_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(resident_input_bytes=10)
    core.join(cpu=1)
    core.attach("a")
    core.submit("a", 1, 2)
    core.submit("a", 3, 2, nbytes=100)
    monkeypatch.setattr(core, "_answer", lambda effect: None)
    core.start("1-1")
    core.report("1-1")
    assert core.session("app-000001").queue.tasks == 2
    assert core.binding("1-1").idle_since_ms == core.now_ms
