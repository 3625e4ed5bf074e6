"""A store in memory: nothing survives the process."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter
from secrets import token_hex
from typing import Final, Generic, TypeVar

from flame.model.errors import Aborted, FailedPrecondition, Internal, NotFound, ResourceExhausted
from flame.model.limits import MAX_READ_SEGMENTS
from flame.model.records import (
    ApplicationRecord,
    BindingRecord,
    BlockRecord,
    ChunkHeader,
    ChunkRecord,
    DeathsRecord,
    DeleteApplication,
    DeleteBinding,
    DeleteSession,
    PutApplication,
    PutBinding,
    PutBlock,
    PutChunk,
    PutDeaths,
    PutSegment,
    PutSession,
    SegmentHeader,
    SegmentRecord,
    SessionRecord,
    Snapshot,
    Write,
)
from flame.stores.columns import gather

Row = TypeVar("Row", ChunkRecord, SegmentRecord)

ROW_BYTES: Final = 256
"""What a row costs beside its payload, about: its objects and its places in the lists."""

_UNLIMITED_BYTES: Final = 1 << 62


class MemoryStore:
    """Keeps the very records it is given; a row costs about `ROW_BYTES` beside its payload.

    A store that is opened again (closed in between or not) still has its records and a higher epoch, so that tests and
    simulations can restart a session manager on it.

    Args:
        max_bytes: payload and rows it may hold; a commit with tasks in it that would go beyond is refused. None: as
            much as the machine has.

    Example:
        >>> store = MemoryStore()
        >>> epoch = store.open()
        >>> store.commit(epoch, [])
    """

    def __init__(self, *, max_bytes: int | None = None) -> None:
        self.store_id = ""
        self.max_bytes = max_bytes
        self._is_open = False
        self._epoch = 0
        self._used_bytes = 0
        self._applications: dict[str, ApplicationRecord] = {}
        self._sessions: dict[int, SessionRecord] = {}
        self._blocks: dict[tuple[int, int], BlockRecord] = {}
        self._bindings: dict[str, BindingRecord] = {}
        self._deaths: dict[tuple[int, int], DeathsRecord] = {}
        self._chunks: dict[int, _Rows[ChunkRecord]] = {}
        self._segments: dict[int, _Segments] = {}
        self._garbage: list[ChunkRecord | SegmentRecord] = []
        self._last_session = 0
        self._time_ms = 0

    def open(self) -> int:
        """Raise the epoch by one and return it."""
        self.store_id = self.store_id or token_hex(16)
        self._is_open = True
        self._epoch += 1
        return self._epoch

    def commit(self, epoch: int, writes: Sequence[Write]) -> None:
        """Keep `writes`, all or none.

        Raises:
            Aborted: the store was opened again since `epoch`.
            ResourceExhausted: beyond `max_bytes`; nothing was stored.
        """
        self._check_open()
        if epoch != self._epoch:
            raise Aborted(
                f"the store in memory has epoch {self._epoch}, this session manager has {epoch}",
                hint="a newer session manager took over; end this one",
            )
        if self.max_bytes is not None:
            self._check_room(self.max_bytes, writes)
        for write in writes:
            _APPLY[type(write)](self, write)

    def recover(self) -> Snapshot:
        """Everything small, as kept now."""
        self._check_open()
        return Snapshot(
            applications=tuple(self._applications[name] for name in sorted(self._applications)),
            sessions=tuple(self._sessions[number] for number in sorted(self._sessions)),
            blocks=tuple(self._blocks[key] for key in sorted(self._blocks)),
            chunks=tuple(
                ChunkHeader(
                    session=chunk.session,
                    first=chunk.first,
                    count=chunk.count,
                    created_ms=chunk.created_ms,
                    nbytes=len(chunk.blob),
                    attributes=chunk.attributes,
                )
                for session in sorted(self._chunks)
                for chunk in self._chunks[session].rows
            ),
            segments=tuple(
                SegmentHeader(
                    session=segment.session,
                    sequence=segment.sequence,
                    first=segment.first,
                    count=segment.count,
                    state=segment.state,
                    states=segment.states,
                    nbytes=len(segment.blob),
                )
                for session in sorted(self._segments)
                for segment in self._segments[session].by_sequence.rows
            ),
            bindings=tuple(self._bindings[executor] for executor in sorted(self._bindings)),
            deaths=tuple(self._deaths[key] for key in sorted(self._deaths)),
            last_session=self._last_session,
            time_ms=self._time_ms,
        )

    def read_inputs(self, session: int, first: int, count: int) -> tuple[bytes, bytes]:
        """The `lengths` column and blob of tasks [first, first + count).

        Raises:
            NotFound: some of them are not kept.
        """
        self._check_open()
        rows = self._chunks[session].overlapping(first, count) if session in self._chunks else ()
        return gather(session, first, count, ((row.first, row.count, row.lengths, row.blob) for row in rows))

    def read_created(self, session: int, task: int) -> int:
        """When a task was stored, in Unix milliseconds.

        Raises:
            NotFound: it is not kept.
        """
        self._check_open()
        rows = self._chunks.get(session)
        row = rows.last_until(task) if rows else None
        if row is None or task >= row.first + row.count:
            raise NotFound(f"session {session}: task {task} is not stored")
        return row.created_ms

    def read_segments(
        self, session: int, after: int, limit_bytes: int, block: range | None = None
    ) -> Sequence[SegmentRecord]:
        """Segments with a sequence above `after`, in order; see the port."""
        self._check_open()
        segments = self._segments.get(session)
        found: list[SegmentRecord] = []
        if segments is None:
            return found
        by_sequence = segments.by_sequence
        left_bytes = limit_bytes
        for place in range(bisect_right(by_sequence.keys, after), len(by_sequence.rows)):
            row = by_sequence.rows[place]
            if block is not None and row.first not in block:
                continue
            left_bytes -= row.window_bytes
            if found and (left_bytes < 0 or len(found) == MAX_READ_SEGMENTS):
                break
            found.append(row)
        return found

    def read_outcome(self, session: int, task: int) -> SegmentRecord | None:
        """The segment that holds the outcome of a task, or None."""
        self._check_open()
        segments = self._segments.get(session)
        row = segments.by_first.last_until(task) if segments else None
        return row if row is not None and task < row.first + row.count else None

    def purge(self, limit_bytes: int) -> bool:
        """Let go of about `limit_bytes` of rows of deleted sessions; return whether more is left."""
        self._check_open()
        left_bytes = limit_bytes
        while self._garbage and left_bytes > 0:
            cost_bytes = _cost_bytes(self._garbage.pop())
            self._used_bytes -= cost_bytes
            left_bytes -= cost_bytes
        return bool(self._garbage)

    def maintain(self) -> None:
        """Nothing to do."""

    def free_bytes(self) -> int:
        """What is left of `max_bytes`; 2^62 without one."""
        return _UNLIMITED_BYTES if self.max_bytes is None else max(0, self.max_bytes - self._used_bytes)

    def close(self) -> None:
        """Close it; the records stay until the object goes."""
        self._is_open = False

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if not self._is_open:
            raise FailedPrecondition("the store in memory is not open", hint="call open() first")

    def _check_room(self, max_bytes: int, writes: Sequence[Write]) -> None:
        chunks_bytes = sum(_cost_bytes(write.record) for write in writes if isinstance(write, PutChunk))
        if chunks_bytes and self._used_bytes + chunks_bytes > max_bytes:
            raise ResourceExhausted(
                f"the store in memory holds {self._used_bytes} of {max_bytes} bytes, {chunks_bytes} more do not fit",
                hint="delete sessions, or start the cluster with a durable store",
            )

    def _seen(self, time_ms: int) -> None:
        self._time_ms = max(self._time_ms, time_ms)

    def _put_application(self, write: PutApplication) -> None:
        self._applications[write.record.name] = write.record
        self._seen(write.record.created_ms)

    def _delete_application(self, write: DeleteApplication) -> None:
        self._applications.pop(write.name, None)

    def _put_session(self, write: PutSession) -> None:
        record = write.record
        self._sessions[record.number] = record
        self._last_session = max(self._last_session, record.number)
        self._seen(max(record.created_ms, record.closed_ms or 0))

    def _delete_session(self, write: DeleteSession) -> None:
        number = write.number
        self._sessions.pop(number, None)
        if number in self._chunks:
            self._garbage.extend(self._chunks.pop(number).rows)
        if number in self._segments:
            self._garbage.extend(self._segments.pop(number).by_sequence.rows)
        for table in (self._blocks, self._deaths):
            for key in [key for key in table if key[0] == number]:
                del table[key]

    def _put_block(self, write: PutBlock) -> None:
        self._blocks[write.record.session, write.record.first] = write.record

    def _put_chunk(self, write: PutChunk) -> None:
        record = write.record
        rows = self._chunks.get(record.session)
        if rows is None:
            rows = self._chunks[record.session] = _Rows(attrgetter("first"))
        rows.add(record)
        self._used_bytes += _cost_bytes(record)
        self._seen(record.created_ms)

    def _put_segment(self, write: PutSegment) -> None:
        record = write.record
        segments = self._segments.get(record.session)
        if segments is None:
            segments = self._segments[record.session] = _Segments()
        segments.by_sequence.add(record)
        segments.by_first.add(record)
        self._used_bytes += _cost_bytes(record)
        self._seen(record.finished_ms)

    def _put_binding(self, write: PutBinding) -> None:
        self._bindings[write.record.executor] = write.record
        self._seen(write.record.created_ms)

    def _delete_binding(self, write: DeleteBinding) -> None:
        self._bindings.pop(write.executor, None)

    def _put_deaths(self, write: PutDeaths) -> None:
        self._deaths[write.record.session, write.record.task] = write.record


class _Rows(Generic[Row]):
    """Rows in the order of a unique key; rows that arrive in order, as nearly all do, are appended."""

    __slots__ = ("_key", "keys", "rows")

    def __init__(self, key: Callable[[Row], int]) -> None:
        self._key: Callable[[Row], int] = key
        self.keys: list[int] = []
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Put a row into its place.

        Raises:
            Internal: there is one with its key.
        """
        key = self._key(row)
        place = len(self.keys) if not self.keys or key > self.keys[-1] else bisect_left(self.keys, key)
        if place < len(self.keys) and self.keys[place] == key:
            raise Internal(f"session {row.session}: a row with key {key} is stored already")
        self.keys.insert(place, key)
        self.rows.insert(place, row)

    def last_until(self, key: int) -> Row | None:
        """The row with the largest key up to `key`."""
        place = bisect_right(self.keys, key)
        return self.rows[place - 1] if place else None

    def overlapping(self, first: int, count: int) -> Sequence[Row]:
        """The rows from the one at or before `first` to the last that begins before `first + count`."""
        return self.rows[max(0, bisect_right(self.keys, first) - 1) : bisect_left(self.keys, first + count)]


class _Segments:
    """The segments of one session in both orders."""

    __slots__ = ("by_first", "by_sequence")

    def __init__(self) -> None:
        self.by_sequence: _Rows[SegmentRecord] = _Rows(attrgetter("sequence"))
        self.by_first: _Rows[SegmentRecord] = _Rows(attrgetter("first"))


def _cost_bytes(record: ChunkRecord | SegmentRecord) -> int:
    return len(record.lengths) + len(record.blob) + ROW_BYTES


_APPLY: dict[type, Callable[..., None]] = {
    PutApplication: MemoryStore._put_application,
    DeleteApplication: MemoryStore._delete_application,
    PutSession: MemoryStore._put_session,
    DeleteSession: MemoryStore._delete_session,
    PutBlock: MemoryStore._put_block,
    PutChunk: MemoryStore._put_chunk,
    PutSegment: MemoryStore._put_segment,
    PutBinding: MemoryStore._put_binding,
    DeleteBinding: MemoryStore._delete_binding,
    PutDeaths: MemoryStore._put_deaths,
}
