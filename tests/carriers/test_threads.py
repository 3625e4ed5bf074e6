"""Thread ends against a raw listener: strangers, broken streams, threads, forks."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from flame.carriers import threads
from flame.carriers.endpoints import bind, bound_endpoint
from flame.carriers.threads import FramesThreadLink, open_link
from flame.model.endpoint import Endpoint
from flame.model.errors import InvalidArgument, Unavailable
from flame.model.executor_messages import AcknowledgeReport
from flame.model.messages import Call, Message
from flame.model.node_messages import PingNode
from flame.protocol.frames import MAGIC, FrameDecoder, frame_header
from flame.wire.packing import decode_peer, encode
from tests.carriers.ends import CARRIERS, WAIT_S, End
from tests.support import wait_until_true


class Raw:
    """A raw listener and the thread link that is connected to it."""

    def __init__(self) -> None:
        self.listener = bind(Endpoint.parse("frames://127.0.0.1:0"))
        self.listener.settimeout(WAIT_S)
        self.endpoint = str(bound_endpoint(Endpoint.parse("frames://127.0.0.1:0"), self.listener))
        self.end = End(None)
        link = open_link(self.endpoint, self.end.received, self.end.closed, timeout_s=WAIT_S, name="link-under-test")
        assert isinstance(link, FramesThreadLink)
        self.link = link
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
    assert raw.link.foreign


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff\xff", "over the limit"),
        (_frame(b"\xc1\xff"), "no message"),
        (_frame(b"\x81\xa4type\xa4Sing"), "newer version"),
    ],
    ids=["too long", "no message", "unknown"],
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


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The exceptions that ended a thread."""
    exceptions: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: exceptions.append(args.exc_value))
    return exceptions


def test_a_receiver_that_raises_ends_its_link(raw: Raw, reported: list[object]) -> None:
    raw.end.gate = None  # type: ignore[assignment]
    raw.other.sendall(MAGIC + _frame(encode(AcknowledgeReport(1))))
    assert "its I/O thread failed: AttributeError" in raw.end.wait_closed()
    wait_until_true(lambda: reported)
    assert isinstance(reported[0], AttributeError)
    assert raw.link.failed
    raw.end.gate = threading.Event()


def test_a_link_whose_descriptors_are_closed_under_it_is_over(raw: Raw, reported: list[object]) -> None:
    wakeup = os.dup(raw.link._wakeup)
    os.close(raw.link._wakeup)
    os.close(raw.link._socket.fileno())
    os.eventfd_write(wakeup, 1)
    os.close(wakeup)
    assert "its I/O thread failed" in raw.end.wait_closed()
    wait_until_true(lambda: reported)
    assert raw.link.failed


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
from flame.model.node_messages import PingNode
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
from flame.model.node_messages import PingNode
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


class Guest:
    """A thread that waits for messages as an executor's main thread does, and takes them itself where it can."""

    def __init__(self, raw: Raw, timeout_s: float = WAIT_S) -> None:
        self.readers: list[str] = []
        self.refused = threading.Event()
        self.failure: BaseException | None = None
        self._raw = raw
        self._timeout_s = timeout_s
        received = raw.link._received

        def note(message: Message) -> None:
            self.readers.append(threading.current_thread().name)
            received(message)

        raw.link._received = note
        self._thread = threading.Thread(target=self._visit, name="guest", daemon=True)

    def _visit(self) -> None:
        link, end = self._raw.link, self._raw.end
        try:
            while not end.reasons:
                seen = len(end.messages)
                if not link.receive(self._timeout_s):
                    self.refused.set()
                    end.wait_for(partial(self._has_more, seen), "message")
        except BaseException as error:
            self.failure = error

    def _has_more(self, seen: int) -> bool:
        return len(self._raw.end.messages) > seen or bool(self._raw.end.reasons)

    def settle(self) -> int:
        """Start, be refused at first, and be let in after some message; return how many there were."""
        self._thread.start()
        assert self.refused.wait(WAIT_S)
        self._raw.other.sendall(MAGIC)
        for number in range(1, 10_000):
            self._raw.other.sendall(_frame(encode(AcknowledgeReport(number))))
            self._raw.end.wait_messages(number)
            with suppress(AssertionError):
                wait_until_true(lambda: self._raw.link._reader is threads._Reader.GUEST, 0.05)
                return number
        raise AssertionError("it was never let in")

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


def test_a_thread_that_waits_anyhow_takes_the_messages_itself(raw: Raw) -> None:
    guest = Guest(raw)
    settled = guest.settle()
    for number in range(settled + 1, settled + 40):
        raw.other.sendall(_frame(encode(AcknowledgeReport(number))))
        raw.end.wait_messages(number)
    assert raw.end.messages == [AcknowledgeReport(number) for number in range(1, settled + 40)]
    assert guest.readers[0] == "link-under-test"
    assert guest.readers[settled:] == 39 * ["guest"]
    raw.other.close()
    assert raw.end.wait_closed() == ""
    guest.join()
    assert not raw.link.receive(WAIT_S)


def test_when_nobody_comes_the_io_thread_reads_again(raw: Raw) -> None:
    raw.other.sendall(MAGIC)
    for number in range(1, 200):
        raw.link.receive(0)
        raw.other.sendall(_frame(encode(AcknowledgeReport(number))))
    assert raw.end.wait_messages(199) == [AcknowledgeReport(number) for number in range(1, 200)]
    wait_until_true(lambda: raw.link._reader is threads._Reader.IO)


def test_what_a_guest_cannot_read_ends_the_link_in_the_io_thread(raw: Raw) -> None:
    guest = Guest(raw)
    guest.settle()
    raw.other.sendall(_frame(b"\xc1"))
    assert "no message" in raw.end.wait_closed()
    guest.join()
    assert raw.end.reasons == [raw.end.reasons[0]]


def test_a_guest_is_turned_out_when_the_link_is_aborted(raw: Raw) -> None:
    guest = Guest(raw)
    guest.settle()
    raw.link.send(PingNode(1 << 64))
    assert "cannot send" in raw.end.wait_closed()
    guest.join()
    assert guest.failure is None


def test_a_guest_leaves_when_the_link_is_closed(raw: Raw) -> None:
    guest = Guest(raw)
    guest.settle()
    raw.link.close()
    raw.other.close()
    assert raw.end.wait_closed() == ""
    guest.join()


def test_a_guest_s_own_failure_is_its_own_and_the_link_goes_on(raw: Raw) -> None:
    guest = Guest(raw)
    settled = guest.settle()
    received = raw.link._received

    def fail(message: Message) -> None:
        if message == AcknowledgeReport(settled + 1):
            raise ZeroDivisionError
        received(message)

    raw.link._received = fail
    raw.other.sendall(_frame(encode(AcknowledgeReport(settled + 1))))
    guest.join()
    assert isinstance(guest.failure, ZeroDivisionError)
    raw.other.sendall(_frame(encode(AcknowledgeReport(settled + 2))))
    assert raw.end.wait_messages(settled + 1)[-1] == AcknowledgeReport(settled + 2)


def test_a_link_for_which_there_is_no_thread_is_one_that_is_not_there(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short_tmp}/manager")
        listener.listen()
        before = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            with pytest.raises(Unavailable, match="can't start new thread"):
                open_link(f"unix://{short_tmp}/manager", print, print)
        assert len(os.listdir("/proc/self/fd")) == before
