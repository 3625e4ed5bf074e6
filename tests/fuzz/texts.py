"""Targets: what users write: configuration files, endpoints, names, ids, resources, and records of failures."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from flame.config import runtime
from flame.config.client import ClientConfig, current_context
from flame.config.components import (
    ExecutorManagerConfig,
    SessionManagerConfig,
    check_executor_manager,
    check_session_manager,
)
from flame.config.endpoint import parse_endpoint
from flame.config.files import load, parse
from flame.model.endpoint import Endpoint, split_address
from flame.model.errors import ConfigurationError, FailureRecord, FlameError, InvalidArgument
from flame.model.resources import Resources
from flame.model.specs import check_application_name, check_node_name, check_session_id
from flame.wire.convert import task_id_from_text

Value = TypeVar("Value")

_KINDS: Final[tuple[tuple[type[msgspec.Struct], Callable[[Any, str], Any] | None], ...]] = (
    (ClientConfig, None),
    (SessionManagerConfig, check_session_manager),
    (ExecutorManagerConfig, check_executor_manager),
)


def configuration(data: bytes) -> None:
    """Read a configuration file; the first byte says whose.

    Only `ConfigurationError` is raised, and names the file. What is read comes back equal from JSON and from YAML, and
    what is checked can be used.
    """
    kind, check = _KINDS[data[0] % len(_KINDS) if data else 0]
    with _File(data[1:]) as path:
        config = _read(ConfigurationError, lambda: load(path, kind), str(path))
        if kind is ClientConfig:
            _read(ConfigurationError, lambda: current_context(path), str(path))
    if config is None:
        return
    text = msgspec.json.encode(config).decode()
    assert parse(text, kind, "json") == config
    assert parse(yaml.safe_dump(msgspec.to_builtins(config)), kind, "yaml") == config
    if check is not None and _read(ConfigurationError, lambda: check(config, "file"), "file: ") is not None:
        _use(config)


def configuration_seeds() -> Iterator[bytes]:
    """A file of each kind with all keys, and what YAML has beside that."""
    yield b"\x00" + _CLIENT.encode()
    yield b"\x01" + _SESSION_MANAGER.encode()
    yield b"\x02" + _EXECUTOR_MANAGER.encode()
    yield b'\x01{"data_dir": "/d", "limits": {"lease_ms": 5}}'
    yield b'\x00{"contexts": [{"name": "x", "cluster": {"endpoint": "http://h"}}]}'
    for text in (
        "contexts: [&a {name: x}, *a, {<<: *a, app: y}]\ncurrent-context: x",
        "a: !!int '12'\nb: !!float 1e3\nc: !!timestamp 2001-01-01 00:00:00\nd: !!bool yes\ne: !!binary aGk=",
        "? [a, b]\n: c\n!!set {d, e}: ~",
        "%YAML 1.1\n---\na: |\n  x\nb: >\n  y\n...\n---\nc: 1",
        "1: 2\n~: 3\n1.5: .nan\n0x1f: 1:30:00",
        "",
    ):
        yield b"\x00" + text.encode()


def endpoints(data: bytes) -> None:
    """Read an endpoint, as from the command line. Only `InvalidArgument` is raised; what is read comes back equal."""
    text = _text(data)
    _read(InvalidArgument, lambda: parse_endpoint(text, "argument"))
    _read(InvalidArgument, lambda: split_address(text))
    endpoint = _read(InvalidArgument, lambda: Endpoint.parse(text))
    if endpoint is None:
        return
    assert Endpoint.parse(str(endpoint)) == endpoint
    if endpoint.scheme == "unix":
        os.fsencode(endpoint.path)
    else:
        assert split_address(endpoint.address) == (endpoint.host, endpoint.port)
        endpoint.host.encode("idna")  # as a socket does


def endpoints_seeds() -> Iterator[bytes]:
    """Endpoints of each form."""
    for text in (
        *("unix:///run/flame.sock", "frames://127.0.0.1:7000", "http://localhost", "http://[::1]:80/", "embedded"),
        *("https://x", "grpcs://x", "tcp://x:1", "http://", "frames://h:", "http://h:99999", "[::1", "unix://x"),
        "unix:///" + "x" * 120,
    ):
        yield text.encode()


def names(data: bytes) -> None:
    """Read names, task ids and resources. Only `InvalidArgument` is raised; what is read means one thing only."""
    text = _text(data)
    for check in (check_session_id, check_application_name, check_node_name):
        name = _read(InvalidArgument, partial(check, text))
        if name is not None:
            assert name == text == text.strip()
            assert name.isascii()
            assert Path("/d", name).parent == Path("/d"), "a name is used as a file's"
    task = _read(InvalidArgument, lambda: task_id_from_text(text))
    assert task is None or task == int(text) >= 1
    resources = _read(InvalidArgument, lambda: Resources.parse(text))
    if resources is None:
        return
    assert Resources.parse(str(resources)) == resources
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(resources), type=Resources) == resources


def names_seeds() -> Iterator[bytes]:
    """Names, ids and resources."""
    for text in (
        *("s-1", "a.b_C", "..", ".x", "x" * 128, "x" * 253, "1", "9223372036854775807", "0", "007"),
        *("cpu=1,mem=1g,gpu=0", "memory=5MiB", "cpu = 2 , mem=1Kb", "mem=12t,cpu=0", "gpu=1", "cpu=1,cpu=2", ",,"),
    ):
        yield text.encode()


def records(data: bytes) -> None:
    """Read a record of a failure, which services write, and a runtime file: anything is read as something."""
    failure = FailureRecord.decode(data)
    assert FailureRecord.decode(failure.encode()) == failure
    failure.message.encode()
    with _File(data) as path:
        cluster = runtime.read(str(path))
    if cluster is not None:
        assert msgspec.json.decode(msgspec.json.encode(cluster), type=runtime.Cluster) == cluster


def records_seeds() -> Iterator[bytes]:
    """Records as they are written, and other things."""
    yield FailureRecord("it broke", "a.B", "Traceback ...").encode()
    yield FailureRecord("\udc80").encode()
    yield msgspec.json.encode(runtime.Cluster(data_dir="/d", endpoint="unix:///s", grpc="http://h:1", supervisor=7))
    yield from (b"", b"\xff", b"plain text", b'{"message": "x", "more": [[{}]]}', b'{"message": "\\ud800"}')


def _read(refusal: type[FlameError], read: Callable[[], Value], named: str = "") -> Value | None:
    """What `read` returns, or None where it is refused, in words that begin with what is `named`."""
    try:
        return read()
    except refusal as error:
        if not error.message.startswith(named):
            raise AssertionError(f"{error.message!r} does not name {named}") from error
        return None


class _File:
    """A file in memory."""

    def __init__(self, data: bytes) -> None:
        self._descriptor = os.memfd_create("fuzz")
        os.write(self._descriptor, data)

    def __enter__(self) -> Path:
        return Path(f"/proc/self/fd/{self._descriptor}")

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _text(data: bytes) -> str:
    """Text as it may come from a program: any code point, also half ones."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")


def _use(config: Any) -> None:
    """What a component does with its configuration as it starts."""
    if isinstance(config, SessionManagerConfig):
        if config.frames:
            assert Endpoint.parse(config.frames).scheme != "http"
        if config.grpc:
            split_address(config.grpc)
        if config.default_resources:
            Resources.parse(config.default_resources)
    else:
        assert Endpoint.parse(config.endpoint).scheme != "http"
        if config.memory:
            Resources.parse(f"mem={config.memory}")
        resources = Resources(cpu=config.cpu, gpu=config.gpu)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(resources), type=Resources) == resources


_CLIENT: Final = """\
current-context: x
contexts:
  - name: x
    cluster: {endpoint: "http://h:1", tls: {ca_file: /c, cert_file: /d, key_file: /e}}
    cache: {endpoint: "grpc://h:2", storage: /s}
    package: {storage: /p, excludes: [a, b]}
    runner: {template: t}
    app: y
"""
_SESSION_MANAGER: Final = """\
data_dir: /d
mode: memory
frames: frames://127.0.0.1:0
grpc: 127.0.0.1:8080
default_resources: cpu=1,mem=1g
limits: {max_task_bytes: 5, lease_ms: 1, start_timeout_ms: 2, enter_timeout_ms: 3, low_space_bytes: 0}
"""
_EXECUTOR_MANAGER: Final = """\
data_dir: /d
endpoint: unix:///d/s
node: n
executors: 4
gpu: 1
cpu: 2
memory: 8g
root: /
max_log_bytes: 100
"""
