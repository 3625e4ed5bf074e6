"""What an executor manager and the session manager say to each other on a stream: executors started and ended."""

from typing import Annotated

import msgspec

from flame.model.limits import MAX_HELD_RANGES, MAX_PROCESSES_PER_NODE
from flame.model.ranges import HeldRange, Number
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec

# --- node → manager --------------------------------------------------------------------------------------------------


class ExecutorReport(msgspec.Struct, frozen=True, kw_only=True):
    """An executor process as its node sees it, read from the memory they share.

    Args:
        held: what it holds, or None where its table could not be read.
        entered: session enter succeeded.
    """

    executor: str
    binding: Number
    session: Number
    pid: Number = 0
    held: Annotated[tuple[HeldRange, ...], msgspec.Meta(max_length=MAX_HELD_RANGES)] | None = ()
    entered: bool = False
    log_path: str = ""


class ExecutorExited(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An executor's process is gone (or never started). Resent until `AcknowledgeExit`.

    Args:
        exit_code: of the process; None if a signal ended it or it never started.
        signal: number of the signal, or 0.
        current: id of the task that its end is charged to: the one it was running, or 0; where it had never reported
            anything, the first one it held. With `killed`: the one that ran when the executor's host ended, or 0.
        entered: session enter had succeeded.
        left: it ended as asked, after session leave.
        failure: `FailureRecord` JSON of a start or session enter that failed, or empty.
        killed: its node ended it, for no fault of the process (an orderly stop, the end of the lease, `EndExecutor`,
            or its fork server died) or could not start it (`failure` says why): it counts neither as a death of a task
            nor as a failed start.
    """

    executor: str
    binding: Number
    session: Number
    exit_code: int | None = None
    signal: Number = 0
    current: Number = 0
    entered: bool = False
    left: bool = False
    failure: bytes = b""
    killed: bool = False


class JoinNode(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A node's executor manager presents itself, first and after every reconnect.

    Args:
        instance: random id of this start of the executor manager.
        max_executors: the node's limit, or 0 for none but its capacity.
        executors: every live executor process; all others are gone.
        exits: exits that were not acknowledged.
        host, arch, os: for display.
    """

    node: str
    instance: str
    capacity: Resources
    max_executors: Number = 0
    executors: Annotated[tuple[ExecutorReport, ...], msgspec.Meta(max_length=MAX_PROCESSES_PER_NODE)] = ()
    exits: Annotated[tuple[ExecutorExited, ...], msgspec.Meta(max_length=MAX_PROCESSES_PER_NODE)] = ()
    host: str = ""
    arch: str = ""
    os: str = ""


class PingNode(msgspec.Struct, frozen=True, tag=True):
    """Renew the lease. `sent_ns` is the node's CLOCK_BOOTTIME, and comes back."""

    sent_ns: Number


class ExecutorStarted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A process was started for a binding."""

    executor: str
    binding: Number
    pid: Number
    log_path: str = ""


# --- manager → node --------------------------------------------------------------------------------------------------


class NodeJoined(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to `JoinNode`. Ping every `lease_ms / 6`."""

    lease_ms: Number


class PongNode(msgspec.Struct, frozen=True, tag=True):
    """The lease runs until `sent_ns` plus `lease_ms`."""

    sent_ns: Number


class BindExecutor(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Start a fresh process for this executor, bound to this session. Ends as `ExecutorStarted` or
    `ExecutorExited`; again with a known binding it does nothing."""

    executor: str
    binding: Number
    session: Number
    session_id: str
    application: str
    spec: ApplicationSpec
    resources: Resources
    start_timeout_ms: Number = 0
    enter_timeout_ms: Number = 0


class EndExecutor(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Kill this executor's processes now, with SIGTERM and after `grace_ms` with SIGKILL. Unknown: ignored."""

    executor: str
    binding: Number
    grace_ms: Number = 0


class AcknowledgeExit(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The exit is stored; the node may forget it."""

    executor: str
    binding: Number
