"""The invariants see what is wrong."""

from collections.abc import Callable

import msgspec
import pytest

from flame.core.control import invariants
from flame.core.control.queue import Span
from flame.core.control.transitions import NodeLife
from flame.model.states import ExecutorState, SessionState
from tests.core.harness import Core, one_session


def _lose_a_task(core: Core) -> None:
    core.session("app-000001").queue.spans[0].count -= 1


def _queue_a_task_twice(core: Core) -> None:
    queue = core.session("app-000001").queue
    queue.append(Span(queue.spans[0].chunk, 10, 1))


def _miscount_bytes(core: Core) -> None:
    core.state.resident_bytes += 1


def _hold_less(core: Core) -> None:
    core.binding("1-1").held_tasks -= 1


def _wrong_state(core: Core) -> None:
    core.state.executors["1-1"].state = ExecutorState.IDLE


def _miscount_places(core: Core) -> None:
    core.state.places += 1


def _ready_without_a_link(core: Core) -> None:
    core.state.nodes["n1"].link = 0
    core.state.count_places()


def _overbook(core: Core) -> None:
    node = core.state.nodes["n1"]
    node.capacity = node.capacity.minus(node.capacity)


def _forget_a_key(core: Core) -> None:
    core.state.blocks_by_key.clear()


def _find_another_block(core: Core) -> None:
    (key,) = core.state.blocks_by_key
    session, block = core.state.blocks_by_key[key]
    core.state.blocks_by_key[key] = (session, msgspec.structs.replace(block))


def _forget_a_watch_of_a_task(core: Core) -> None:
    core.state.watches[9] = (core.session("app-000001"), 4)


def _mix_up_watches(core: Core) -> None:
    session = core.session("app-000001")
    core.state.watches[9] = (session, 4)
    session.watches[4] = [8]


@pytest.mark.parametrize(
    "damage",
    [
        *(_lose_a_task, _queue_a_task_twice, _miscount_bytes, _miscount_places, _hold_less, _wrong_state, _overbook),
        *(_ready_without_a_link, _forget_a_key, _find_another_block, _forget_a_watch_of_a_task, _mix_up_watches),
    ],
)
def test_damage_is_seen(damage: Callable[[Core], None]) -> None:
    core = one_session(cpu=1, tasks=10)
    core.start("1-1")
    invariants.check(core.state)
    damage(core)
    with pytest.raises(AssertionError):
        invariants.check(core.state)


def _start_again(core: Core) -> None:
    core.state.executors["1-1"].state = ExecutorState.VOID


def _open_again(core: Core) -> None:
    session = core.session("app-000001")
    session.record = msgspec.structs.replace(session.record, state=SessionState.OPEN)


def _run_again(core: Core) -> None:
    core.session("app-000001").cancelled -= 1
    core.session("app-000001").succeeded += 1


def _await_again(core: Core) -> None:
    core.state.nodes["n1"].life = NodeLife.AWAITED
    core.state.nodes["n1"].link = 0


@pytest.mark.parametrize("damage", [_start_again, _open_again, _run_again, _await_again])
def test_a_way_that_no_table_allows_is_seen(damage: Callable[[Core], None]) -> None:
    core = one_session(cpu=1, tasks=10)
    core.close("app-000001")
    checker = invariants.Checker()
    checker._check_moves(core.state)
    checker._check_moves(core.state)
    damage(core)
    with pytest.raises(AssertionError, match=r" was | were "):
        checker._check_moves(core.state)


def _forget_a_plan(core: Core) -> None:
    core.state.replan = True


def _forget_a_session(core: Core) -> None:
    core.state.touch(core.session("app-000001"))


def _leave_an_executor_unplaced(core: Core) -> None:
    core.state.nodes["n1"].max_executors = 0
    core.state.nodes["n1"].capacity = core.state.nodes["n1"].capacity.plus(core.state.nodes["n1"].capacity)
    core.state.count_places()


def _leave_an_executor_without_work(core: Core) -> None:
    core.binding("1-1").held.clear()


@pytest.mark.parametrize(
    "damage", [_forget_a_plan, _forget_a_session, _leave_an_executor_unplaced, _leave_an_executor_without_work]
)
def test_a_missed_wake_up_is_seen(damage: Callable[[Core], None]) -> None:
    core = one_session(cpu=1, tasks=10)
    core.start("1-1")
    invariants.check_settled(core.state, core.now_ms)
    damage(core)
    with pytest.raises(AssertionError):
        invariants.check_settled(core.state, core.now_ms)


def test_what_is_left_in_a_session_is_named() -> None:
    core = one_session(cpu=1, tasks=10)
    session = core.session("app-000001")
    assert invariants.left_in(session) == ["unfinished", "bindings"]
    core.start("1-1")
    core.close("app-000001")
    session.watches[4] = [8]
    assert "watches" in invariants.left_in(session)
