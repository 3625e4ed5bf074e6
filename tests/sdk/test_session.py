"""A session: run, invoke, flush, close, and what happens when the session manager goes away meanwhile."""

import threading

import pytest

import flame
from tests.sdk.scripted import ScriptedCluster
from tests.support import WaitUntil


def test_invoke_returns_the_output(connection: flame.Connection) -> None:
    with connection.create_session("upper", session_id="mine") as session:
        assert session.invoke(b"hello") == b"HELLO"
        assert session.id == "mine"
        assert session.application == "upper"
        assert session.state.name == "OPEN"
        assert "'mine' of application 'upper': open" in repr(session)
    assert session.state is flame.SessionState.CLOSED
    assert connection.get_session("mine").state is flame.SessionState.CLOSED


def test_ids_are_known_at_once_and_contiguous(connection: flame.Connection) -> None:
    with connection.create_session("upper") as session:
        futures = [session.run(b"%d" % index) for index in range(3000)]
        assert [future.task_id for future in futures] == list(range(1, 3001))
        assert [future.result(30) for future in futures] == [b"%d" % index for index in range(3000)]


def test_leaving_waits_for_what_was_submitted(connection: flame.Connection) -> None:
    with connection.create_session("upper") as session:
        futures = [session.run(b"x") for _ in range(100)]
    assert all(future.done() for future in futures)


def test_an_exception_cancels_what_is_queued(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_tasks = True
    session = connection.create_session("upper")
    future = session.run(b"x")
    with pytest.raises(KeyError), session:
        raise KeyError("mine")
    assert session.state is flame.SessionState.CLOSED
    with pytest.raises(flame.TaskCancelled):
        future.result(30)


def test_a_closed_session_says_so(connection: flame.Connection) -> None:
    session = connection.create_session("upper")
    session.close()
    session.close()
    with pytest.raises(flame.FailedPrecondition, match="is closed"):
        session.run(b"x")
    with pytest.raises(flame.FailedPrecondition, match="is closed"):
        list(session.map([b"x"]))


def test_a_session_that_another_client_closed_says_so(connection: flame.Connection, wait_until: WaitUntil) -> None:
    session = connection.create_session("upper")
    connection.close_session(session.id)
    wait_until(lambda: session.state is flame.SessionState.CLOSED)
    with pytest.raises(flame.FailedPrecondition, match="closed"):
        session.run(b"x").result(30)
    with pytest.raises(flame.FailedPrecondition, match="closed"):
        session.run(b"y")


def test_close_without_waiting_leaves_futures_valid(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_results = True
    session = connection.create_session("upper")
    futures = [session.run(b"x") for _ in range(10)]
    session.close(wait=False)
    assert not futures[0].done()
    cluster.manager.hold_results = False
    cluster.do(cluster.manager.deliver)
    for future in futures:
        assert isinstance(future.exception(30), flame.TaskCancelled)


def test_close_gives_up_after_its_timeout_and_can_be_repeated(
    cluster: ScriptedCluster, connection: flame.Connection
) -> None:
    cluster.manager.hold_results = True
    session = connection.create_session("upper")
    session.run(b"x")
    with pytest.raises(TimeoutError, match="the tasks of session session-1: not within"):
        session.close(timeout=0.01)
    cluster.manager.hold_results = False
    cluster.do(lambda: cluster.manager.run_pending(cluster.manager.sessions[session.id]))
    session.close()


def test_inputs_are_checked_before_anything_is_sent(cluster: ScriptedCluster) -> None:
    cluster.manager.max_task_bytes = 1000
    with flame.connect(cluster.endpoint) as connection, connection.create_session("upper") as session:
        with pytest.raises(TypeError, match="bytes, not str"):
            session.run("text")  # type: ignore[arg-type]
        with pytest.raises(flame.TooLarge, match="1001 bytes, the limit is 1000"):
            session.run(bytes(1001))
        assert session.invoke(bytes(1000)) == bytes(1000)


def test_flush_waits_for_the_acknowledgement(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_acknowledgements = cluster.manager.hold_results = True
    with connection.create_session("upper") as session:
        future = session.run(b"x")
        with pytest.raises(TimeoutError, match="flush of session"):
            session.flush(0.01)
        assert not future.acknowledged(0.01)
        cluster.do(cluster.manager.acknowledge_all)
        session.flush(30)
        assert future.acknowledged(30)
        assert not future.done()
        cluster.manager.hold_acknowledgements = cluster.manager.hold_results = False
        cluster.do(lambda: cluster.manager.run_pending(cluster.manager.sessions[session.id]))


def test_run_waits_for_room_and_goes_on(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_acknowledgements = True
    with connection.create_session("upper") as session:
        submitted: list[flame.Future] = []

        def submit() -> None:
            submitted.extend(session.run(bytes(2_000_000)) for _ in range(8))

        thread = threading.Thread(target=submit)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive(), "16 MB do not fit into a window of 8 MiB"
        cluster.manager.hold_acknowledgements = False
        cluster.do(cluster.manager.acknowledge_all)
        thread.join(30)
        assert not thread.is_alive()
        assert len(flame.wait(submitted, 30).done) == 8


def test_run_waits_for_room_no_longer_than_it_may(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_acknowledgements = True
    with connection.create_session("upper") as session:
        submitted = [session.run(bytes(4_000_000), timeout=30) for _ in range(2)]
        with pytest.raises(TimeoutError, match="room for a task of 4000000 bytes"):
            session.run(bytes(4_000_000), timeout=0.05)
        with pytest.raises(TimeoutError, match="room for a task"):
            session.invoke(bytes(4_000_000), timeout=0.05)
        cluster.manager.hold_acknowledgements = False
        cluster.do(cluster.manager.acknowledge_all)
        submitted.append(session.run(bytes(4_000_000), timeout=30))
        assert [future.task_id for future in submitted] == [1, 2, 3], "nothing was submitted by those that gave up"


def test_run_waits_for_fresh_ids_no_longer_than_it_may(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    session = connection.create_session("upper")
    cluster.manager.sessions[session.id].refuse_at = 1
    with pytest.raises(flame.ResourceExhausted):
        session.invoke(b"x")
    cluster.stop()
    with pytest.raises(TimeoutError, match=session.id):
        session.run(b"x", timeout=0.05)
    cluster.manager.sessions[session.id].refuse_at = 0
    cluster.start()
    assert session.run(b"x", timeout=30).result(30) == b"X"


def test_a_refused_task_fails_and_the_session_goes_on(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    with connection.create_session("upper") as session:
        assert session.invoke(b"a") == b"A"
        stored = cluster.manager.sessions[session.id]
        stored.refuse_at = 2
        with pytest.raises(flame.ResourceExhausted, match="disk is full"):
            session.invoke(b"b")
        stored.refuse_at = 0
        future = session.run(b"c")
        assert future.result(30) == b"C"
        assert future.task_id > 1 << 32, "a fresh block of ids"


def test_a_restart_of_the_session_manager_is_not_noticed(
    cluster: ScriptedCluster, connection: flame.Connection
) -> None:
    cluster.manager.hold_results = True
    with connection.create_session("upper") as session:
        before = [session.run(b"before %d" % index) for index in range(2000)]
        cluster.stop()
        meanwhile = [session.run(b"while %d" % index) for index in range(2000)]
        cluster.manager.epoch += 1
        cluster.manager.hold_results = False
        cluster.start()
        for stored in cluster.manager.sessions.values():
            cluster.do(lambda stored=stored: cluster.manager.run_pending(stored))  # type: ignore[misc]
        assert [future.result(30) for future in before] == [b"BEFORE %d" % index for index in range(2000)]
        assert [future.result(30) for future in meanwhile] == [b"WHILE %d" % index for index in range(2000)]


def test_links_that_break_again_and_again_lose_nothing(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    with connection.create_session("upper") as session:
        futures = []
        for turn in range(10):
            futures += [session.run(b"%d" % index) for index in range(turn * 500, turn * 500 + 500)]
            cluster.drop_links()
        assert [future.result(60) for future in futures] == [b"%d" % index for index in range(5000)]
        assert list(session.map([b"a", b"b"], timeout=30)) == [b"A", b"B"]


def test_another_store_fails_the_futures_and_says_so(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_results = True
    session = connection.create_session("upper")
    future = session.run(b"x")
    session.flush(30)
    cluster.stop()
    cluster.manager.store_id = "another"
    cluster.start()
    with pytest.raises(flame.Aborted, match="another store"):
        future.result(30)
    with pytest.raises(flame.Aborted, match="another store"):
        session.run(b"x")


def test_a_deleted_session_fails_its_futures(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_results = True
    session = connection.create_session("upper")
    future = session.run(b"x")
    connection.delete_session(session.id)
    with pytest.raises(flame.NotFound, match="deleted"):
        future.result(30)


def test_opening_attaches_and_leaving_detaches(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    first = connection.create_session("upper")
    with connection.open_session(first.id) as second:
        future = second.run(b"x")
        assert future.result(30) == b"X"
        assert future.task_id == (1 << 32) + 1
    assert first.invoke(b"y") == b"Y"
    cluster.manager.hold_results = True
    third = connection.open_session(first.id)
    lost = third.run(b"x")
    with pytest.raises(KeyError), third:
        raise KeyError
    with pytest.raises(flame.FlameError, match="detached"):
        lost.result(30)
    cluster.manager.hold_results = False
    assert first.state is flame.SessionState.OPEN
    first.close()


def test_invoke_that_gives_up_cancels_its_task(
    cluster: ScriptedCluster, connection: flame.Connection, wait_until: WaitUntil
) -> None:
    cluster.manager.hold_results = True
    session = connection.create_session("upper")
    with pytest.raises(TimeoutError, match="task 1 of session session-1 is not done after"):
        session.invoke(b"x", timeout=0.05)
    wait_until(lambda: connection.get_session(session.id).cancelled == 1)


def test_a_warning_is_logged_once_and_readable(
    cluster: ScriptedCluster, connection: flame.Connection, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    session = connection.create_session("upper")
    stored = cluster.manager.sessions[session.id]

    def warn() -> None:
        for peer in cluster.manager.peers:
            peer.changed(stored, "it needs cpu=64, the largest node has cpu=2")

    for _ in range(3):
        cluster.do(warn)
    wait_until(lambda: session.warning and caplog.records)
    session.invoke(b"x")
    assert session.warning == "it needs cpu=64, the largest node has cpu=2"
    assert [record.getMessage() for record in caplog.records] == [f"session {session.id}: {session.warning}"]
    assert caplog.records[0].name == "flame"


def test_many_threads_share_a_session(connection: flame.Connection) -> None:
    with connection.create_session("upper") as session:
        wrong: list[object] = []

        def use(number: int) -> None:
            inputs = [b"%d a %d" % (number, index) for index in range(500)]
            expected = [text.upper() for text in inputs]
            if list(session.map(inputs, window=100)) != expected:
                wrong.append(number)
            if [future.result(60) for future in [session.run(text) for text in inputs]] != expected:
                wrong.append(number)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong
        assert not any(thread.is_alive() for thread in threads)
