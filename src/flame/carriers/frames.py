"""The frame carrier, asyncio ends: messages as length-prefixed frames over a Unix or loopback TCP socket.

A link reads straight into its decoder and writes with the fewest copies that the event loop allows. Its end is orderly
when both sides have closed their direction: who closes first sends what is queued, then reads and drops what still
comes until the other side has closed too, because closing a socket with unread bytes throws away what was sent.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Final, cast

from flame.carriers.backlog import Backlog
from flame.carriers.endpoints import BACKLOG, bind, bound_endpoint, cannot_connect
from flame.carriers.messages import collect_messages
from flame.carriers.port import Connected, Link, LinkHandler
from flame.model.endpoint import Endpoint
from flame.model.errors import InvalidArgument, Rejection
from flame.model.limits import (
    KIB,
    MAX_LINK_BUFFER_BYTES,
    MAX_UNFINISHED_BYTES,
    MESSAGE_PROGRESS_BYTES,
    MESSAGE_STALL_S,
)
from flame.model.messages import Message, Refused
from flame.protocol.frames import MAGIC, FrameDecoder, Payload, frame_header
from flame.wire.packing import decode_manager, decode_peer, encode_parts

LINGER_S: Final = 5.0
"""How long a closed link waits for the other side to take what was sent and close too."""
_JOIN_BYTES: Final = 4 * KIB
"""Below this, header and payload are cheaper to copy together than to hand over as two buffers."""


class FramesLink(asyncio.BufferedProtocol):
    """One end of a stream of frames: the `Link` of the port and asyncio's protocol in one."""

    def __init__(self, connected: Connected, decode: Callable[[Payload], Message]) -> None:
        self.peer = ""
        self._connected = connected
        self._decode = decode
        self._serves = decode is decode_peer
        self._decoder = FrameDecoder()
        self._transport: asyncio.Transport | None = None
        self._handler: LinkHandler | None = None
        self._reason = ""
        self._closing = False
        self._linger: asyncio.TimerHandle | None = None

    # --- the port ---

    def send(self, message: Message) -> None:
        """Queue a message; silently dropped once the link is closed."""
        transport = self._wire()
        if self._closing or transport.is_closing():
            return
        try:
            parts = encode_parts(message)
            nbytes = sum(map(len, parts))
            header = frame_header(nbytes)
        except InvalidArgument as error:
            self.fail(f"cannot send: {error}")
            return
        buffered = transport.get_write_buffer_size()
        if buffered and buffered + nbytes > MAX_LINK_BUFFER_BYTES:
            self.fail(f"the other side does not read: {buffered} bytes are waiting for it")
            return
        if nbytes < _JOIN_BYTES:
            transport.write(header + parts[0])
        else:
            transport.writelines((header, *parts))

    def buffered_bytes(self) -> int:
        """Bytes queued and not yet taken by the operating system."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def pause(self) -> None:
        """Read no more for now."""
        transport = self._wire()
        if not self._closing and not transport.is_closing():
            transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        transport = self._wire()
        if not transport.is_closing():
            transport.resume_reading()

    def close(self) -> None:
        """Send what is queued, then close."""
        if self._closing:
            return
        self._closing = True
        transport = self._wire()
        if not transport.is_closing():
            self._linger = asyncio.get_running_loop().call_later(LINGER_S, transport.abort)
            transport.write_eof()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._wire().abort()

    def fail(self, reason: str) -> None:
        """Close at once, and say why."""
        self._reason = self._reason or reason
        self.abort()

    # --- asyncio's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands: greet, and ask for a handler."""
        transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._transport = transport
        connection = transport.get_extra_info("socket")
        self.peer = _peer_name(connection)
        transport.write(MAGIC)
        self._handler = self._connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio shall read to."""
        return self._decoder.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have arrived."""
        if self._is_closing():
            return  # the same room is read into again and again: nobody wants these bytes
        handler = self._handler
        assert handler is not None, "asyncio calls connection_made first"
        messages, error = collect_messages(map(self._decode, self._decoder.advance(nbytes)))
        for message in messages:
            handler.received(message)
            if self._is_closing():
                return
        if error is not None:
            self._reject(error)

    def eof_received(self) -> bool:
        """The other side has closed: it would drop what is queued here, so there is nothing to wait for."""
        if not self._closing:
            self._closing = True
            if self._decoder.mid_message:
                self._reason = "the connection ended in the middle of a message"
        self._wire().abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._linger is not None:
            self._linger.cancel()
        # Who went without a word only looked whether somebody listens.
        if not self._reason and exc is not None and not self._closing and self._decoder.greeted:
            self._reason = f"the connection broke: {exc}"
        self._closing = True
        self._decoder.forget()  # at once: this link is in a cycle, which is collected later
        if self._handler is not None:
            self._handler.closed(self._reason)

    # --- failures ---

    def _wire(self) -> asyncio.Transport:
        assert self._transport is not None, "links exist from connection_made on"
        return self._transport

    def _is_closing(self) -> bool:
        return self._closing

    def _reject(self, error: InvalidArgument) -> None:
        """Bytes that are no messages: tell the other side what is wrong with them as well as it can understand."""
        self._reason = str(error)
        if not self._decoder.greeted:
            text = f"{error}\n"
            self._wire().write(f"HTTP/1.0 400 Bad Request\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        elif self._serves:
            self.send(Refused(Rejection.of(error)))
        self.close()


def _peer_name(connection: socket.socket) -> str:
    if connection.family == socket.AF_UNIX:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return f"pid {struct.unpack('3i', credentials)[0]}"
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    host, port = connection.getpeername()[:2]
    return f"{host}:{port}"


class FramesListener:
    """A bound server of the frame carrier."""

    def __init__(self, endpoint: Endpoint, server: asyncio.Server, links: "_Links") -> None:
        self.endpoint = str(endpoint)
        self._path = endpoint.path
        self._inode = _inode(endpoint.path) if endpoint.path else None
        self._server = server
        self._links = links

    @property
    def lost(self) -> bool:
        """Whether the file of its Unix socket leads to it no more: it was removed or replaced."""
        return self._inode is not None and _inode(self._path) != self._inode

    async def stop(self) -> None:
        """Stop listening and abort its links; a Unix socket's file is removed, unless it is another's by now."""
        self._server.close()
        if self._inode is not None and not self.lost:
            os.unlink(self._path)
        self._links.stopped = True
        links = tuple(self._links.open)
        for link in links:
            link.abort()
        await asyncio.gather(*(link.ended for link in links))


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


async def serve(endpoint: str, connected: Connected, backlog: Backlog | None = None) -> FramesListener:
    """Listen for clients, executors and nodes.

    Args:
        endpoint: `unix:///path` or `frames://host:port` (port 0: any), on loopback.
        connected: called for every new link; returns its handler.
        backlog: counts what peers have not read, also for other listeners of this process.

    Raises:
        InvalidArgument: no such endpoint.
        ConfigurationError: not loopback, or a place that cannot be bound.
        FailedPrecondition: in use.
    """
    place = _frames_endpoint(endpoint)
    listener = bind(place)
    place = bound_endpoint(place, listener)
    loop = asyncio.get_running_loop()
    links = _Links(backlog or Backlog())

    def make() -> _ServedLink:
        return _ServedLink(connected, links)

    if place.scheme == "unix":
        server = await loop.create_unix_server(make, sock=listener, backlog=BACKLOG)
    else:
        server = await loop.create_server(make, sock=listener, backlog=BACKLOG)
    return FramesListener(place, server, links)


class _Links:
    """The links of a listener."""

    def __init__(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self.open: set[_ServedLink] = set()
        self.stopped = False
        self._unfinished_bytes = 0
        self._look()

    def count(self, link: "_ServedLink", apart_bytes: int) -> None:
        """Take note of what an unfinished message takes; where all together take too much, end the largest."""
        self._unfinished_bytes += apart_bytes - link.apart_bytes
        link.apart_bytes = apart_bytes
        if self._unfinished_bytes > MAX_UNFINISHED_BYTES:
            largest = max(self.open, key=lambda link: link.apart_bytes)
            largest.give_up(
                f"the unfinished messages of all peers take more than {MAX_UNFINISHED_BYTES} bytes, and its is the "
                f"largest, with {largest.apart_bytes}"
            )

    def _look(self) -> None:
        for link in tuple(self.open):
            link.check_progress()
            link.count_unread()
        if not self.stopped:
            asyncio.get_running_loop().call_later(MESSAGE_STALL_S / 2, self._look)


class _Mark:
    """A moment in the middle of a message.

    Args:
        enough_bytes: how much has to have arrived on the link for the message to go on.
    """

    __slots__ = ("enough_bytes", "looked_at")

    def __init__(self, enough_bytes: int) -> None:
        self.enough_bytes = enough_bytes
        self.looked_at = False


class _ServedLink(FramesLink):
    """A link that its listener knows."""

    def __init__(self, connected: Connected, links: _Links) -> None:
        super().__init__(connected, decode_peer)
        self._links = links
        self.ended = asyncio.get_running_loop().create_future()
        self.apart_bytes = 0
        """What an unfinished message of this link takes, as its listener has counted it."""
        self._slow = False
        self._received_bytes = 0
        self._mark: _Mark | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._links.open.add(self)
        super().connection_made(transport)
        if self._links.stopped:  # it was accepted while the listener stopped
            self.abort()

    def send(self, message: Message) -> None:
        if not self._slow:
            super().send(message)
            return
        before_bytes = self.buffered_bytes()
        super().send(message)
        self._links.backlog.queued(self, max(0, self.buffered_bytes() - before_bytes))

    def count_unread(self) -> None:
        """Called every now and then: what is too little to be paused for counts, too, where there are many."""
        if nbytes := self.buffered_bytes():
            self._links.backlog.queued(self, nbytes)
        elif not self._slow:
            self._links.backlog.caught_up(self)

    def pause_writing(self) -> None:
        """The peer does not keep up."""
        self._slow = True
        self._links.backlog.queued(self, self.buffered_bytes())

    def resume_writing(self) -> None:
        """It has read nearly all."""
        self._slow = False
        self._links.backlog.caught_up(self)

    def buffer_updated(self, nbytes: int) -> None:
        self._received_bytes += nbytes
        super().buffer_updated(nbytes)
        apart_bytes = 0 if self._is_closing() else self._decoder.apart_bytes
        if apart_bytes != self.apart_bytes:
            self._links.count(self, apart_bytes)

    def check_progress(self) -> None:
        """Called every `MESSAGE_STALL_S` / 2: end a link of which a message has begun and does not go on."""
        missing_bytes, mark = self._decoder.missing_bytes, self._mark
        if not missing_bytes or self._is_closing():
            self._mark = None
        elif mark is None or self._received_bytes >= mark.enough_bytes:
            self._mark = _Mark(self._received_bytes + min(missing_bytes, MESSAGE_PROGRESS_BYTES))
        elif mark.looked_at:
            self.give_up(f"stalled in the middle of a message, which lacks {missing_bytes} bytes")
        else:
            mark.looked_at = True

    def give_up(self, reason: str) -> None:
        """End the link at once."""
        self._links.count(self, 0)
        self.fail(reason)

    def connection_lost(self, exc: Exception | None) -> None:
        self._links.open.discard(self)
        self._links.count(self, 0)
        self._slow = False
        self._links.backlog.caught_up(self)
        self.ended.set_result(None)
        super().connection_lost(exc)


async def connect(endpoint: str, connected: Connected, *, timeout_s: float = 10.0) -> Link:
    """Connect to a session manager.

    Args:
        endpoint: `unix:///path` or `frames://host:port`.
        connected: called with the new link; returns its handler.
        timeout_s: longest wait for the connection, in seconds.

    Raises:
        InvalidArgument: no such endpoint.
        Unavailable: nobody answers there.
    """
    place = _frames_endpoint(endpoint)
    loop = asyncio.get_running_loop()

    def make() -> FramesLink:
        return FramesLink(connected, decode_manager)

    try:
        async with asyncio.timeout(timeout_s):
            if place.scheme == "unix":
                _, link = await loop.create_unix_connection(make, place.path)
            else:
                _, link = await loop.create_connection(make, place.host, place.port)
    except OSError as error:
        raise cannot_connect(str(place), error) from None
    return link


def _frames_endpoint(endpoint: str) -> Endpoint:
    place = Endpoint.parse(endpoint)
    if place.scheme == "http":
        raise InvalidArgument(f"endpoint {endpoint!r} speaks gRPC", hint="frames take unix:// or frames://")
    return place
