"""Fixtures of the node's tests: a scripted session manager and executor managers that join it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flame.config.components import ExecutorManagerConfig
from flame.model.node_messages import JoinNode
from tests.executor_manager.rig import NodeUnderTest, ScriptedManager

StartNode = Callable[..., NodeUnderTest]


@pytest.fixture
def manager(short_tmp: Path) -> Iterator[ScriptedManager]:
    """A scripted session manager."""
    scripted = ScriptedManager(f"unix://{short_tmp}/m.sock")
    yield scripted
    scripted.stop()


@pytest.fixture
def start_node(manager: ScriptedManager, short_tmp: Path) -> Iterator[StartNode]:
    """`start_node(prelude, **config)`: an executor manager process that has joined."""
    nodes: list[NodeUnderTest] = []

    def start(prelude: str = "", **options: object) -> NodeUnderTest:
        data_dir = short_tmp / "d"
        data_dir.mkdir(exist_ok=True)
        config = ExecutorManagerConfig(
            data_dir=str(data_dir),
            endpoint=manager.endpoint,
            node="n1",
            **options,  # type: ignore[arg-type]
        )
        before = len(manager.all(JoinNode))
        nodes.append(NodeUnderTest(config, prelude))
        manager.wait(JoinNode, count=before + 1)
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()


@pytest.fixture
def service(short_tmp: Path) -> Callable[[str], str]:
    """`service(source)`: writes a script with a class `S` and returns its service name."""

    def write(source: str) -> str:
        path = short_tmp / "service.py"
        path.write_text("import os, sys, time, flame.service\nfrom flame.service import FlameService\n" + source)
        return f"{path}:S"

    return write
