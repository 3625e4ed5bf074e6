"""The client's half of a stream: whatever is lost on the way, no task is lost and no result comes twice."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.model.client_messages import Segment, SubmitChunk
from flame.model.errors import Aborted, FlameError, NotFound, Rejection, Unavailable
from flame.model.limits import RESULT_WINDOW_BYTES
from flame.model.messages import Call, Hello, Message, Refused, Reply, Welcome
from flame.model.specs import SessionSpec
from flame.model.states import TaskState
from flame.protocol.client import ClientStream
from flame.protocol.client_attachment import Outcome, Part
from flame.protocol.client_submission import Feed, Submission
from tests.sdk.scripted import Peer, ScriptedManager


class Collector:
    """A sink that keeps what it gets; `consume` is whether it is done with it at once."""

    def __init__(self, consume: bool = True) -> None:
        self.consume = consume
        self.outcomes: dict[int, Outcome] = {}
        self.failed: dict[int, FlameError] = {}
        self.parts: list[Part] = []

    def deliver(self, part: Part) -> bool:
        for task, outcome in enumerate(part.outcomes(), part.first):
            assert task not in self.outcomes, f"task {task} came twice"
            self.outcomes[task] = outcome
        self.parts.append(part)
        return self.consume

    def fail(self, first: int, count: int, error: FlameError) -> None:
        for task in range(first, first + count):
            self.failed[task] = error


class Wire:
    """A client stream, a scripted session manager, and two queues of messages between them."""

    def __init__(self, manager: ScriptedManager | None = None) -> None:
        self.manager = manager or ScriptedManager()
        self.stream = ClientStream("test")
        self.up: list[Message] = []
        self.down: list[Message] = []
        self.connect()

    def connect(self) -> None:
        self.down = []
        self.peer = Peer(self.manager, self.down.append)
        self.stream.opened()
        self.collect()

    def collect(self) -> None:
        self.up += self.stream.outbox
        self.stream.outbox.clear()

    def carry_up(self, count: int) -> None:
        self.collect()
        for message in self.up[:count]:
            self.peer.received(message)
        del self.up[:count]

    def carry_down(self, count: int) -> None:
        messages = self.down[:count]
        del self.down[:count]
        for message in messages:
            self.stream.received(message)  # type: ignore[arg-type]
        self.collect()

    def cut(self) -> None:
        """The link is lost with everything that is under way."""
        self.peer.closed("")
        self.stream.lost()
        self.up.clear()
        self.connect()

    def settle(self) -> None:
        self.collect()
        while self.up or self.down:
            self.carry_up(len(self.up))
            self.carry_down(len(self.down))

    def submission(self, sink: Collector, name: str = "") -> Submission:
        block = Submission(
            self.stream,
            self.stream.next_attachment(),
            session_id=name,
            key=f"key-{len(self.stream.attachments)}",
            create=SessionSpec(application="upper"),
            sink=sink,
        )
        self.stream.attach(block)
        self.settle()
        assert block.attached is not None
        return block


steps = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(1, 40)),
        st.tuples(st.just("feed"), st.integers(1, 40)),
        st.tuples(st.just("up"), st.integers(1, 9)),
        st.tuples(st.just("down"), st.integers(1, 9)),
        st.tuples(st.just("cut"), st.just(0)),
        st.tuples(st.just("flush"), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
def test_nothing_is_lost_and_nothing_comes_twice(script: list[tuple[str, int]]) -> None:
    wire = Wire()
    futures, mapped = Collector(), Collector()
    block = wire.submission(futures)
    feed = Feed(mapped)
    block.feeds.append(feed)
    expected: dict[int, bytes] = {}
    fed: list[bytes] = []
    for step, count in script:
        match step:
            case "run":
                for _ in range(count):
                    text = b"run %d" % len(expected)
                    expected[block.add(text)] = text.upper()
            case "feed":
                texts = [b"map %d" % (len(fed) + index) for index in range(count)]
                fed += texts
                feed.items += texts
                block.draw(feed)
            case "up":
                wire.carry_up(count)
            case "down":
                wire.carry_down(count)
            case "cut":
                wire.cut()
            case "flush":
                block.flush()
    block.flush()
    wire.settle()
    assert futures.outcomes == expected
    assert [mapped.outcomes[task] for task in sorted(mapped.outcomes)] == [text.upper() for text in fed]
    assert block.stored == block.next_id
    assert block.outstanding == 0
    assert not block.buffered
    stored = [
        task for first, count in wire.manager.sessions["session-1"].chunks for task in range(first, first + count)
    ]
    assert stored == list(range(1, block.next_id)), "each task is stored once, in order"


def test_calls_are_repeated_until_they_are_answered() -> None:
    wire = Wire()
    wire.settle()
    number = wire.stream.call("/flame.v1.Frontend/ListSession", b"")
    wire.carry_up(1)
    wire.cut()
    wire.settle()
    reply = wire.stream.replies[number]
    assert isinstance(reply, Reply)
    assert wire.manager.calls == ["ListSession", "ListSession"]
    wire.stream.abandon(number)
    assert not wire.stream.replies


def test_another_store_fails_everything_and_says_so() -> None:
    wire = Wire()
    sink = Collector()
    block = wire.submission(sink)
    wire.manager.hold_results = True
    task = block.add(b"x")
    wire.settle()
    wire.manager.store_id = "store-2"
    wire.cut()
    wire.settle()
    assert isinstance(wire.stream.error, Aborted)
    assert "another store" in str(wire.stream.error)
    assert isinstance(sink.failed[task], Aborted)


def test_an_older_session_manager_is_turned_away_and_another_try_may_help() -> None:
    stream = ClientStream()
    stream.opened()
    assert stream.received(Welcome(store_id="s", epoch=7))
    stream.lost()
    stream.opened()
    assert not stream.received(Welcome(store_id="s", epoch=6))
    assert isinstance(stream.refusal, Unavailable)
    assert stream.error is None
    stream.lost()
    stream.opened()
    assert stream.received(Welcome(store_id="s", epoch=8))


@pytest.mark.parametrize(("code", "final"), [("UNAVAILABLE", False), ("FAILED_PRECONDITION", True)])
def test_a_refusal_is_final_unless_it_is_retryable(code: str, final: bool) -> None:
    stream = ClientStream()
    stream.opened()
    call = stream.call("/x", b"")
    assert not stream.received(Refused(Rejection(code, "no")))
    assert (stream.error is not None) == final
    assert (call in stream.replies) == final


def test_a_deleted_session_fails_what_is_unfinished() -> None:
    wire = Wire()
    wire.manager.hold_results = True
    sink = Collector()
    block = wire.submission(sink)
    task = block.add(b"x")
    wire.settle()
    wire.peer.received(_delete("session-1"))
    wire.settle()
    assert isinstance(block.error, NotFound)
    assert isinstance(sink.failed[task], NotFound)
    assert block.number not in wire.stream.attachments


def _delete(name: str) -> Call:
    from flame.wire.published import frontend

    request = frontend.DeleteSessionRequest(session_id=name)
    return Call(id=999, method="/flame.v1.Frontend/DeleteSession", payload=request.SerializeToString())


def _with_results(consume: bool, count: int) -> tuple[Wire, Collector, Submission]:
    wire = Wire(ScriptedManager(lambda task_input: bytes(100_000)))
    sink = Collector(consume)
    block = wire.submission(sink)
    for _ in range(count):
        block.add(b"x")
        block.flush()
    wire.settle()
    return wire, sink, block


@pytest.mark.parametrize("consume", [True, False])
def test_results_that_are_not_consumed_stop_the_session_manager(consume: bool) -> None:
    _, sink, _ = _with_results(consume, 300)
    received = sum(len(part.segment.blob) for part in sink.parts)
    assert (received > RESULT_WINDOW_BYTES) == consume
    assert received <= 300 * 100_000


def test_consuming_and_waiting_both_let_it_go_on() -> None:
    wire, sink, _ = _with_results(False, 300)
    before = len(sink.parts)
    for part in sink.parts[:50]:
        part.source.consumed(part)
    wire.settle()
    after_consuming = len(sink.parts)
    assert after_consuming > before
    wire.stream.begin_wait()
    wire.settle()
    assert len(sink.parts) == 300
    wire.stream.end_wait()


def _deliver(stream: ClientStream, messages: list[Message]) -> None:
    for message in messages:
        stream.received(message)  # type: ignore[arg-type]


def test_a_detached_attachment_hears_nothing_more() -> None:
    wire = Wire()
    wire.manager.hold_results = True
    sink = Collector()
    block = wire.submission(sink)
    task = block.add(b"x")
    wire.settle()
    wire.stream.detach(block)
    _deliver(
        wire.stream,
        [
            Segment(
                attachment=block.number,
                sequence=1,
                first=task,
                count=1,
                state=TaskState.SUCCEED,
                lengths=b"\1\0\0\0",
                blob=b"X",
            )
        ],
    )
    assert not sink.outcomes


def test_a_session_manager_that_talks_nonsense_does_no_harm() -> None:
    wire = Wire()
    sink = Collector()
    block = wire.submission(sink)
    nonsense: list[Callable[[], Message]] = [
        lambda: Segment(
            attachment=block.number,
            sequence=1,
            first=50,
            count=2,
            state=TaskState.SUCCEED,
            lengths=b"\0" * 8,
        ),
        lambda: Reply(id=12345),
        lambda: Segment(attachment=777, sequence=1, first=1, count=1, state=TaskState.SUCCEED),
    ]
    _deliver(wire.stream, [make() for make in nonsense])
    assert not sink.outcomes
    block.add(b"x")
    assert any(isinstance(message, SubmitChunk) for message in wire.stream.outbox)


def test_a_call_is_marked_as_repeated_only_when_it_went_over_two_links() -> None:
    wire = Wire()
    wire.stream.lost()
    waiting = wire.stream.call("M", b"")
    wire.cut()
    wire.carry_up(1)
    wire.carry_down(1)  # Welcome: the call goes out
    assert waiting not in wire.stream.repeated
    sent = wire.stream.call("M", b"")
    wire.cut()
    wire.carry_up(1)
    wire.carry_down(1)
    assert wire.stream.repeated == {waiting, sent}
    wire.stream.abandon(sent)
    assert wire.stream.repeated == {waiting}


def test_it_says_on_every_link_who_it_is() -> None:
    stream = ClientStream("test", "me")
    for _ in range(2):
        stream.opened()
        (hello,) = stream.outbox
        assert isinstance(hello, Hello)
        assert (hello.software, hello.client) == ("test", "me")
        stream.lost()
