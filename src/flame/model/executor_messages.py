"""What an executor and the session manager say to each other on a stream: tasks and their outcomes."""

from typing import Annotated

import msgspec

from flame.model.limits import CREDIT_TASKS
from flame.model.ranges import HeldRange, HeldRanges, Number
from flame.model.states import TaskState

# --- executor → manager ----------------------------------------------------------------------------------------------


class AttachExecutor(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An executor's process presents itself, first and after every reconnect.

    Args:
        held: what it holds: given to it and not acknowledged as finished.
        entered: session enter succeeded already.
    """

    executor: str
    binding: Number
    session: Number
    held: HeldRanges = ()
    entered: bool = False
    pid: Number = 0


class SessionEntered(msgspec.Struct, frozen=True, tag=True):
    """Session enter returned, or failed with `FailureRecord` JSON (the process ends after it)."""

    failure: bytes = b""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Finished tasks [first, first + count) of one assignment; columns as in `SegmentRecord`.

    Args:
        attempt: the assignment's.
        busy_ns: time from the first task's start to the last one's end.
    """

    attempt: Number
    first: Number
    count: Number
    state: TaskState
    states: bytes = b""
    lengths: bytes = b""
    busy_ns: Number = 0
    blob: bytes = b""


class ReportOutcomes(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Results of an executor. `report` counts 1, 2, 3, ... per process; kept and resent until acknowledged."""

    report: Number
    outcomes: Annotated[tuple[Outcome, ...], msgspec.Meta(max_length=CREDIT_TASKS)]


class TasksRetracted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to `RetractTasks` or (request 0) to `LeaveSession`: unstarted ranges given back."""

    request: Number
    ranges: HeldRanges = ()


class SessionLeft(msgspec.Struct, frozen=True, tag=True):
    """Session leave returned; every report was sent before. The process ends once they are acknowledged."""

    failure: bytes = b""


# --- manager → executor ----------------------------------------------------------------------------------------------


class EnterSession(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to the first `AttachExecutor`: what session enter needs."""

    session: Number
    session_id: str
    application: str
    common_data: bytes | None = None


class AssignTasks(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Run tasks [first, first + count), in order, after what was assigned before."""

    attempt: Number
    first: Number
    count: Number
    lengths: bytes
    blob: bytes


class RetractTasks(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Give back what is unstarted of these ranges."""

    request: Number
    ranges: tuple[HeldRange, ...]


class AcknowledgeReport(msgspec.Struct, frozen=True, tag=True):
    """Every report up to this number is stored. Cumulative."""

    report: Number


class LeaveSession(msgspec.Struct, frozen=True, tag=True):
    """Give back all unstarted tasks (`TasksRetracted` with request 0), finish the running one, report it,
    call session leave, answer `SessionLeft`, end."""
