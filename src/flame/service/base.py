"""What user code sees of Flame inside an executor: the service class and its contexts."""

import msgspec


class SessionContext(msgspec.Struct, frozen=True, kw_only=True):
    """The session an executor is bound to.

    Args:
        session_id: the session's name.
        application: name of the application.
        common_data: the bytes given at create_session, or None.
    """

    session_id: str
    application: str
    common_data: bytes | None = None


class TaskContext(msgspec.Struct, frozen=True, gc=False):
    """One task.

    Args:
        session_id: the session's name.
        task_id: the task's number within its session.
        input: the bytes that were submitted.
    """

    session_id: str
    task_id: int
    input: bytes


class FlameService:
    """Base class of a Python service: override what you need.

    One instance lives in one executor's process, for one session. `on_session_enter` is called once before the first
    task, then `on_task_invoke` for each task, one at a time and always in the process's main thread.

    Example:
        >>> class Upper(FlameService):
        ...     def on_task_invoke(self, context: TaskContext) -> bytes | None:
        ...         return context.input.upper()
    """

    def on_session_enter(self, context: SessionContext) -> None:
        """Prepare for a session: load models, open connections. An exception here counts as a failed start."""

    def on_task_invoke(self, context: TaskContext) -> bytes | None:
        """Run one task and return its output; an exception fails this task only."""
        raise TypeError(f"{type(self).__qualname__} does not define on_task_invoke")

    def on_session_leave(self) -> None:
        """Clean up: the executor is about to end."""
