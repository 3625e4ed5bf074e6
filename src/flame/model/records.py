"""What the store keeps: records, and the writes that a commit is made of.

Records carry a format version in the store, not here. Payloads stay opaque: a `lengths` column is a packed array of
little-endian unsigned 32-bit integers, one per task, and `blob` holds the payloads back to back.
"""

import msgspec

from flame.model.limits import TASK_OVERHEAD_BYTES
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.states import ApplicationState, SessionState, TaskState


class ApplicationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A registered application."""

    name: str
    spec: ApplicationSpec
    state: ApplicationState = ApplicationState.ENABLED
    created_ms: int


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A session. `number` is never used again; `name` may be, after a delete."""

    number: int
    name: str
    spec: SessionSpec
    state: SessionState = SessionState.OPEN
    created_ms: int
    closed_ms: int | None = None
    tenant: str = ""
    labels: tuple[str, ...] = ()


class BlockRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run of `BLOCK_TASKS` task ids granted to one submitter; `first` is its first id.

    `key` is the random key of the create or attach that took it (empty for the session manager's own block).
    """

    session: int
    first: int
    key: str


class ChunkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A row of submitted tasks with equal attributes. Immutable."""

    session: int
    first: int
    count: int
    created_ms: int
    lengths: bytes
    blob: bytes
    attributes: bytes = b""


class ChunkHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk row without its payloads, as recovery reads it."""

    session: int
    first: int
    count: int
    created_ms: int
    nbytes: int
    attributes: bytes = b""


class SegmentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A row of outcomes: a run of tasks that became terminal together. Immutable, never overlapping.

    Args:
        sequence: per session 1, 2, 3, ... in commit order.
        state: the state of all tasks, unless `states` is given.
        states: one byte per task (`TaskState`), or empty where all are equal.
        lengths, blob: outputs, or `FailureRecord` JSON for failed tasks; both empty for cancelled ranges, which may
            be longer than `MAX_CHUNK_TASKS`. A length of 0xFFFFFFFF means the task returned None. A blob without
            lengths is the payload of every task of the segment (many tasks that failed for one reason).
    """

    session: int
    sequence: int
    first: int
    count: int
    state: TaskState
    states: bytes = b""
    lengths: bytes = b""
    blob: bytes = b""
    finished_ms: int

    @property
    def window_bytes(self) -> int:
        """What it takes of a window of results: never more than the client counts when it opens the window again,
        however many tasks one row stands for."""
        return len(self.blob) + TASK_OVERHEAD_BYTES * (1 + len(self.lengths) // 4)


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A segment row without its payloads, as recovery reads it."""

    session: int
    sequence: int
    first: int
    count: int
    state: TaskState
    states: bytes = b""
    nbytes: int = 0


class BindingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An executor bound to a session. `binding` is the attempt under which it was bound; larger is newer."""

    executor: str
    node: str
    session: int
    binding: int
    created_ms: int


class DeathsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How often executors died while running a task (sparse)."""

    session: int
    task: int
    count: int


class PutApplication(msgspec.Struct, frozen=True, tag=True):
    """Insert or replace an application."""

    record: ApplicationRecord


class DeleteApplication(msgspec.Struct, frozen=True, tag=True):
    """Remove an application."""

    name: str


class PutSession(msgspec.Struct, frozen=True, tag=True):
    """Insert or replace a session, by number; its number becomes the last one issued if it is larger."""

    record: SessionRecord


class DeleteSession(msgspec.Struct, frozen=True, tag=True):
    """Forget a session at once; its rows are purged later (`Store.purge`)."""

    number: int


class PutBlock(msgspec.Struct, frozen=True, tag=True):
    """Insert or replace (by session and first) a block of task ids."""

    record: BlockRecord


class PutChunk(msgspec.Struct, frozen=True, tag=True):
    """Append a chunk row."""

    record: ChunkRecord


class PutSegment(msgspec.Struct, frozen=True, tag=True):
    """Append a result segment."""

    record: SegmentRecord


class PutBinding(msgspec.Struct, frozen=True, tag=True):
    """Insert or replace, by executor, a binding."""

    record: BindingRecord


class DeleteBinding(msgspec.Struct, frozen=True, tag=True):
    """Remove the binding of an executor, if there is one."""

    executor: str


class PutDeaths(msgspec.Struct, frozen=True, tag=True):
    """Insert or replace a death count."""

    record: DeathsRecord


Write = (
    PutApplication
    | DeleteApplication
    | PutSession
    | DeleteSession
    | PutBlock
    | PutChunk
    | PutSegment
    | PutBinding
    | DeleteBinding
    | PutDeaths
)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything small that a session manager needs to start: no payloads.

    Chunk headers are ordered by (session, first), segment headers by (session, sequence).
    `last_session` is the largest number ever issued, `time_ms` the largest time in any record.
    """

    applications: tuple[ApplicationRecord, ...] = ()
    sessions: tuple[SessionRecord, ...] = ()
    blocks: tuple[BlockRecord, ...] = ()
    chunks: tuple[ChunkHeader, ...] = ()
    segments: tuple[SegmentHeader, ...] = ()
    bindings: tuple[BindingRecord, ...] = ()
    deaths: tuple[DeathsRecord, ...] = ()
    last_session: int = 0
    time_ms: int = 0
