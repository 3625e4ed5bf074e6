"""A whole node with real processes: executors run tasks, die, leave, outlive session managers, and leave nothing."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from flame.model.errors import FailureRecord
from flame.model.executor_messages import (
    AttachExecutor,
    LeaveSession,
    RetractTasks,
    SessionEntered,
    SessionLeft,
    TasksRetracted,
)
from flame.model.node_messages import EndExecutor, ExecutorExited, ExecutorStarted, JoinNode
from flame.model.ranges import HeldRange
from flame.model.states import TaskState
from tests.executor_manager.conftest import StartNode
from tests.executor_manager.rig import BINDING, ScriptedManager, alive, assignment, processes_of, title
from tests.support import wait_until_true

Service = Callable[[str], str]
UPPER = """
class S(FlameService):
    def on_session_enter(self, context):
        self.common = context.common_data
        print("entered", context.session_id)
    def on_task_invoke(self, context):
        return self.common + context.input.upper()
"""


def test_tasks_run_and_the_executor_leaves(manager: ScriptedManager, start_node: StartNode, service: Service) -> None:
    node = start_node()
    key = manager.bind(service(UPPER))
    started = manager.wait(ExecutorStarted)
    manager.wait(SessionEntered, lambda entered: not entered.failure)
    assert title(started.pid).startswith(f"flame executor e1 --data-dir {node.data_dir}")
    manager.send(key, assignment(1, [b"a", b"", b"ccc"]))
    manager.send(key, assignment(4, [b"x"] * 1024))
    outputs = manager.wait_outputs(1027)
    assert outputs[1] == (TaskState.SUCCEED, b"commonA")
    assert outputs[2] == (TaskState.SUCCEED, b"common")
    assert {outputs[task] for task in range(4, 1028)} == {(TaskState.SUCCEED, b"commonX")}
    manager.send(key, LeaveSession())
    manager.wait(SessionLeft, lambda left: not left.failure)
    ended = manager.wait(ExecutorExited)
    assert (ended.exit_code, ended.signal, ended.left, ended.entered, ended.failure) == (0, 0, True, True, b"")
    assert "entered s-7" in Path(started.log_path).read_text()
    assert not list((node.data_dir / "tmp" / "n1").iterdir())


def test_flmping_is_built_in(manager: ScriptedManager, start_node: StartNode) -> None:
    start_node()
    key = manager.bind("flame.service.flmping:Ping")
    manager.send(key, assignment(1, [b"", b'{"duration_ms": 3, "output_bytes": 500}']))
    outputs = manager.wait_outputs(2)
    assert {"host", "duration_ms", "memory_bytes"} <= json.loads(outputs[1][1] or b"").keys()
    assert len(outputs[2][1] or b"") >= 500


def test_a_task_fails_alone(manager: ScriptedManager, start_node: StartNode, service: Service) -> None:
    start_node()
    key = manager.bind(
        service("""
class Odd(ValueError): pass
class S(FlameService):
    def on_task_invoke(self, context):
        return eval(context.input)
def boom(): raise Odd("no")
""")
    )
    inputs = [b"b'x'", b"boom()", b"sys.exit(3)", b"5", b"bytes(5 << 20)", b"None", b"bytearray(b'ok')", b"b'y' * 3000"]
    manager.send(key, assignment(1, inputs))
    outputs = manager.wait_outputs(len(inputs))
    assert [outputs[task][0] == TaskState.SUCCEED for task in range(1, 9)] == [
        True, False, False, False, False, True, True, True,
    ]  # fmt: skip
    raised = FailureRecord.decode(outputs[2][1] or b"")
    assert (raised.type, raised.message) == ("Odd", "no")
    assert "in boom" in raised.traceback
    assert "flame/executor" not in raised.traceback
    assert FailureRecord.decode(outputs[3][1] or b"").type == "SystemExit"
    assert "returned int" in FailureRecord.decode(outputs[4][1] or b"").message
    assert "limit is 4194304 bytes" in FailureRecord.decode(outputs[5][1] or b"").message
    assert [outputs[task][1] for task in (1, 6, 7, 8)] == [b"x", None, b"ok", b"y" * 3000]


def test_a_death_names_the_task(manager: ScriptedManager, start_node: StartNode, service: Service) -> None:
    start_node()
    key = manager.bind(
        service("""
class S(FlameService):
    def on_task_invoke(self, context):
        if context.input == b"die": os.abort()
""")
    )
    manager.send(key, assignment(11, [b"", b"", b"die", b""]))
    ended = manager.wait(ExecutorExited)
    assert (ended.signal, ended.exit_code, ended.current, ended.entered, ended.left) == (
        signal.SIGABRT, None, 13, True, False,
    )  # fmt: skip
    assert ended.failure == b""


def test_failures_to_start_tell_why(manager: ScriptedManager, start_node: StartNode, service: Service) -> None:
    start_node()
    base = "class S(FlameService):\n    def on_task_invoke(self, context): pass\n"
    cases = {
        "nowhere.module:S": "no module 'nowhere'",
        "flame.service:Nothing": "no attribute 'Nothing'",
        "/nowhere/x.py:S": "does not exist",
        "json:JSONDecoder": "not a class derived from flame.FlameService",
        service("class S(FlameService): pass"): "does not define on_task_invoke",
        service("sys.exit(4)"): "sys.exit",
        service("1 / 0"): "division by zero",
        service(base + "    def __init__(self): raise KeyError('k')"): "constructor",
        service(base + "    def on_session_enter(self, context): raise OSError('db')"): "session enter of",
        service(base + "    def on_session_enter(self, context): os._exit(3)"): "exit code 3 in session enter",
    }
    for place, (name, expected) in enumerate(cases.items()):
        source = name
        executor = f"e{place}"
        manager.bind(source, executor=executor)
        ended = manager.wait(ExecutorExited, lambda exit: exit.executor == executor)  # noqa: B023
        assert expected in FailureRecord.decode(ended.failure).message
        assert not ended.entered


def test_a_hang_in_enter_ends(manager: ScriptedManager, start_node: StartNode, service: Service) -> None:
    start_node()
    source = service(
        """
class S(FlameService):
    def on_task_invoke(self, context): pass
    def on_session_enter(self, context): time.sleep(1000)
"""
    )
    manager.bind(source, enter_timeout_ms=200)
    ended = manager.wait(ExecutorExited)
    message = FailureRecord.decode(ended.failure).message
    assert ended.signal == signal.SIGKILL
    assert "200 ms" in message
    assert "executor-e1.log" in message


def test_retract_while_a_task_runs(
    manager: ScriptedManager, start_node: StartNode, service: Service, short_tmp: Path
) -> None:
    start_node()
    gate = short_tmp / "gate"
    key = manager.bind(
        service(f"""
class S(FlameService):
    def on_task_invoke(self, context):
        while context.input == b"wait" and not os.path.exists({str(gate)!r}): time.sleep(0.005)
        return context.input
""")
    )
    manager.send(key, assignment(1, [b"a", b"wait", *[b"b"] * 10]))
    manager.wait_outputs(1)
    manager.send(key, RetractTasks(request=5, ranges=(HeldRange(BINDING + 1, 6, 100),)))
    given = manager.wait(TasksRetracted)
    assert (given.request, given.ranges) == (5, (HeldRange(BINDING + 1, 6, 7),))
    manager.send(key, LeaveSession())
    assert manager.wait(TasksRetracted, lambda answer: answer.request == 0).ranges == (HeldRange(BINDING + 1, 3, 3),)
    gate.touch()
    assert set(manager.wait_outputs(2)) == {1, 2}
    assert manager.wait(ExecutorExited).left


def test_earlier_results_do_not_wait_for_a_long_task(
    manager: ScriptedManager, start_node: StartNode, service: Service, short_tmp: Path
) -> None:
    start_node()
    gate = short_tmp / "gate"
    key = manager.bind(
        service(f"""
class S(FlameService):
    def on_task_invoke(self, context):
        while context.input == b"wait" and not os.path.exists({str(gate)!r}): time.sleep(0.005)
""")
    )
    manager.send(key, assignment(1, [b"", b"", b"", b"wait"]))
    assert set(manager.wait_outputs(3)) == {1, 2, 3}
    gate.touch()
    manager.wait_outputs(4)


def test_tasks_outlive_a_session_manager(
    manager: ScriptedManager, start_node: StartNode, service: Service, short_tmp: Path
) -> None:
    start_node()
    gate = short_tmp / "gate"
    key = manager.bind(
        service(f"""
class S(FlameService):
    def on_task_invoke(self, context):
        while context.input == b"wait" and not os.path.exists({str(gate)!r}): time.sleep(0.005)
        return context.input
""")
    )
    manager.send(key, assignment(1, [b"a", b"wait", b"c"]))
    manager.wait_outputs(1)
    manager.acknowledge = False
    manager.vanish()
    gate.touch()
    manager.messages.clear()
    manager.epoch = 2
    manager.listen()
    again = manager.wait(AttachExecutor)
    assert again.entered
    assert {(held.attempt, held.first + held.count) for held in again.held} == {(BINDING + 1, 4)}
    joined = manager.wait(JoinNode)
    assert [(report.executor, report.entered) for report in joined.executors] == [("e1", True)]
    outputs = manager.wait_outputs(2)
    assert outputs[2] == (TaskState.SUCCEED, b"wait")
    assert outputs[3] == (TaskState.SUCCEED, b"c")


def test_nothing_starts_after_the_lease(manager: ScriptedManager, start_node: StartNode, service: Service) -> None:
    manager.lease_ms = 1500
    node = start_node()
    key = manager.bind(service(UPPER))
    manager.wait(SessionEntered)
    manager.send(key, assignment(1, [b"a"]))
    manager.wait_outputs(1)
    pid = manager.wait(ExecutorStarted).pid
    manager.pong = False
    manager.vanish()
    wait_until_true(lambda: not alive(pid), 20)
    manager.messages.clear()
    manager.listen()
    joined = manager.wait(JoinNode)
    assert joined.executors == ()
    assert [(exit.executor, exit.signal) for exit in joined.exits] == [("e1", signal.SIGKILL)]
    assert node.process.poll() is None


def test_another_store_starts_clean(manager: ScriptedManager, start_node: StartNode, service: Service) -> None:
    start_node()
    manager.bind(service(UPPER))
    manager.wait(SessionEntered)
    pid = manager.wait(ExecutorStarted).pid
    manager.vanish()
    manager.messages.clear()
    manager.store_id = "another"
    manager.listen()
    joined = manager.wait(JoinNode)
    assert (joined.executors, joined.exits) == ((), ())
    assert not alive(pid)


def test_an_older_session_manager_is_refused(manager: ScriptedManager, start_node: StartNode, service: Service) -> None:
    manager.epoch = 5
    node = start_node()
    manager.vanish()
    manager.messages.clear()
    manager.epoch = 4
    manager.listen()
    wait_until_true(lambda: "has epoch 4" in node.said())
    assert not manager.all(JoinNode)


DAEMON = """
import subprocess
class S(FlameService):
    def on_task_invoke(self, context):
        open(os.environ["TMPDIR"] + "/left", "w").close()
        subprocess.run(["setsid", "-f", sys.executable, "-c", "import time; time.sleep(1000)"])
        subprocess.Popen(["sleep", "1000"])
        return os.environ["TMPDIR"].encode()
"""


def test_nothing_is_left_of_an_executor(manager: ScriptedManager, start_node: StartNode, service: Service) -> None:
    node = start_node()
    key = manager.bind(service(DAEMON))
    manager.send(key, assignment(1, [b""]))
    directory = Path((manager.wait_outputs(1)[1][1] or b"").decode())
    assert directory.exists()
    assert len(processes_of(directory)) >= 2
    manager.send(("node", 0), EndExecutor(executor="e1", binding=BINDING))
    manager.wait(ExecutorExited)
    assert not processes_of(directory)
    assert not directory.exists()
    assert node.process.poll() is None


def test_killing_the_executor_manager_ends_all(
    manager: ScriptedManager, start_node: StartNode, service: Service
) -> None:
    node = start_node()
    key = manager.bind(service(DAEMON))
    manager.send(key, assignment(1, [b""]))
    directory = Path((manager.wait_outputs(1)[1][1] or b"").decode())
    node.kill()
    wait_until_true(lambda: not processes_of(node.data_dir), what="no process left")
    wait_until_true(lambda: not directory.exists())


def test_killing_the_fork_server_reports_its_executors(
    manager: ScriptedManager, start_node: StartNode, service: Service
) -> None:
    node = start_node()
    key = manager.bind(service(DAEMON))
    manager.send(key, assignment(1, [b""]))
    directory = Path((manager.wait_outputs(1)[1][1] or b"").decode())
    os.kill(node.fork_server(), signal.SIGKILL)
    ended = manager.wait(ExecutorExited)
    assert (ended.signal, ended.entered) == (signal.SIGKILL, True)
    assert (ended.killed, ended.current, ended.failure) == (True, 0, b"")  # not the fault of what ran
    assert not processes_of(directory)
    manager.bind(service(UPPER), executor="e2")
    manager.wait(AttachExecutor, lambda attached: attached.executor == "e2")


def test_the_log_is_bounded(manager: ScriptedManager, start_node: StartNode, service: Service) -> None:
    start_node(max_log_bytes=20_000)
    key = manager.bind(
        service("""
class S(FlameService):
    def on_task_invoke(self, context):
        for n in range(2000): print("line", n, "of the output of a talkative task")
        return sys.stdin.read().encode()
""")
    )
    log = Path(manager.wait(ExecutorStarted).log_path)
    manager.send(key, assignment(1, [b""]))
    assert manager.wait_outputs(1)[1] == (TaskState.SUCCEED, b"")
    old = Path(f"{log}.1")

    def newest() -> str:
        try:
            return old.read_text() + log.read_text()
        except FileNotFoundError:  # between two files there is for a moment only one
            return ""

    wait_until_true(lambda: "line 1999" in newest())
    assert log.stat().st_size + old.stat().st_size <= 20_000


def test_environment_and_working_directory(manager: ScriptedManager, start_node: StartNode, short_tmp: Path) -> None:
    start_node()
    (short_tmp / "mine.py").write_text(
        "import os\nfrom flame.service import FlameService\n"
        "class S(FlameService):\n"
        "    def on_task_invoke(self, context):\n"
        "        return (os.environ[context.input.decode()] if context.input else os.getcwd()).encode()\n"
    )
    key = manager.bind(
        "mine:S",
        spec={"working_directory": str(short_tmp), "environments": (("A", "1"), ("B", "${A}-${FLAME_NODE}-${NONE}"))},
    )
    manager.send(key, assignment(1, [b"", b"B", b"FLAME_SESSION_ID", b"FLAME_ENDPOINT"]))
    outputs = manager.wait_outputs(4)
    assert [outputs[task][1] for task in range(1, 5)] == [
        str(short_tmp).encode(), b"1-n1-", b"s-7", manager.endpoint.encode(),
    ]  # fmt: skip
