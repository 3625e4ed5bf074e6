"""Single tasks for the frontend: outcomes of every shape of segment."""

import struct
from typing import Any

import pytest

from flame.model.chunk import NONE_LENGTH
from flame.model.errors import FailureRecord
from flame.model.records import PutSegment, SegmentRecord
from flame.model.states import TaskState
from flame.session_manager.tasks import outcome_of
from flame.wire.published import frontend, types
from tests.session_manager.served import Served, serve

LENGTHS = struct.pack("<4I", 3, NONE_LENGTH, 0, 2)


def segment(**fields: Any) -> SegmentRecord:
    base: dict[str, Any] = {"session": 1, "sequence": 1, "first": 10, "count": 4, "state": TaskState.SUCCEED}
    return SegmentRecord(**{**base, "lengths": LENGTHS, "blob": b"onexy", "finished_ms": 5, **fields})


@pytest.mark.parametrize(("task", "output"), [(10, b"one"), (11, None), (12, b""), (13, b"xy")])
def test_outputs_are_cut_out_of_their_segment(task: int, output: bytes | None) -> None:
    assert outcome_of(segment(), task) == (TaskState.SUCCEED, output)


def test_each_task_has_its_own_state_where_there_is_a_column() -> None:
    states = bytes([TaskState.SUCCEED, TaskState.SUCCEED, TaskState.SUCCEED, TaskState.FAILED])
    assert outcome_of(segment(states=states), 13) == (TaskState.FAILED, b"xy")
    assert outcome_of(segment(states=states), 10) == (TaskState.SUCCEED, b"one")


def test_a_blob_without_lengths_is_the_payload_of_every_task() -> None:
    shared = segment(state=TaskState.FAILED, lengths=b"", blob=b"why")
    assert outcome_of(shared, 10) == outcome_of(shared, 13) == (TaskState.FAILED, b"why")
    assert outcome_of(segment(state=TaskState.CANCELLED, lengths=b"", blob=b""), 11) == (TaskState.CANCELLED, None)


def test_a_failed_task_shows_why_in_its_last_event() -> None:
    async def test(served: Served) -> None:
        spec = types.SessionSpec(application="flmping")
        await served.call("CreateSession", frontend.CreateSessionRequest(session_id="s", session=spec))
        task = types.TaskSpec(session_id="s", input=b"in")
        await served.call("CreateTask", frontend.CreateTaskRequest(task=task))
        session = served.state.sessions_by_name["s"]
        session.queue.clear()
        failure = FailureRecord("no such thing", type="KeyError").encode()
        record = SegmentRecord(
            session=session.number, sequence=1, first=1, count=1, state=TaskState.FAILED, blob=failure, finished_ms=7
        )
        served.store.commit(served.state.epoch, [PutSegment(record)])
        shown: Any = await served.call("GetTask", frontend.GetTaskRequest(session_id="s", task_id="1"))
        assert shown.status.state == types.Failed
        assert shown.status.completion_time == 7
        assert shown.status.events[-1].message == "KeyError: no such thing"
        assert not shown.spec.HasField("output")
        assert shown.spec.input == b"in"

    serve(test)
