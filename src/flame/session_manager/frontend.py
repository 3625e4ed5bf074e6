"""The published Frontend, in plain form: unary and streaming methods over bytes, for every carrier.

Requests that change something go through the core as events and are answered when they are stored; queries look at
the settled state and read the store.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message

from flame.core.control import queries
from flame.core.control.effects import Answer, TellWatch
from flame.core.control.entities import Executor, Node, Session
from flame.core.control.events import (
    ApplicationDeleteRequested,
    ApplicationPutRequested,
    SessionCloseRequested,
    SessionCreateRequested,
    SessionDeleteRequested,
    TaskCreateRequested,
    TaskWatchEnded,
    TaskWatchRequested,
)
from flame.core.control.state import State
from flame.model.errors import InvalidArgument, NotFound, TooLarge
from flame.model.specs import check_session_id, check_working_directory
from flame.session_manager.driver import Driver
from flame.session_manager.tasks import TaskReader
from flame.wire.convert import (
    application_spec_from_proto,
    application_to_proto,
    event_to_proto,
    executor_to_proto,
    node_to_proto,
    session_spec_from_proto,
    session_to_proto,
    task_id_from_text,
)
from flame.wire.published import FRONTEND_METHODS, frontend, types

WARNING_CODE = 1001
"""Code of the event in a session's status that says why it cannot run."""
LISTED_AT_ONCE = 32
"""Entities that are shown without a pause: they take as long as a unary call or two."""
_Request = TypeVar("_Request", bound=Message)
_Entity = TypeVar("_Entity")
_Shown = TypeVar("_Shown", bound=Message)


class Frontend:
    """Implements `flame.carriers.port.Methods` for the session manager."""

    names: Mapping[str, bool] = {name: method.streams for name, method in FRONTEND_METHODS.items()}

    def __init__(self, driver: Driver, default_delay_release_ms: int) -> None:
        self._driver = driver
        self._delay_release_ms = default_delay_release_ms
        self._tasks = TaskReader(driver.store)
        self._unary: dict[str, Callable[[Any], Awaitable[Message]]] = {
            "RegisterApplication": self._register_application,
            "UnregisterApplication": self._unregister_application,
            "UpdateApplication": self._update_application,
            "GetApplication": self._get_application,
            "ListApplication": self._list_application,
            "ListExecutor": self._list_executor,
            "ListNodes": self._list_nodes,
            "GetNode": self._get_node,
            "CreateSession": self._create_session,
            "DeleteSession": self._delete_session,
            "OpenSession": self._open_session,
            "CloseSession": self._close_session,
            "GetSession": self._get_session,
            "ListSession": self._list_session,
            "CreateTask": self._create_task,
            "GetTask": self._get_task,
        }
        self._streaming: dict[str, Callable[[Any], AsyncIterator[Message]]] = {
            "WatchTask": self._watch_task,
            "ListTask": self._list_task,
        }

    async def call(self, method: str, payload: bytes) -> bytes:
        """Answer a unary request, when its turn has come."""
        await self._driver.turnstile.enter()
        request = _parse(method, payload)
        handler = self._unary.get(method.rpartition("/")[2])
        if handler is None:
            raise InvalidArgument(f"{method} streams its answers", hint="call it over gRPC")
        answer = (await handler(request)).SerializeToString()
        self._driver.turnstile.charge(len(answer))
        return answer

    async def stream(self, method: str, payload: bytes) -> AsyncIterator[bytes]:
        """Answer a server-streaming request, from when its turn has come."""
        await self._driver.turnstile.enter()
        request = _parse(method, payload)
        async for message in self._streaming[method.rpartition("/")[2]](request):
            yield message.SerializeToString()

    async def _list(self, entities: Mapping[Any, _Entity], show: Callable[[_Entity], _Shown]) -> list[_Shown]:
        """Show all that are there now, a part of them at a time: a list of thousands does not hold up the streams.

        Each is shown as it is when its part is made, and settled then.
        """
        listed = list(entities.values())
        shown: list[_Shown] = []
        while len(shown) < len(listed):
            if shown:
                await self._driver.turnstile.enter()
                await self._driver.settled()
            shown += map(show, listed[len(shown) : len(shown) + LISTED_AT_ONCE])
        return shown

    # --- applications ------------------------------------------------------------------------------------------------

    async def _register_application(self, request: frontend.RegisterApplicationRequest) -> Message:
        return await self._put_application(request, update=False)

    async def _update_application(self, request: frontend.UpdateApplicationRequest) -> Message:
        return await self._put_application(request, update=True)

    async def _put_application(self, request: Any, *, update: bool) -> Message:
        if not request.HasField("application"):
            raise InvalidArgument(f"application {request.name!r}: the request has no spec")
        spec = application_spec_from_proto(request.application, default_delay_release_ms=self._delay_release_ms)
        check_working_directory(request.name, spec)
        number, answer = self._driver.request()
        self._driver.offer(ApplicationPutRequested(request=number, name=request.name, spec=spec, update=update))
        return _result(await answer)

    async def _unregister_application(self, request: frontend.UnregisterApplicationRequest) -> Message:
        number, answer = self._driver.request()
        self._driver.offer(ApplicationDeleteRequested(request=number, name=request.name))
        return _result(await answer)

    async def _get_application(self, request: frontend.GetApplicationRequest) -> Message:
        application = (await self._driver.settled()).applications.get(request.name)
        if application is None:
            raise NotFound(f"application {request.name!r} is not registered", hint="`flmctl list -a` shows all")
        return application_to_proto(application.record)

    async def _list_application(self, request: frontend.ListApplicationRequest) -> Message:
        state = await self._driver.settled()
        shown = await self._list(state.applications, lambda application: application_to_proto(application.record))
        return types.ApplicationList(applications=shown)

    # --- executors and nodes -----------------------------------------------------------------------------------------

    async def _list_executor(self, request: frontend.ListExecutorRequest) -> Message:
        state = await self._driver.settled()
        return types.ExecutorList(executors=await self._list(state.executors, _executor))

    async def _list_nodes(self, request: frontend.ListNodesRequest) -> Message:
        state = await self._driver.settled()
        return types.NodeList(nodes=await self._list(state.nodes, _node))

    async def _get_node(self, request: frontend.GetNodeRequest) -> Message:
        node = (await self._driver.settled()).nodes.get(request.name)
        if node is None:
            raise NotFound(f"node {request.name!r} is not known", hint="`flmctl list -n` shows all")
        return frontend.GetNodeResponse(node=_node(node))

    # --- sessions ----------------------------------------------------------------------------------------------------

    async def _create_session(self, request: frontend.CreateSessionRequest) -> Message:
        if not request.HasField("session"):
            raise InvalidArgument(f"session {request.session_id!r}: the request has no spec")
        spec = session_spec_from_proto(request.session)
        number, answer = self._driver.request()
        self._driver.offer(SessionCreateRequested(request=number, name=request.session_id, spec=spec))
        return await self._answered_session(answer)

    async def _open_session(self, request: frontend.OpenSessionRequest) -> Message:
        check_session_id(request.session_id)
        spec = session_spec_from_proto(request.session) if request.HasField("session") else None
        number, answer = self._driver.request()
        self._driver.offer(
            SessionCreateRequested(request=number, name=request.session_id, spec=spec, open_existing=True)
        )
        return await self._answered_session(answer)

    async def _close_session(self, request: frontend.CloseSessionRequest) -> Message:
        number, answer = self._driver.request()
        self._driver.offer(SessionCloseRequested(request=number, name=request.session_id))
        return await self._answered_session(answer)

    async def _delete_session(self, request: frontend.DeleteSessionRequest) -> Message:
        shown = _session((await self._driver.settled()).session_named(request.session_id))
        number, answer = self._driver.request()
        self._driver.offer(SessionDeleteRequested(request=number, name=request.session_id))
        _check(await answer)
        return shown

    async def _get_session(self, request: frontend.GetSessionRequest) -> Message:
        return _session((await self._driver.settled()).session_named(request.session_id))

    async def _list_session(self, request: frontend.ListSessionRequest) -> Message:
        state = await self._driver.settled()
        return types.SessionList(sessions=await self._list(state.sessions, _listed))

    async def _answered_session(self, answer: "asyncio.Future[Answer]") -> Message:
        number = _check(await answer).session
        session = (await self._driver.settled()).sessions.get(number)
        if session is None:
            raise NotFound(f"session number {number} was deleted meanwhile")
        return _session(session)

    # --- tasks -------------------------------------------------------------------------------------------------------

    async def _create_task(self, request: frontend.CreateTaskRequest) -> Message:
        spec = request.task
        self._driver.check_room()
        number, answer = self._driver.request()
        self._driver.offer(TaskCreateRequested(request=number, session=spec.session_id, input=spec.input))
        made = _check(await answer)
        return self._task(await self._driver.settled(), made.session, made.task)

    async def _get_task(self, request: frontend.GetTaskRequest) -> Message:
        task = task_id_from_text(request.task_id)
        state = await self._driver.settled()
        return self._task(state, state.session_named(request.session_id).number, task)

    async def _watch_task(self, request: frontend.WatchTaskRequest) -> AsyncIterator[Message]:
        task = task_id_from_text(request.task_id)
        told: asyncio.Queue[TellWatch] = asyncio.Queue()
        watch = self._driver.watch(told.put_nowait)
        try:
            self._driver.offer(TaskWatchRequested(watch=watch, session=request.session_id, task=task))
            while True:
                change = await told.get()
                if change.error is not None:
                    raise change.error.to_error()
                yield self._task(await self._driver.settled(), change.session, change.task)
                if change.last:
                    return
        finally:
            self._driver.unwatch(watch)
            self._driver.offer(TaskWatchEnded(watch))

    async def _list_task(self, request: frontend.ListTaskRequest) -> AsyncIterator[Message]:
        session = (await self._driver.settled()).session_named(request.session_id)
        for part in list(queries.submitted(session)):
            first = part.first
            while first < part.end:
                await self._driver.settled()
                run = self._tasks.read_run(session, first, part.end)
                first += len(run)
                for message in run:
                    yield message

    def _task(self, state: State, number: int, task: int) -> Message:
        session = state.sessions.get(number)
        if session is None or not queries.was_submitted(session, task):
            name = session.record.name if session else f"number {number}"
            raise NotFound(f"task {task} of session {name} does not exist")
        return self._tasks.read(session, task)


def _parse(method: str, payload: bytes) -> Message:
    known = FRONTEND_METHODS.get(method)
    if known is None:
        raise InvalidArgument(f"method {method!r} is not known to this session manager")
    if len(payload) > known.most_bytes:
        raise TooLarge(f"{method}: a request of {len(payload)} bytes is over the limit of {known.most_bytes}")
    try:
        return known.request.FromString(payload)
    except DecodeError as error:
        raise InvalidArgument(f"{method}: the request cannot be read: {error}") from None


def _check(answer: Answer) -> Answer:
    if answer.error is not None:
        raise answer.error.to_error()
    return answer


def _result(answer: Answer) -> Message:
    """Applications are answered with a `Result`, as published: refusals are -1 with a message."""
    if answer.error is None:
        return types.Result(return_code=0)
    error = answer.error
    return types.Result(return_code=-1, message=str(error.to_error()), code=error.code, hint=error.hint)


def _session(session: Session) -> types.Session:
    counts = queries.counts(session)
    events = [event_to_proto(WARNING_CODE, session.warning, session.record.created_ms)] if session.warning else []
    # Who asked for nothing is shown what the cluster gives.
    spec = msgspec.structs.replace(session.record.spec, resources=session.resources)
    return session_to_proto(
        msgspec.structs.replace(session.record, spec=spec),
        pending=counts.pending,
        running=counts.running,
        succeed=counts.succeed,
        failed=counts.failed,
        cancelled=counts.cancelled,
        events=events,
    )


def _listed(session: Session) -> types.Session:
    """A session in a list: without its common data, of which a few would be more than a message holds."""
    shown = _session(session)
    shown.spec.ClearField("common_data")
    return shown


def _executor(executor: Executor) -> types.Executor:
    binding = executor.binding
    return executor_to_proto(
        executor=executor.id,
        node=executor.node.name,
        resources=executor.resources,
        state=executor.state,
        session_id=binding.session.record.name if binding else None,
        log_path=executor.log_path,
    )


def _node(node: Node) -> types.Node:
    return node_to_proto(
        name=node.name,
        host=node.host,
        state=node.state,
        capacity=node.capacity,
        allocatable=queries.allocatable(node),
        arch=node.arch,
        os=node.os,
        last_seen_ms=node.last_seen_ms,
    )
