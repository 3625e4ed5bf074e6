import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flame.supervisor import socket_file

OTHER = 1
"""A process that listens on nothing of this test."""


@pytest.fixture
def listener(short_tmp: Path) -> Iterator[socket.socket]:
    """A socket that this process listens on, in a place with a space in its name."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(short_tmp / "a socket"))
        made.listen(0)
        yield made


def lost(listener: socket.socket, pid: int = os.getpid()) -> bool:
    return socket_file.lost(listener.getsockname(), pid)


def test_one_that_is_in_its_place(listener: socket.socket) -> None:
    assert not lost(listener)
    assert not socket_file.replaceable(listener.getsockname())


def test_one_that_is_slow_to_accept(listener: socket.socket) -> None:
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for one in waiting:
        one.setblocking(False)
    refused = [one.connect_ex(listener.getsockname()) for one in waiting]
    assert refused[-1] == errno.EAGAIN
    assert not lost(listener)
    assert not socket_file.replaceable(listener.getsockname())
    for one in waiting:
        one.close()


def test_one_that_is_removed(listener: socket.socket) -> None:
    os.unlink(listener.getsockname())
    assert lost(listener)
    assert not lost(listener, OTHER)
    assert socket_file.replaceable(listener.getsockname())


def test_one_that_does_not_listen_yet(short_tmp: Path) -> None:
    path = str(short_tmp / "s")
    assert not socket_file.lost(path, os.getpid())
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)
        assert not socket_file.lost(path, os.getpid())
        os.unlink(path)
        assert not socket_file.lost(path, os.getpid())


def test_one_with_the_file_of_a_dead_socket_in_its_place(listener: socket.socket) -> None:
    path = listener.getsockname()
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert lost(listener)
    assert socket_file.replaceable(path)


def test_one_with_a_file_or_a_directory_in_its_place(listener: socket.socket) -> None:
    path = Path(listener.getsockname())
    path.unlink()
    path.touch()
    assert lost(listener)
    assert not socket_file.replaceable(str(path))
    path.unlink()
    path.mkdir()
    assert lost(listener)
    assert not socket_file.replaceable(str(path))
