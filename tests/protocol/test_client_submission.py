"""A block of task ids: how tasks become chunks, and what happens to those that are refused or cancelled."""

import pytest

from flame.model.client_messages import SubmitChunk
from flame.model.errors import FailedPrecondition, FlameError, ResourceExhausted, TaskCancelled, TooLarge
from flame.model.limits import MAX_CHUNK_BYTES, SUBMIT_WINDOW_BYTES
from flame.model.states import SessionState
from flame.protocol.client_submission import LONE_TASKS, Feed, check_input
from tests.protocol.test_client import Collector, Wire


def _chunks(wire: Wire) -> list[tuple[int, int]]:
    wire.collect()
    return [(message.first, message.count) for message in wire.up if isinstance(message, SubmitChunk)]


LONE = [(number, 1) for number in range(1, LONE_TASKS + 1)]
"""The first tasks of a stream, which go at once."""


def test_the_first_tasks_go_at_once_and_the_rest_with_their_acknowledgement() -> None:
    wire = Wire()
    block = wire.submission(Collector())
    for _ in range(500):
        block.add(b"x")
    assert _chunks(wire) == LONE
    wire.carry_up(LONE_TASKS)
    wire.carry_down(1)
    assert _chunks(wire) == []
    wire.carry_down(len(wire.down))
    assert _chunks(wire) == [(LONE_TASKS + 1, 500 - LONE_TASKS)]


def test_a_task_goes_alone_again_as_soon_as_few_are_under_way() -> None:
    wire = Wire()
    block = wire.submission(Collector())
    for _ in range(LONE_TASKS):
        block.add(b"x")
    wire.carry_up(1)
    wire.carry_down(1)
    block.add(b"x")
    assert _chunks(wire)[-1] == (LONE_TASKS + 1, 1)


def test_full_chunks_go_without_an_acknowledgement() -> None:
    wire = Wire()
    block = wire.submission(Collector())
    for _ in range(LONE_TASKS + 2 * 1024 + 3):
        block.add(b"x")
    assert _chunks(wire) == [*LONE, (LONE_TASKS + 1, 1024), (LONE_TASKS + 1025, 1024)]
    block.flush()
    assert _chunks(wire)[-1] == (LONE_TASKS + 2049, 3)


def test_a_chunk_is_cut_where_it_has_enough_bytes() -> None:
    wire = Wire()
    block = wire.submission(Collector())
    feed = Feed(Collector())
    block.feeds.append(feed)
    half = bytes(MAX_CHUNK_BYTES // 2)
    feed.items += [half, half, half, bytes(2 * MAX_CHUNK_BYTES), b"x"]
    block.draw(feed)
    assert _chunks(wire) == [(1, 2), (3, 1), (4, 1), (5, 1)]
    assert list(feed.spans) == [(1, 6)]


def test_the_window_is_bounded_but_takes_one_large_task() -> None:
    wire = Wire()
    block = wire.submission(Collector())
    assert block.accepts(SUBMIT_WINDOW_BYTES + 1)
    size = SUBMIT_WINDOW_BYTES // 4
    count = 0
    while block.accepts(size):
        block.add(bytes(size))
        count += 1
    assert count == 3
    wire.settle()
    assert block.accepts(SUBMIT_WINDOW_BYTES + 1)


def test_a_feed_of_large_tasks_is_sent_a_window_at_a_time() -> None:
    """All at once would be more than a link buffers, and again after each reconnect."""
    wire = Wire()
    block = wire.submission(Collector())
    feed = Feed(Collector())
    block.feeds.append(feed)
    feed.items += [bytes(MAX_CHUNK_BYTES) for _ in range(50)]
    block.draw(feed)
    fitting = SUBMIT_WINDOW_BYTES // (MAX_CHUNK_BYTES + 32)
    assert _chunks(wire) == [(1 + number, 1) for number in range(fitting)]
    assert feed.blocked
    wire.carry_up(1)
    wire.carry_down(1)
    assert _chunks(wire)[-1] == (1 + fitting, 1), "an acknowledgement makes room for one more"
    wire.settle()
    assert not feed.items
    assert list(feed.spans) == [(1, 51)]
    assert block.stored == 51


def test_a_resend_keeps_its_cuts() -> None:
    wire = Wire()
    block = wire.submission(Collector())
    for _ in range(1030):
        block.add(b"x")
    before = _chunks(wire)
    wire.cut()
    wire.carry_up(1)  # Hello
    wire.carry_down(1)  # Welcome
    wire.carry_up(1)  # AttachSession
    wire.carry_down(1)  # SessionAttached
    assert _chunks(wire) == before == [*LONE, (LONE_TASKS + 1, 1024)]


def test_a_lost_acknowledgement_is_made_up_for_by_the_attach() -> None:
    wire = Wire()
    block = wire.submission(Collector())
    block.add(b"x")
    block.add(b"y")
    wire.carry_up(1)
    wire.cut()
    wire.settle()
    assert wire.manager.sessions["session-1"].chunks == [(1, 1), (2, 1)]
    assert block.stored == 3


def test_a_refused_chunk_fails_what_is_behind_it_and_nothing_before() -> None:
    wire = Wire()
    futures, mapped = Collector(), Collector()
    block = wire.submission(futures)
    wire.manager.hold_results = True
    for _ in range(3):
        block.add(b"ok")
        block.flush()
    feed = Feed(mapped)
    block.feeds.append(feed)
    feed.items += [b"a", b"b"]
    block.draw(feed, all_of_it=True)
    block.add(b"late")
    wire.manager.sessions["session-1"].refuse_at = 3
    wire.settle()
    assert isinstance(block.refusal, ResourceExhausted)
    assert sorted(futures.failed) == [3, 6]
    assert sorted(mapped.failed) == [4, 5]
    wire.manager.hold_results = False
    wire.manager.run_pending(wire.manager.sessions["session-1"])
    wire.settle()
    assert futures.outcomes == {1: b"OK", 2: b"OK"}
    assert block.outstanding == 0


def test_a_closed_session_refuses_with_its_reason() -> None:
    wire = Wire()
    sink = Collector()
    block = wire.submission(sink)
    wire.manager.close_session(wire.manager.sessions["session-1"])
    task = block.add(b"x")
    wire.settle()
    assert isinstance(sink.failed[task], FailedPrecondition)
    assert block.state is SessionState.CLOSED


def test_a_cancel_is_repeated_until_it_is_answered_and_its_results_come_first() -> None:
    wire = Wire()
    sink = Collector()
    block = wire.submission(sink)
    wire.manager.hold_results = True
    for _ in range(4):
        block.add(b"x")
    request = block.cancel(2, 2)
    wire.carry_up(1)
    wire.cut()
    wire.settle()
    assert [(part.first, part.count) for part in block.answers[request]] == [(2, 2)]
    wire.manager.hold_results = False
    wire.manager.deliver()
    wire.settle()
    assert {task: type(outcome) for task, outcome in sink.outcomes.items()} == {2: TaskCancelled, 3: TaskCancelled}
    block.forget(request)
    assert not block.answers


def test_an_unanswered_cancel_ends_with_its_block() -> None:
    wire = Wire()
    block = wire.submission(Collector())
    wire.collect()
    request = block.cancel(1, 1)
    unheard = block.cancel(1, 1, answered=False)
    wire.stream.fail(FailedPrecondition("closed"))
    assert block.answers == {request: ()}
    assert unheard not in block.answers


def test_results_find_their_owners_however_runs_and_maps_alternate() -> None:
    wire = Wire()
    futures = Collector()
    block = wire.submission(futures)
    wire.manager.hold_results = True
    maps = [Collector() for _ in range(30)]
    owners: dict[int, Collector] = {}
    for number, sink in enumerate(maps):
        for _ in range(number % 3):
            owners[block.add(b"run")] = futures
        feed = Feed(sink)
        block.feeds.append(feed)
        feed.items += [b"map"] * (1 + number % 4)
        block.draw(feed, all_of_it=True)
        for first, end in feed.spans:
            owners.update(dict.fromkeys(range(first, end), sink))
    wire.settle()
    session = wire.manager.sessions["session-1"]
    wire.manager.hold_results = False
    wire.manager.run_pending(session)
    wire.settle()
    assert len(owners) == block.next_id - 1
    for sink in (futures, *maps):
        assert sorted(sink.outcomes) == [task for task, owner in owners.items() if owner is sink]


def test_what_an_input_may_be() -> None:
    check_input(b"", 0)
    check_input(bytes(10), 10)
    with pytest.raises(TypeError, match="must be bytes, not str"):
        check_input("text", 10)
    with pytest.raises(TooLarge, match="has 11 bytes, the limit is 10"):
        check_input(bytes(11), 10)


def test_what_a_map_appends_around_a_refusal_fails_and_leaves_the_block_finished() -> None:
    wire = Wire()
    mapped = Collector()
    block = wire.submission(Collector())
    session = wire.manager.sessions["session-1"]
    session.refuse_at = 1
    feed = Feed(mapped)
    block.feeds.append(feed)
    feed.items.append(b"a")
    block.draw(feed)
    wire.settle()
    assert isinstance(block.refusal, ResourceExhausted)
    feed.items += [b"b", b"c"]  # its owner had not looked up yet
    block.draw(feed)
    wire.settle()
    assert len(mapped.failed) == 3
    assert (block.outstanding, block.buffered, feed.items) == (0, False, [])
    with pytest.raises(ResourceExhausted):
        block.add(b"late")


def test_an_input_that_is_appended_while_its_feed_fails_is_not_forgotten() -> None:
    wire = Wire()

    class Appending(Collector):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[int] = []

        def fail(self, first: int, count: int, error: FlameError) -> None:
            self.calls.append(count)
            if len(self.calls) == 1:
                feed.items.append(b"meanwhile")

    mapped = Appending()
    block = wire.submission(Collector())
    feed = Feed(mapped)
    block.feeds.append(feed)
    block.add(b"x")
    feed.items.append(b"a")
    wire.manager.sessions["session-1"].refuse_at = 1
    wire.settle()
    assert feed.items == [b"meanwhile"]
    block.draw(feed)
    assert feed.items == []
    assert mapped.calls == [1, 1]
