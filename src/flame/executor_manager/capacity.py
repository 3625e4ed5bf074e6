"""What a node has: the least of CPU affinity, cgroup limits and the machine's own.

Everything but the affinity is read below a given root, so that recorded trees of /proc and /sys can be tested.
"""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from flame.config.components import ExecutorManagerConfig
from flame.model.errors import ConfigurationError
from flame.model.limits import KIB
from flame.model.resources import Resources

_UNLIMITED_BYTES: Final = 1 << 60
"""cgroup v1 writes "no limit" as a number a little below 2^63."""


def capacity_of(config: ExecutorManagerConfig) -> Resources:
    """The node's resources: as configured, else as found.

    Raises:
        ConfigurationError: a configured value that cannot be read, or the machine's memory is unknown.
    """
    root = Path(config.root)
    affinity = len(os.sched_getaffinity(0)) if root == Path("/") else None
    memory = Resources.parse(f"mem={config.memory}").memory_bytes if config.memory else memory_bytes(root)
    return Resources(cpu=config.cpu or cpus(root, affinity), memory_bytes=memory, gpu=config.gpu)


def cpus(root: Path, affinity: int | None = None) -> int:
    """Whole CPUs, at least 1: a part of one counts as one.

    Args:
        root: where /proc and /sys are.
        affinity: CPUs this process may run on, or None for no such bound.
    """
    found = [float(count) for count in (affinity, _online(root)) if count]
    found += [limit for folder in _folders(root, "cpu") if (limit := _cpu_limit(folder)) is not None]
    return max(1, math.ceil(min(found, default=1.0)))


def memory_bytes(root: Path) -> int:
    """Bytes of memory.

    Raises:
        ConfigurationError: neither the machine nor a cgroup says.
    """
    found = [limit for folder in _folders(root, "memory") if (limit := _memory_limit(folder)) is not None]
    machine = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    if machine:
        found.append(int(machine[1]) * KIB)
    if not found:
        raise ConfigurationError(
            f"the memory of this node cannot be read below {root}", hint="set `memory` of the executor manager"
        )
    return min(found)


def _online(root: Path) -> int:
    """CPUs of the machine, from a list like `0-3,8`."""
    total = 0
    for part in _text(root / "sys/devices/system/cpu/online").strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            total += int(last or first) - int(first) + 1
    return total


def _cpu_limit(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip()
    if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
        return int(quota) / int(period)
    return None  # "max", or -1 in version 1


def _memory_limit(folder: Path) -> int | None:
    text = (_text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes")).strip()
    return int(text) if text.isdecimal() and 0 < int(text) < _UNLIMITED_BYTES else None


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The cgroups of this process that can limit `controller`, each with those above it.

    A container sees its own cgroup as the root of the mounted tree while /proc/self/cgroup may name the path on the
    host; so the walk goes up to the mount in any case.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for mount in _mounts(root, controllers, controller):
            folder = mount / path.lstrip("/")
            while folder != mount and mount in folder.parents:
                yield folder
                folder = folder.parent
            yield mount


def _mounts(root: Path, controllers: str, controller: str) -> Iterator[Path]:
    base = root / "sys/fs/cgroup"
    if not controllers:  # version 2: alone, or beside version 1
        yield base
        yield base / "unified"
    else:
        yield base / controllers
        if controller != controllers:
            yield base / controller


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
