"""What the launcher does beside a whole node's work: see `test_node.py` for that."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from flame.executor_manager.launcher import Exit, Launcher, NodePage
from flame.model.errors import FailureRecord
from flame.model.executor_messages import ReportOutcomes, SessionEntered
from flame.model.node_messages import BindExecutor, EndExecutor, ExecutorExited, ExecutorStarted
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec
from flame.protocol.shared_table import LEASE_END, PAGE_BYTES
from tests.executor_manager.conftest import StartNode
from tests.executor_manager.rig import BINDING, ScriptedManager, alive, assignment
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


def test_an_executor_that_was_never_started_can_be_killed_twice(tmp_path: Path) -> None:
    ends: list[Exit] = []
    failures: list[BaseException] = []

    async def kill_twice() -> None:
        launcher = Launcher(
            data_dir=tmp_path, temporary_dir=tmp_path / "tmp", node="n", endpoint="unix:///m", max_log_bytes=100,
            started=lambda key, pid: None, exited=lambda key, end: ends.append(end), failed=failures.append,
            file_limit=256, log=lambda line: None,
        )  # fmt: skip
        launcher.launch(
            BindExecutor(
                executor="e", binding=1, session=1, session_id="s", application="a",
                spec=ApplicationSpec(service="m:S"), resources=Resources(cpu=1),
            ),
            "store", 1,
        )  # fmt: skip
        (tmp_path / "tmp" / "1" / "something").touch()  # so that burying it takes a while
        launcher.kill(("e", 1))
        launcher.kill(("e", 1))
        while not ends:
            await asyncio.sleep(0.001)
        await launcher.stop()

    asyncio.run(kill_twice())
    assert [end.failure for end in ends] == ["it was ended before it was started"]
    assert not failures


def test_an_orderly_stop_lets_idle_executors_leave(
    manager: ScriptedManager, start_node: StartNode, service: Callable[[str], str], short_tmp: Path
) -> None:
    node = start_node()
    name = service(f"""
import signal
class S(FlameService):
    def on_task_invoke(self, context):
        if context.input == b"deaf": signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open({str(short_tmp)!r} + "/" + context.input.decode(), "w").close()
        if context.input != b"idle": time.sleep(1000)
    def on_session_leave(self):
        print("left in order", flush=True)
        if os.environ["FLAME_EXECUTOR"] == "hanging": time.sleep(1000)
""")
    executors = {"idle": b"idle", "hanging": b"idle", "busy": b"busy", "deaf": b"deaf"}
    for executor, data in executors.items():
        manager.send(manager.bind(name, executor=executor), assignment(1, [data]))
    wait_until_true(lambda: all((short_tmp / data.decode()).exists() for data in executors.values()))
    manager.wait(ReportOutcomes, count=2)
    logs = {message.executor: Path(message.log_path) for message in manager.all(ExecutorStarted)}
    node.process.send_signal(signal.SIGTERM)
    manager.wait(ExecutorExited, count=4)
    ends = {exit.executor: exit for exit in manager.all(ExecutorExited)}
    assert {(exit.killed, exit.current, exit.failure) for exit in ends.values()} == {(True, 0, b"")}
    assert (ends["idle"].left, ends["idle"].exit_code) == (True, 0)
    assert {name: end.signal for name, end in ends.items() if not end.left} == {
        "hanging": signal.SIGKILL, "busy": signal.SIGTERM, "deaf": signal.SIGKILL,
    }  # fmt: skip
    assert {name for name, log in logs.items() if log.read_text()} == {"idle", "hanging"}
    assert logs["idle"].read_text() == "left in order\n"
    assert node.process.wait(30) == 0
