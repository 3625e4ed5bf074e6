"""How long a commit takes on this disk: the same store, the same sizes as one task at a time makes."""

import tempfile
import time
from pathlib import Path

from flame.model.records import ChunkRecord, PutChunk, PutSegment, PutSession, SegmentRecord, SessionRecord
from flame.model.specs import SessionSpec
from flame.model.states import TaskState
from flame.stores.sqlite import SqliteStore

_LENGTH = (30).to_bytes(4, "little")


def commit_ms(disk: Path, commits: int) -> list[float]:
    """Milliseconds of each of `commits` commits, one task's chunk and one task's segment in turn."""
    samples = []
    with tempfile.TemporaryDirectory(prefix="flame-commit-", dir=disk) as folder:
        store = SqliteStore(Path(folder))
        epoch = store.open()
        spec = SessionSpec(application="bench-reverse")
        store.commit(epoch, [PutSession(SessionRecord(number=1, name="commits", spec=spec, created_ms=1))])
        for number in range(commits):
            task = 1 + number // 2
            write: PutChunk | PutSegment
            if number % 2 == 0:
                write = PutChunk(
                    ChunkRecord(session=1, first=task, count=1, created_ms=1, lengths=_LENGTH, blob=b"%030d" % task)
                )
            else:
                write = PutSegment(
                    SegmentRecord(
                        session=1,
                        sequence=task,
                        first=task,
                        count=1,
                        state=TaskState.SUCCEED,
                        lengths=_LENGTH,
                        blob=b"%030d" % task,
                        finished_ms=1,
                    )
                )
            started = time.perf_counter()
            store.commit(epoch, [write])
            samples.append((time.perf_counter() - started) * 1e3)
            store.maintain()
        store.close()
    return samples
