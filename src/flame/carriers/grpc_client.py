"""The gRPC carrier, client end. Importing it loads grpc, so it is imported where an `http://` endpoint is used."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc

from flame.carriers.batches import CONNECT, HANDSHAKE, OPTIONS, take_batch
from flame.carriers.messages import collect_messages
from flame.carriers.port import Foreign
from flame.model.endpoint import Endpoint
from flame.model.errors import FlameError, InvalidArgument, Rejection, Unavailable
from flame.model.limits import MAX_LINK_BUFFER_BYTES
from flame.model.messages import Hello, Message, Role
from flame.wire.codec import decode_manager_batch, decode_welcome, encode, encode_hello, join_envelopes

LINGER_S: Final = 5.0
"""How long a closed link waits for the other side to take what was sent and end the stream."""
_CHANNEL_OPTIONS: Final = (*OPTIONS, ("grpc.use_local_subchannel_pool", 1))
_FOREIGN_CODES: Final = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
"""What servers answer that do not know the handshake, and what grpc makes of answers that are none of its own."""

Received = Callable[[Message], None]
Closed = Callable[[str], None]


def _handshake(channel: grpc.Channel, place: Endpoint, timeout_s: float) -> None:
    """Raise if no session manager answers: a stream would not tell why it cannot be opened."""
    call: Any = channel.unary_unary(HANDSHAKE, None, None)
    try:
        decode_welcome(call(encode_hello(Hello(role=Role.CLIENT)), timeout=timeout_s))
    except grpc.RpcError as error:
        raise _to_error(place, error) from None
    except InvalidArgument as error:
        raise _foreign(place, str(error)) from None


def _to_error(place: Endpoint, error: Any) -> FlameError:
    """The Flame error of a call that failed; what grpc raises has `code` and `details`."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"{place}: no answer in time", hint="check that the cluster runs: flame status")
    if code is grpc.StatusCode.UNAVAILABLE:
        reason = details.rpartition("Failed to connect to remote host: ")[2].lower()
        return Unavailable(f"{place}: cannot connect: {reason}", hint="check that the cluster runs: flame status")
    if code in _FOREIGN_CODES:
        return _foreign(place, f"{code.name.lower()}: {details}" if details else code.name.lower())
    return Rejection(code.name, f"{place}: {details}").to_error()


def _foreign(place: Endpoint, why: str) -> Foreign:
    return Foreign(f"{place}: no Flame session manager of this version: {why}", hint="check the endpoint")


def open_grpc_link(
    place: Endpoint, received: Received, closed: Closed, *, timeout_s: float, name: str
) -> "GrpcThreadLink":
    """Connect to a session manager over gRPC: as `flame.carriers.threads.open_link`, which calls it."""
    channel = grpc.insecure_channel(place.address, options=_CHANNEL_OPTIONS)
    try:
        _handshake(channel, place, timeout_s)
        link = GrpcThreadLink(channel, received, closed)
        threading.Thread(target=link.run, name=name, daemon=True).start()
    except RuntimeError as error:
        channel.close()
        raise Unavailable(f"{place}: there is no thread for the link: {error}") from None
    except BaseException:
        channel.close()
        raise
    return link


class GrpcThreadLink:
    """A stream over gRPC: grpc's own thread takes what is sent, `run` is the I/O thread's."""

    def __init__(self, channel: grpc.Channel, received: Received, closed: Closed) -> None:
        self._channel = channel
        self._received = received
        self._closed = closed
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._outbox: deque[bytes] = deque()
        self._waiting_bytes = 0  # in the outbox
        self._leaving_bytes = 0  # given to grpc, which has not asked for more yet
        self._closing = False
        self._lost = False
        self._reason = ""
        self.foreign = False  # the handshake has told
        self.failed = False
        stream: Any = channel.stream_stream(CONNECT, None, None)
        self._stream: Any = stream(self._requests())

    # --- for any thread ---

    def send(self, message: Message) -> None:
        """Send from any thread, in call order, without blocking; dropped once the link is closed."""
        try:
            envelope = encode(message)
        except InvalidArgument as error:
            self._abort(f"cannot send: {error}")
            return
        with self._changed:
            if self._closing:
                return
            waiting = self._waiting_bytes
            if not waiting or waiting + len(envelope) <= MAX_LINK_BUFFER_BYTES:
                self._outbox.append(envelope)
                self._waiting_bytes += len(envelope)
                self._changed.notify_all()
                return
        self._abort(f"the other side does not read: {waiting} bytes are waiting for it")

    def buffered_bytes(self) -> int:
        """Bytes queued and not yet taken by grpc."""
        return self._waiting_bytes + self._leaving_bytes

    def receive(self, timeout_s: float) -> bool:
        """False: only the I/O thread of this carrier receives."""
        return False

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is queued; return whether that was reached in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.buffered_bytes(), timeout_s) and not self._lost

    def close(self) -> None:
        """Send what is queued, then end the stream; idempotent, from any thread."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        timer = threading.Timer(LINGER_S, self._stream.cancel)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no more threads can be had: then it lingers until the other side ends it
            return
        self._stream.add_callback(timer.cancel)

    def _abort(self, reason: str) -> None:
        with self._changed:
            self._reason = self._reason or reason
            self._closing = True
            self._changed.notify_all()
        self._stream.cancel()

    # --- grpc's sending thread ---

    def _requests(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                self._leaving_bytes = 0
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._outbox or self._closing)
                if not self._outbox:
                    return
                batch = take_batch(self._outbox)
                self._leaving_bytes = sum(map(len, batch))
                self._waiting_bytes -= self._leaving_bytes
            yield join_envelopes(batch)

    # --- the I/O thread ---

    def run(self) -> None:
        """Deliver what arrives until the stream is over, then call `closed`."""
        try:
            self._deliver()
        except BaseException as error:
            self.failed = True
            self._reason = self._reason or f"its I/O thread failed: {error!r}"
            raise
        finally:
            with self._changed:
                self._closing = True
                self._lost = bool(self.buffered_bytes())
                self._outbox.clear()
                self._waiting_bytes = self._leaving_bytes = 0
                self._changed.notify_all()
            self._stream.cancel()
            self._channel.close()
            self._closed(self._reason)

    def _deliver(self) -> None:
        try:
            for response in self._stream:
                messages, malformed = collect_messages(decode_manager_batch(response))
                for message in messages:
                    if not self._closing:
                        self._received(message)
                if malformed is not None:
                    self._reason = self._reason or str(malformed)
                    return
        except grpc.RpcError as error:
            if not self._closing:
                failure: Any = error
                self._reason = failure.details() or failure.code().name
