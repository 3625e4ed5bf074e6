"""One or two plain messages of every kind, to start from."""

from collections.abc import Iterator
from enum import IntEnum
from typing import Annotated, Any, get_args, get_origin

import msgspec

from flame.model.client_messages import Segment
from flame.model.errors import Rejection
from flame.model.messages import ManagerMessage, PeerMessage
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.states import TaskState

APPLICATION = ApplicationSpec(
    service="a.b:C",
    description="d",
    labels=("x", ""),
    command="c",
    arguments=("-v",),
    environments=(("A", "1"),),
    working_directory="/w",
    max_instances=3,
    delay_release_ms=1500,
    input_schema="{}",
    url="u",
)
SESSION = SessionSpec(
    application="flmping",
    common_data=b"\x00\x01",
    min_instances=1,
    max_instances=4,
    priority=2,
    resources=Resources(cpu=1, memory_bytes=1 << 30, gpu=1),
)
_VALUES: dict[Any, Any] = {
    int: 3,
    str: "s-1",
    bytes: b"\x02\x03",
    bool: True,
    ApplicationSpec: APPLICATION,
    SessionSpec: SESSION,
    Resources: Resources(cpu=2, memory_bytes=5 << 20),
    Rejection: Rejection("NOT_FOUND", "no such session", "list them"),
}


def samples() -> Iterator[Any]:
    """Messages of every kind, with all that is optional and without."""
    for kind in (*get_args(PeerMessage), *get_args(ManagerMessage)):
        yield sample(kind, full=True)
        if any(not field.required for field in msgspec.structs.fields(kind)):
            yield sample(kind, full=False)
    yield Segment(attachment=1, sequence=1, first=1, count=5_000, state=TaskState.FAILED, blob=b"reason")


def sample(kind: type[msgspec.Struct], *, full: bool) -> Any:
    """A plain value of a struct, with its optional fields if `full`."""
    fields = {
        field.name: _value(field.type, full=full) for field in msgspec.structs.fields(kind) if field.required or full
    }
    if "count" in fields:
        fields |= {"count": 2}
    if "lengths" in kind.__struct_fields__ and (full or "lengths" in fields):
        fields |= {"lengths": b"\x01\x00\x00\x00\x02\x00\x00\x00", "blob": b"abb"}
    if "state" in fields and "states" in kind.__struct_fields__:
        fields |= {"state": TaskState.SUCCEED, **({"states": b"\x02\x03"} if full else {})}
    return kind(**fields)


def _value(annotation: Any, *, full: bool) -> Any:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation in _VALUES:
        return _VALUES[annotation]
    if get_origin(annotation) is tuple:
        return (_value(get_args(annotation)[0], full=full),) * 2
    if get_args(annotation):
        return _value(next(part for part in get_args(annotation) if part is not type(None)), full=full)
    if issubclass(annotation, IntEnum):
        return next(iter(annotation))
    return sample(annotation, full=full)
