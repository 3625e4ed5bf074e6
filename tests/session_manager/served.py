"""A session manager inside the test's event loop: driver and frontend over a memory store."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from flame.config.components import SessionManagerConfig
from flame.core.control.recovery import recover
from flame.session_manager.driver import Clock, Driver
from flame.session_manager.frontend import Frontend
from flame.session_manager.main import register_builtin, settings_of
from flame.stores.memory import MemoryStore
from flame.stores.port import Store
from flame.wire.published import FRONTEND_METHODS

Result = TypeVar("Result")


class Served:
    """A running driver with its frontend."""

    def __init__(self, store: Store, epoch: int) -> None:
        snapshot = store.recover()
        clock = Clock(snapshot.time_ms)
        config = SessionManagerConfig(data_dir="/unused", mode="memory")
        self.state = recover(snapshot, settings_of(config, store), epoch, clock.now_ms())
        if epoch == 1:
            register_builtin(self.state, store, clock.now_ms())
        self.store = store
        self.driver = Driver(self.state, store, clock)
        self.frontend = Frontend(self.driver, 60_000)

    async def call(self, name: str, request: Message) -> Message:
        """Call a unary method of the published Frontend."""
        method = f"/flame.v1.Frontend/{name}"
        payload = await self.frontend.call(method, request.SerializeToString())
        return FRONTEND_METHODS[method].response.FromString(payload)

    async def stream(self, name: str, request: Message) -> list[Message]:
        """Call a streaming method to its end."""
        method = f"/flame.v1.Frontend/{name}"
        response = FRONTEND_METHODS[method].response
        payloads = self.frontend.stream(method, request.SerializeToString())
        return [response.FromString(payload) async for payload in payloads]


def serve(test: Callable[[Served], Awaitable[Result]], store: Store | None = None) -> Result:
    """Run a test coroutine against a fresh session manager."""

    async def main() -> Result:
        used = store or MemoryStore()
        served = Served(used, used.open())
        try:
            return await test(served)
        finally:
            served.driver.close()

    return asyncio.run(main())
