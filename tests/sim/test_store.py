"""The simulated store keeps the port's promises, and what was synced survives every crash."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.model.errors import Internal
from flame.sim.store import SimDisk, SimStore
from flame.stores.port import Store
from tests.stores.conformance import CHECKS, SMALL_BYTES, Check, put_chunk, put_session


class SimPlace:
    """One simulated disk."""

    def __init__(self) -> None:
        self._disk = SimDisk()

    def store(self) -> Store:
        return SimStore(self._disk)

    def small_store(self) -> Store:
        return SimStore(self._disk, max_bytes=SMALL_BYTES)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check: Check) -> None:
    check(SimPlace())


@given(st.integers(0, 10_000), st.integers(0, 5), st.integers(0, 3))
def test_a_crash_takes_all_of_an_unsynced_commit_or_nothing(seed: int, before: int, unsynced: int) -> None:
    disk = SimDisk()
    store = SimStore(disk)
    epoch = store.open()
    store.commit(epoch, [put_session(1)])
    for number in range(before):
        store.commit(epoch, [put_chunk(1, 1 + 10 * number, 10)])
    for number in range(before, before + unsynced):
        store.begin(epoch, [put_chunk(1, 1 + 10 * number, 4), put_chunk(1, 5 + 10 * number, 6)])
    assert disk.crash(Random(seed)) in ("synced", "lost", "kept", "torn")
    again = SimStore(disk)
    assert again.open() == epoch + 1
    tasks = sum(chunk.count for chunk in again.recover().chunks)
    assert tasks % 10 == 0
    assert 10 * before <= tasks <= 10 * (before + unsynced)


def test_a_sync_that_fails_is_an_error() -> None:
    disk = SimDisk()
    store = SimStore(disk)
    epoch = store.open()
    disk.fails_next = True
    with pytest.raises(Internal, match="sync"):
        store.commit(epoch, [put_session(1)])


def test_a_disk_may_become_full_and_empty_again() -> None:
    store = SimStore(SimDisk())
    store.open()
    assert store.free_bytes() > 1 << 60
    store.resize(100)
    assert store.free_bytes() == 100


def test_a_disk_that_fails_again_after_a_torn_crash_keeps_what_was_synced() -> None:
    for seed in range(40):
        disk = SimDisk()
        store = SimStore(disk)
        epoch = store.open()
        store.commit(epoch, [put_session(1)])
        store.begin(epoch, [put_session(2)])
        disk.crash(Random(seed))
        disk.fails_next = True
        with pytest.raises(Internal):
            SimStore(disk).open()
        disk.crash(Random(seed))
        again = SimStore(disk)
        again.open()
        assert again.recover().sessions[0].number == 1
