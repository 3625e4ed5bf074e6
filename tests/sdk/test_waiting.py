"""wait and as_completed over futures of one session and several."""

import pytest

import flame
from tests.sdk.scripted import ScriptedCluster


def _picky(task_input: bytes) -> bytes:
    if task_input == b"bad":
        raise ValueError("no good")
    return task_input


def test_wait_for_all(connection: flame.Connection) -> None:
    with connection.create_session("upper") as one, connection.create_session("upper") as two:
        futures = [session.run(b"x") for session in (one, two) for _ in range(2000)]
        done, pending = flame.wait(futures, timeout=30)
        assert done == set(futures)
        assert not pending
    assert flame.wait([]) == (set(), set())


def test_wait_gives_up_without_an_error(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    session = connection.create_session("upper")
    first = session.run(b"x")
    first.result(30)
    cluster.manager.hold_results = True
    second = session.run(b"y")
    assert flame.wait([first, second], timeout=0.01) == ({first}, {second})
    assert flame.wait([second], timeout=0.01, return_when=flame.FIRST_COMPLETED) == (set(), {second})
    with pytest.raises(TimeoutError, match=r"1 of 2 tasks are not done after 0\.01 s"):
        list(flame.as_completed([first, second], timeout=0.01))


def test_wait_for_the_first(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.service = _picky
    cluster.manager.hold_tasks = True
    session = connection.create_session("upper")
    good, bad, last = session.run(b"good"), session.run(b"bad"), session.run(b"last")
    session.flush(30)
    stored = cluster.manager.sessions[session.id]
    cluster.do(lambda: cluster.manager.run_pending(stored, 1))
    assert good in flame.wait([bad, good, last], 30, flame.FIRST_COMPLETED).done
    cluster.do(lambda: cluster.manager.run_pending(stored, 1))
    assert flame.wait([good, bad, last], 30, flame.FIRST_EXCEPTION) == ({good, bad}, {last})
    with pytest.raises(ValueError, match="return_when"):
        flame.wait([good], return_when="SOMETIME")  # type: ignore[arg-type]


def test_as_completed_yields_each_once(cluster: ScriptedCluster, connection: flame.Connection) -> None:
    cluster.manager.hold_tasks = True
    session = connection.create_session("upper")
    futures = [session.run(b"%d" % index) for index in range(100)]
    session.flush(30)
    stored = cluster.manager.sessions[session.id]
    arriving = flame.as_completed([*futures, *futures], timeout=30)
    cluster.do(lambda: cluster.manager.run_pending(stored, 10))
    seen = [next(arriving) for _ in range(10)]
    assert set(seen) == set(futures[:10])
    cluster.do(lambda: cluster.manager.run_pending(stored))
    seen += list(arriving)
    assert len(seen) == 100
    assert set(seen) == set(futures)
