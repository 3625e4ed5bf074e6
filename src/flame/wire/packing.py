"""Messages of `flame.model.messages` as MessagePack, which the frame carrier sends.

The structs drive it: a message is a map with its fields and, under `type`, its kind. Decoding checks types and bounds
as it goes, in compiled code; a message costs less than a microsecond, whatever number of tasks it carries. Protobuf in
Python takes ten times as long, and much more after each sleep of a process, with nothing in the processor's caches.

What arrives is data from outside: anything malformed raises `InvalidArgument` that says what is wrong and where.
"""

from collections.abc import Callable
from typing import Any, Final, get_args

import msgspec

from flame.model.client_messages import Segment, SubmitChunk
from flame.model.errors import InvalidArgument
from flame.model.executor_messages import AssignTasks, EnterSession, Outcome, ReportOutcomes
from flame.model.limits import KIB
from flame.model.messages import Call, ManagerMessage, Message, PeerMessage, Reply
from flame.wire.checks import NEWER, cannot_encode, checker

Buffer = bytes | bytearray | memoryview

_APART_BYTES: Final = 64 * KIB
_LAST_FIELD: Final[dict[type, str]] = {
    SubmitChunk: "blob",
    AssignTasks: "blob",
    Segment: "blob",
    Outcome: "blob",
    Call: "payload",
    Reply: "payload",
    EnterSession: "common_data",
}
"""Where the large payload of a message is: in its last field, so that it can be sent behind the rest as it is. The last
field of a report is its outcomes."""
_EMPTY_BYTES: Final = b"\xc4\x00"
_EMPTY_ARRAY: Final = b"\x90"

_encode = msgspec.msgpack.Encoder().encode
_unpack_peer = msgspec.msgpack.Decoder(PeerMessage).decode
_unpack_answer = msgspec.msgpack.Decoder(ManagerMessage).decode
_CHECKS: Final = {
    kind: check for kind in (*get_args(PeerMessage), *get_args(ManagerMessage)) if (check := checker(kind)) is not None
}


def encode(message: Message) -> bytes:
    """A message as MessagePack.

    Raises:
        InvalidArgument: a field has a value that cannot be sent.
    """
    parts = encode_parts(message)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def encode_parts(message: Message) -> list[bytes]:
    """As `encode`, in parts to be sent one after the other: a large payload is a part of its own, never copied."""
    try:
        if isinstance(message, ReportOutcomes):
            if sum([len(outcome.blob) for outcome in message.outcomes]) >= _APART_BYTES:
                return _report_apart(message)
        elif (name := _LAST_FIELD.get(type(message))) and len(getattr(message, name) or b"") >= _APART_BYTES:
            return _apart(message)
        return [_encode(message)]
    except (ValueError, TypeError, OverflowError) as error:
        raise cannot_encode(message, error) from None


def _apart(message: Any) -> list[bytes]:
    name = _LAST_FIELD[type(message)]
    payload = getattr(message, name)
    rest = _encode(msgspec.structs.replace(message, **{name: b""})).removesuffix(_EMPTY_BYTES)
    return [rest + b"\xc6" + len(payload).to_bytes(4, "big"), payload]


def _report_apart(report: ReportOutcomes) -> list[bytes]:
    rest = _encode(msgspec.structs.replace(report, outcomes=())).removesuffix(_EMPTY_ARRAY)
    parts = [rest + b"\xdd" + len(report.outcomes).to_bytes(4, "big")]
    for outcome in report.outcomes:
        parts += _apart(outcome) if len(outcome.blob) >= _APART_BYTES else [_encode(outcome)]
    return parts


def decode_peer(data: Buffer) -> PeerMessage:
    """The message of a client, an executor or a node.

    Raises:
        InvalidArgument: malformed, or of a kind that this version does not know.
    """
    return _decode(_unpack_peer, data)  # type: ignore[no-any-return]


def decode_manager(data: Buffer) -> ManagerMessage:
    """The message of the session manager.

    Raises:
        InvalidArgument: malformed, or of a kind that this version does not know.
    """
    return _decode(_unpack_answer, data)  # type: ignore[no-any-return]


def _decode(decode: Callable[[Buffer], Any], data: Buffer) -> Any:
    try:
        message = decode(data)
    except (ValueError, RecursionError) as error:  # ValueError: also text that is no UTF-8
        hint = NEWER if "$.type" in str(error) else ""
        raise InvalidArgument(f"{len(data)} bytes that are no message: {error}", hint=hint) from None
    check = _CHECKS.get(type(message))
    if check is not None:
        check(message)
    return message
