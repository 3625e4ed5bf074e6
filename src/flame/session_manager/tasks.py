"""Single tasks, read for the frontend: their state from memory, their payloads from the store."""

from google.protobuf.message import Message

from flame.core.control import queries
from flame.core.control.entities import Session
from flame.model.chunk import NONE_LENGTH
from flame.model.errors import FailureRecord, Internal
from flame.model.records import SegmentRecord
from flame.model.states import TaskState
from flame.stores.port import Store
from flame.wire.convert import event_to_proto, task_to_proto

_RUN_TASKS = 256


class TaskReader:
    """Reads tasks out of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._segment: SegmentRecord | None = None

    def read(self, session: Session, task: int) -> Message:
        """A submitted task as `GetTask` shows it."""
        return self._shown(session, task, self._store.read_inputs(session.record.number, task, 1)[1])

    def read_run(self, session: Session, first: int, end: int) -> list[Message]:
        """Some of the submitted tasks [first, end), from the first on: few enough that others have their turns."""
        count = min(end - first, _RUN_TASKS)
        lengths, blob = self._store.read_inputs(session.record.number, first, count)
        messages, start = [], 0
        for task, length in enumerate(memoryview(lengths).cast("I"), first):
            messages.append(self._shown(session, task, blob[start : start + length]))
            start += length
        return messages

    def _shown(self, session: Session, task: int, input: bytes) -> Message:
        created_ms = self._store.read_created(session.record.number, task)
        state = queries.unfinished_state(session, task)
        events = [event_to_proto(TaskState.PENDING, "", created_ms)]
        if state is not None:
            return task_to_proto(
                session_id=session.record.name,
                task=task,
                state=state,
                created_ms=created_ms,
                input=input,
                events=events,
            )
        segment = self._segment_of(session, task)
        state, payload = outcome_of(segment, task)
        message = ""
        if state is TaskState.FAILED:
            failure = FailureRecord.decode(payload or b"")
            message = f"{failure.type}: {failure.message}" if failure.type else failure.message
        events.append(event_to_proto(state, message, segment.finished_ms))
        return task_to_proto(
            session_id=session.record.name,
            task=task,
            state=state,
            created_ms=created_ms,
            completed_ms=segment.finished_ms,
            input=input,
            output=payload if state is TaskState.SUCCEED else None,
            events=events,
        )

    def _segment_of(self, session: Session, task: int) -> SegmentRecord:
        """The segment of a finished task; it never changes, so neighbours need no second read."""
        kept = self._segment
        if kept is None or kept.session != session.record.number or not 0 <= task - kept.first < kept.count:
            kept = self._segment = self._store.read_outcome(session.record.number, task)
        if kept is None:
            raise Internal(f"task {task} of session {session.record.name} is neither queued nor stored as finished")
        return kept


def outcome_of(segment: SegmentRecord, task: int) -> tuple[TaskState, bytes | None]:
    """State and payload of one task of a segment."""
    index = task - segment.first
    state = TaskState(segment.states[index]) if segment.states else segment.state
    if not segment.lengths:
        return state, segment.blob or None
    lengths = memoryview(segment.lengths).cast("I")
    if lengths[index] == NONE_LENGTH:
        return state, None
    start = sum(length for length in lengths[:index] if length != NONE_LENGTH)
    return state, segment.blob[start : start + lengths[index]]
