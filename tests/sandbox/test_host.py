"""No process is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flame.model.errors import FailedPrecondition
from flame.sandbox.host import _scan, children, die_with_parent, remove_tree
from tests.support import wait_until_true

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> subprocess.CompletedProcess[str]:
    head = "import os, signal, subprocess, sys, time\nfrom flame.sandbox.host import *\n"
    return subprocess.run(
        [sys.executable, "-c", head + code], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_process_dies_with_its_parent() -> None:
    result = run("""
ready, tell = os.pipe()
if (pid := os.fork()) == 0:
    die_with_parent(signal.SIGKILL)
    os.write(tell, b"x")
    os.close(1); os.close(2)
    time.sleep(1000)
os.read(ready, 1)
print(pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""")
    wait_until_true(lambda: gone(int(result.stdout)))


def test_daemons_of_children_are_found_and_killed() -> None:
    result = run("""
adopt_orphans()
child = subprocess.Popen(["sh", "-c", "setsid -f sleep 1000; sleep 1000 & sleep 1000"])
while len(children(child.pid)) < 1: time.sleep(0.001)
kept = subprocess.Popen(["sleep", "1000"])
while kill_children({kept.pid}):
    reap()
    time.sleep(0.001)
assert children(os.getpid()) == [kept.pid], children(os.getpid())
kept.kill()
while (kept.pid, 9) not in reap(): time.sleep(0.001)
print("clean")
""")
    assert result.stdout == "clean\n", result.stderr


def test_children_of_a_process() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        assert child.pid in children(os.getpid())
        assert child.pid in _scan(os.getpid())
        assert children(child.pid) == []
        child.kill()
    assert children(child.pid) == []


def test_a_tree_without_permissions_is_removed(tmp_path: Path) -> None:
    deep = tmp_path / "t" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "f").write_text("x")
    (tmp_path / "t" / "link").symlink_to(tmp_path)
    deep.chmod(0)
    deep.parent.chmod(0)
    remove_tree(str(tmp_path / "t"))
    assert not (tmp_path / "t").exists()
    assert tmp_path.exists()
    remove_tree(str(tmp_path / "t"))


def test_freed_memory_is_kept() -> None:
    result = run("""
import resource
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def take():
    for _ in range(5): [bytearray(1 << 20) for _ in range(20)]
before = faults(); take(); default = faults() - before
keep_freed_memory(); take()
before = faults(); take(); kept = faults() - before
print(default, kept)
""")
    default, kept = map(int, result.stdout.split())
    assert default > 10_000  # each of the 100 was fresh, page by page
    assert kept < 1_000


def test_the_limit_of_open_files_is_raised_and_given_back() -> None:
    result = run("""
import resource
NOFILE = resource.RLIMIT_NOFILE
resource.setrlimit(NOFILE, (128, 512))
print(raise_file_limit(), resource.getrlimit(NOFILE))
lower_file_limit(128)
print(resource.getrlimit(NOFILE))
""")
    assert result.stdout == "128 (512, 512)\n(128, 512)\n", result.stderr


def test_elsewhere_than_on_linux_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(FailedPrecondition, match="executors need Linux, this is darwin"):
        die_with_parent(signal.SIGKILL)


def test_what_was_freed_between_things_that_stay_is_given_back() -> None:
    result = run("""
def resident(): return int(open("/proc/self/statm").read().split()[1]) * 4096
keep_freed_memory()
freed = [bytes(1 << 18) for _ in range(400)]
stays = [bytes(1 << 18) for _ in range(4)]
large = resident()
del freed
give_back_freed_memory()
print(large - resident())
""")
    assert int(result.stdout) > 50 << 20, result.stderr
