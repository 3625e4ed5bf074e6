"""The gRPC client end: errors that say what is wrong, and what its link queues."""

import socket
from collections.abc import Callable, Iterator

import pytest

from flame.carriers.batches import HANDSHAKE
from flame.carriers.endpoints import bind, bound_endpoint
from flame.carriers.grpc_server import serve_grpc
from flame.carriers.port import Foreign
from flame.carriers.threads import open_link
from flame.model.endpoint import Endpoint
from flame.model.errors import Aborted, Unavailable
from flame.model.messages import Hello, Welcome
from flame.model.node_messages import PingNode
from tests.carriers.ends import CARRIERS, WAIT_S, End, LoopThread, NoMethods


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Hello], Welcome]], str]]:
    loop, listeners = LoopThread(uv=False), []

    def start(welcome: Callable[[Hello], Welcome]) -> str:
        listeners.append(loop.run(serve_grpc("127.0.0.1:0", lambda link: End(loop), NoMethods(), welcome, print)))
        endpoint: str = listeners[-1].endpoint
        return endpoint

    yield start
    for listener in listeners:
        loop.run(listener.stop())
    loop.stop()


def _open(endpoint: str, timeout_s: float = WAIT_S) -> None:
    open_link(endpoint, print, print, timeout_s=timeout_s)


def _free() -> str:
    place = Endpoint.parse("http://127.0.0.1:0")
    with bind(place) as listener:
        return str(bound_endpoint(place, listener))


def test_a_refusal_raises_the_servers_error(
    serve: Callable[[Callable[[Hello], Welcome]], str],
) -> None:
    def refuse(hello: Hello) -> Welcome:
        raise Aborted("another store")

    with pytest.raises(Aborted, match="another store"):
        _open(serve(refuse))


def test_nobody_there() -> None:
    endpoint = _free()
    with pytest.raises(Unavailable, match=": cannot connect: connection refused") as caught:
        _open(endpoint)
    assert endpoint in caught.value.message


def test_one_who_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match=r"no answer in time|cannot connect"):
            _open(endpoint, 0.2)


@pytest.mark.parametrize("answer", [None, b"\xff\xff", RuntimeError("no")], ids=["unknown", "garbage", "fails"])
def test_a_grpc_server_that_is_no_session_manager(answer: bytes | Exception | None) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    def handshake(request: object, context: object) -> bytes:
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        if answer is not None:
            service, method = HANDSHAKE.strip("/").split("/")
            methods = {method: grpc.unary_unary_rpc_method_handler(handshake, None, None)}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with pytest.raises(Foreign, match="no Flame session manager"):
            _open(f"http://127.0.0.1:{port}")
        server.stop(None).wait()


def test_a_message_that_cannot_be_sent_ends_the_link() -> None:
    with CARRIERS["grpc-thread"]() as pair:
        pair.peer.send(PingNode(1 << 70))
        assert "PingNode cannot be sent" in pair.peer.wait_closed()


def test_flush_waits_until_grpc_has_taken_everything() -> None:
    with CARRIERS["grpc-thread"]() as pair:
        pair.peer.send(*[PingNode(at) for at in range(1000)])
        assert pair.peer.link.flush(WAIT_S)
        assert pair.peer.buffered_bytes() == 0
        pair.manager.wait_messages(1000)


def test_why_the_manager_ended_the_stream_is_told() -> None:
    with CARRIERS["grpc-thread"]() as pair:
        pair.manager.send(PingNode(1 << 70))
        assert "cannot be sent" in pair.manager.wait_closed()
        assert "cannot be sent" in pair.peer.wait_closed()
