"""Thread ends against a raw listener: strangers, broken streams, threads, forks."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from flame.carriers import threads
from flame.carriers.endpoints import bind, bound_endpoint
from flame.carriers.threads import FramesThreadLink, open_link
from flame.model.endpoint import Endpoint
from flame.model.errors import InvalidArgument, Unavailable
from flame.model.messages import AcknowledgeReport, Call, Message, PingNode
from flame.protocol.frames import MAGIC, FrameDecoder, frame_header
from flame.wire.codec import decode_peer, encode
from tests.carriers.ends import CARRIERS, WAIT_S, End
from tests.support import wait_until_true


class Raw:
    """A raw listener and the thread link that is connected to it."""

    def __init__(self) -> None:
        self.listener = bind(Endpoint.parse("frames://127.0.0.1:0"))
        self.listener.settimeout(WAIT_S)
        self.endpoint = str(bound_endpoint(Endpoint.parse("frames://127.0.0.1:0"), self.listener))
        self.end = End(None)
        self.link = open_link(
            self.endpoint, self.end.received, self.end.closed, timeout_s=WAIT_S, name="link-under-test"
        )
        self.other = self.listener.accept()[0]
        self.other.settimeout(WAIT_S)
        assert self.other.recv(len(MAGIC), socket.MSG_WAITALL) == MAGIC

    def close(self) -> None:
        """Close everything and see the link end."""
        self.other.close()
        self.listener.close()
        self.end.wait_closed()


@pytest.fixture
def raw() -> Iterator[Raw]:
    pair = Raw()
    yield pair
    pair.close()


def _frame(payload: bytes) -> bytes:
    return frame_header(len(payload)) + payload


def test_a_server_that_speaks_something_else(raw: Raw) -> None:
    raw.other.sendall(b"SSH-2.0-OpenSSH")
    assert "b'SSH-2.0" in raw.end.wait_closed()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff\xff", "over the limit"),
        (_frame(b"\xff\xff"), "no ManagerEnvelope"),
        (_frame(b"\xfa\x3e\x00"), "newer version"),
    ],
    ids=["too long", "no protobuf", "unknown"],
)
def test_a_malformed_message_ends_the_link_after_the_good_ones(raw: Raw, data: bytes, reason: str) -> None:
    raw.other.sendall(MAGIC + _frame(encode(AcknowledgeReport(5))) + data)
    assert reason in raw.end.wait_closed()
    assert raw.end.messages == [AcknowledgeReport(5)]


@pytest.mark.parametrize("cut", [3, 8, 10, 12, 5000])
def test_a_server_that_dies_in_the_middle_of_a_message(raw: Raw, cut: int) -> None:
    raw.other.sendall((MAGIC + frame_header(100_000) + bytes(100_000))[:cut])
    raw.other.close()
    assert raw.end.wait_closed() == ("" if cut == 8 else "the connection ended in the middle of a message")


def test_what_a_server_said_before_it_went_is_delivered_to_one_who_only_sends(raw: Raw) -> None:
    raw.end.gate.clear()
    raw.other.sendall(MAGIC + b"".join(_frame(encode(AcknowledgeReport(at))) for at in range(50)))
    raw.other.close()
    for at in range(200):
        raw.link.send(Call(id=at, method="/m", payload=bytes(1000)))
    raw.end.gate.set()
    raw.end.wait_closed()
    assert raw.end.messages == [AcknowledgeReport(at) for at in range(len(raw.end.messages))]
    assert len(raw.end.reasons) == 1


def test_partial_writes_arrive_whole_and_flush_waits_for_them(raw: Raw) -> None:
    calls = [Call(id=at, method="/m", payload=bytes([at]) * 300_000) for at in range(30)]
    for call in calls:
        raw.link.send(call)
    assert raw.link.buffered_bytes() > 0
    assert not raw.link.flush(0.01)
    decoder = FrameDecoder()
    got: list[Message] = []
    list(decoder.feed(MAGIC))
    while len(got) < len(calls):
        got += [decode_peer(payload) for payload in decoder.feed(raw.other.recv(1 << 20))]
    assert got == calls
    assert raw.link.flush(WAIT_S)
    assert raw.link.buffered_bytes() == 0


def test_flush_says_when_it_was_in_vain(raw: Raw) -> None:
    for at in range(30):
        raw.link.send(Call(id=at, method="/m", payload=bytes(300_000)))
    raw.other.close()
    assert not raw.link.flush(WAIT_S)
    raw.end.wait_closed()
    assert raw.link.buffered_bytes() == 0


def test_a_close_that_is_not_answered_ends_after_a_while(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LINGER_S", 0.05)
    raw.link.close()
    raw.link.close()
    assert raw.end.wait_closed() == ""


def test_a_message_that_cannot_be_sent_ends_the_link(raw: Raw) -> None:
    raw.link.send(PingNode(1 << 70))
    assert "PingNode cannot be sent" in raw.end.wait_closed()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_receiver_that_raises_ends_its_link(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))
    raw.end.gate = None  # type: ignore[assignment]
    raw.other.sendall(MAGIC + _frame(encode(AcknowledgeReport(1))))
    assert "the receiver of its messages failed: AttributeError" in raw.end.wait_closed()
    wait_until_true(lambda: reported)
    assert isinstance(reported[0], AttributeError)
    raw.end.gate = threading.Event()


def test_the_link_has_one_daemon_thread_of_the_given_name(raw: Raw) -> None:
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "link-under-test"]
    assert thread.daemon
    raw.other.close()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_a_link_leaves_no_descriptor_behind() -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        pair = Raw()
        pair.link.close()
        pair.close()
    assert len(set(os.listdir("/proc/self/fd")) - before) == 0


def test_sending_from_the_receiver_works() -> None:
    with CARRIERS["unix-thread"]() as pair:
        receive = pair.peer.received

        def answer(message: object) -> None:
            receive(message)  # type: ignore[arg-type]
            pair.peer.link.send(PingNode(len(pair.peer.messages)))

        pair.peer.link._received = answer
        pair.manager.send(*[AcknowledgeReport(at) for at in range(100)])
        assert pair.manager.wait_messages(100) == [PingNode(at + 1) for at in range(100)]


def test_nobody_there_and_no_endpoint() -> None:
    with bind(Endpoint.parse("frames://127.0.0.1:0")) as listener:
        free = str(bound_endpoint(Endpoint.parse("frames://127.0.0.1:0"), listener))
    with pytest.raises(Unavailable, match="connection refused"):
        open_link(free, print, print, timeout_s=5)
    with pytest.raises(InvalidArgument, match="not one that Flame knows"):
        open_link("nowhere", print, print, timeout_s=5)


FORKED = """
import os, sys
from flame.carriers.threads import open_link
from flame.model.messages import PingNode
child = os.fork()
if child == 0:
    link = open_link(sys.argv[1], print, print, timeout_s=20)
    link.send(PingNode(42))
    os._exit(0 if link.flush(20) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
LEFT_OPEN = """
import sys
from flame.carriers.threads import open_link
from flame.model.messages import PingNode
open_link(sys.argv[1], print, print, timeout_s=20).send(PingNode(42))
"""


@pytest.mark.parametrize("program", [FORKED, LEFT_OPEN], ids=["forked", "left open"])
def test_another_process(program: str) -> None:
    """A forked child opens its own link; an open link does not keep an interpreter alive."""
    place = Endpoint.parse("frames://127.0.0.1:0")
    with bind(place) as listener:
        listener.settimeout(WAIT_S)
        endpoint = str(bound_endpoint(place, listener))
        process = subprocess.Popen([sys.executable, "-c", program, endpoint], stdin=subprocess.DEVNULL)
        with listener.accept()[0] as other:
            other.settimeout(WAIT_S)
            decoder = FrameDecoder()
            got: list[Message] = []
            while data := other.recv(65536):
                got += [decode_peer(payload) for payload in decoder.feed(data)]
        assert got == [PingNode(42)]
        assert process.wait(WAIT_S) == 0


def test_overtaking_is_impossible_while_something_waits() -> None:
    ours, theirs = socket.socketpair()
    ended = threading.Event()
    link = FramesThreadLink(ours, print, lambda reason: ended.set())
    calls = [Call(id=at, method="/m", payload=bytes(200_000 if at == 0 else 5)) for at in range(50)]
    for call in calls:
        link.send(call)  # no I/O thread yet: the first fills the socket, the others wait behind its rest
    threading.Thread(target=link.run, daemon=True).start()
    decoder = FrameDecoder()
    got: list[Message] = []
    list(decoder.feed(MAGIC))
    while len(got) < len(calls):
        got += [decode_peer(payload) for payload in decoder.feed(theirs.recv(65536))]
    assert got == calls
    theirs.close()
    assert ended.wait(WAIT_S)
