"""Virtual time, and links between peers and the session manager that delay, lose and break."""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Protocol

from flame.model.messages import Message

NS_PER_MS = 1_000_000


class VirtualTime:
    """A queue of things that happen later.

    Example:
        >>> time = VirtualTime()
        >>> time.after(5, lambda: None)
        >>> time.step(), time.now_ns
        (True, 5)
    """

    def __init__(self) -> None:
        self.now_ns = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = 0

    @property
    def now_ms(self) -> int:
        """The present time in whole milliseconds."""
        return self.now_ns // NS_PER_MS

    def after(self, delay_ns: int, do: Callable[[], None]) -> None:
        """Do something `delay_ns` from now; what is due at one time is done in the order of the calls."""
        self._serial += 1
        heappush(self._queue, (self.now_ns + delay_ns, self._serial, do))

    def step(self) -> bool:
        """Go to the next thing and do it; False if there is none."""
        if not self._queue:
            return False
        self.now_ns, _, do = heappop(self._queue)
        do()
        return True


class End(Protocol):
    """Who receives at one end of a link."""

    def received(self, link: "SimLink", message: Message) -> None:
        """A message arrived."""

    def closed(self, link: "SimLink") -> None:
        """The link is over; nothing more arrives."""


class _Lane:
    """One direction of a link: in order, each message after a delay of its own."""

    def __init__(self, time: VirtualTime, random: Random, longest_ns: int) -> None:
        self._time = time
        self._random = random
        self._longest_ns = longest_ns
        self._last_ns = 0
        self._dropped = False
        self.ended = False

    def put(self, do: Callable[[], None]) -> None:
        at_ns = max(self._last_ns, self._time.now_ns + self._random.randrange(1_000, self._longest_ns))
        self._last_ns = at_ns
        self._time.after(at_ns - self._time.now_ns, lambda: None if self._dropped else do())

    def end(self, closed: Callable[[], None], *, drop: bool) -> None:
        if self.ended:
            return
        self.ended = True
        if drop:
            self._dropped = True
            self._time.after(self._random.randrange(1_000, self._longest_ns), closed)
        else:
            self.put(closed)


class SimLink:
    """A link of a peer to the session manager.

    Args:
        number: as the session manager counts links.
        peer, server: who receives at the two ends.
        longest_ns: the longest a message takes.
    """

    def __init__(
        self, time: VirtualTime, random: Random, *, number: int, peer: End, server: End, longest_ns: int
    ) -> None:
        self.number = number
        self._random = random
        self._peer = peer
        self._server = server
        self._up = _Lane(time, random, longest_ns)
        self._down = _Lane(time, random, longest_ns)

    def send_up(self, message: Message) -> None:
        """The peer sends."""
        if not self._up.ended:
            self._up.put(lambda: self._server.received(self, message))

    def send_down(self, message: Message) -> None:
        """The session manager sends."""
        if not self._down.ended:
            self._down.put(lambda: self._peer.received(self, message))

    def end_by_peer(self) -> None:
        """The peer closes its end, or its process ended: what it sent before still arrives."""
        self._up.end(lambda: self._server.closed(self), drop=False)
        self._down.end(lambda: None, drop=True)

    def end_by_server(self) -> None:
        """The session manager closes its end, or ended: what it sent before still arrives."""
        self._down.end(lambda: self._peer.closed(self), drop=False)
        self._up.end(lambda: None, drop=True)

    def cut(self) -> None:
        """The network breaks it: of what is under way, each direction arrives or does not."""
        self._up.end(lambda: self._server.closed(self), drop=self._random.random() < 0.5)
        self._down.end(lambda: self._peer.closed(self), drop=self._random.random() < 0.5)
