"""Links of peers: from a carrier's callbacks to events of the core and calls of the frontend."""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import count

from flame.carriers.port import Link, LinkHandler
from flame.core.control.events import ClientLost, ClientSaid, ExecutorLost, ExecutorSaid, NodeLost, NodeSaid
from flame.model.errors import FlameError, Internal, Rejection, TooLarge
from flame.model.limits import (
    HELLO_TIMEOUT_S,
    KIB,
    MAX_CALLS_PER_CONNECTION,
    MAX_CONNECTIONS,
    MAX_MESSAGE_BYTES,
    MAX_MESSAGES_AT_ONCE,
    MAX_STRANGERS,
)
from flame.model.messages import Call, Hello, Message, Refused, Reply, Role, Welcome
from flame.protocol.peers import ClientLinks, PeerEnd
from flame.session_manager.driver import Driver
from flame.session_manager.frontend import Frontend
from flame.session_manager.warnings import Warnings, log


class Reception:
    """Takes new links of every carrier.

    Args:
        driver: gets the events.
        frontend: answers the calls.
        welcome: makes the answer to a Hello.
        max_strangers: links that have not said Hello, at most; for a process that may open few files, fewer.
    """

    def __init__(
        self,
        driver: Driver,
        frontend: Frontend,
        welcome: Callable[[Hello], Welcome],
        max_strangers: int = MAX_STRANGERS,
    ) -> None:
        self.strangers: dict[int, _PeerLink] = {}
        """Links that have not said Hello, by number: the oldest comes first."""
        self.clients: ClientLinks[_PeerLink] = ClientLinks()
        """The link of each client that says who it is."""
        self.warn = Warnings().warn
        self.crowd: deque[_PeerLink] = deque()
        """Clients of which messages are held back, in the order in which they are served."""
        self.driver = driver
        driver.after_turn = self._feed
        self.frontend = frontend
        self._welcome = welcome
        self._max_strangers = max_strangers
        self._numbers = count(1)

    def connected(self, link: Link) -> LinkHandler:
        """A new link; returns its handler."""
        if len(self.strangers) >= self._max_strangers:
            next(iter(self.strangers.values())).give_way(self._max_strangers)
        number = next(self._numbers)
        peer = self.strangers[number] = _PeerLink(number, link, self, PeerEnd(self._welcome))
        return peer

    def _feed(self) -> None:
        """Offer a few messages of each client of which some were held back, as far as the next turn takes them."""
        for _ in range(len(self.crowd)):
            if self.driver.is_full():
                break
            peer = self.crowd.popleft()
            if peer.feed():
                self.crowd.append(peer)


class _PeerLink:
    """One link of a peer."""

    __slots__ = (
        "_calls",
        "_driver",
        "_end",
        "_frontend",
        "_inbox",
        "_link",
        "_number",
        "_paused",
        "_reception",
        "_refused",
        "_said",
        "_silence",
        "_turn",
        "_waiting",
    )

    def __init__(self, number: int, link: Link, reception: Reception, end: PeerEnd) -> None:
        self._number = number
        self._link = link
        self._reception = reception
        self._driver = reception.driver
        self._frontend = reception.frontend
        self._end = end
        self._calls: set[asyncio.Task[None]] = set()
        self._waiting: deque[Call] = deque()
        """Calls for which there is no room among those."""
        self._inbox: deque[Message] = deque()
        self._paused = False
        self._said = 0
        self._turn = -1
        """How many messages were said since this turn."""
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
        turn = self._driver.state.turn
        if turn != self._turn:
            self._turn, self._said = turn, 0
        self._said += 1
        if self._said <= MAX_MESSAGES_AT_ONCE and not self._inbox and not self._driver.is_full():
            self._offer(message)
            return
        if not self._inbox:
            self._reception.crowd.append(self)
        self._inbox.append(message)
        self._pause_or_resume()

    def feed(self) -> bool:
        """Handle a few of the messages that were held back; return whether there are more."""
        for _ in range(MAX_MESSAGES_AT_ONCE):
            if not self._inbox:
                break
            self._offer(self._inbox.popleft())
            if self._refused:
                self._inbox.clear()
        self._pause_or_resume()
        return bool(self._inbox)

    def _pause_or_resume(self) -> None:
        """Who is ahead of us is not read from, so that what is held back is bounded by what was read at once."""
        pause = bool(self._inbox or self._waiting)
        if pause != self._paused:
            self._paused = pause
            if pause:
                self._link.pause()
            else:
                self._link.resume()

    def _offer(self, message: Message) -> None:
        try:
            self._driver.check_room()
        except FlameError as error:
            self._refuse(Refused(Rejection.of(error)))
            return
        self._driver.offer(ClientSaid(self._number, message))  # type: ignore[arg-type]

    def _greet(self, message: Message) -> None:
        self._is_no_stranger()
        answer = self._end.greet(message)
        if isinstance(answer, Refused):
            self._refuse(answer)
            return
        former = self._reception.clients.came(self._end.client, self._number, self)
        if former is self:  # its client has come again meanwhile, and this was read late
            self.supersede()
            return
        if former is None and len(self._driver.links) >= MAX_CONNECTIONS:
            error = Rejection("RESOURCE_EXHAUSTED", f"{MAX_CONNECTIONS} peers are connected already")
            self._refuse(Refused(error))
            return
        self._driver.links[self._number] = self._link
        self._link.send(answer)
        if former is not None:
            former.supersede()

    def _is_no_stranger(self) -> None:
        self._silence.cancel()
        self._reception.strangers.pop(self._number, None)

    def give_way(self, strangers: int) -> None:
        """End the link at once, because too many of its kind are there."""
        self._reception.warn(
            f"peer {self._link.peer} refused: {strangers} connections have not said Hello, and this is the oldest"
        )
        self._refused = True
        self._is_no_stranger()
        self._link.abort()

    def supersede(self) -> None:
        """Its client has a newer connection: what is still to be read here counts no more."""
        self._refused = True
        self._drop_what_waits()
        self._link.abort()

    def _drop_what_waits(self) -> None:
        for task in self._calls:
            task.cancel()
        self._inbox.clear()
        self._waiting.clear()

    def _no_hello(self) -> None:
        error = Rejection("FAILED_PRECONDITION", f"no Hello within {HELLO_TIMEOUT_S} s")
        self._refuse(Refused(error))

    def _refuse(self, refused: Refused) -> None:
        self._reception.warn(f"peer {self._link.peer} refused: {refused.error.message}")
        self._refused = True
        self._is_no_stranger()
        self._link.send(refused)
        self._link.close()

    def _call(self, call: Call) -> None:
        if len(self._calls) >= MAX_CALLS_PER_CONNECTION:
            self._waiting.append(call)
            self._pause_or_resume()
            return
        task = asyncio.get_running_loop().create_task(self._answer(call))
        self._calls.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        self._calls.discard(task)
        if self._waiting:
            self._call(self._waiting.popleft())
            self._pause_or_resume()

    async def _answer(self, call: Call) -> None:
        try:
            reply = Reply(id=call.id, payload=await self._frontend.call(call.method, call.payload))
        except FlameError as error:
            reply = Reply(id=call.id, error=Rejection.of(error))
        except Exception:
            log.exception("%s failed", call.method)
            reply = Reply(id=call.id, error=Rejection.of(Internal(f"{call.method} failed; the log says why")))
        if len(reply.payload) > MAX_MESSAGE_BYTES - KIB:
            large = TooLarge(f"the answer of {call.method} has {len(reply.payload)} bytes, more than a message holds")
            reply = Reply(id=call.id, error=Rejection.of(large))
        self._link.send(reply)

    def closed(self, reason: str) -> None:
        end, driver, number = self._end, self._driver, self._number
        self._is_no_stranger()
        if reason:
            self._reception.warn(f"peer {self._link.peer}: {reason}")
        self._drop_what_waits()
        self._reception.clients.left(end.client, number)
        driver.links.pop(number, None)
        if end.executor:
            driver.offer(ExecutorLost(end.executor, end.binding, number))
        elif end.node:
            driver.offer(NodeLost(end.node, number))
        elif end.role is Role.CLIENT:
            driver.offer(ClientLost(number))
