"""A world is decided by its seed, meets faults, and notices what must not happen."""

import pytest

from flame.core.control import dispatch, executors
from flame.protocol.shared_table import SharedTable
from flame.sim.workload import Size
from flame.sim.world import Broken, Stuck, World

SMALL = Size(nodes=3, sessions=4, tasks=300)


def test_a_seed_decides_everything() -> None:
    digests = []
    for seed in (11, 11, 12):
        world = World(seed, SMALL, tracing=True)
        world.run()
        digests.append(world.digest())
    assert digests[0] == digests[1] != digests[2]


def test_without_tracing_the_same_happens() -> None:
    worlds = [World(11, SMALL, tracing=tracing) for tracing in (False, True)]
    for world in worlds:
        world.run()
    assert worlds[0].session_manager.events == worlds[1].session_manager.events
    assert worlds[0].time.now_ns == worlds[1].time.now_ns
    assert not worlds[0].trace


def _failures(count: int, kinds: tuple[str, ...], first: int = 200) -> list[Exception]:
    failures: list[Exception] = []
    for seed in range(first, first + count):
        try:
            World(seed, SMALL, kinds=kinds, faults=20).run()
        except Exception as error:
            failures.append(error)
    return failures


def test_tasks_that_are_given_out_twice_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_claim", lambda binding, part: None)
    assert any(isinstance(error, Broken) for error in _failures(8, ("session-manager",)))


def test_tasks_that_are_forgotten_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "put_back", lambda state, turn, session, spans: None)
    assert _failures(6, ("executor", "node"))


def test_an_executor_that_ignores_the_seal_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedTable, "sealed", lambda self, epoch: False)
    assert any(isinstance(error, Broken) for error in _failures(60, ("session-manager", "delay"), 500))


def test_a_hang_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_top_up", lambda *arguments: None)
    monkeypatch.setattr("flame.core.control.invariants.check_settled", lambda state, now_ms: None)
    with pytest.raises(Stuck, match="missing"):
        World(1, SMALL, kinds=()).run()
