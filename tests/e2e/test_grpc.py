"""The gRPC endpoint: our SDK over it, and the published Frontend as clients in the field call it."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import msgspec
import pytest

import flame
from flame.service.flmping import PingAnswer
from flame.wire.published import FRONTEND_METHODS, frontend, types
from tests.e2e.cluster import Cluster, register
from tests.e2e.conftest import MakeCluster
from tests.support import wait_until_true

Call = Callable[..., Any]


@pytest.fixture
def connection(cluster: Cluster) -> Iterator[flame.Connection]:
    with flame.connect(cluster.http, carrier="grpc", timeout=60) as made:
        yield made


@pytest.fixture
def call(cluster: Cluster) -> Iterator[Call]:
    """`call("GetTask", request)`: a method of the published Frontend over a plain channel; streams become lists."""
    with grpc.insecure_channel(
        cluster.http.removeprefix("http://"), [("grpc.max_receive_message_length", -1)]
    ) as channel:

        def invoke(name: str, request: Any) -> Any:
            method = FRONTEND_METHODS[f"/flame.v1.Frontend/{name}"]
            make = channel.unary_stream if method.streams else channel.unary_unary
            stub = make(
                f"/flame.v1.Frontend/{name}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=method.response.FromString,
            )
            answer = stub(request, timeout=60)
            return list(answer) if method.streams else answer

        yield invoke


def test_map_run_and_failures_over_grpc(connection: flame.Connection) -> None:
    register(connection, "Mortal")
    with connection.create_session("mortal") as session:
        inputs = [b"%d" % n for n in range(5_000)]
        assert list(session.map(iter(inputs), timeout=60)) == inputs
        futures = [session.run(task) for task in (b"a", b"raise", b"abort", b"b")]
        done, pending = flame.wait(futures, timeout=60)
        assert (len(done), len(pending)) == (4, 0)
        assert [futures[0].result(), futures[3].result()] == [b"a", b"b"]
        raised, died = futures[1].exception(), futures[2].exception()
        assert isinstance(raised, flame.TaskFailed)
        assert raised.type == "ValueError"
        assert isinstance(died, flame.TaskFailed)
        assert "signal 6" in died.message
    assert len(list(connection.results(session.id, timeout=60))) == 5_004


def test_a_connection_over_grpc_goes_on_over_a_kill(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1, grpc=True)
    address = cluster.http.removeprefix("http://")
    cluster.configuration["grpc"] = address
    with flame.connect(cluster.http, carrier="grpc", timeout=60) as connection:
        register(connection, "Echo")
        with connection.create_session("echo") as session:
            assert session.invoke(b"1", timeout=60) == b"1"
            cluster.kill("session-manager")
            future = session.run(b"2")
            cluster.start_session_manager()
            assert future.result(60) == b"2"


def test_an_http_endpoint_leads_to_the_frames(cluster: Cluster) -> None:
    with flame.connect(cluster.http, timeout=60) as connection:
        assert connection.endpoint == cluster.endpoint
    with flame.connect(cluster.http, timeout=60, carrier="frames") as connection:
        assert connection.endpoint == cluster.endpoint


def test_an_http_endpoint_of_the_environment_runs_tasks_over_the_frames(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAME_ENDPOINT", cluster.http)
    with flame.connect(timeout=60) as connection:
        assert connection.endpoint == cluster.endpoint
        register(connection, "Echo")
        with connection.create_session("echo") as session:
            assert session.invoke(b"1", timeout=60) == b"1"
            inputs = [b"%d" % n for n in range(3_000)]
            assert list(session.map(iter(inputs), timeout=60)) == inputs


def test_the_published_way_of_a_task(call: Call) -> None:
    spec = types.SessionSpec(application="flmping")
    session = call("CreateSession", frontend.CreateSessionRequest(session_id="flmping-pub1", session=spec))
    assert session.metadata.id == "flmping-pub1"
    assert session.status.state == types.SessionState.Open
    for expected, task_input in ((1, b'{"duration_ms": 5}'), (2, b""), (3, None)):
        task_spec = types.TaskSpec(session_id="flmping-pub1", input=task_input)
        task = call("CreateTask", frontend.CreateTaskRequest(task=task_spec))
        assert task.metadata.id == str(expected)
        changes = call("WatchTask", frontend.WatchTaskRequest(session_id="flmping-pub1", task_id=task.metadata.id))
        assert changes[-1].status.state == types.TaskState.Succeed
        done = call("GetTask", frontend.GetTaskRequest(session_id="flmping-pub1", task_id=task.metadata.id))
        assert done.status.state == types.TaskState.Succeed
        assert done.status.completion_time >= done.status.creation_time > 1_600_000_000_000
        assert msgspec.json.decode(done.spec.output, type=PingAnswer).host
    tasks = call("ListTask", frontend.ListTaskRequest(session_id="flmping-pub1"))
    assert [task.metadata.id for task in tasks] == ["1", "2", "3"]
    closed = call("CloseSession", frontend.CloseSessionRequest(session_id="flmping-pub1"))
    assert closed.status.state == types.SessionState.Closed
    assert closed.status.succeed == 3
    assert call("CloseSession", frontend.CloseSessionRequest(session_id="flmping-pub1")).metadata.id
    wait_until_true(lambda: not call("ListExecutor", frontend.ListExecutorRequest()).executors[0].status.session_id)
    call("DeleteSession", frontend.DeleteSessionRequest(session_id="flmping-pub1"))
    assert "flmping-pub1" not in [s.metadata.id for s in call("ListSession", frontend.ListSessionRequest()).sessions]


def test_a_published_failure(call: Call, connection: flame.Connection) -> None:
    register(connection, "Mortal")
    spec = types.SessionSpec(application="mortal")
    session = call("OpenSession", frontend.OpenSessionRequest(session_id="mortal-pub", session=spec))
    task_spec = types.TaskSpec(session_id=session.metadata.id, input=b"raise")
    task = call("CreateTask", frontend.CreateTaskRequest(task=task_spec))
    last = call("WatchTask", frontend.WatchTaskRequest(session_id="mortal-pub", task_id=task.metadata.id))[-1]
    assert last.status.state == types.TaskState.Failed
    assert any("no such thing" in event.message for event in last.status.events)
    call("CloseSession", frontend.CloseSessionRequest(session_id="mortal-pub"))


@pytest.mark.parametrize(
    ("name", "request_", "code"),
    [
        ("GetSession", frontend.GetSessionRequest(session_id="nobody"), "NOT_FOUND"),
        ("GetApplication", frontend.GetApplicationRequest(name="nobody"), "NOT_FOUND"),
        ("GetNode", frontend.GetNodeRequest(name="nobody"), "NOT_FOUND"),
        ("OpenSession", frontend.OpenSessionRequest(session_id="nobody"), "NOT_FOUND"),
        ("GetTask", frontend.GetTaskRequest(session_id="nobody", task_id="one"), "INVALID_ARGUMENT"),
        ("CreateSession", frontend.CreateSessionRequest(session_id="a b"), "INVALID_ARGUMENT"),
        ("RegisterApplication", frontend.RegisterApplicationRequest(name="x"), "INVALID_ARGUMENT"),
    ],
)
def test_published_errors(call: Call, name: str, request_: Any, code: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        call(name, request_)
    assert error.value.code().name == code
    assert error.value.details()


def test_published_results_of_requests(call: Call) -> None:
    spec = types.ApplicationSpec(command="/bin/true")
    register_ = frontend.RegisterApplicationRequest
    assert call("RegisterApplication", register_(name="plain", application=spec)).return_code == 0
    assert call("RegisterApplication", register_(name="not valid", application=spec)).return_code == -1
    assert "plain" in [a.metadata.id for a in call("ListApplication", frontend.ListApplicationRequest()).applications]
    unregister = frontend.UnregisterApplicationRequest(name="plain")
    assert call("UnregisterApplication", unregister).return_code == 0
    again = call("UnregisterApplication", unregister)
    assert again.return_code == -1
    assert "plain" in again.message


def test_an_input_of_4_mib_over_the_published_way(call: Call, connection: flame.Connection) -> None:
    register(connection, "Echo")
    call("OpenSession", frontend.OpenSessionRequest(session_id="large", session=types.SessionSpec(application="echo")))
    data = bytes(range(256)) * (4 << 12)
    task_spec = types.TaskSpec(session_id="large", input=data)
    task = call("CreateTask", frontend.CreateTaskRequest(task=task_spec))
    last = call("WatchTask", frontend.WatchTaskRequest(session_id="large", task_id=task.metadata.id))[-1]
    assert last.spec.output == data
    with pytest.raises(grpc.RpcError) as error:
        call("CreateTask", frontend.CreateTaskRequest(task=types.TaskSpec(session_id="large", input=data + b"x")))
    assert "4194304" in str(error.value.details())
    call("CloseSession", frontend.CloseSessionRequest(session_id="large"))
