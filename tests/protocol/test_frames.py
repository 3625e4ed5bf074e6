"""Frames are cut out of any stream, however it was cut, and whatever is no frame is recognised at once."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.model.errors import FlameError, InvalidArgument
from flame.model.limits import KIB, MAX_MESSAGE_BYTES, MIB
from flame.protocol.frames import MAGIC, FrameDecoder, Payload, frame_header


def _stream(*payloads: bytes) -> bytes:
    return MAGIC + b"".join(frame_header(len(payload)) + payload for payload in payloads)


@given(st.lists(st.integers(0, 70 * KIB), max_size=8), st.lists(st.integers(1, 50 * KIB), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_payloads_come_out_as_they_went_in_for_any_cuts(sizes: list[int], cuts: list[int]) -> None:
    payloads = [bytes([at + 1]) * size for at, size in enumerate(sizes)]
    stream, decoder, at = _stream(*payloads), FrameDecoder(), 0
    got: list[Payload] = []
    while at < len(stream):
        cut = cuts[at % len(cuts)]
        got += decoder.feed(stream[at : at + cut])
        at += cut
    assert got == payloads
    assert decoder.greeted
    assert not decoder.mid_message


def test_byte_by_byte() -> None:
    decoder, payloads = FrameDecoder(), [b"", b"a", b"x" * 300]
    got = [payload for byte in _stream(*payloads) for payload in decoder.feed(bytes([byte]))]
    assert got == payloads


@pytest.mark.parametrize("size", [16 * KIB - 1, 16 * KIB, 128 * KIB - 4, 128 * KIB, MIB, 5 * MIB + 3])
@pytest.mark.parametrize("cut", [1000, 64 * KIB, 16 * MIB])
def test_large_frames_among_small_ones(size: int, cut: int) -> None:
    payloads = [b"first", bytes(size // 2) + b"z" * (size - size // 2), b"last"]
    stream, decoder = _stream(*payloads), FrameDecoder()
    got = [payload for at in range(0, len(stream), cut) for payload in decoder.feed(stream[at : at + cut])]
    assert got == payloads


def test_the_largest_frame_is_accepted_and_one_byte_more_is_not() -> None:
    decoder = FrameDecoder()
    assert not list(decoder.feed(MAGIC + frame_header(MAX_MESSAGE_BYTES)))
    assert decoder.mid_message
    with pytest.raises(InvalidArgument, match="over the limit"):
        frame_header(MAX_MESSAGE_BYTES + 1)
    with pytest.raises(InvalidArgument, match="over the limit"):
        list(FrameDecoder().feed(MAGIC + struct.pack("<I", MAX_MESSAGE_BYTES + 1)))


def test_a_frame_that_only_claims_to_be_long_takes_no_room() -> None:
    decoder = FrameDecoder()
    assert not list(decoder.feed(MAGIC + frame_header(MAX_MESSAGE_BYTES) + b"x"))
    assert len(decoder.buffer()) <= 4 * MIB


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01", b"\0", b"FLx", b"\xff" * 100]
)
def test_garbage_is_named_with_its_first_bytes(garbage: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        list(FrameDecoder().feed(garbage))
    assert "does not speak Flame's frames" in str(caught.value)
    assert repr(garbage[:16]) in str(caught.value)
    assert "http://" in caught.value.hint


def test_garbage_is_recognised_by_its_first_wrong_byte() -> None:
    decoder = FrameDecoder()
    assert not list(decoder.feed(MAGIC[:3]))
    assert not decoder.greeted
    with pytest.raises(InvalidArgument, match="another version"):
        list(decoder.feed(b"\x01"))


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_do_anything_but_frames_or_a_flame_error(data: bytes, greeted: bool) -> None:
    decoder = FrameDecoder()
    try:
        for payload in decoder.feed((MAGIC if greeted else b"") + data):
            assert isinstance(payload, bytes | bytearray)
    except FlameError:
        pass
    else:
        assert len(decoder.buffer()) > 0


def test_mid_message_at_each_place() -> None:
    decoder = FrameDecoder()
    assert not decoder.mid_message
    for data, mid in ((MAGIC[:4], True), (MAGIC[4:], False), (b"\x02", True), (b"\0\0\0h", True), (b"i", False)):
        list(decoder.feed(data))
        assert decoder.mid_message is mid


def test_frames_before_an_error_come_out_first() -> None:
    payloads = FrameDecoder().feed(_stream(b"one", b"two") + b"\xff\xff\xff\xff")
    assert (next(payloads), next(payloads)) == (b"one", b"two")
    with pytest.raises(InvalidArgument, match="over the limit"):
        next(payloads)


def test_what_a_message_lacks_at_each_place() -> None:
    decoder = FrameDecoder()
    assert decoder.missing_bytes == 0
    stream = MAGIC + frame_header(5) + b"12345"
    lacks = []
    for byte in stream:
        list(decoder.feed(bytes([byte])))
        lacks.append(decoder.missing_bytes)
    assert lacks == [7, 6, 5, 4, 3, 2, 1, 0, 3, 2, 1, 5, 4, 3, 2, 1, 0]
    list(decoder.feed(frame_header(1 << 20) + bytes(100)))
    assert decoder.missing_bytes == (1 << 20) - 100
    assert decoder.apart_bytes >= 100


@pytest.mark.parametrize("garbage", [b"\0" * (1 << 18), MAGIC + b"\xff" * (1 << 18)])
def test_after_an_error_there_is_room_to_read_on(garbage: bytes) -> None:
    decoder = FrameDecoder()
    room = decoder.buffer()
    room[:] = garbage[: len(room)]
    with pytest.raises(InvalidArgument):
        list(decoder.advance(len(room)))
    assert len(decoder.buffer()) > 0


def test_what_is_forgotten_takes_no_room() -> None:
    decoder = FrameDecoder()
    list(decoder.feed(MAGIC + frame_header(1 << 20) + bytes(50_000)))
    assert decoder.apart_bytes
    decoder.forget()
    assert decoder.apart_bytes == 0
    assert decoder.missing_bytes == 0
