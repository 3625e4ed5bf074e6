"""Pairs of connected link ends for tests, driven from the test's own thread whatever the carrier is."""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any

import uvloop

from flame.carriers import frames
from flame.carriers.port import Link
from flame.carriers.threads import open_link
from flame.model.messages import Hello, Message, Welcome

WAIT_S = 30.0


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self, *, uv: bool) -> None:
        self.loop = uvloop.new_event_loop() if uv else asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Awaitable[Any]) -> Any:
        """Run a coroutine in the loop and wait for its result."""

        async def wrap() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(wrap(), self.loop).result(WAIT_S)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the loop's thread and wait for its result."""

        async def wrap() -> Any:
            return function(*args)

        return self.run(wrap())

    def stop(self) -> None:
        """End the loop and its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()


class End:
    """One end as the test sees it: what it received, why it was closed."""

    def __init__(self, loop: LoopThread | None) -> None:
        self.link: Any = None
        self.messages: list[Message] = []
        self.reasons: list[str] = []
        self.late: list[Message] = []
        self.gate = threading.Event()
        self.gate.set()
        self._loop = loop
        self._changed = threading.Condition()

    # --- what the carrier calls ---

    def received(self, message: Message) -> None:
        """Record a message; wait while the gate is shut, as a slow reader does."""
        self.gate.wait(WAIT_S)
        with self._changed:
            (self.late if self.reasons else self.messages).append(message)
            self._changed.notify_all()

    def closed(self, reason: str) -> None:
        """Record the end."""
        with self._changed:
            self.reasons.append(reason)
            self._changed.notify_all()

    # --- what the test calls ---

    def wait_for(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until `condition` holds, which must depend on what arrives."""
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_S), (
                f"no {what} in {WAIT_S} s: {len(self.messages)} messages, closed {self.reasons}"
            )

    def wait_messages(self, count: int) -> list[Message]:
        """Wait for that many messages in all, and return them."""
        self.wait_for(lambda: len(self.messages) >= count, f"{count} messages")
        return self.messages

    def wait_closed(self) -> str:
        """Wait for the end, and return why it came."""
        self.wait_for(lambda: self.reasons, "end")
        return self.reasons[0]

    def send(self, *messages: Message) -> None:
        """Send messages, in one turn of the loop if this end has one."""
        self._on_loop(lambda: [self.link.send(message) for message in messages])

    def send_and_close(self, *messages: Message) -> None:
        """Send messages and close, in one turn of the loop if this end has one."""
        self._on_loop(lambda: ([self.link.send(message) for message in messages], self.link.close()))

    def close(self) -> None:
        """Close."""
        self._on_loop(self.link.close)

    def abort(self) -> None:
        """Abort; for asyncio ends."""
        self._on_loop(self.link.abort)

    def buffered_bytes(self) -> int:
        """Bytes this end has queued."""
        return int(self._on_loop(self.link.buffered_bytes))

    def _on_loop(self, function: Callable[[], Any]) -> Any:
        return function() if self._loop is None else self._loop.call(function)


class Pair:
    """A session manager's end and a peer's end of one stream."""

    def __init__(self, manager: End, peer: End, stop: Callable[[], None]) -> None:
        self.manager = manager
        self.peer = peer
        self.stop = stop
        """Stops the listener."""


OpenPair = Callable[[], AbstractContextManager[Pair]]


class NoMethods:
    """No method beside the streams."""

    names: Mapping[str, bool] = MappingProxyType({})

    async def call(self, method: str, payload: bytes) -> bytes:
        """Never called."""
        raise AssertionError(method)

    async def stream(self, method: str, payload: bytes) -> AsyncIterator[bytes]:
        """Never called."""
        raise AssertionError(method)
        yield b""


async def _serve(carrier: str, directory: str, connected: Callable[[Link], End]) -> Any:
    if carrier == "grpc":
        from flame.carriers.grpc_server import serve_grpc

        def welcome(hello: Hello) -> Welcome:
            return Welcome(store_id="s")

        return await serve_grpc("127.0.0.1:0", connected, NoMethods(), welcome, print)
    endpoint = f"unix://{directory}/s" if carrier == "unix" else "frames://127.0.0.1:0"
    return await frames.serve(endpoint, connected)


@contextmanager
def open_pair(carrier: str, kind: str, uv: bool) -> Iterator[Pair]:
    """Connect a peer's end, of kind `thread` or `asyncio`, to a listener of its own."""
    server, directory = LoopThread(uv=uv), tempfile.mkdtemp(prefix="fl")
    manager = End(server)
    arrived = threading.Event()

    def connected(link: Link) -> End:
        manager.link = link
        arrived.set()
        return manager

    listener = server.run(_serve(carrier, directory, connected))
    client = LoopThread(uv=uv) if kind == "asyncio" else None
    peer = End(client)
    try:
        if client is None:
            peer.link = open_link(listener.endpoint, peer.received, peer.closed, timeout_s=WAIT_S)
        else:
            peer.link = client.run(frames.connect(listener.endpoint, lambda link: peer, timeout_s=WAIT_S))
        assert arrived.wait(WAIT_S)
        yield Pair(manager, peer, lambda: server.run(listener.stop()))
    finally:
        manager.gate.set()
        peer.gate.set()
        if peer.link is not None:
            peer.close()
        server.run(listener.stop())
        if peer.link is not None:
            peer.wait_closed()
        for loop in filter(None, (server, client)):
            loop.stop()
        shutil.rmtree(directory)


CARRIERS: dict[str, OpenPair] = {
    "unix-thread": lambda: open_pair("unix", "thread", uv=True),
    "tcp-thread": lambda: open_pair("tcp", "thread", uv=False),
    "unix-asyncio": lambda: open_pair("unix", "asyncio", uv=False),
    "tcp-asyncio": lambda: open_pair("tcp", "asyncio", uv=True),
    "grpc-thread": lambda: open_pair("grpc", "thread", uv=True),
}
"""Every carrier, with both kinds of ends and both event loops among them."""
