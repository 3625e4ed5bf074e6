"""How large a machine is, from recorded trees."""

import os
from pathlib import Path

import pytest

from flame.config.capacity import cpus, memory_bytes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 8 CPUs and 16 GiB, without cgroups."""
    write(tmp_path, "sys/devices/system/cpu/online", "0-3,8-11\n")
    write(tmp_path, "proc/meminfo", "MemTotal:       16777216 kB\nMemFree:  1 kB\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def size(root: Path) -> tuple[int, int]:
    return cpus(str(root)), memory_bytes(str(root))


def test_the_machine(root: Path) -> None:
    assert size(root) == (8, 16 << 30)


def test_version_2_takes_the_least_on_the_way_up(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/a/b\n")
    write(root, "sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    write(root, "sys/fs/cgroup/a/cpu.max", "250000 100000\n")
    write(root, "sys/fs/cgroup/a/b/memory.max", "max\n")
    write(root, "sys/fs/cgroup/a/memory.max", "1073741824\n")
    assert size(root) == (3, 1 << 30)


def test_version_1(root: Path) -> None:
    write(root, "proc/self/cgroup", "9:name=systemd:/\n4:memory:/m\n2:cpu,cpuacct:/c\n0::/\n")
    write(root, "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "50000\n")
    write(root, "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "100000\n")
    write(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    write(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    write(root, "sys/fs/cgroup/memory/m/memory.limit_in_bytes", "536870912\n")
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert size(root) == (1, 512 << 20)


@pytest.mark.parametrize("path", ["/kubepods/x", "/../../kubepods/x"])
def test_a_container_that_sees_its_cgroup_as_the_root(root: Path, path: str) -> None:
    write(root, "proc/self/cgroup", f"0::{path}\n")
    write(root, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    write(root, "sys/fs/cgroup/memory.max", "2147483648\n")
    assert size(root) == (2, 2 << 30)


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    assert size(tmp_path) == (1, 0)


def test_this_machine() -> None:
    assert 1 <= cpus() <= len(os.sched_getaffinity(0))
    assert memory_bytes() > 1 << 20
