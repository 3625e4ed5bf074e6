"""Cancelling, closing, leaving by an exception, and Ctrl-C."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import flame
from flame.model.states import SessionState, TaskState
from tests.e2e.cluster import Cluster, notes, register
from tests.e2e.conftest import MakeCluster
from tests.support import wait_until_true


class Gates:
    """Opens the gates of a session's tasks."""

    def __init__(self, cluster: Cluster) -> None:
        self.directory = cluster.directory

    def open(self, *names: str) -> None:
        for name in names:
            (self.directory / f"{name}.go").touch()

    def began(self, name: str) -> None:
        """Wait until a task has begun."""
        wait_until_true(lambda: name in notes(self.directory, "begin"), what=f"{name} begins")


Rig = tuple[flame.Connection, flame.Session, Gates]


@pytest.fixture
def rig(make_cluster: MakeCluster) -> Iterator[Rig]:
    """A session of gated tasks on the only executor of a cluster."""
    cluster = make_cluster(1)
    with cluster.connect() as connection:
        register(connection, "Gated")
        session = connection.create_session("gated", common_data=str(cluster.directory).encode())
        yield connection, session, Gates(cluster)


def test_cancel_of_queued_handed_out_and_running_tasks(rig: Rig) -> None:
    connection, session, gates = rig
    futures = [session.run(b"running"), *(session.run(b"task%d" % n) for n in range(3_000))]
    gates.began("running")
    assert futures[0].cancel(30) is False  # it runs
    assert futures[1].cancel(30) is True  # handed out, most likely: an executor holds more than it runs
    assert futures[2_500].cancel(30) is True  # queued
    assert futures[2_500].cancelled()
    assert isinstance(futures[1].exception(30), flame.TaskCancelled)
    assert not futures[3].done()
    gates.open("running", *(f"task{n}" for n in range(3_000)))
    assert futures[0].result(30)
    assert futures[0].cancel(30) is False  # it is done
    others = [futures[n] for n in range(1, 3_001) if n not in (1, 2_500)]
    assert not any(future.exception(60) for future in others)
    assert {"task0", "task2499"} & set(notes(gates.directory, "begin")) == set()
    view = connection.get_session(session.id)
    assert (view.succeed, view.cancelled, view.failed) == (2_999, 2, 0)


def test_close_cancels_what_is_pending_and_lets_run_what_runs(rig: Rig) -> None:
    connection, session, gates = rig
    futures = [session.run(name) for name in (b"running", b"next", b"last")]
    gates.began("running")
    started_s = time.monotonic()
    session.close(wait=False, timeout=30)
    assert time.monotonic() - started_s < 10
    assert isinstance(futures[1].exception(30), flame.TaskCancelled)
    assert isinstance(futures[2].exception(30), flame.TaskCancelled)
    assert not futures[0].done()
    gates.open("running", "next", "last")
    assert futures[0].result(30)
    results = {result.task_id: result.state for result in connection.results(session.id, timeout=30)}
    assert results == {1: TaskState.SUCCEED, 2: TaskState.CANCELLED, 3: TaskState.CANCELLED}
    assert notes(gates.directory, "begin") == ["running"]


def test_close_waits_for_what_was_submitted(rig: Rig) -> None:
    connection, session, gates = rig
    future = session.run(b"only")
    with pytest.raises(TimeoutError):
        session.close(timeout=0.5)
    assert connection.get_session(session.id).state is SessionState.OPEN
    gates.open("only")
    session.close(timeout=30)
    assert future.done()
    with pytest.raises(flame.FailedPrecondition, match="is closed"):
        session.run(b"more")


def test_an_exception_in_with_cancels_what_is_queued(rig: Rig) -> None:
    connection, session, gates = rig
    futures: list[flame.Future] = []

    def fail() -> None:
        with session:
            futures.extend(session.run(name) for name in (b"running", b"next"))
            gates.began("running")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert connection.get_session(session.id).state is SessionState.CLOSED
    assert isinstance(futures[1].exception(30), flame.TaskCancelled)
    gates.open("running")
    assert futures[0].result(30)


def test_breaking_out_of_a_map_cancels_the_rest(rig: Rig) -> None:
    connection, session, gates = rig
    gates.open("0")
    for output in session.map((b"%d" % n for n in range(1_000_000)), window=2_000):
        assert output
        break
    wait_until_true(lambda: connection.get_session(session.id).cancelled > 1_000)
    gates.open("after")
    after = session.run(b"after")

    def over() -> bool:
        gates.open(*notes(gates.directory, "begin"))  # what ran already goes on
        return after.done()

    wait_until_true(over)
    assert after.result()
    view = connection.get_session(session.id)
    assert view.succeed < 10
    assert view.unfinished == 0


def test_a_timeout_of_invoke_cancels_the_task(rig: Rig) -> None:
    connection, session, gates = rig
    running = session.run(b"running")
    gates.began("running")
    with pytest.raises(TimeoutError):
        session.invoke(b"never", timeout=0.3)
    wait_until_true(lambda: connection.get_session(session.id).cancelled == 1)
    gates.open("running")
    assert running.result(30)
    assert "never" not in notes(gates.directory, "begin")


_SCRIPT = """
import sys, flame
with flame.connect() as connection:
    with connection.create_session("gated", common_data=sys.argv[1].encode(), session_id="script") as session:
        futures = [session.run(b"%d" % n) for n in range(100)]
        session.flush()
        print("ready")
        if sys.argv[2] == "run":
            futures[0].result()
        else:
            list(session.map(b"%d" % n for n in range(1000, 100_000_000)))
"""


@pytest.mark.parametrize("how", ["run", "map"])
def test_control_c_of_a_script_closes_its_session(make_cluster: MakeCluster, how: str) -> None:
    cluster = make_cluster(1)
    with cluster.connect() as connection:
        register(connection, "Gated")
        script = cluster.script(_SCRIPT, str(cluster.directory), how)
        assert script.stdout is not None
        assert script.stdout.readline() == "ready\n"
        Gates(cluster).began("0")
        script.send_signal(signal.SIGINT)
        _, errors = script.communicate(timeout=30)
        assert script.returncode == -signal.SIGINT
        assert errors.rstrip().endswith("KeyboardInterrupt")
        view = connection.get_session("script")
        assert view.state is SessionState.CLOSED
        Gates(cluster).open("0")
        wait_until_true(lambda: connection.get_session("script").unfinished == 0)
        view = connection.get_session("script")
        assert view.succeed == 1
        assert view.cancelled >= 99


def test_control_c_of_flmping(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    process = cluster.start_cli("flmping", "-t", "100000", "-d", "20")
    assert process.stdout is not None
    assert "was created" in process.stdout.readline()
    with cluster.connect() as connection:
        wait_until_true(lambda: [view.succeed for view in connection.list_sessions() if view.succeed > 5])
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 130
        (view,) = connection.list_sessions()
        assert view.state is SessionState.CLOSED


def test_closing_a_connection_stores_what_was_submitted(cluster: Cluster) -> None:
    """Also at the end of a program that closes nothing."""
    with cluster.session("Echo") as kept:
        for how in ("connection.close()", "pass"):
            script = (
                "import sys, flame\n"
                "connection = flame.connect(sys.argv[1])\n"
                "session = connection.open_session(sys.argv[2])\n"
                "for number in range(20_000): session.run(b'x')\n" + how
            )
            done = subprocess.run(
                [sys.executable, "-c", script, cluster.endpoint, kept.id], capture_output=True, text=True, timeout=60
            )
            assert (done.returncode, done.stderr) == (0, "")
        shown = kept.connection.get_session(kept.id)
        assert shown.pending + shown.running + shown.succeed == 40_000
