"""States have the values of the published interface."""

from flame.model.states import ApplicationState, ExecutorState, NodeState, SessionState, Shim, TaskState


def test_values_are_the_published_ones() -> None:
    assert [(state.name, state.value) for state in SessionState] == [("OPEN", 0), ("CLOSED", 1)]
    assert [state.name for state in TaskState] == ["PENDING", "RUNNING", "SUCCEED", "FAILED", "CANCELLED"]
    assert [state.value for state in TaskState] == [0, 1, 2, 3, 4]
    assert [(state.name, state.value) for state in ApplicationState] == [("ENABLED", 0), ("DISABLED", 1)]
    assert [state.value for state in ExecutorState] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert [state.name for state in ExecutorState] == [
        *("UNKNOWN", "VOID", "IDLE", "BINDING", "BOUND", "UNBINDING", "RELEASING", "RELEASED")
    ]
    assert [(state.name, state.value) for state in NodeState] == [("UNKNOWN", 0), ("READY", 1), ("NOT_READY", 2)]
    assert [(shim.name, shim.value) for shim in Shim] == [("HOST", 0), ("WASM", 1)]


def test_terminal_states() -> None:
    assert [state.name for state in TaskState if state.terminal] == ["SUCCEED", "FAILED", "CANCELLED"]
