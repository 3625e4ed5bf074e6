"""Random messages of every kind, made from the structs themselves."""

from enum import IntEnum
from typing import Annotated, Any, get_args, get_origin

import msgspec
from hypothesis import strategies as st

from flame.model.limits import MAX_CHUNK_TASKS
from flame.model.messages import ManagerMessage, PeerMessage
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.states import TaskState

NUMBERS = st.integers(0, (1 << 63) - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
COUNTS = st.integers(0, (1 << 32) - 1)
RESOURCES = st.builds(
    Resources, cpu=st.integers(0, 1 << 62), memory_bytes=st.integers(0, 1 << 62), gpu=st.integers(0, (1 << 31) - 1)
)
SESSION_SPECS = st.builds(
    SessionSpec,
    application=TEXTS,
    common_data=st.none() | st.binary(max_size=9),
    min_instances=COUNTS,
    max_instances=st.none() | COUNTS,
    batch_size=st.integers(1, 9),
    priority=COUNTS,
    resources=st.none() | RESOURCES,
)
APPLICATION_SPECS = st.builds(
    ApplicationSpec,
    service=TEXTS,
    description=TEXTS,
    labels=st.lists(TEXTS, max_size=3).map(tuple),
    arguments=st.lists(TEXTS, max_size=3).map(tuple),
    environments=st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple),
    max_instances=st.none() | COUNTS,
    delay_release_ms=st.integers(0, 1 << 40),
    input_schema=st.none() | TEXTS,
    common_data_schema=st.none() | TEXTS,
)


@st.composite
def columns(draw: st.DrawFn, *, outcomes: bool) -> dict[str, Any]:
    """`count` with columns that fit it."""
    count = draw(st.integers(1, MAX_CHUNK_TASKS))
    fields: dict[str, Any] = {"first": draw(st.integers(1, 1 << 62)), "count": count}
    fields["blob"] = draw(st.binary(max_size=40))
    fields["lengths"] = draw(st.binary(min_size=4, max_size=4)) * count
    if outcomes:
        fields["state"] = draw(st.sampled_from([state for state in TaskState if state.terminal]))
        fields["states"] = draw(st.sampled_from([b"", b"\x02", b"\x03", b"\x04"])) * count
    return fields


def structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Valid values of a struct."""
    names = set(kind.__struct_fields__)
    special: st.SearchStrategy[dict[str, Any]] = st.just({})
    if "lengths" in names:
        special = columns(outcomes="states" in names)
    elif {"first", "count"} <= names:
        special = st.fixed_dictionaries({"first": st.integers(1, 1 << 62), "count": st.integers(1, 1 << 40)})
    rest = {field.name: values(field.type) for field in msgspec.structs.fields(kind)}

    def build(fields: dict[str, Any]) -> st.SearchStrategy[Any]:
        others = {name: strategy for name, strategy in rest.items() if name not in fields}
        return st.fixed_dictionaries(others).map(lambda more: kind(**{**more, **fields}))

    return special.flatmap(build)


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Valid values of a field."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    simple = {int: NUMBERS, str: TEXTS, bytes: st.binary(max_size=20), bool: st.booleans(), type(None): st.none()}
    specs = {Resources: RESOURCES, SessionSpec: SESSION_SPECS, ApplicationSpec: APPLICATION_SPECS}
    if annotation in simple:
        return simple[annotation]
    if annotation in specs:
        return specs[annotation]
    if get_origin(annotation) is tuple:
        return st.lists(values(get_args(annotation)[0]), max_size=3).map(tuple)
    if get_args(annotation):
        return st.one_of([values(part) for part in get_args(annotation)])
    return st.sampled_from(annotation) if issubclass(annotation, IntEnum) else structs(annotation)


PEER_KINDS: tuple[type[msgspec.Struct], ...] = get_args(PeerMessage)
MANAGER_KINDS: tuple[type[msgspec.Struct], ...] = get_args(ManagerMessage)
