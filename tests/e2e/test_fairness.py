"""Who gets the executors: fairness, priority, minimum and maximum, release."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

import flame
from tests.e2e.cluster import Cluster, bound, notes, register
from tests.e2e.conftest import MakeCluster
from tests.support import wait_until_true


@pytest.fixture
def connection(cluster: Cluster) -> Iterator[flame.Connection]:
    """A connection with the applications, on a cluster of two executors where nobody has one."""
    with cluster.connect() as made:
        for service in ("Sleep", "Echo", "Gated"):
            register(made, service, delay_release_ms=60_000)
        wait_until_true(lambda: not any(view.session_id for view in made.list_executors()), what="nobody has executors")
        yield made
        for view in made.list_sessions():
            made.close_session(view.id)


def queue(session: flame.Session, count: int, milliseconds: int) -> None:
    """Queue tasks that sleep, and wait until they are stored."""
    task = str(milliseconds).encode()
    for _ in range(count):
        session.run(task)
    session.flush(60)


def done(connection: flame.Connection, session: flame.Session) -> int:
    """How many tasks of a session have succeeded."""
    return connection.get_session(session.id).succeed


def first_result_s(connection: flame.Connection) -> float:
    """Open a session on another application and run one task; how long that took."""
    started_s = time.monotonic()
    with connection.create_session("echo") as session:
        assert session.invoke(b"hello", timeout=60) == b"hello"
        return time.monotonic() - started_s


@pytest.mark.parametrize("executors", [1, 2])
def test_a_newcomer_has_its_first_result_soon(make_cluster: MakeCluster, executors: int) -> None:
    cluster = make_cluster(executors)
    with cluster.connect() as connection:
        register(connection, "Sleep")
        register(connection, "Echo")
        first = connection.create_session("sleep")
        queue(first, 100_000, 10)
        wait_until_true(lambda: done(connection, first) > 10)
        taken_s: list[float] = []

        def soon() -> bool:
            """Whether most newcomers of the last few were served soon; others may have had the machine for a while."""
            taken_s.append(first_result_s(connection))
            return len(taken_s) >= 5 and median(taken_s[-5:]) < 0.3

        wait_until_true(soon, 60, "most newcomers have their first result within 0.3 s")
        before = done(connection, first)
        wait_until_true(lambda: done(connection, first) > before, what="the first session goes on")
        first.close(wait=False)
        assert connection.get_session(first.id).failed == 0


@pytest.mark.parametrize("executors", [1, 2, 3])
def test_equal_sessions_get_equal_shares(make_cluster: MakeCluster, executors: int) -> None:
    cluster = make_cluster(executors)
    with cluster.connect() as connection:
        register(connection, "Sleep")
        sessions = [connection.create_session("sleep") for _ in range(2)]
        for session in sessions:
            queue(session, 3_000, 10)
        wait_until_true(lambda: all(done(connection, session) > 20 for session in sessions))
        before = [done(connection, session) for session in sessions]
        counts = [0, 0]

        def enough() -> bool:
            counts[:] = [done(connection, s) - start for s, start in zip(sessions, before, strict=True)]
            return sum(counts) > 700 * min(executors, 2)

        wait_until_true(enough, 60)
        half = sum(counts) / 2
        assert abs(counts[0] - half) < 0.1 * half, counts
        for session in sessions:
            session.close(wait=False)


def test_the_higher_priority_goes_first(connection: flame.Connection) -> None:
    low = connection.create_session("sleep")
    queue(low, 5_000, 5)
    wait_until_true(lambda: done(connection, low) > 10)
    with connection.create_session("sleep", priority=5) as high:
        list(high.map([b"5"] * 2, ordered=False))  # its executors are on their way
        wait_until_true(lambda: bound(connection, high.id) == 2 or list(high.map([b"5"] * 20)))
        before = done(connection, low)
        assert len(list(high.map([b"5"] * 300))) == 300
        meanwhile = done(connection, low) - before
    assert meanwhile < 60
    wait_until_true(lambda: done(connection, low) > before + meanwhile, what="the lower one goes on")
    low.close(wait=False)


def test_the_minimum_is_held_while_a_session_is_open_and_idle(connection: flame.Connection) -> None:
    register(connection, "Sleep", "brief", delay_release_ms=100)
    idle = connection.create_session("brief", min_instances=1)
    wait_until_true(lambda: bound(connection, idle.id) == 1, what="it has its minimum before any task")
    pids = set(idle.map([b"20"] * 10))
    wait_until_true(lambda: bound(connection, idle.id) == 1, what="what is above the minimum is released")
    busy = connection.create_session("sleep")
    queue(busy, 2_000, 5)
    wait_until_true(lambda: done(connection, busy) > 200)
    assert bound(connection, idle.id) == 1
    started_s = time.monotonic()
    assert idle.invoke(b"0", timeout=30) in pids
    assert time.monotonic() - started_s < 5
    busy.close(wait=False)
    idle.close()


def test_the_maximum_is_respected(connection: flame.Connection) -> None:
    register(connection, "Sleep", "narrow", max_instances=1)
    with connection.create_session("sleep", max_instances=1) as session:
        assert len(set(session.map([b"5"] * 100))) == 1
    with connection.create_session("narrow") as session:
        assert len(set(session.map([b"5"] * 100))) == 1
    with connection.create_session("sleep", max_instances=2) as session:
        assert len(set(session.map([b"5"] * 200))) == 2


def test_an_idle_executor_goes_at_once_when_another_session_needs_room(connection: flame.Connection) -> None:
    with connection.create_session("sleep") as idle, connection.create_session("sleep") as other:
        wait_until_true(lambda: list(idle.map([b"5"] * 40)) and bound(connection, idle.id) == 2)
        started_s = time.monotonic()
        other.invoke(b"0", timeout=30)
        assert time.monotonic() - started_s < 5  # the delay of release is 60 s
        wait_until_true(lambda: list(other.map([b"5"] * 40)) and bound(connection, other.id) == 2)
        assert bound(connection, idle.id) == 0


def test_an_idle_executor_stays_for_the_delay_of_release(connection: flame.Connection) -> None:
    register(connection, "Sleep", "delayed", delay_release_ms=1_000)
    with connection.create_session("delayed") as session:
        pid = session.invoke(b"0", timeout=30)
        ended_s = time.monotonic()
        assert session.invoke(b"0", timeout=30) == pid
        wait_until_true(lambda: bound(connection, session.id) == 0, what="it is released")
        assert 0.9 < time.monotonic() - ended_s < 10
        assert session.invoke(b"0", timeout=30) != pid


def test_a_running_task_is_never_killed_for_fairness(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    directory = cluster.directory
    with cluster.connect() as connection:
        register(connection, "Gated")
        register(connection, "Echo")
        common_data = str(directory).encode()
        with (
            connection.create_session("gated", common_data=common_data) as first,
            connection.create_session("echo", priority=9) as second,
        ):
            futures = [first.run(name) for name in (b"a", b"b")]
            wait_until_true(lambda: notes(directory, "begin") == ["a"])
            waiting = second.run(b"hello")
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1)
            (directory / "a.go").touch()
            assert waiting.result(timeout=30) == b"hello"
            (directory / "b.go").touch()
            pid = futures[0].result(timeout=30)
            futures[1].result(timeout=30)
    assert notes(directory, "begin") == ["a", "b"]
    assert pid is not None
    assert pid.decode() != str(os.getpid())
    assert Path(directory / "notes").read_text().count("end a") == 1
