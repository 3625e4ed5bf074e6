"""A node at work: its link to the session manager, its executors, its lease."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from flame.carriers.frames import connect
from flame.carriers.pauses import Pauses
from flame.carriers.port import Link
from flame.executor_manager.launcher import Exit, Key, Launcher
from flame.model.errors import FlameError, Unavailable
from flame.model.messages import Message
from flame.protocol.node import Action, KillExecutor, NodeHalf, StartExecutor

_CONNECT_TIMEOUT_S: Final = 10.0
_LONGEST_TICK_S: Final = 0.25


class Node:
    """Drives a `NodeHalf`: carries messages, executes actions, looks at the clock.

    Args:
        half: the protocol.
        endpoint: frame endpoint of the session manager.
        log: takes lines for the operator.
    """

    def __init__(self, half: NodeHalf, endpoint: str, log: Callable[[str], None]) -> None:
        self._half = half
        self._endpoint = endpoint
        self._log = log
        self._link: Link | None = None
        self._closed = asyncio.Event()
        self._joined_once = False
        self._failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.launcher: Launcher

    async def run(self) -> None:
        """Stay connected until cancelled.

        Raises:
            ExceptionGroup: something failed that must not, and the node cannot be relied on any more.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick_forever())
            group.create_task(self._stay_connected())
            group.create_task(self._fail())

    def failed(self, error: BaseException) -> None:
        """Let `run` raise this exception, which came up where nobody else can take it."""
        if not self._failure.done():
            self._failure.set_result(error)

    async def _fail(self) -> None:
        raise await self._failure

    async def stop(self) -> None:
        """End all executors; `run` goes on meanwhile, and tells the session manager."""
        self._half.stop()
        await self.launcher.stop()

    async def _stay_connected(self) -> None:
        pauses = Pauses(self._endpoint)
        complained = False
        while True:
            self._closed.clear()
            try:
                await connect(self._endpoint, self._connected, timeout_s=_CONNECT_TIMEOUT_S)
            except Unavailable as error:
                if not complained:
                    self._log(f"{error}; trying again")
                complained = True
                pause_s = pauses.next()
            else:
                pauses.linked()
                await self._closed.wait()
                complained = complained and not self._joined_once
                pause_s = pauses.before_first()
            await asyncio.sleep(pause_s)

    # --- the link's handler ----------------------------------------------------------------------------------------

    def _connected(self, link: Link) -> "Node":
        self._link = link
        self._joined_once = False
        link.send(self._half.hello())
        return self

    def received(self, message: Message) -> None:
        """A message of the session manager."""
        try:
            actions = self._half.received(message, _now_ns())
        except FlameError as error:
            self._log(str(error))
            if self._link:
                self._link.close()
            return
        if self._half.joined and not self._joined_once:
            self._joined_once = True
            self._log(f"joined the session manager at {self._endpoint}")
        self.launcher.page.set_lease_end(self._half.lease_end_ns)
        self._execute(actions)

    def closed(self, reason: str) -> None:
        """The link is over."""
        self._log(f"the link to the session manager is over{': ' + reason if reason else ''}")
        self._link = None
        self._half.disconnected()
        self._closed.set()

    # --- actions ---------------------------------------------------------------------------------------------------

    def _execute(self, actions: Sequence[Message | Action]) -> None:
        for action in actions:
            match action:
                case StartExecutor():
                    self._start(action)
                case KillExecutor(executor=executor, binding=binding, grace_ms=grace_ms):
                    self.launcher.kill((executor, binding), grace_ms)
                case _:
                    if self._link:
                        self._link.send(action)

    def _start(self, action: StartExecutor) -> None:
        key = (action.bind.executor, action.bind.binding)
        try:
            table, log_path = self.launcher.launch(action.bind, action.store_id, action.epoch)
        except OSError as error:
            failure = f"executor {key[0]} cannot be started on this node: {error}"
            self._log(failure)
            self.exited(key, Exit(None, 0, failure, killed=True))
            return
        self._half.opened(*key, table, log_path)

    def started(self, key: Key, pid: int) -> None:
        """The launcher has started a process."""
        self._execute(self._half.started(*key, pid))

    def exited(self, key: Key, end: Exit) -> None:
        """Nothing of an executor is left."""
        code, number, failure, killed = end
        self._execute(self._half.exited(*key, _now_ns(), exit_code=code, signal=number, failure=failure, killed=killed))

    # --- time ------------------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        while True:
            self._execute(self._half.tick(_now_ns()))
            await asyncio.sleep(min(_LONGEST_TICK_S, self._half.lease_ms / 1000 / 20))


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
