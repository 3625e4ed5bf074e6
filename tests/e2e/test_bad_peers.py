"""What arrives at the ports and is no client: half frames, garbage, strangers."""

import http.client
import random
import socket
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress

import pytest

import flame
from flame.config.components import SessionManagerConfig
from tests.e2e.cluster import Cluster, register
from tests.e2e.conftest import MakeCluster
from tests.support import wait_until_true


def dial(cluster: Cluster) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(30)
    made.connect(cluster.endpoint.removeprefix("unix://"))
    return made


def closed_by_peer(stranger: socket.socket) -> bool:
    """Read until the other side closes."""
    with suppress(ConnectionResetError):
        while stranger.recv(65536):
            pass
    return True


def check_works(cluster: Cluster) -> None:
    """The cluster still serves, by the process that it had."""
    assert cluster.started["session-manager"].poll() is None
    with cluster.session("Echo") as session:
        assert session.invoke(b"still here", timeout=60) == b"still here"


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"\xff" * 1000,
        random.Random(7).randbytes(100_000),
    ],
    ids=["http", "http2", "tls", "ones", "random"],
)
def test_garbage_on_the_frames_port(cluster: Cluster, garbage: bytes) -> None:
    before = len(cluster.log("session-manager"))
    with dial(cluster) as stranger:
        with suppress(BrokenPipeError, ConnectionResetError):
            stranger.sendall(garbage)
        assert closed_by_peer(stranger)
    wait_until_true(lambda: "WARNING" in cluster.log("session-manager")[before:], what="the log says so")
    assert len(cluster.log("session-manager")) - before < 2_000
    check_works(cluster)


def test_garbage_on_the_grpc_port(cluster: Cluster) -> None:
    with suppress(http.client.HTTPException, OSError):
        urllib.request.urlopen(cluster.http, timeout=5)
    host, port = cluster.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as stranger, suppress(OSError):
        stranger.sendall(random.Random(8).randbytes(10_000))
    check_works(cluster)


def test_a_client_that_vanishes_in_the_middle_of_a_chunk(make_cluster: MakeCluster) -> None:
    """A real client's bytes, recorded by a relay that cuts the connection inside of the chunk's frame."""
    cluster = make_cluster(1)
    relay = Relay(cluster)
    with flame.connect(f"unix://{relay.path}", timeout=30) as connection:
        register(connection, "Echo")
        session = connection.create_session("echo", session_id="cut")
        relay.limit = relay.passed + 300_000
        futures = [session.run(b"x" * 100_000) for _ in range(8)]
        wait_until_true(lambda: relay.cuts == 1, what="the relay cuts the connection")
        # The client comes back by itself; each task arrives once.
        assert [future.result(60) for future in futures] == [b"x" * 100_000] * 8
        view = connection.get_session("cut")
        assert (view.succeed, view.failed, view.cancelled) == (8, 0, 0)
        relay.limit = relay.passed + 300_000
        session.run(b"y" * 1_000_000)
        wait_until_true(lambda: relay.cuts == 2, what="the relay cuts the connection again")
    relay.close()
    check_works(cluster)
    with cluster.connect() as connection:
        assert connection.get_session("cut").succeed >= 8
        connection.close_session("cut")


def test_a_listener_refuses_addresses_that_others_can_reach(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(0)
    cluster.stop("session-manager")
    for name, value in (("grpc", "0.0.0.0:0"), ("frames", "frames://0.0.0.0:0"), ("grpc", "8.8.8.8:1")):
        assert name in SessionManagerConfig.__struct_fields__
        done = cluster.run_component("session-manager", {**cluster.configuration, name: value})
        assert done.returncode == 1
        assert value.removeprefix("frames://").rpartition(":")[0] in done.stderr
        assert "refusing to listen" in done.stderr
        assert "127.0.0.1" in done.stderr
        assert "Traceback" not in done.stderr


def _in_thread(function: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


class Relay:
    """Passes bytes between clients and the session manager; cuts both sides when `limit` bytes went up."""

    def __init__(self, cluster: Cluster) -> None:
        self.path = f"{cluster.data_dir}/run/relay"
        self.passed = 0
        self.limit = 1 << 60
        self.cuts = 0
        self._cluster = cluster
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        _in_thread(self._accept)

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                below, _ = self._listener.accept()
                above = dial(self._cluster)
                above.settimeout(None)
                _in_thread(self._pass, below, above, True)
                _in_thread(self._pass, above, below, False)

    def _pass(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if up and self.passed + len(data) > self.limit:
                    sink.sendall(data[: self.limit - self.passed])
                    self.limit = 1 << 60
                    self.cuts += 1
                    break
                self.passed += len(data) * up
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
