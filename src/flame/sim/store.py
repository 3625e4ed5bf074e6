"""A simulated store behind the store's port: a log on a disk that a crash robs of what was not synced."""

import zlib
from collections.abc import Sequence
from random import Random
from secrets import token_hex
from struct import Struct

import msgspec

from flame.model.errors import Aborted, FailedPrecondition, Internal
from flame.model.records import SegmentRecord, Snapshot, Write
from flame.stores.memory import MemoryStore

_HEADER = Struct("<II")
_IMAGE_EPOCH = 1


class _Entry(msgspec.Struct, array_like=True):
    """What one sync makes durable: a new epoch, a commit, or a step of a purge."""

    epoch: int
    writes: list[Write] = []
    purged_bytes: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode


class SimDisk:
    """A file: bytes, of which the first `synced` survive every crash.

    Attributes:
        store_id: of the store that it holds; chosen when it is opened first, unless it was set.
        fails_next: the next sync fails; nobody knows what of the bytes before it is durable.
    """

    def __init__(self, store_id: str = "") -> None:
        self.store_id = store_id
        self.data = bytearray()
        self.synced = 0
        self.epoch = 0
        self.fails_next = False

    def append(self, payload: bytes) -> None:
        """Write a record, unsynced."""
        self.data += _HEADER.pack(len(payload), zlib.crc32(payload)) + payload

    def sync(self) -> None:
        """Make everything durable.

        Raises:
            Internal: the disk failed.
        """
        if self.fails_next:
            self.fails_next = False
            raise Internal("the disk failed to sync", hint="look at the kernel's log")
        self.synced = len(self.data)

    def crash(self, random: Random) -> str:
        """Lose power: of what is not synced, all, some or nothing is there afterwards, and a sector may be torn."""
        loose = len(self.data) - self.synced
        if not loose:
            return "synced"
        kept = random.choice((0, loose, random.randrange(loose)))
        del self.data[self.synced + kept :]
        outcome = "lost" if not kept else "kept" if kept == loose else "torn"
        if kept and random.random() < 0.3:
            self.data[self.synced + random.randrange(kept)] ^= 0xFF
            outcome = "torn"
        self.synced = len(self.data)
        return outcome

    def records(self) -> list[bytes]:
        """The records up to the first that is not whole; what follows it is cut off."""
        found, place = [], 0
        while place + _HEADER.size <= len(self.data):
            length, checksum = _HEADER.unpack_from(self.data, place)
            payload = bytes(self.data[place + _HEADER.size : place + _HEADER.size + length])
            if len(payload) != length or zlib.crc32(payload) != checksum:
                break
            found.append(payload)
            place += _HEADER.size + length
        del self.data[place:]
        self.synced = min(self.synced, place)
        return found


class SimStore:
    """A store on a `SimDisk`; see `flame.stores.port`.

    A commit can be made in two steps, so that a crash finds it between them: `begin` writes, `finish` syncs.

    Args:
        disk: where it is.
        max_bytes: as for `MemoryStore`.

    Example:
        >>> store = SimStore(SimDisk())
        >>> store.commit(store.open(), [])
    """

    def __init__(self, disk: SimDisk, *, max_bytes: int | None = None) -> None:
        self.disk = disk
        self.store_id = disk.store_id
        self.max_bytes = max_bytes
        self._image = MemoryStore(max_bytes=max_bytes)
        self._epoch = 0

    def open(self) -> int:
        """Read what is on the disk, raise its epoch by one and return it."""
        disk = self.disk
        self.store_id = disk.store_id = disk.store_id or token_hex(16)
        self._image = MemoryStore()
        self._image.open()
        epoch = 0
        for record in disk.records():
            entry = _decode(record)
            epoch = entry.epoch
            self._image.commit(_IMAGE_EPOCH, entry.writes)
            if entry.purged_bytes:
                self._image.purge(entry.purged_bytes)
        self._image.max_bytes = self.max_bytes
        self._epoch = disk.epoch = epoch + 1
        disk.append(_encode(_Entry(self._epoch)))
        disk.sync()
        return self._epoch

    def commit(self, epoch: int, writes: Sequence[Write]) -> None:
        """Make `writes` durable, all or none; see the port."""
        self.begin(epoch, writes)
        self.finish()

    def begin(self, epoch: int, writes: Sequence[Write]) -> None:
        """The first step of a commit: it is written, and may be lost in a crash."""
        self._check_open()
        if epoch != self.disk.epoch:
            raise Aborted(
                f"the store has epoch {self.disk.epoch}, this session manager has {epoch}",
                hint="a newer session manager took over; end this one",
            )
        self._image.commit(_IMAGE_EPOCH, writes)
        self.disk.append(_encode(_Entry(epoch, list(writes))))

    def finish(self) -> None:
        """The second step: it is durable."""
        self.disk.sync()

    def recover(self) -> Snapshot:
        """Everything small, as stored now."""
        self._check_open()
        return self._image.recover()

    def read_inputs(self, session: int, first: int, count: int) -> tuple[bytes, bytes]:
        """The `lengths` column and blob of tasks [first, first + count); see the port."""
        return self._image.read_inputs(session, first, count)

    def read_segments(
        self, session: int, after: int, limit_bytes: int, block: range | None = None
    ) -> Sequence[SegmentRecord]:
        """Segments with a sequence above `after`; see the port."""
        return self._image.read_segments(session, after, limit_bytes, block)

    def read_outcome(self, session: int, task: int) -> SegmentRecord | None:
        """The segment that holds the outcome of a task, or None."""
        return self._image.read_outcome(session, task)

    def read_created(self, session: int, task: int) -> int:
        """When a task was stored; see the port."""
        return self._image.read_created(session, task)

    def purge(self, limit_bytes: int) -> bool:
        """Delete about `limit_bytes` of rows that belong to deleted sessions; return whether more is left."""
        self._check_open()
        if limit_bytes > 0:
            self.disk.append(_encode(_Entry(self._epoch, [], limit_bytes)))
            self.disk.sync()
        return self._image.purge(limit_bytes)

    def maintain(self) -> None:
        """Nothing to do."""

    def free_bytes(self) -> int:
        """Room left for new work, in bytes."""
        return self._image.free_bytes()

    def resize(self, max_bytes: int | None) -> None:
        """The disk has room for so many bytes from now on."""
        self.max_bytes = self._image.max_bytes = max_bytes

    def close(self) -> None:
        """Close it; idempotent."""
        self._epoch = 0
        self._image.close()

    def _check_open(self) -> None:
        if not self._epoch:
            raise FailedPrecondition("the simulated store is not open", hint="call open() first")
