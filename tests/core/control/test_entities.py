"""The transition table of executors is followed, and every state in it is reached."""

import pytest

from flame.core.control.entities import TRANSITIONS, Executor, Node
from flame.model.resources import Resources
from flame.model.states import ExecutorState

PAIRS = [(one, other) for one in ExecutorState for other in ExecutorState]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda state: state.name)
def test_an_executor_moves_along_the_table_only(one: ExecutorState, other: ExecutorState) -> None:
    executor = Executor(id="1-1", node=Node(name="n"), resources=Resources(), state=one, since_ms=1)
    if other in TRANSITIONS.get(one, ()):
        executor.move(other, 5)
        assert (executor.state, executor.since_ms) == (other, 5)
    elif one in TRANSITIONS:
        with pytest.raises(AssertionError, match=f"{one.name} -> {other.name}"):
            executor.move(other, 5)
        assert executor.state is one


def test_every_state_of_the_table_can_be_reached_and_ends_in_released() -> None:
    reached = {ExecutorState.VOID}
    while True:
        more = reached | {other for state in reached for other in TRANSITIONS[state]}
        if more == reached:
            break
        reached = more
    assert reached == set(TRANSITIONS)
    for state in TRANSITIONS:
        ahead = {state}
        for _ in TRANSITIONS:
            ahead |= {other for one in ahead for other in TRANSITIONS[one]}
        assert ExecutorState.RELEASED in ahead, f"{state.name} is a dead end"
