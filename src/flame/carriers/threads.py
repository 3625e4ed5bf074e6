"""Thread ends of a stream, for the SDK and the executor, whose user owns the main thread.

A link over frames has one I/O thread, which sleeps in `poll` on the socket and a wake-up descriptor; senders write to
the socket themselves as long as it takes everything. No event loop: fewer milliseconds at start, fewer microseconds per
message. Nothing is made at import, so a forked child opens its own links.
"""

import errno
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from itertools import islice
from typing import Final

from flame.carriers.endpoints import cannot_connect, connect_socket
from flame.carriers.messages import collect_messages
from flame.carriers.port import ThreadLink
from flame.model.endpoint import Endpoint
from flame.model.errors import InvalidArgument, Unavailable
from flame.model.limits import MAX_LINK_BUFFER_BYTES
from flame.model.messages import Message
from flame.protocol.frames import MAGIC, FrameDecoder, frame_header
from flame.wire.packing import decode_manager, encode_parts

GUEST_PAUSE_S: Final = 0.002
"""How long the I/O thread leaves the socket alone after a guest has left: for the next one."""
LINGER_S: Final = 5.0
"""How long a closed link waits for the other side to take what was sent and close too."""
_LOOK_S: Final = 1.0
"""How often the I/O thread looks whether the descriptors are still the link's, where nothing else wakes it."""
_VECTORS: Final = 64
"""Buffers handed to the operating system at a time."""

Received = Callable[[Message], None]
Closed = Callable[[str], None]


def open_link(
    endpoint: str, received: Received, closed: Closed, *, timeout_s: float = 10.0, name: str = "flame-link"
) -> ThreadLink:
    """Connect to a session manager.

    Args:
        endpoint: `unix:///path` or `frames://host:port`; `http://host:port` takes the gRPC carrier, loaded on demand.
        received: called with each message, with no lock held, in the link's I/O thread (perhaps before this function
            has returned) or in the thread that is in `receive`: in one at a time.
        closed: called once, in the I/O thread, after the last message: why the link is over, or an empty text.
        timeout_s: longest wait for the connection, in seconds.
        name: of the I/O thread. It is a daemon: it does not keep the interpreter alive.

    Raises:
        InvalidArgument: no such endpoint.
        Unavailable: nobody answers there; `Foreign` if what answers is known already to be no session manager.
    """
    place = Endpoint.parse(endpoint)
    if place.scheme == "http":
        from flame.carriers.grpc_client import open_grpc_link

        return open_grpc_link(place, received, closed, timeout_s=timeout_s, name=name)
    connection = connect_socket(place, timeout_s)
    try:
        connection.sendall(MAGIC)
    except OSError as error:
        connection.close()
        raise cannot_connect(endpoint, error) from None
    link: FramesThreadLink | None = None
    try:
        link = FramesThreadLink(connection, received, closed)
        threading.Thread(target=link.run, name=name, daemon=True).start()
    except (OSError, RuntimeError) as error:  # no descriptor or no thread is left: there may be one later
        connection.close()
        if link is not None:
            os.close(link._wakeup)
        raise Unavailable(f"cannot connect to {endpoint}: {error}") from None
    return link


class _Reader(Enum):
    """Who reads the socket: one at a time."""

    IO = 1
    NOBODY = 2
    """The I/O thread leaves it to the next guest, for a moment."""
    GUEST = 3


class FramesThreadLink:
    """A stream of frames on a connected socket; `run` is its I/O thread's."""

    def __init__(self, connection: socket.socket, received: Received, closed: Closed) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._inode = os.fstat(connection.fileno()).st_ino
        self._received = received
        self._closed = closed
        self._decoder = FrameDecoder()
        self._lock = threading.Lock()
        self._drained = threading.Condition(self._lock)
        self._outbox: deque[memoryview] = deque()
        self._outbox_bytes = 0
        self._lost = False  # something that was sent cannot have arrived
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._reader = _Reader.IO
        self._visits = self._visits_seen = 0  # of guests, also of those who were refused
        self._has_read = False
        self._guest_poll = select.poll()
        self._guest_poll.register(connection, select.POLLIN)
        self._ended = False  # nothing more can be read
        self._sending = True  # messages are taken
        self._listening = True  # messages are delivered
        self._aborted = False
        self._over = False  # the descriptors are closed
        self._reason = ""
        self.foreign = self.failed = False

    # --- for any thread ---

    def send(self, message: Message) -> None:
        """Send from any thread, in call order, without blocking; dropped once the link is closed."""
        try:
            parts = encode_parts(message)
            parts.insert(0, frame_header(sum(map(len, parts))))
        except InvalidArgument as error:
            with self._lock:
                self._abort(f"cannot send: {error}")
            return
        with self._lock:
            if not self._sending:
                return
            if self._outbox:
                self._queue(parts)
            elif self._queue(parts, self._write(parts)):
                self._wake()

    def receive(self, timeout_s: float) -> bool:
        """Be the I/O thread for a while; see `ThreadLink.receive`."""
        with self._lock:
            self._visits += 1
            if self._reader is not _Reader.NOBODY or not self._listening or self._ended:
                return False
            self._reader = _Reader.GUEST
        reader = _Reader.IO  # after an error, or without a message in all the time, it is the I/O thread's again
        try:
            events = self._guest_poll.poll(timeout_s * 1000)
            if events:
                reader = _Reader.NOBODY
                self._ended = not self._read()
            return bool(events)
        finally:
            with self._lock:
                self._reader = reader
                if reader is _Reader.IO or self._ended:
                    self._wake()
                self._drained.notify_all()

    def buffered_bytes(self) -> int:
        """Bytes queued and not yet taken by the operating system."""
        return self._outbox_bytes

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is queued; return whether that was reached in time."""
        with self._drained:
            return self._drained.wait_for(lambda: not self._outbox, timeout_s) and not self._lost

    def close(self) -> None:
        """Send what is queued, then close; idempotent, from any thread. `closed` follows, or has been called."""
        with self._lock:
            self._sending = self._listening = False
            self._wake()

    # --- with the lock held ---

    def _queue(self, parts: list[bytes], sent: int = 0) -> bool:
        """Queue `parts` without their first `sent` bytes; return whether anything is left of them."""
        waiting, left = self._outbox_bytes, sum(map(len, parts)) - sent
        if waiting and waiting + left > MAX_LINK_BUFFER_BYTES:
            self._abort(f"the other side does not read: {waiting} bytes are waiting for it")
            return False
        for part in parts if left else ():
            if sent < len(part):
                self._outbox.append(memoryview(part)[sent:])
            sent = max(0, sent - len(part))
        self._outbox_bytes += left
        return left > 0

    def _write(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Hand bytes to the operating system; return how many it took. A broken connection swallows all."""
        if not self._is_ours():
            self._sending = False
            self._lost = True
            return sum(map(len, buffers))
        try:
            return self._socket.sendmsg(buffers)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:  # what the other side sent before it went can still be read
            self._sending = False
            self._lost = True
            self._reason = self._reason or f"the connection broke: {error.strerror or error}"
            self._wake()
            return sum(map(len, buffers))

    def _write_outbox(self) -> None:
        outbox = self._outbox
        while outbox:
            taken = self._write(tuple(islice(outbox, _VECTORS)))
            if not taken:
                return
            self._outbox_bytes -= taken
            while outbox and taken >= len(outbox[0]):
                taken -= len(outbox.popleft())
            if taken:
                outbox[0] = outbox[0][taken:]
        self._drained.notify_all()

    def _abort(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._sending = self._listening = False
        self._aborted = True
        self._wake()

    def _wake(self) -> None:
        if not self._over and self._is_ours():
            os.eventfd_write(self._wakeup, 1)

    def _is_ours(self) -> bool:
        """Whether the socket's descriptor still leads to the socket.

        Whoever closes what is not their own may have opened something else by now that has its number: that must not
        get the frames, nor lose its bytes. The I/O thread does not hear of it: in `poll`, it still has the old socket.
        """
        try:
            return os.fstat(self._socket.fileno()).st_ino == self._inode
        except OSError:
            return False

    # --- the I/O thread ---

    def run(self) -> None:
        """Serve the socket until the link is over, then call `closed`."""
        try:
            self._serve()
        except BaseException as error:
            self.failed = True
            self._reason = self._reason or f"its I/O thread failed: {error!r}"
            raise
        finally:
            with self._lock:
                self._over = True
                self._sending = self._listening = False
                self._lost = self._lost or bool(self._outbox)
                self._outbox.clear()
                self._outbox_bytes = 0
                if self._reader is _Reader.GUEST:
                    self._turn_out()
                if self._is_ours():
                    with suppress(OSError):  # of whoever closes what is not its own, the link's owner has to hear too
                        self._socket.close()
                    with suppress(OSError):
                        os.close(self._wakeup)
                else:
                    self._socket.detach()
                self._drained.notify_all()
            self._closed(self._reason)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        interest = 0
        deadline_s: float | None = None
        shut = False
        while True:
            if not self._is_ours():
                raise OSError(errno.EBADF, "somebody else closed the descriptors of this link")
            with self._lock:
                self._write_outbox()
                if self._aborted or self._ended:
                    return
                reads = self._is_reader()
                if not self._sending and not shut and not self._outbox:
                    self._shut_down()
                    shut = True
                wanted = (select.POLLIN if reads else 0) | (select.POLLOUT if self._outbox else 0)
            if wanted != interest:
                self._watch(poll, wanted)
                interest = wanted
            if not self._sending and deadline_s is None:
                deadline_s = time.monotonic() + LINGER_S
            left_s = None if deadline_s is None else deadline_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return
            pause_s = left_s if reads else GUEST_PAUSE_S
            events = poll.poll((_LOOK_S if pause_s is None else min(pause_s, _LOOK_S)) * 1000)
            if not self._handle(events, reads):
                return

    def _watch(self, poll: select.poll, wanted: int) -> None:
        if wanted:
            poll.register(self._socket, wanted)
        else:  # a socket that nothing is wanted of would still tell of its end, again and again
            poll.unregister(self._socket)

    def _handle(self, events: list[tuple[int, int]], reads: bool) -> bool:
        """Read and deliver; return whether there may be more."""
        for descriptor, event in events:
            if descriptor == self._wakeup:
                os.eventfd_read(self._wakeup)
            elif reads and event & ~select.POLLOUT:
                self._has_read = True
                if not self._read():
                    return False
        return True

    def _is_reader(self) -> bool:
        """Whether the I/O thread reads now. The lock is held.

        It lets go of the socket after a message if somebody came for it who was refused, and takes it again when
        nobody has come for a while.
        """
        if self._reader is _Reader.IO and not self._has_read:
            return True
        came = self._visits != self._visits_seen
        self._visits_seen = self._visits
        self._has_read = False
        if self._reader is not _Reader.GUEST:
            self._reader = _Reader.NOBODY if came else _Reader.IO
        return self._reader is _Reader.IO

    def _turn_out(self) -> None:
        """Make a guest leave the socket before it is closed. The lock is held, and released while waiting."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        while self._reader is _Reader.GUEST:
            self._drained.wait()

    def _shut_down(self) -> None:
        with suppress(OSError):  # the other side is gone: reading will tell
            self._socket.shutdown(socket.SHUT_WR)

    def _read(self) -> bool:
        """Read and deliver what has arrived; return whether there may be more."""
        if not self._is_ours():
            return False
        try:
            nbytes = self._socket.recv_into(self._decoder.buffer())
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            if self._listening:
                self._reason = self._reason or f"the connection broke: {error.strerror or error}"
            return False
        if not nbytes:
            if self._listening and self._decoder.mid_message:
                self._reason = self._reason or "the connection ended in the middle of a message"
            return False
        if not self._listening:
            return True  # nobody wants these bytes; the same room is read into again
        messages, malformed = collect_messages(map(decode_manager, self._decoder.advance(nbytes)))
        for message in messages:
            if self._listening:
                self._received(message)
        if malformed is not None:
            self.foreign = not self._decoder.greeted
            self._reason = self._reason or str(malformed)
        return malformed is None
