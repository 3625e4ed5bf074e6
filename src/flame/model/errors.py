"""The one error tree, and the same errors as data.

    FlameError
    ├── CallerError            the caller has to change something
    │   ├── InvalidArgument    a value that can never be accepted
    │   ├── NotFound           the named thing does not exist
    │   ├── AlreadyExists      the name is taken
    │   ├── FailedPrecondition the thing is in another state (closed session, application in use)
    │   ├── TooLarge           over a documented limit
    │   └── ConfigurationError a file or an environment variable
    ├── TaskError              the task
    │   ├── TaskFailed         it raised, or its executor died
    │   └── TaskCancelled      it was cancelled before it ran
    └── ClusterError           the system
        ├── Unavailable        not reachable now; retryable
        ├── ResourceExhausted  no room now (disk, connections); retryable
        ├── Aborted            replaced or fenced off by another
        └── Internal           a defect of Flame, or a broken store

Each class says whose fault it is (`fault`), whether trying again may help (`retryable`), and its `code` on the
wire, which is a gRPC status name.
"""

from typing import ClassVar, Final, Literal

import msgspec

Fault = Literal["caller", "task", "system"]


class FlameError(Exception):
    """Base of every error that Flame raises.

    Args:
        message: what is wrong and where, with ids and values.
        hint: what to do about it.
    """

    code: ClassVar[str] = "UNKNOWN"
    fault: ClassVar[Fault] = "system"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.message, self.hint))


class CallerError(FlameError):
    """The caller has to change something."""

    fault = "caller"


class InvalidArgument(CallerError, ValueError):
    """A value that can never be accepted."""

    code = "INVALID_ARGUMENT"


class NotFound(CallerError, LookupError):
    """The named application, session, task or node does not exist."""

    code = "NOT_FOUND"


class AlreadyExists(CallerError):
    """The name is taken by something else."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(CallerError):
    """The thing exists, but its state does not allow this."""

    code = "FAILED_PRECONDITION"


class TooLarge(CallerError):
    """Over a documented limit."""

    code = "OUT_OF_RANGE"


class ConfigurationError(CallerError):
    """A configuration file or environment variable that cannot be used."""

    code = "INVALID_ARGUMENT"


class ClusterError(FlameError):
    """The system could not do it."""


class Unavailable(ClusterError):
    """Not reachable now."""

    code = "UNAVAILABLE"
    retryable = True


class ResourceExhausted(ClusterError):
    """No room now: disk, connections, queue."""

    code = "RESOURCE_EXHAUSTED"
    retryable = True


class Aborted(ClusterError):
    """Replaced by a newer peer, or fenced off."""

    code = "ABORTED"


class Internal(ClusterError):
    """A defect of Flame, or a broken store."""

    code = "INTERNAL"


class TaskError(FlameError):
    """The task did not succeed."""

    fault = "task"


class TaskFailed(TaskError):
    """A task failed: its service raised, or its executor died while running it.

    Attributes:
        task_id: the task within its session.
        type: the remote exception's qualified type name, or one of Flame's own: `flame.ExecutorDied` (its executors
            ended under it too often), `flame.NoExecutor` (none could start) or `flame.TooLarge` (its output is).
        message: the remote message.
        traceback: the remote traceback as text; may be empty.
    """

    code = "ABORTED"

    def __init__(self, message: str, hint: str = "", *, task_id: int = 0, type: str = "", traceback: str = "") -> None:
        super().__init__(message, hint)
        self.task_id = task_id
        self.type = type
        self.traceback = traceback

    def __str__(self) -> str:
        head = f"task {self.task_id}: {self.type + ': ' if self.type else ''}{self.message}"
        return f"{head}\n\n{self.traceback}" if self.traceback else head

    def __reduce__(self) -> tuple[object, ...]:
        return (_task_failed, (self.message, self.hint, self.task_id, self.type, self.traceback))


def _task_failed(message: str, hint: str, task_id: int, type: str, traceback: str) -> TaskFailed:
    return TaskFailed(message, hint, task_id=task_id, type=type, traceback=traceback)


class TaskCancelled(TaskError):
    """The task was cancelled before it ran."""

    code = "CANCELLED"


class Rejection(msgspec.Struct, frozen=True):
    """An error as data: what a request that was refused is answered with."""

    code: str
    message: str
    hint: str = ""

    def to_error(self) -> FlameError:
        """The exception to raise for it."""
        return _BY_CODE.get(self.code, ClusterError)(self.message, self.hint)

    @classmethod
    def of(cls, error: FlameError) -> "Rejection":
        """The data of an exception."""
        return cls(error.code, error.message, error.hint)


_BY_CODE: dict[str, type[FlameError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        TooLarge,
        Unavailable,
        ResourceExhausted,
        Aborted,
        Internal,
        TaskCancelled,
    )
}


EXECUTOR_DIED: Final = "flame.ExecutorDied"
"""Type of the failure of a task under which its executors, or their hosts, ended too often."""
NO_EXECUTOR: Final = "flame.NoExecutor"
"""Type of the failure of a task for which no executor could start."""


class FailureRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a task failed: stored, as JSON, in the place of the task's output.

    JSON because services in any language write it and clients in any language read it.
    """

    message: str
    type: str = ""
    traceback: str = ""

    def encode(self) -> bytes:
        """The record as JSON. What is no Unicode (file names that could not be decoded) is shown with backslashes."""
        try:
            return msgspec.json.encode(self)
        except UnicodeEncodeError:
            fields = (self.message, self.type, self.traceback)
            return msgspec.json.encode(FailureRecord(*(_printable(field) for field in fields)))

    @classmethod
    def decode(cls, data: bytes) -> "FailureRecord":
        """Read a record; bytes that are none become the message, so that nothing is hidden."""
        try:
            return msgspec.json.decode(data, type=cls)
        except (ValueError, RecursionError):  # no JSON, other JSON, no UTF-8, or nested too deeply
            return cls(data.decode("utf-8", "replace"))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
