"""Queries say what is true now."""

from flame.core.control import queries
from flame.model.limits import BLOCK_TASKS
from flame.model.ranges import Range
from flame.model.resources import Resources
from flame.model.states import TaskState
from tests.core.harness import one_session


def test_counts_states_and_room() -> None:
    core = one_session(cpu=3, tasks=10)
    core.start_all()
    core.report("1-1", 1)
    session = core.session("app-000001")
    counts = queries.counts(session)
    assert (counts.pending, counts.running, counts.succeed, counts.executors) == (6, 3, 1, 3)
    states = [queries.unfinished_state(session, task) for task in range(12)]
    assert states.count(TaskState.RUNNING) == 3
    assert states.count(TaskState.PENDING) == 6
    assert states.count(None) == 3, "no such task, a terminal one, and one that is not submitted yet"
    assert queries.allocatable(core.state.nodes["n1"]) == Resources(cpu=0)
    assert [executor.id for executor in queries.executors(core.state)] == ["1-1", "1-2", "1-3"]


def test_tasks_are_listed_by_block() -> None:
    core = one_session(tasks=10)
    core.attach("b", "app-000001", create=None)
    core.submit("b", BLOCK_TASKS + 1, 3)
    session = core.session("app-000001")
    assert list(queries.submitted(session)) == [Range(1, 10), Range(BLOCK_TASKS + 1, 3)]
    assert queries.was_submitted(session, 10)
    assert not queries.was_submitted(session, 11)
    assert not queries.was_submitted(session, 0)


def test_a_node_has_never_less_than_nothing_left() -> None:
    core = one_session(cpu=2, tasks=10)
    core.start_all()
    core.restart()
    node = core.state.nodes["n1"]
    assert node.capacity == Resources(), "it is known from its executors only"
    assert queries.allocatable(node) == Resources()
    core.join(cpu=3, executors=(core.listed("1-1"), core.listed("1-2")))
    core.start_all()
    assert queries.allocatable(node) == Resources(cpu=0)
    node.capacity = Resources(cpu=1, memory_bytes=7)
    assert queries.allocatable(node) == Resources(memory_bytes=7)
