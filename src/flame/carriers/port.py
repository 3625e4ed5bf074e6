"""The port of a carrier: how messages travel between a peer and the session manager.

Two carriers implement it, `frames` (length-prefixed frames over a Unix or TCP socket) and `grpc`; one conformance suite
(`tests/carriers/`) covers both. There are two kinds of ends: asyncio ends (`Link`: session manager, executor manager)
and thread ends (`ThreadLink`: SDK and executor, whose user owns the main thread).
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from flame.model.errors import Unavailable
from flame.model.messages import Message


class Link(Protocol):
    """One end of a stream, owned by an event loop. Nothing here blocks or raises."""

    peer: str
    """Who is at the other end, for logs: an address or a process id."""

    def send(self, message: Message) -> None:
        """Queue a message; silently dropped once the link is closed."""

    def buffered_bytes(self) -> int:
        """Bytes queued and not yet taken by the operating system."""

    def pause(self) -> None:
        """Read no more from the other side for now; what has been read already is still delivered."""

    def resume(self) -> None:
        """Read again."""

    def close(self) -> None:
        """Send what is queued, then close. The handler's `closed` follows."""

    def abort(self) -> None:
        """Close at once; what is queued is lost. The handler's `closed` follows."""


class LinkHandler(Protocol):
    """What a link calls, always from its event loop."""

    def received(self, message: Message) -> None:
        """A message arrived. Never called after `closed`."""

    def closed(self, reason: str) -> None:
        """The link is over; called exactly once. `reason` says why (empty for an orderly end), e.g. for garbage on
        the port: what was wrong with it."""


Connected = Callable[[Link], LinkHandler]
"""Called for every new link; returns its handler."""


class Listener(Protocol):
    """A bound server."""

    endpoint: str
    """The endpoint with the real port, e.g. `frames://127.0.0.1:40123` or `unix:///run/x.sock`."""

    async def stop(self) -> None:
        """Stop listening and abort its links; a Unix socket's file is removed."""


class Methods(Protocol):
    """Unary and server-streaming methods, as bytes: what the gRPC carrier serves beside the streams."""

    names: Mapping[str, bool]
    """Full method name (`/flame.v1.Frontend/GetSession`) to whether it streams its responses."""

    async def call(self, method: str, payload: bytes) -> bytes:
        """Answer a unary request; raises `FlameError`, which becomes the status."""

    def stream(self, method: str, payload: bytes) -> AsyncIterator[bytes]:
        """Answer a server-streaming request; raises `FlameError`, which becomes the status."""


class Foreign(Unavailable):
    """What answers there is no session manager of this version. It may be one again: a port has many tenants."""


class ThreadLink(Protocol):
    """One end of a stream for threads.

    An I/O thread of the link's own calls `received(message)` for each message and, exactly once, `closed(reason)`. A
    thread that is in `receive` calls `received` in its place: one of them at a time.
    """

    foreign: bool
    """Whether the link is over because the other side speaks something else: not this version of Flame, or no Flame."""
    failed: bool
    """Whether it is over because this side failed: `received` raised, or its descriptors were closed under it."""

    def send(self, message: Message) -> None:
        """Send from any thread, in call order, without blocking: written at once where the socket takes it, else
        queued for the I/O thread. Dropped once the link is closed."""

    def receive(self, timeout_s: float) -> bool:
        """Be the I/O thread for a while: take messages in the calling thread, which would wait for them anyhow.

        A change of threads for each message is saved that way where messages come in a quick succession; otherwise,
        and in a carrier that cannot do it, this returns False at once, and the I/O thread goes on.

        Args:
            timeout_s: longest wait, in seconds.

        Returns:
            Whether something arrived (a part of a message, too), or the stream ended.

        Raises:
            Exception: what `received` raised; messages that were read together with that one are dropped.
        """

    def buffered_bytes(self) -> int:
        """Bytes queued and not yet taken by the operating system."""

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is queued; return whether that was reached in time."""

    def close(self) -> None:
        """Close, from any thread; idempotent. `closed` has been called or will be."""
