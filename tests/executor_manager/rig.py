"""A node under test: a real executor manager process, and a scripted session manager at its other end.

The scripted session manager speaks the real messages over the real frame carrier and does only what a test tells it to,
beside the handshake, pongs and (unless told otherwise) acknowledgements.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from flame.carriers.frames import FramesListener, serve
from flame.carriers.port import Link
from flame.config.components import ExecutorManagerConfig
from flame.model.chunk import NONE_LENGTH
from flame.model.executor_messages import AcknowledgeReport, AssignTasks, AttachExecutor, EnterSession, ReportOutcomes
from flame.model.messages import Hello, Message, Welcome
from flame.model.node_messages import (
    AcknowledgeExit,
    BindExecutor,
    ExecutorExited,
    JoinNode,
    NodeJoined,
    PingNode,
    PongNode,
)
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec
from flame.model.states import TaskState
from tests.support import wait_until_true

Kind = TypeVar("Kind")
BINDING = 1 << 32
ROOT = Path(__file__).resolve().parents[2]


def assignment(first: int, inputs: Sequence[bytes], attempt: int = BINDING + 1) -> AssignTasks:
    """An assignment of these inputs."""
    lengths = array("I", map(len, inputs)).tobytes()
    return AssignTasks(attempt=attempt, first=first, count=len(inputs), lengths=lengths, blob=b"".join(inputs))


def outputs_of(reports: Sequence[ReportOutcomes]) -> dict[int, tuple[TaskState, bytes | None]]:
    """State and output by task; fails where a task was reported twice."""
    found: dict[int, tuple[TaskState, bytes | None]] = {}
    for report in reports:
        for outcome in report.outcomes:
            place = 0
            for task, length in enumerate(array("I", outcome.lengths), outcome.first):
                assert task not in found, f"task {task} was reported twice"
                state = TaskState(outcome.states[task - outcome.first]) if outcome.states else outcome.state
                if length == NONE_LENGTH:
                    found[task] = (state, None)
                else:
                    found[task] = (state, outcome.blob[place : place + length])
                    place += length
    return found


class _Handler:
    def __init__(self, rig: "ScriptedManager", link: Link) -> None:
        self.rig = rig
        self.link = link

    def received(self, message: Message) -> None:
        self.rig.received(self.link, message)

    def closed(self, reason: str) -> None:
        self.rig.links = {key: link for key, link in self.rig.links.items() if link is not self.link}


class ScriptedManager:
    """The other end: listens in a thread of its own; all its methods may be called from the test."""

    def __init__(self, endpoint: str, *, store_id: str = "store", epoch: int = 1, lease_ms: int = 30_000) -> None:
        self.endpoint = endpoint
        self.store_id = store_id
        self.epoch = epoch
        self.lease_ms = lease_ms
        self.pong = True
        self.acknowledge = True
        self.enter = True
        self.messages: list[Message] = []
        self.links: dict[tuple[str, int], Link] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted", daemon=True)
        self._thread.start()
        self._listener: FramesListener | None = None
        self.listen()

    def listen(self) -> None:
        """Begin to listen."""
        self._listener = asyncio.run_coroutine_threadsafe(
            serve(self.endpoint, lambda link: _Handler(self, link)), self._loop
        ).result(10)

    def vanish(self) -> None:
        """Stop listening and cut all links, as a killed session manager does."""
        if self._listener:
            asyncio.run_coroutine_threadsafe(self._listener.stop(), self._loop).result(10)
            self._listener = None

    def stop(self) -> None:
        """End."""
        self.vanish()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def received(self, link: Link, message: Message) -> None:
        """On the loop: answer what every session manager answers."""
        match message:
            case Hello():
                link.send(Welcome(store_id=self.store_id, epoch=self.epoch, max_task_bytes=4 << 20))
            case JoinNode():
                self.links["node", 0] = link
                link.send(NodeJoined(lease_ms=self.lease_ms))
            case PingNode(sent_ns=sent_ns) if self.pong:
                link.send(PongNode(sent_ns))
            case AttachExecutor(executor=executor, binding=binding):
                self.links[executor, binding] = link
                if self.enter and not message.entered:
                    link.send(EnterSession(session=7, session_id="s-7", application="app", common_data=b"common"))
            case ReportOutcomes(report=report) if self.acknowledge:
                link.send(AcknowledgeReport(report))
            case ExecutorExited(executor=executor, binding=binding) if self.acknowledge:
                link.send(AcknowledgeExit(executor=executor, binding=binding))
        self.messages.append(message)

    def all(self, kind: type[Kind]) -> list[Kind]:
        """Every message of this kind so far."""
        return [message for message in list(self.messages) if isinstance(message, kind)]

    def wait(
        self, kind: type[Kind], condition: Callable[[Kind], bool] = lambda _: True, *, count: int = 1,
        timeout_s: float = 30.0,
    ) -> Kind:  # fmt: skip
        """The count-th message of this kind that meets the condition."""

        def found() -> list[Kind]:
            matching = [message for message in self.all(kind) if condition(message)]
            return matching[count - 1 : count]

        return wait_until_true(found, timeout_s, f"{kind.__name__}; there were {self.messages[-5:]}")[0]

    def send(self, key: tuple[str, int], message: Message) -> None:
        """Say something to the node (`("node", 0)`) or to an executor."""
        link = wait_until_true(lambda: self.links.get(key), what=f"a link of {key}")
        assert link
        self._loop.call_soon_threadsafe(link.send, message)

    def bind(self, service: str, *, executor: str = "e1", binding: int = BINDING, **options: object) -> tuple[str, int]:
        """Ask the node for an executor. Options are of `BindExecutor`, `spec` fields under `spec`."""
        spec = ApplicationSpec(service=service, **options.pop("spec", {}))  # type: ignore[arg-type]
        self.send(
            ("node", 0),
            BindExecutor(
                executor=executor,
                binding=binding,
                session=7,
                session_id="s-7",
                application="app",
                spec=spec,
                resources=Resources(cpu=1),
                **options,  # type: ignore[arg-type]
            ),
        )
        return executor, binding

    def outputs(self) -> dict[int, tuple[TaskState, bytes | None]]:
        """What was reported so far; reports that were sent again count once."""
        reports = {report.report: report for report in self.all(ReportOutcomes)}
        return outputs_of(list(reports.values()))

    def wait_outputs(self, count: int, timeout_s: float = 60.0) -> dict[int, tuple[TaskState, bytes | None]]:
        """The outputs, once there are `count`."""
        wait_until_true(lambda: len(self.outputs()) >= count, timeout_s, f"{count} outputs")
        return self.outputs()


class NodeUnderTest:
    """An executor manager process; `prelude` is Python that it runs first, to break something."""

    def __init__(self, config: ExecutorManagerConfig, prelude: str = "") -> None:
        self.config = config
        self.data_dir = Path(config.data_dir)
        self.error = (self.data_dir / "executor-manager.err").open("ab")
        code = (
            "import sys, msgspec; from flame.executor_manager.main import run;"
            "from flame.config.components import ExecutorManagerConfig as C;"
            f"{prelude}\nsys.exit(run(msgspec.json.decode(sys.argv[1], type=C)))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, msgspec.json.encode(config).decode()],
            stdin=subprocess.DEVNULL,
            stderr=self.error,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        """End in order."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.error.close()

    def said(self) -> str:
        """What it printed."""
        return (self.data_dir / "executor-manager.err").read_text()

    def fork_server(self) -> int:
        """Process id of its fork server."""
        return wait_until_true(lambda: [pid for pid in processes_of(self.data_dir) if "fork-server" in title(pid)])[0]


def title(pid: int) -> str:
    """The command line of a process, or nothing where there is none (any more)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes_of(data_dir: Path) -> list[int]:
    """The processes whose command line or environment names this directory, but not this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(data_dir).encode() in text and alive(int(entry.name)):
            found.append(int(entry.name))
    return found
