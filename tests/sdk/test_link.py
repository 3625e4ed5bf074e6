"""The link of a connection: reconnecting, refusals, a handshake that gets no answer."""

import socket
import threading
import time
from pathlib import Path

import pytest

import flame
from tests.sdk.scripted import ScriptedCluster
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
    connection = flame.connect(cluster.endpoint)
    cluster.stop()
    connection.close()
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("flame-")])
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
