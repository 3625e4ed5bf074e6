"""Futures: what they return, cancel, callbacks."""

import threading

import pytest

import flame
from tests.sdk.scripted import ScriptedCluster


def _explode(task_input: bytes) -> bytes | None:
    if task_input == b"bad":
        raise ValueError("no good")
    return task_input or None


def test_a_failed_task_raises_with_its_remote_error(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.service = _explode
    with connection.create_session("upper") as session:
        future = session.run(b"bad")
        with pytest.raises(flame.TaskFailed, match="no good") as caught:
            future.result(30)
        error = caught.value
        assert (error.task_id, error.type, error.message, error.traceback) == (1, "ValueError", "no good", "remote")
        assert future.exception() is error
        assert future.done()
        assert not future.cancelled()
        assert session.run(b"").result(30) is None
        assert session.run(b"x").exception(30) is None


def test_waits_take_a_timeout(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_results = True
    session = connection.create_session("upper")
    future = session.run(b"x")
    with pytest.raises(TimeoutError):
        future.result(0)
    with pytest.raises(TimeoutError):
        future.exception(0.01)
    assert "pending" in repr(future)
    cluster.manager.hold_results = False
    cluster.do(lambda: cluster.manager.run_pending(cluster.manager.sessions[session.id]))
    assert future.result(30) == b"X"


def test_a_queued_task_can_be_cancelled(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_tasks = True
    session = connection.create_session("upper")
    futures = [session.run(b"x") for _ in range(3)]
    assert futures[1].cancel(30)
    assert futures[1].cancelled()
    assert futures[1].cancel()
    with pytest.raises(flame.TaskCancelled):
        futures[1].result()
    cluster.do(lambda: cluster.manager.run_pending(cluster.manager.sessions[session.id]))
    assert futures[0].result(30) == b"X"
    assert not futures[0].cancel()


def test_a_running_task_cannot_be_cancelled(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_results = True
    session = connection.create_session("upper")
    future = session.run(b"x")
    session.flush(30)
    stored = cluster.manager.sessions[session.id]
    cluster.do(stored.pending.clear)
    assert not future.cancel(30)
    assert not future.cancelled()


def test_a_cancel_without_an_answer_is_false(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_results = True
    session = connection.create_session("upper")
    future = session.run(b"x")
    cluster.stop()
    assert not future.cancel(0.05)
    cluster.start()


def test_callbacks_are_called_once_with_the_future(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_results = True
    session = connection.create_session("upper")
    future = session.run(b"x")
    called = threading.Event()
    seen: list[flame.Future] = []

    def callback(done: flame.Future) -> None:
        seen.append(done)
        called.set()

    future.add_done_callback(callback)
    assert not seen
    cluster.manager.hold_results = False
    cluster.do(lambda: cluster.manager.run_pending(cluster.manager.sessions[session.id]))
    assert called.wait(30)
    assert seen == [future]
    future.add_done_callback(callback)
    assert seen == [future, future]


def test_a_callback_that_raises_or_waits_does_no_harm(
    cluster: ScriptedCluster, connection: flame.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.manager.hold_tasks = True
    session = connection.create_session("upper")
    future, other = session.run(b"x"), session.run(b"y")
    session.flush(30)
    called = threading.Event()
    errors: list[BaseException] = []

    def waits(_: flame.Future) -> None:
        try:
            other.result()
        except flame.FlameError as error:
            errors.append(error)
        finally:
            called.set()

    def raises(_: flame.Future) -> None:
        raise RuntimeError("mine")

    future.add_done_callback(raises)
    future.add_done_callback(waits)
    cluster.do(lambda: cluster.manager.run_pending(cluster.manager.sessions[session.id], 1))
    assert called.wait(30)
    assert "a done callback waits" in str(errors[0])
    assert any("a done callback of" in record.getMessage() for record in caplog.records)
    cluster.do(lambda: cluster.manager.run_pending(cluster.manager.sessions[session.id]))
    assert other.result(30) == b"Y"


def test_closing_the_connection_fails_what_is_unfinished(cluster: ScriptedCluster) -> None:
    cluster.manager.hold_results = True
    connection = flame.connect(cluster.endpoint)
    future = connection.create_session("upper").run(b"x")
    waiting = threading.Thread(target=lambda: future.exception(30))
    waiting.start()
    connection.close()
    waiting.join(30)
    assert not waiting.is_alive()
    with pytest.raises(flame.FailedPrecondition, match="the connection was closed"):
        future.result()


def test_a_cancel_counts_from_its_answer_though_the_result_is_held_up(
    cluster: ScriptedCluster, connection: flame.Connection
) -> None:
    cluster.manager.hold_results = True
    session = connection.create_session("upper")
    future = session.run(b"x")
    assert future.cancel(30)
    assert not future.done()
    cluster.manager.hold_results = False
    cluster.do(cluster.manager.deliver)
    assert isinstance(future.exception(30), flame.TaskCancelled)
    assert future.cancel()
