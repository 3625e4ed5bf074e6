"""Flame: a distributed engine for elastic workloads.

    import flame

    class Upper(flame.FlameService):
        def on_task_invoke(self, context):
            return context.input.upper()

    if __name__ == "__main__":
        with flame.connect() as connection:
            connection.register_application("upper", service=Upper)
            with connection.create_session("upper") as session:
                print(session.invoke(b"hello"))

Everything here is loaded when it is first used: `import flame` alone costs next to nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flame.model.errors import (
        Aborted,
        AlreadyExists,
        CallerError,
        ClusterError,
        ConfigurationError,
        FailedPrecondition,
        FlameError,
        Internal,
        InvalidArgument,
        NotFound,
        ResourceExhausted,
        TaskCancelled,
        TaskError,
        TaskFailed,
        TooLarge,
        Unavailable,
    )
    from flame.model.resources import Resources
    from flame.model.states import SessionState, TaskState
    from flame.sdk.connection import Connection, connect
    from flame.sdk.futures import Future
    from flame.sdk.results import TaskResult
    from flame.sdk.session import Session
    from flame.sdk.waiting import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, as_completed, wait
    from flame.service.base import FlameService, SessionContext, TaskContext

__version__ = "0.1.0"

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "Aborted",
    "AlreadyExists",
    "CallerError",
    "ClusterError",
    "ConfigurationError",
    "Connection",
    "FailedPrecondition",
    "FlameError",
    "FlameService",
    "Future",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "ResourceExhausted",
    "Resources",
    "Session",
    "SessionContext",
    "SessionState",
    "TaskCancelled",
    "TaskContext",
    "TaskError",
    "TaskFailed",
    "TaskResult",
    "TaskState",
    "TooLarge",
    "Unavailable",
    "__version__",
    "as_completed",
    "connect",
    "wait",
]

_ELSEWHERE = {
    "Connection": "flame.sdk.connection",
    "FlameService": "flame.service.base",
    "Future": "flame.sdk.futures",
    "Resources": "flame.model.resources",
    "Session": "flame.sdk.session",
    "SessionContext": "flame.service.base",
    "SessionState": "flame.model.states",
    "TaskContext": "flame.service.base",
    "TaskResult": "flame.sdk.results",
    "TaskState": "flame.model.states",
    "connect": "flame.sdk.connection",
    **dict.fromkeys(
        ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION", "as_completed", "wait"), "flame.sdk.waiting"
    ),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'flame' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_ELSEWHERE.get(name, "flame.model.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
