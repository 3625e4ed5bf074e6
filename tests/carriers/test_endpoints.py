"""Only places that are safe without encryption are bound."""

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from flame.carriers.endpoints import bind, bound_endpoint, connect_socket
from flame.model.endpoint import Endpoint
from flame.model.errors import ConfigurationError, FailedPrecondition, Unavailable


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "[::]", "example.org", "*"])
def test_only_loopback_is_bound(host: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bind(Endpoint.parse(f"frames://{host}:0"))
    assert "not encrypted" in caught.value.message
    assert "127.0.0.1" in caught.value.hint


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3"])
def test_any_port_of_loopback(host: str) -> None:
    place = Endpoint.parse(f"frames://{host}:0")
    with bind(place) as listener:
        assert bound_endpoint(place, listener).port == listener.getsockname()[1] > 0


def test_a_port_in_use_is_named() -> None:
    place = Endpoint.parse("frames://127.0.0.1:0")
    with bind(place) as listener:
        taken = bound_endpoint(place, listener)
        with pytest.raises(FailedPrecondition, match="already in use") as caught:
            bind(taken)
    assert str(taken.port) in caught.value.message
    assert "stop the process" in caught.value.hint


def test_a_unix_socket_is_private_from_the_first_moment(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []

    class Spied(socket.socket):
        def listen(self, backlog: int = 0, /) -> None:
            modes.append(stat.S_IMODE(os.stat(short_tmp / "s").st_mode))
            super().listen(backlog)

    monkeypatch.setattr("flame.carriers.endpoints.socket.socket", Spied)
    umask = os.umask(0)
    try:
        bind(Endpoint.parse(f"unix://{short_tmp}/s")).close()
    finally:
        os.umask(umask)
    assert modes == [0o600]


def test_a_stale_socket_is_replaced(short_tmp: Path) -> None:
    place = Endpoint.parse(f"unix://{short_tmp}/s")
    bind(place).close()
    assert os.path.exists(place.path)
    with bind(place) as listener, connect_socket(place, 5.0):
        listener.setblocking(True)
        listener.accept()[0].close()


def test_a_socket_that_somebody_listens_on_is_not_replaced(short_tmp: Path) -> None:
    place = Endpoint.parse(f"unix://{short_tmp}/s")
    with bind(place):
        with pytest.raises(FailedPrecondition, match="already in use"):
            bind(place)
        connect_socket(place, 5.0).close()


def test_of_many_that_find_a_stale_socket_one_gets_it(short_tmp: Path) -> None:
    place = Endpoint.parse(f"unix://{short_tmp}/s")
    bind(place).close()
    got: list[socket.socket] = []
    refused: list[FailedPrecondition] = []
    ready = threading.Barrier(8)

    def attempt() -> None:
        ready.wait()
        try:
            got.append(bind(place))
        except FailedPrecondition as error:
            refused.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    connect_socket(place, 5.0).close()
    got[0].close()


def test_a_file_in_the_way_is_not_removed(short_tmp: Path) -> None:
    (short_tmp / "s").write_text("precious")
    with pytest.raises(ConfigurationError, match="no socket"):
        bind(Endpoint.parse(f"unix://{short_tmp}/s"))
    assert (short_tmp / "s").read_text() == "precious"


def test_a_missing_directory_is_named(short_tmp: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot listen: no such file"):
        bind(Endpoint.parse(f"unix://{short_tmp}/none/s"))


def test_a_host_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(Unavailable, match="cannot connect: name or service not known"):
        connect_socket(Endpoint.parse("frames://nowhere:80"), 5.0)


def test_nobody_there(short_tmp: Path) -> None:
    with pytest.raises(Unavailable, match="cannot connect: no such file") as caught:
        connect_socket(Endpoint.parse(f"unix://{short_tmp}/s"), 5.0)
    assert str(short_tmp) in caught.value.message
    place = Endpoint.parse("frames://127.0.0.1:0")
    with bind(place) as listener:
        free = bound_endpoint(place, listener)
    with pytest.raises(Unavailable, match="connection refused") as caught:
        connect_socket(free, 5.0)
    assert str(free) in caught.value.message
