import os
import subprocess
import sys
from pathlib import Path

import pytest

from flame.supervisor.lock import Lock
from tests.support import wait_until_true


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    (tmp_path / "run").mkdir()
    return str(tmp_path)


def test_one_holder_at_a_time(data_dir: str) -> None:
    first, second = Lock(data_dir), Lock(data_dir)
    assert not first.held()
    assert first.acquire(0)
    assert second.held()
    assert not second.acquire(0)
    first.release()
    first.release()
    assert not second.held()
    assert second.acquire(0)


def test_a_supervisor_that_has_it_and_is_alive_is_not_waited_for(data_dir: str) -> None:
    code = (
        "import sys; from flame.supervisor.lock import Lock\n"
        "lock = Lock(sys.argv[-1]); print(lock.acquire(0), flush=True); input()"
    )
    command = [sys.executable, "-c", code, "flame.test", "supervisor", "--data-dir", data_dir]
    lock = Lock(data_dir)
    assert lock.holder() == 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        assert lock.holder() == holder.pid
        assert not lock.acquire(1000)  # which the test would not survive
        holder.communicate(b"\n")
    assert lock.holder() == 0
    assert lock.acquire(0)


def test_no_directory_is_not_held(tmp_path: Path) -> None:
    assert not Lock(str(tmp_path / "none")).held()


def test_programs_that_the_holder_starts_do_not_keep_it(data_dir: str) -> None:
    lock = Lock(data_dir)
    lock.acquire(0)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    lock.release()
    # The kernel lets the parent go on a moment before it closes the child's descriptors.
    wait_until_true(lambda: not Lock(data_dir).held())
    child.communicate(b"\n")


def test_a_killed_holder_gives_it_back(data_dir: str) -> None:
    code = (
        "import sys; from flame.supervisor.lock import Lock\n"
        "lock = Lock(sys.argv[1]); print(lock.acquire(0), flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, data_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"True\n"
    assert Lock(data_dir).held()
    holder.kill()
    holder.communicate()
    assert Lock(data_dir).acquire(0)
