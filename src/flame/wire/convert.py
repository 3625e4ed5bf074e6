"""Published `flame.v1` messages to model values and back.

Times are Unix milliseconds on both sides. `delay_release` is in seconds on the wire and in milliseconds in the model;
an absent optional string is an empty one in the model.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from flame.model.errors import InvalidArgument
from flame.model.limits import DELAY_RELEASE_MS
from flame.model.records import ApplicationRecord, SessionRecord
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.states import ExecutorState, NodeState, Shim, TaskState
from flame.wire.published import types

_MAX_INT32 = (1 << 31) - 1
_MAX_UINT32 = (1 << 32) - 1
_MAX_RESOURCE = 1 << 62
_MAX_DELAY_MS = 1 << 53


def _bounded(name: str, value: int, limit: int) -> int:
    if not 0 <= value <= limit:
        raise InvalidArgument(f"{name} is {value}", hint=f"it has to be from 0 to {limit}")
    return value


def _enum(value: IntEnum) -> Any:
    """The model's enums have the published numbers; generated types do not know them."""
    return value.value


def resources_to_proto(resources: Resources) -> types.ResourceRequirement:
    """Resources as published.

    Raises:
        InvalidArgument: negative, or more than the wire can carry.
    """
    return types.ResourceRequirement(
        cpu=_bounded("cpu", resources.cpu, _MAX_RESOURCE),
        memory=_bounded("memory", resources.memory_bytes, _MAX_RESOURCE),
        gpu=_bounded("gpu", resources.gpu, _MAX_INT32),
    )


def resources_from_proto(message: types.ResourceRequirement) -> Resources:
    """Resources of a published message.

    Raises:
        InvalidArgument: negative, or so large that sums would not fit 64 bits.
    """
    return Resources(
        cpu=_bounded("cpu", message.cpu, _MAX_RESOURCE),
        memory_bytes=_bounded("memory", message.memory, _MAX_RESOURCE),
        gpu=_bounded("gpu", message.gpu, _MAX_INT32),
    )


def application_spec_to_proto(spec: ApplicationSpec) -> types.ApplicationSpec:
    """An application's spec as published; a delay of no whole number of seconds also stands exactly in field 1001.

    Raises:
        InvalidArgument: a number that the wire cannot carry, or text that is no Unicode.
    """
    delay_ms = _bounded("delay_release_ms", spec.delay_release_ms, _MAX_DELAY_MS)
    schema = {
        "input": spec.input_schema,
        "output": spec.output_schema,
        "common_data": spec.common_data_schema,
    }
    try:
        return types.ApplicationSpec(
            shim=_enum(spec.shim),
            description=spec.description or None,
            labels=spec.labels,
            image=spec.image or None,
            command=spec.command or None,
            arguments=spec.arguments,
            environments=[types.Environment(name=name, value=value) for name, value in spec.environments],
            working_directory=spec.working_directory or None,
            max_instances=_optional_count("max_instances", spec.max_instances),
            delay_release=-(-delay_ms // 1000),
            schema=types.ApplicationSchema(**schema) if any(text is not None for text in schema.values()) else None,
            url=spec.url or None,
            installer=spec.installer or None,
            service=spec.service,
            delay_release_ms=delay_ms if delay_ms % 1000 else None,
        )
    except UnicodeError as error:
        raise InvalidArgument(f"the application's spec has text that is no Unicode: {error}") from None


def application_spec_from_proto(
    message: types.ApplicationSpec, *, default_delay_release_ms: int = DELAY_RELEASE_MS
) -> ApplicationSpec:
    """The spec of a published message.

    Args:
        message: the published message.
        default_delay_release_ms: what an absent `delay_release` means.

    Raises:
        InvalidArgument: a shim that is not known, or a negative delay.
    """
    try:
        shim = Shim(message.shim)
    except ValueError:
        known = ", ".join(f"{kind.value} ({kind.name.title()})" for kind in Shim)
        raise InvalidArgument(f"shim {message.shim} is not supported", hint=f"this cluster knows {known}") from None
    schema = message.schema if message.HasField("schema") else None
    return ApplicationSpec(
        shim=shim,
        service=message.service,
        description=message.description,
        labels=tuple(message.labels),
        image=message.image,
        command=message.command,
        arguments=tuple(message.arguments),
        environments=tuple((variable.name, variable.value) for variable in message.environments),
        working_directory=message.working_directory,
        max_instances=message.max_instances if message.HasField("max_instances") else None,
        delay_release_ms=_delay_ms(message, default_delay_release_ms),
        input_schema=schema.input if schema is not None and schema.HasField("input") else None,
        output_schema=schema.output if schema is not None and schema.HasField("output") else None,
        common_data_schema=schema.common_data if schema is not None and schema.HasField("common_data") else None,
        url=message.url,
        installer=message.installer,
    )


def _delay_ms(message: types.ApplicationSpec, default_ms: int) -> int:
    if not message.HasField("delay_release"):
        return default_ms
    seconds = _bounded("delay_release", message.delay_release, _MAX_DELAY_MS // 1000)
    exact_ms = message.delay_release_ms
    if exact_ms >= 0 and message.HasField("delay_release_ms") and -(-exact_ms // 1000) == seconds:
        return exact_ms
    return seconds * 1000


def _optional_count(name: str, value: int | None) -> int | None:
    return None if value is None else _bounded(name, value, _MAX_UINT32)


def session_spec_to_proto(spec: SessionSpec) -> types.SessionSpec:
    """A session's spec as published.

    Raises:
        InvalidArgument: a number that the wire cannot carry, or text that is no Unicode.
    """
    try:
        return types.SessionSpec(
            application=spec.application,
            common_data=spec.common_data,
            min_instances=_bounded("min_instances", spec.min_instances, _MAX_UINT32),
            max_instances=_optional_count("max_instances", spec.max_instances),
            batch_size=_bounded("batch_size", spec.batch_size, _MAX_UINT32),
            priority=_bounded("priority", spec.priority, _MAX_UINT32),
            resreq=None if spec.resources is None else resources_to_proto(spec.resources),
        )
    except UnicodeError as error:
        raise InvalidArgument(f"the session's spec has text that is no Unicode: {error}") from None


def session_spec_from_proto(message: types.SessionSpec) -> SessionSpec:
    """The spec of a published message. A batch size of 0 means 1.

    Raises:
        InvalidArgument: resources that are negative or too large.
    """
    return SessionSpec(
        application=message.application,
        common_data=message.common_data if message.HasField("common_data") else None,
        min_instances=message.min_instances,
        max_instances=message.max_instances if message.HasField("max_instances") else None,
        batch_size=message.batch_size or 1,
        priority=message.priority,
        resources=resources_from_proto(message.resreq) if message.HasField("resreq") else None,
    )


def event_to_proto(code: int, message: str, created_ms: int) -> types.Event:
    """An event; codes 0 to 15 are the platform's and equal task states."""
    return types.Event(code=code, message=message or None, creation_time=created_ms)


def application_to_proto(record: ApplicationRecord) -> types.Application:
    """A registered application as `GetApplication` and `ListApplication` show it."""
    return types.Application(
        metadata=types.Metadata(id=record.name, name=record.name),
        spec=application_spec_to_proto(record.spec),
        status=types.ApplicationStatus(state=_enum(record.state), creation_time=record.created_ms),
    )


def session_to_proto(
    record: SessionRecord,
    *,
    pending: int = 0,
    running: int = 0,
    succeed: int = 0,
    failed: int = 0,
    cancelled: int = 0,
    events: Iterable[types.Event] = (),
) -> types.Session:
    """A session as the session methods show it; counts of tasks beyond 32 bits are shown as the largest."""
    return types.Session(
        metadata=types.Metadata(id=record.name, name=record.name),
        spec=session_spec_to_proto(record.spec),
        status=types.SessionStatus(
            state=_enum(record.state),
            creation_time=record.created_ms,
            completion_time=record.closed_ms,
            pending=min(pending, _MAX_INT32),
            running=min(running, _MAX_INT32),
            succeed=min(succeed, _MAX_INT32),
            failed=min(failed, _MAX_INT32),
            cancelled=min(cancelled, _MAX_INT32),
            events=events,
        ),
    )


def task_to_proto(
    *,
    session_id: str,
    task: int,
    state: TaskState,
    created_ms: int,
    completed_ms: int | None = None,
    input: bytes | None = None,
    output: bytes | None = None,
    events: Iterable[types.Event] = (),
) -> types.Task:
    """A task as the task methods show it. Clients join the messages of all events of a failed task into its error."""
    return types.Task(
        metadata=types.Metadata(id=str(task), name=str(task)),
        spec=types.TaskSpec(session_id=session_id, input=input, output=output),
        status=types.TaskStatus(
            state=_enum(state), creation_time=created_ms, completion_time=completed_ms, events=events
        ),
    )


def task_id_from_text(text: str) -> int:
    """The number of a published task id.

    Raises:
        InvalidArgument: `text` is no decimal number from 1 up.
    """
    if text.isascii() and text.isdecimal() and len(text) <= 19:
        number = int(text)
        if 1 <= number < 1 << 63:
            return number
    shown = text if len(text) <= 64 else text[:64] + "..."
    raise InvalidArgument(f"task id {shown!r} is no task's", hint="task ids are the numbers 1, 2, 3, ...")


def executor_to_proto(
    *,
    executor: str,
    node: str,
    resources: Resources,
    state: ExecutorState,
    session_id: str | None = None,
    log_path: str = "",
) -> types.Executor:
    """An executor as `ListExecutor` shows it.

    Args:
        log_path: the log of its present or last process, on its node.
    """
    return types.Executor(
        metadata=types.Metadata(id=executor, name=executor),
        spec=types.ExecutorSpec(node=node, resreq=resources_to_proto(resources)),
        status=types.ExecutorStatus(state=_enum(state), session_id=session_id, log_path=log_path),
    )


def node_to_proto(
    *,
    name: str,
    state: NodeState,
    capacity: Resources,
    allocatable: Resources,
    host: str = "",
    arch: str = "",
    os: str = "",
    last_seen_ms: int = 0,
) -> types.Node:
    """A node as `ListNodes` and `GetNode` show it.

    Args:
        last_seen_ms: Unix milliseconds of its last sign of life; shown in seconds, as published.
    """
    return types.Node(
        metadata=types.Metadata(id=name, name=name),
        spec=types.NodeSpec(hostname=host or name),
        status=types.NodeStatus(
            state=_enum(state),
            capacity=resources_to_proto(capacity),
            allocatable=resources_to_proto(allocatable),
            info=types.NodeInfo(arch=arch, os=os),
            last_heartbeat_time=last_seen_ms // 1000,
        ),
    )
