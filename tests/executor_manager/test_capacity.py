"""What a node registers. How a machine is read: tests/config/test_capacity.py."""

from pathlib import Path

import pytest

from flame.config.components import ExecutorManagerConfig
from flame.executor_manager.capacity import capacity_of
from flame.model.errors import ConfigurationError, InvalidArgument
from flame.model.resources import Resources


def node(root: Path, *, cpu: int = 0, memory: str = "", gpu: int = 0) -> ExecutorManagerConfig:
    return ExecutorManagerConfig(data_dir="/d", endpoint="", root=str(root), cpu=cpu, memory=memory, gpu=gpu)


def test_configuration_goes_first(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:       16777216 kB\n")
    (tmp_path / "sys/devices/system/cpu").mkdir(parents=True)
    (tmp_path / "sys/devices/system/cpu/online").write_text("0-7\n")
    assert capacity_of(node(tmp_path, cpu=3, memory="5g", gpu=2)) == Resources(cpu=3, memory_bytes=5 << 30, gpu=2)
    assert capacity_of(node(tmp_path)) == Resources(cpu=8, memory_bytes=16 << 30)


def test_values_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="memory of this node"):
        capacity_of(node(tmp_path))
    assert capacity_of(node(tmp_path, memory="1g")) == Resources(cpu=1, memory_bytes=1 << 30, gpu=0)
    with pytest.raises(InvalidArgument, match="lots"):
        capacity_of(node(tmp_path, memory="lots"))


def test_this_machine() -> None:
    found = capacity_of(ExecutorManagerConfig(data_dir="/d", endpoint=""))
    assert found.cpu >= 1
    assert found.memory_bytes > 1 << 20
