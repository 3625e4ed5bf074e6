"""gRPC calls under way, and what they have answered and their peers have not taken: counted with all else unread.

grpc takes an answer whether its peer reads or not, and has no way to end a call or a connection from this side. So the
connection of a peer that leaves too much unread is shut down below grpc, which then lets go of all it keeps for it.
"""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from flame.carriers.backlog import Backlog
from flame.model.endpoint import split_address
from flame.model.errors import ResourceExhausted
from flame.model.limits import KIB

CALL_BYTES: Final = 16 * KIB
"""What a call under way is counted for, beside its answer; it takes some 22 KiB."""
MAX_CALLS: Final = 30_000
"""Calls under way over all connections: so many alone are no reason to end one. Beyond them new ones are refused."""
MAX_CALLS_PER_PEER: Final = 10_000
"""Calls under way over one connection."""


class Answers:
    """The calls under way of a server, and their answers.

    Args:
        backlog: counts what peers have not read, also of other carriers.
        warn: told when a connection is ended.
    """

    def __init__(self, backlog: Backlog, warn: Callable[[str], None]) -> None:
        self._backlog = backlog
        self._warn = warn
        self._peers: dict[str, _Peer] = {}

    def begin(self, peer: str) -> "CallUnderWay":
        """A call has arrived.

        Args:
            peer: `host:port` of the other side.

        Raises:
            ResourceExhausted: too many of this peer are under way.
        """
        one = self._peers.get(peer)
        if one is None:
            one = self._peers[peer] = _Peer(peer, self._warn)
        if one.calls >= MAX_CALLS_PER_PEER:
            text = f"{MAX_CALLS_PER_PEER} calls of this connection are under way"
            raise ResourceExhausted(text, hint="wait for answers before more calls, or submit tasks over a stream")
        one.calls += 1
        call = CallUnderWay(self, one)
        call.keep(CALL_BYTES)
        return call

    def kept(self, peer: "_Peer", nbytes: int) -> None:
        """So much more is kept for a peer, or less."""
        peer.kept_bytes += nbytes
        if nbytes > 0:
            self._backlog.queued(peer, nbytes)
        elif not peer.calls:
            self._backlog.caught_up(peer)
            self._peers.pop(peer.name, None)


class CallUnderWay:
    """A call, from its arrival until its peer has taken the answer or is gone."""

    __slots__ = ("_answers", "_kept_bytes", "_peer")

    def __init__(self, answers: Answers, peer: "_Peer") -> None:
        self._answers = answers
        self._peer = peer
        self._kept_bytes = 0

    def keep(self, nbytes: int) -> None:
        """So much more is kept for it."""
        self._kept_bytes += nbytes
        self._answers.kept(self._peer, nbytes)

    def answered(self, nbytes: int) -> None:
        """A message of its answer is given to grpc, which makes a copy."""
        self.keep(2 * nbytes)

    def taken(self, nbytes: int) -> None:
        """The peer has taken that message."""
        self.keep(-2 * nbytes)

    def over(self, _: object = None) -> None:
        """Nothing of it is left."""
        self._peer.calls -= 1
        self.keep(-self._kept_bytes)


class _Peer:
    """A connection with calls under way."""

    __slots__ = ("_ended", "_warn", "calls", "kept_bytes", "name")

    def __init__(self, name: str, warn: Callable[[str], None]) -> None:
        self.name = name
        self.calls = 0
        self.kept_bytes = 0
        self._ended = False
        self._warn = warn

    def buffered_bytes(self) -> int:
        """What is kept for it; nothing once its connection is ended, since grpc lets go of it as soon as it notices."""
        return 0 if self._ended else self.kept_bytes

    def fail(self, reason: str) -> None:
        """End the connection: its calls end with it."""
        self._ended = True
        self._warn(f"peer {self.name}: {reason}")
        shut_down(self.name)


def shut_down(peer: str) -> None:
    """Shut down this process's TCP connections to a peer, `host:port`, whoever has opened them."""
    wanted = split_address(peer)
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed by now, or not connected
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as connection:
                place = connection.getpeername()
                # grpc takes IPv4 on IPv6 sockets.
                if isinstance(place, tuple) and (place[0].removeprefix("::ffff:"), place[1]) == wanted:
                    connection.shutdown(socket.SHUT_RDWR)
