"""The frame carrier's asyncio ends against a raw socket: strangers, broken streams, clean ends."""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from flame.carriers import frames
from flame.carriers.backlog import Backlog
from flame.carriers.endpoints import bind, bound_endpoint, connect_socket
from flame.carriers.port import Link
from flame.model.endpoint import Endpoint
from flame.model.errors import ConfigurationError, FailedPrecondition, InvalidArgument, Rejection, Unavailable
from flame.model.limits import KIB, MAX_MESSAGE_BYTES, MIB
from flame.model.messages import Refused, Reply
from flame.model.node_messages import PingNode
from flame.protocol.frames import MAGIC, FrameDecoder, frame_header
from flame.wire.packing import decode_manager, encode
from tests.carriers.ends import End, LoopThread
from tests.support import wait_until_true


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[LoopThread]:
    thread = LoopThread(uv=request.param)
    yield thread
    thread.stop()


class Served:
    """A listener in a loop thread, and the ends of its links."""

    def __init__(self, loop: LoopThread, endpoint: str, backlog: Backlog | None = None) -> None:
        self.ends: list[End] = []
        self._loop = loop
        self._listener = loop.run(frames.serve(endpoint, self._connected, backlog))
        self.endpoint: str = self._listener.endpoint
        self.stopped = False

    def _connected(self, link: Link) -> End:
        end = End(self._loop)
        end.link = link
        self.ends.append(end)
        return end

    def connect(self) -> socket.socket:
        """A raw connection to it that has its end, with the listener's magic read."""
        before = len(self.ends)
        raw = connect_socket(Endpoint.parse(self.endpoint), 20.0)
        assert _read(raw, len(MAGIC)) == MAGIC
        wait_until_true(lambda: len(self.ends) > before)
        return raw

    def look(self) -> None:
        """Let it look after its links now, as it does every now and then."""
        self._loop.call(self._listener._links._look)

    @property
    def received_bytes(self) -> int:
        """What has arrived on all links."""
        return sum(link._received_bytes for link in self._listener._links.open)

    def stop(self) -> None:
        """Stop it."""
        if not self.stopped:
            self.stopped = True
            self._loop.run(self._listener.stop())


@pytest.fixture(params=["unix", "tcp"])
def served(request: pytest.FixtureRequest, loop: LoopThread, short_tmp: Path) -> Iterator[Served]:
    server = Served(loop, f"unix://{short_tmp}/s" if request.param == "unix" else "frames://127.0.0.1:0")
    yield server
    server.stop()


def _read(raw: socket.socket, nbytes: int) -> bytes:
    data = b""
    while len(data) < nbytes:
        more = raw.recv(nbytes - len(data))
        assert more, f"the connection ended after {data!r}"
        data += more
    return data


def _read_all(raw: socket.socket) -> bytes:
    data = b""
    while more := raw.recv(65536):
        data += more
    return data


def _frame(payload: bytes) -> bytes:
    return frame_header(len(payload)) + payload


def test_an_http_client_is_told_what_the_port_speaks(served: Served) -> None:
    with served.connect() as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = _read_all(raw)
    assert answer.startswith(b"HTTP/1.0 400 Bad Request")
    assert b"does not speak Flame's frames" in answer
    assert "b'GET / HTTP" in served.ends[0].wait_closed()


@pytest.mark.parametrize("garbage", [b"\0" * 100_000, b"\x16\x03\x01\x02"], ids=["zeros", "tls"])
def test_garbage_closes_that_connection_only(served: Served, garbage: bytes) -> None:
    with served.connect() as good, served.connect() as bad:
        bad.sendall(garbage)
        _read_all(bad)
        good.sendall(MAGIC + _frame(encode(PingNode(1))))
        assert served.ends[0].wait_messages(1) == [PingNode(1)]
    assert "does not speak Flame's frames" in served.ends[1].wait_closed()
    assert len(served.ends[1].reasons) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack("<I", MAX_MESSAGE_BYTES + 1), "over the limit"),
        (_frame(b"\xc1\xff"), "no message"),
        (_frame(b"\x81\xa4type\xa4Sing"), "newer version"),
        (_frame(encode(PingNode(-1))), "sent_ns"),
    ],
    ids=["too long", "no message", "unknown", "invalid"],
)
def test_a_malformed_message_is_answered_with_why(served: Served, data: bytes, reason: str) -> None:
    with served.connect() as raw:
        raw.sendall(MAGIC + _frame(encode(PingNode(7))) + data)
        (payload,) = FrameDecoder().feed(MAGIC + _read_all(raw))
    refusal = decode_manager(payload)
    assert isinstance(refusal, Refused)
    assert reason in str(refusal.error.to_error())
    assert reason in served.ends[0].wait_closed()
    assert served.ends[0].messages == [PingNode(7)]


@pytest.mark.parametrize("cut", [1, len(MAGIC), len(MAGIC) + 3, len(MAGIC) + 4, len(MAGIC) + 90_000])
def test_a_peer_that_vanishes_in_the_middle_of_a_message(served: Served, cut: int) -> None:
    with served.connect() as raw:
        raw.sendall((MAGIC + frame_header(100_000) + bytes(100_000))[:cut])
    reason = served.ends[0].wait_closed()
    assert reason == ("" if cut == len(MAGIC) else "the connection ended in the middle of a message")
    assert not served.ends[0].messages


def test_a_reset_connection_is_over_once(served: Served) -> None:
    raw = served.connect()
    raw.sendall(MAGIC)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()
    end = served.ends[0]
    end.wait_closed()
    served.stop()
    assert len(end.reasons) == 1


def test_messages_before_an_end_are_delivered(served: Served) -> None:
    with served.connect() as raw:
        raw.sendall(MAGIC + b"".join(_frame(encode(PingNode(at))) for at in range(100)))
    served.ends[0].wait_closed()
    assert served.ends[0].messages == [PingNode(at) for at in range(100)]


def test_a_close_that_is_not_answered_ends_after_a_while(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LINGER_S", 0.05)
    with served.connect() as raw:
        raw.sendall(MAGIC)
        served.ends[0].send_and_close()
        assert served.ends[0].wait_closed() == ""


def test_who_is_at_the_other_end(served: Served) -> None:
    with served.connect() as raw:
        raw.sendall(MAGIC + _frame(encode(PingNode(1))))
        served.ends[0].wait_messages(1)
        peer = served.ends[0].link.peer
    if served.endpoint.startswith("unix"):
        assert peer == f"pid {os.getpid()}"
    else:
        assert peer.startswith("127.0.0.1:")


def test_stopping_removes_the_file_and_the_port_can_be_bound_again(served: Served, loop: LoopThread) -> None:
    place = Endpoint.parse(served.endpoint)
    served.connect().close()
    served.stop()
    assert not (place.path and os.path.exists(place.path))
    again = Served(loop, served.endpoint)
    again.connect().close()
    again.stop()


def test_stopping_leaves_the_file_of_a_successor(loop: LoopThread, short_tmp: Path) -> None:
    first = Served(loop, f"unix://{short_tmp}/s")
    os.unlink(short_tmp / "s")
    second = Served(loop, f"unix://{short_tmp}/s")
    first.stop()
    second.connect().close()
    second.stop()


def test_what_cannot_be_served(loop: LoopThread, served: Served) -> None:
    with pytest.raises(FailedPrecondition, match="already in use"):
        Served(loop, served.endpoint)
    with pytest.raises(ConfigurationError, match=r"refusing to listen on 0\.0\.0\.0"):
        Served(loop, "frames://0.0.0.0:0")
    with pytest.raises(InvalidArgument, match="speaks gRPC"):
        Served(loop, "http://127.0.0.1:0")


def test_connecting_to_nobody(loop: LoopThread, short_tmp: Path) -> None:
    with pytest.raises(Unavailable, match="no such file"):
        loop.run(frames.connect(f"unix://{short_tmp}/s", lambda link: End(loop)))
    place = Endpoint.parse("frames://127.0.0.1:0")
    with bind(place) as listener:
        free = bound_endpoint(place, listener)
    with pytest.raises(Unavailable, match="connection refused"):
        loop.run(frames.connect(str(free), lambda link: End(loop)))


def test_connecting_to_something_else_says_what_answered(loop: LoopThread) -> None:
    place = Endpoint.parse("frames://127.0.0.1:0")
    end = End(loop)
    with bind(place) as listener:
        listener.setblocking(True)
        loop.run(frames.connect(str(bound_endpoint(place, listener)), lambda link: end))
        with listener.accept()[0] as other:
            other.sendall(b"SSH-2.0-OpenSSH")
            assert "b'SSH-2.0" in end.wait_closed()


def test_a_message_over_the_limit_is_not_sent_and_ends_the_link(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served.connect() as raw:
        raw.sendall(MAGIC + _frame(encode(PingNode(1))))
        served.ends[0].wait_messages(1)
        monkeypatch.setattr("flame.protocol.frames.MAX_MESSAGE_BYTES", 1)
        served.ends[0].send(Refused(Rejection("ABORTED", "x")))
        assert "over the limit" in served.ends[0].wait_closed()


@pytest.mark.parametrize("begun", [MAGIC[:3], MAGIC + b"\1", MAGIC + frame_header(1 << 20) + bytes(50_000)])
def test_who_stalls_in_the_middle_of_a_message_is_sent_away(
    loop: LoopThread, short_tmp: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(frames, "MESSAGE_STALL_S", 0.05)
    served = Served(loop, f"unix://{short_tmp}/s")
    with served.connect() as raw, served.connect() as idle:
        idle.sendall(MAGIC + _frame(encode(PingNode(1))))
        raw.sendall(begun)
        assert "stalled in the middle of a message" in served.ends[0].wait_closed()
        idle.sendall(_frame(encode(PingNode(2))))
        assert len(served.ends[1].wait_messages(2)) == 2, "between messages there is no hurry"
    served.stop()


def test_a_slow_message_that_goes_on_is_waited_for(
    loop: LoopThread, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MESSAGE_STALL_S", 3600)
    monkeypatch.setattr(frames, "MESSAGE_PROGRESS_BYTES", 1)
    served = Served(loop, f"unix://{short_tmp}/s")
    (begun, *parts) = [bytes([byte]) for byte in MAGIC + _frame(encode(PingNode(1)))]
    with served.connect() as raw:
        raw.sendall(begun)
        for count, part in enumerate(parts, start=1):
            wait_until_true(lambda count=count: served.received_bytes == count)  # type: ignore[misc]
            served.look()
            raw.sendall(part)
        assert served.ends[0].wait_messages(1) == [PingNode(1)]
    served.stop()


def test_peers_for_each_of_which_little_waits_are_counted_too(
    loop: LoopThread, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MESSAGE_STALL_S", 3600)
    served = Served(loop, f"unix://{short_tmp}/s", Backlog(24 * KIB))
    reply = Reply(id=1, payload=bytes(4 * KIB))
    with served.connect(), served.connect(), served.connect():
        for end, most in zip(served.ends, (8 * KIB, 16 * KIB, 8 * KIB), strict=True):
            while end.buffered_bytes() < most:
                end.send(reply)
        served.look()
        assert "that wait for all peers, more than 24576, it has the most" in served.ends[1].wait_closed()
        assert not served.ends[0].reasons
        assert not served.ends[2].reasons
    served.stop()


def test_unfinished_messages_of_all_peers_are_bounded(
    loop: LoopThread, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_UNFINISHED_BYTES", 5 << 20)
    served = Served(loop, f"unix://{short_tmp}/s")
    with served.connect() as small, served.connect() as large:
        small.sendall(MAGIC + frame_header(1 << 20) + bytes(100_000))
        large.sendall(MAGIC + frame_header(8 << 20) + bytes(100_000))
        assert not served.ends[0].reasons
        assert not served.ends[1].reasons
        with served.connect() as third:
            third.sendall(MAGIC + frame_header(1 << 20) + bytes(100_000))
            assert "and its is the largest, with 4194304" in served.ends[1].wait_closed()
            small.sendall(bytes((1 << 20) - 100_000))
            assert "no message" in served.ends[0].wait_closed()
    served.stop()


def test_a_paused_link_is_not_read_until_it_is_resumed(served: Served, loop: LoopThread) -> None:
    with served.connect() as raw:
        raw.sendall(MAGIC + _frame(encode(PingNode(1))))
        served.ends[0].wait_messages(1)
        loop.call(served.ends[0].link.pause)
        raw.sendall(_frame(encode(PingNode(2))))
        with served.connect() as other:
            other.sendall(MAGIC + _frame(encode(PingNode(3))))
            served.ends[1].wait_messages(1)
        assert served.ends[0].messages == [PingNode(1)]
        loop.call(served.ends[0].link.resume)
        assert served.ends[0].wait_messages(2) == [PingNode(1), PingNode(2)]


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_peers_that_do_not_read_are_bounded_together(loop: LoopThread, scheme: str, short_tmp: Path) -> None:
    endpoint = f"unix://{short_tmp}/s" if scheme == "unix" else "frames://127.0.0.1:0"
    served = Served(loop, endpoint, Backlog(16 * MIB))
    reply = Reply(id=1, payload=bytes(256 * KIB))
    frame = _frame(encode(reply))
    with served.connect() as slow, served.connect() as stuck:
        some, many = served.ends
        sent = 0
        while some.buffered_bytes() < 4 * MIB:
            some.send(reply)
            sent += 1
        while not many.reasons and many.buffered_bytes() < 32 * MIB:
            many.send(reply)
        assert "that wait for all peers, more than 16777216, it has the most" in many.wait_closed()
        assert not some.reasons
        assert _read(slow, len(frame) * sent) == frame * sent
        with served.connect() as third:  # who has caught up takes nothing of the room
            most = served.ends[2]
            while most.buffered_bytes() < 14 * MIB:
                most.send(reply)
            assert not most.reasons
            third.close()
        stuck.close()
    served.stop()
