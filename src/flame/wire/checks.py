"""What a decoded message has to fulfil beyond the types and bounds of its fields, whatever it was decoded from.

The checks cost the same for every number of tasks; that lengths add up to their blob is for who slices it.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec

from flame.model.client_messages import Segment
from flame.model.errors import InvalidArgument
from flame.model.limits import MAX_CHUNK_TASKS, MAX_TASK_ID

NEWER: Final = "the other end speaks a newer version of the protocol: upgrade this one, or start both from one version"
_TERMINAL_STATES: Final = bytes((2, 3, 4))

Check = Callable[[Any], None]


def cannot_encode(message: msgspec.Struct, error: Exception) -> InvalidArgument:
    """The error for a message that cannot be sent."""
    if isinstance(error, InvalidArgument):
        return error
    return InvalidArgument(f"{type(message).__name__} cannot be sent: {error}")


def checker(kind: type[msgspec.Struct]) -> Check | None:
    """The check of a struct and of all structs in it, or None where nothing is to be checked."""
    checks = [own] if (own := check_of(kind)) is not None else []
    for field in msgspec.structs.fields(kind):
        for part in (field.type, *get_args(field.type)):
            annotation, _ = without_bound(part)
            if get_origin(annotation) is tuple:
                annotation = get_args(annotation)[0]
            if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
                inner = checker(annotation)
                if inner is not None:
                    checks.append(_each(field.name, inner))
                break
    if len(checks) < 2:
        return checks[0] if checks else None

    def check_all(value: Any) -> None:
        for check in checks:
            check(value)

    return check_all


def without_bound(annotation: Any) -> tuple[Any, int | None]:
    """An annotation without what is noted on it, and the most entries of a list that were noted there."""
    if get_origin(annotation) is not Annotated:
        return annotation, None
    plain, meta, *_ = get_args(annotation)
    return plain, meta.max_length


def _each(name: str, check: Check) -> Check:
    def check_field(value: Any) -> None:
        inner = getattr(value, name)
        if type(inner) is tuple:
            for item in inner:
                check(item)
        elif inner is not None:
            check(inner)

    return check_field


def check_of(kind: type[msgspec.Struct]) -> Check | None:
    """The check of a struct itself."""
    fields = kind.__struct_fields__
    if "lengths" in fields:
        return _check_outcomes if "states" in fields else _check_tasks
    return _check_range if {"first", "count"} <= set(fields) else None


def _check_range(value: Any) -> None:
    if value.first < 1 or value.count < 1 or value.first + value.count > MAX_TASK_ID:
        raise InvalidArgument(
            f"{type(value).__name__}: no range of tasks: first {value.first}, count {value.count}",
            hint="both are at least 1, and ids end at 2^63 - 1",
        )


def _check_tasks(value: Any) -> None:
    _check_range(value)
    if value.count > MAX_CHUNK_TASKS:
        raise InvalidArgument(f"{type(value).__name__}: {value.count} tasks, over the limit of {MAX_CHUNK_TASKS}")
    if len(value.lengths) != 4 * value.count:
        raise InvalidArgument(
            f"{type(value).__name__}: the lengths of {value.count} tasks have {len(value.lengths)} bytes",
            hint="4 bytes for each task",
        )


def _check_outcomes(value: Any) -> None:
    # In a segment a blob without lengths is shared by all its tasks.
    if value.lengths or (value.blob and not isinstance(value, Segment)):
        _check_tasks(value)
    else:
        _check_range(value)
    name, states = type(value).__name__, value.states
    if not states:
        if not value.state.terminal:
            raise InvalidArgument(f"{name}: state {value.state.name} is not an outcome")
    elif len(states) != value.count:
        raise InvalidArgument(f"{name}: {len(states)} states for {value.count} tasks")
    elif states.strip(_TERMINAL_STATES):
        raise InvalidArgument(f"{name}: a state in its column is not an outcome")
