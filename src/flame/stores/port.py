"""The port of a store. One conformance suite (`tests/stores/`) covers every implementation."""

from collections.abc import Sequence
from typing import Protocol

from flame.model.records import SegmentRecord, Snapshot, Write


class Store(Protocol):
    """Where the session manager keeps everything that must survive it.

    A store is used from one thread at a time. All methods raise `flame.model.errors.Internal` when the store is
    broken; `commit` then guarantees nothing, and the process must end.
    """

    store_id: str
    """Random id of this store, made once; sent in every handshake. Valid after `open`."""

    def open(self) -> int:
        """Open the store, raise its epoch by one and return it.

        Raises:
            FailedPrecondition: another process has it open, or it was written by a newer version.
            ConfigurationError: the place cannot be used (no permission, not a directory).
            ResourceExhausted: the disk is full.
        """

    def commit(self, epoch: int, writes: Sequence[Write]) -> None:
        """Make `writes` durable, all or none, in order.

        Raises:
            Aborted: `epoch` is not the store's epoch any more: a newer session manager has it.
            ResourceExhausted: the disk is full; nothing of `writes` was stored and the store is usable.
        """

    def recover(self) -> Snapshot:
        """Everything small, as stored now."""

    def read_inputs(self, session: int, first: int, count: int) -> tuple[bytes, bytes]:
        """The `lengths` column and blob of tasks [first, first + count), whatever rows they stand in.

        Raises:
            NotFound: some of them are not stored.
        """

    def read_segments(
        self, session: int, after: int, limit_bytes: int, block: range | None = None
    ) -> Sequence[SegmentRecord]:
        """Segments with a sequence above `after`, in order, only those whose `first` is in `block` if given.

        At least one if there is any, then as many as fit into `limit_bytes` of a window of results, and 1,024 rows.
        """

    def read_outcome(self, session: int, task: int) -> SegmentRecord | None:
        """The segment that holds the outcome of a task, or None."""

    def read_created(self, session: int, task: int) -> int:
        """When a task was stored, in Unix milliseconds.

        Raises:
            NotFound: it is not stored.
        """

    def purge(self, limit_bytes: int) -> bool:
        """Delete about `limit_bytes` of rows that belong to deleted sessions; return whether more is left.

        Each call is one commit: a purge that is interrupted goes on after `open` where it stopped. A full disk is no
        error: then nothing is deleted, and more is left.
        """

    def maintain(self) -> None:
        """Housekeeping between commits (checkpoints); cheap when there is nothing to do."""

    def free_bytes(self) -> int:
        """Room left for new work, in bytes; the reserve for results is not counted."""

    def close(self) -> None:
        """Close it; idempotent."""
