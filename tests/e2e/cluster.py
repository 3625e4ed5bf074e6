"""A cluster of real processes, started by the components' command lines, with every process under a test's control."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import flame
from flame.config import processes
from flame.model.states import ExecutorState, NodeState
from tests.support import wait_until_true

HERE = Path(__file__).resolve().parent
PATIENCE_S = 60.0
"""Longest wait for anything that works: a busy machine makes it slow, not wrong."""


class Cluster:
    """A session manager and nodes; nothing runs before it is started.

    Args:
        directory: an empty one with a short path.
        grpc: serve the gRPC frontend on a port of its own.
        mode: `durable` or `memory`.
        limits: of the session manager's configuration.
    """

    def __init__(
        self,
        directory: Path,
        *,
        grpc: bool = False,
        mode: str = "durable",
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self.directory = directory
        self.data_dir = str(directory / "d")
        os.makedirs(f"{self.data_dir}/run", mode=0o700)
        self.endpoint = f"unix://{self.data_dir}/run/s"
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        self.configuration: dict[str, object] = {
            "data_dir": self.data_dir,
            "mode": mode,
            "frames": self.endpoint,
            "grpc": "127.0.0.1:0" if grpc else "",
            "default_resources": "cpu=1,mem=64m",
            "limits": dict(limits or {}),
        }
        self.node_configuration: dict[str, dict[str, object]] = {}

    # --- processes ---------------------------------------------------------------------------------------------------

    def start_session_manager(self) -> None:
        """Start the session manager and wait until it answers."""
        process = self._start("session-manager", "session-manager", self.configuration)
        path = f"{self.data_dir}/run/s"
        wait_until_true(lambda: process.poll() is not None or _answers(path), PATIENCE_S, "the session manager answers")
        assert process.poll() is None, self.log("session-manager")

    def start_node(self, name: str, executors: int = 2, **configuration: object) -> None:
        """Start an executor manager and wait until its node is ready."""
        self.node_configuration[name] = {
            "data_dir": self.data_dir,
            "endpoint": self.endpoint,
            "node": name,
            "executors": executors,
            "cpu": executors,
            "memory": "8g",
            **configuration,
        }
        self.restart_node(name)

    def restart_node(self, name: str) -> None:
        """Start the executor manager of a known node and wait until the node is ready."""
        self._start(name, "executor-manager", self.node_configuration[name])
        with self.connect() as connection:
            wait_until_true(lambda: name in ready_nodes(connection), PATIENCE_S, f"node {name} is ready")

    def _start(self, name: str, component: str, configuration: Mapping[str, object]) -> subprocess.Popen[bytes]:
        path = self.directory / f"{name}.yaml"
        path.write_text(json.dumps(configuration))
        command = [*flame_command(), component, "--config", str(path), "--data-dir", self.data_dir]
        command += ["--parent", str(os.getpid())]  # where a test run is killed, its clusters end too
        with open(self.directory / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, processes.MARKER: self.data_dir},
                cwd=self.directory,
            )
        self.started[name] = process
        return process

    def kill(self, name: str) -> None:
        """`kill -9` of the session manager or of a node's executor manager."""
        process = self.started.pop(name)
        process.kill()
        process.wait(PATIENCE_S)

    def stop(self, name: str) -> int:
        """SIGTERM; returns the exit code."""
        process = self.started.pop(name)
        process.terminate()
        return process.wait(PATIENCE_S)

    def pid(self, name: str) -> int:
        """Process id of the session manager or of a node's executor manager."""
        return self.started[name].pid

    def pids(self, component: str) -> list[int]:
        """Processes of a component of this cluster."""
        return [found.pid for found in processes.find(self.data_dir) if found.component == component]

    def log(self, name: str) -> str:
        """What a process wrote."""
        return (self.directory / f"{name}.log").read_text()

    def end(self) -> None:
        """End every process, the nodes first."""
        for name in sorted(self.started, key=lambda name: name == "session-manager"):
            process = self.started[name]
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.started.clear()
        kill_rest(self.data_dir)

    def run_component(
        self, component: str, content: object, *, data_dir: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a component that cannot start, to its end.

        Args:
            content: of its configuration file `component.yaml`: text, or values; None leaves it as it is.
            data_dir: on the command line; this cluster's by default, none if empty.
        """
        path = self.directory / "component.yaml"
        if content is not None:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        command = [*flame_command(), component, "--config", str(path)]
        if data_dir != "":
            command += ["--data-dir", data_dir or self.data_dir]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=self.directory)

    # --- clients -----------------------------------------------------------------------------------------------------

    @property
    def http(self) -> str:
        """The gRPC frontend as `http://host:port`, found by the log since the port is any."""
        line = next(line for line in self.log("session-manager").splitlines()[::-1] if " epoch " in line)
        return next(word.strip(",:") for word in line.split() if word.startswith("http://"))

    def connect(self) -> flame.Connection:
        """A connection of this process."""
        return flame.connect(self.endpoint, timeout=PATIENCE_S)

    @contextmanager
    def session(self, service: str, common_data: bytes | None = None, **arguments: object) -> Iterator[flame.Session]:
        """A session on a service of `services.py`, in a connection of its own; closed at the end."""
        with self.connect() as connection:
            register(connection, service)
            with connection.create_session(
                service.lower(),
                common_data=common_data,
                **arguments,  # type: ignore[arg-type]
            ) as session:
                yield session

    def cli(self, program: str, *arguments: str, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Run `flmctl` or `flmping` against this cluster."""
        process = self.start_cli(program, *arguments)
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def start_cli(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """Start `flmctl` or `flmping` against this cluster."""
        return subprocess.Popen(
            [sys.executable, "-m", f"flame.cli.{program}", *arguments],
            env={**os.environ, "FLAME_ENDPOINT": self.endpoint, "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def script(self, text: str, *arguments: str) -> subprocess.Popen[str]:
        """Run a user's script, which finds this cluster by its environment."""
        path = self.directory / f"script{len(list(self.directory.glob('script*')))}.py"
        path.write_text(text)
        return subprocess.Popen(
            [sys.executable, str(path), *arguments],
            env={**os.environ, "FLAME_ENDPOINT": self.endpoint, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
        )


def flame_command() -> list[str]:
    """`flame`, by this Python."""
    return [sys.executable, "-P", "-m", "flame.cli.flame"]


def register(connection: flame.Connection, service: str, name: str = "", **arguments: object) -> str:
    """Register a service of `services.py`, by default under its own name in lower case; returns that name."""
    name = name or service.lower()
    connection.register_application(
        name,
        service=f"services:{service}",
        working_directory=HERE,
        **arguments,  # type: ignore[arg-type]
    )
    return name


def ready_nodes(connection: flame.Connection) -> list[str]:
    """Names of the nodes that are ready."""
    return [node.name for node in connection.list_nodes() if node.state is NodeState.READY]


def bound(connection: flame.Connection, session_id: str) -> int:
    """How many executors are bound to a session."""
    return sum(e.session_id == session_id and e.state is ExecutorState.BOUND for e in connection.list_executors())


def notes(directory: Path, word: str) -> list[str]:
    """The second words of the notes that begin with this word, in order."""
    try:
        lines = (directory / "notes").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [line.split()[1] for line in lines if line.startswith(word + " ")]


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    return processes.alive(pid)


def wait_until_gone(pids: Sequence[int]) -> None:
    """Wait until none of these processes is left."""
    wait_until_true(lambda: not any(alive(pid) for pid in pids), PATIENCE_S, f"processes {pids} are gone")


def kill_rest(data_dir: str) -> None:
    """Kill, by id, what still belongs to a cluster, until nothing does."""

    def none_left() -> bool:
        rest = processes.find(data_dir)
        for found in sorted(rest, key=lambda found: found.component != "supervisor"):
            with suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
        return not rest

    wait_until_true(none_left, PATIENCE_S, "every process of the cluster is gone")


def resident_bytes(pid: int) -> int:
    """Resident memory of a process now."""
    return _status_bytes(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """The most resident memory a process had."""
    return _status_bytes(pid, "VmHWM")


def _status_bytes(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no {key}")


def _answers(path: str) -> bool:
    from flame.config.probe import answers

    return answers(path)
