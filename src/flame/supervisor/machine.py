"""How large this machine is, roughly: what a local cluster's defaults are made from.

Not what a node registers: that is read by its executor manager, which knows more kinds of limits.
"""

import os
from contextlib import suppress


def cpus() -> int:
    """CPUs this process may use, after affinity and CPU quota; at least 1."""
    count = float(len(os.sched_getaffinity(0)))
    for directory in _cgroups("cpu"):
        quota, period = _numbers(f"{directory}/cpu.max")[:2] or (0, 0)
        if not quota:
            quota = next(iter(_numbers(f"{directory}/cpu.cfs_quota_us")), 0)
            period = next(iter(_numbers(f"{directory}/cpu.cfs_period_us")), 0)
        if quota > 0 and period > 0:
            count = min(count, quota / period)
    return max(1, -int(-count // 1))


def memory_bytes() -> int:
    """Memory this process may use: the least of the machine's and its control groups'."""
    least = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for directory in _cgroups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            least = min([least, *_numbers(f"{directory}/{name}")])
    return least


def _cgroups(controller: str) -> list[str]:
    """Directories of the control groups (version 1 and 2) this process is in, up to their roots."""
    found = []
    for line in _lines("/proc/self/cgroup"):
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = "/sys/fs/cgroup" + (f"/{controller}" if names else "")
        while True:
            found.append(root + path.rstrip("/"))
            if path in ("", "/"):
                break
            path = path.rpartition("/")[0]
    return found


def _numbers(path: str) -> list[int]:
    """The whole numbers of a file's first line; none where it says `max` or is not there."""
    return [int(word) for word in next(iter(_lines(path)), "").split() if word.lstrip("-").isdecimal()]


def _lines(path: str) -> list[str]:
    with suppress(OSError, UnicodeDecodeError), open(path, encoding="ascii") as file:
        return file.read().splitlines()
    return []
