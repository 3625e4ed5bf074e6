"""How large this machine is: the least of CPU affinity, cgroup limits and the machine's own.

Everything but the affinity is read below a given root, so that recorded trees of /proc and /sys can be tested. It is
imported on the way to an embedded cluster's first process, so it takes nothing but `os`.
"""

import os
from collections.abc import Iterator

_UNLIMITED_BYTES = 1 << 60
"""cgroup v1 writes "no limit" as a number a little below 2^63."""


def cpus(root: str = "/") -> int:
    """Whole CPUs, at least 1: a part of one counts as one.

    Args:
        root: where /proc and /sys are; the affinity of this process counts for its own machine only.
    """
    found = [float(count) for count in (_affinity(root), _online(root)) if count]
    found += [limit for folder in _folders(root, "cpu") if (limit := _cpu_limit(folder)) is not None]
    return max(1, -int(-min(found, default=1.0) // 1))


def memory_bytes(root: str = "/") -> int:
    """Bytes of memory; 0 if neither the machine nor a cgroup says.

    Args:
        root: where /proc and /sys are.
    """
    found = [limit for folder in _folders(root, "memory") if (limit := _memory_limit(folder)) is not None]
    for line in _text(f"{root}/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            found.append(int(value.removesuffix("kB")) * 1024)
    return min(found, default=0)


def _affinity(root: str) -> int:
    """CPUs this process may run on; 0 if `root` is another machine's."""
    return len(os.sched_getaffinity(0)) if root == "/" else 0


def _online(root: str) -> int:
    """CPUs of the machine, from a list like `0-3,8`."""
    total = 0
    for part in _text(f"{root}/sys/devices/system/cpu/online").strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            total += int(last or first) - int(first) + 1
    return total


def _cpu_limit(folder: str) -> float | None:
    quota, _, period = _text(f"{folder}/cpu.max").strip().partition(" ")
    if not quota:
        quota, period = _text(f"{folder}/cpu.cfs_quota_us").strip(), _text(f"{folder}/cpu.cfs_period_us").strip()
    if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
        return int(quota) / int(period)
    return None  # "max", or -1 in version 1


def _memory_limit(folder: str) -> int | None:
    text = (_text(f"{folder}/memory.max") or _text(f"{folder}/memory.limit_in_bytes")).strip()
    return int(text) if text.isdecimal() and 0 < int(text) < _UNLIMITED_BYTES else None


def _folders(root: str, controller: str) -> Iterator[str]:
    """The cgroups of this process that can limit `controller`, each with those above it.

    A container sees its own cgroup as the root of the mounted tree while /proc/self/cgroup may name the path on the
    host; so the walk goes up to the mount in any case.
    """
    for line in _text(f"{root}/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part]
        if ".." in parts:  # a cgroup outside of this namespace
            parts = []
        for mount in _mounts(root, controllers, controller):
            for depth in range(len(parts), -1, -1):
                yield "/".join([mount, *parts[:depth]])


def _mounts(root: str, controllers: str, controller: str) -> Iterator[str]:
    base = f"{root}/sys/fs/cgroup"
    if not controllers:  # version 2: alone, or beside version 1
        yield base
        yield f"{base}/unified"
    else:
        yield f"{base}/{controllers}"
        if controller != controllers:
            yield f"{base}/{controller}"


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
