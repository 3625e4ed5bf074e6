"""The executor manager's process: what `flame executor-manager` runs."""

import asyncio
import contextlib
import fcntl
import os
import platform
import signal
import socket
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flame.config.components import ExecutorManagerConfig
from flame.executor_manager.capacity import capacity_of
from flame.executor_manager.launcher import Launcher
from flame.executor_manager.node import Node
from flame.model.errors import ConfigurationError
from flame.model.specs import check_node_name
from flame.protocol.node import NodeHalf, NodeIdentity
from flame.sandbox.host import adopt_orphans, raise_file_limit, remove_tree


def run(config: ExecutorManagerConfig) -> int:
    """Be a node until SIGTERM or SIGINT; then nothing of its executors is left. Call from the main thread.

    Returns:
        The exit code: 0, or 1 after a failure of its own, which it has printed.

    Raises:
        ConfigurationError: the data directory cannot be used, or is used by another node of this name.
        InvalidArgument: the node's name or the endpoint is not valid.
    """
    node = check_node_name(config.node or socket.gethostname())
    data_dir = Path(config.data_dir)
    identity = NodeIdentity(
        node=node,
        instance=uuid.uuid4().hex,
        capacity=capacity_of(config),
        max_executors=config.executors,
        host=socket.gethostname(),
        arch=platform.machine(),
        os=platform.system().lower(),
        software="flame",
    )
    with _own(data_dir, node):
        adopt_orphans()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(config, identity, data_dir, data_dir / "tmp" / node))


async def _serve(config: ExecutorManagerConfig, identity: NodeIdentity, data_dir: Path, temporary_dir: Path) -> int:
    # What an executor manager that was killed could not remove.
    remove_tree(str(temporary_dir))
    node = Node(NodeHalf(identity), config.endpoint, _log)
    launcher = Launcher(
        data_dir=data_dir,
        temporary_dir=temporary_dir,
        node=identity.node,
        endpoint=config.endpoint,
        max_log_bytes=config.max_log_bytes,
        started=node.started,
        exited=node.exited,
        failed=node.failed,
        file_limit=raise_file_limit(),
        log=_log,
    )
    node.launcher = launcher
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_failures_to(node))
    launcher.open()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    _log(f"node {identity.node} with {identity.capacity}")
    driving = asyncio.create_task(node.run())
    ending = asyncio.create_task(over.wait())
    try:
        await asyncio.wait((driving, ending), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await node.stop()
        ending.cancel()
        driving.cancel()
    try:
        await driving
    except asyncio.CancelledError:
        return 0
    except Exception:
        _log(f"ended by a failure of its own, please report it:\n{traceback.format_exc()}")
    return 1


def _failures_to(node: Node) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]:
    """What is done about an exception of a callback: a node that has lost one must not look alive."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or isinstance(error, OSError):  # the network's, and its connection is closed
            loop.default_exception_handler(context)
        else:
            node.failed(error)

    return handle


@contextlib.contextmanager
def _own(data_dir: Path, node: str) -> Iterator[None]:
    """Hold the lock that says that this node is here."""
    path = data_dir / "run" / f"executor-manager-{node}.lock"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"data directory {data_dir} cannot be used: {error.strerror} ({error.filename})",
            hint="give one that this user can write to",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigurationError(
            f"an executor manager of node {node} runs on data directory {data_dir} already",
            hint="stop it, or give this one another node name or data directory",
        ) from None
    else:
        yield
    finally:
        os.close(descriptor)


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


def _log(text: str) -> None:
    with contextlib.suppress(OSError):  # on a full disk the node goes on without its log
        print(f"flame executor-manager: {text}", file=sys.stderr, flush=True)  # noqa: T201
