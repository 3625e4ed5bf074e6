"""States as they appear in records, on the wire and to the user. Values are the published `flame.v1` ones."""

from enum import IntEnum


class SessionState(IntEnum):
    """What a session accepts: an open one takes tasks, a closed one only finishes what runs."""

    OPEN = 0
    CLOSED = 1


class TaskState(IntEnum):
    """Where a task is. `SUCCEED`, `FAILED` and `CANCELLED` are terminal."""

    PENDING = 0
    RUNNING = 1
    SUCCEED = 2
    FAILED = 3
    CANCELLED = 4

    @property
    def terminal(self) -> bool:
        """Whether the task will never change again."""
        return self >= TaskState.SUCCEED


class ApplicationState(IntEnum):
    """Whether sessions may be opened on an application."""

    ENABLED = 0
    DISABLED = 1


class ExecutorState(IntEnum):
    """Where an executor is, as shown by `flmctl list -e`."""

    UNKNOWN = 0
    VOID = 1
    IDLE = 2
    BINDING = 3
    BOUND = 4
    UNBINDING = 5
    RELEASING = 6
    RELEASED = 7


class NodeState(IntEnum):
    """Whether a node's link is alive."""

    UNKNOWN = 0
    READY = 1
    NOT_READY = 2


class Shim(IntEnum):
    """The protocol between executor and service, as published."""

    HOST = 0
    WASM = 1
