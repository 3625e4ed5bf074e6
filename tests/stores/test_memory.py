"""The store in memory."""

import sys
import tracemalloc

import pytest

from flame.model.errors import Internal, ResourceExhausted
from flame.model.records import ChunkRecord, PutChunk
from flame.stores.memory import MemoryStore
from flame.stores.port import Store
from tests.stores.conformance import CHECKS, SMALL_BYTES, Check, put_blob, put_chunk, put_segment


class MemoryPlace:
    """One store that is opened again and again."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    def store(self) -> Store:
        return self._store

    def small_store(self) -> Store:
        return MemoryStore(max_bytes=SMALL_BYTES)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check: Check) -> None:
    check(MemoryPlace())


def test_a_million_tasks_cost_little_beside_their_payload() -> None:
    count, chunks = 1024, 977
    lengths = (64).to_bytes(4, "little") * count
    records = [
        ChunkRecord(session=1, first=1 + n * count, count=count, created_ms=1, lengths=lengths, blob=bytes(64 * count))
        for n in range(chunks)
    ]
    store = MemoryStore()
    epoch = store.open()
    tracemalloc.start()
    try:
        for record in records:
            store.commit(epoch, [PutChunk(record)])
        grown_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown_bytes < 200 * chunks, f"{grown_bytes / chunks:.0f} bytes per chunk beside the record itself"


def test_payloads_are_not_copied() -> None:
    store = MemoryStore()
    epoch = store.open()
    chunk, segment = put_chunk(1, 1, 1000), put_segment(1, 1, 1, 1000)
    store.commit(epoch, [chunk, segment])
    lengths, blob = store.read_inputs(1, 1, 1000)
    assert lengths is chunk.record.lengths
    assert blob is chunk.record.blob
    assert store.read_segments(1, 0, sys.maxsize)[0] is segment.record


def test_a_row_that_is_there_is_a_defect() -> None:
    store = MemoryStore()
    epoch = store.open()
    store.commit(epoch, [put_chunk(1, 1, 5)])
    with pytest.raises(Internal, match="stored already"):
        store.commit(epoch, [put_chunk(1, 1, 5)])


def test_the_error_of_a_full_store_has_the_figures() -> None:
    store = MemoryStore(max_bytes=1000)
    epoch = store.open()
    assert store.free_bytes() == 1000
    with pytest.raises(ResourceExhausted, match=r"0 of 1000 bytes, 2260 more"):
        store.commit(epoch, [put_blob(1, 1, 2000)])
