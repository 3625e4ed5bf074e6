"""Find the processes of a cluster on this machine by what their command lines say.

Every process of Flame names its component and its data directory on its command line (executors in their process
title), so that they are found even when nothing else is left: no runtime file, no supervisor.
"""

import os
from typing import NamedTuple

COMPONENTS = ("supervisor", "session-manager", "executor-manager", "fork-server", "executor")

MARKER = "FLAME_SUPERVISED"
"""Environment variable that every process below a supervisor inherits, also children of user code: the data
directory."""


class Process(NamedTuple):
    """A process of a cluster. `component` is one of `COMPONENTS`, or empty for one that user code started."""

    pid: int
    component: str


def component_of(command_line: bytes, data_dir: str) -> str | None:
    """The component that a command line (as in /proc, separated by NUL) names, if it belongs to `data_dir`.

    Example:
        >>> component_of(b"flame executor e1 --data-dir /srv/flame", "/srv/flame")
        'executor'
    """
    line = command_line.replace(b"\0", b" ").strip().decode("utf-8", "replace")
    if not f"{line} ".partition(f" --data-dir {data_dir} ")[1]:
        return None
    words = line.split(" ")
    if not any(word.startswith("flame.") or word.rpartition("/")[2] == "flame" for word in words):
        return None
    return next((word for word in words if word in COMPONENTS), None)


def find(data_dir: str) -> list[Process]:
    """All live processes that belong to a data directory, except this one.

    Args:
        data_dir: absolute path, as on the command lines.
    """
    found = []
    marker = f"{MARKER}={data_dir}".encode()
    for pid in _pids():
        if pid == os.getpid():
            continue
        component = component_of(_read(pid, "cmdline"), data_dir)
        if component is not None:
            found.append(Process(pid, component))
        elif marker in _read(pid, "environ").split(b"\0"):
            found.append(Process(pid, ""))
    return found


def is_component(pid: int, component: str, data_dir: str) -> bool:
    """Whether `pid` is alive and is this component of this data directory. A zombie is not alive."""
    return component_of(_read(pid, "cmdline"), data_dir) == component


def alive(pid: int) -> bool:
    """Whether there is such a process. A zombie is not alive."""
    return bool(_read(pid, "cmdline"))


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _read(pid: int, name: str) -> bytes:
    """A file of a process in /proc; empty where the process is gone or belongs to somebody else."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
