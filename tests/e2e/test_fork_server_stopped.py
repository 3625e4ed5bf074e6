"""A fork server that is stopped (SIGSTOP) and never goes on: nothing can be started or ended through it."""

import os
import signal

import flame
from tests.e2e.cluster import PATIENCE_S, notes, register
from tests.e2e.conftest import MakeCluster
from tests.support import wait_until_true


def test_a_stopped_fork_server_is_replaced_and_no_task_is_lost_or_charged(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(2)
    directory = str(cluster.directory).encode()
    with cluster.session("Doomed", common_data=directory, max_instances=1) as doomed, cluster.connect() as connection:
        running = doomed.run(b"")
        # Twice it ends its process itself: with one more death charged it fails.
        for invocation in (1, 2):
            wait_until_true(lambda count=invocation: len(notes(cluster.directory, "begin")) == count)  # type: ignore[misc]
            (cluster.directory / f"go.{invocation}").touch()
        wait_until_true(lambda: len(notes(cluster.directory, "begin")) == 3)
        (pid,) = cluster.pids("fork-server")
        os.kill(pid, signal.SIGSTOP)
        register(connection, "Echo")
        with connection.create_session("echo") as session:
            futures = [session.run(b"%d" % number) for number in range(100)]
            assert [future.result(PATIENCE_S) for future in futures] == [b"%d" % number for number in range(100)]
        wait_until_true(lambda: len(notes(cluster.directory, "begin")) == 4, PATIENCE_S, "the task runs again")
        assert not running.done()
        (replacement,) = cluster.pids("fork-server")
        assert replacement != pid
        (line,) = [line for line in cluster.log("n1").splitlines() if "has not answered" in line]
        assert f"the fork server (process {pid}) has not answered for 10 s and is killed" in line
        (cluster.directory / "go.4").touch()
        assert isinstance(running.exception(PATIENCE_S), flame.TaskFailed)  # its own third death
        assert len(notes(cluster.directory, "begin")) == 4
