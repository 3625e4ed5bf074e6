"""Reading results of a session, open or closed, from any connection."""

import threading

import pytest

import flame
from tests.sdk.scripted import ScriptedCluster
from tests.support import WaitUntil


def _picky(task_input: bytes) -> bytes:
    if task_input == b"1":
        raise ValueError("one")
    return task_input


def test_results_of_a_closed_session(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.service = _picky
    with connection.create_session("upper") as session:
        flame.wait([session.run(b"%d" % index) for index in range(3000)], 30)
    with flame.connect(cluster.endpoint) as other:
        results = list(other.results(session.id, timeout=30))
        assert [result.task_id for result in results] == list(range(1, 3001))
        assert [result.output for result in results if result.state is flame.TaskState.SUCCEED] == [
            b"%d" % index for index in range(3000) if index != 1
        ]
        failed = results[1]
        assert failed.state is flame.TaskState.FAILED
        assert isinstance(failed.error, flame.TaskFailed)
        assert failed.error.message == "one"
        half = next(result.sequence for result in results if result.task_id == 1500)
        rest = list(other.results(session.id, after=half))
        assert rest == [result for result in results if result.sequence > half]
        assert list(other.results(session.id, after=results[-1].sequence)) == []


def test_an_open_session_ends_with_what_is_stored(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    session = connection.create_session("upper")
    assert list(connection.results(session.id)) == []
    session.invoke(b"a")
    cluster.manager.hold_tasks = True
    session.run(b"b")
    session.flush(30)
    assert [result.output for result in connection.results(session.id, timeout=30)] == [b"A"]
    cluster.manager.hold_tasks = False


def test_following_goes_on_until_the_session_is_closed(
    cluster: ScriptedCluster, connection: flame.Connection, wait_until: WaitUntil
) -> None:
    session = connection.create_session("upper")
    session.invoke(b"a")
    seen: list[flame.TaskResult] = []
    thread = threading.Thread(target=lambda: seen.extend(connection.results(session.id, follow=True)))
    thread.start()
    wait_until(lambda: len(next(iter(cluster.manager.peers)).attached) == 2)
    session.invoke(b"b")
    cluster.manager.hold_tasks = True
    session.run(b"queued")
    session.flush(30)
    session.close(wait=False)
    thread.join(30)
    assert not thread.is_alive()
    assert [result.output for result in seen] == [b"A", b"B", None]
    assert seen[-1].state is flame.TaskState.CANCELLED


def test_a_closed_session_ends_after_its_last_running_task(
    cluster: ScriptedCluster, connection: flame.Connection, wait_until: WaitUntil
) -> None:
    cluster.manager.hold_tasks = True
    session = connection.create_session("upper")
    session.run(b"x")
    session.flush(30)
    stored = cluster.manager.sessions[session.id]

    def start_task() -> None:
        stored.running.update(stored.pending)
        stored.pending.clear()

    def finish_task() -> None:
        stored.running.clear()
        cluster.manager.finish(stored, 1, [b"X"])
        cluster.manager.deliver()

    cluster.do(start_task)
    session.close(wait=False)
    seen: list[flame.TaskResult] = []
    thread = threading.Thread(target=lambda: seen.extend(connection.results(session.id)))
    thread.start()
    wait_until(lambda: len(next(iter(cluster.manager.peers)).attached) == 2)
    assert thread.is_alive()
    cluster.do(finish_task)
    thread.join(30)
    assert not thread.is_alive()
    assert [result.output for result in seen] == [b"X"]


def test_reading_goes_on_after_a_lost_link(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    with connection.create_session("upper") as session:
        for turn in range(10):
            session.invoke(b"%d" % turn)
    seen = []
    for result in connection.results(session.id, timeout=30):
        seen.append(result.output)
        cluster.drop_links()
    assert seen == [b"%d" % turn for turn in range(10)]


def test_what_cannot_be_read(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    with pytest.raises(flame.NotFound):
        list(connection.results("nobody"))
    with pytest.raises(flame.InvalidArgument, match="after is -1"):
        connection.results("x", after=-1)
    with pytest.raises(flame.InvalidArgument, match="session name"):
        connection.results("../x")
    session = connection.create_session("upper")
    with pytest.raises(TimeoutError, match="the next result of session"):
        list(connection.results(session.id, follow=True, timeout=0.05))
