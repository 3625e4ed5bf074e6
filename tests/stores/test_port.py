"""The conformance suite finds out stores that break the port."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from flame.model.records import DeleteSession, SegmentRecord, Snapshot, Write
from flame.stores.memory import MemoryStore
from flame.stores.port import Store
from tests.stores.conformance import SMALL_BYTES, faults
from tests.stores.test_memory import MemoryPlace


class LosesTheLastWrite(MemoryStore):
    """Forgets the last write of each commit of more than one."""

    def commit(self, epoch: int, writes: Sequence[Write]) -> None:
        super().commit(epoch, writes[:-1] if len(writes) > 1 else writes)


class IgnoresTheEpoch(MemoryStore):
    """Lets every session manager write."""

    def commit(self, epoch: int, writes: Sequence[Write]) -> None:
        super().commit(self._epoch, writes)


class SegmentsOutOfOrder(MemoryStore):
    """Returns the newest segments first."""

    def read_segments(
        self, session: int, after: int, limit_bytes: int, block: range | None = None
    ) -> Sequence[SegmentRecord]:
        return list(reversed(super().read_segments(session, after, limit_bytes, block)))


class IgnoresTheBlock(MemoryStore):
    """Gives each submitter the results of all."""

    def read_segments(
        self, session: int, after: int, limit_bytes: int, block: range | None = None
    ) -> Sequence[SegmentRecord]:
        return super().read_segments(session, after, limit_bytes)


class StoresHalfOfARefusedCommit(MemoryStore):
    """Applies the writes one by one."""

    def commit(self, epoch: int, writes: Sequence[Write]) -> None:
        if not writes:
            super().commit(epoch, writes)
        for write in writes:
            super().commit(epoch, [write])


class ReusesSessionNumbers(MemoryStore):
    """Takes the largest number of the sessions that are left for the last one issued."""

    def recover(self) -> Snapshot:
        found = super().recover()
        return Snapshot(
            applications=found.applications,
            sessions=found.sessions,
            blocks=found.blocks,
            chunks=found.chunks,
            segments=found.segments,
            bindings=found.bindings,
            deaths=found.deaths,
            last_session=max((session.number for session in found.sessions), default=0),
            time_ms=found.time_ms,
        )


class NeverDeletes(MemoryStore):
    """Keeps deleted sessions in sight."""

    def commit(self, epoch: int, writes: Sequence[Write]) -> None:
        super().commit(epoch, [write for write in writes if not isinstance(write, DeleteSession)])


class FindsOutcomesByTheirFirstTask(MemoryStore):
    """Finds the outcome of the first task of a segment only."""

    def read_outcome(self, session: int, task: int) -> SegmentRecord | None:
        found = super().read_outcome(session, task)
        return found if found and found.first == task else None


@dataclass
class BrokenPlace:
    """A place with stores of a broken kind."""

    kind: type[MemoryStore]

    def __post_init__(self) -> None:
        self._store = self.kind()

    def store(self) -> Store:
        return self._store

    def small_store(self) -> Store:
        return self.kind(max_bytes=SMALL_BYTES)


@pytest.mark.parametrize(
    ("kind", "found_by"),
    [
        (LosesTheLastWrite, "check_one_commit_takes_all_kinds"),
        (IgnoresTheEpoch, "check_old_epoch_is_fenced_off"),
        (SegmentsOutOfOrder, "check_segments_come_in_order"),
        (IgnoresTheBlock, "check_segments_of_a_block"),
        (StoresHalfOfARefusedCommit, "check_full_store_stays_usable"),
        (ReusesSessionNumbers, "check_last_session_survives_a_delete"),
        (NeverDeletes, "check_deleted_session_is_gone_at_once"),
        (FindsOutcomesByTheirFirstTask, "check_outcome_of_a_task"),
    ],
)
def test_a_broken_store_is_found_out(kind: type[MemoryStore], found_by: str) -> None:
    assert found_by in faults(lambda: BrokenPlace(kind))


@pytest.mark.parametrize("place", [MemoryPlace, lambda: BrokenPlace(MemoryStore)], ids=["memory", "unbroken"])
def test_a_good_store_has_no_faults(place: Callable[[], MemoryPlace | BrokenPlace]) -> None:
    assert faults(place) == []
