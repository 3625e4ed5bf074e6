"""The supervisor with stand-ins for its components (`stand_ins.py`)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from flame.config import paths, processes, runtime
from flame.config.probe import answers
from flame.supervisor import loop
from flame.supervisor.loop import Supervisor, bound_log
from flame.supervisor.settings import Settings
from tests.support import wait_until_true


class Driven:
    """A supervisor as a process, on a data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.process: subprocess.Popen[bytes] | None = None
        self._program = data_dir / "flame"
        self._program.symlink_to(Path(__file__).with_name("stand_ins.py"))
        self._home = data_dir / "home"

    def start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "HOME": str(self._home)}
        with open(self.data_dir / "supervisor.err", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(self._program), "drive", str(self.data_dir)], stderr=log, env=environment
            )
        return self.process

    def pid(self, component: str) -> int:
        found = {process.component: process.pid for process in processes.find(str(self.data_dir))}
        return found.get(component, 0)

    def wait_running(self) -> None:
        wait_until_true(lambda: self.starts("session-manager") and self.starts("executor-manager"))
        wait_until_true(self.cluster, what=self.log())

    def cluster(self) -> runtime.Cluster | None:
        return runtime.read(paths.cluster_file(str(self.data_dir)))

    def starts(self, component: str) -> list[float]:
        path = self.data_dir / f"{component}.starts"
        return [float(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []

    def log(self) -> str:
        return (self.data_dir / "supervisor.err").read_text()

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for process in processes.find(str(self.data_dir)):
            loop.kill(process.pid)


@pytest.fixture
def driven(short_tmp: Path) -> Iterator[Driven]:
    """A supervisor that is not started yet."""
    supervisor = Driven(short_tmp)
    yield supervisor
    supervisor.end()


def test_starts_both_and_stops_both(driven: Driven) -> None:
    process = driven.start()
    driven.wait_running()
    cluster = driven.cluster()
    assert cluster is not None
    assert cluster.supervisor == process.pid
    assert runtime.alive(cluster)
    assert os.stat(paths.cluster_file(str(driven.data_dir))).st_mode & 0o777 == 0o600
    process.terminate()
    assert process.wait(30) == 0
    assert processes.find(str(driven.data_dir)) == []
    assert driven.cluster() is None


@pytest.mark.parametrize("component", ["session-manager", "executor-manager"])
def test_killed_component_is_back_within_a_second(driven: Driven, component: str) -> None:
    driven.start()
    driven.wait_running()
    os.kill(driven.pid(component), signal.SIGKILL)
    killed_s = time.monotonic()
    wait_until_true(lambda: len(driven.starts(component)) == 2, what=driven.log())
    assert driven.starts(component)[1] - killed_s < 3  # 0.2 s where the machine has nothing else to do
    wait_until_true(lambda: answers(Settings(str(driven.data_dir)).socket_path))


def test_restarts_come_ever_later(driven: Driven) -> None:
    driven.start()
    driven.wait_running()

    def started(count: int) -> bool:
        return len(driven.starts("executor-manager")) == count

    for count in range(1, 6):
        wait_until_true(partial(started, count), what=driven.log())
        if count < 5:
            os.kill(driven.pid("executor-manager"), signal.SIGKILL)
    starts = driven.starts("executor-manager")
    assert starts[4] - starts[3] >= 0.8


@pytest.mark.parametrize("component", ["session-manager", "executor-manager"])
def test_component_that_cannot_work_ends_the_supervisor(driven: Driven, component: str) -> None:
    (driven.data_dir / f"{component}.fails").touch()
    assert driven.start().wait(30) == 1
    assert processes.find(str(driven.data_dir)) == []
    assert f"gave up: {component} ended with exit code 1" in driven.log()
    assert "it does not work" in (driven.data_dir / "log" / f"{component}.log").read_text()


def test_session_manager_that_has_answered_and_cannot_work_for_a_while_comes_back(driven: Driven) -> None:
    """As on a disk that becomes full right after the start."""
    driven.start()
    driven.wait_running()
    executor_manager = driven.pid("executor-manager")
    (driven.data_dir / "session-manager.fails").touch()
    os.kill(driven.pid("session-manager"), signal.SIGKILL)
    wait_until_true(lambda: len(driven.starts("session-manager")) >= 4, what=driven.log())
    assert "session-manager (pid" in driven.log()
    assert "ended with exit code 1" in driven.log()
    (driven.data_dir / "session-manager.fails").unlink()
    wait_until_true(lambda: answers(Settings(str(driven.data_dir)).socket_path), what=driven.log())
    starts = driven.starts("session-manager")
    assert starts[3] - starts[2] > starts[1] - starts[0]
    assert driven.pid("executor-manager") == executor_manager


def test_renamed_logs_keep_a_component_away_only_until_they_are_back(driven: Driven) -> None:
    driven.start()
    driven.wait_running()
    (driven.data_dir / "log").rename(driven.data_dir / "away")
    os.kill(driven.pid("session-manager"), signal.SIGKILL)
    wait_until_true(lambda: "session-manager cannot be started with its log" in driven.log(), what=driven.log())
    (driven.data_dir / "away").rename(driven.data_dir / "log")
    wait_until_true(lambda: driven.pid("session-manager"), what=driven.log())
    assert driven.pid("executor-manager")


def test_orphans_of_a_killed_component_are_killed(driven: Driven) -> None:
    (driven.data_dir / "leave-orphan").touch()
    driven.start()
    driven.wait_running()
    orphan = int(
        wait_until_true(lambda: (driven.data_dir / "orphan").exists() and (driven.data_dir / "orphan").read_text())
    )
    (driven.data_dir / "leave-orphan").unlink()
    os.kill(driven.pid("executor-manager"), signal.SIGKILL)
    wait_until_true(lambda: not processes.alive(orphan), what=driven.log())
    assert driven.pid("session-manager")


def test_second_supervisor_of_a_data_directory_ends(driven: Driven) -> None:
    first = driven.start()
    driven.wait_running()
    assert driven.start().wait(30) == 1
    assert "another supervisor" in driven.log()
    assert driven.pid("session-manager")
    first.terminate()
    assert first.wait(30) == 0


def test_killed_supervisor_leaves_components_that_the_next_one_adopts(driven: Driven) -> None:
    first = driven.start()
    driven.wait_running()
    before = driven.pid("session-manager"), driven.pid("executor-manager")
    first.kill()
    first.wait()
    second = driven.start()
    wait_until_true(
        lambda: (c := runtime.read(paths.cluster_file(str(driven.data_dir)))) and c.supervisor == second.pid
    )
    assert (driven.pid("session-manager"), driven.pid("executor-manager")) == before
    os.kill(before[0], signal.SIGKILL)
    wait_until_true(lambda: driven.pid("session-manager") not in (0, before[0]))
    second.terminate()
    assert second.wait(30) == 0
    assert processes.find(str(driven.data_dir)) == []


def test_stop_without_running_ends_components_that_were_adopted(driven: Driven) -> None:
    first = driven.start()
    driven.wait_running()
    first.kill()
    first.wait()
    supervisor = Supervisor(Settings(str(driven.data_dir)))
    assert sorted(supervisor.adopt()) == ["executor-manager", "session-manager"]
    supervisor.stop()
    assert processes.find(str(driven.data_dir)) == []


def test_log_is_cut_at_its_bound_and_the_old_content_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with open(path, "ab") as writer:
        writer.write(b"x" * 100)
        writer.flush()
        bound_log(str(path), 100)
        assert path.stat().st_size == 100
        bound_log(str(path), 99)
        assert path.read_bytes() == b""
        assert (tmp_path / "a.log.1").read_bytes() == b"x" * 100
        writer.write(b"new")
    assert path.read_bytes() == b"new"
