"""`flame up`, `down` and `status`, with real processes."""

import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from flame.config import paths, processes, runtime
from flame.config.capacity import cpus
from flame.config.probe import answers
from flame.supervisor.cluster import free_port
from tests.cli.commands import Home
from tests.support import wait_until_true


def test_up_run_status_down(home: Home) -> None:
    output = home.up("--executors", "2")
    assert "flame is up, with 1 node" in output
    assert home.data_dir in output
    assert "<20> tasks was completed" in home.ok("flmping", "-t", "20")
    status = home.ok("flame", "status")
    for component in ("supervisor", "session-manager", "executor-manager"):
        assert f"running (pid {home.pid(component)})" in status
    assert "1 ready" in status
    assert "0 open, 1 closed" in status
    assert "stopped" in home.ok("flame", "down")
    assert processes.find(home.data_dir) == []
    assert not os.path.exists(paths.cluster_file(home.data_dir))
    assert not (home.path / ".flame/run/cluster.json").exists()


def test_nothing_is_readable_by_others(home: Home) -> None:
    home.up()
    for path in (home.data_dir, f"{home.data_dir}/run"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    pointer = home.path / ".flame/run/cluster.json"
    for path in (paths.socket_path(home.data_dir), paths.cluster_file(home.data_dir), str(pointer)):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_status_and_down_without_a_cluster(home: Home) -> None:
    done = home.run("flame", "status")
    assert done.returncode == 3
    assert "not running" in done.stdout
    assert "flame up" in done.stderr
    assert home.ok("flame", "down") == "flame was not running\n"


def test_executors_are_the_limit_of_the_node(home: Home) -> None:
    more = cpus() + 3
    output = home.up("--executors", str(more))
    assert f"at most {more}, on {cpus()} CPU" in output
    assert f"the node registers cpu={more}" in output
    home.ok("flmping", "-t", "200", "-d", "10")
    assert len(home.ok("flmctl", "list", "-e").splitlines()) == 1 + more


def test_by_default_there_is_an_executor_per_cpu_and_up_says_so(home: Home) -> None:
    port = str(free_port())
    output = home.ok("flame", "up", "--port", port)
    assert f"executors  at most {cpus()}\n" in output
    assert home.ok("flame", "up", "--port", port) == output  # nothing of it is another setting


def test_up_on_a_running_cluster_changes_nothing(home: Home) -> None:
    home.up("--executors", "1")
    before = processes.find(home.data_dir)
    output = home.up("--executors", "2")
    assert "keeps its settings" in output
    assert "flame is up" in output
    assert {p.pid for p in processes.find(home.data_dir)} == {p.pid for p in before}


def test_two_ups_at_once_tell_of_the_same_cluster(home: Home) -> None:
    ups = [home.start("flame", "up", "--port", "0") for _ in range(2)]
    outputs = [up.communicate(timeout=100) for up in ups]
    assert [up.returncode for up in ups] == [0, 0], outputs
    cluster = runtime.read(paths.cluster_file(home.data_dir))
    assert cluster is not None
    for output, _ in outputs:
        assert f" {cluster.endpoint}\n" in output
        assert f" {cluster.grpc}\n" in output
        assert output.startswith("flame is up")  # and says nothing of other settings or repairs
    assert home.pid("supervisor") == cluster.supervisor  # there is one, and no other that waits
    home.ok("flmping", "-t", "5", "--endpoint", cluster.grpc)


def test_a_data_directory_that_is_none(home: Home) -> None:
    (home.path / "file").touch()
    for command in ("up", "down", "status"):
        assert "name is empty" in home.run("flame", command, "--data-dir", "").stderr
        done = home.run("flame", command, "--data-dir", "file")
        assert done.returncode == 1
        assert "is no directory" in done.stderr
    done = home.run("flame", "status", "--data-dir", "a directory")
    assert done.returncode == 3
    assert f"there is no directory {home.path}/a directory; " in done.stderr
    assert f"flame up --data-dir '{home.path}/a directory'" in done.stderr


@pytest.mark.parametrize("component", ["session-manager", "executor-manager"])
def test_a_killed_component_comes_back_by_itself(home: Home, component: str) -> None:
    home.up("--executors", "1")
    first = home.ok("flmping", "-t", "5")
    killed = home.pid(component)
    os.kill(killed, signal.SIGKILL)
    wait_until_true(lambda: home.pids(component) not in ([], [killed]))
    assert "<5> tasks was completed" in home.ok("flmping", "-t", "5")
    assert home.run("flame", "status").returncode == 0
    assert first


@pytest.mark.parametrize("component", ["supervisor", "session-manager", "executor-manager"])
def test_up_repairs_after_the_supervisor_and_a_component_were_killed(home: Home, component: str) -> None:
    home.up("--executors", "1")
    endpoint = runtime.read(paths.cluster_file(home.data_dir))
    os.kill(home.pid("supervisor"), signal.SIGKILL)
    wait_until_true(lambda: not home.pids("supervisor"))
    if component != "supervisor":
        os.kill(home.pid(component), signal.SIGKILL)
        wait_until_true(lambda: not home.pids(component))
    kept = [home.pids(name) for name in ("session-manager", "executor-manager") if name != component]
    assert home.run("flame", "status").returncode == 3
    output = home.up()
    assert "the supervisor was gone: started a new one" in output
    assert (f"the {component} was gone: started again" in output) == (component != "supervisor")
    assert [home.pids(name) for name in ("session-manager", "executor-manager") if name != component] == kept
    cluster = runtime.read(paths.cluster_file(home.data_dir))
    assert cluster is not None
    assert endpoint is not None
    assert cluster.grpc == endpoint.grpc
    assert "<5> tasks was completed" in home.ok("flmping", "-t", "5")
    assert home.run("flame", "status").returncode == 0


def test_up_writes_a_missing_runtime_file(home: Home) -> None:
    home.up()
    before = Path(paths.cluster_file(home.data_dir)).read_bytes()
    os.unlink(paths.cluster_file(home.data_dir))
    (home.path / ".flame/run/cluster.json").unlink()
    assert home.run("flame", "status").returncode == 3
    assert "the runtime file was gone: written again" in home.up()
    assert Path(paths.cluster_file(home.data_dir)).read_bytes() == before
    home.ok("flmctl", "list")


def test_a_removed_socket_is_there_again_and_tasks_go_on(home: Home) -> None:
    home.up("--executors", "1")
    with home.start("flmping", "-t", "3", "-d", "1000") as ping:
        wait_until_true(lambda: "1 open" in home.run("flame", "status").stdout)
        os.unlink(paths.socket_path(home.data_dir))
        wait_until_true(lambda: os.path.exists(paths.socket_path(home.data_dir)))
        home.up()
        output, errors = ping.communicate(timeout=60)
    assert "<3> tasks was completed" in output, errors
    assert home.run("flame", "status").returncode == 0


def test_down_after_everything_was_killed_but_executors(home: Home) -> None:
    home.up("--executors", "1")
    with subprocess.Popen(
        home.command("flmping", "-t", "100", "-d", "1000"), env=home.environment, stdout=subprocess.PIPE
    ) as ping:
        wait_until_true(lambda: home.pids("executor"))
        for component in ("supervisor", "executor-manager"):
            os.kill(home.pid(component), signal.SIGKILL)
        home.ok("flame", "down")
        assert processes.find(home.data_dir) == []
        ping.kill()


def test_what_was_stored_is_there_after_down_and_up(home: Home) -> None:
    home.up()
    home.ok("flmping", "-t", "7")
    before = home.ok("flmctl", "list")
    home.ok("flame", "down")
    home.up()
    assert home.ok("flmctl", "list") == before


def test_port_in_use_is_named_and_nothing_is_left(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = home.run("flame", "up", "--port", str(port))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert processes.find(home.data_dir) == []
    assert "flame is up" in home.up()


def test_two_clusters_side_by_side(home: Home) -> None:
    other = str(home.path / "other")
    home.up()
    home.up("--data-dir", other)
    assert home.ok("flame", "status", "--data-dir", other) != home.ok("flame", "status")
    home.ok("flame", "down", "--data-dir", other)
    assert processes.find(other) == []
    assert home.run("flame", "status").returncode == 0
    home.ok("flmctl", "list")  # the pointer is gone, the default data directory is found


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_data_directory_without_permission(home: Home) -> None:
    done = home.run("flame", "up", "--data-dir", "/proc/flame")
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/dev/null/x", "Not a directory"),
        ("/tmp/" + "x" * 100, "too long for the Unix sockets"),
        ("a\nb", "unprintable"),
    ],
)
def test_data_directory_that_cannot_be_used(home: Home, path: str, why: str) -> None:
    done = home.run("flame", "up", "--data-dir", path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: data directory")
    assert why in done.stderr
    assert "--data-dir" in done.stderr or "choose another name" in done.stderr


def test_interrupted_up_leaves_nothing(home: Home) -> None:
    with subprocess.Popen(
        home.command("flame", "up", "--port", "0"), env=home.environment, stderr=subprocess.PIPE, text=True
    ) as up:
        wait_until_true(lambda: home.pids("supervisor"))
        up.send_signal(signal.SIGINT)
        code = up.wait(60)
    if code == 130:  # else it was up already
        assert processes.find(home.data_dir) == []


def test_memory_mode(home: Home) -> None:
    home.up("--mode", "memory")
    home.ok("flmping", "-t", "7")
    home.ok("flame", "down")
    assert not (Path(home.data_dir) / "store").exists()


def test_socket_answers_until_down(home: Home) -> None:
    home.up()
    assert answers(paths.socket_path(home.data_dir))
    home.ok("flame", "down")
    assert not os.path.exists(paths.socket_path(home.data_dir))
