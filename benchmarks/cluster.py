"""A cluster for measuring: each component a process of its own, started by its command line."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import flame
from flame.config import paths, processes

FLAME = str(Path(sys.executable).with_name("flame"))
FLMPING = str(Path(sys.executable).with_name("flmping"))
FOLDER = Path(__file__).resolve().parent
READY_S = 30.0


class Cluster:
    """Session manager and executor manager with two executors, on a data directory of its own."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder = folder
        self.mode = mode
        self.endpoint = f"unix://{paths.socket_path(str(folder))}"
        self.grpc_endpoint = ""
        self._started: list[subprocess.Popen[bytes]] = []

    def start_session_manager(self, *, port: int = 0) -> None:
        """Start it and wait until it answers.

        Args:
            port: of the gRPC frontend; 0 for none.
        """
        self.grpc_endpoint = f"http://127.0.0.1:{port}" if port else ""
        self._start(
            "session-manager",
            f"mode: {self.mode}\ndefault_resources: cpu=1,mem=64m\n" + (f"grpc: 127.0.0.1:{port}\n" if port else ""),
        )
        self._wait_until_it_answers()

    def start_executor_manager(self) -> None:
        """Start it; executors come with the first session."""
        self._start("executor-manager", f"endpoint: {self.endpoint}\nexecutors: 2\ncpu: 2\n")

    def pids(self, component: str | None = None) -> list[int]:
        """Processes of the cluster, or of one component (`session-manager`, `executor`, ...)."""
        found = processes.find(str(self.folder))
        return [process.pid for process in found if component is None or process.component == component]

    def kill(self) -> None:
        """`kill -9` of every process at once."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            process.wait()
        self._started.clear()

    def counted_invocations(self, counts: Path, expected: int) -> int:
        """Sum of what the services counted, once it has reached `expected` or 15 s have passed."""
        deadline = time.monotonic() + 15
        while True:
            total = sum(int(file.read_text() or 0) for file in counts.glob("*.count"))
            if total >= expected or time.monotonic() > deadline:
                return total
            time.sleep(0.02)

    def _start(self, component: str, settings: str) -> None:
        configuration = Path(paths.configuration_file(str(self.folder), component))
        log = Path(paths.log_file(str(self.folder), component))
        for file in (configuration, log, Path(paths.socket_path(str(self.folder)))):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration.write_text(f"data_dir: {self.folder}\n{settings}")
        with log.open("ab") as output:
            command = [FLAME, component, "--config", str(configuration), "--data-dir", str(self.folder)]
            self._started.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/")
            )

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            try:
                with flame.connect(self.endpoint):
                    return
            except flame.FlameError:
                if time.monotonic() > deadline or self._started[-1].poll() is not None:
                    log = Path(paths.log_file(str(self.folder), "session-manager")).read_text(errors="replace")
                    raise RuntimeError(f"the session manager does not answer; its log:\n{log[-4000:]}") from None
                time.sleep(0.02)


@contextmanager
def cluster(disk: Path, *, mode: str = "durable", port: int = 0, executors: bool = True) -> Iterator[Cluster]:
    """A running cluster; it and its files are gone afterwards.

    Args:
        disk: directory on the disk to measure.
        mode: `durable` or `memory`.
        port: of the gRPC frontend; 0 for none.
        executors: whether to start the executor manager at once.
    """
    folder = Path(tempfile.mkdtemp(prefix="flame-bench-", dir=disk))
    running = Cluster(folder, mode)
    try:
        running.start_session_manager(port=port)
        if executors:
            running.start_executor_manager()
        yield running
    finally:
        running.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def connected(endpoint: str) -> Iterator[flame.Connection]:
    """A connection on which the benchmarks' applications are registered; over gRPC for an `http://` endpoint."""
    with flame.connect(endpoint, carrier="grpc" if endpoint.startswith("http:") else None) as connection:
        for name in ("Reverse", "Rotate", "Spin"):
            connection.register_application(
                f"bench-{name.lower()}", service=f"services:{name}", working_directory=str(FOLDER)
            )
        yield connection
