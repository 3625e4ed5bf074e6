"""A world is decided by its seed, meets faults, and notices what must not happen."""

import pytest

from flame.core.control import dispatch, executors
from flame.sim.world import Stuck, World


def test_a_seed_decides_everything() -> None:
    traces = []
    for _ in range(2):
        world = World(11)
        world.run()
        traces.append(world.digest())
    other = World(12)
    other.run()
    assert traces[0] == traces[1] != other.digest()


def test_over_a_few_seeds_everything_happens() -> None:
    counts = World(0).counts
    for seed in range(100, 125):
        world = World(seed)
        world.run()
        counts += world.counts + world.session_manager.counts
    for what in (
        *("runs", "runs again", "starts", "deaths", "restarts", "stops", "LoadInputs", "ReadSegments", "RetractTasks"),
        *("LeaveSession", "EndExecutor", "TasksCancelled", "SessionChanged", "PurgeRows", "AttachmentEnded"),
        *("killed before commit", "killed after commit", "killed between effects"),
    ):
        assert counts[what], f"{what} never happened"


def _seeds_that_fail(count: int) -> int:
    failed = 0
    for seed in range(200, 200 + count):
        try:
            World(seed).run(faults=20)
        except Exception:
            failed += 1
    return failed


def test_tasks_that_are_given_out_twice_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_claim", lambda binding, part: None)
    assert _seeds_that_fail(12)


def test_tasks_that_are_forgotten_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "put_back", lambda state, turn, session, spans: None)
    assert _seeds_that_fail(12)


def test_a_hang_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_top_up", lambda *arguments: None)
    monkeypatch.setattr("flame.core.control.invariants.check_settled", lambda state, now_ms: None)
    with pytest.raises(Stuck, match="outstanding"):
        World(1).run(faults=0)
