"""Services that cannot serve: the tasks fail with the reason, and the cluster goes on."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import flame
from tests.e2e.cluster import HERE, Cluster, register
from tests.e2e.conftest import MakeCluster


@pytest.fixture
def connection(cluster: Cluster) -> Iterator[flame.Connection]:
    with cluster.connect() as made:
        yield made


def failure(connection: flame.Connection, application: str) -> flame.TaskFailed:
    """Why a task of an application fails."""
    with connection.create_session(application) as session:
        found = session.run(b"x").exception(60)
        assert isinstance(found, flame.TaskFailed)
        return found


def written(connection: flame.Connection, directory: Path, text: str, name: str) -> str:
    """Register the class `Service` of a module with this text."""
    (directory / f"{name}.py").write_text(text)
    connection.register_application(name, service=f"{name}:Service", working_directory=directory)
    return name


@pytest.mark.parametrize(
    ("service", "parts"),
    [
        ("no_such_module:Echo", ["no_such_module", "no module", "working_directory"]),
        ("services:Ecko", ["services", "no attribute 'Ecko'"]),
        ("services:NotAService", ["services:NotAService", "FlameService"]),
        ("services:note", ["services:note", "FlameService"]),
        ("services:Incomplete", ["services:Incomplete", "on_task_invoke"]),
        ("services:ExitsAtStart", ["5 times", "exit code 9"]),
        ("services:RaisesInEnter", ["the model is missing"]),
        ("/no/such/script.py:Echo", ["/no/such/script.py", "does not exist"]),
    ],
)
def test_a_service_that_cannot_be_used(connection: flame.Connection, service: str, parts: list[str]) -> None:
    connection.register_application("bad", service=service, working_directory=HERE)
    found = failure(connection, "bad")
    for part in parts:
        assert part in str(found)


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("mod_syntax", "def broken(:\n", ["SyntaxError", "mod_syntax.py", "line 1"]),
        ("mod_import", "import no_such_thing\n", ["ModuleNotFoundError", "no_such_thing"]),
        ("mod_raise", "raise OSError('no licence found')\n", ["OSError", "no licence found"]),
        ("mod_exit", "import sys\nsys.exit(4)\n", ["sys.exit", "__main__"]),
        ("mod_connect", "import flame\nflame.connect()\n", ["flame.connect()", "__main__"]),
    ],
)
def test_a_module_that_cannot_be_imported(
    connection: flame.Connection, tmp_path: Path, name: str, text: str, parts: list[str]
) -> None:
    found = failure(connection, written(connection, tmp_path, text, name))
    for part in parts:
        assert part in str(found)


def test_a_working_directory_that_is_not_there(connection: flame.Connection) -> None:
    connection.register_application("lost", service="services:Echo", working_directory="/no/such/directory")
    assert "/no/such/directory" in str(failure(connection, "lost"))


_GOOD = """
import flame

class Service(flame.FlameService):
    def on_task_invoke(self, context):
        return b"ok"
"""


def test_a_repaired_service_works(connection: flame.Connection, tmp_path: Path) -> None:
    name = written(connection, tmp_path, "import no_such_thing\n", "mod_repaired")
    failure(connection, name)
    written(connection, tmp_path, _GOOD, name)
    with connection.create_session(name) as session:
        assert session.invoke(b"", timeout=60) == b"ok"


def test_a_failing_session_does_not_hinder_others(connection: flame.Connection) -> None:
    register(connection, "ExitsAtStart")
    register(connection, "Echo")
    with connection.create_session("exitsatstart") as bad, connection.create_session("echo") as good:
        failing = [bad.run(b"x") for _ in range(100)]
        for number in range(100):
            assert good.invoke(b"%d" % number, timeout=60) == b"%d" % number
        assert all(isinstance(future.exception(60), flame.TaskFailed) for future in failing)


def test_a_service_that_hangs_in_session_enter(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1, limits={"enter_timeout_ms": 300})
    with cluster.connect() as connection:
        register(connection, "HangsInEnter")
        register(connection, "Echo")
        started_s = time.monotonic()
        found = failure(connection, "hangsinenter")
        assert "session enter" in found.message
        assert "300 ms" in found.message or "0.3 s" in found.message
        assert time.monotonic() - started_s < 40
        with connection.create_session("echo") as session:
            assert session.invoke(b"well", timeout=60) == b"well"
