"""Links of peers: from a carrier's callbacks to events of the core and calls of the frontend."""

import asyncio
import logging
from collections.abc import Callable
from itertools import count

from flame.carriers.port import Link, LinkHandler
from flame.core.control.events import ClientLost, ClientSaid, ExecutorLost, ExecutorSaid, NodeLost, NodeSaid
from flame.model.errors import FlameError, Internal, Rejection, TooLarge
from flame.model.limits import HELLO_TIMEOUT_S, KIB, MAX_CALLS_PER_CONNECTION, MAX_CONNECTIONS, MAX_MESSAGE_BYTES
from flame.model.messages import Call, Hello, Message, Refused, Reply, Role, Welcome
from flame.protocol.peers import PeerEnd
from flame.session_manager.driver import Driver
from flame.session_manager.frontend import Frontend

_log = logging.getLogger("flame.session_manager")


class Reception:
    """Takes new links of every carrier.

    Args:
        driver: gets the events.
        frontend: answers the calls.
        welcome: makes the answer to a Hello.
    """

    def __init__(self, driver: Driver, frontend: Frontend, welcome: Callable[[Hello], Welcome]) -> None:
        self._driver = driver
        self._frontend = frontend
        self._welcome = welcome
        self._numbers = count(1)

    def connected(self, link: Link) -> LinkHandler:
        """A new link; returns its handler."""
        return _PeerLink(next(self._numbers), link, self._driver, self._frontend, PeerEnd(self._welcome))


class _PeerLink:
    """One link of a peer."""

    __slots__ = ("_calls", "_driver", "_end", "_frontend", "_link", "_number", "_refused", "_silence")

    def __init__(self, number: int, link: Link, driver: Driver, frontend: Frontend, end: PeerEnd) -> None:
        self._number = number
        self._link = link
        self._driver = driver
        self._frontend = frontend
        self._end = end
        self._calls: set[asyncio.Task[None]] = set()
        self._refused = False
        self._silence = asyncio.get_running_loop().call_later(HELLO_TIMEOUT_S, self._no_hello)

    def received(self, message: Message) -> None:
        end = self._end
        if self._refused:
            return
        if end.role is None:
            self._greet(message)
            return
        refused = end.check(message)
        if refused is not None:
            self._refuse(refused)
        elif end.role is Role.CLIENT:
            if isinstance(message, Call):
                self._call(message)
            else:
                self._say(message)
        elif end.role is Role.EXECUTOR:
            self._driver.offer(ExecutorSaid(end.executor, end.binding, self._number, message))  # type: ignore[arg-type]
        else:
            self._driver.offer(NodeSaid(end.node, self._number, message))  # type: ignore[arg-type]

    def _say(self, message: Message) -> None:
        try:
            self._driver.check_room()
        except FlameError as error:
            self._refuse(Refused(Rejection.of(error)))
            return
        self._driver.offer(ClientSaid(self._number, message))  # type: ignore[arg-type]

    def _greet(self, message: Message) -> None:
        if len(self._driver.links) >= MAX_CONNECTIONS:
            error = Rejection("RESOURCE_EXHAUSTED", f"{MAX_CONNECTIONS} peers are connected already")
            self._refuse(Refused(error))
            return
        self._silence.cancel()
        answer = self._end.greet(message)
        if isinstance(answer, Refused):
            self._refuse(answer)
            return
        self._driver.links[self._number] = self._link
        self._link.send(answer)

    def _no_hello(self) -> None:
        error = Rejection("FAILED_PRECONDITION", f"no Hello within {HELLO_TIMEOUT_S} s")
        self._refuse(Refused(error))

    def _refuse(self, refused: Refused) -> None:
        _log.warning("peer %s refused: %s", self._link.peer, refused.error.message)
        self._refused = True
        self._link.send(refused)
        self._link.close()

    def _call(self, call: Call) -> None:
        if len(self._calls) >= MAX_CALLS_PER_CONNECTION:
            error = Rejection("RESOURCE_EXHAUSTED", f"{MAX_CALLS_PER_CONNECTION} calls are under way", "wait for some")
            self._link.send(Reply(id=call.id, error=error))
            return
        task = asyncio.get_running_loop().create_task(self._answer(call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer(self, call: Call) -> None:
        try:
            reply = Reply(id=call.id, payload=await self._frontend.call(call.method, call.payload))
        except FlameError as error:
            reply = Reply(id=call.id, error=Rejection.of(error))
        except Exception:
            _log.exception("%s failed", call.method)
            reply = Reply(id=call.id, error=Rejection.of(Internal(f"{call.method} failed; the log says why")))
        if len(reply.payload) > MAX_MESSAGE_BYTES - KIB:
            large = TooLarge(f"the answer of {call.method} has {len(reply.payload)} bytes, more than a message holds")
            reply = Reply(id=call.id, error=Rejection.of(large))
        self._link.send(reply)

    def closed(self, reason: str) -> None:
        end, driver, number = self._end, self._driver, self._number
        self._silence.cancel()
        if reason:
            _log.warning("peer %s: %s", self._link.peer, reason)
        for task in self._calls:
            task.cancel()
        driver.links.pop(number, None)
        if end.executor:
            driver.offer(ExecutorLost(end.executor, end.binding, number))
        elif end.node:
            driver.offer(NodeLost(end.node, number))
        elif end.role is Role.CLIENT:
            driver.offer(ClientLost(number))
