"""The published messages of `flame.v1`, and its services as a table. Generated code is reached through here only."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from flame.model.limits import MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES
from flame.wire.gen import frontend_pb2 as frontend
from flame.wire.gen import shim_pb2 as shim
from flame.wire.gen import types_pb2 as types

__all__ = ["FRONTEND_METHODS", "INSTANCE_METHODS", "Method", "frontend", "shim", "types"]


class Method(NamedTuple):
    """A method of a published service.

    Args:
        request: class of the request.
        response: class of the response.
        streams: whether the response is a stream.
        most_bytes: a longer request is refused unread.
    """

    request: type[Message]
    response: type[Message]
    streams: bool
    most_bytes: int


def _methods(file: FileDescriptor, service: str) -> Iterator[tuple[str, Method]]:
    descriptor = file.services_by_name[service]
    for method in descriptor.methods:
        yield (
            f"/{descriptor.full_name}/{method.name}",
            Method(
                GetMessageClass(method.input_type),
                GetMessageClass(method.output_type),
                method.server_streaming,
                MAX_MESSAGE_BYTES if _brings_bytes(method.input_type) else MAX_REQUEST_BYTES,
            ),
        )


def _brings_bytes(request: Descriptor) -> bool:
    """Whether a request has a field of bytes, in itself or in its spec."""
    return any(
        field.type == field.TYPE_BYTES or (field.message_type is not None and _brings_bytes(field.message_type))
        for field in request.fields
    )


FRONTEND_METHODS: Final[Mapping[str, Method]] = dict(_methods(frontend.DESCRIPTOR, "Frontend"))
"""Full name (`/flame.v1.Frontend/GetSession`) to method."""
INSTANCE_METHODS: Final[Mapping[str, Method]] = dict(_methods(shim.DESCRIPTOR, "Instance"))
"""Full name (`/flame.v1.Instance/OnTaskInvoke`) to method."""
