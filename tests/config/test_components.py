import pytest

from flame.config.components import (
    ExecutorManagerConfig,
    Limits,
    SessionManagerConfig,
    check_executor_manager,
    check_session_manager,
)
from flame.model.errors import ConfigurationError, FlameError
from flame.model.limits import MAX_TASK_BYTES_CEILING


def test_defaults_can_be_used() -> None:
    config = SessionManagerConfig(data_dir="/a")
    assert check_session_manager(config, "x") is config
    node = ExecutorManagerConfig(data_dir="/a", endpoint="unix:///s")
    assert check_executor_manager(node, "x") is node


def test_largest_task_is_bounded() -> None:
    limits = Limits(max_task_bytes=MAX_TASK_BYTES_CEILING)
    check_session_manager(SessionManagerConfig(data_dir="/a", limits=limits), "x")
    limits = Limits(max_task_bytes=MAX_TASK_BYTES_CEILING + 1)
    with pytest.raises(FlameError, match=r"x: limits\.max_task_bytes: 33554433 is out of range"):
        check_session_manager(SessionManagerConfig(data_dir="/a", limits=limits), "x")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"data_dir": "relative"}, "x: data_dir: 'relative' is not an absolute path"),
        ({"default_resources": "cpus=1"}, "x: default_resources: .*cpu=1,mem=1g"),
        ({"frames": "http://h:1"}, "x: frames: "),
        ({"frames": "frames://h:65536"}, "x: frames: .*'65536' is not a port number"),
        ({"frames": "unix://relative"}, "x: frames: .* not absolute"),
        ({"grpc": "localhost"}, "x: grpc: 'localhost': '' is not a port number"),
        ({"grpc": ":8080"}, "x: grpc: ':8080' has no host name"),
        ({"default_resources": "gpu=2147483648"}, "x: default_resources: .*too large"),
        ({"limits": Limits(lease_ms=0)}, r"x: limits\.lease_ms: 0"),
        ({"limits": Limits(low_space_bytes=-1)}, r"x: limits\.low_space_bytes: -1"),
    ],
)
def test_session_manager_values_that_cannot_be_used(values: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        check_session_manager(SessionManagerConfig(**{"data_dir": "/a", **values}), "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"data_dir": ""}, "data_dir"),
        ({"root": "sys"}, "root"),
        ({"memory": "much"}, "x: memory: "),
        ({"executors": -1}, "x: executors: -1 is out of range"),
        ({"gpu": 1 << 31}, "x: gpu: 2147483648 is out of range"),
        ({"cpu": 1 << 63}, "x: cpu: 9223372036854775808 is out of range"),
        ({"endpoint": "http://h"}, "x: endpoint: 'http://h' is no frame endpoint"),
        ({"endpoint": "frames://h"}, "x: endpoint: .* is not a port number"),
        ({"max_log_bytes": 0}, "max_log_bytes"),
        ({"node": "../x"}, "x: node: node name '../x' is not valid"),
    ],
)
def test_executor_manager_values_that_cannot_be_used(values: dict[str, object], why: str) -> None:
    config = ExecutorManagerConfig(**{"data_dir": "/a", "endpoint": "unix:///s", **values})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=why):
        check_executor_manager(config, "x")
