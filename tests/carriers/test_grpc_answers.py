"""Answers that gRPC has and peers have not taken."""

import socket
from collections.abc import Iterator

import pytest

from flame.carriers.backlog import Backlog
from flame.carriers.grpc_answers import CALL_BYTES, MAX_CALLS, Answers, shut_down
from flame.model.errors import ResourceExhausted
from flame.model.limits import MAX_UNREAD_BYTES


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: the end of a server, and of its peer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
        with peer, served:
            peer.settimeout(20)
            yield served, peer


def _name(connection: socket.socket) -> str:
    host, port = connection.getsockname()
    return f"{host}:{port}"


def test_a_peer_that_takes_nothing_is_cut_off_and_another_is_not(pair: tuple[socket.socket, socket.socket]) -> None:
    served, peer = pair
    said: list[str] = []
    answers = Answers(Backlog(100 * CALL_BYTES), said.append)
    for _ in range(1_000):
        call = answers.begin("127.0.0.1:1")
        call.answered(10)
        call.over()
    under_way = [answers.begin(_name(peer)) for _ in range(90)]
    assert not said
    for call in under_way:
        call.answered(CALL_BYTES // 10)
    assert said[0].startswith(f"peer {_name(peer)}: the other side does not read")
    assert len(said) == 1
    assert peer.recv(1) == b""
    for call in under_way:
        call.over()
    assert not answers._peers
    assert served.fileno() >= 0, "it is grpc that closes it"


def test_a_streams_messages_count_until_they_are_taken() -> None:
    said: list[str] = []
    answers = Answers(Backlog(10 * CALL_BYTES), said.append)
    call = answers.begin("127.0.0.1:1")
    for _ in range(1_000):
        call.answered(CALL_BYTES)
        call.taken(CALL_BYTES)
    assert answers._peers["127.0.0.1:1"].kept_bytes == CALL_BYTES
    call.over()
    assert not said
    assert not answers._peers


def test_so_many_calls_of_a_connection_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flame.carriers.grpc_answers.MAX_CALLS_PER_PEER", 2)
    answers = Answers(Backlog(), print)
    calls = [answers.begin("127.0.0.1:1") for _ in range(2)]
    with pytest.raises(ResourceExhausted, match="2 calls of this connection are under way"):
        answers.begin("127.0.0.1:1")
    answers.begin("127.0.0.1:2").over()
    calls[0].over()
    answers.begin("127.0.0.1:1").over()


def test_calls_alone_are_no_reason_to_end_a_connection() -> None:
    assert MAX_CALLS * CALL_BYTES < MAX_UNREAD_BYTES


def test_only_connections_to_that_peer_are_shut_down(pair: tuple[socket.socket, socket.socket]) -> None:
    served, peer = pair
    shut_down("127.0.0.1:1")
    served.sendall(b"x")
    assert peer.recv(1) == b"x"
    shut_down(_name(peer))
    assert peer.recv(1) == b""


def test_ipv6() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener:
        peer = socket.create_connection(listener.getsockname()[:2])
        served, _ = listener.accept()
        with peer, served:
            shut_down(f"[::1]:{peer.getsockname()[1]}")
            assert peer.recv(1) == b""
