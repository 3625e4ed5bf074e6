"""What peers say to each other on a stream, as data.

One message is one value of these structs; `flame.wire` turns it into MessagePack for frames or a protobuf envelope of
package `flame.v1` for gRPC, and back; the field with the large payload comes last. A stream is a long-lived,
bidirectional, ordered sequence of messages between a peer (client, executor or node) and the session manager. It starts
with `Hello` from the peer and `Welcome` (or `Refused`) from the manager.

`lengths` columns and blobs are as in `flame.model.records`. Attempts and bindings are integers:
`epoch << 32 | counter`, so that a larger one is newer.
"""

from enum import IntEnum
from typing import Annotated

import msgspec

from flame.model.errors import Rejection
from flame.model.limits import CREDIT_TASKS, MAX_CAPABILITIES, MAX_HELD_RANGES, MAX_PROCESSES_PER_NODE
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.states import SessionState, TaskState

PROTOCOL_VERSION = 1

Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""What every number of a message is, but an exit code."""


class Range(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run of task ids: [first, first + count)."""

    first: Number
    count: Number

    @property
    def end(self) -> int:
        """The id after the last one."""
        return self.first + self.count


class HeldRange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Tasks an executor was given and whose results are not acknowledged yet."""

    attempt: Number
    first: Number
    count: Number


HeldRanges = Annotated[tuple[HeldRange, ...], msgspec.Meta(max_length=CREDIT_TASKS)]
"""What an executor tells of what it holds. Lists of peers are bounded: in memory they are many times their bytes."""


# --- both directions -------------------------------------------------------------------------------------------------


class Role(IntEnum):
    """What a peer is."""

    CLIENT = 0
    EXECUTOR = 1
    NODE = 2


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """First message of a peer.

    Args:
        version: `PROTOCOL_VERSION` of the peer.
        software: name and version of the peer's software, for logs.
        store_id: the store it talked to before, or empty. With another id the manager answers `Refused`
            (code ABORTED): an executor ends itself and a client fails its futures.
        epoch: the highest epoch it has seen, or 0. A manager with a lower one is refused by the peer.
        client: of a client, a random id, the same on all its connections, or empty: it has one connection at a time,
            so a new one ends the former, and what is still to be read there counts no more.
    """

    role: Role
    version: Number = PROTOCOL_VERSION
    software: str = ""
    capabilities: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_CAPABILITIES)] = ()
    store_id: str = ""
    epoch: Number = 0
    client: str = ""


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """First message of the session manager.

    Args:
        frames_endpoint: where the frame carrier listens (`unix:///...` or `frames://host:port`), or empty.
        max_task_bytes: largest input and output of one task.
    """

    version: Number = PROTOCOL_VERSION
    software: str = ""
    capabilities: tuple[str, ...] = ()
    store_id: str = ""
    epoch: Number = 0
    frames_endpoint: str = ""
    max_task_bytes: Number = 0


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The manager ends the stream, and says why. Always the last message."""

    error: Rejection


class Call(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A unary request on the stream: `method` is the full gRPC name, e.g. `/flame.v1.Frontend/GetSession`;
    `payload` its protobuf request. `id` is chosen by the client, unique on its stream."""

    id: Number
    method: str
    payload: bytes


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `Call` with the same id: a protobuf response, or an error."""

    id: Number
    error: Rejection | None = None
    payload: bytes = b""


# --- client → manager ------------------------------------------------------------------------------------------------


class AttachSession(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Attach to a session, creating it first if `create` is given.

    Args:
        attachment: number chosen by the client, unique on its stream; all later messages carry it.
        session_id: the session's name; empty with `create` asks the manager to make one.
        key: random key of the submitter, 1-64 characters, the same at every resend and reconnect. With `submit` it
            names the block: the same key gets the same session and block again.
        create: the spec of a new session. The same key again gets the session it made before.
        submit: ask for a block of task ids. A submitter gets the results of its own block, a reader all.
        after: send results with a segment sequence above this one.
    """

    attachment: Number
    session_id: str
    key: str
    create: SessionSpec | None = None
    submit: bool = False
    after: Number = 0


class SubmitChunk(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Tasks [first, first + count) of the attachment's block: at most `MAX_CHUNK_TASKS`, contiguous with what was
    submitted before. A resend keeps its cuts."""

    attachment: Number
    first: Number
    count: Number
    lengths: bytes
    attributes: bytes = b""
    blob: bytes


class CancelTasks(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Cancel what is queued of a range; answered by `TasksCancelled` with the same request number."""

    attachment: Number
    request: Number
    first: Number
    count: Number


class AcknowledgeSegments(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The client has taken all results up to this segment sequence; it opens the send window."""

    attachment: Number
    sequence: Number


class DetachSession(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """End the attachment. It does not close the session."""

    attachment: Number


# --- manager → client ------------------------------------------------------------------------------------------------


class SessionAttached(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to `AttachSession`.

    Args:
        session: the session number.
        first: first id of the block (0 without `submit`).
        next_id: where the next chunk of this block has to begin; everything before is stored.
        last_sequence: sequence of the newest segment now; a reader of a closed session is done when it has it.
        warning: why the session cannot run now, or empty.
    """

    attachment: Number
    session: Number
    session_id: str
    first: Number = 0
    next_id: Number = 0
    last_sequence: Number = 0
    state: SessionState = SessionState.OPEN
    spec: SessionSpec
    created_ms: Number = 0
    warning: str = ""


class AttachmentEnded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The attachment is over: refused, replaced by a newer stream with the same key, or the session was deleted."""

    attachment: Number
    error: Rejection


class ChunkAcknowledged(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Everything of the block below `next_id` is stored. Cumulative."""

    attachment: Number
    next_id: Number


class ChunkRefused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The chunk that begins at `first` was refused and the block has ended: what is behind it fails with it.
    The client attaches again with a fresh key to go on (unless the session is closed)."""

    attachment: Number
    first: Number
    error: Rejection


class Segment(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Results. Fields as in `SegmentRecord`; ascending by sequence, gaps belong to other submitters."""

    attachment: Number
    sequence: Number
    first: Number
    count: Number
    state: TaskState
    states: bytes = b""
    lengths: bytes = b""
    finished_ms: Number = 0
    blob: bytes = b""


class TasksCancelled(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to `CancelTasks`: what was cancelled by it (their results come as segments, before this message)."""

    attachment: Number
    request: Number
    ranges: tuple[Range, ...] = ()


class SessionChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The session was closed, or a warning appeared or went (empty). `last_sequence` as in `SessionAttached`."""

    attachment: Number
    state: SessionState
    warning: str = ""
    last_sequence: Number = 0


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
            or its fork server died): it counts neither as a death of a task nor as a failed start.
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


PeerMessage = (
    Hello
    | Call
    | AttachSession
    | SubmitChunk
    | CancelTasks
    | AcknowledgeSegments
    | DetachSession
    | AttachExecutor
    | SessionEntered
    | ReportOutcomes
    | TasksRetracted
    | SessionLeft
    | JoinNode
    | PingNode
    | ExecutorStarted
    | ExecutorExited
)
"""What a peer sends to the session manager."""

ManagerMessage = (
    Welcome
    | Refused
    | Reply
    | SessionAttached
    | AttachmentEnded
    | ChunkAcknowledged
    | ChunkRefused
    | Segment
    | TasksCancelled
    | SessionChanged
    | EnterSession
    | AssignTasks
    | RetractTasks
    | AcknowledgeReport
    | LeaveSession
    | NodeJoined
    | PongNode
    | BindExecutor
    | EndExecutor
    | AcknowledgeExit
)
"""What the session manager sends to a peer."""

Message = PeerMessage | ManagerMessage
