"""Messages of `flame.model.messages` to protobuf envelopes and back, which the gRPC carrier sends.

One table, made at import from the structs themselves, drives both directions: the protobuf message of a struct has the
same fields and the name with `Message` behind it. A message costs a few microseconds, whatever number of tasks it
carries: columns and blobs are copied, never looked into.

What arrives is data from outside: anything malformed raises `InvalidArgument` that says which message and field.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Any, Final, get_args, get_origin

import msgspec
from google.protobuf.message import DecodeError
from msgspec.structs import asdict

from flame.model.errors import InvalidArgument
from flame.model.messages import Hello, ManagerMessage, Message, PeerMessage, Welcome
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.wire import convert
from flame.wire.checks import NEWER, cannot_encode, check_of, without_bound
from flame.wire.gen import session_manager_pb2 as gen

Buffer = bytes | bytearray | memoryview

_SPECS: Final[dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    ApplicationSpec: (convert.application_spec_to_proto, convert.application_spec_from_proto),
    SessionSpec: (convert.session_spec_to_proto, convert.session_spec_from_proto),
    Resources: (convert.resources_to_proto, convert.resources_from_proto),
}


class _Plan:
    """How one struct is converted.

    `writers` are the fields whose value differs in protobuf, `readers` those that are not simply an attribute of it.
    """

    __slots__ = ("check", "kind", "name", "numbers", "plain", "readers", "writers")

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self.kind = kind
        self.name = kind.__name__
        self.numbers: list[str] = []
        self.plain: list[str] = []
        self.readers: list[tuple[str, Callable[[Any], Any]]] = []
        self.writers: list[tuple[str, Callable[[Any], Any]]] = []
        for field in msgspec.structs.fields(kind):
            self._add(field.name, field.type)
        self.check = check_of(kind)

    def _add(self, name: str, annotation: Any) -> None:
        annotation, most = without_bound(annotation)
        optional = type(None) in get_args(annotation)
        if optional:
            (annotation,) = (part for part in get_args(annotation) if part is not type(None))
            annotation, most = without_bound(annotation)
        if annotation is int and not optional:
            self.numbers.append(name)
        if not optional and annotation in (int, str, bytes, bool):
            self.plain.append(name)
            return
        write, read = _converters(name, annotation, optional)
        if most is not None:
            read = _at_most(most, name, optional, read)
        self.readers.append((name, _absent_as_none(name, read) if optional else read))
        if write is not None:
            self.writers.append((name, _none_or(write) if optional else write))

    def to_fields(self, value: msgspec.Struct) -> dict[str, Any]:
        """The struct as arguments of its protobuf message."""
        fields = asdict(value)
        for name, write in self.writers:
            fields[name] = write(fields[name])
        return fields

    def from_proto(self, message: Any) -> Any:
        """The struct of a protobuf message."""
        fields = {name: getattr(message, name) for name in self.plain}
        for name in self.numbers:
            if fields[name] < 0:
                raise InvalidArgument(f"{self.name}: {name} is negative ({fields[name]})")
        for name, read in self.readers:
            try:
                fields[name] = read(message)
            except ValueError as error:
                raise InvalidArgument(f"{self.name}: {name}: {error}") from None
        value = self.kind(**fields)
        if self.check is not None:
            self.check(value)
        return value


_plans: dict[type, _Plan] = {}


def _plan(kind: type[msgspec.Struct]) -> _Plan:
    if kind not in _plans:
        _plans[kind] = _Plan(kind)
    return _plans[kind]


def _absent_as_none(name: str, read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda message: read(message) if message.HasField(name) else None


def _at_most(most: int, name: str, optional: bool, read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read_bounded(message: Any) -> Any:
        values = getattr(message, name)
        count = len(values.ranges if optional else values)
        if count > most:
            raise ValueError(f"{count} entries, over the limit of {most}")
        return read(message)

    return read_bounded


def _none_or(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else write(value)


def _converters(name: str, annotation: Any, optional: bool) -> tuple[Callable[[Any], Any] | None, Callable[[Any], Any]]:
    """How a field is written (None: as it is) and read, leaving presence aside."""
    if get_origin(annotation) is tuple:
        item = get_args(annotation)[0]
        if item is str:
            return None, lambda message: tuple(getattr(message, name))
        plan = _plan(item)
        to_fields, from_proto = plan.to_fields, plan.from_proto
        if optional:  # protobuf knows no optional list: it stands in a message of its own
            return (
                lambda values: {"ranges": [to_fields(value) for value in values]},
                lambda message: tuple(map(from_proto, getattr(message, name).ranges)),
            )
        return (
            lambda values: [to_fields(value) for value in values],
            lambda message: tuple(map(from_proto, getattr(message, name))),
        )
    if annotation in _SPECS:
        write, spec_from_proto = _SPECS[annotation]
        return write, lambda message: spec_from_proto(getattr(message, name))
    if issubclass(annotation, msgspec.Struct):
        plan = _plan(annotation)
        return plan.to_fields, lambda message: plan.from_proto(getattr(message, name))
    if issubclass(annotation, IntEnum):
        return None, lambda message: annotation(getattr(message, name))
    return None, lambda message: getattr(message, name)


# --- envelopes -------------------------------------------------------------------------------------------------------


def _snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")


def _kinds(union: Any) -> dict[str, type[msgspec.Struct]]:
    return {_snake(kind.__name__): kind for kind in get_args(union)}


_Decoders = dict[str, Callable[[Any], Any]]
_PEER: Final[_Decoders] = {field: _plan(kind).from_proto for field, kind in _kinds(PeerMessage).items()}
_MANAGER: Final[_Decoders] = {field: _plan(kind).from_proto for field, kind in _kinds(ManagerMessage).items()}
_ENCODERS: Final[dict[type, tuple[Any, str, Callable[[Any], dict[str, Any]]]]] = {
    kind: (envelope, field, _plan(kind).to_fields)
    for envelope, union in ((gen.PeerEnvelope, PeerMessage), (gen.ManagerEnvelope, ManagerMessage))
    for field, kind in _kinds(union).items()
}


def encode(message: Message) -> bytes:
    """A message as the bytes of its envelope.

    Raises:
        InvalidArgument: a field has a value that the wire cannot carry.
    """
    envelope, field, to_fields = _ENCODERS[type(message)]
    try:
        data: bytes = envelope(**{field: to_fields(message)}).SerializeToString()
    except (ValueError, TypeError) as error:
        raise cannot_encode(message, error) from None
    return data


def decode_peer(data: Buffer) -> PeerMessage:
    """The message in an envelope from a client, an executor or a node.

    Raises:
        InvalidArgument: malformed, or of a kind that this version does not know.
    """
    return _decode(_parse(gen.PeerEnvelope, data), _PEER)  # type: ignore[no-any-return]


def decode_manager(data: Buffer) -> ManagerMessage:
    """The message in an envelope from the session manager.

    Raises:
        InvalidArgument: malformed, or of a kind that this version does not know.
    """
    return _decode(_parse(gen.ManagerEnvelope, data), _MANAGER)  # type: ignore[no-any-return]


def _parse(kind: Any, data: Buffer) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidArgument(f"{len(data)} bytes that are no {kind.__name__}: {error}") from None


def _decode(envelope: Any, kinds: _Decoders) -> Any:
    field = envelope.WhichOneof("message")
    if field is None:
        raise InvalidArgument("an envelope without a message that is known here", hint=NEWER)
    return kinds[field](getattr(envelope, field))


# --- batches and single messages, for gRPC ---------------------------------------------------------------------------


def join_envelopes(envelopes: Iterable[bytes]) -> bytes:
    """Encoded envelopes as one `PeerBatch` or `ManagerBatch`, without parsing them again."""
    parts: list[bytes] = []
    for envelope in envelopes:
        parts += (b"\n", _varint(len(envelope)), envelope)  # field 1, length-delimited
    return b"".join(parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_peer_batch(data: Buffer) -> Iterator[PeerMessage]:
    """The messages in a `PeerBatch`, in order, decoded as they are taken; raises as `decode_peer`."""
    for envelope in _parse(gen.PeerBatch, data).envelopes:
        yield _decode(envelope, _PEER)


def decode_manager_batch(data: Buffer) -> Iterator[ManagerMessage]:
    """The messages in a `ManagerBatch`, in order, decoded as they are taken; raises as `decode_manager`."""
    for envelope in _parse(gen.ManagerBatch, data).envelopes:
        yield _decode(envelope, _MANAGER)


def encode_hello(hello: Hello) -> bytes:
    """A `HelloMessage` on its own, the request of `SessionManager.Handshake`."""
    return gen.HelloMessage(**_plan(Hello).to_fields(hello)).SerializeToString()


def decode_hello(data: Buffer) -> Hello:
    """The hello in a `HelloMessage`; raises `InvalidArgument` if it is malformed."""
    return _plan(Hello).from_proto(_parse(gen.HelloMessage, data))  # type: ignore[no-any-return]


def encode_welcome(welcome: Welcome) -> bytes:
    """A `WelcomeMessage` on its own, the response of `SessionManager.Handshake`."""
    return gen.WelcomeMessage(**_plan(Welcome).to_fields(welcome)).SerializeToString()


def decode_welcome(data: Buffer) -> Welcome:
    """The welcome in a `WelcomeMessage`; raises `InvalidArgument` if it is malformed."""
    return _plan(Welcome).from_proto(_parse(gen.WelcomeMessage, data))  # type: ignore[no-any-return]
