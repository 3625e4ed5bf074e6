"""The session manager's process."""

import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from flame import __version__
from flame.carriers import frames
from flame.carriers.backlog import Backlog
from flame.carriers.port import Listener
from flame.config.components import SessionManagerConfig
from flame.core.control.entities import Application, Settings
from flame.core.control.recovery import recover
from flame.core.control.state import State
from flame.model.errors import FlameError
from flame.model.limits import MAX_STRANGERS, RESIDENT_INPUT_BYTES, RESULT_WINDOW_BYTES
from flame.model.messages import Hello, Welcome
from flame.model.records import ApplicationRecord, PutApplication
from flame.model.resources import DEFAULT_RESOURCES, Resources
from flame.model.specs import ApplicationSpec
from flame.sandbox.host import give_back_freed_memory, keep_freed_memory, raise_file_limit
from flame.session_manager.driver import Clock, Driver
from flame.session_manager.frontend import Frontend
from flame.session_manager.links import Reception
from flame.stores.port import Store

_LOOK_S = 1.0
"""How often it is looked whether the file of the socket is there."""

_log = logging.getLogger("flame.session_manager")


def run(config: SessionManagerConfig) -> int:
    """Run a session manager until SIGTERM or SIGINT; return the exit code.

    Raises:
        FlameError: it cannot start; the message says why.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    # A commit in a thread must not wait for a busy event loop: the default of 5 ms is fifteen times a commit.
    sys.setswitchinterval(0.0005)
    keep_freed_memory()
    raise_file_limit()
    store = make_store(config)
    epoch = store.open()
    try:
        _run_loop(_serve(config, store, epoch))
    finally:
        store.close()
    return 0


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def make_store(config: SessionManagerConfig) -> Store:
    """The store the configuration names."""
    if config.mode == "memory":
        from flame.stores.memory import MemoryStore

        return MemoryStore()
    from flame.stores.sqlite import SqliteStore

    return SqliteStore(Path(config.data_dir) / "store")


def settings_of(config: SessionManagerConfig, store: Store) -> Settings:
    """What the core needs of the configuration."""
    limits = config.limits
    return Settings(
        store_id=store.store_id,
        max_task_bytes=limits.max_task_bytes,
        lease_ms=limits.lease_ms,
        start_timeout_ms=limits.start_timeout_ms,
        enter_timeout_ms=limits.enter_timeout_ms,
        delay_release_ms=limits.delay_release_ms,
        low_space_bytes=limits.low_space_bytes,
        default_resources=Resources.parse(config.default_resources) if config.default_resources else DEFAULT_RESOURCES,
        resident_input_bytes=RESIDENT_INPUT_BYTES,
        result_window_bytes=RESULT_WINDOW_BYTES,
    )


async def _serve(config: SessionManagerConfig, store: Store, epoch: int) -> None:
    snapshot = store.recover()
    clock = Clock(snapshot.time_ms)
    state = recover(snapshot, settings_of(config, store), epoch, clock.now_ms())
    if epoch == 1:
        register_builtin(state, store, clock.now_ms())
    del snapshot
    driver = Driver(state, store, clock)
    frontend = Frontend(driver, config.limits.delay_release_ms)
    listeners: list[Listener] = []
    frames_endpoint = ""
    endpoint = config.frames or _default_endpoint(config.data_dir)

    def welcome(hello: Hello) -> Welcome:
        return Welcome(
            software=f"flame-engine {__version__}",
            store_id=store.store_id,
            epoch=epoch,
            frames_endpoint=frames_endpoint,
            max_task_bytes=config.limits.max_task_bytes,
        )

    stop = _told_to_stop()
    max_strangers = min(MAX_STRANGERS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
    reception = Reception(driver, frontend, welcome, max_strangers)
    backlog = Backlog(ended=lambda: asyncio.get_running_loop().call_later(0.5, give_back_freed_memory))
    try:
        # The frame endpoint comes last: whoever it answers may rely on the other one.
        if config.grpc:
            from flame.carriers.grpc_server import serve_grpc

            ours = (reception.connected, frontend, welcome, reception.warn, backlog)
            listeners.append(await serve_grpc(config.grpc, *ours))
        who = (reception.connected, backlog)
        frames_listener = await frames.serve(endpoint, *who)
        listeners.append(frames_listener)
        frames_endpoint = frames_listener.endpoint
        _log.info(
            "session manager %s: epoch %d, %s, %d sessions, pid %d",
            ", ".join(listener.endpoint for listener in listeners),
            epoch,
            config.mode,
            len(state.sessions),
            os.getpid(),
        )
        await _keep_listening(stop, frames_listener, listeners, lambda: frames.serve(endpoint, *who))
    finally:
        for listener in listeners:
            await listener.stop()
        driver.close()


async def _keep_listening(
    stop: asyncio.Event,
    listener: frames.FramesListener,
    listeners: list[Listener],
    serve: Callable[[], Awaitable[frames.FramesListener]],
) -> None:
    """Until the stop, listen again wherever the file of the socket is gone: new executors could not come any more."""
    said = ""
    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK_S)
        if stop.is_set() or not listener.lost:
            continue
        try:
            listener = await serve()
            listeners.append(listener)
            now = f"{listener.endpoint}: its file was removed, listening there again"
        except FlameError as error:
            now = f"nobody can connect any more: {error}"
        if now != said or not listener.lost:
            _log.warning("%s", now)
            said = now


def _default_endpoint(data_dir: str) -> str:
    place = Path(data_dir) / "run"
    place.mkdir(mode=0o700, exist_ok=True)
    return f"unix://{place}/session-manager.sock"


def register_builtin(state: State, store: Store, now_ms: int) -> None:
    """A fresh cluster has the application `flmping`."""
    spec = ApplicationSpec(
        service="flame.service.flmping:Ping", description="Answers with host, duration and memory used"
    )
    record = ApplicationRecord(name="flmping", spec=spec, created_ms=now_ms)
    store.commit(state.epoch, [PutApplication(record)])
    state.applications[record.name] = Application(record=record)


def _told_to_stop() -> asyncio.Event:
    """Set once the process is told to stop. Made before anybody can be answered, who might tell it at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
