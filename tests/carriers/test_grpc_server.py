"""The gRPC server as a published client sees it: methods, errors, limits, the streams of other languages."""

import asyncio
import queue
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import grpc
import pytest

from flame.carriers.backlog import Backlog
from flame.carriers.grpc_server import GrpcListener, serve_grpc
from flame.carriers.port import Link
from flame.model.endpoint import Endpoint
from flame.model.errors import (
    ConfigurationError,
    FailedPrecondition,
    FlameError,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    TooLarge,
)
from flame.model.limits import KIB, MIB
from flame.model.messages import Hello, Refused, Reply, Role, Welcome
from flame.model.node_messages import PingNode, PongNode
from flame.wire.codec import (
    decode_manager_batch,
    decode_welcome,
    encode,
    encode_hello,
    join_envelopes,
)
from tests.carriers.ends import WAIT_S, End, LoopThread
from tests.support import wait_until_true


class Methods:
    """Methods that do what their payload says."""

    names: Mapping[str, bool] = MappingProxyType(
        {"/flame.v1.Frontend/GetTask": False, "/flame.v1.Frontend/ListTask": True}
    )

    async def call(self, method: str, payload: bytes) -> bytes:
        """Echo, or raise."""
        _raise_if_asked(payload)
        return method.encode() + b" " + payload

    async def stream(self, method: str, payload: bytes) -> AsyncIterator[bytes]:
        """Three parts; an error, if asked for, after the first."""
        yield payload
        _raise_if_asked(payload)
        yield b"2"
        yield b"3"


def _raise_if_asked(payload: bytes) -> None:
    errors: dict[bytes, FlameError] = {
        b"missing": NotFound("task 7 of session s does not exist", hint="list the tasks"),
        b"bad": InvalidArgument("bad"),
        b"closed": FailedPrecondition("closed"),
        b"large": TooLarge("large"),
        b"full": ResourceExhausted("full"),
    }
    if payload in errors:
        raise errors[payload]


class Served:
    """A server, its links, and a channel to it."""

    def __init__(self, loop: LoopThread, backlog: Backlog | None = None) -> None:
        self.loop = loop
        self.ends: list[End] = []
        self.refuse: FlameError | None = None
        self.listener: GrpcListener = loop.run(
            serve_grpc("127.0.0.1:0", self._connected, Methods(), self._welcome, print, backlog)
        )
        self.channel = grpc.insecure_channel(
            Endpoint.parse(self.listener.endpoint).address,
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )

    def _connected(self, link: Link) -> End:
        end = End(self.loop)
        end.link = link
        self.ends.append(end)
        return end

    def _welcome(self, hello: Hello) -> Welcome:
        if self.refuse is not None:
            raise self.refuse
        return Welcome(store_id="s", software=hello.software, frames_endpoint="unix:///x")

    def unary(self, method: str, payload: bytes) -> bytes:
        """Call a unary method."""
        call: Any = self.channel.unary_unary(method, None, None)
        answer: bytes = call(payload, timeout=WAIT_S)
        return answer

    def stream(self, method: str, payload: bytes) -> Any:
        """Call a streaming method."""
        call: Any = self.channel.unary_stream(method, None, None)
        return call(payload, timeout=WAIT_S)

    def connect(self, requests: Iterator[bytes]) -> Any:
        """Open a stream."""
        call: Any = self.channel.stream_stream("/flame.v1.SessionManager/Connect", None, None)
        stream = call(requests, timeout=WAIT_S)
        wait_until_true(lambda: self.ends)
        return stream


@pytest.fixture
def served() -> Iterator[Served]:
    loop = LoopThread(uv=True)
    server = Served(loop)
    yield server
    server.channel.close()
    loop.run(server.listener.stop())
    loop.stop()


def test_unary_and_streaming_methods_carry_bytes(served: Served) -> None:
    assert served.unary("/flame.v1.Frontend/GetTask", b"x") == b"/flame.v1.Frontend/GetTask x"
    assert list(served.stream("/flame.v1.Frontend/ListTask", b"1")) == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"missing", grpc.StatusCode.NOT_FOUND),
        (b"bad", grpc.StatusCode.INVALID_ARGUMENT),
        (b"closed", grpc.StatusCode.FAILED_PRECONDITION),
        (b"large", grpc.StatusCode.OUT_OF_RANGE),
        (b"full", grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_a_flame_error_becomes_its_status(served: Served, payload: bytes, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.unary("/flame.v1.Frontend/GetTask", payload)
    failure: Any = caught.value
    assert failure.code() is code
    stream = served.stream("/flame.v1.Frontend/ListTask", payload)
    assert next(stream) == payload
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    failure = caught.value
    assert failure.code() is code


def test_message_and_hint_reach_the_client(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.unary("/flame.v1.Frontend/GetTask", b"missing")
    failure: Any = caught.value
    assert failure.details() == "task 7 of session s does not exist (list the tasks)"


def test_an_unknown_method_is_unimplemented(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.unary("/flame.v1.Frontend/Nothing", b"")
    failure: Any = caught.value
    assert failure.code() is grpc.StatusCode.UNIMPLEMENTED


def test_messages_beyond_the_defaults_of_grpc(served: Served) -> None:
    payload = bytes(9 * MIB)
    assert len(served.unary("/flame.v1.Frontend/GetTask", payload)) > len(payload)


def test_many_calls_at_once_are_all_answered(served: Served) -> None:
    call: Any = served.channel.unary_unary("/flame.v1.Frontend/GetTask", None, None)
    calls = [call.future(str(at).encode(), timeout=WAIT_S) for at in range(2000)]
    assert all(answer.result().endswith(f" {at}".encode()) for at, answer in enumerate(calls))


def test_handshake(served: Served) -> None:
    hello = encode_hello(Hello(role=Role.CLIENT, software="x/1"))
    welcome = decode_welcome(served.unary("/flame.v1.SessionManager/Handshake", hello))
    assert (welcome.store_id, welcome.software, welcome.frames_endpoint) == ("s", "x/1", "unix:///x")


def test_a_handshake_that_is_refused_or_malformed(served: Served) -> None:
    served.refuse = FailedPrecondition("another store")
    for request, code in (
        (encode_hello(Hello(role=Role.CLIENT)), grpc.StatusCode.FAILED_PRECONDITION),
        (b"\xff", grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            served.unary("/flame.v1.SessionManager/Handshake", request)
        failure: Any = caught.value
        assert failure.code() is code


def test_what_waits_goes_out_as_one_message(served: Served) -> None:
    requests = iter([join_envelopes([encode(PingNode(at)) for at in range(3)])])
    gate = threading.Event()

    def send() -> Iterator[bytes]:
        yield from requests
        gate.wait(WAIT_S)

    stream = served.connect(send())
    assert served.ends[0].wait_messages(3) == [PingNode(at) for at in range(3)]
    served.ends[0].send(*[PongNode(at) for at in range(100)])
    batches = [list(decode_manager_batch(next(stream)))]
    while sum(map(len, batches)) < 100:
        batches.append(list(decode_manager_batch(next(stream))))
    assert [message for batch in batches for message in batch] == [PongNode(at) for at in range(100)]
    assert len(batches) < 10
    gate.set()
    assert list(stream) == []
    assert served.ends[0].wait_closed() == ""


@pytest.mark.parametrize(
    "garbage", [b"\x0a\x03\xfa\x3e\x00", join_envelopes([encode(PingNode(-1))])], ids=["unknown", "invalid"]
)
def test_a_malformed_message_is_answered_with_why(served: Served, garbage: bytes) -> None:
    stream = served.connect(iter([join_envelopes([encode(PingNode(1))]) + garbage]))
    (refusal,) = decode_manager_batch(next(stream))
    assert isinstance(refusal, Refused)
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    failure: Any = caught.value
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert served.ends[0].wait_closed() == failure.details()
    assert served.ends[0].messages == [PingNode(1)]


def test_what_is_no_protobuf_ends_that_stream_only(served: Served) -> None:
    stream = served.connect(iter([b"\xff\xff"]))
    (refusal,) = decode_manager_batch(next(stream))
    assert isinstance(refusal, Refused)
    assert "no PeerBatch" in served.ends[0].wait_closed()
    assert served.unary("/flame.v1.Frontend/GetTask", b"x").endswith(b"x")


def test_a_client_that_vanishes(served: Served) -> None:
    gate = threading.Event()

    def send() -> Iterator[bytes]:
        yield join_envelopes([encode(PingNode(1))])
        gate.wait(WAIT_S)

    served.connect(send())
    served.ends[0].wait_messages(1)
    served.channel.close()
    # grpc shows it as the end of the requests or as a cancelled call, whichever it notices first.
    assert served.ends[0].wait_closed() in ("", "the other side is gone")
    gate.set()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "example.org:0", "[::]:0"])
def test_only_loopback_is_served(served: Served, address: str) -> None:
    with pytest.raises(ConfigurationError, match="refusing to listen"):
        served.loop.run(serve_grpc(address, lambda link: End(None), Methods(), lambda hello: Welcome(), print))


def test_a_port_in_use(served: Served) -> None:
    with pytest.raises(FailedPrecondition, match="already in use"):
        served.loop.run(
            serve_grpc(
                Endpoint.parse(served.listener.endpoint).address,
                lambda link: End(None),
                Methods(),
                lambda hello: Welcome(),
                print,
            )
        )


def test_a_stopped_server_frees_its_port() -> None:
    loop = LoopThread(uv=False)
    server = Served(loop)
    server.channel.close()
    place = Endpoint.parse(server.listener.endpoint)
    loop.run(server.listener.stop())
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((place.host, place.port))
    assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop.loop).result(WAIT_S) is None
    loop.stop()


def test_a_paused_link_is_not_read_until_it_is_resumed(served: Served) -> None:
    requests: queue.Queue[bytes | None] = queue.Queue()
    stream = served.connect(iter(requests.get, None))
    end = served.ends[0]
    requests.put(join_envelopes([encode(PingNode(1))]))
    end.wait_messages(1)
    served.loop.call(end.link.pause)
    for number in (2, 3):
        requests.put(join_envelopes([encode(PingNode(number))]))
    other = served.connect(iter([join_envelopes([encode(PingNode(4))])]))
    wait_until_true(lambda: len(served.ends) > 1)
    served.ends[1].wait_messages(1)
    assert end.messages == [PingNode(1)]
    served.loop.call(end.link.resume)
    assert end.wait_messages(3) == [PingNode(1), PingNode(2), PingNode(3)]
    requests.put(None)
    assert list(stream) == list(other) == []


def test_a_paused_link_can_end() -> None:
    """Whoever closes the link, or goes, is not kept by messages that wait to be read."""
    loop = LoopThread(uv=True)
    served = Served(loop)
    requests: queue.Queue[bytes | None] = queue.Queue()
    served.connect(iter(requests.get, None))
    end = served.ends[0]
    loop.call(end.link.pause)
    requests.put(join_envelopes([encode(PingNode(1))]))
    served.channel.close()
    end.wait_closed()
    assert end.messages == end.late == []
    requests.put(None)
    loop.run(served.listener.stop())
    loop.stop()


def test_peers_that_do_not_read_are_bounded_together() -> None:
    loop = LoopThread(uv=True)
    served = Served(loop, Backlog(16 * MIB))
    over = threading.Event()

    def silence() -> Iterator[bytes]:
        over.wait(WAIT_S)
        yield from ()

    reply = Reply(id=1, payload=bytes(256 * KIB))
    streams = [served.connect(silence())]
    streams.append(served.connect(silence()))
    wait_until_true(lambda: len(served.ends) > 1)
    some, many = served.ends
    while some.buffered_bytes() < 4 * MIB:
        some.send(reply)
    while not many.reasons and many.buffered_bytes() < 32 * MIB:
        many.send(reply)
    assert "that wait for all peers, more than 16777216, it has the most" in many.wait_closed()
    assert not some.reasons
    over.set()
    served.channel.close()
    some.wait_closed()
    loop.run(served.listener.stop())
    loop.stop()
