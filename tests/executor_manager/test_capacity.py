"""The node's capacity, from recorded trees."""

from pathlib import Path

import pytest

from flame.config.components import ExecutorManagerConfig
from flame.executor_manager.capacity import capacity_of, cpus, memory_bytes
from flame.model.errors import ConfigurationError, InvalidArgument
from flame.model.resources import Resources


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


def test_the_machine(root: Path) -> None:
    assert (cpus(root), memory_bytes(root)) == (8, 16 << 30)
    assert cpus(root, affinity=3) == 3


def test_version_2_takes_the_least_on_the_way_up(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/a/b\n")
    write(root, "sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    write(root, "sys/fs/cgroup/a/cpu.max", "250000 100000\n")
    write(root, "sys/fs/cgroup/a/b/memory.max", "max\n")
    write(root, "sys/fs/cgroup/a/memory.max", "1073741824\n")
    assert (cpus(root), memory_bytes(root)) == (3, 1 << 30)


def test_version_1(root: Path) -> None:
    write(root, "proc/self/cgroup", "9:name=systemd:/\n4:memory:/m\n2:cpu,cpuacct:/c\n0::/\n")
    write(root, "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "50000\n")
    write(root, "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "100000\n")
    write(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    write(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    write(root, "sys/fs/cgroup/memory/m/memory.limit_in_bytes", "536870912\n")
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert (cpus(root), memory_bytes(root)) == (1, 512 << 20)


def test_a_container_that_sees_its_cgroup_as_the_root(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/kubepods/x\n")
    write(root, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    write(root, "sys/fs/cgroup/memory.max", "2147483648\n")
    assert (cpus(root), memory_bytes(root)) == (2, 2 << 30)


def test_configuration_goes_first(root: Path) -> None:
    config = ExecutorManagerConfig(data_dir="/d", endpoint="", root=str(root), cpu=3, memory="5g", gpu=2)
    assert capacity_of(config) == Resources(cpu=3, memory_bytes=5 << 30, gpu=2)
    found = ExecutorManagerConfig(data_dir="/d", endpoint="", root=str(root))
    assert capacity_of(found) == Resources(cpu=8, memory_bytes=16 << 30)


def test_values_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="memory of this node"):
        memory_bytes(tmp_path)
    assert cpus(tmp_path) == 1
    with pytest.raises(InvalidArgument, match="lots"):
        capacity_of(ExecutorManagerConfig(data_dir="/d", endpoint="", memory="lots"))


def test_this_machine() -> None:
    found = capacity_of(ExecutorManagerConfig(data_dir="/d", endpoint=""))
    assert found.cpu >= 1
    assert found.memory_bytes > 1 << 20
