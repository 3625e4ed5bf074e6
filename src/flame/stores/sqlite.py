"""The durable store: one SQLite file in a directory of its own.

**Durability.** Write-ahead log, `synchronous=FULL`: a commit has written its pages to the log and synced it before it
returns. Checkpoints, which move the log's pages into the database file, run in `maintain()` only; after one the log is
written from its start again, over blocks that the file already has, which makes a commit cheaper than an append.

**Full disk.** The directory holds a reserve, a file of `reserve_bytes`. A commit with chunks in it that finds the disk
full is refused at once; one without (results, deletions, bindings) releases the reserve and tries once more. So after
new work has been refused there is room for about half that many bytes of results, which stand in the log and then in
the database file. `maintain()` allocates the reserve again when there is room. With `max_page_count`, which bounds the
database file itself, a share of the pages plays this part. Once the reserve is used up too, a deletion needs room that
only the operator can make; a session manager stops taking work well before.

**Fence.** `open()` raises the epoch in the file; each commit reads it within its transaction. A lock on the directory
keeps other processes out in the first place.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from flame.model.errors import Aborted, FailedPrecondition, FlameError, Internal, NotFound, ResourceExhausted
from flame.model.limits import MAX_READ_SEGMENTS, MAX_TASK_ID, MIB
from flame.model.records import (
    BlockRecord,
    ChunkHeader,
    DeathsRecord,
    DeleteSession,
    PutChunk,
    PutSegment,
    SegmentHeader,
    SegmentRecord,
    Snapshot,
    Write,
)
from flame.stores import sqlite_schema as schema
from flame.stores.columns import gather
from flame.stores.directory import StoreDirectory, sync_directory

DATABASE_NAME: Final = "flame.db"
LOG_NAME: Final = f"{DATABASE_NAME}-wal"
RESERVE_BYTES: Final = 8 * MIB
CHECKPOINT_BYTES: Final = 16 * MIB
"""Log after which `maintain` checkpoints: 20-60 ms of a fast disk when all of it is payload, 1-3 ms for small rows."""

PAGE_BYTES: Final = 16 * 1024
"""Large pages: a chunk of 30 KiB takes three, and the bulk path is a quarter faster than with 4 KiB; a lone small
commit costs the same."""
_CACHE_KIB: Final = 4 * 1024
_BACKSTOP: Final = 4
"""SQLite itself checkpoints within a commit at this many times the bound, should `maintain` not be called."""
_COMMIT_PAGES: Final = 4
"""Pages of the trees that a commit writes beside its payload, about."""
_ROW_BYTES: Final = 64
"""What a row weighs beside its payload when its deletion is rationed."""

log = logging.getLogger(__name__)


class SqliteStore:
    """Keeps everything in `directory`, which one process at a time may have.

    Args:
        directory: made (mode 0700) where it is missing; its files have mode 0600.
        max_page_count: most pages of `PAGE_BYTES` of the database file; None for as many as the disk has.
        reserve_bytes: room kept for results on a full disk.
        checkpoint_bytes: bound of the log, about; smaller ones mean shorter and more frequent checkpoints.

    Example:
        >>> import tempfile
        >>> store = SqliteStore(Path(tempfile.mkdtemp()) / "store")
        >>> epoch = store.open()
        >>> store.commit(epoch, [])
        >>> store.close()
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_page_count: int | None = None,
        reserve_bytes: int = RESERVE_BYTES,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
    ) -> None:
        self.store_id = ""
        self._directory = StoreDirectory(directory, reserve_bytes if max_page_count is None else 0)
        self._path = directory / DATABASE_NAME
        self._max_page_count = max_page_count
        self._reserve_pages = min(reserve_bytes // PAGE_BYTES, (max_page_count or 0) // 4)
        self._pages_reserved = False
        self._checkpoint_bytes = checkpoint_bytes
        self._checkpoint_at_bytes = checkpoint_bytes
        self._log_bytes = 0
        self._connection: sqlite3.Connection | None = None
        self._epoch = 0
        self._deleted: set[int] = set()

    # --- open and close ----------------------------------------------------------------------------------------------

    def open(self) -> int:
        """Open the store, making it where it is missing, raise its epoch by one and return it.

        Raises:
            FailedPrecondition: another process has it, or a newer version of Flame wrote it.
            ConfigurationError: the directory cannot be used.
            ResourceExhausted: the disk is full.
            Internal: the file is damaged.
        """
        try:
            if self._connection is None:
                self._directory.acquire()
                self._with_reserve(self._connect, True)
            self._with_reserve(self._raise_epoch, True)
        except BaseException:
            self.close()
            raise
        return self._epoch

    def close(self) -> None:
        """Close it and let others open it; idempotent."""
        self._disconnect()
        self._directory.release()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> None:
        self._disconnect()  # of an attempt that found the disk full
        path, log_path = self._path, self._path.with_name(LOG_NAME)
        # A log left by a killed process counts in full: where its valid part ends is for SQLite to know.
        self._log_bytes = log_path.stat().st_size if log_path.exists() else 0
        if self._log_bytes and not path.exists():  # SQLite would delete it, and what was acknowledged with it
            raise FailedPrecondition(
                f"{path} is missing, and its log {LOG_NAME} is there", hint="put it back, or move the log away"
            )
        self._directory.private_file(DATABASE_NAME)
        with self._errors("open"):
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection = connection
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute(
                "PRAGMA secure_delete=OFF"
            ).fetchone()  # on in some builds: purging would write all zeros
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint={_BACKSTOP * self._checkpoint_bytes // PAGE_BYTES}")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if not tables:
            self._create()
            sync_directory(self._path.parent)
        elif "meta" not in tables:
            raise Internal(f"{path} is not a store of Flame", hint="name another data directory")
        self._directory.watch(DATABASE_NAME, LOG_NAME)  # SQLite keeps both as long as the connection is open
        self._check_format()
        self.store_id = str(self._meta("store_id"))
        self._deleted = {session for (session,) in self._rows("SELECT session FROM deleted")}
        self._reserve_page_room()

    def _create(self) -> None:
        with self._transaction() as connection:
            for statement in schema.SCHEMA.split(";"):
                connection.execute(statement)
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [
                    ("format", schema.FORMAT),
                    ("store_id", token_hex(16)),
                    ("epoch", 0),
                    ("last_session", 0),
                    ("time_ms", 0),
                ],
            )

    def _check_format(self) -> None:
        found = self._meta("format")
        if found != schema.FORMAT:
            raise FailedPrecondition(
                f"{self._path} has format {found}, this version of Flame reads format {schema.FORMAT}",
                hint="run the newer version of Flame that wrote it, or name another data directory",
            )

    def _raise_epoch(self) -> None:
        with self._transaction() as connection:
            connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'")
            epoch = self._meta("epoch")
        self._epoch = epoch

    # --- writing -----------------------------------------------------------------------------------------------------

    def commit(self, epoch: int, writes: Sequence[Write]) -> None:
        """Make `writes` durable, all or none, in order.

        Raises:
            Aborted: `epoch` is not the store's epoch any more.
            ResourceExhausted: the disk is full; nothing of `writes` was stored and the store is usable.
            Internal: anything else; whether they were stored is not known, and the process must end.
        """
        for_results = not any(type(write) is PutChunk for write in writes)
        self._with_reserve(lambda: self._write(epoch, writes), for_results)
        self._log_bytes += _log_bytes(writes)
        for write in writes:
            if type(write) is DeleteSession:
                self._deleted.add(write.number)

    def _write(self, epoch: int, writes: Sequence[Write]) -> None:
        with self._transaction(epoch) as connection:
            for kind, run in groupby(writes, type):
                rows = list(run)
                for statement, parameters in schema.WRITES[kind]:
                    connection.executemany(statement, map(parameters, rows))

    def purge(self, limit_bytes: int) -> bool:
        """Delete about `limit_bytes` of rows of deleted sessions; return whether more is left.

        The file does not shrink: what is deleted becomes room for new rows, and `free_bytes` counts it.
        """
        if self._deleted:
            with suppress(ResourceExhausted):  # there is room again after the next checkpoint, or later
                self._with_reserve(lambda: self._purge(min(self._deleted), limit_bytes), True)
        return bool(self._deleted)

    def _purge(self, session: int, limit_bytes: int) -> None:
        left_bytes = limit_bytes
        with self._transaction(self._epoch) as connection:
            for table, key, time in (("chunk", "first", "created_ms"), ("segment", "sequence", "finished_ms")):
                last, time_ms = -1, 0
                sizes = f"SELECT {key}, {time}, length(lengths) + length(blob) FROM {table} WHERE session = ?"
                for last, row_ms, nbytes in connection.execute(f"{sizes} ORDER BY {key}", (session,)):  # noqa: B007
                    time_ms = max(time_ms, row_ms)
                    left_bytes -= nbytes + _ROW_BYTES
                    if left_bytes <= 0:
                        break
                connection.execute(f"DELETE FROM {table} WHERE session = ? AND {key} <= ?", (session, last))
                connection.execute(schema.SEEN, (time_ms,))
                if left_bytes <= 0:
                    break
            else:
                for table in ("block", "deaths", "deleted"):
                    connection.execute(f"DELETE FROM {table} WHERE session = ?", (session,))
        self._log_bytes += limit_bytes // 16 + _COMMIT_PAGES * PAGE_BYTES
        if left_bytes > 0:
            self._deleted.discard(session)

    def maintain(self) -> None:
        """Checkpoint the log when it has grown beyond its bound, and allocate the reserve when it is missing."""
        if self._log_bytes >= self._checkpoint_at_bytes:
            self._checkpoint()
        self._directory.make_reserve()
        self._reserve_page_room()

    def _checkpoint(self) -> None:
        self._directory.check_files(self._save_log)
        pages, done = self._log_bytes // PAGE_BYTES, 0
        growth_bytes = self._pragma("page_count") * PAGE_BYTES - self._path.stat().st_size
        if growth_bytes <= self._directory.disk_free_bytes():
            with suppress(ResourceExhausted), self._errors("checkpoint"):
                _, pages, done = self._open_connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages == done:
            self._log_bytes, self._checkpoint_at_bytes = 0, self._checkpoint_bytes
        else:  # another program reads the file, or it cannot grow: the log goes on, and this is tried again later
            self._log_bytes = pages * PAGE_BYTES
            self._checkpoint_at_bytes = self._log_bytes + self._checkpoint_bytes // 4

    # --- reading -----------------------------------------------------------------------------------------------------

    def recover(self) -> Snapshot:
        """Everything small, as stored now."""
        deleted = self._deleted
        chunks = self._rows(
            "SELECT session, first, count, created_ms, length(blob), attributes FROM chunk ORDER BY session, first"
        )
        segments = self._rows(
            "SELECT session, sequence, first, count, state, finished_ms, states, length(blob) FROM segment"
            " ORDER BY session, sequence"
        )
        blocks = self._rows("SELECT session, first, key FROM block ORDER BY session, first")
        deaths = self._rows("SELECT session, task, count FROM deaths ORDER BY session, task")
        return Snapshot(
            applications=self._records("application", "name", schema.decode_application),
            sessions=self._records("session", "number", schema.decode_session),
            blocks=tuple(BlockRecord(session=s, first=f, key=key) for s, f, key in blocks if s not in deleted),
            chunks=tuple(
                ChunkHeader(session=s, first=f, count=n, created_ms=ms, nbytes=nbytes, attributes=attributes)
                for s, f, n, ms, nbytes, attributes in chunks
                if s not in deleted
            ),
            segments=tuple(
                SegmentHeader(
                    session=s,
                    sequence=sequence,
                    first=f,
                    count=n,
                    state=schema.TASK_STATES[state],
                    states=states,
                    nbytes=nbytes,
                )
                for s, sequence, f, n, state, _, states, nbytes in segments
                if s not in deleted
            ),
            bindings=self._records("binding", "executor", schema.decode_binding),
            deaths=tuple(DeathsRecord(session=s, task=task, count=n) for s, task, n in deaths if s not in deleted),
            last_session=self._meta("last_session"),
            time_ms=max(
                self._meta("time_ms"),
                max((row[3] for row in chunks), default=0),
                max((row[5] for row in segments), default=0),
            ),
        )

    def read_inputs(self, session: int, first: int, count: int) -> tuple[bytes, bytes]:
        """The `lengths` column and blob of tasks [first, first + count), whatever rows they stand in.

        Raises:
            NotFound: some of them are not stored.
        """
        rows = () if session in self._deleted else self._rows(schema.READ_INPUTS, (session, first, count))
        return gather(session, first, count, rows)

    def read_created(self, session: int, task: int) -> int:
        """When a task was stored, in Unix milliseconds.

        Raises:
            NotFound: it is not stored.
        """
        rows = [] if session in self._deleted else self._rows(schema.READ_CREATED, (session, task))
        for created_ms, end in rows:
            if task < end:
                return int(created_ms)
        raise NotFound(f"session {session}: task {task} is not stored")

    def read_segments(
        self, session: int, after: int, limit_bytes: int, block: range | None = None
    ) -> Sequence[SegmentRecord]:
        """Segments with a sequence above `after`, in order; see the port."""
        found: list[SegmentRecord] = []
        if session in self._deleted:
            return found
        first, last = (0, MAX_TASK_ID) if block is None else (block.start, block.stop - 1)
        left_bytes = limit_bytes
        with self._errors("read"):
            cursor = self._open_connection().execute(
                schema.READ_SEGMENTS, (session, after, first, last, MAX_READ_SEGMENTS)
            )
            # An open reader would let the log grow without end.
            try:
                for row in cursor:
                    segment = schema.segment_of(row)
                    left_bytes -= segment.window_bytes
                    if found and left_bytes < 0:
                        break
                    found.append(segment)
            finally:
                cursor.close()
        return found

    def read_outcome(self, session: int, task: int) -> SegmentRecord | None:
        """The segment that holds the outcome of a task, or None."""
        rows = [] if session in self._deleted else self._rows(schema.READ_OUTCOME, (session, task))
        segment = schema.segment_of(rows[0]) if rows else None
        return segment if segment is not None and task < segment.first + segment.count else None

    def free_bytes(self) -> int:
        """Room left for new work, in bytes: free space on the disk (or pages up to `max_page_count`) and pages that
        deleted sessions left behind, without the reserve.

        Raises:
            Internal: the database or its log is not in its place any more.
        """
        unused_pages = self._pragma("freelist_count")
        self._directory.check_files(self._save_log)
        free_bytes = self._directory.free_bytes() + unused_pages * PAGE_BYTES
        if self._max_page_count is None:
            return free_bytes
        pages = self._max_page_count - self._reserve_pages - self._pragma("page_count") + unused_pages
        return max(0, min(free_bytes, pages * PAGE_BYTES))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _save_log(self, name: str) -> bool:
        """Move all of a log without a name, which is still open, into the database; return whether it is saved."""
        if name == LOG_NAME:
            with suppress(FlameError), self._errors("checkpoint"):
                _, pages, done = self._open_connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                return bool(pages == done)
        return False

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise FailedPrecondition(f"the store {self._path} is not open", hint="call open() first")
        return self._connection

    def _rows(self, statement: str, parameters: schema.Parameters = ()) -> list[tuple[Any, ...]]:
        with self._errors("read"):
            return self._open_connection().execute(statement, parameters).fetchall()

    def _records(self, table: str, key: str, decode: Callable[[bytes], Any]) -> tuple[Any, ...]:
        return tuple(decode(record) for (record,) in self._rows(f"SELECT record FROM {table} ORDER BY {key}"))

    def _meta(self, key: str) -> Any:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        if not rows:
            raise Internal(f"{self._path} is damaged: it lacks its {key}", hint="restore it from a copy")
        return rows[0][0]

    def _pragma(self, name: str) -> int:
        return int(self._rows(f"PRAGMA {name}")[0][0])

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        """Turn errors of SQLite into ours; afterwards no transaction is open."""
        try:
            yield
        except BaseException as error:
            connection = self._open_connection()
            with suppress(sqlite3.Error):
                connection.rollback()
            if isinstance(error, FlameError) or not isinstance(error, Exception):
                raise
            if getattr(error, "sqlite_errorname", "") in _FULL:
                raise ResourceExhausted(
                    f"the disk of {self._path} is full", hint="make room on it, or delete sessions"
                ) from error
            raise Internal(
                f"{self._path}: {action} failed: {error}",
                hint="look for errors of the disk and for other programs that use the file; if the file is damaged,"
                " restore it from a copy",
            ) from error

    @contextmanager
    def _transaction(self, epoch: int | None = None) -> Iterator[sqlite3.Connection]:
        """A transaction that is durable when the block ends; with `epoch` it checks the fence."""
        connection = self._open_connection()
        with self._errors("commit"):
            connection.execute("BEGIN IMMEDIATE")
            if epoch is not None:
                (stored,) = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
                if epoch != stored:
                    raise Aborted(
                        f"{self._path} has epoch {stored}, this session manager has {epoch}",
                        hint="a newer session manager took over; end this one",
                    )
            yield connection
            connection.execute("COMMIT")

    def _with_reserve(self, write: Callable[[], None], for_results: bool) -> None:
        """Call `write`; when the disk is full and it may use the reserve, release that and call it once more."""
        try:
            write()
        except ResourceExhausted:
            if not (for_results and self._release_reserve()):
                raise
            log.warning("the disk of %s is full: using the reserve for results", self._path)
            write()

    def _release_reserve(self) -> bool:
        had_pages, self._pages_reserved = self._pages_reserved, False
        if had_pages:
            self._pragma(f"max_page_count={self._max_page_count}")
        return self._directory.release_reserve() or had_pages

    def _reserve_page_room(self) -> None:
        """Lower SQLite's own limit by the reserve, unless that is done or there is no room for it."""
        if self._max_page_count is None or self._pages_reserved:
            return
        used_pages = self._pragma("page_count") - self._pragma("freelist_count")
        room_left = self._max_page_count - used_pages >= 2 * self._reserve_pages
        limit = self._max_page_count - (self._reserve_pages if room_left else 0)
        self._pragma(f"max_page_count={limit}")
        self._pages_reserved = room_left


_FULL: Final = {"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"}
"""How a full disk shows: in the files themselves, or in the log's index."""


def _log_bytes(writes: Sequence[Write]) -> int:
    """About how much a commit adds to the log."""
    nbytes = _COMMIT_PAGES * PAGE_BYTES
    for write in writes:
        if isinstance(write, PutChunk | PutSegment):
            payload_bytes = len(write.record.lengths) + len(write.record.blob)
            nbytes += payload_bytes + (PAGE_BYTES if payload_bytes > PAGE_BYTES // 4 else _ROW_BYTES)
        else:
            nbytes += 2 * _ROW_BYTES
    return nbytes
