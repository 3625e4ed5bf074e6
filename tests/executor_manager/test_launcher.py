"""What the launcher does beside a whole node's work: see `test_node.py` for that."""

import os
import signal
from collections.abc import Callable

from flame.executor_manager.launcher import NodePage
from flame.model.errors import FailureRecord
from flame.model.messages import EndExecutor, ExecutorExited, ExecutorStarted, SessionEntered
from flame.protocol.shared_table import LEASE_END, PAGE_BYTES
from tests.executor_manager.conftest import StartNode
from tests.executor_manager.rig import BINDING, ScriptedManager, alive
from tests.support import wait_until_true


def test_the_page_is_what_executors_read() -> None:
    page = NodePage()
    page.set_lease_end(12345)
    words = memoryview(os.pread(page.descriptor, PAGE_BYTES, 0)).cast("Q")
    assert words[LEASE_END] == 12345
    os.close(page.descriptor)


def test_a_specification_that_is_too_large_is_a_failure(manager: ScriptedManager, start_node: StartNode) -> None:
    start_node()
    manager.bind("m:S", spec={"environments": (("A", "x" * (32 << 20)),)})
    ended = manager.wait(ExecutorExited)
    assert "too large" in FailureRecord.decode(ended.failure).message
    manager.bind("nowhere:S", executor="e2")
    assert manager.wait(ExecutorExited, lambda exit: exit.executor == "e2").exit_code == 1


def test_grace_before_the_kill(manager: ScriptedManager, start_node: StartNode, service: Callable[[str], str]) -> None:
    start_node()
    source = """
import signal
class S(FlameService):
    def on_session_enter(self, context):
        if os.environ["FLAME_EXECUTOR"] == "deaf": signal.signal(signal.SIGTERM, signal.SIG_IGN)
    def on_task_invoke(self, context): pass
"""
    name = service(source)
    for executor in ("polite", "deaf"):
        manager.bind(name, executor=executor)
    manager.wait(SessionEntered, count=2)
    for executor in ("polite", "deaf"):
        manager.send(("node", 0), EndExecutor(executor=executor, binding=BINDING, grace_ms=300))
    manager.wait(ExecutorExited, count=2)
    ends = {exit.executor: exit.signal for exit in manager.all(ExecutorExited)}
    assert ends == {"polite": signal.SIGTERM, "deaf": signal.SIGKILL}


def test_many_at_once_and_an_orderly_end(
    manager: ScriptedManager, start_node: StartNode, service: Callable[[str], str]
) -> None:
    node = start_node()
    name = service("class S(FlameService):\n    def on_task_invoke(self, context): pass\n")
    for number in range(12):
        manager.bind(name, executor=f"e{number}", binding=BINDING + number)
    manager.wait(SessionEntered, count=12)
    pids = [message.pid for message in manager.all(ExecutorStarted)]
    node.process.send_signal(signal.SIGTERM)
    manager.wait(ExecutorExited, count=12)
    wait_until_true(lambda: not any(map(alive, pids)))
    assert node.process.wait(30) == 0
    assert not (node.data_dir / "tmp" / "n1").exists()
