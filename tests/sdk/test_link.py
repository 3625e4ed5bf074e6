"""The link of a connection: reconnecting, refusals, a handshake that gets no answer."""

import socket
import threading
import time
from pathlib import Path

import pytest

import flame
from flame.carriers import threads
from flame.model.messages import Hello, Message, Welcome
from flame.sdk import link
from flame.sdk.link import StreamOwner
from tests.sdk.scripted import Peer, ScriptedCluster
from tests.support import WaitUntil


def test_a_listener_that_never_answers_the_handshake_is_given_up(short_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{short_tmp}/s")
        silent.listen()
        with pytest.raises(flame.Unavailable, match="no answer to the handshake"):
            flame.connect(f"unix://{short_tmp}/s", timeout=0.2)


def test_garbage_on_the_port_is_an_error_that_says_so(short_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{short_tmp}/s")
        server.listen()

        def answer() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3)
                    client.recv(4096)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(flame.Unavailable, match=str(short_tmp)):
            flame.connect(f"unix://{short_tmp}/s", timeout=0.3)
        server.shutdown(socket.SHUT_RDWR)


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
    before = threading.enumerate()  # other tests of this process may have left some
    connection = flame.connect(cluster.endpoint)
    cluster.stop()
    connection.close()
    wait_until(
        lambda: not [one for one in threading.enumerate() if one.name.startswith("flame-") and one not in before]
    )
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
    before = threading.enumerate()  # other tests of this process may have left some
    owner = StreamOwner("unix:///nowhere", "test")
    assert owner.establish(30).store_id == "s"
    assert [one for one in threading.enumerate() if one.name == "flame-reconnect" and one not in before] == []
    assert [link.closed for link in links] == [True, False]
    owner.fail(flame.Unavailable("over"))


@pytest.mark.parametrize("endpoint", ["unix://{tmp}/nobody", "unix://{tmp}/stale", "frames://{free}", "http://{free}"])
def test_a_first_link_where_nobody_listens_is_given_up_soon(endpoint: str, short_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale, socket.socket() as unused:
        stale.bind(f"{short_tmp}/stale")
        unused.bind(("127.0.0.1", 0))  # it does not listen
        url = endpoint.format(tmp=short_tmp, free=f"127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(flame.Unavailable, match="cannot connect"):
            flame.connect(url, timeout=1000)  # which the test would not survive


def test_a_first_link_waits_for_one_who_comes_soon(cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FIRST_PATIENCE_S", 100.0)
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
