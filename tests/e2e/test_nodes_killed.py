"""`kill -9` of executors, fork server and executor manager: work goes on, and nothing of them remains."""

import os
import signal
from pathlib import Path

import pytest

import flame
from flame.config import processes
from tests.cli.commands import Home
from tests.e2e.cluster import PATIENCE_S, Cluster, alive, notes, register, wait_until_gone
from tests.e2e.conftest import MakeCluster
from tests.support import wait_until_true


def start_load(cluster: Cluster) -> None:
    """Wait until the load is under way."""
    wait_until_true(lambda: len(notes(cluster.directory, "end")) > 100, what="the load is under way")


def check_repeats(directory: Path) -> None:
    """A task ran again only where the process that it ran in before is gone, and seldom."""
    processes_of: dict[str, list[int]] = {}
    for line in (directory / "notes").read_text().splitlines():
        word, task, pid = line.split()
        if word == "begin":
            processes_of.setdefault(task, []).append(int(pid))
    repeats = [pids for pids in processes_of.values() if len(pids) > 1]
    assert not any(alive(pid) for pids in repeats for pid in pids[:-1])
    assert all(len(set(pids)) == len(pids) for pids in repeats)
    assert len(repeats) < 100


def test_killed_executors_cost_only_what_they_ran(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(2)
    count, kills = 2_000, 5
    with cluster.session("Noted", common_data=str(cluster.directory).encode()) as session:
        futures = [session.run(b"2") for _ in range(count)]
        start_load(cluster)
        for _ in range(kills):
            done = len(notes(cluster.directory, "end"))
            pid = wait_until_true(lambda: cluster.pids("executor"))[0]
            os.kill(pid, signal.SIGKILL)
            wait_until_true(lambda done=done: len(notes(cluster.directory, "end")) > done + 50)  # type: ignore[misc]
        assert [future.result(PATIENCE_S) for future in futures] == [b"%d" % future.task_id for future in futures]
    check_repeats(cluster.directory)


def test_a_killed_fork_server_is_replaced(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(2)
    with cluster.session("Noted", common_data=str(cluster.directory).encode()) as session:
        futures = [session.run(b"2") for _ in range(1_000)]
        start_load(cluster)
        (pid,) = cluster.pids("fork-server")
        os.kill(pid, signal.SIGKILL)
        assert [future.result(PATIENCE_S) for future in futures] == [b"%d" % future.task_id for future in futures]
        assert cluster.pids("fork-server") != [pid]
    check_repeats(cluster.directory)


def test_a_task_that_ends_the_fork_server_fails_in_the_end_and_others_go_on(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(2)
    with cluster.session("Mortal") as session, cluster.session("Echo") as other:
        poison = session.run(b"orphan")
        echoed = [other.run(b"%d" % number) for number in range(20)]
        with pytest.raises(flame.TaskFailed, match="ended while this task ran, 10 times"):
            poison.result(PATIENCE_S)
        assert [future.result(PATIENCE_S) for future in echoed] == [b"%d" % number for number in range(20)]
        assert session.invoke(b"again", timeout=PATIENCE_S) == b"again"


def test_a_killed_executor_manager_takes_its_executors_along_and_comes_back(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(2)
    with cluster.session("Noted", common_data=str(cluster.directory).encode()) as session:
        futures = [session.run(b"2") for _ in range(1_000)]
        start_load(cluster)
        before = cluster.pids("executor")
        assert before
        cluster.kill("n1")
        wait_until_true(lambda: not cluster.pids("executor") and not cluster.pids("fork-server"))
        assert not any(future.done() and future.exception() for future in futures)
        cluster.restart_node("n1")
        assert [future.result(PATIENCE_S) for future in futures] == [b"%d" % future.task_id for future in futures]
    check_repeats(cluster.directory)


def test_session_manager_and_executor_manager_killed_together(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(2)
    with cluster.session("Noted", common_data=str(cluster.directory).encode()) as session:
        futures = [session.run(b"2") for _ in range(1_000)]
        start_load(cluster)
        cluster.kill("session-manager")
        cluster.kill("n1")
        cluster.start_session_manager()
        cluster.restart_node("n1")
        assert [future.result(PATIENCE_S) for future in futures] == [b"%d" % future.task_id for future in futures]
    check_repeats(cluster.directory)


@pytest.mark.parametrize("ending", ["release", "kill"])
def test_nothing_of_an_executor_remains(make_cluster: MakeCluster, ending: str) -> None:
    cluster = make_cluster(1)
    with cluster.connect() as connection:
        register(connection, "Parent", delay_release_ms=0 if ending == "release" else 60_000)
        with connection.create_session("parent") as session:
            pids = [int(pid) for pid in (session.invoke(b"", timeout=60) or b"").split()]
            assert len(pids) == 3
            if ending == "kill":
                wait_until_true(lambda: all(alive(pid) for pid in pids))  # the shell becomes `sleep` about now
                os.kill(pids[0], signal.SIGKILL)
            wait_until_gone(pids)
            again = [int(pid) for pid in (session.invoke(b"", timeout=60) or b"").split()]
            assert not set(again) & set(pids)
        wait_until_gone(again)
    directory = Path(cluster.data_dir) / "tmp" / "n1"
    wait_until_true(lambda: not list(directory.iterdir()), what="no temporary file is left")


def test_a_session_finds_nothing_of_the_one_before(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    found = []
    with cluster.connect() as connection:
        register(connection, "Untidy")
        for _ in range(2):
            with connection.create_session("untidy") as session:
                found.append((session.invoke(b"", timeout=60) or b"").split(b"\n"))
                assert (session.invoke(b"", timeout=60) or b"").split(b"\n") == [b"something", b"True", b"/"]
    assert found[0] == found[1]
    assert found[0][:2] == [b"", b"False"]


@pytest.mark.parametrize("component", ["executor-manager", "fork-server"])
def test_nothing_of_a_node_remains_when_it_is_killed(short_tmp: Path, component: str) -> None:
    home = Home(short_tmp)
    try:
        home.up("--executors", "1")
        with flame.connect(f"unix://{home.data_dir}/run/session-manager.sock") as connection:
            register(connection, "Parent")
            with connection.create_session("parent", min_instances=1) as session:
                pids = [int(pid) for pid in (session.invoke(b"", timeout=60) or b"").split()]
                os.kill(home.pid(component), signal.SIGKILL)
                wait_until_gone(pids)
                again = session.invoke(b"", timeout=60)
        assert again
        home.ok("flame", "down")
        assert not any(alive(int(pid)) for pid in again.split())
        assert processes.find(home.data_dir) == []
    finally:
        home.end()
