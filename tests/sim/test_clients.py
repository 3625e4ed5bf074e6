"""Simulated clients notice when an answer is wrong."""

import pytest

from flame.model.chunk import pack
from flame.model.errors import TaskCancelled
from flame.model.messages import Segment
from flame.model.states import TaskState
from flame.protocol.client_attachment import Part
from flame.sim.clients import SimSession
from flame.sim.nodes import TaskKind
from flame.sim.world import World


def submitting() -> SimSession:
    world = World(4)
    session = world.clients[0].sessions[0]
    while not session.kinds:
        world.time.step()
    session.plan.slow_ms = 0
    session.plan.cancels, session.plan.close_early = 0, False
    session.kinds = {1: TaskKind(1), 2: TaskKind(2)}
    session.outcomes.clear()
    return session


def part(session: SimSession, sequence: int, task: int, output: bytes) -> Part:
    lengths, blob = pack([output])
    segment = Segment(
        attachment=1, sequence=sequence, first=task, count=1, state=TaskState.SUCCEED, lengths=lengths, blob=blob
    )
    return Part(session.submission, segment, task, 1)


def test_the_right_answers_are_right() -> None:
    session = submitting()
    assert session.deliver(part(session, 90, 1, b"1"))
    assert session.deliver(part(session, 91, 2, b"2"))
    session.check({}, 0)


def test_a_second_result_of_a_task_is_noticed() -> None:
    session = submitting()
    session.deliver(part(session, 90, 1, b"1"))
    with pytest.raises(AssertionError, match="second result"):
        session.deliver(part(session, 91, 1, b"1"))


def test_a_result_out_of_order_or_of_nobody_is_noticed() -> None:
    session = submitting()
    session.deliver(part(session, 90, 1, b"1"))
    with pytest.raises(AssertionError, match="after 90"):
        session.deliver(part(session, 89, 2, b"2"))
    with pytest.raises(AssertionError, match="never submitted"):
        session.deliver(part(session, 91, 9, b"9"))


def test_missing_and_wrong_results_are_noticed() -> None:
    session = submitting()
    session.deliver(part(session, 90, 1, b"1"))
    with pytest.raises(AssertionError, match="has no result"):
        session.check({}, 0)
    session.deliver(part(session, 91, 2, b"1"))
    with pytest.raises(AssertionError, match="another task's output"):
        session.check({}, 0)
    session.outcomes[2] = TaskCancelled("why")
    with pytest.raises(AssertionError, match="nobody cancelled"):
        session.check({}, 0)
