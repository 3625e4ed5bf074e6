"""The link of a connection: reconnecting, refusals, a handshake that gets no answer."""

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import flame
from flame.carriers import threads
from flame.carriers.port import Foreign
from flame.model.messages import Hello, Message, Welcome
from flame.sdk import connection as connection_module
from flame.sdk.link import StreamOwner
from tests.sdk.scripted import Peer, ScriptedCluster
from tests.support import WaitUntil


def test_a_listener_that_never_answers_the_handshake_is_given_up(short_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{short_tmp}/s")
        silent.listen()
        with pytest.raises(flame.Unavailable, match=r"no answer to the handshake within 0\.[2-9] s \(something takes"):
            flame.connect(f"unix://{short_tmp}/s", timeout=0.2)


class Stranger:
    """A server that gives each connection the same answer to its first bytes, whatever they are.

    Args:
        answer: what it says before it closes.
    """

    def __init__(self, answer: bytes) -> None:
        self.connections = 0
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            with client, suppress(OSError):
                client.recv(4096)
                client.sendall(self._answer)
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):  # closing a socket with unread bytes would throw the answer away
                    pass

    def close(self) -> None:
        """Stop serving."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
            "does not speak Flame's frames: it began with b'HTTP",
        ),
        (b"\x00\x00\x12\x04" + bytes(20), "does not speak Flame's frames"),
        (b"FLM\x01\r\n\x1a\n", "speaks another version of Flame's frames"),
    ],
    ids=["http", "http/2", "older"],
)
def test_one_who_speaks_something_else_is_told_at_once(answer: bytes, said: str) -> None:
    stranger = Stranger(answer)
    try:
        with pytest.raises(flame.Unavailable, match=said) as caught:
            flame.connect(f"frames://{stranger.address}", timeout=1000)  # which the test would not survive
        assert stranger.address in str(caught.value)
        assert stranger.connections == 1
    finally:
        stranger.close()


def test_one_who_closes_without_a_word_may_be_starting() -> None:
    stranger = Stranger(b"")
    try:
        with pytest.raises(flame.Unavailable, match=r"closed by the other side|connection broke"):
            flame.connect(f"frames://{stranger.address}", timeout=0.5)
        assert stranger.connections > 1
    finally:
        stranger.close()


def test_an_older_session_manager_is_not_followed(
    cluster: ScriptedCluster, connection: flame.Connection, wait_until: WaitUntil
) -> None:
    cluster.stop()
    cluster.manager.epoch = 0
    cluster.start()
    wait_until(lambda: connection.stream.refusal is not None)
    with pytest.raises(TimeoutError, match="there is no link"):
        connection.list_sessions(timeout=0.05)
    cluster.stop()
    cluster.manager.epoch = 5
    cluster.start()
    assert connection.list_sessions(timeout=30) == []


def test_no_thread_is_left_after_close(cluster: ScriptedCluster, wait_until: WaitUntil) -> None:
    connection = flame.connect(cluster.endpoint)
    cluster.stop()
    connection.close()
    wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("flame-")])
    cluster.start()


def test_an_idle_round_trip_is_short(connection: flame.Connection) -> None:
    """Not a benchmark: that nothing on the way waits for a timer."""
    with connection.create_session("upper") as session:
        best = 1.0
        for _ in range(200):
            started = time.perf_counter()
            session.invoke(b"x")
            best = min(best, time.perf_counter() - started)
    assert best < 0.02


class _StandInLink:
    """A link to a session manager that answers the handshake; `dead` ones never reach it."""

    foreign = failed = False

    def __init__(self, received: threads.Received, dead: bool) -> None:
        self.closed = False
        self._received, self._dead = received, dead

    def send(self, message: Message) -> None:
        if isinstance(message, Hello) and not self._dead:
            threading.Thread(target=self._received, args=(Welcome(store_id="s", epoch=1),)).start()

    def close(self) -> None:
        self.closed = True


def test_a_link_lost_before_its_opener_saw_it_is_opened_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    links: list[_StandInLink] = []

    def open_link(endpoint: str, received: threads.Received, closed: threads.Closed, **_: object) -> _StandInLink:
        link = _StandInLink(received, dead=not links)
        links.append(link)
        if len(links) == 1:
            received(Welcome(store_id="s", epoch=1))
            closed("it broke")
        return link

    monkeypatch.setattr(threads, "open_link", open_link)
    owner = StreamOwner("unix:///nowhere", "test")
    assert owner.establish(30).store_id == "s"
    assert [one for one in threading.enumerate() if one.name == "flame-reconnect"] == []
    assert [link.closed for link in links] == [True, False]
    owner.fail(flame.Unavailable("over"))


def test_a_stranger_on_the_port_is_an_error_at_first_and_waited_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    strangers = 3

    def open_link(endpoint: str, received: threads.Received, closed: threads.Closed, **_: object) -> _StandInLink:
        nonlocal strangers
        if strangers:
            strangers -= 1
            raise Foreign("no session manager")
        return _StandInLink(received, dead=False)

    monkeypatch.setattr(threads, "open_link", open_link)
    owner = StreamOwner("unix:///nowhere", "test")
    with pytest.raises(flame.Unavailable, match="no session manager"):
        owner.establish(30)
    assert strangers == 2
    assert owner.establish(None).store_id == "s"
    owner.fail(flame.Unavailable("over"))


def test_who_takes_links_and_drops_them_is_asked_less_and_less(
    monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    links: list[_StandInLink] = []

    def open_link(endpoint: str, received: threads.Received, closed: threads.Closed, **_: object) -> _StandInLink:
        def lost_soon(message: Message) -> None:
            received(message)
            wait_until(lambda: not owner._establishing)
            if len(links) < 7:
                closed("it broke")

        links.append(_StandInLink(lost_soon, dead=False))
        return links[-1]

    waited: list[float] = []
    monkeypatch.setattr(threads, "open_link", open_link)
    monkeypatch.setattr(StreamOwner, "_pause", lambda owner, pause_s: waited.append(pause_s))
    owner = StreamOwner("unix:///nowhere", "test")
    owner.establish(30)
    wait_until(lambda: len(links) == 7)
    wait_until(lambda: not owner._establishing)
    assert len(waited) == 6
    assert waited[-1] >= 4 * waited[0]
    owner.fail(flame.Unavailable("over"))
    wait_until(lambda: not [one for one in threading.enumerate() if one.name == "flame-reconnect"])


@pytest.mark.parametrize("endpoint", ["unix://{tmp}/nobody", "unix://{tmp}/stale", "frames://{free}", "http://{free}"])
def test_a_first_link_where_nobody_listens_is_given_up_soon(
    endpoint: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as stale, socket.socket() as unused:
        stale.bind(f"{short_tmp}/stale")
        unused.bind(("127.0.0.1", 0))  # it does not listen
        url = endpoint.format(tmp=short_tmp, free=f"127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setattr(connection_module, "CONNECT_TIMEOUT_S", 1000.0)  # which the test would not survive
        with pytest.raises(flame.Unavailable, match="cannot connect"):
            flame.connect(url)


def test_a_first_link_is_tried_for_as_long_as_the_caller_says(
    cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "FIRST_PATIENCE_S", 0.0)  # of who says nothing
    cluster.stop()
    with pytest.raises(flame.Unavailable, match="cannot connect"):
        flame.connect(cluster.endpoint)
    threading.Timer(0.3, cluster.start).start()
    flame.connect(cluster.endpoint, timeout=30).close()


def test_a_first_link_is_tried_for_no_longer_than_the_caller_says(short_tmp: Path) -> None:
    started = time.monotonic()
    with pytest.raises(flame.Unavailable, match="cannot connect"):
        flame.connect(f"unix://{short_tmp}/nobody", timeout=0.8)
    # The last pause is not begun if it would end too late; a busy machine may add some seconds.
    assert 0.5 < time.monotonic() - started < 8


def test_a_first_link_waits_a_moment_for_one_who_comes_soon(
    cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "FIRST_PATIENCE_S", 9.0)
    cluster.stop()
    threading.Timer(0.05, cluster.start).start()
    flame.connect(cluster.endpoint).close()


def test_a_thread_that_called_callbacks_can_wait_afterwards(
    cluster: ScriptedCluster, connection: flame.Connection
) -> None:
    """Several threads may call callbacks at once, here the link's and one that detaches."""
    inside = [threading.Event(), threading.Event()]
    leave = [threading.Event(), threading.Event()]
    refused: list[bool] = []

    def callback(number: int) -> None:
        inside[number].set()
        assert leave[number].wait(30)
        try:
            connection.create_session("upper")
        except flame.FailedPrecondition:
            refused.append(True)

    cluster.manager.hold_results = True
    first, second = connection.create_session("upper"), connection.create_session("upper")
    first.run(b"x").add_done_callback(lambda _: callback(0))
    second.run(b"x").add_done_callback(lambda _: callback(1))
    waited: list[object] = []

    def detach() -> None:
        first.detach(wait=False)
        waited.append(connection.list_sessions(timeout=30))

    def detach_second() -> None:
        second.detach(wait=False)
        waited.append(connection.list_sessions(timeout=30))

    tellers = [threading.Thread(target=detach), threading.Thread(target=detach_second)]
    for number, teller in enumerate(tellers):
        teller.start()
        assert inside[number].wait(30)
    for event in leave:  # the first to come is the first to go; one of them may be the link's own thread
        event.set()
    for teller in tellers:
        teller.join(30)
        assert not teller.is_alive()
    assert len(waited) == 2
    assert refused == [True, True]


def test_an_outage_is_told_once_and_its_end_too(
    cluster: ScriptedCluster, connection: flame.Connection, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    cluster.stop()
    wait_until(lambda: caplog.records)
    with pytest.raises(TimeoutError, match="there is no link"):
        connection.list_sessions(timeout=0.2)
    cluster.start()
    assert connection.list_sessions(timeout=30) == []
    wait_until(lambda: len(caplog.records) >= 2)
    lost, back = [record.getMessage() for record in caplog.records]
    assert lost.startswith(f"the link to {cluster.endpoint} is lost, reconnecting: ")
    assert back == f"the link to {cluster.endpoint} is back"
    assert {(record.name, record.levelname) for record in caplog.records} == {("flame", "WARNING")}


def test_closing_is_no_outage(cluster: ScriptedCluster, caplog: pytest.LogCaptureFixture) -> None:
    with flame.connect(cluster.endpoint) as connection, connection.create_session("upper") as session:
        session.invoke(b"x")
    cluster.stop()
    cluster.start()
    assert caplog.records == []


def test_a_removal_whose_answer_was_lost_succeeds(
    cluster: ScriptedCluster, connection: flame.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.register_application("mine", command="/bin/true")
    session = connection.create_session("upper", session_id="old")
    session.close()
    answer = Peer._call
    lost: list[str] = []

    def drop_first_answer(peer: Peer, message: object) -> object:
        reply = answer(peer, message)  # type: ignore[arg-type]
        method = cluster.manager.calls[-1]
        if method in ("DeleteSession", "UnregisterApplication") and method not in lost:
            lost.append(method)
            links, cluster._links = cluster._links, []
            for link in links:
                link.abort()
        return reply

    monkeypatch.setattr(Peer, "_call", drop_first_answer)
    assert connection.delete_session("old", timeout=30).id == "old"
    connection.unregister_application("mine", timeout=30)
    assert lost == ["DeleteSession", "UnregisterApplication"]
    assert cluster.manager.calls.count("DeleteSession") == cluster.manager.calls.count("UnregisterApplication") == 2
    with pytest.raises(flame.NotFound):
        connection.delete_session("old")
    with pytest.raises(flame.NotFound):
        connection.unregister_application("mine")
