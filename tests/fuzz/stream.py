"""Target: the frame decoder, for any bytes in any pieces, against a decoder of five lines over the whole stream."""

import struct
from collections.abc import Iterator

from flame.model.errors import InvalidArgument
from flame.model.limits import KIB, MAX_MESSAGE_BYTES, MIB
from flame.protocol.frames import MAGIC, FrameDecoder

_MOST_BYTES = 6 * MIB
"""Of a stream: enough to grow the room of a large message, few enough for many streams a second."""
_SHORT, _LENGTH, _LONG, _CUT = range(4)


def frames(data: bytes) -> None:
    """Read `data` as a recipe for a stream in pieces, and decode it.

    What comes out is what a simple decoder finds in the whole, in the same order and with the same end; what is
    reported in between (`mid_message`, `missing_bytes`) is true, and the room that is taken is bounded.
    """
    pieces = list(_pieces(data))
    decoder, received = FrameDecoder(), 0
    payloads: list[bytes] = []
    error = ""
    for piece in pieces:
        received += len(piece)
        try:
            for payload in decoder.feed(piece):
                payloads.append(bytes(payload))  # noqa: PERF401 (what comes before an error counts)
        except InvalidArgument as caught:
            error = caught.message
            break
        assert len(decoder.buffer()) > 0
        assert decoder.apart_bytes <= max(4 * MIB, 2 * received), "room for what has not arrived"
    expected, left, failed = _decode(b"".join(pieces))
    assert payloads == expected
    assert bool(error) == failed, error
    if not failed:
        assert decoder.mid_message == bool(left)
        assert decoder.missing_bytes == _missing(left, decoder.greeted)
    decoder.forget()
    assert decoder.apart_bytes == 0
    assert len(decoder.buffer()) > 0


def frames_seeds() -> Iterator[bytes]:
    """Recipes for streams of each kind."""
    magic = bytes([_SHORT, len(MAGIC)]) + MAGIC
    hello = bytes([_LENGTH]) + struct.pack("<I", 2) + bytes([_SHORT, 2]) + b"hi"
    yield magic + hello + hello
    yield bytes([_CUT]).join([bytes([_SHORT, 1, byte]) for byte in MAGIC]) + hello
    for size, part in ((16 * KIB, 1), (130 * KIB, 3), (5 * MIB, 40), (MAX_MESSAGE_BYTES, 3)):
        yield magic + bytes([_LENGTH]) + struct.pack("<I", size) + bytes([_LONG, part, _CUT, _LONG, part]) + hello
    yield magic + bytes([_LENGTH]) + struct.pack("<I", MAX_MESSAGE_BYTES + 1)
    yield bytes([_SHORT, 14]) + b"GET / HTTP/1.1"
    yield bytes([_SHORT, 4]) + MAGIC[:3] + b"\x01"


def _pieces(data: bytes) -> Iterator[bytes]:
    """Pieces of a stream: bytes as they stand there, lengths, runs of many equal bytes, and cuts between pieces."""
    piece, total, at = bytearray(), 0, 0
    while at < len(data) and total < _MOST_BYTES:
        kind, size, before = data[at] % 4, data[at + 1] if at + 1 < len(data) else 0, len(piece)
        at += 2
        if kind == _SHORT:
            piece += data[at : at + size]
            at += size
        elif kind == _LENGTH:
            piece += data[at - 1 : at + 3]
            at += 3
        elif kind == _LONG:
            piece += bytes([size]) * (size * 1021)
        else:
            yield bytes(piece)
            piece, before, at = bytearray(), 0, at - 1
        total += len(piece) - before
    yield bytes(piece)


def _decode(stream: bytes) -> tuple[list[bytes], bytes, bool]:
    """The payloads of a stream, what is left over, and whether it is no stream of frames."""
    seen = stream[: len(MAGIC)]
    if seen != MAGIC[: len(seen)]:
        return [], b"", True
    if len(seen) < len(MAGIC):
        return [], stream, False
    payloads: list[bytes] = []
    at = len(MAGIC)
    while at + 4 <= len(stream):
        (length,) = struct.unpack_from("<I", stream, at)
        if length > MAX_MESSAGE_BYTES:
            return payloads, b"", True
        if at + 4 + length > len(stream):
            break
        payloads.append(stream[at + 4 : at + 4 + length])
        at += 4 + length
    return payloads, stream[at:], False


def _missing(left: bytes, greeted: bool) -> int:
    if not left:
        return 0
    if not greeted:
        return len(MAGIC) - len(left)
    if len(left) < 4:
        return 4 - len(left)
    return int(struct.unpack_from("<I", left)[0]) + 4 - len(left)
