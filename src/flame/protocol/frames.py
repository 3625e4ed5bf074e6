"""Frames: how messages are cut out of a stream of bytes. Pure: no socket in sight.

Each side begins with `MAGIC`, once, so that whatever else arrives on the port is recognised by its first byte. After it
every message is its length, an unsigned 32-bit little-endian integer, and that many bytes.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final

from flame.model.errors import InvalidArgument
from flame.model.limits import KIB, MAX_MESSAGE_BYTES, MIB

MAGIC: Final = b"FLM\x02\r\n\x1a\n"
"""First bytes of either side. The fourth is the version of the framing and of how messages are written."""
HEADER_BYTES: Final = 4

Payload = bytes | bytearray

_LENGTH: Final = Struct("<I")
_FIRST_BUFFER_BYTES: Final = 4 * KIB
"""Room at first: most of thousands of peers say little."""
_BUFFER_BYTES: Final = 128 * KIB
"""Room from when a read has filled that."""
_ASIDE_BYTES: Final = 16 * KIB
"""An unfinished frame at least this large is collected apart, so that it is never moved again."""
_GROWTH_BYTES: Final = 4 * MIB
"""Room made at first for a frame, however long it claims to be."""


def frame_header(payload_bytes: int) -> bytes:
    """What stands before a payload of this many bytes.

    Raises:
        InvalidArgument: more than `MAX_MESSAGE_BYTES`.
    """
    if payload_bytes > MAX_MESSAGE_BYTES:
        raise InvalidArgument(f"a message of {payload_bytes} bytes is over the limit of {MAX_MESSAGE_BYTES}")
    return _LENGTH.pack(payload_bytes)


class FrameDecoder:
    """Takes bytes as they arrive and yields the payloads of whole frames.

    The caller reads into `buffer()` and says how much with `advance()`; `feed()` does both for bytes it has already.
    The copying per byte is bounded, however the stream was cut. After an error the decoder is unusable.

    Example:
        >>> decoder = FrameDecoder()
        >>> list(decoder.feed(MAGIC + frame_header(2) + b"hi" + frame_header(3)[:1]))
        [b'hi']
        >>> decoder.mid_message
        True
    """

    __slots__ = ("_end", "_frame", "_frame_bytes", "_frame_end", "_greeted", "_view")

    def __init__(self) -> None:
        self._view = memoryview(bytearray(_FIRST_BUFFER_BYTES))
        self._end = 0  # the buffer holds [0, end), which begins with a header
        self._frame: bytearray | None = None  # a large frame that is collected apart: [0, frame_end) of frame_bytes
        self._frame_bytes = 0
        self._frame_end = 0
        self._greeted = False

    @property
    def greeted(self) -> bool:
        """Whether the other side's magic has arrived."""
        return self._greeted

    @property
    def mid_message(self) -> bool:
        """Whether the stream would end inside a message if it ended now."""
        return self._end > 0 or self._frame is not None

    @property
    def missing_bytes(self) -> int:
        """How many bytes the message under way lacks, at least; 0 between messages."""
        if self._frame is not None:
            return self._frame_bytes - self._frame_end
        if not self._end:
            return 0
        if not self._greeted:
            return len(MAGIC) - self._end
        if self._end < HEADER_BYTES:
            return HEADER_BYTES - self._end
        (length,) = _LENGTH.unpack_from(self._view, 0)
        return int(length) + HEADER_BYTES - self._end

    @property
    def apart_bytes(self) -> int:
        """Room that is taken by a large message of which a part has arrived."""
        return 0 if self._frame is None else len(self._frame)

    def buffer(self) -> memoryview:
        """Where the next bytes have to be read to; never empty. Valid until `advance`."""
        if self._frame is not None:
            return memoryview(self._frame)[self._frame_end :]
        return self._view[self._end :]

    def advance(self, nbytes: int) -> Iterator[Payload]:
        """Take `nbytes` that were read into `buffer()`; yield the payloads that are complete now, in order.

        It has to be exhausted before the next call. What comes before an error is yielded before it is raised.

        Raises:
            InvalidArgument: the bytes are no frames, or a frame is over `MAX_MESSAGE_BYTES`.
        """
        if self._frame is not None:
            self._frame_end += nbytes
            return self._grow(self._frame)
        self._end += nbytes
        return self._cut()

    def forget(self) -> None:
        """Give up what has arrived of a message, and its room: nobody will read the rest."""
        self._frame = None
        self._end = 0

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Payload]:
        """Take bytes; yield the payloads that are complete now, in order. Otherwise as `advance`."""
        view = memoryview(data)
        while view:
            room = self.buffer()
            taken = min(len(room), len(view))
            room[:taken] = view[:taken]
            yield from self.advance(taken)
            view = view[taken:]

    def _greet(self) -> int:
        """Check the magic; return how many bytes of the buffer are done with."""
        seen = bytes(self._view[: min(self._end, 16)])
        if seen[: len(MAGIC)] != MAGIC[: len(seen)]:
            self.forget()
            if seen[:3] == MAGIC[:3]:
                raise InvalidArgument(
                    f"the other side speaks another version of Flame's frames: it began with {seen!r}",
                    hint="start both sides from the same version of Flame",
                )
            raise InvalidArgument(
                f"the other side does not speak Flame's frames: it began with {seen!r}",
                hint="unix:// and frames:// endpoints speak frames, http:// ones gRPC, on another port: "
                "check scheme and port of the endpoint",
            )
        if self._end < len(MAGIC):
            return 0
        self._greeted = True
        return len(MAGIC)

    def _cut(self) -> Iterator[Payload]:
        start = 0 if self._greeted else self._greet()
        if not self._greeted:
            return
        view, end = self._view, self._end
        while end - start >= HEADER_BYTES:
            (length,) = _LENGTH.unpack_from(view, start)
            if length > MAX_MESSAGE_BYTES:
                self.forget()
                raise InvalidArgument(f"a frame of {length} bytes is over the limit of {MAX_MESSAGE_BYTES}")
            body = start + HEADER_BYTES
            if end - body < length:
                if length >= _ASIDE_BYTES:
                    self._set_aside(length, body)
                    return
                break
            start = body + length
            yield bytes(view[body:start])
        if end == len(view) < _BUFFER_BYTES:
            self._view = memoryview(bytearray(_BUFFER_BYTES))
        elif not start:
            return
        self._end = end - start
        self._view[: self._end] = view[start:end]

    def _set_aside(self, length: int, body: int) -> None:
        have = self._end - body
        self._frame = bytearray(min(length, max(_GROWTH_BYTES, have)))
        self._frame[:have] = self._view[body : self._end]
        self._frame_bytes, self._frame_end, self._end = length, have, 0

    def _grow(self, frame: bytearray) -> Iterator[Payload]:
        if self._frame_end == self._frame_bytes:
            self._frame = None
            yield frame
        elif self._frame_end == len(frame):  # a new one: the reader may hold a view of the old, which pins its size
            self._frame = bytearray(min(2 * len(frame), self._frame_bytes))
            self._frame[: len(frame)] = frame
