"""Entities change their state along the tables only, and a session counts its tasks by their moves."""

from typing import Any

import pytest

from flame.core.control.entities import Executor, Node, Session
from flame.core.control.transitions import EXECUTORS, NODES, NodeLife, TaskPlace
from flame.model.records import SessionRecord
from flame.model.resources import Resources
from flame.model.specs import SessionSpec
from flame.model.states import ExecutorState, NodeState, SessionState


def session(**fields: Any) -> Session:
    record = SessionRecord(number=1, name="s", spec=SessionSpec(application="a"), created_ms=1, **fields)
    return Session(record=record, resources=Resources())


@pytest.mark.parametrize("one", EXECUTORS.states, ids=lambda state: state.name)
def test_an_executor_moves_along_its_table_only(one: ExecutorState) -> None:
    for other in ExecutorState:
        executor = Executor(id="1-1", node=Node(name="n"), resources=Resources(), state=ExecutorState.VOID, since_ms=1)
        executor.state = one
        if (one, other) in EXECUTORS.moves:
            executor.move(other, 5)
            assert (executor.state, executor.since_ms) == (other, 5)
        else:
            with pytest.raises(AssertionError, match=f"executor 1-1: {one.name} -> {other.name}"):
                executor.move(other, 5)
            assert executor.state is one


def test_an_executor_begins_where_its_table_begins() -> None:
    with pytest.raises(AssertionError, match="nothing -> BOUND"):
        Executor(id="1-1", node=Node(name="n"), resources=Resources(), state=ExecutorState.BOUND, since_ms=1)


@pytest.mark.parametrize("one", NODES.states, ids=lambda state: state.name)
def test_a_node_moves_along_its_table_only_and_has_a_link_while_it_is_ready(one: NodeLife) -> None:
    for other in NodeLife:
        node = Node(name="n")
        node.life, node.link = one, 3 * (one is NodeLife.READY)
        link = 7 * (other is NodeLife.READY)
        if (one, other) in NODES.moves:
            node.move(other, link)
            assert (node.life, node.link) == (other, link)
        else:
            with pytest.raises(AssertionError, match=f"node n: {one.name} -> {other.name}"):
                node.move(other, link)
        assert node.state is (NodeState.READY if node.life is NodeLife.READY else NodeState.NOT_READY)


def test_a_session_is_closed_once_and_keeps_the_rest_of_its_record() -> None:
    one = session(tenant="t", labels={"a": "b"})
    before = one.record
    one.close(9)
    assert (one.open, one.record.state, one.record.closed_ms) == (False, SessionState.CLOSED, 9)
    assert (one.record.number, one.record.spec, one.record.tenant, one.record.labels) == (
        *(before.number, before.spec, before.tenant, before.labels),
    )
    with pytest.raises(AssertionError, match="session s: CLOSED -> CLOSED"):
        one.close(10)


def test_a_session_counts_its_tasks_where_they_are() -> None:
    one = session()
    one.move(None, TaskPlace.QUEUED, 10)
    one.move(TaskPlace.QUEUED, TaskPlace.HELD, 8)
    one.move(TaskPlace.HELD, TaskPlace.QUEUED, 1)
    one.move(TaskPlace.HELD, TaskPlace.SUCCEED, 2)
    one.move(TaskPlace.HELD, TaskPlace.FAILED, 1)
    one.move(TaskPlace.HELD, TaskPlace.CANCELLED, 1)
    one.move(TaskPlace.QUEUED, TaskPlace.CANCELLED, 3)
    assert (one.held_tasks, one.succeeded, one.failed, one.cancelled) == (3, 2, 1, 4)


def test_a_task_that_is_terminal_stays_so() -> None:
    one = session()
    with pytest.raises(AssertionError, match="task of session 1: SUCCEED -> QUEUED"):
        one.move(TaskPlace.SUCCEED, TaskPlace.QUEUED, 1)
    with pytest.raises(AssertionError, match="task of session 1: QUEUED -> SUCCEED"):
        one.move(TaskPlace.QUEUED, TaskPlace.SUCCEED, 1)
    assert (one.held_tasks, one.succeeded) == (0, 0)
