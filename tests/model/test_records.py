"""Records and writes are plain data that any encoding of msgspec carries."""

from typing import get_args

import msgspec
import pytest

from flame.model import records
from flame.model.limits import TASK_OVERHEAD_BYTES
from flame.model.records import (
    ApplicationRecord,
    ChunkRecord,
    PutApplication,
    PutChunk,
    PutSegment,
    PutSession,
    SegmentRecord,
    SessionRecord,
    Snapshot,
    Write,
)
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.states import TaskState

WRITES: list[Write] = [
    PutApplication(ApplicationRecord(name="a", spec=ApplicationSpec(environments=(("A", "1"),)), created_ms=1)),
    PutSession(
        SessionRecord(number=1, name="s", spec=SessionSpec(application="a", resources=Resources(cpu=1)), created_ms=2)
    ),
    PutChunk(ChunkRecord(session=1, first=1, count=1, created_ms=3, lengths=b"\1\0\0\0", blob=b"x")),
    PutSegment(SegmentRecord(session=1, sequence=1, first=1, count=1, state=TaskState.CANCELLED, finished_ms=4)),
]


@pytest.mark.parametrize("write", WRITES, ids=lambda write: type(write).__name__)
def test_a_write_round_trips(write: Write) -> None:
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(write), type=Write)
    assert decoded == write
    assert type(decoded) is type(write)


def test_every_kind_of_write_is_in_the_union() -> None:
    named = {
        value for name, value in vars(records).items() if name.startswith(("Put", "Delete")) and isinstance(value, type)
    }
    assert named == set(get_args(Write))


def test_an_empty_snapshot_is_that_of_a_new_store() -> None:
    snapshot = Snapshot()
    assert (snapshot.last_session, snapshot.time_ms, snapshot.sessions) == (0, 0, ())


def test_a_row_takes_as_much_of_a_window_as_its_tasks_and_payload_do() -> None:
    row = SegmentRecord(session=1, sequence=1, first=1, count=1_000_000, state=TaskState.CANCELLED, finished_ms=4)
    assert row.window_bytes == TASK_OVERHEAD_BYTES, "what has no payloads of its own is one thing to a client"
    row = SegmentRecord(
        session=1, sequence=1, first=1, count=3, state=TaskState.SUCCEED, lengths=bytes(12), blob=b"12", finished_ms=4
    )
    assert row.window_bytes == 4 * TASK_OVERHEAD_BYTES + 2
