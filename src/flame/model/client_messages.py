"""What a client and the session manager say to each other on a stream: chunks of tasks, results, cancels."""

import msgspec

from flame.model.errors import Rejection
from flame.model.ranges import Number, Range
from flame.model.specs import SessionSpec
from flame.model.states import SessionState, TaskState

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
