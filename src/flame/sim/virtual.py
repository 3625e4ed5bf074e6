"""Virtual time, and links between peers and the session manager: real frames of bytes, delayed, stalled and cut."""

from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any, Protocol

from flame.model.messages import Message
from flame.protocol.frames import MAGIC, FrameDecoder, frame_header
from flame.wire.packing import decode_manager, decode_peer, encode

NS_PER_MS = 1_000_000
RECONNECT_MS = range(5, 300)
"""So long waits who lost its connection before it connects again."""


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


class Process:
    """Something that can be stopped for a while: nothing is delivered to it, and its timers wait.

    Attributes:
        paused_until_ns: when it goes on.
    """

    def __init__(self, time: VirtualTime) -> None:
        self.paused_until_ns = 0
        self._time = time

    def pause(self, for_ns: int) -> None:
        """Stop for a while, as with SIGSTOP and SIGCONT."""
        self.paused_until_ns = max(self.paused_until_ns, self._time.now_ns + for_ns)

    def _awake(self, delay_ns: int, do: Callable[[], None]) -> None:
        """Do something later, or when it is not stopped any more."""

        def due() -> None:
            if self.paused_until_ns > self._time.now_ns:
                self._time.after(self.paused_until_ns - self._time.now_ns, due)
            else:
                do()

        self._time.after(delay_ns, due)


class End(Protocol):
    """Who receives at one end of a link."""

    paused_until_ns: int

    def received(self, link: "SimLink", message: Message) -> None:
        """A message arrived."""

    def closed(self, link: "SimLink") -> None:
        """The link is over; nothing more arrives."""


class _Lane:
    """One direction of a link: frames in order, each after a delay of its own."""

    def __init__(self, link: "SimLink", end: End, decode: Callable[[Any], Message], longest_ns: int) -> None:
        self._link = link
        self._end = end
        self._decode = decode
        self._time = link.time
        self._random = link.random
        self._longest_ns = longest_ns
        self._decoder = FrameDecoder()
        self._under_way: deque[tuple[int, bytes | None]] = deque()
        self._head = MAGIC
        self._last_ns = 0
        self._scheduled = False
        self._silent = False
        self.stalled_until_ns = 0
        self.waited: Callable[[int], None] | None = None
        self.ended = False

    def put(self, message: Message) -> None:
        payload = encode(message)
        self._append(self._head + frame_header(len(payload)) + payload)
        self._head = b""

    def _append(self, data: bytes | None) -> None:
        now_ns = self._time.now_ns
        self._last_ns = max(self._last_ns, now_ns + self._random.randrange(1_000, self._longest_ns))
        self._under_way.append((self._last_ns, data))
        self._schedule()

    def _schedule(self) -> None:
        if self._under_way and not self._scheduled:
            self._scheduled = True
            at_ns = max(self._under_way[0][0], self.stalled_until_ns, self._end.paused_until_ns)
            self._time.after(max(0, at_ns - self._time.now_ns), self._deliver)

    def _deliver(self) -> None:
        now_ns = self._time.now_ns
        if max(self.stalled_until_ns, self._end.paused_until_ns) <= now_ns:
            waited, self.waited = self.waited, None
            if waited is not None:
                waited(sum(data is not None and at_ns < self.stalled_until_ns for at_ns, data in self._under_way))
            while self._under_way and self._under_way[0][0] <= now_ns:
                self._take(self._under_way.popleft()[1])
        self._scheduled = False
        self._schedule()

    def _take(self, data: bytes | None) -> None:
        if data is not None:
            for payload in self._decoder.feed(data):
                self._end.received(self._link, self._decode(payload))
            return
        if self._decoder.mid_message:
            self._link.counts["cut in a message"] += 1
        if not self._silent:
            self._end.closed(self._link)

    def end(self, *, silent: bool) -> None:
        """The sender closes: what is under way still arrives; `silent` if the other end closes, and reads no more."""
        if self.ended:
            return
        self.ended = True
        if silent:
            self._silent = True
            self._under_way.clear()
        self._append(None)

    def cut(self) -> None:
        """The network breaks it: of the bytes under way some arrive, and may end in the middle of a message."""
        if self.ended:
            return
        self.ended = True
        left = self._random.randrange(sum(len(data or b"") for _, data in self._under_way) + 1)
        kept: deque[tuple[int, bytes | None]] = deque()
        for at_ns, data in self._under_way:
            if data and left > 0:
                kept.append((at_ns, data[:left]))
                left -= len(data)
        self._under_way = kept
        self._append(None)


class SimLink:
    """A link of a peer to the session manager.

    Args:
        number: as the session manager counts links.
        peer, server: who receives at the two ends.
        longest_ns: the longest a message takes.
        counts: how often what happened.
    """

    def __init__(
        self,
        time: VirtualTime,
        random: Random,
        *,
        number: int,
        peer: End,
        server: End,
        longest_ns: int,
        counts: Counter[str] | None = None,
    ) -> None:
        self.time = time
        self.random = random
        self.number = number
        self.peer = peer
        self.counts = Counter() if counts is None else counts
        self._up = _Lane(self, server, decode_peer, longest_ns)
        self._down = _Lane(self, peer, decode_manager, longest_ns)

    @property
    def ended(self) -> bool:
        """Whether it is closed by one side or cut."""
        return self._up.ended or self._down.ended

    def send_up(self, message: Message) -> None:
        """The peer sends."""
        if not self._up.ended:
            self._up.put(message)

    def send_down(self, message: Message) -> None:
        """The session manager sends."""
        if not self._down.ended:
            self._down.put(message)

    def end_by_peer(self) -> None:
        """The peer closes its end, or its process ended: what it sent before still arrives."""
        self._up.end(silent=False)
        self._down.end(silent=True)

    def end_by_server(self) -> None:
        """The session manager closes its end, or ended: what it sent before still arrives."""
        self._down.end(silent=False)
        self._up.end(silent=True)

    def cut(self) -> None:
        """The network breaks it, at any byte of each direction."""
        self._up.cut()
        self._down.cut()

    def stall(
        self, until_ns: int, *, up: bool = True, down: bool = True, waited: Callable[[int], None] | None = None
    ) -> None:
        """Nothing arrives until then; what was sent meanwhile arrives afterwards.

        Args:
            waited: called with how many messages had to wait, for each direction when the first of them arrives.
        """
        for lane in (*(self._up,) * up, *(self._down,) * down):
            lane.stalled_until_ns = max(lane.stalled_until_ns, until_ns)
            lane.waited = waited or lane.waited
