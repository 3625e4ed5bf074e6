"""Peers that mean harm over gRPC: attacks as those of `attacker`, on the gRPC port.

Arguments: the kind of attack, `host:port` of the gRPC frontend. Attacks below HTTP/2 write its bytes themselves.
"""

import itertools
import queue
import random
import select
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import grpc

from flame.model.client_messages import AcknowledgeSegments, CancelTasks
from flame.model.messages import Hello, Message, Role
from flame.wire.codec import encode, join_envelopes
from flame.wire.published import frontend
from tests.hostile.attacker import GREED, LARGE, SLOW, attack

CHANNELS: Final = 4
UNDER_WAY: Final = 64
CONNECTIONS: Final = 500
REOPEN_STROKES: Final = 100
"""After so many, a stream that was ended is opened again."""
HUGE: Final = 50
HUGE_SENT_BYTES: Final = 4 * 1024 * 1024
LIST_SESSION: Final = "/flame.v1.Frontend/ListSession"
CREATE_SESSION: Final = "/flame.v1.Frontend/CreateSession"
GET_SESSION: Final = "/flame.v1.Frontend/GetSession"
CONNECT: Final = "/flame.v1.SessionManager/Connect"
HELLO: Final = encode(Hello(role=Role.CLIENT, software="attacker"))
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_BYTES: Final = 16_384


def channels(address: str) -> list[grpc.Channel]:
    """A few connections."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    return [grpc.insecure_channel(address, options=options) for _ in range(CHANNELS)]


def dial(address: str) -> socket.socket:
    """A plain connection that sends and receives what fits, at once."""
    host, _, port = address.rpartition(":")
    made = socket.create_connection((host, int(port)))
    made.setblocking(False)
    return made


def grpc_garbage(address: str) -> Iterator[int]:
    """Connections that send noise, some of it behind a correct beginning."""
    rng = random.Random(1)
    beginnings = (b"", _PREFACE, _PREFACE + _frame(4, 0, 0, b""), _opened(LIST_SESSION), _opened(CONNECT))
    while True:
        with dial(address) as stranger, suppress(OSError):
            stranger.send(rng.choice(beginnings) + rng.randbytes(4096))
            select.select([stranger], [], [], 1)
        yield 1


def grpc_calls(address: str) -> Iterator[int]:
    """Unary calls, as many as are answered, and some of a method that is not there."""
    links = channels(address)
    calls: Any = [link.unary_unary(name, None, None) for link in links for name in (LIST_SESSION, LIST_SESSION + "x")]
    under_way: list[Any] = []
    at = 0
    while True:
        under_way = [one for one in under_way if not one.done()]
        struck = UNDER_WAY - len(under_way)
        for _ in range(struck):
            at += 1
            under_way.append(calls[at % len(calls)].future(b""))
        yield struck


def grpc_messages(address: str) -> Iterator[int]:
    """Well-formed messages about things that are not there, over streams of a few connections."""
    nonsense: list[Message] = [
        CancelTasks(attachment=7, request=1, first=1, count=1),
        AcknowledgeSegments(attachment=9, sequence=3),
    ]
    yield from _stream(address, CHANNELS, nonsense * 50)


def _stream(address: str, count: int, burst: list[Message]) -> Iterator[int]:
    """Keep that many streams, over a few connections, that send a burst again and again, and read nothing."""
    data = join_envelopes([encode(message) for message in burst])
    links = channels(address)
    streams: list[tuple[Any, queue.Queue[bytes]]] = []
    for stroke in itertools.count():
        streams = [(call, outbox) for call, outbox in streams if not call.done()]
        if len(streams) < count and (stroke < count or stroke % REOPEN_STROKES == 0):
            outbox: queue.Queue[bytes] = queue.Queue(maxsize=2)
            outbox.put(join_envelopes([HELLO]))
            call: Any = links[len(streams) % CHANNELS].stream_stream(CONNECT, None, None)
            streams.append((call(iter(outbox.get, None)), outbox))
        struck = 0
        for _, outbox in streams:
            with suppress(queue.Full):
                outbox.put_nowait(data)
                struck += len(burst)
        yield struck


def grpc_slow(address: str) -> Iterator[int]:
    """Streams that ask for much, again and again, and never read an answer."""
    yield from _stream(address, SLOW, GREED)


def grpc_huge(address: str) -> Iterator[int]:
    """Messages that claim the largest length there is, of which a part is sent."""
    for claimed in (0xFFFFFFFF, 64 << 20):
        rest = bytes(_FRAME_BYTES)
        part = _frame(0, 0, 1, struct.pack(">BI", 0, claimed)) + _frame(0, 0, 1, rest) * (HUGE_SENT_BYTES // len(rest))
        for _ in range(HUGE):
            with suppress(OSError):
                _held.append(dial(address))
                _held[-1].send(_opened(LIST_SESSION) + part)
            yield 1
    while True:
        yield 1


def grpc_unread(address: str) -> Iterator[int]:
    """Unary calls with large answers, over connections that let nothing be sent to them."""
    create = frontend.CreateSessionRequest(session_id="large", session=LARGE)
    with suppress(grpc.RpcError):  # it is there already, from an attack before
        channels(address)[0].unary_unary(CREATE_SESSION, None, None)(create.SerializeToString())
    asked = frontend.GetSessionRequest(session_id="large").SerializeToString()
    message = struct.pack(">BI", 0, len(asked)) + asked
    shut = _PREFACE + _frame(4, 0, 0, struct.pack(">HI", 4, 0))
    links: list[list[Any]] = [[None, b"", 1] for _ in range(CHANNELS)]
    while True:
        struck = 0
        for link in links:
            if link[0] is None or _is_over(link[0]):
                link[:] = [dial(address), shut, 1]
            with suppress(OSError):
                link[1] = link[1][link[0].send(link[1]) :]
            if not link[1]:
                calls = range(link[2], link[2] + 2 * UNDER_WAY, 2)
                link[1] = b"".join(_asked(GET_SESSION, at) + _frame(0, 1, at, message) for at in calls)
                link[2] = calls.stop
                struck += UNDER_WAY
        yield struck


def grpc_connections(address: str) -> Iterator[int]:
    """Hundreds of connections that say nothing, or only that they speak HTTP/2."""
    while True:
        struck = 0
        while len(_held) < CONNECTIONS and struck < 20:
            _held.append(dial(address))
            with suppress(OSError):
                _held[-1].send(random.choice((b"", _PREFACE + _frame(4, 0, 0, b""))))
            struck += 1
        for link in [link for link in _held if _is_over(link)]:
            _held.remove(link)
            link.close()
        yield struck


_held: list[socket.socket] = []
"""Connections that are kept."""


def _is_over(link: socket.socket) -> bool:
    try:
        return not link.recv(4096)
    except BlockingIOError:
        return False
    except OSError:
        return True


# --- HTTP/2 by hand ---


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _opened(method: str) -> bytes:
    """A connection's beginning, with a call of this method on stream 1."""
    return _PREFACE + _frame(4, 0, 0, b"") + _asked(method, 1)


def _asked(method: str, stream: int) -> bytes:
    """The headers of a call."""
    headers = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "x", "te": "trailers"}
    headers["content-type"] = "application/grpc"
    block = b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    return _frame(1, 4, stream, block)


ATTACKS: Final = {
    strike.__name__: strike
    for strike in (
        *(grpc_garbage, grpc_calls, grpc_messages, grpc_slow, grpc_unread),
        *(grpc_huge, grpc_connections),
    )
}


if __name__ == "__main__":
    attack(ATTACKS[sys.argv[1]](sys.argv[2]))
