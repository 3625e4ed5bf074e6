"""What is kept for peers is counted from what passes, and too much of it is noticed."""

import pytest

from flame.core.control.events import ClientSaid
from flame.model.client_messages import AcknowledgeSegments, Segment, SessionAttached, SubmitChunk
from flame.model.executor_messages import AssignTasks, Outcome, ReportOutcomes, TasksRetracted
from flame.model.limits import CREDIT_BYTES
from flame.model.ranges import HeldRange
from flame.model.specs import SessionSpec
from flame.model.states import SessionState, TaskState
from flame.session_manager.pump import Pump
from flame.sim.memory import Memory
from tests.core.harness import Core

ATTACHED = SessionAttached(
    attachment=1,
    session=1,
    session_id="s",
    first=1,
    next_id=1,
    last_sequence=3,
    state=SessionState.OPEN,
    spec=SessionSpec(application="sim"),
    created_ms=0,
)


def segment(sequence: int, nbytes: int) -> Segment:
    return Segment(
        attachment=1, sequence=sequence, first=sequence, count=1, state=TaskState.SUCCEED, blob=bytes(nbytes)
    )


def assignment(attempt: int, nbytes: int) -> AssignTasks:
    return AssignTasks(attempt=attempt, first=10 * attempt, count=2, lengths=b"", blob=bytes(nbytes))


def outcome(attempt: int) -> Outcome:
    return Outcome(attempt=attempt, first=10 * attempt, count=1, state=TaskState.SUCCEED)


def test_a_client_is_sent_no_more_once_its_window_is_full() -> None:
    memory = Memory(100)
    memory.sent(5, segment(1, 60))
    memory.sent(5, segment(2, 60))
    memory.sent(6, segment(3, 60))
    with pytest.raises(AssertionError, match="attachment 1 has not seen 120 bytes, and is sent more"):
        memory.sent(5, segment(3, 1))


def test_what_a_client_acknowledges_opens_its_window_and_so_does_a_new_attachment_or_link() -> None:
    memory = Memory(100)
    memory.sent(5, segment(1, 60))
    memory.sent(5, segment(2, 60))
    memory.received(5, AcknowledgeSegments(attachment=1, sequence=1))
    memory.sent(5, segment(3, 60))
    memory.sent(5, ATTACHED)
    memory.sent(5, segment(1, 100))
    memory.ended(5)
    memory.sent(5, segment(1, 100))


def test_an_executor_is_given_no_more_than_its_credit_of_bytes() -> None:
    memory = Memory(100)
    memory.sent(5, assignment(1, CREDIT_BYTES - 1))
    memory.sent(5, assignment(2, 1))
    with pytest.raises(AssertionError, match="the executor of link 5 holds 4194304 bytes, and is given more"):
        memory.sent(5, assignment(3, 1))


def test_an_assignment_counts_until_its_last_task_is_reported_or_given_back() -> None:
    memory = Memory(100)
    memory.sent(5, assignment(1, CREDIT_BYTES))
    memory.received(5, ReportOutcomes(report=1, outcomes=(outcome(1), outcome(7))))
    with pytest.raises(AssertionError):
        memory.sent(5, assignment(2, 1))
    memory.received(5, TasksRetracted(request=1, ranges=(HeldRange(1, 11, 1),)))
    memory.sent(5, assignment(2, 1))


def test_bytes_that_wait_without_an_event_are_noticed() -> None:
    pump = Pump(Core().state)
    memory = Memory(100)
    pump.offer(ClientSaid(1, SubmitChunk(attachment=1, first=1, count=1, lengths=bytes(4), blob=b"input")))
    assert pump.waiting_bytes == 5
    memory.check_waiting(pump)
    pump.turn(1)
    memory.check_waiting(pump)
    pump.waiting_bytes = 1
    with pytest.raises(AssertionError, match="1 bytes wait in 0 events"):
        memory.check_waiting(pump)
    pump.waiting_bytes = -1
    with pytest.raises(AssertionError, match="-1 bytes"):
        memory.check_waiting(pump)
