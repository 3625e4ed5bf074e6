"""Configuration of the components: what `flame session-manager` and `flame executor-manager` read from YAML."""

from collections.abc import Callable
from typing import Literal

import msgspec

from flame.model.endpoint import Endpoint, split_address
from flame.model.errors import ConfigurationError, InvalidArgument
from flame.model.limits import (
    DELAY_RELEASE_MS,
    ENTER_TIMEOUT_MS,
    LEASE_MS,
    MAX_PROCESSES_PER_NODE,
    MAX_TASK_BYTES,
    MAX_TASK_BYTES_CEILING,
    START_TIMEOUT_MS,
)
from flame.model.resources import MAX_AMOUNT, MAX_GPUS, Resources
from flame.model.specs import check_node_name


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds an operator may change.

    Args:
        max_task_bytes: largest input and output of one task.
        lease_ms: how long a node may be silent.
        start_timeout_ms: from the start of an executor's process until it is attached.
        enter_timeout_ms: longest session enter.
        delay_release_ms: how long executors of an idle session stay, where the application does not say.
        low_space_bytes: free space below which new work is refused.
    """

    max_task_bytes: int = MAX_TASK_BYTES
    lease_ms: int = LEASE_MS
    start_timeout_ms: int = START_TIMEOUT_MS
    enter_timeout_ms: int = ENTER_TIMEOUT_MS
    delay_release_ms: int = DELAY_RELEASE_MS
    low_space_bytes: int = 64 * 1024 * 1024


class SessionManagerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session manager.

    Args:
        data_dir: absolute path of the directory it keeps everything in.
        mode: `durable` stores in SQLite with every acknowledgement synced; `memory` loses all when it ends.
        frames: endpoint of the frame carrier, `unix:///path` (mode 0600) or `frames://127.0.0.1:PORT`;
            empty takes `unix://<data_dir>/run/session-manager.sock`.
        grpc: `host:port` of the gRPC frontend (port 0: any), or empty for none.
        default_resources: what a session asks for per executor where it does not say, e.g. `cpu=1,mem=1g`.
        limits: bounds.
    """

    data_dir: str
    mode: Literal["durable", "memory"] = "durable"
    frames: str = ""
    grpc: str = ""
    default_resources: str = ""
    limits: Limits = Limits()


class ExecutorManagerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An executor manager.

    Args:
        data_dir: absolute path of the directory for its logs and temporary files.
        endpoint: frame endpoint of the session manager.
        node: name of this node; empty takes the host's name.
        executors: most executors at a time; 0 for as many as fit.
        gpu: GPUs of this node.
        cpu, memory: override what was read from the machine, e.g. 4 and `8g`; 0 and empty read it.
        root: directory under which /proc and /sys are read.
        max_log_bytes: output kept per executor.
    """

    data_dir: str
    endpoint: str
    node: str = ""
    executors: int = 0
    gpu: int = 0
    cpu: int = 0
    memory: str = ""
    root: str = "/"
    max_log_bytes: int = 16 * 1024 * 1024


def check_session_manager(config: SessionManagerConfig, source: str) -> SessionManagerConfig:
    """Return `config` if its values can be used.

    Args:
        config: as read.
        source: the file, for messages.

    Raises:
        ConfigurationError: a path that is not absolute, resources that cannot be read, or a bound out of range.
    """
    _check_absolute(source, "data_dir", config.data_dir)
    _check_resources(source, "default_resources", config.default_resources)
    if config.frames:
        _check_frames(source, "frames", config.frames)
    if config.grpc:
        _check(source, "grpc", lambda: split_address(config.grpc))
    for name in Limits.__struct_fields__:
        value = getattr(config.limits, name)
        least = 0 if name in ("delay_release_ms", "low_space_bytes") else 1
        most = MAX_TASK_BYTES_CEILING if name == "max_task_bytes" else 1 << 53
        if not least <= value <= most:
            raise ConfigurationError(
                f"{source}: limits.{name}: {value} is out of range", hint=f"it may be {least}-{most}"
            )
    return config


def check_executor_manager(config: ExecutorManagerConfig, source: str) -> ExecutorManagerConfig:
    """Return `config` if its values can be used; otherwise as `check_session_manager`."""
    _check_absolute(source, "data_dir", config.data_dir)
    _check_absolute(source, "root", config.root)
    _check_frames(source, "endpoint", config.endpoint)
    if config.memory:
        _check_resources(source, "memory", f"mem={config.memory}")
    for name, least in (("executors", 0), ("gpu", 0), ("cpu", 0), ("max_log_bytes", 1)):
        value = getattr(config, name)
        most = {"gpu": MAX_GPUS, "executors": MAX_PROCESSES_PER_NODE}.get(name, MAX_AMOUNT)
        if not least <= value <= most:
            raise ConfigurationError(f"{source}: {name}: {value} is out of range", hint=f"it may be {least}-{most}")
    if config.node:
        _check(source, "node", lambda: check_node_name(config.node))
    return config


def _check_absolute(source: str, key: str, path: str) -> None:
    if not path.startswith("/"):
        raise ConfigurationError(f"{source}: {key}: {path!r} is not an absolute path", hint="begin it with /")


def _check_frames(source: str, key: str, text: str) -> None:
    if not text.startswith(("unix://", "frames://")):
        raise ConfigurationError(
            f"{source}: {key}: {text!r} is no frame endpoint", hint="write unix:///path or frames://127.0.0.1:port"
        )
    _check(source, key, lambda: Endpoint.parse(text))


def _check_resources(source: str, key: str, text: str) -> None:
    _check(source, key, lambda: Resources.parse(text))


def _check(source: str, key: str, read: Callable[[], object]) -> None:
    try:
        read()
    except InvalidArgument as error:
        raise ConfigurationError(f"{source}: {key}: {error.message}", error.hint) from None
