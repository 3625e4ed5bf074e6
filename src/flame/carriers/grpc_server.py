"""The gRPC carrier, server end: the published methods for any client, and the streams of `flame.v1.SessionManager`.

A gRPC message costs 150-300 µs of CPU in Python, whatever its size. So whatever piled up while the previous message was
being written goes out as one batch.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from flame.carriers.backlog import Backlog
from flame.carriers.batches import CONNECT, HANDSHAKE, OPTIONS, take_batch
from flame.carriers.endpoints import bind, check_loopback
from flame.carriers.grpc_answers import MAX_CALLS, Answers
from flame.carriers.messages import collect_messages
from flame.carriers.port import Connected, LinkHandler, Methods
from flame.model.endpoint import Endpoint, split_address
from flame.model.errors import ConfigurationError, FlameError, InvalidArgument, Rejection
from flame.model.limits import MAX_LINK_BUFFER_BYTES
from flame.model.messages import Hello, Message, Refused, Welcome
from flame.wire.codec import decode_hello, decode_peer_batch, encode, encode_welcome, join_envelopes

_SERVER_OPTIONS: Final = (
    *OPTIONS,
    ("grpc.so_reuseport", 0),  # a port in use has to be an error
    # Clients that submit in a loop have thousands of calls under way; by default more than 1,000 are refused at random.
    # Each that waits takes some 20 KiB.
    ("grpc.server.max_pending_requests", 10_000),
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
)

_Context = grpc.aio.ServicerContext[bytes, bytes]


class GrpcLink:
    """The session manager's end of a stream over gRPC: the `Link` of the port."""

    def __init__(self, peer: str, backlog: Backlog) -> None:
        self.peer = peer
        self._backlog = backlog
        self.reason = ""
        self.error: FlameError | None = None
        self.aborted = asyncio.Event()
        self._outbox: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._changed = asyncio.Event()
        self._closing = False
        self._reading = asyncio.Event()
        self._reading.set()

    def send(self, message: Message) -> None:
        """Queue a message; silently dropped once the link is closed."""
        if self._closing:
            return
        try:
            envelope = encode(message)
        except InvalidArgument as error:
            self.fail(f"cannot send: {error}")
            return
        waiting = self._buffered_bytes
        if waiting and waiting + len(envelope) > MAX_LINK_BUFFER_BYTES:
            self.fail(f"the other side does not read: {waiting} bytes are waiting for it")
            return
        self._outbox.append(envelope)
        self._buffered_bytes += len(envelope)
        self._changed.set()
        self._backlog.queued(self, len(envelope))

    def buffered_bytes(self) -> int:
        """Bytes queued and not yet taken by gRPC."""
        return self._buffered_bytes

    def pause(self) -> None:
        """Read no more for now."""
        self._reading.clear()

    def resume(self) -> None:
        """Read again."""
        self._reading.set()

    def close(self) -> None:
        """Send what is queued, then end the stream."""
        self._closing = True
        self._changed.set()

    def abort(self) -> None:
        """End the stream at once."""
        self._closing = True
        # Now: grpc tells the peer first, which may take for ever where it does not read.
        self._buffered_bytes -= sum(map(len, self._outbox))
        self._outbox.clear()
        self.aborted.set()

    def fail(self, reason: str) -> None:
        """End the stream at once, and say why."""
        self.reason = self.reason or reason
        self.abort()

    async def read(self, requests: AsyncIterable[bytes], handler: LinkHandler) -> None:
        """Deliver what arrives until the other side ends its half."""
        try:
            async for request in requests:
                await self._reading.wait()  # here: the read that was under way when it was paused ends, too
                messages, malformed = collect_messages(decode_peer_batch(request))
                for message in messages:
                    if self.is_closing():
                        return
                    self._deliver(message, handler)
                if malformed is not None:
                    self.reason = str(malformed)
                    self.error = malformed
                    self.send(Refused(Rejection.of(malformed)))
                    return
        finally:
            self.close()

    def _deliver(self, message: Message, handler: LinkHandler) -> None:
        try:
            handler.received(message)
        except Exception as error:
            self.fail(f"the receiver of its messages failed: {error!r}")
            raise

    async def write(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Send what is queued, in batches, until the link is closed and nothing is left."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._outbox:
                batch = take_batch(self._outbox)
                await write(join_envelopes(batch))
                self._buffered_bytes -= sum(map(len, batch))
            self._backlog.caught_up(self)
            if self._closing:
                return

    def is_closing(self) -> bool:
        """Whether the link is closed for messages."""
        return self._closing


class _Service(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs only
    """Every method of the server, by full name; requests and responses stay bytes."""

    def __init__(
        self,
        connected: Connected,
        methods: Methods,
        welcome: Callable[[Hello], Welcome],
        backlog: Backlog,
        answers: Answers,
    ) -> None:
        self._answers = answers
        self._connected = connected
        self._backlog = backlog
        self._methods = methods
        self._welcome = welcome
        self._handlers: dict[str, Any] = {
            HANDSHAKE: grpc.unary_unary_rpc_method_handler(self._handshake),
            CONNECT: grpc.stream_stream_rpc_method_handler(self._connect),
        }
        for name, streams in methods.names.items():
            self._handlers[name] = self._streaming(name) if streams else self._unary(name)

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a method, or None for one that is not served."""
        return self._handlers.get(handler_call_details.method)

    def _unary(self, name: str) -> Any:
        async def answer(request: bytes, context: _Context) -> bytes:
            try:
                call = self._answers.begin(_peer_name(context.peer()))
                context.add_done_callback(call.over)  # type: ignore[arg-type]  # wants a name for its argument
                response = await self._methods.call(name, request)
            except FlameError as error:
                await _refuse(context, error)
                raise
            call.answered(len(response))
            return response

        return grpc.unary_unary_rpc_method_handler(answer)

    def _streaming(self, name: str) -> Any:
        async def stream(request: bytes, context: _Context) -> AsyncIterator[bytes]:
            try:
                call = self._answers.begin(_peer_name(context.peer()))
                context.add_done_callback(call.over)  # type: ignore[arg-type]  # as above
                async for response in self._methods.stream(name, request):
                    call.answered(len(response))
                    yield response
                    call.taken(len(response))
            except FlameError as error:
                await _refuse(context, error)

        return grpc.unary_stream_rpc_method_handler(stream)

    async def _handshake(self, request: bytes, context: _Context) -> bytes:
        try:
            return encode_welcome(self._welcome(decode_hello(request)))
        except FlameError as error:
            await _refuse(context, error)
            raise

    async def _connect(self, requests: AsyncIterable[bytes], context: _Context) -> None:
        link = GrpcLink(_peer_name(context.peer()), self._backlog)
        handler = self._connected(link)
        reader = asyncio.ensure_future(link.read(requests, handler))
        writer = asyncio.ensure_future(link.write(context.write))
        aborted = asyncio.ensure_future(link.aborted.wait())
        try:
            await asyncio.wait((writer, aborted), return_when=asyncio.FIRST_COMPLETED)
            if writer.done() and writer.exception() is not None:
                link.reason = link.reason or f"the connection broke: {writer.exception()}"
        except asyncio.CancelledError:
            link.reason = link.reason or "the other side is gone"
            raise
        finally:
            link.abort()
            for part in (reader, writer, aborted):
                part.cancel()
            self._backlog.caught_up(link)
            handler.closed(link.reason)
        if link.error is not None:
            await _refuse(context, link.error)
        elif link.reason:
            await context.abort(grpc.StatusCode.ABORTED, link.reason)


async def _refuse(context: _Context, error: FlameError) -> None:
    code = getattr(grpc.StatusCode, error.code, grpc.StatusCode.UNKNOWN)
    await context.abort(code, str(error))


def _peer_name(peer: str) -> str:
    """`ipv4:127.0.0.1:4711` without the scheme."""
    return peer.partition(":")[2].replace("%5B", "[").replace("%5D", "]")


class GrpcListener:
    """A bound gRPC server."""

    def __init__(self, endpoint: Endpoint, server: grpc.aio.Server) -> None:
        self.endpoint = str(endpoint)
        self._server = server

    async def stop(self) -> None:
        """Stop listening and abort calls and links."""
        await self._server.stop(grace=None)


async def serve_grpc(
    address: str,
    connected: Connected,
    methods: Methods,
    welcome: Callable[[Hello], Welcome],
    warn: Callable[[str], None],
    backlog: Backlog | None = None,
) -> GrpcListener:
    """Serve gRPC.

    Args:
        address: `host:port` (port 0: any), on loopback.
        connected: called for every new stream of `SessionManager.Connect`; returns its handler.
        methods: the other methods.
        welcome: answers `SessionManager.Handshake`; may raise `FlameError`.
        warn: told of connections that are ended because of what they leave unread.
        backlog: counts what peers have not read, also for other listeners of this process.

    Raises:
        InvalidArgument: no such address.
        ConfigurationError: not loopback, or a place that cannot be bound.
        FailedPrecondition: in use.
    """
    host, port = split_address(address)
    place = Endpoint(scheme="http", host=check_loopback(host, address), port=port)
    bind(place).close()  # gRPC would keep the reason to itself, and write to standard error
    server = grpc.aio.server(options=_SERVER_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
    backlog = backlog or Backlog()
    server.add_generic_rpc_handlers((_Service(connected, methods, welcome, backlog, Answers(backlog, warn)),))
    try:
        port = server.add_insecure_port(place.address)
    except RuntimeError as error:
        raise ConfigurationError(f"{place}: cannot listen: {error}") from None
    await server.start()
    return GrpcListener(Endpoint(scheme="http", host=place.host, port=port), server)
