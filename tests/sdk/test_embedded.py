"""The embedded cluster as its parent sees it, with a stand-in for the command that it starts."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import flame
from flame.sdk.embedded import EmbeddedCluster
from tests.support import ROOT, WaitUntil

STAND_IN = """#!{python}
import json, os, sys
arguments = dict(zip(sys.argv[5::2], sys.argv[6::2]))
assert sys.argv[1:5] == ["-P", "-m", "flame.cli.flame", "embedded"], sys.argv
{answer}
os.read(int(arguments["--parent-fd"]), 1)
open({gone!r}, "w").close()
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `sys.executable` a program that answers as the embedded cluster does, and makes a file when it ends."""
    return _install(
        tmp_path, monkeypatch, 'print(json.dumps({"endpoint": "unix:///x", "data_dir": sys.argv[-1]}), flush=True)'
    )


def _install(directory: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> Path:
    gone = directory / "gone"
    program = directory / "python"
    program.write_text(STAND_IN.format(python=os.path.join(sys.prefix, "bin", "python"), answer=answer, gone=str(gone)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))
    return gone


def test_it_ends_when_it_is_stopped(stand_in: Path) -> None:
    cluster = EmbeddedCluster.start("memory", 30)
    assert (cluster.endpoint, cluster.data_dir) == ("unix:///x", "memory")
    assert not cluster.ended()
    cluster.stop()
    assert stand_in.exists()
    cluster.stop()


def test_what_it_says_when_it_cannot_start_is_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, monkeypatch, 'print(json.dumps({"error": "no room", "log": "line 1"}), flush=True)')
    with pytest.raises(flame.Unavailable, match="no room\nline 1"):
        EmbeddedCluster.start("durable", 30)


def test_one_that_ends_or_hangs_at_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, monkeypatch, "sys.exit(3)")
    with pytest.raises(flame.Unavailable, match="ended while it started"):
        EmbeddedCluster.start("durable", 30)
    _install(tmp_path, monkeypatch, "")
    with pytest.raises(flame.Unavailable, match="did not start within"):
        EmbeddedCluster.start("durable", 0.2)


PARENT = """
import os, sys, time
program = sys.argv[1]
sys.executable = program
from flame.sdk.embedded import EmbeddedCluster
cluster = EmbeddedCluster.start("memory", 30)
child = os.fork()
if child == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
    os._exit(0)
time.sleep(60)
"""


def test_a_killed_parent_takes_it_along_though_a_forked_child_lives(stand_in: Path, wait_until: WaitUntil) -> None:
    program, python = sys.executable, os.path.join(sys.prefix, "bin", "python")
    parent = subprocess.Popen(
        [python, "-c", PARENT, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        assert not stand_in.exists()
        parent.kill()
        parent.wait(30)
        wait_until(stand_in.exists)
    finally:
        os.kill(child, signal.SIGKILL)


def test_modules_beside_the_script_do_not_stand_in_for_the_clusters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "signal.py").write_text("raise SystemExit('the wrong signal')")
    monkeypatch.chdir(tmp_path)
    cluster = EmbeddedCluster.start("memory", 60)
    try:
        assert cluster.endpoint
    finally:
        cluster.stop()


def test_elsewhere_than_on_linux_it_says_so_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(flame.FailedPrecondition, match="needs Linux, this is darwin") as raised:
        flame.connect("embedded")
    assert raised.value.hint == "connect to a cluster that runs on Linux"
