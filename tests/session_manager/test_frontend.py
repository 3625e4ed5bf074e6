"""The published Frontend: what each of its 18 methods answers, and to what it says no."""

import asyncio
from typing import Any

import pytest

from flame.model.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, TooLarge
from flame.model.limits import MAX_UNARY_PER_TURN
from flame.session_manager.frontend import LISTED_AT_ONCE
from flame.wire.published import FRONTEND_METHODS, frontend, types
from tests.session_manager.served import Served, serve


def spec(**fields: Any) -> types.SessionSpec:
    return types.SessionSpec(application="flmping", **fields)


async def create(served: Served, name: str = "s-1", **fields: Any) -> Any:
    return await served.call("CreateSession", frontend.CreateSessionRequest(session_id=name, session=spec(**fields)))


async def create_task(served: Served, data: bytes, session: str = "s-1") -> Any:
    task = types.TaskSpec(session_id=session, input=data)
    return await served.call("CreateTask", frontend.CreateTaskRequest(task=task))


def test_every_published_method_is_served() -> None:
    async def test(served: Served) -> None:
        assert set(served.frontend.names) == set(FRONTEND_METHODS)
        assert len(served.frontend.names) == 18
        assert [name for name, streams in served.frontend.names.items() if streams] == [
            "/flame.v1.Frontend/WatchTask",
            "/flame.v1.Frontend/ListTask",
        ]

    serve(test)


def test_a_fresh_cluster_has_flmping() -> None:
    async def test(served: Served) -> None:
        listed: Any = await served.call("ListApplication", frontend.ListApplicationRequest())
        assert [application.metadata.name for application in listed.applications] == ["flmping"]
        assert listed.applications[0].spec.service == "flame.service.flmping:Ping"
        assert listed.applications[0].status.creation_time > 1_600_000_000_000

    serve(test)


def test_applications_are_registered_updated_and_unregistered() -> None:
    async def test(served: Served) -> None:
        application = types.ApplicationSpec(service="a.b:C", working_directory="/tmp")
        register = frontend.RegisterApplicationRequest(name="app", application=application)
        done: Any = await served.call("RegisterApplication", register)
        assert done.return_code == 0
        again: Any = await served.call("RegisterApplication", register)
        assert again.return_code == -1
        assert "registered already" in again.message
        application.description = "changed"
        update = frontend.UpdateApplicationRequest(name="app", application=application)
        assert (await served.call("UpdateApplication", update)).return_code == 0  # type: ignore[attr-defined]
        got: Any = await served.call("GetApplication", frontend.GetApplicationRequest(name="app"))
        assert got.spec.description == "changed"
        assert got.spec.delay_release == 60
        gone = frontend.UnregisterApplicationRequest(name="app")
        assert (await served.call("UnregisterApplication", gone)).return_code == 0  # type: ignore[attr-defined]
        with pytest.raises(NotFound):
            await served.call("GetApplication", frontend.GetApplicationRequest(name="app"))
        missing: Any = await served.call("UnregisterApplication", gone)
        assert missing.return_code == -1
        assert "not registered" in missing.message

    serve(test)


@pytest.mark.parametrize("name", ["", ".hidden", "-dash", "a..b", "white space", "x" * 254])
def test_invalid_application_names_are_refused(name: str) -> None:
    async def test(served: Served) -> None:
        request = frontend.RegisterApplicationRequest(name=name, application=types.ApplicationSpec(service="a:B"))
        done: Any = await served.call("RegisterApplication", request)
        assert done.return_code == -1
        assert "not valid" in done.message

    serve(test)


def test_a_missing_spec_and_a_relative_directory_are_invalid_arguments() -> None:
    async def test(served: Served) -> None:
        with pytest.raises(InvalidArgument, match="no spec"):
            await served.call("RegisterApplication", frontend.RegisterApplicationRequest(name="app"))
        relative = types.ApplicationSpec(service="a:B", working_directory="here")
        request = frontend.RegisterApplicationRequest(name="app", application=relative)
        with pytest.raises(InvalidArgument, match="relative"):
            await served.call("RegisterApplication", request)

    serve(test)


def test_an_application_with_an_open_session_cannot_be_changed() -> None:
    async def test(served: Served) -> None:
        await create(served)
        done: Any = await served.call("UnregisterApplication", frontend.UnregisterApplicationRequest(name="flmping"))
        assert done.return_code == -1
        assert "1 open session uses it" in done.message
        await served.call("CloseSession", frontend.CloseSessionRequest(session_id="s-1"))
        done = await served.call("UnregisterApplication", frontend.UnregisterApplicationRequest(name="flmping"))
        assert done.return_code == 0

    serve(test)


def test_sessions_are_created_listed_closed_and_deleted() -> None:
    async def test(served: Served) -> None:
        created = await create(served, priority=3, min_instances=1, max_instances=2, common_data=b"c")
        assert created.metadata.id == "s-1"
        assert created.status.state == types.Open
        assert (created.spec.priority, created.spec.max_instances, created.spec.common_data) == (3, 2, b"c")
        made = await create(served, name="")
        assert made.metadata.id.startswith("flmping-")
        with pytest.raises(AlreadyExists):
            await create(served)
        listed: Any = await served.call("ListSession", frontend.ListSessionRequest())
        assert [session.metadata.id for session in listed.sessions] == ["s-1", made.metadata.id]
        with pytest.raises(FailedPrecondition, match="open"):
            await served.call("DeleteSession", frontend.DeleteSessionRequest(session_id="s-1"))
        for _ in range(2):
            closed: Any = await served.call("CloseSession", frontend.CloseSessionRequest(session_id="s-1"))
            assert closed.status.state == types.Closed
            assert closed.status.completion_time >= closed.status.creation_time
        deleted: Any = await served.call("DeleteSession", frontend.DeleteSessionRequest(session_id="s-1"))
        assert deleted.metadata.id == "s-1"
        with pytest.raises(NotFound):
            await served.call("GetSession", frontend.GetSessionRequest(session_id="s-1"))
        assert (await create(served)).metadata.id == "s-1"

    serve(test)


def test_a_session_needs_a_known_application_and_a_valid_name() -> None:
    async def test(served: Served) -> None:
        unknown = types.SessionSpec(application="nobody")
        with pytest.raises(NotFound, match="nobody"):
            await served.call("CreateSession", frontend.CreateSessionRequest(session_id="s", session=unknown))
        with pytest.raises(InvalidArgument, match="not valid"):
            await create(served, name="no spaces")
        with pytest.raises(InvalidArgument, match="max_instances"):
            await create(served, min_instances=3, max_instances=2)

    serve(test)


def test_open_session_gets_or_creates() -> None:
    async def test(served: Served) -> None:
        with pytest.raises(NotFound):
            await served.call("OpenSession", frontend.OpenSessionRequest(session_id="s-1"))
        opened: Any = await served.call("OpenSession", frontend.OpenSessionRequest(session_id="s-1", session=spec()))
        assert opened.metadata.id == "s-1"
        again: Any = await served.call("OpenSession", frontend.OpenSessionRequest(session_id="s-1"))
        assert again.status.creation_time == opened.status.creation_time
        with pytest.raises(InvalidArgument, match="priority"):
            await served.call("OpenSession", frontend.OpenSessionRequest(session_id="s-1", session=spec(priority=9)))
        await served.call("CloseSession", frontend.CloseSessionRequest(session_id="s-1"))
        with pytest.raises(InvalidArgument, match="closed"):
            await served.call("OpenSession", frontend.OpenSessionRequest(session_id="s-1", session=spec()))

    serve(test)


def test_tasks_have_ids_from_one_and_become_cancelled_on_close() -> None:
    async def test(served: Served) -> None:
        await create(served)
        made = [await create_task(served, data) for data in (b"one", b"", b"three")]
        assert [task.metadata.id for task in made] == ["1", "2", "3"]
        assert made[0].status.state == types.Pending
        assert made[0].spec.input == b"one"
        session: Any = await served.call("GetSession", frontend.GetSessionRequest(session_id="s-1"))
        assert session.status.pending == 3
        await served.call("CloseSession", frontend.CloseSessionRequest(session_id="s-1"))
        got: Any = await served.call("GetTask", frontend.GetTaskRequest(session_id="s-1", task_id="3"))
        assert got.status.state == types.Cancelled
        assert got.spec.input == b"three"
        assert [event.code for event in got.status.events] == [types.Pending, types.Cancelled]
        session = await served.call("GetSession", frontend.GetSessionRequest(session_id="s-1"))
        assert (session.status.pending, session.status.cancelled) == (0, 3)
        listed: Any = await served.stream("ListTask", frontend.ListTaskRequest(session_id="s-1"))
        assert [task.metadata.id for task in listed] == ["1", "2", "3"]
        with pytest.raises(FailedPrecondition, match="closed"):
            await create_task(served, b"late")

    serve(test)


def test_unknown_tasks_and_ids_that_are_no_number() -> None:
    async def test(served: Served) -> None:
        await create(served)
        with pytest.raises(NotFound, match="task 7"):
            await served.call("GetTask", frontend.GetTaskRequest(session_id="s-1", task_id="7"))
        with pytest.raises(InvalidArgument, match="seven"):
            await served.call("GetTask", frontend.GetTaskRequest(session_id="s-1", task_id="seven"))
        with pytest.raises(NotFound, match="task 7"):
            await served.stream("WatchTask", frontend.WatchTaskRequest(session_id="s-1", task_id="7"))

    serve(test)


def test_watch_task_streams_states_until_the_last() -> None:
    async def test(served: Served) -> None:
        await create(served)
        await create_task(served, b"x")
        method = "/flame.v1.Frontend/WatchTask"
        request = frontend.WatchTaskRequest(session_id="s-1", task_id="1")
        states = served.frontend.stream(method, request.SerializeToString())
        first = types.Task.FromString(await anext(states))
        assert first.status.state == types.Pending
        await served.call("CloseSession", frontend.CloseSessionRequest(session_id="s-1"))
        rest = [types.Task.FromString(payload).status.state async for payload in states]
        assert rest == [types.Cancelled]
        at_once: Any = await served.stream("WatchTask", request)
        assert [task.status.state for task in at_once] == [types.Cancelled]

    serve(test)


def test_too_large_an_input_is_refused_with_the_limit() -> None:
    async def test(served: Served) -> None:
        await create(served)
        with pytest.raises(Exception, match="limit of 4194304 bytes"):
            await create_task(served, bytes(4 * 1024 * 1024 + 1))
        assert (await create_task(served, bytes(4 * 1024 * 1024))).metadata.id == "1"

    serve(test)


def test_a_request_that_cannot_be_read_is_an_invalid_argument() -> None:
    async def test(served: Served) -> None:
        with pytest.raises(InvalidArgument, match="cannot be read"):
            await served.frontend.call("/flame.v1.Frontend/GetSession", b"\xff\xff\xff")
        with pytest.raises(InvalidArgument, match="not known"):
            await served.frontend.call("/flame.v1.Frontend/Nothing", b"")

    serve(test)


def test_a_long_request_without_a_payload_is_refused_unread() -> None:
    async def test(served: Served) -> None:
        labels = types.ApplicationSpec(labels=["x" * 1000] * 1100)
        with pytest.raises(TooLarge, match=r"a request of \d+ bytes is over the limit of 1048576"):
            await served.call("RegisterApplication", frontend.RegisterApplicationRequest(name="a", application=labels))
        await create(served, common_data=bytes(2 << 20))

    serve(test)


def test_a_list_leaves_common_data_out() -> None:
    async def test(served: Served) -> None:
        await create(served, common_data=b"large")
        listed: Any = await served.call("ListSession", frontend.ListSessionRequest())
        assert not listed.sessions[0].spec.HasField("common_data")
        got: Any = await served.call("GetSession", frontend.GetSessionRequest(session_id="s-1"))
        assert got.spec.common_data == b"large"

    serve(test)


def test_refused_registrations_carry_their_code_and_hint() -> None:
    async def test(served: Served) -> None:
        request = frontend.RegisterApplicationRequest(name="flmping", application=types.ApplicationSpec(service="a:B"))
        done: Any = await served.call("RegisterApplication", request)
        assert (done.return_code, done.code) == (-1, "ALREADY_EXISTS")
        assert done.hint

    serve(test)


def test_a_long_list_leaves_turns_to_others_and_is_whole() -> None:
    async def test(served: Served) -> None:
        count = 2 * LISTED_AT_ONCE * MAX_UNARY_PER_TURN
        for at in range(count):
            await create(served, f"s-{at}")
        passes = 0

        async def other() -> None:
            nonlocal passes
            while True:
                await asyncio.sleep(0)
                passes += 1

        beside = asyncio.ensure_future(other())
        listing = asyncio.ensure_future(served.call("ListSession", frontend.ListSessionRequest()))
        await asyncio.sleep(0)  # it has begun
        await served.call("CloseSession", frontend.CloseSessionRequest(session_id=f"s-{count - 1}"))
        await served.call("DeleteSession", frontend.DeleteSessionRequest(session_id=f"s-{count - 1}"))
        listed: Any = await listing
        beside.cancel()
        assert [session.metadata.id for session in listed.sessions] == [f"s-{at}" for at in range(count)]
        assert passes >= 2

    serve(test)
