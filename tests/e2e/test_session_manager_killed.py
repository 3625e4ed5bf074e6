"""`kill -9` of the session manager: nothing acknowledged is lost, nothing runs twice, clients just go on."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import flame
from flame.model.states import SessionState, TaskState
from tests.e2e.cluster import PATIENCE_S, Cluster, notes, register
from tests.e2e.conftest import MakeCluster
from tests.support import wait_until_true

KILLS = 6


def kill_often(cluster: Cluster, progress: Callable[[], int], total: int, seed: int) -> None:
    """Kill and restart the session manager `KILLS` times, spread over the progress of a load."""
    chance = random.Random(seed)
    for number in range(KILLS):
        wanted = total * (number + chance.random()) / (KILLS + 1)
        wait_until_true(lambda wanted=wanted: progress() >= wanted, PATIENCE_S, "the load goes on")  # type: ignore[misc]
        cluster.kill("session-manager")
        cluster.start_session_manager()


def in_thread(function: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def check_notes(directory: Path, count: int) -> None:
    """Each task began once and ended once."""
    for word in ("begin", "end"):
        seen = Counter(notes(directory, word))
        assert {task for task, times in seen.items() if times > 1} == set()
        assert len(seen) == count


@pytest.mark.parametrize("ordered", [True, False])
def test_map_goes_on_over_kills(make_cluster: MakeCluster, ordered: bool) -> None:
    cluster = make_cluster(2)
    count = 3_000
    outputs: list[bytes | None] = []
    with cluster.session("Noted", common_data=str(cluster.directory).encode()) as session:
        inputs = (b"1" for _ in range(count))
        thread = in_thread(lambda: outputs.extend(session.map(inputs, ordered=ordered, window=500, timeout=60)))
        kill_often(cluster, lambda: len(outputs), count, seed=1)
        thread.join(60)
        assert not thread.is_alive()
    expected = [b"%d" % task for task in range(1, count + 1)]
    assert (outputs if ordered else sorted(outputs, key=lambda output: int(output or 0))) == expected
    check_notes(cluster.directory, count)


def test_futures_stay_valid_over_kills(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(2)
    count = 3_000
    futures: list[flame.Future] = []
    calls: Counter[int] = Counter()
    with cluster.session("Noted", common_data=str(cluster.directory).encode()) as session:

        def submit() -> None:
            for _ in range(count):
                future = session.run(b"1")
                future.add_done_callback(lambda done: calls.update([done.task_id]))
                futures.append(future)

        thread = in_thread(submit)
        kill_often(cluster, calls.total, count, seed=2)
        thread.join(60)
        assert [future.result(60) for future in futures] == [b"%d" % future.task_id for future in futures]
        assert all(future.acknowledged(60) for future in futures[::100])
    assert [future.task_id for future in futures] == list(range(1, count + 1))
    assert calls == Counter(range(1, count + 1))
    check_notes(cluster.directory, count)


def test_running_tasks_go_on_through_a_restart(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(2)
    directory = cluster.directory
    with cluster.session("Gated", common_data=str(directory).encode()) as session:
        futures = [session.run(name) for name in (b"a", b"b", b"c")]
        wait_until_true(lambda: notes(directory, "begin") == ["a", "b"] or notes(directory, "begin") == ["b", "a"])
        cluster.kill("session-manager")
        (directory / "a.go").touch()  # ends while there is no session manager
        wait_until_true(lambda: notes(directory, "end") == ["a"])
        cluster.start_session_manager()
        futures[0].result(60)
        (directory / "c.go").touch()
        futures[2].result(60)
        assert not futures[1].done()
        (directory / "b.go").touch()
        futures[1].result(60)
    assert sorted(notes(directory, "begin")) == ["a", "b", "c"]


_SUBMITTER = """
import sys, flame
with flame.connect() as connection:
    session = connection.create_session("noted", common_data=sys.argv[1].encode(), session_id="submitted")
    batch = []
    while True:
        batch = [session.run(b"0") for _ in range(50)]
        session.flush()
        print(batch[-1].task_id)
"""

_READER = """
import sys, json, flame
with flame.connect() as connection:
    print(json.dumps([[r.task_id, int(r.state), (r.output or b"").decode()] for r in connection.results(sys.argv[1])]))
"""


def read_results(cluster: Cluster, session_id: str) -> list[list[object]]:
    """All results of a session, read by another process."""
    output, errors = cluster.script(_READER, session_id).communicate(timeout=60)
    assert errors == ""
    found: list[list[object]] = json.loads(output)
    return found


def test_what_was_acknowledged_survives_client_and_session_manager(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(2)
    with cluster.connect() as connection:
        register(connection, "Noted")
        submitter = cluster.script(_SUBMITTER, str(cluster.directory))
        assert submitter.stdout is not None
        acknowledged = 0
        while acknowledged < 2_000:
            acknowledged = int(submitter.stdout.readline())
        cluster.kill("session-manager")
        submitter.kill()
        acknowledged = max([acknowledged, *(int(line) for line in submitter.communicate()[0].splitlines(True)[:-1])])
        cluster.start_session_manager()
        wait_until_true(lambda: connection.get_session("submitted").unfinished == 0, PATIENCE_S)
        assert connection.get_session("submitted").state is SessionState.OPEN
        connection.close_session("submitted")
    results = read_results(cluster, "submitted")
    tasks = [task for task, _, _ in results]
    assert sorted(tasks, key=str) == sorted(range(1, len(tasks) + 1), key=str)
    assert len(tasks) >= acknowledged
    assert all((state, output) == (TaskState.SUCCEED, str(task)) for task, state, output in results)
    check_notes(cluster.directory, len(tasks))


def test_results_of_a_closed_session_are_there_after_a_kill(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    with cluster.session("Mirror") as session:
        for output in session.map([b"one", b"two"]):
            assert output
    cluster.kill("session-manager")
    cluster.start_session_manager()
    results = read_results(cluster, session.id)
    assert [(task, output) for task, _, output in results] == [(1, "eno"), (2, "owt")]
    with cluster.connect() as connection:
        assert connection.get_session(session.id).state is SessionState.CLOSED
        done = cluster.cli("flmctl", "list")
        assert session.id in done.stdout
        assert "Closed" in done.stdout


def test_a_blocked_call_waits_for_the_session_manager_to_come_back(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    with cluster.session("Echo") as session:
        assert session.invoke(b"before", timeout=60) == b"before"
        cluster.kill("session-manager")
        outputs: list[bytes | None] = []
        thread = in_thread(lambda: outputs.append(session.invoke(b"meanwhile", timeout=60)))
        started_s = time.monotonic()
        with pytest.raises(TimeoutError, match="GetSession"):
            session.connection.get_session(session.id, timeout=0.2)
        assert time.monotonic() - started_s < 5
        cluster.start_session_manager()
        thread.join(60)
        assert outputs == [b"meanwhile"]
