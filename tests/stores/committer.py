"""Commits chunk after chunk with its outcome, and prints the number of each once it is stored.

Arguments: the directory of the store, how many.
"""

import os
import sys
from pathlib import Path

from flame.model.limits import MIB
from flame.model.records import ChunkRecord, PutChunk, PutSegment, PutSession, SegmentRecord, SessionRecord
from flame.model.specs import SessionSpec
from flame.model.states import TaskState
from flame.stores.sqlite import SqliteStore


def main(directory: str, count: int) -> None:
    """Commit `count` times seven tasks."""
    store = SqliteStore(Path(directory), reserve_bytes=0, checkpoint_bytes=MIB)
    epoch = store.open()
    session = SessionRecord(number=1, name="s", spec=SessionSpec(application="a"), created_ms=1)
    for number in range(1, count + 1):
        first = 1 + 7 * (number - 1)
        text = str(number).encode() * 50
        lengths, blob = len(text).to_bytes(4, "little") * 7, text * 7
        chunk = ChunkRecord(session=1, first=first, count=7, created_ms=1, lengths=lengths, blob=blob)
        segment = SegmentRecord(
            session=1,
            sequence=number,
            first=first,
            count=7,
            state=TaskState.SUCCEED,
            lengths=lengths,
            blob=blob,
            finished_ms=1,
        )
        start = [PutSession(session)] if number == 1 else []
        store.commit(epoch, [*start, PutChunk(chunk), PutSegment(segment)])
        os.write(1, f"{number}\n".encode())
        store.maintain()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
