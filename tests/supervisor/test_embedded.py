"""The embedded cluster as a process, with the real components."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flame.config import processes
from flame.config.probe import answers
from flame.supervisor import embedded
from flame.supervisor.lock import Lock
from tests.support import wait_until_true

COMMAND = [sys.executable, "-m", "flame.cli.flame", "embedded"]


class Embedded:
    """An embedded cluster whose parent is this process, below a temporary directory of its own."""

    def __init__(self, base: Path, *options: str) -> None:
        read_end, self.lifeline = os.pipe()
        self.process = subprocess.Popen(
            [*COMMAND, "--parent-fd", str(read_end), *options],
            stdout=subprocess.PIPE,
            pass_fds=(read_end,),
            env={**os.environ, "TMPDIR": str(base)},
        )
        os.close(read_end)
        assert self.process.stdout is not None
        self.answer = json.loads(self.process.stdout.readline())
        self.data_dir = self.answer.get("data_dir", "")

    def release(self) -> None:
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1

    def end(self) -> None:
        self.release()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def cluster(short_tmp: Path) -> Iterator[Embedded]:
    made = Embedded(short_tmp)
    yield made
    made.end()


def nothing_left(cluster: Embedded) -> bool:
    return not processes.find(cluster.data_dir) and not os.path.exists(cluster.data_dir)


def test_answers_once_it_said_so_and_is_private(cluster: Embedded) -> None:
    assert cluster.answer["endpoint"] == f"unix://{cluster.data_dir}/run/session-manager.sock"
    assert answers(cluster.answer["endpoint"].removeprefix("unix://"))
    assert os.stat(cluster.data_dir).st_mode & 0o777 == 0o700
    assert {"session-manager", "executor-manager"} <= {p.component for p in processes.find(cluster.data_dir)}


def test_is_gone_when_the_pipe_is_closed(cluster: Embedded) -> None:
    cluster.release()
    assert cluster.process.wait(30) == 0
    assert nothing_left(cluster)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_is_gone_when_its_supervisor_is_ended(cluster: Embedded, signal_number: int) -> None:
    cluster.process.send_signal(signal_number)
    cluster.process.wait(30)
    wait_until_true(lambda: not processes.find(cluster.data_dir))
    assert os.path.exists(cluster.data_dir) == (signal_number == signal.SIGKILL)  # nobody is left to remove it


def test_ctrl_c_at_the_terminal_is_not_for_it(cluster: Embedded) -> None:
    assert os.getsid(cluster.process.pid) == cluster.process.pid
    cluster.process.send_signal(signal.SIGINT)
    os.kill(next(p.pid for p in processes.find(cluster.data_dir) if p.component == "executor-manager"), signal.SIGKILL)
    wait_until_true(lambda: any(p.component == "executor-manager" for p in processes.find(cluster.data_dir)))
    assert cluster.process.poll() is None


def test_is_gone_when_its_parent_is_killed(short_tmp: Path) -> None:
    code = (
        "import os, subprocess, sys\n"
        "r, w = os.pipe()\n"
        "subprocess.Popen([*sys.argv[1:], '--parent-fd', str(r)], pass_fds=(r,))\n"
        "os.close(r); os.read(0, 1)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(short_tmp)},
    ) as parent:
        assert parent.stdout is not None
        data_dir = json.loads(parent.stdout.readline())["data_dir"]
        assert processes.find(data_dir)
        parent.kill()
    wait_until_true(lambda: not processes.find(data_dir) and not os.path.exists(data_dir))


def test_memory_mode_keeps_nothing_on_disk(short_tmp: Path) -> None:
    made = Embedded(short_tmp, "--mode", "memory")
    assert not (Path(made.data_dir) / "store").exists()
    made.end()


def test_component_that_cannot_work_is_an_error_with_its_reason(
    short_tmp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sqlite3.py").write_text("raise SystemExit('there is no SQLite here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = Embedded(short_tmp)
    assert made.process.wait(30) == 1
    assert "session-manager ended with exit code 1" in made.answer["error"]
    assert "there is no SQLite here" in made.answer["log"]
    assert os.listdir(short_tmp) == []
    made.end()


def test_leftovers_of_killed_clusters_are_removed(short_tmp: Path) -> None:
    held, fresh, stale, foreign = (str(short_tmp / f"flame-{name * 8}") for name in "abcd")
    for path in (held, fresh, stale, foreign):
        os.makedirs(f"{path}/run")
        lock = Lock(path)
        lock.acquire(0)
        if path != held:
            lock.release()
        else:
            kept = lock
        if path != fresh:
            os.utime(path, (time.time() - 3600,) * 2)
    os.rename(foreign, short_tmp / "flame-other-software")
    embedded.remove_stale(str(short_tmp))
    assert sorted(os.listdir(short_tmp)) == ["flame-aaaaaaaa", "flame-bbbbbbbb", "flame-other-software"]
    kept.release()


def test_temporary_directory(monkeypatch: pytest.MonkeyPatch, short_tmp: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(short_tmp))
    assert embedded.temporary_base() == str(short_tmp)
    for unusable in ("", "relative", "/none", str(short_tmp / ("x" * 80))):
        monkeypatch.setenv("TMPDIR", unusable)
        assert embedded.temporary_base() == "/tmp"
