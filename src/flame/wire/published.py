"""The published messages of `flame.v1`, and its services as a table. Generated code is reached through here only."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

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
    """

    request: type[Message]
    response: type[Message]
    streams: bool


def _methods(file: FileDescriptor, service: str) -> Iterator[tuple[str, Method]]:
    descriptor = file.services_by_name[service]
    for method in descriptor.methods:
        yield (
            f"/{descriptor.full_name}/{method.name}",
            Method(GetMessageClass(method.input_type), GetMessageClass(method.output_type), method.server_streaming),
        )


FRONTEND_METHODS: Final[Mapping[str, Method]] = dict(_methods(frontend.DESCRIPTOR, "Frontend"))
"""Full name (`/flame.v1.Frontend/GetSession`) to method."""
INSTANCE_METHODS: Final[Mapping[str, Method]] = dict(_methods(shim.DESCRIPTOR, "Instance"))
"""Full name (`/flame.v1.Instance/OnTaskInvoke`) to method."""
