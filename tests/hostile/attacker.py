"""Peers that mean harm: each attack is a program of its own, which goes on until its standard input ends.

Arguments: the kind of attack and the path of the session manager's Unix socket. It says `attacking` when it has begun,
and how often it struck in the end. Attacks are paced and run at low priority: they are attacks on the session manager
and not on the number of processors of the machine.
"""

import os
import random
import resource
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from flame.model.client_messages import AcknowledgeSegments, CancelTasks
from flame.model.messages import Call, Hello, Message, Role
from flame.protocol.frames import MAGIC, frame_header
from flame.wire.packing import encode
from flame.wire.published import frontend, types

CONNECTIONS: Final = 5_000
STALLED: Final = 200
HUGE: Final = 200
HUGE_SENT_BYTES: Final = 6 * 1024 * 1024
_PAUSE_S: Final = 0.005

Attack = Callable[[str], Iterator[int]]
"""Yields after each stroke how many there were in it."""


def dial(path: str) -> socket.socket:
    """A connection that sends and receives what fits, at once."""
    made = socket.socket(socket.AF_UNIX)
    made.connect(path)
    made.setblocking(False)
    return made


def framed(*messages: Message) -> bytes:
    """Messages as they stand in the stream."""
    return b"".join(frame_header(len(payload)) + payload for payload in map(encode, messages))


SLOW: Final = 20
LARGE = types.SessionSpec(application="flmping", common_data=bytes(256 * 1024))
_ASK_FOR_MUCH = frontend.GetSessionRequest(session_id="large").SerializeToString()
GREED: Final[list[Message]] = [
    Call(
        id=1,
        method="/flame.v1.Frontend/CreateSession",
        payload=frontend.CreateSessionRequest(session_id="large", session=LARGE).SerializeToString(),
    ),
    *(Call(id=at, method="/flame.v1.Frontend/GetSession", payload=_ASK_FOR_MUCH) for at in range(2, 200)),
]
"""Calls with large answers."""

HELLO: Final = MAGIC + framed(Hello(role=Role.CLIENT, software="attacker"))


def garbage(path: str) -> Iterator[int]:
    """Connections that send noise, some of it behind a correct beginning."""
    rng = random.Random(1)
    beginnings = (b"", MAGIC, HELLO, HELLO + frame_header(5), MAGIC + b"\xff\xff\xff\xff")
    while True:
        with dial(path) as stranger, suppress(OSError):
            stranger.send(rng.choice(beginnings) + rng.randbytes(4096))
            select.select([stranger], [], [], 1)
        yield 1


def messages(path: str) -> Iterator[int]:
    """Well-formed messages about things that are not there, as fast as they are read."""
    nonsense: list[Message] = [
        CancelTasks(attachment=7, request=1, first=1, count=1),
        AcknowledgeSegments(attachment=9, sequence=3),
    ]
    yield from _pour(path, framed(*nonsense * 200), 400)


def calls(path: str) -> Iterator[int]:
    """Unary calls, as many as are answered."""
    burst = [Call(id=number, method="/flame.v1.Frontend/ListSession", payload=b"") for number in range(256)]
    yield from _pour(path, framed(*burst), len(burst))


def _pour(path: str, burst: bytes, count: int) -> Iterator[int]:
    """Send a burst again and again over a few connections, and read whatever comes back."""
    links: list[tuple[socket.socket, bytes]] = []
    while True:
        while len(links) < 4:
            links.append((dial(path), HELLO + burst))
        struck = 0
        for place, (link, rest) in enumerate(links):
            with suppress(BlockingIOError):
                try:
                    while link.recv(1 << 20):
                        pass
                    raise ConnectionResetError
                except BlockingIOError:
                    sent = link.send(rest)
                    links[place] = (link, rest[sent:] or burst)
                    struck += count * (sent == len(rest))
                except ConnectionError:
                    link.close()
                    links[place] = (dial(path), HELLO + burst)
        yield struck


def stalled(path: str) -> Iterator[int]:
    """Many peers that stop in the middle of a message, and come back when they are sent away."""
    yield from _hold(path, STALLED, 20, HELLO + frame_header(1 << 20) + bytes(100_000))


def huge(path: str) -> Iterator[int]:
    """Peers that claim the largest message there is, and send a part of it."""
    yield from _hold(path, HUGE, 4, HELLO + frame_header(64 << 20) + bytes(HUGE_SENT_BYTES))


def connections(path: str) -> Iterator[int]:
    """Thousands of connections that say nothing."""
    yield from _hold(path, CONNECTIONS, 20, b"")


def slow(path: str) -> Iterator[int]:
    """Peers that ask for much, again and again, and never read an answer."""
    burst = framed(*GREED)
    links: list[tuple[socket.socket, bytes]] = []
    while True:
        if len(links) < SLOW:
            links.append((dial(path), HELLO + burst))
        struck = 0
        for place, (link, rest) in enumerate(links):
            try:
                sent = link.send(rest)
                links[place] = (link, rest[sent:] or burst)
                struck += sent == len(rest)
            except BlockingIOError:
                continue
            except OSError:
                link.close()
                links[place] = (dial(path), HELLO + burst)
        yield struck


def _hold(path: str, count: int, at_once: int, beginning: bytes) -> Iterator[int]:
    """Keep that many connections, each with the same beginning sent; new ones for those that were closed."""
    held: dict[int, tuple[socket.socket, memoryview]] = {}
    poll = select.epoll()
    while True:
        struck = 0
        while len(held) < count and struck < at_once:
            link = dial(path)
            held[link.fileno()] = (link, memoryview(beginning))
            poll.register(link, select.EPOLLIN | (select.EPOLLOUT if beginning else 0))
            struck += 1
        for number, event in poll.poll(0, 200):
            link, rest = held[number]
            try:
                if event & select.EPOLLIN and not link.recv(4096):
                    raise ConnectionResetError
                if event & select.EPOLLOUT:
                    rest = rest[link.send(rest) :]
                    held[number] = (link, rest)
                    if not rest:
                        poll.modify(link, select.EPOLLIN)
            except BlockingIOError:
                continue
            except ConnectionError:
                del held[number]
                link.close()
        yield struck


ATTACKS: Final[dict[str, Attack]] = {
    strike.__name__: strike for strike in (garbage, messages, calls, slow, stalled, huge, connections)
}


def attack(strokes: Iterator[int]) -> None:
    """Attack until standard input ends.

    Args:
        strokes: how many there were in each.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.nice(10)
    struck, said = 0, False
    for count in strokes:
        struck += count
        if not said and struck:
            said = True
            sys.stdout.write("attacking\n")
            sys.stdout.flush()
        if select.select([sys.stdin], [], [], _PAUSE_S)[0]:
            break
    sys.stdout.write(f"{struck}\n")


if __name__ == "__main__":
    attack(ATTACKS[sys.argv[1]](sys.argv[2]))
