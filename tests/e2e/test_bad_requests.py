"""Bad input of clients: each error says what is wrong, where, and what to do."""

from collections.abc import Iterator

import pytest

import flame
from flame.model.limits import MAX_COMMON_DATA_BYTES, MAX_TASK_BYTES
from tests.e2e.cluster import Cluster, register
from tests.e2e.conftest import MakeCluster


@pytest.fixture(params=["frames", "grpc"])
def connection(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[flame.Connection]:
    """A connection by each carrier."""
    made = cluster.connect() if request.param == "frames" else flame.connect(cluster.http, carrier="grpc", timeout=60)
    with made:
        register(made, "Echo")
        register(made, "Filler")
        yield made


def complaint(error: pytest.ExceptionInfo[flame.FlameError], *parts: str) -> None:
    """Check that a message has what is needed, and is short."""
    text = str(error.value)
    for part in parts:
        assert part in text
    assert len(text) < 400


def test_an_unknown_application(connection: flame.Connection) -> None:
    with pytest.raises(flame.NotFound) as error:
        connection.create_session("ecko")
    complaint(error, "'ecko'", "not registered", "flmctl list -a")


@pytest.mark.parametrize("name", ["", "a b", "../etc", "-x", ".x", "a/b", "x" * 254, "é"])
def test_an_invalid_application_name(connection: flame.Connection, name: str) -> None:
    with pytest.raises(flame.InvalidArgument) as error:
        connection.register_application(name, service="services:Echo")
    complaint(error, "application name", "use 1-253 characters")
    with pytest.raises(flame.InvalidArgument):
        connection.create_session(name)


@pytest.mark.parametrize("name", ["a b", "..", "-x", ".x", "a/b", "x" * 129])
def test_an_invalid_session_id(connection: flame.Connection, name: str) -> None:
    with pytest.raises(flame.InvalidArgument) as error:
        connection.create_session("echo", session_id=name)
    complaint(error, "session name", "use 1-128 characters")


def test_a_name_that_is_taken(connection: flame.Connection) -> None:
    with connection.create_session("echo") as session:
        with pytest.raises(flame.AlreadyExists) as error:
            connection.create_session("echo", session_id=session.id)
        complaint(error, session.id, "exists already")


def test_a_closed_session(connection: flame.Connection) -> None:
    session = connection.create_session("echo")
    session.invoke(b"one", timeout=60)
    session.close()
    session.close()
    with pytest.raises(flame.FailedPrecondition) as error:
        session.run(b"more")
    complaint(error, session.id, "closed", "create another")
    with pytest.raises(flame.FailedPrecondition) as error:
        connection.open_session(session.id)
    complaint(error, session.id, "closed", "results")
    with pytest.raises(flame.NotFound) as missing:
        connection.open_session("nobody")
    complaint(missing, "nobody")


def test_a_session_that_another_client_closes(cluster: Cluster, connection: flame.Connection) -> None:
    session = connection.create_session("echo")
    assert session.invoke(b"one", timeout=60)
    assert cluster.cli("flmctl", "close", "-s", session.id).returncode == 0

    def submit() -> None:
        for _ in range(10_000):
            session.run(b"more").acknowledged(60)

    with pytest.raises(flame.FlameError) as error:
        submit()
    complaint(error, session.id, "closed")


def test_deleting_what_is_open(connection: flame.Connection) -> None:
    with connection.create_session("echo") as session:
        with pytest.raises(flame.FailedPrecondition) as error:
            connection.delete_session(session.id)
        complaint(error, session.id, "close it first")


def test_changing_an_application_with_open_sessions(connection: flame.Connection) -> None:
    register(connection, "Echo", "changing")
    register(connection, "Echo", "changing")
    with connection.create_session("changing"):
        register(connection, "Echo", "changing")
        with pytest.raises(flame.FailedPrecondition) as error:
            register(connection, "Mirror", "changing")
        complaint(error, "changing", "open session")
    register(connection, "Mirror", "changing")
    with connection.create_session("changing") as session:
        assert session.invoke(b"ab", timeout=60) == b"ba"


def test_inputs_at_the_limit_and_over_it(connection: flame.Connection) -> None:
    with connection.create_session("echo") as session:
        largest = bytes(range(256)) * (MAX_TASK_BYTES // 256)
        future = session.run(largest)
        with pytest.raises(flame.TooLarge) as error:
            session.run(largest + b"x")
        complaint(error, str(MAX_TASK_BYTES + 1), str(MAX_TASK_BYTES))
        assert future.result(60) == largest
        with pytest.raises(TypeError, match="bytes"):
            session.run("text")  # type: ignore[arg-type]
        assert session.invoke(b"and on", timeout=60) == b"and on"


def test_outputs_at_the_limit_and_over_it(connection: flame.Connection) -> None:
    with connection.create_session("filler") as session:
        largest, larger = (session.run(b"%d" % nbytes) for nbytes in (MAX_TASK_BYTES, MAX_TASK_BYTES + 1))
        assert largest.result(60) == b"." * MAX_TASK_BYTES
        failure = larger.exception(60)
        assert isinstance(failure, flame.TaskFailed)
        assert str(MAX_TASK_BYTES + 1) in failure.message
        assert "max_task_bytes" in failure.message


def test_common_data_at_the_limit_and_over_it(connection: flame.Connection) -> None:
    with connection.create_session("echo", common_data=b"x" * MAX_COMMON_DATA_BYTES) as session:
        assert session.invoke(b"1", timeout=60) == b"1"
    with pytest.raises(flame.TooLarge) as error:
        connection.create_session("echo", common_data=b"x" * (MAX_COMMON_DATA_BYTES + 1))
    complaint(error, str(MAX_COMMON_DATA_BYTES))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"min_instances": 3, "max_instances": 2}, "max_instances"),
        ({"max_instances": 0}, "max_instances"),
        ({"min_instances": -1}, "min_instances"),
        ({"priority": -1}, "priority"),
        ({"resources": "cpu=many"}, "many"),
        ({"resources": "cpus=1"}, "cpus"),
    ],
)
def test_values_that_cannot_be(connection: flame.Connection, arguments: dict[str, object], part: str) -> None:
    with pytest.raises(flame.InvalidArgument) as error:
        connection.create_session("echo", **arguments)  # type: ignore[arg-type]
    complaint(error, part)


def test_a_limit_of_the_operator(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1, limits={"max_task_bytes": 1000}, grpc=True)
    for made in (cluster.connect(), flame.connect(cluster.http, carrier="grpc")):
        with made as connection:
            register(connection, "Echo")
            with connection.create_session("echo") as session:
                assert len(session.invoke(b"x" * 1000, timeout=60) or b"") == 1000
                with pytest.raises(flame.TooLarge, match="1001 bytes"):
                    session.run(b"x" * 1001)


def test_an_endpoint_where_nobody_is(cluster: Cluster) -> None:
    for endpoint in (f"unix://{cluster.data_dir}/nobody", "frames://127.0.0.1:1", "http://127.0.0.1:1"):
        with pytest.raises(flame.Unavailable) as error:
            flame.connect(endpoint, timeout=0.5)
        complaint(error, endpoint.removeprefix("http://"))
    for endpoint in ("localhost", "ftp://x:1", "frames://x"):
        with pytest.raises(flame.FlameError) as wrong:
            flame.connect(endpoint, timeout=0.5)
        complaint(wrong, endpoint)
