"""Targets: messages as MessagePack and as protobuf."""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

import msgspec

from flame.model.client_messages import Segment
from flame.model.errors import InvalidArgument
from flame.model.limits import KIB, MAX_CHUNK_TASKS, MAX_TASK_ID
from flame.model.messages import Hello, ManagerMessage, PeerMessage, Welcome
from flame.wire import codec, packing
from tests.fuzz.samples import sample, samples

_PEER = tuple(get_args(PeerMessage))
_MANAGER = tuple(get_args(ManagerMessage))
_Decode = Callable[[bytes], Iterable[Any]]
_WAYS: tuple[tuple[_Decode, Callable[[Any], bytes], Callable[[bytes], Any], tuple[type, ...]], ...] = (
    (lambda data: [codec.decode_peer(data)], codec.encode, packing.decode_peer, _PEER),
    (lambda data: [codec.decode_manager(data)], codec.encode, packing.decode_manager, _MANAGER),
    (codec.decode_peer_batch, lambda m: codec.join_envelopes([codec.encode(m)]), packing.decode_peer, _PEER),
    (codec.decode_manager_batch, lambda m: codec.join_envelopes([codec.encode(m)]), packing.decode_manager, _MANAGER),
    (lambda data: [codec.decode_hello(data)], codec.encode_hello, packing.decode_peer, (Hello,)),
    (lambda data: [codec.decode_welcome(data)], codec.encode_welcome, packing.decode_manager, (Welcome,)),
)
_ODD_VALUES: tuple[Any, ...] = (
    *(0, 1, 2, -1, 255, 1 << 31, (1 << 32) - 1, MAX_TASK_ID, 1 << 63, (1 << 64) - 1, -(1 << 63)),
    *(None, True, 0.5, float("nan"), "", "x", "\x00", "é" * 40, b"", b"\x02", b"\xff" * 4, bytes(8)),
    *([], {}, [[]], {"": 1}, [0, 0], [1, 1, 1]),
)


def packed(data: bytes) -> None:
    """Decode a message of MessagePack; the first byte says whose.

    Only `InvalidArgument` is raised. What decodes is sound, is one of this direction, and comes back equal: packed
    again, with a large payload, and by way of protobuf as far as that can carry it.
    """
    decode: Callable[[bytes | bytearray], Any] = packing.decode_manager if data[:1] == b"\x01" else packing.decode_peer
    try:
        message = decode(data[1:])
    except InvalidArgument:
        return
    assert type(message) in (_MANAGER if data[:1] == b"\x01" else _PEER)
    assert_sound(message)
    again = packing.encode(message)
    assert decode(again) == message
    assert packing.encode(decode(bytearray(again))) == again
    _assert_equal_with_large_payload(message, decode)
    try:
        envelope = codec.encode(message)
    except InvalidArgument:
        return  # e.g. an exit code beyond 32 bits
    assert (codec.decode_manager if data[:1] == b"\x01" else codec.decode_peer)(envelope) == message


def packed_seeds() -> Iterator[bytes]:
    """Every kind of message."""
    for message in samples():
        yield (b"\x01" if isinstance(message, _MANAGER) else b"\x00") + packing.encode(message)


def mutate_packed(data: bytes, chance: random.Random) -> bytes:
    """Another message near this one: a value anywhere in it is replaced, doubled, removed or moved."""
    try:
        tree = msgspec.msgpack.decode(data[1:])
    except (ValueError, TypeError, RecursionError):
        return data
    for _ in range(chance.choice((1, 1, 2, 4))):
        tree = _mutated(tree, chance)
    try:
        return data[:1] + msgspec.msgpack.encode(tree)
    except (ValueError, TypeError, OverflowError):
        return data


def enveloped(data: bytes) -> None:
    """Decode protobuf: the first byte says whether envelopes, batches or the messages of the handshake, and whose.

    Only `InvalidArgument` is raised. What decodes is sound and comes back equal, also by way of MessagePack.
    """
    decode, encode, unpack, kinds = _WAYS[data[0] % len(_WAYS) if data else 0]
    messages = []
    try:
        for message in decode(data[1:]):
            messages.append(message)  # noqa: PERF402 (what comes before an error counts)
    except InvalidArgument:
        pass
    for message in messages:
        assert type(message) in kinds
        assert_sound(message)
        again = encode(message)
        (same,) = decode(again)
        assert same == message
        assert encode(same) == again
        assert unpack(packing.encode(message)) == message


def enveloped_seeds() -> Iterator[bytes]:
    """Every kind of message, alone and in batches, and the handshake."""
    for message in samples():
        way = 1 if isinstance(message, _MANAGER) else 0
        envelope = codec.encode(message)
        yield bytes([way]) + envelope
        yield bytes([way + 2]) + codec.join_envelopes([envelope, envelope])
    yield b"\x04" + codec.encode_hello(sample(Hello, full=True))
    yield b"\x05" + codec.encode_welcome(sample(Welcome, full=True))


def assert_sound(value: Any) -> None:
    """Check what a decoded message promises to whoever handles it, down to the structs in it."""
    if isinstance(value, tuple):
        for item in value:
            assert_sound(item)
        return
    if not isinstance(value, msgspec.Struct):
        return
    fields = {name: getattr(value, name) for name in value.__struct_fields__}
    for name, field in fields.items():
        if type(field) is int and name != "exit_code":
            assert 0 <= field <= MAX_TASK_ID, name
        assert_sound(field)
    if "first" in fields and "count" in fields:
        assert fields["first"] >= 1
        assert fields["count"] >= 1
        assert fields["first"] + fields["count"] <= MAX_TASK_ID
    if "states" in fields:
        assert fields["states"] or fields["state"].terminal
        assert not fields["states"] or len(fields["states"]) == fields["count"]
        assert set(fields["states"]) <= {2, 3, 4}
    if "lengths" in fields:
        shared = not fields["lengths"] and (not fields["blob"] or isinstance(value, Segment)) and "states" in fields
        assert shared or (len(fields["lengths"]) == 4 * fields["count"] and fields["count"] <= MAX_CHUNK_TASKS)


def _assert_equal_with_large_payload(message: Any, decode: Callable[[bytes], Any]) -> None:
    """A payload that is sent as a part of its own changes nothing."""
    for name in ("blob", "payload", "common_data"):
        if name in message.__struct_fields__:
            large = msgspec.structs.replace(message, **{name: b"\xc4" * (64 * KIB)})
            try:
                assert decode(packing.encode(large)) == large
            except InvalidArgument:
                assert not message.blob, "with a payload it needs lengths"


def _mutated(tree: Any, chance: random.Random) -> Any:
    if isinstance(tree, dict) and tree and chance.random() < 0.9:
        key = chance.choice(list(tree))
        change = chance.randrange(8)
        if change == 0:
            return {name: value for name, value in tree.items() if name != key}
        if change == 1:
            return {**tree, chance.choice(list(tree)): tree[key]}
        return {**tree, key: _mutated(tree[key], chance)}
    if isinstance(tree, list) and tree and chance.random() < 0.9:
        at = chance.randrange(len(tree))
        change = chance.randrange(8)
        if change == 0:
            return tree[:at] + tree[at + 1 :]
        if change == 1:
            return tree[:at] + [tree[at]] * chance.choice((2, 3, 70)) + tree[at + 1 :]
        return [*tree[:at], _mutated(tree[at], chance), *tree[at + 1 :]]
    if isinstance(tree, int) and chance.random() < 0.5:
        return max(-(1 << 63), min(tree + chance.choice((-1, 1, 4, 1 << 20)), (1 << 64) - 1))
    if isinstance(tree, bytes | str) and chance.random() < 0.5:
        return tree + tree[: chance.choice((1, 4, 100))]  # type: ignore[operator]
    return chance.choice(_ODD_VALUES)
