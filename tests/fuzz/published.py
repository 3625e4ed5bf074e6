"""Targets: requests of the published frontend, as they are read, and as a whole session manager answers them."""

import asyncio
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from flame.model.errors import FlameError, Internal, InvalidArgument
from flame.model.records import ApplicationRecord
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.stores.memory import MemoryStore
from flame.stores.sqlite_schema import decode_application, decode_session, encode
from flame.wire import convert
from flame.wire.published import FRONTEND_METHODS, frontend, types
from tests.fuzz.samples import APPLICATION, SESSION
from tests.session_manager.served import Served

_METHODS: Final = tuple(FRONTEND_METHODS)
_MOST_CALLS: Final = 12
_ODD_TEXTS: Final = ("", "s", "a", "n", "1", "0", "-1", "9" * 19, "x" * 254, "..", "a/b", "\0", "é", "flmping", "/w")
_ODD_NUMBERS: Final = (0, 1, 2, 3, 255, (1 << 31) - 1, (1 << 32) - 1, 1 << 53, 1 << 62, (1 << 63) - 1, -1, -(1 << 63))


def requests(data: bytes) -> None:
    """Read a request; the first byte says of which method.

    A spec is refused with `InvalidArgument` or comes back equal: from the published message, and from the store.
    """
    request: Any
    try:
        request = FRONTEND_METHODS[_METHODS[data[0] % len(_METHODS) if data else 0]].request.FromString(data[1:])
    except DecodeError:
        return
    for field in request.DESCRIPTOR.fields:
        value = getattr(request, field.name)
        if isinstance(value, types.ApplicationSpec):
            _application(value)
        elif isinstance(value, types.SessionSpec):
            _session(value)
        elif field.name == "task_id":
            _task_id(value)


def requests_seeds() -> Iterator[bytes]:
    """A request of every method."""
    for name, request in _requests():
        yield bytes([_index(name)]) + request.SerializeToString()


def calls(data: bytes) -> None:
    """Call a fresh session manager, up to a dozen times.

    Each call is answered or refused with an error of Flame, never one for a defect, and what is stored can be read by
    the next session manager.
    """
    asyncio.run(_serve(data))


def calls_seeds() -> Iterator[bytes]:
    """Each method once, after what it needs."""
    request_of = dict(_requests())
    calls = [_call(name, request_of[name]) for name in _ORDER]
    for count in range(1, len(calls) + 1):
        yield b"".join(calls[max(0, count - 4) : count])
    yield b"".join(calls[:_MOST_CALLS])


def mutate_request(data: bytes, chance: random.Random) -> bytes:
    """A request in which one field has another value."""
    method = _METHODS[data[0] % len(_METHODS) if data else 0]
    try:
        request: Any = FRONTEND_METHODS[method].request.FromString(data[1:])
        _change(request, chance)
    except (DecodeError, ValueError):
        return data
    return data[:1] + bytes(request.SerializeToString())


def mutate_calls(data: bytes, chance: random.Random) -> bytes:
    """Some of the calls, in another order, twice, or with another value in them."""
    calls = list(_split(data))
    if not calls:
        return data
    at, to = chance.randrange(len(calls)), chance.randrange(len(calls) + 1)
    change = chance.randrange(5)
    if change == 0:
        calls.insert(to, calls[at])
    elif change == 1 and len(calls) > 1:
        calls.insert(to, calls.pop(at))
    elif change == 2:
        index = chance.randrange(len(_METHODS))
        calls.insert(to, bytes([index]) + calls[at][1:])  # fields with the same numbers mean much the same
    else:
        calls[at] = mutate_request(calls[at], chance)
    return b"".join(
        call[:1] + (len(call) - 1).to_bytes(2, "little") + call[1:] for call in calls if len(call) < 1 << 16
    )


def _change(message: Any, chance: random.Random) -> None:
    fields = list(message.DESCRIPTOR.fields)
    if not fields:
        return
    field = chance.choice(fields)
    if field.is_repeated:
        values = getattr(message, field.name)
        if field.message_type is not None:
            _change(values.add(), chance)
        else:
            values.extend([chance.choice(_ODD_TEXTS)] * chance.choice((1, 3)))
    elif field.message_type is not None:
        value = getattr(message, field.name)
        value.SetInParent()
        _change(value, chance)
    elif chance.random() < 0.2:
        message.ClearField(field.name)
    elif field.cpp_type == field.CPPTYPE_STRING:
        text = chance.choice(_ODD_TEXTS)
        setattr(message, field.name, text if field.type == field.TYPE_STRING else text.encode())
    else:
        setattr(message, field.name, chance.choice(_ODD_NUMBERS))


def _split(data: bytes) -> Iterator[bytes]:
    """The calls of a recipe, each as the number of its method and its payload."""
    at = 0
    while at + 3 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 3], "little")
        yield data[at : at + 1] + data[at + 3 : at + 3 + size]
        at += 3 + size


async def _serve(data: bytes) -> None:
    store = MemoryStore()
    served = Served(store, store.open())
    try:
        for call in islice(_split(data), _MOST_CALLS):
            await _one(served, _METHODS[call[0] % len(_METHODS)], call[1:])
        settled = await served.driver.settled()
        for application in settled.applications.values():
            assert decode_application(encode(application.record)) == application.record
        for session in settled.sessions.values():
            assert decode_session(encode(session.record)) == session.record
        names = sorted(session.record.name for session in settled.sessions.values())
    finally:
        served.driver.close()
    after = Served(store, store.open())
    assert sorted(session.record.name for session in after.state.sessions.values()) == names
    after.driver.close()


async def _one(served: Served, method: str, payload: bytes) -> None:
    kind = FRONTEND_METHODS[method]
    try:
        if not kind.streams:
            kind.response.FromString(await served.frontend.call(method, payload))
            return
        answers: Any = served.frontend.stream(method, payload)
        try:
            kind.response.FromString(await anext(answers))  # the first: a task that nobody runs never ends
        except StopAsyncIteration:
            pass
        finally:
            await answers.aclose()
    except FlameError as error:
        if isinstance(error, Internal) or not error.message:
            raise


def _application(message: types.ApplicationSpec) -> None:
    try:
        spec = convert.application_spec_from_proto(message)
    except InvalidArgument:
        return
    assert convert.application_spec_from_proto(convert.application_spec_to_proto(spec)) == spec
    _equal_from_the_store(spec)
    record = ApplicationRecord(name="a", spec=spec, created_ms=1)
    assert decode_application(encode(record)) == record
    convert.application_to_proto(record).SerializeToString()


def _session(message: types.SessionSpec) -> None:
    try:
        spec = convert.session_spec_from_proto(message)
    except InvalidArgument:
        return
    assert convert.session_spec_from_proto(convert.session_spec_to_proto(spec)) == spec
    _equal_from_the_store(spec)


def _equal_from_the_store(spec: ApplicationSpec | SessionSpec) -> None:
    assert msgspec.msgpack.decode(encode(spec), type=type(spec)) == spec


def _task_id(text: str) -> None:
    try:
        number = convert.task_id_from_text(text)
    except InvalidArgument:
        return
    assert convert.task_id_from_text(str(number)) == number


_ORDER: Final = (
    *("RegisterApplication", "GetApplication", "CreateSession", "OpenSession", "CreateTask", "GetTask", "WatchTask"),
    *("ListTask", "GetSession", "ListSession", "UpdateApplication", "CloseSession", "DeleteSession"),
    *("UnregisterApplication", "ListApplication", "ListExecutor", "ListNodes", "GetNode"),
)


def _requests() -> Iterator[tuple[str, Any]]:
    application = convert.application_spec_to_proto(APPLICATION)
    session = convert.session_spec_to_proto(SESSION)
    yield "RegisterApplication", frontend.RegisterApplicationRequest(name="a", application=application)
    yield "UpdateApplication", frontend.UpdateApplicationRequest(name="a", application=application)
    yield "UnregisterApplication", frontend.UnregisterApplicationRequest(name="a")
    yield "GetApplication", frontend.GetApplicationRequest(name="a")
    yield "ListApplication", frontend.ListApplicationRequest()
    yield "ListExecutor", frontend.ListExecutorRequest()
    yield "ListNodes", frontend.ListNodesRequest()
    yield "GetNode", frontend.GetNodeRequest(name="n")
    yield "CreateSession", frontend.CreateSessionRequest(session_id="s", session=session)
    yield "OpenSession", frontend.OpenSessionRequest(session_id="s", session=session)
    yield "CloseSession", frontend.CloseSessionRequest(session_id="s")
    yield "DeleteSession", frontend.DeleteSessionRequest(session_id="s")
    yield "GetSession", frontend.GetSessionRequest(session_id="s")
    yield "ListSession", frontend.ListSessionRequest()
    yield "CreateTask", frontend.CreateTaskRequest(task=types.TaskSpec(session_id="s", input=b"1"))
    yield "GetTask", frontend.GetTaskRequest(session_id="s", task_id="1")
    yield "WatchTask", frontend.WatchTaskRequest(session_id="s", task_id="1")
    yield "ListTask", frontend.ListTaskRequest(session_id="s")


def _index(name: str) -> int:
    return _METHODS.index(f"/flame.v1.Frontend/{name}")


def _call(name: str, request: Any) -> bytes:
    payload: bytes = request.SerializeToString()
    return bytes([_index(name)]) + len(payload).to_bytes(2, "little") + payload
