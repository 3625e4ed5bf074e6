"""Session.map: order, windows, failures, breaking out, slow and broken generators, bounded memory."""

import itertools
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

import flame
from flame.model.client_messages import AttachSession, CancelTasks
from flame.model.limits import RESULT_WINDOW_BYTES
from flame.model.messages import Call
from tests.sdk.scripted import ScriptedCluster
from tests.support import WaitUntil


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("window", [1, 7, 1024, 100_000])
def test_every_input_has_its_output(connection: flame.Connection, ordered: bool, window: int) -> None:
    count = 200 if window == 1 else 5000
    with connection.create_session("upper") as session:
        outputs = list(session.map((b"a%d" % index for index in range(count)), ordered=ordered, window=window))
    expected = [b"A%d" % index for index in range(count)]
    assert outputs == expected if ordered else sorted(outputs) == sorted(expected)  # type: ignore[type-var]


def test_nothing_and_none(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.service = lambda task_input: None if task_input == b"n" else b""
    with connection.create_session("upper") as session:
        assert list(session.map([])) == []
        assert list(session.map([b"n", b"", b"n"])) == [None, b"", None]
        with pytest.raises(ValueError, match="window is 0"):
            session.map([], window=0)


def test_order_holds_whatever_order_results_come_in(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_results = True
    session = connection.create_session("upper")
    outputs = session.map((b"%d" % index for index in range(300)), ordered=True)
    received: list[bytes | None] = []
    thread = threading.Thread(target=lambda: received.extend(outputs))
    thread.start()
    stored = cluster.manager.sessions[session.id]

    def finish_backwards() -> None:
        tasks = sorted(stored.pending.items())
        stored.pending.clear()
        for start in range(len(tasks) - len(tasks) % 7, -1, -7):
            run = tasks[start : start + 7]
            if run:
                cluster.manager.finish(stored, run[0][0], [text for _, text in run])
        cluster.manager.hold_results = False
        cluster.manager.deliver()
        cluster.manager.hold_results = True

    while thread.is_alive():
        cluster.do(finish_backwards)
        thread.join(0.005)
    assert received == [b"%d" % index for index in range(300)]


def test_runs_between_do_not_disturb_the_order(connection: flame.Connection) -> None:
    with connection.create_session("upper") as session:
        got: list[bytes | None] = []
        for output in session.map((b"m%d" % index for index in range(2000)), window=50):
            got.append(output)
            if len(got) % 10 == 0:
                assert session.invoke(b"between") == b"BETWEEN"
        assert got == [b"M%d" % index for index in range(2000)]


def _picky(task_input: bytes) -> bytes:
    if task_input == b"5":
        raise ValueError("five")
    return task_input


def test_a_failure_is_raised_in_its_place(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.service = _picky
    with connection.create_session("upper") as session:
        got: list[bytes | None] = []
        with pytest.raises(flame.TaskFailed, match="five"):
            got.extend(session.map(b"%d" % index for index in range(10)))
        taken: list[bytes | flame.TaskError | None] = []
        iterator = session.map((b"%d" % index for index in range(10)), return_exceptions=True)
        taken.extend(iterator)
        assert [type(outcome) for outcome in taken] == [bytes] * 5 + [flame.TaskFailed] + [bytes] * 4
        assert taken[6] == b"6"


@pytest.mark.parametrize("ordered", [True, False])
def test_breaking_out_cancels_the_rest(
    cluster: ScriptedCluster, connection: flame.Connection, wait_until: WaitUntil, ordered: bool
) -> None:
    session = connection.create_session("upper")
    stored = cluster.manager.sessions[session.id]
    pulled = itertools.count()

    def inputs() -> Iterator[bytes]:
        yield b"first"
        attached = next(iter(cluster.manager.peers[0].attached.values()))
        wait_until(lambda: attached.sent == 1)
        cluster.manager.hold_results = True
        yield from (b"%d" % next(pulled) for _ in range(100_000))

    outputs = session.map(inputs(), window=2000, ordered=ordered)
    for output in outputs:
        assert output == b"FIRST"
        break
    del outputs
    wait_until(lambda: not stored.pending)
    cluster.manager.hold_results = False
    assert next(pulled) <= 2000
    assert session.invoke(b"x") == b"X"
    session.close(timeout=30)


def test_an_exception_of_the_generator_comes_through(
    cluster: ScriptedCluster, connection: flame.Connection, wait_until: WaitUntil
) -> None:
    def inputs() -> Iterator[bytes]:
        yield from (b"x" for _ in range(100))
        cluster.manager.hold_results = True
        yield from (b"x" for _ in range(3000))
        raise KeyError("mine")

    session = connection.create_session("upper")
    with pytest.raises(KeyError, match="mine"):
        list(session.map(inputs()))
    stored = cluster.manager.sessions[session.id]
    wait_until(lambda: not stored.pending)
    cluster.manager.hold_results = False
    cluster.do(cluster.manager.deliver)
    session.close(timeout=30)


@pytest.mark.parametrize(("bad", "kind"), [("text", TypeError), (bytes(2000), flame.TooLarge)])
def test_a_bad_input_is_named(cluster: ScriptedCluster, bad: object, kind: type[Exception]) -> None:
    cluster.manager.max_task_bytes = 1000
    with flame.connect(cluster.endpoint) as connection, connection.create_session("upper") as session:
        with pytest.raises(kind, match="a task's input"):
            list(session.map([b"good", bad]))  # type: ignore[list-item]
        assert session.invoke(b"x") == b"X"


def test_a_slow_generator_gets_each_result_before_its_next_input(connection: flame.Connection) -> None:
    """Every item goes out by itself: its result is there while the generator waits for it."""
    results: list[bytes | None] = []
    arrived = threading.Condition()

    def inputs() -> Iterator[bytes]:
        for index in range(20):
            yield b"a%d" % index
            # Only the link's thread can have brought this task to its end: this thread is here.
            with arrived:
                assert arrived.wait_for(lambda: len(done) > index, 30)  # noqa: B023

    done: list[bytes] = []

    with connection.create_session("upper") as session:
        deliver = session.connection.stream

        def watch() -> None:
            original = deliver.received

            def received(message: object) -> bool:
                goes_on = original(message)  # type: ignore[arg-type]
                if type(message).__name__ == "Segment":
                    with arrived:
                        done.append(b"")
                        arrived.notify_all()
                return goes_on

            deliver.received = received  # type: ignore[method-assign]

        watch()
        results.extend(session.map(inputs()))
    assert results == [b"A%d" % index for index in range(20)]


def test_a_map_goes_on_after_a_restart(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    with connection.create_session("upper") as session:
        got: list[bytes | None] = []
        for output in session.map((b"a%d" % index for index in range(20_000)), window=3000):
            got.append(output)
            if len(got) in (1000, 5000, 9000):
                cluster.drop_links()
        assert got == [b"A%d" % index for index in range(20_000)]


def test_memory_is_bounded_for_a_generator_of_any_length(
    cluster: ScriptedCluster, connection: flame.Connection
) -> None:
    size = 2000

    cluster.manager.forget = True
    with connection.create_session("upper") as session:
        tracemalloc.start()
        try:
            for count, output in enumerate(session.map((bytes(size) for _ in range(60_000)), window=4000)):
                assert output is not None
                if count == 1000:
                    tracemalloc.reset_peak()
                    base, _ = tracemalloc.get_traced_memory()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak - base < 60_000 * size / 2, "120 MB went through"


def test_a_slow_consumer_holds_the_session_manager_back(
    cluster: ScriptedCluster, connection: flame.Connection, wait_until: WaitUntil
) -> None:
    cluster.manager.service = lambda task_input: bytes(100_000)
    with connection.create_session("upper") as session:
        outputs = session.map((b"%d" % index for index in range(400)), ordered=False)
        next(outputs)
        stored = cluster.manager.sessions[session.id]
        sent = next(iter(cluster.manager.peers[0].attached.values()))
        wait_until(lambda: len(stored.segments) > 0 and sum(sent.unacknowledged.values()) <= RESULT_WINDOW_BYTES)
        assert session.invoke(b"x") == bytes(100_000), "a waiting future is not blocked by it"
        assert sum(1 for _ in outputs) == 399


def test_a_refusal_ends_the_map_with_its_reason(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    with connection.create_session("upper") as session:
        cluster.manager.sessions[session.id].refuse_at = 1000
        with pytest.raises(flame.ResourceExhausted, match="disk is full"):
            list(session.map((b"x" for _ in range(50_000)), timeout=30))
        cluster.manager.sessions[session.id].refuse_at = 0
        assert list(session.map([b"x"], timeout=30)) == [b"X"]


def test_a_session_closes_after_a_refusal_amid_a_map(
    cluster: ScriptedCluster, connection: flame.Connection, wait_until: WaitUntil
) -> None:
    """The refusal comes while the generator is read, so that what it yields next belongs to a block that has ended."""
    session = connection.create_session("upper")
    cluster.manager.sessions[session.id].refuse_at = 1

    def inputs() -> Iterator[bytes]:
        yield b"first"
        wait_until(lambda: session._blocks[-1].refusal is not None)
        yield from (b"x" for _ in range(3000))

    with pytest.raises(flame.ResourceExhausted, match="disk is full"):
        list(session.map(inputs(), timeout=30))
    cluster.manager.sessions[session.id].refuse_at = 0
    assert session.invoke(b"x", timeout=30) == b"X"
    assert len(connection.stream.attachments) == 1, "the block that has ended is left"
    session.close(timeout=30)


@pytest.mark.parametrize("what", ["call", "attach", "flush", "acknowledged", "cancel"])
def test_a_paused_map_stays_bounded_while_something_else_is_waited_for(
    cluster: ScriptedCluster, connection: flame.Connection, what: str
) -> None:
    cluster.manager.service = lambda task_input: bytes(1_000_000)
    with connection.create_session("upper") as session, connection.create_session("upper") as other:
        outputs = session.map((b"%d" % index for index in range(60)), window=60, ordered=False)
        next(outputs)
        cluster.manager.hold_tasks = cluster.manager.hold_acknowledgements = True
        cluster.manager.ignored = (Call, AttachSession, CancelTasks)
        future = other.run(b"x")
        waits: dict[str, Callable[[], object]] = {
            "call": lambda: connection.list_sessions(timeout=0.5),
            "attach": lambda: connection.open_session(other.id, timeout=0.5),
            "flush": lambda: other.flush(0.5),
            "acknowledged": lambda: future.acknowledged(0.5),
            "cancel": lambda: future.cancel(0.5),
        }
        with suppress(TimeoutError):
            assert not waits[what]()
        attached = next(iter(cluster.manager.peers[0].attached.values()))
        sent = attached.session.segments[: attached.sent]
        assert sum(len(segment.blob) for segment in sent) < RESULT_WINDOW_BYTES + 8_000_000
        cluster.manager.hold_tasks = cluster.manager.hold_acknowledgements = False
        cluster.manager.ignored = ()
        cluster.do(cluster.manager.acknowledge_all)
        for stored in cluster.manager.sessions.values():
            cluster.do(lambda stored=stored: cluster.manager.run_pending(stored))  # type: ignore[misc]
        assert sum(1 for _ in outputs) == 59


def test_the_next_output_can_time_out(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_results = True
    session = connection.create_session("upper")
    with pytest.raises(TimeoutError, match="the next output of a map"):
        list(session.map([b"x"], timeout=0.05))
    cluster.manager.hold_results = False
