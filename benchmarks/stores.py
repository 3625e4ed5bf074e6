"""Figures of the durable store on this disk: `python -m benchmarks.stores [DIRECTORY]`.

Commit latency of one small and one large row, chunk and segment rows per second with what a busy session manager
commits, checkpoints included, and the time to recover 10 million tasks.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flame.model.limits import KIB, MAX_CHUNK_TASKS
from flame.model.records import ChunkRecord, PutChunk, PutSegment, PutSession, SegmentRecord, SessionRecord, Write
from flame.model.specs import SessionSpec
from flame.model.states import TaskState
from flame.stores.sqlite import SqliteStore

TASK_BYTES = 30
ROWS_PER_COMMIT = 8


def put_chunk(session: int, number: int, count: int, blob: bytes) -> PutChunk:
    """Chunk `number` (0, 1, ...) of `count` equal tasks."""
    lengths = (len(blob) // count).to_bytes(4, "little") * count
    record = ChunkRecord(
        session=session, first=1 + number * count, count=count, created_ms=1, lengths=lengths, blob=blob
    )
    return PutChunk(record)


def put_segment(session: int, number: int, count: int, blob: bytes) -> PutSegment:
    """The outcomes of chunk `number`."""
    lengths = (len(blob) // count).to_bytes(4, "little") * count
    record = SegmentRecord(
        session=session,
        sequence=1 + number,
        first=1 + number * count,
        count=count,
        state=TaskState.SUCCEED,
        lengths=lengths,
        blob=blob,
        finished_ms=1,
    )
    return PutSegment(record)


def put_session(number: int) -> PutSession:
    """An open session."""
    spec = SessionSpec(application="benchmark")
    return PutSession(SessionRecord(number=number, name=f"s-{number}", spec=spec, created_ms=1))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lie."""
    return sorted(values)[int(share * (len(values) - 1))]


def latencies_ms(store: SqliteStore, epoch: int, commits: int, write: Callable[[int], Write]) -> list[float]:
    """Milliseconds of each of `commits` commits of one row; housekeeping between them is not counted."""
    found = []
    for number in range(commits):
        writes = [write(number)]
        start = time.perf_counter()
        store.commit(epoch, writes)
        found.append((time.perf_counter() - start) * 1e3)
        store.maintain()
    return found


def sustained(store: SqliteStore, epoch: int, session: int, rows: int) -> dict[str, float]:
    """Commit `rows` chunks and as many segments, some per commit, with the checkpoints they cause."""
    blob = os.urandom(TASK_BYTES * MAX_CHUNK_TASKS)
    maintenance_ms = []
    start, cpu = time.perf_counter(), time.process_time()
    for number in range(0, rows, ROWS_PER_COMMIT):
        numbers = range(number, number + ROWS_PER_COMMIT)
        chunks = [put_chunk(session, n, MAX_CHUNK_TASKS, blob) for n in numbers]
        store.commit(epoch, [*chunks, *(put_segment(session, n, MAX_CHUNK_TASKS, blob) for n in numbers)])
        before = time.perf_counter()
        store.maintain()
        maintenance_ms.append((time.perf_counter() - before) * 1e3)
    seconds = time.perf_counter() - start
    checkpoints_ms = [ms for ms in maintenance_ms if ms > 1]
    return {
        "chunk_rows_per_s": rows / seconds,
        "cpu_us_per_row": (time.process_time() - cpu) / (2 * rows) * 1e6,
        "checkpoint_p50_ms": percentile(checkpoints_ms, 0.5),
        "checkpoint_max_ms": max(checkpoints_ms),
    }


def measure(directory: Path) -> dict[str, float]:
    """All figures, with a new store in `directory`."""
    store = SqliteStore(directory)
    epoch = store.open()
    store.commit(epoch, [put_session(number) for number in range(1, 5)])
    figures: dict[str, float] = {}
    large = os.urandom(TASK_BYTES * KIB)
    writes: dict[str, Callable[[int], Write]] = {
        "first_30_bytes": lambda number: put_chunk(1, number, 1, b"x" * TASK_BYTES),
        "large": lambda number: put_chunk(2, number, KIB, large),
        "30_bytes": lambda number: put_chunk(3, number, 1, b"x" * TASK_BYTES),
        "segment_30_bytes": lambda number: put_segment(3, number, 1, b"x" * TASK_BYTES),
        "30_kib": lambda number: put_segment(2, number, KIB, large),
    }
    for name, write in writes.items():
        found = latencies_ms(store, epoch, 1000, write)
        figures[f"commit_{name}_p50_ms"] = percentile(found, 0.5)
        figures[f"commit_{name}_p99_ms"] = percentile(found, 0.99)
    figures |= sustained(store, epoch, 4, 10_000)
    store.close()
    start = time.perf_counter()
    store.open()
    figures["open_ms"] = (time.perf_counter() - start) * 1e3
    start = time.perf_counter()
    snapshot = store.recover()
    figures["recover_ms"] = (time.perf_counter() - start) * 1e3
    figures["recover_tasks"] = sum(chunk.count for chunk in snapshot.chunks)
    store.close()
    return figures


def main(arguments: Sequence[str]) -> None:
    """Print the figures as JSON."""
    with tempfile.TemporaryDirectory(dir=arguments[0] if arguments else None) as directory:
        figures = measure(Path(directory))
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
