"""Components that cannot start: exit code 1 and one line that says what is wrong, where, and what to do."""

import os
import socket
from pathlib import Path

import pytest

from tests.cli.commands import Home
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import MakeCluster


@pytest.fixture
def stopped(make_cluster: MakeCluster) -> Cluster:
    """A cluster with nothing running, to start components in."""
    cluster = make_cluster(0)
    assert cluster.stop("session-manager") == 0
    return cluster


def check(cluster: Cluster, component: str, content: object, *parts: str) -> None:
    """Run a component; it has to fail with a message that has these parts."""
    done = cluster.run_component(component, content)
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    for part in parts:
        assert part in errors[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("data_dir: [unclosed\n", ["component.yaml:2:1", "not valid YAML"]),
        ("just text\n", ["component.yaml"]),
        ("\x00\x01\x02", ["component.yaml"]),
        ({"datadir": "/x"}, ["component.yaml", "datadir"]),
        ({"limits": {"lease": 3}}, ["component.yaml", "limits", "lease"]),
        ({"limits": {"lease_ms": "long"}}, ["component.yaml", "lease_ms"]),
        ({"limits": {"max_task_bytes": 0}}, ["component.yaml", "max_task_bytes", "0"]),
        ({"mode": "durabel"}, ["component.yaml", "mode", "durabel"]),
        ({"default_resources": "cpu=lots"}, ["component.yaml", "default_resources", "lots"]),
        ({"frames": "http://x"}, ["component.yaml", "frames", "http://x"]),
        ({"grpc": "127.0.0.1"}, ["component.yaml", "grpc", "127.0.0.1"]),
    ],
)
def test_a_malformed_configuration(stopped: Cluster, content: object, parts: list[str]) -> None:
    if isinstance(content, dict):
        content = {**stopped.configuration, **content}
    check(stopped, "session-manager", content, *parts)


def test_a_configuration_that_cannot_be_read(stopped: Cluster) -> None:
    done = stopped.run_component("session-manager", None)
    assert done.returncode == 1
    assert "component.yaml" in done.stderr
    assert "no such file" in done.stderr
    (stopped.directory / "component.yaml").mkdir()
    done = stopped.run_component("session-manager", None)
    assert done.returncode == 1
    assert "component.yaml" in done.stderr
    (stopped.directory / "component.yaml").rmdir()
    done = stopped.run_component("session-manager", "", data_dir="")
    assert done.returncode == 1
    assert "data_dir" in done.stderr
    done = stopped.run_component("executor-manager", {"data_dir": stopped.data_dir, "endpoint": "x", "nodes": 1})
    assert done.returncode == 1
    assert "nodes" in done.stderr


def test_ports_in_use(stopped: Cluster) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        check(stopped, "session-manager", {**stopped.configuration, "grpc": address}, address, "in use")
        frames = {**stopped.configuration, "frames": f"frames://{address}"}
        check(stopped, "session-manager", frames, address, "in use")


def test_a_data_directory_in_use_by_another_session_manager(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    other = {**cluster.configuration, "frames": f"unix://{cluster.data_dir}/run/other"}
    check(cluster, "session-manager", other, cluster.data_dir, "in use", str(cluster.pid("session-manager")))
    with cluster.session("Echo") as session:
        assert session.invoke(b"x", timeout=60) == b"x"


def test_a_node_that_is_there_already(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    check(cluster, "executor-manager", cluster.node_configuration["n1"], "n1", cluster.data_dir, "already")


def test_a_data_directory_that_cannot_be_used(stopped: Cluster, tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.touch()
    content = {**stopped.configuration, "data_dir": str(plain)}
    done = stopped.run_component("session-manager", content, data_dir=str(plain))
    assert done.returncode == 1
    assert str(plain) in done.stderr
    assert "Traceback" not in done.stderr
    done = stopped.run_component("session-manager", {**stopped.configuration, "data_dir": "relative"}, data_dir="")
    assert done.returncode == 1
    assert "absolute" in done.stderr


def test_flame_up_says_that_the_port_is_in_use(short_tmp: Path) -> None:
    home = Home(short_tmp)
    try:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            done = home.run("flame", "up", "--port", port)
        assert done.returncode == 1
        assert port in done.stderr
        assert "in use" in done.stderr
    finally:
        home.end()


@pytest.mark.parametrize("text", ["contexts: [", "current-context: none\ncontexts: []\n", "endpoint: x\n"])
def test_a_client_configuration_that_cannot_be_used(short_tmp: Path, text: str) -> None:
    home = Home(short_tmp)
    os.mkdir(short_tmp / ".flame")
    (short_tmp / ".flame/flame.yaml").write_text(text)
    done = home.run("flmctl", "list")
    assert done.returncode == 1
    assert ".flame/flame.yaml" in done.stderr
    assert "Traceback" not in done.stderr
