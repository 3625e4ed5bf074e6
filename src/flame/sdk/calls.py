"""Unary methods of the published frontend, called over the stream."""

from typing import TYPE_CHECKING, TypeVar

from flame.model.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Rejection
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec, check_application_name, check_session_id
from flame.model.states import ApplicationState, ExecutorState, NodeState, SessionState, Shim
from flame.sdk.views import ApplicationView, ExecutorView, NodeView, SessionView

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from flame.sdk.connection import Connection
    from flame.sdk.link import Answer
    from flame.wire.published import types

Response = TypeVar("Response", bound="Message")
Timeout = float | None


def _ask(connection: "Connection", method: str, request: "Message", timeout: Timeout) -> "Answer":
    return connection.call(f"/flame.v1.Frontend/{method}", request.SerializeToString(), timeout)


def _call(connection: "Connection", method: str, request: "Message", response: Response, timeout: Timeout) -> Response:
    answer = _ask(connection, method, request, timeout)
    if answer.error is not None:
        raise answer.error
    response.ParseFromString(answer.payload)
    return response


def register_application(connection: "Connection", name: str, spec: ApplicationSpec, timeout: Timeout) -> None:
    """Register an application; one that exists with an equal spec is fine, one with another is updated."""
    from flame.wire.convert import application_spec_to_proto
    from flame.wire.published import frontend, types

    request = frontend.RegisterApplicationRequest(name=name, application=application_spec_to_proto(spec))
    result = _call(connection, "RegisterApplication", request, types.Result(), timeout)
    if result.return_code == 0:
        return
    if result.code not in ("", AlreadyExists.code):
        _check_result("", result)
    try:
        existing = get_application(connection, name, timeout)
    except NotFound:
        raise InvalidArgument(f"application {name!r} was refused: {result.message}") from None
    if existing.spec != spec:
        update_application(connection, name, spec, timeout)


def update_application(connection: "Connection", name: str, spec: ApplicationSpec, timeout: Timeout) -> None:
    """Replace the spec of an application."""
    from flame.wire.convert import application_spec_to_proto
    from flame.wire.published import frontend, types

    request = frontend.UpdateApplicationRequest(
        name=check_application_name(name), application=application_spec_to_proto(spec)
    )
    _check_result(
        f"application {name!r} cannot be changed",
        _call(connection, "UpdateApplication", request, types.Result(), timeout),
    )


def unregister_application(connection: "Connection", name: str, timeout: Timeout) -> None:
    """Remove an application."""
    from flame.wire.published import frontend, types

    request = frontend.UnregisterApplicationRequest(name=check_application_name(name))
    answer = _ask(connection, "UnregisterApplication", request, timeout)
    if answer.error is not None:
        raise answer.error
    result = types.Result.FromString(answer.payload)
    if answer.repeated and result.code == NotFound.code:
        return  # the first one did it, and its answer was lost
    _check_result(f"application {name!r} cannot be removed", result)


def _check_result(what: str, result: "types.Result") -> None:
    """Raise what a result says; `what` was refused if it says no class of error, as older session managers do."""
    if result.return_code == 0:
        return
    if result.code:
        # The message is for those who read only that, so the hint is in it too.
        message = result.message.removesuffix(f" ({result.hint})") if result.hint else result.message
        raise Rejection(result.code, message, result.hint).to_error()
    raise FailedPrecondition(
        f"{what}: {result.message}", hint="close its open sessions first (flmctl list, flmctl close -s ID)"
    )


def get_application(connection: "Connection", name: str, timeout: Timeout) -> ApplicationView:
    """An application by name."""
    from flame.wire.published import frontend, types

    request = frontend.GetApplicationRequest(name=check_application_name(name))
    return _application(_call(connection, "GetApplication", request, types.Application(), timeout))


def list_applications(connection: "Connection", timeout: Timeout) -> list[ApplicationView]:
    """Every application."""
    from flame.wire.published import frontend, types

    answer = _call(connection, "ListApplication", frontend.ListApplicationRequest(), types.ApplicationList(), timeout)
    return [_application(application) for application in answer.applications]


def get_session(connection: "Connection", session_id: str, timeout: Timeout) -> SessionView:
    """A session by id."""
    from flame.wire.published import frontend, types

    request = frontend.GetSessionRequest(session_id=check_session_id(session_id))
    return _session(_call(connection, "GetSession", request, types.Session(), timeout))


def list_sessions(connection: "Connection", timeout: Timeout) -> list[SessionView]:
    """Every session."""
    from flame.wire.published import frontend, types

    answer = _call(connection, "ListSession", frontend.ListSessionRequest(), types.SessionList(), timeout)
    return [_session(session) for session in answer.sessions]


def close_session(connection: "Connection", session_id: str, timeout: Timeout) -> SessionView:
    """Close a session."""
    from flame.wire.published import frontend, types

    request = frontend.CloseSessionRequest(session_id=check_session_id(session_id))
    return _session(_call(connection, "CloseSession", request, types.Session(), timeout))


def delete_session(connection: "Connection", session_id: str, timeout: Timeout) -> SessionView:
    """Delete a closed session."""
    from flame.wire.published import frontend, types

    request = frontend.DeleteSessionRequest(session_id=check_session_id(session_id))
    view = get_session(connection, session_id, timeout)
    answer = _ask(connection, "DeleteSession", request, timeout)
    if answer.error is None:
        return _session(types.Session.FromString(answer.payload))
    if answer.repeated and isinstance(answer.error, NotFound):
        return view  # the first one did it, and its answer was lost
    raise answer.error


def list_executors(connection: "Connection", timeout: Timeout) -> list[ExecutorView]:
    """Every executor."""
    from flame.wire.published import frontend, types

    answer = _call(connection, "ListExecutor", frontend.ListExecutorRequest(), types.ExecutorList(), timeout)
    return [
        ExecutorView(
            id=executor.metadata.id,
            node=executor.spec.node,
            state=ExecutorState(executor.status.state),
            session_id=executor.status.session_id,
            shim=Shim(executor.spec.shim),
            resources=_resources(executor.spec.resreq),
            log_path=executor.status.log_path,
        )
        for executor in answer.executors
    ]


def list_nodes(connection: "Connection", timeout: Timeout) -> list[NodeView]:
    """Every node."""
    from flame.wire.published import frontend, types

    answer = _call(connection, "ListNodes", frontend.ListNodesRequest(), types.NodeList(), timeout)
    return [
        NodeView(
            name=node.metadata.name,
            host=node.spec.hostname,
            state=NodeState(node.status.state),
            capacity=_resources(node.status.capacity),
            allocatable=_resources(node.status.allocatable),
            arch=node.status.info.arch,
            os=node.status.info.os,
            last_seen_ms=node.status.last_heartbeat_time * 1000,
        )
        for node in answer.nodes
    ]


def check_session_spec(spec: SessionSpec) -> None:
    """Check that a spec can be sent.

    Raises:
        InvalidArgument: a number out of range, or fewer executors allowed than are to be held.
    """
    from flame.wire.convert import session_spec_to_proto

    session_spec_to_proto(spec)
    if spec.max_instances is not None and spec.max_instances < max(spec.min_instances, 1):
        raise InvalidArgument(
            f"max_instances is {spec.max_instances}, min_instances {spec.min_instances}",
            hint="max_instances has to be at least 1 and at least min_instances; None is unlimited",
        )


def _application(message: "types.Application") -> ApplicationView:
    from flame.wire.convert import application_spec_from_proto

    return ApplicationView(
        name=message.metadata.name,
        spec=application_spec_from_proto(message.spec),
        state=ApplicationState(message.status.state),
        created_ms=message.status.creation_time,
    )


def _session(message: "types.Session") -> SessionView:
    from flame.wire.convert import session_spec_from_proto

    status = message.status
    return SessionView(
        id=message.metadata.id,
        spec=session_spec_from_proto(message.spec),
        state=SessionState(status.state),
        created_ms=status.creation_time,
        closed_ms=status.completion_time if status.HasField("completion_time") else None,
        pending=status.pending,
        running=status.running,
        succeed=status.succeed,
        failed=status.failed,
        cancelled=status.cancelled,
        warnings=tuple(event.message for event in status.events if event.message),
    )


def _resources(message: "types.ResourceRequirement") -> Resources:
    from flame.wire.convert import resources_from_proto

    return resources_from_proto(message)
