import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flame.config import processes
from flame.config.processes import component_of
from tests.support import wait_until_true

SLEEP = "import sys; sys.stdin.read()"


@contextmanager
def sleeper(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with this command line that waits."""
    command = [sys.executable, "-c", SLEEP, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, **variables})
    wait_until_true(lambda: processes.alive(process.pid))
    try:
        yield process
    finally:
        process.communicate()


@pytest.mark.parametrize(
    ("line", "component"),
    [
        ("python -P -m flame.cli.flame session-manager --config c --data-dir /d", "session-manager"),
        ("python -P -m flame.cli.flame supervisor --data-dir /d --mode durable", "supervisor"),
        ("python -P -m flame.executor.fork_server fork-server --data-dir /d --socket 3", "fork-server"),
        ("/usr/bin/flame executor-manager --config c --data-dir /d", "executor-manager"),
        ("flame executor e-1 --data-dir /d", "executor"),
        ("flame executor e-1 --data-dir /d/e", None),
        ("flame executor e-1 --data-dir /", None),
        ("python -P -m flame.cli.flame up --data-dir /d", None),
        ("grep executor --data-dir /d", None),
        ("", None),
    ],
)
def test_component_of_a_command_line(line: str, component: str | None) -> None:
    assert component_of(line.encode(), "/d") == component
    assert component_of(line.replace(" ", "\0").encode() + b"\0", "/d") == component


def test_data_dir_with_spaces() -> None:
    assert component_of(b"flame\0executor\0--data-dir\0/a b/c\0", "/a b/c") == "executor"


def test_finds_components_and_what_they_started() -> None:
    data_dir = f"/nowhere/{os.getpid()}"
    with (
        sleeper("flame", "executor-manager", "--data-dir", data_dir) as component,
        sleeper(FLAME_SUPERVISED=data_dir) as child,
        sleeper("flame", "executor-manager", "--data-dir", data_dir + "x"),
    ):
        found = {(process.pid, process.component) for process in processes.find(data_dir)}
        assert found == {(component.pid, "executor-manager"), (child.pid, "")}
        assert processes.is_component(component.pid, "executor-manager", data_dir)
        assert not processes.is_component(component.pid, "session-manager", data_dir)
        assert not processes.is_component(child.pid, "executor-manager", data_dir)
    assert processes.find(data_dir) == []


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    wait_until_true(lambda: not processes.alive(process.pid))
    process.wait()
