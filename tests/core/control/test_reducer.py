"""The reducer: whatever peers say, in any order, the state stays sound; and every turn says when to be woken."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.core.control import reducer
from flame.core.control.events import (
    ClientLost,
    ClientSaid,
    ExecutorLost,
    ExecutorSaid,
    InputsLoaded,
    NodeLost,
    NodeSaid,
    SegmentsRead,
    SpaceMeasured,
)
from flame.model.client_messages import AcknowledgeSegments, AttachSession, CancelTasks, DetachSession, SubmitChunk
from flame.model.executor_messages import (
    AttachExecutor,
    Outcome,
    ReportOutcomes,
    SessionEntered,
    SessionLeft,
    TasksRetracted,
)
from flame.model.limits import DELAY_RELEASE_MS
from flame.model.node_messages import ExecutorExited, JoinNode, PingNode
from flame.model.ranges import HeldRange
from flame.model.resources import Resources
from flame.model.specs import SessionSpec
from tests.core.harness import Core, one_session, outcome


def test_a_turn_says_when_the_core_wants_to_be_woken() -> None:
    core = one_session(cpu=1, tasks=1, lease_ms=10_000_000)
    core.start("1-1")
    core.report("1-1")
    core.advance(3_000)
    batch = core.turn()
    assert batch.wake_at_ms == core.binding("1-1").idle_since_ms + DELAY_RELEASE_MS


def test_nothing_to_do_is_nothing_done() -> None:
    batch = one_session().turn()
    assert (list(batch.writes), list(batch.now), list(batch.after)) == ([], [], [])


def test_what_was_not_asked_for_is_not_taken() -> None:
    core = Core()
    core.turn(InputsLoaded(99, 1, 1, b"", b""), SegmentsRead(1, 1, (), 5), SpaceMeasured(1 << 40))
    assert not core.state.low_space


def test_every_deadline_has_a_handler() -> None:
    source = set(reducer._DEADLINES)
    kinds = ("idle", "leave", "exit", "release", "start", "rotate", "rebalance", "lease", "unfit", "grace", "forget")
    assert source == {*kinds, "purge"}


small = st.integers(0, 12)
ranges = st.builds(HeldRange, st.sampled_from([(1 << 32) + n for n in range(12)] + [5]), small, st.integers(-1, 6))


def finished(part: HeldRange) -> Outcome:
    return outcome(part.attempt, part.first, max(0, part.count))


client_messages = st.one_of(
    st.builds(AttachSession, attachment=st.integers(1, 2), session_id=st.sampled_from(("", "app-000001", "x y")),
              key=st.sampled_from(("", "k", "a")), create=st.sampled_from((None, SessionSpec(application="app"))),
              submit=st.booleans(), after=small),
    st.builds(SubmitChunk, attachment=st.integers(1, 2), first=small, count=st.integers(-1, 4),
              lengths=st.sampled_from((b"", b"\1\0\0\0", b"\1\0\0\0" * 4)), blob=st.sampled_from((b"", b"x", b"xxxx"))),
    st.builds(CancelTasks, attachment=st.just(1), request=small, first=small, count=st.integers(-2, 20)),
    st.builds(AcknowledgeSegments, attachment=st.just(1), sequence=small),
    st.builds(DetachSession, attachment=st.integers(1, 2)),
)  # fmt: skip
executor_messages = st.one_of(
    st.builds(AttachExecutor, executor=st.just("1-1"), binding=st.sampled_from(((1 << 32) + 1, 5)), session=st.just(1),
              held=st.lists(ranges, max_size=3).map(tuple), entered=st.booleans()),
    st.builds(SessionEntered, st.sampled_from((b"", b"why"))),
    st.builds(SessionLeft),
    st.builds(TasksRetracted, request=small, ranges=st.lists(ranges, max_size=3).map(tuple)),
    st.builds(ReportOutcomes, report=small, outcomes=st.tuples(ranges.map(finished))),
)  # fmt: skip
node_messages = st.one_of(
    st.builds(JoinNode, node=st.just("n1"), instance=st.sampled_from(("one", "two")),
              capacity=st.just(Resources(cpu=2))),
    st.builds(PingNode, small),
    st.builds(ExecutorExited, executor=st.sampled_from(("1-1", "1-2")), session=st.just(1),
              binding=st.sampled_from([(1 << 32) + 1, (1 << 32) + 2]), signal=st.sampled_from((0, 9)),
              current=small, entered=st.booleans(), left=st.booleans()),
)  # fmt: skip
events = st.one_of(
    st.builds(ClientSaid, st.integers(1, 3), client_messages),
    st.builds(ExecutorSaid, st.just("1-1"), st.just((1 << 32) + 1), st.integers(4, 6), executor_messages),
    st.builds(NodeSaid, st.just("n1"), st.integers(1, 2), node_messages),
    st.builds(ClientLost, st.integers(1, 3)),
    st.builds(ExecutorLost, st.just("1-1"), st.just((1 << 32) + 1), st.integers(4, 6)),
    st.builds(NodeLost, st.just("n1"), st.integers(1, 2)),
    st.integers(1, 20_000),
)


@given(st.lists(events, max_size=40))
@settings(max_examples=150)
def test_whatever_peers_say_in_any_order_the_state_stays_sound(said: list[Any]) -> None:
    core = one_session(cpu=2, tasks=8)
    for event in said:
        if isinstance(event, int):
            core.advance(event)
        else:
            core.turn(event)
    core.restart()


@pytest.mark.parametrize("link", [1, 99])
def test_whatever_clients_say_on_a_link_without_attachment_is_not_heard(link: int) -> None:
    core = Core()
    for message in (
        SubmitChunk(attachment=1, first=1, count=1, lengths=b"\0\0\0\0", blob=b""),
        CancelTasks(attachment=1, request=1, first=1, count=1),
        AcknowledgeSegments(attachment=1, sequence=1),
        DetachSession(attachment=1),
    ):
        core.turn(ClientSaid(link, message))
    assert not core.sent(object)
