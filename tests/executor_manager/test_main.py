"""The process of the executor manager: what it refuses, and how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flame.config.components import ExecutorManagerConfig
from flame.executor_manager.main import run
from flame.model.errors import ConfigurationError, InvalidArgument
from flame.model.node_messages import JoinNode
from tests.executor_manager.conftest import StartNode
from tests.executor_manager.rig import NodeUnderTest, ScriptedManager, processes_of
from tests.support import wait_until_true


def test_it_joins_with_its_capacity(manager: ScriptedManager, start_node: StartNode) -> None:
    start_node(cpu=3, memory="2g", gpu=1, executors=5)
    joined = manager.wait(JoinNode)
    assert str(joined.capacity) == "cpu=3,mem=2g,gpu=1"
    assert (joined.node, joined.max_executors, joined.os) == ("n1", 5, "linux")


def test_a_second_one_of_the_same_name_is_refused(manager: ScriptedManager, start_node: StartNode) -> None:
    node = start_node()
    second = NodeUnderTest(node.config)
    assert second.process.wait(30) == 1
    second.stop()
    assert "runs on data directory" in node.said()
    assert node.process.poll() is None


def test_it_waits_for_a_session_manager_and_ends_on_request(short_tmp: Path) -> None:
    (short_tmp / "d").mkdir()
    node = NodeUnderTest(
        ExecutorManagerConfig(data_dir=f"{short_tmp}/d", endpoint=f"unix://{short_tmp}/none.sock", node="n1")
    )
    wait_until_true(lambda: "trying again" in node.said())
    node.process.send_signal(signal.SIGINT)
    assert node.process.wait(30) == 0
    node.stop()
    assert not processes_of(short_tmp)


def test_unusable_configurations(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        run(ExecutorManagerConfig(data_dir=f"{tmp_path}/file/d", endpoint="unix:///x", node="n1"))
    with pytest.raises(InvalidArgument, match="node name"):
        run(ExecutorManagerConfig(data_dir=str(tmp_path), endpoint="unix:///x", node="../n"))


def test_it_loads_no_grpc() -> None:
    code = "import sys, flame.executor_manager.main, flame.executor.fork_server; sys.exit('grpc' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(root / "src")})


BROKEN = {
    "the clock": "NodeHalf.tick = lambda half, now_ns: [1 / 0 for _ in half.executors]",
    "a callback": "NodeHalf.started = lambda *arguments: 1 / 0",
    "a burial": "import flame.executor_manager.launcher as launcher; launcher._remove_empty = lambda path: 1 / 0",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_failure_of_its_own_ends_it_with_a_message(
    manager: ScriptedManager, start_node: StartNode, what: str
) -> None:
    node = start_node(f"from flame.protocol.node import NodeHalf; {BROKEN[what]}")
    manager.bind("flame.service.flmping:Ping", executor="stays")
    if what == "a burial":  # of the others the first executor is enough: the node may be gone already
        manager.bind("nowhere:S", executor="ends")
    assert node.process.wait(30) == 1
    assert "ended by a failure of its own" in node.said()
    assert "ZeroDivisionError" in node.said()
    wait_until_true(lambda: not processes_of(node.data_dir))


def test_it_goes_on_where_its_log_cannot_be_written(manager: ScriptedManager, start_node: StartNode) -> None:
    start_node("sys.stderr = open('/dev/full', 'w')")
    for count in (2, 3):
        manager.vanish()
        manager.listen()
        manager.wait(JoinNode, count=count)
