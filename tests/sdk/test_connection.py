"""connect, applications, sessions by name, forked children, Ctrl-C, the end of the interpreter."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import flame
from flame.service import importing
from tests.sdk.scripted import ScriptedCluster
from tests.support import ROOT


class Upper(flame.FlameService):
    """A service."""


def test_nobody_there(short_tmp: Path) -> None:
    started = time.monotonic()
    with pytest.raises(flame.Unavailable, match="cannot connect"):
        flame.connect(f"unix://{short_tmp}/nobody", timeout=0.1)
    assert time.monotonic() - started < 10


def test_connect_waits_for_a_cluster_that_is_starting(short_tmp: Path) -> None:
    import threading

    scripted = ScriptedCluster(short_tmp)
    scripted.stop()
    later = threading.Timer(0.1, scripted.start)
    later.start()
    with flame.connect(scripted.endpoint, timeout=30) as connection:
        assert connection.list_sessions() == []
    later.join()
    scripted.end()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"endpoint": "ftp://x"}, "not one that Flame knows"),
        ({"endpoint": "unix:///x", "mode": "memory"}, "chose its own"),
        ({"endpoint": "unix:///x", "mode": "fast"}, "mode 'fast' is not known"),
        ({"endpoint": "unix:///x", "carrier": "grpc"}, "no gRPC endpoint"),
        ({"endpoint": "unix:///x", "carrier": "pigeon"}, "carrier 'pigeon' is not known"),
    ],
)
def test_bad_arguments(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(flame.InvalidArgument, match=message):
        flame.connect(**arguments)  # type: ignore[arg-type]


def test_connecting_during_the_import_of_a_service_names_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "active", True)
    with pytest.raises(flame.FailedPrecondition, match='if __name__ == "__main__"'):
        flame.connect()


def test_registering(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    for _ in range(2):
        connection.register_application("mine", service=Upper, environments={"A": "1"}, labels=["x"])
    assert "UpdateApplication" not in cluster.manager.calls
    application = connection.get_application("mine")
    assert application.spec.service == f"{__name__}:Upper"
    assert application.spec.environments == (("A", "1"),)
    connection.register_application("mine", service=Upper, environments={"A": "2"})
    assert connection.get_application("mine").spec.environments == (("A", "2"),)
    assert [known.name for known in connection.list_applications()] == ["mine"]
    with connection.create_session("mine") as session:
        connection.register_application("mine", service=Upper, environments={"A": "2"})
        with pytest.raises(flame.FailedPrecondition, match=f"session {session.id} is open"):
            connection.register_application("mine", service=Upper)
    connection.unregister_application("mine")
    with pytest.raises(flame.NotFound):
        connection.get_application("mine")
    with pytest.raises(flame.NotFound, match="does not exist"):
        connection.unregister_application("mine")
    with pytest.raises(flame.InvalidArgument, match="application name"):
        connection.register_application("../x", service=Upper)


def test_creating_a_session_checks_what_it_is_given(connection: flame.Connection) -> None:
    with pytest.raises(flame.NotFound, match="no application 'unknown'"):
        connection.create_session("unknown")
    with pytest.raises(flame.InvalidArgument, match="session name"):
        connection.create_session("upper", session_id="a/b")
    with pytest.raises(TypeError, match="common_data must be bytes, not str"):
        connection.create_session("upper", common_data="text")  # type: ignore[arg-type]
    with pytest.raises(flame.TooLarge, match="common_data has"):
        connection.create_session("upper", common_data=bytes(17 << 20))
    with pytest.raises(flame.InvalidArgument, match="max_instances"):
        connection.create_session("upper", min_instances=3, max_instances=2)
    with pytest.raises(flame.InvalidArgument, match="resources"):
        connection.create_session("upper", resources="cpu=many")
    connection.create_session("upper", session_id="taken")
    with pytest.raises(flame.AlreadyExists):
        connection.create_session("upper", session_id="taken")
    with pytest.raises(flame.NotFound):
        connection.open_session("nobody")


def test_what_a_session_was_created_with_arrives(connection: flame.Connection) -> None:
    connection.create_session(
        "upper",
        common_data=b"data",
        min_instances=1,
        max_instances=4,
        priority=7,
        resources="cpu=2,mem=1g",
        batch_size=2,
        session_id="mine",
    )
    spec = connection.get_session("mine").spec
    assert (spec.common_data, spec.min_instances, spec.max_instances, spec.priority) == (b"data", 1, 4, 7)
    assert spec.resources == flame.Resources(cpu=2, memory_bytes=1 << 30)
    assert spec.batch_size == 2
    assert [session.id for session in connection.list_sessions()] == ["mine"]
    connection.close_session("mine")
    connection.delete_session("mine")
    assert connection.list_sessions() == []
    assert connection.list_executors() == []
    assert connection.list_nodes() == []


def test_a_closed_connection_says_so(cluster: ScriptedCluster) -> None:
    connection = flame.connect(cluster.endpoint)
    session = connection.create_session("upper")
    connection.close()
    connection.close()
    assert "closed" in repr(connection)
    for use in (connection.list_sessions, lambda: session.run(b"x"), lambda: connection.create_session("upper")):
        with pytest.raises(flame.FailedPrecondition, match="the connection was closed"):
            use()


def test_calls_time_out_and_say_why(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.stop()
    with pytest.raises(TimeoutError, match=r"ListSession: not within 0\.05 s; there is no link"):
        connection.list_sessions(timeout=0.05)
    cluster.start()
    assert connection.list_sessions(timeout=30) == []


def test_a_closed_session_is_detached_when_its_last_result_is_here(
    cluster: ScriptedCluster, connection: flame.Connection
) -> None:
    for _ in range(5):
        with connection.create_session("upper") as session:
            session.invoke(b"x")
    assert not connection.stream.attachments


def _run(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


FORK = """
import os, sys, flame
connection = flame.connect(sys.argv[1])
session = connection.create_session("upper")
future = session.run(b"x")
future.result(30)
late = None
child = os.fork()
if child == 0:
    for use in (lambda: session.run(b"x"), connection.list_sessions, lambda: session.invoke(b"x"),
                lambda: list(session.map([b"x"])), lambda: session.flush()):
        try:
            use()
        except flame.FlameError as error:
            assert "belongs to the parent" in str(error), error
        else:
            os._exit(3)
    connection.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
print(session.invoke(b"still here", timeout=30).decode())
session.close()
"""


def test_a_forked_child_cannot_use_it_and_does_not_disturb_it(cluster: ScriptedCluster) -> None:
    process = _run(FORK, cluster.endpoint)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "STILL HERE\n"), err


INTERRUPTED = """
import sys, threading, time, flame
def watch(start, main):
    # Say so once the main thread stays where it is, below `start`.
    places = []
    while len(places) < 20 or len(set(places[-20:])) > 1 or places[-1][0] is start.f_code:
        frame = sys._current_frames()[main]
        places.append((frame.f_code, frame.f_lasti))
        del frame
        time.sleep(0.002)
    print("waiting", flush=True)
connection = flame.connect(sys.argv[1])
try:
    with connection.create_session("upper") as session:
        future = session.run(b"x")
        waits = {
            "result": future.result,
            "wait": lambda: flame.wait([future]),
            "as_completed": lambda: list(flame.as_completed([future])),
            "map": lambda: list(session.map([b"x"])),
            "invoke": lambda: session.invoke(b"x"),
            "results": lambda: list(connection.results(session.id, follow=True)),
            "leave": lambda: None,
            "run": lambda: [session.run(bytes(4_000_000)) for _ in range(10)],
        }
        threading.Thread(target=watch, args=(sys._getframe(), threading.get_ident()), daemon=True).start()
        waits[sys.argv[2]]()
except KeyboardInterrupt:
    print("interrupted", connection.get_session(session.id).state.name)
"""


@pytest.mark.parametrize("wait", ["result", "wait", "as_completed", "map", "invoke", "results", "leave", "run"])
def test_control_c_ends_every_wait(cluster: ScriptedCluster, wait: str) -> None:
    cluster.manager.hold_tasks = cluster.manager.hold_acknowledgements = True
    process = _run(INTERRUPTED, cluster.endpoint, wait)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    # An exception closes the session; Ctrl-C in the wait of a normal leave does not.
    assert out == f"interrupted {'OPEN' if wait == 'leave' else 'CLOSED'}\n", err


OPEN_END = """
import sys, flame
connection = flame.connect(sys.argv[1])
session = connection.create_session("upper")
futures = [session.run(b"x") for _ in range(1000)]
outputs = session.map(b"x" for _ in range(100))
next(outputs)
"""


@pytest.mark.parametrize("lost", [False, True])
def test_the_interpreter_ends_with_an_open_connection(cluster: ScriptedCluster, lost: bool) -> None:
    script = OPEN_END + ("print('ready', flush=True)\nsys.stdin.readline()\n" if lost else "")
    process = subprocess.Popen(
        [sys.executable, "-c", script, cluster.endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    if lost:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        cluster.stop()
    _, err = process.communicate(b"\n", timeout=60)
    outage = f"the link to {cluster.endpoint} is lost" if lost else "none"
    said = [line for line in err.decode().splitlines() if not line.startswith(outage)]
    assert (process.returncode, said) == (0, [])
