"""An executor's process: what its service finds, and how it ends."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from flame.executor.process import prepare_environment
from flame.executor.services import ServiceUnusable
from flame.model.errors import FailureRecord
from flame.model.executor_messages import LeaveSession, SessionEntered, SessionLeft
from flame.model.node_messages import ExecutorExited, ExecutorStarted, JoinNode
from flame.model.specs import ApplicationSpec
from flame.protocol.launch import StartProcess
from tests.executor_manager.conftest import StartNode
from tests.executor_manager.rig import ScriptedManager, assignment
from tests.support import wait_until_true

Service = Callable[[str], str]


def start(folder: Path, **spec: object) -> StartProcess:
    return StartProcess(
        executor="e1", binding=1, session=1, session_id="s-1", application="app", node="n1", endpoint="unix:///m",
        spec=ApplicationSpec(service="m:S", **spec), data_dir="/d", temporary_dir=str(folder),  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_environment(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    message = start(
        tmp_path,
        working_directory=str(tmp_path / "w"),
        environments=(("A", "a"), ("B", "${A}:${HOME}:${NOT_SET}:$A"), ("PYTHONPATH", "/p1:/p2")),
    )
    code = (
        "import json, os, sys, tempfile, msgspec\n"
        "from flame.executor.process import prepare_environment\nfrom flame.protocol.launch import StartProcess\n"
        "prepare_environment(msgspec.json.decode(sys.argv[1], type=StartProcess))\n"
        "print(json.dumps([dict(os.environ), os.getcwd(), sys.path[:3], tempfile.gettempdir(), sys.argv]))\n"
    )
    environment = {**os.environ, "HOME": "/h"}
    said = subprocess.run(
        [sys.executable, "-c", code, msgspec.json.encode(message).decode()],
        capture_output=True, check=True, env=environment,
    ).stdout  # fmt: skip
    variables, folder, path, temporary, arguments = msgspec.json.decode(said)
    assert variables["B"] == "a:/h::$A"
    assert {name: variables[name] for name in variables if name.startswith("FLAME_")} == {
        "FLAME_ENDPOINT": "unix:///m", "FLAME_SESSION_ID": "s-1", "FLAME_APPLICATION": "app",
        "FLAME_EXECUTOR": "e1", "FLAME_NODE": "n1",
    }  # fmt: skip
    assert folder == f"{tmp_path}/w"
    assert path == [f"{tmp_path}/w", "/p1", "/p2"]
    assert temporary == variables["TMPDIR"] == str(tmp_path)
    assert arguments == ["m"]


def test_a_working_directory_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(sys, "argv", [])
    with pytest.raises(ServiceUnusable, match=r"working directory /none of application app: No such file"):
        prepare_environment(start(tmp_path, working_directory="/none"))


def test_what_a_service_leaves_running_does_not_keep_it(
    manager: ScriptedManager, start_node: StartNode, service: Service
) -> None:
    start_node()
    key = manager.bind(
        service("""
import atexit, threading
class S(FlameService):
    def on_session_enter(self, context):
        threading.Thread(target=time.sleep, args=(1000,)).start()
        atexit.register(time.sleep, 1000)
    def on_task_invoke(self, context): pass
    def on_session_leave(self): sys.stdout.write("bye without a newline")
""")
    )
    manager.wait(SessionEntered)
    manager.send(key, LeaveSession())
    ended = manager.wait(ExecutorExited)
    assert (ended.exit_code, ended.left) == (0, True)
    log = Path(manager.wait(ExecutorStarted).log_path)
    wait_until_true(lambda: "bye without a newline" in log.read_text())


def test_a_failing_leave_is_told_and_ends_all_the_same(
    manager: ScriptedManager, start_node: StartNode, service: Service
) -> None:
    start_node()
    key = manager.bind(
        service("""
class S(FlameService):
    def on_task_invoke(self, context): return b"x"
    def on_session_leave(self): raise ValueError("not now")
""")
    )
    manager.send(key, assignment(1, [b""]))
    manager.wait_outputs(1)
    manager.send(key, LeaveSession())
    assert "not now" in FailureRecord.decode(manager.wait(SessionLeft).failure).message
    ended = manager.wait(ExecutorExited)
    assert (ended.exit_code, ended.left) == (0, True)


def test_it_leaves_only_with_its_results_stored(
    manager: ScriptedManager, start_node: StartNode, service: Service
) -> None:
    start_node()
    manager.acknowledge = False
    key = manager.bind(service("class S(FlameService):\n    def on_task_invoke(self, context): return b'x'\n"))
    manager.send(key, assignment(1, [b""]))
    manager.wait_outputs(1)
    manager.send(key, LeaveSession())
    manager.wait(SessionLeft)
    manager.vanish()
    manager.messages.clear()
    manager.acknowledge = True
    manager.listen()
    assert manager.wait_outputs(1)
    # The node may be back before or after the executor's end.
    ended = wait_until_true(
        lambda: manager.all(ExecutorExited) or [exit for join in manager.all(JoinNode) for exit in join.exits]
    )
    assert ended[0].left


def test_a_service_may_use_select(manager: ScriptedManager, start_node: StartNode, service: Service) -> None:
    node = start_node()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    key = manager.bind(
        service("""
import resource
class S(FlameService):
    def on_task_invoke(self, context): return str(resource.getrlimit(resource.RLIMIT_NOFILE)).encode()
""")
    )
    manager.send(key, assignment(1, [b""]))
    assert manager.wait_outputs(1)[1][1] == str((soft, hard)).encode()
    assert resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
